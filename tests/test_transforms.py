"""Transforms of images: what they do to a batch, image by image, and that the seed fixes it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.data import Compose, DataLoader, Normalize, RandomCrop, RandomHorizontalFlip, TensorDataset

RNG = np.random.default_rng(2)
COLOUR = RNG.integers(0, 256, (40, 3, 9, 7)).astype(np.uint8)
GREY = RNG.integers(0, 256, (40, 9, 7)).astype(np.uint8)


def host(seed=0):
    return np.random.default_rng(seed)


def windows(image, height, width):
    """Every window of an image, by plain slicing."""
    rows, columns = image.shape[-2] - height + 1, image.shape[-1] - width + 1
    return [image[..., r : r + height, c : c + width] for r in range(rows) for c in range(columns)]


@pytest.mark.parametrize("images", [COLOUR, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize(("size", "padding"), [(5, 0), ((9, 7), 2), ((3, 6), (1, 4)), ((9, 7), 0), (7, 0)])
def test_every_crop_is_a_window_of_its_own_padded_image(images, size, padding):
    got = RandomCrop(size, padding)(images, host())
    height, width = (size, size) if isinstance(size, int) else size
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    assert got.shape == (*images.shape[:-2], height, width) and got.dtype == np.uint8
    assert got.flags.c_contiguous and not np.shares_memory(got, images)
    for image, cropped in zip(images, got):
        around = [(0, 0)] * (image.ndim - 2) + [(rows, rows), (columns, columns)]
        assert any(np.array_equal(cropped, w) for w in windows(np.pad(image, around), height, width))


def test_every_place_is_equally_likely_and_images_have_their_own():
    index = np.arange(16, dtype=np.float32).reshape(4, 4)
    got = RandomCrop(1)(np.broadcast_to(index, (32_000, 4, 4)), host()).ravel()
    share = np.bincount(got.astype(int), minlength=16) / 32_000
    assert np.abs(share * 16 - 1).max() < 0.1


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_padding_modes_are_numpy_s(mode):
    image = np.arange(12.0, dtype=np.float32).reshape(1, 3, 4)
    fill = {"constant_values": 9} if mode == "constant" else {}
    padded = np.pad(image, [(0, 0), (2, 2), (2, 2)], mode=mode, **fill)
    got = RandomCrop((7, 8), padding=2, fill=9, padding_mode=mode)(image, host())
    assert np.array_equal(got, padded)


@pytest.mark.parametrize("images", [COLOUR, GREY], ids=["colour", "grey"])
def test_a_flip_mirrors_some_images_left_to_right_and_leaves_the_others(images):
    before = images.copy()
    got = RandomHorizontalFlip()(images, host())
    mirrored = [np.array_equal(g, i[..., ::-1]) for g, i in zip(got, images)]
    kept = [np.array_equal(g, i) for g, i in zip(got, images)]
    assert [m != k for m, k in zip(mirrored, kept)] == [True] * len(images)
    assert 8 < sum(mirrored) < 32
    assert np.array_equal(images, before) and got.dtype == images.dtype
    assert np.array_equal(RandomHorizontalFlip(0)(images, host()), images)
    assert np.array_equal(RandomHorizontalFlip(1)(images, host()), images[..., ::-1])


def test_normalize_is_mean_and_deviation_of_each_channel():
    mean, std = (0.1, 0.5, 0.4), (0.2, 0.3, 0.6)
    got = Normalize(mean, std)(COLOUR)
    exact = (COLOUR / 255.0 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert got.dtype == np.float32 and np.abs(got - exact).max() < 1e-6
    scaled = Normalize(0.5, 2.0)(GREY.astype(np.float32))  # floats are taken as they are
    assert scaled.dtype == np.float32 and np.abs(scaled - (GREY - 0.5) / 2).max() < 1e-4


def test_normalizing_by_the_data_s_own_statistics_gives_mean_0_and_deviation_1():
    unit = COLOUR / 255
    got = Normalize(unit.mean((0, 2, 3)).tolist(), unit.std((0, 2, 3)).tolist())(COLOUR).astype(np.float64)
    assert np.abs(got.mean((0, 2, 3))).max() < 1e-6 and np.abs(got.std((0, 2, 3)) - 1).max() < 1e-6


AUGMENT = Compose([RandomCrop((9, 7), padding=2), RandomHorizontalFlip(), Normalize(0.5, 0.25)])


@given(st.integers(0, 2**31))
def test_the_seed_fixes_what_becomes_of_a_batch(seed):
    first, again = AUGMENT(COLOUR, host(seed)), AUGMENT(COLOUR, host(seed))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, AUGMENT(COLOUR, host(seed + 1)))


def test_without_a_generator_manual_seed_counts():
    mg.manual_seed(4)
    first = AUGMENT(COLOUR)
    mg.manual_seed(4)
    assert np.array_equal(first, AUGMENT(COLOUR))
    own = [AUGMENT(COLOUR, mg.Generator().manual_seed(4)) for _ in "ab"]
    assert np.array_equal(own[0], first) and np.array_equal(own[0], own[1])


def test_the_loader_transforms_the_images_and_leaves_the_labels():
    loader = DataLoader(TensorDataset(mg.tensor(COLOUR), mg.arange(40)), 8, transform=AUGMENT)
    batches = list(loader)
    assert all(x.dtype is mg.float32 and x.shape == (8, 3, 9, 7) for x, _ in batches)
    assert [k for _, y in batches for k in y.tolist()] == list(range(40))
    first = np.concatenate([x.numpy() for x, _ in batches])
    second = np.concatenate([x.numpy() for x, _ in loader])
    assert not np.array_equal(first, second)  # every epoch anew


def test_every_batch_of_an_epoch_has_its_own_numbers():
    same = TensorDataset(mg.tensor(np.repeat(COLOUR[:1], 40, 0)))
    first, *others = [x.numpy() for (x,) in DataLoader(same, 10, transform=AUGMENT)]
    assert not any(np.array_equal(first, other) for other in others)


def test_the_loader_takes_any_function_and_a_batch_of_images_alone():
    loader = DataLoader(list(COLOUR), 8, transform=lambda images, host: images.mean(1))
    assert [x.shape for x in loader] == [(8, 9, 7)] * 5
    labels_first = DataLoader(["a", "b"], 2, transform=AUGMENT)
    with pytest.raises(TypeError, match="first part is a Tensor on the CPU; got str; let collate_fn do it"):
        list(labels_first)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: RandomCrop(10)(COLOUR, host()),
            "10x10 does not fit into padded images of 9x7; give more padding",
        ),
        (lambda: RandomCrop(0), "size is 0; it is at least 1"),
        (lambda: RandomCrop(3, padding=-1), "padding is -1; it is at least 0"),
        (lambda: RandomCrop((3, 4, 5)), r"size is \(3, 4, 5\); it is a whole number or \(height, width\)"),
        (lambda: RandomCrop(2.5), "size is 2.5"),
        (lambda: RandomCrop(3, padding_mode="wrap"), "padding_mode must be one of constant, .*; got 'wrap'"),
        (lambda: RandomHorizontalFlip(1.5), "p is 1.5; it is a probability"),
        (lambda: RandomHorizontalFlip()(COLOUR[0, 0], host()), r"\(B, C, H, W\); got \(9, 7\)"),
        (lambda: Normalize(0, 0), "std is 0; it is positive"),
        (lambda: Normalize(0, (1, float("nan"), 1)), "std is .*nan.*; it is positive"),
        (lambda: Normalize((1, 2), 1)(COLOUR), r"2 values for images of shape \(40, 3, 9, 7\)"),
        (lambda: Normalize((1, 2, 3), 1)(GREY), r"3 values for images of shape \(40, 9, 7\)"),
        (lambda: Normalize([[1]], 1), "numbers or one a channel"),
    ],
)
def test_what_makes_no_sense_says_what_and_the_cure(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_they_say_what_they_are():
    assert repr(AUGMENT) == (
        "Compose([RandomCrop((9, 7), padding=(2, 2)), RandomHorizontalFlip(p=0.5), "
        "Normalize(mean=0.5, std=0.25)])"
    )
