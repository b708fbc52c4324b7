"""Dropout: the random numbers are Philox4x32-10's, the same on every machine, and drawn again by the backward
pass."""

import fake_cupy
import numpy as np
import pytest

import kernels
import minigrad as mg
from kernels import Elementwise
from kernels.dropout import DROPOUT, PHILOX
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.random import philox4x32

MACHINES = ("compiled", "numpy")

RANDOM_WORDS = Elementwise(  # what dropout's text draws, shown
    "random_words",
    "raw uint64 draw",
    "uint32 w0, uint32 w1, uint32 w2, uint32 w3",
    PHILOX + "w0 = c0; w1 = c1; w2 = c2; w3 = c3;",
)

# Random123's known answers for Philox4x32-10: counter, key, result [Salmon et al. 2011, kat_vectors]
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def words(seed, offset, n):
    """The four words of the first n groups of a draw, by the kernel."""
    out = [np.zeros(n, np.uint32) for _ in range(4)]
    RANDOM_WORDS(np.array([seed, offset], np.uint64), *out)
    return out


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_the_plain_statement_of_philox_gives_the_known_answers(counter, key, result):
    assert tuple(int(w) for w in philox4x32(counter, key)) == result


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("seed", [0, 1, 0xFEDCBA9876543210, (1 << 64) - 1])
@pytest.mark.parametrize("offset", [0, 7, (1 << 63) + 5])
def test_the_kernel_computes_philox(machine, seed, offset):
    with kernels.use(machine):
        found = words(seed, offset, 1000)
    low = 0xFFFFFFFF
    counter = (np.arange(1000), 0, offset & low, offset >> 32)
    for mine, plain in zip(found, philox4x32(counter, (seed & low, seed >> 32)), strict=True):
        np.testing.assert_array_equal(mine, plain)


def test_the_first_group_of_the_first_draw_is_a_known_answer():
    assert tuple(int(w[0]) for w in words(0, 0, 1)) == KNOWN[0][2]


def dropped(shape, p, seed=3, dtype=mg.float32, where="cpu"):
    mg.manual_seed(seed)
    return F.dropout(mg.ones(*shape, dtype=dtype, device=where), p).cpu().numpy()


@pytest.mark.parametrize("shape", [(4096,), (31, 17), (1,), (2, 3, 5), (0, 4)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_machines_devices_and_types_drop_the_same_elements(shape, dtype):
    with kernels.use("compiled"):
        mask = dropped(shape, 0.3) != 0
    with kernels.use("numpy"):
        np.testing.assert_array_equal(dropped(shape, 0.3) != 0, mask)
    np.testing.assert_array_equal(dropped(shape, 0.3, dtype=getattr(mg, dtype)) != 0, mask)
    with fake_cupy.installed():
        np.testing.assert_array_equal(dropped(shape, 0.3, where="cuda") != 0, mask)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_rate_the_scale_and_independence(p):
    n = 1 << 18
    y = dropped((n,), p)
    kept = y != 0
    np.testing.assert_array_equal(np.unique(y), np.float32([0, 1 / (1 - p)]))
    spread = np.sqrt(p * (1 - p) / n)
    assert abs(kept.mean() - (1 - p)) < 5 * spread
    z = kept - kept.mean()
    for lag in (1, 2, 3, 4, n // 4, n // 2):  # neighbours, and the elements that share a group
        assert abs((z[lag:] * z[:-lag]).mean()) < 5 * p * (1 - p) / np.sqrt(n - lag)


def test_every_call_draws_anew_and_a_seed_repeats_all():
    def draws():
        mg.manual_seed(11)
        return [F.dropout(mg.ones(64)).numpy() for _ in range(3)]

    first, second = draws(), draws()
    np.testing.assert_array_equal(first, second)
    assert (first[0] != first[1]).any() and (first[1] != first[2]).any()
    mg.manual_seed(12)
    assert (F.dropout(mg.ones(64)).numpy() != first[0]).any()


def test_the_state_of_the_generator_holds_the_draw():
    state = mg.get_rng_state()
    first = F.dropout(mg.ones(64)).numpy()
    mg.set_rng_state(state)
    np.testing.assert_array_equal(F.dropout(mg.ones(64)).numpy(), first)


@pytest.mark.parametrize("shape", [(64,), (3, 5, 7)])
def test_gradients_pass_where_values_did(shape):
    x = mg.randn(*shape, dtype=mg.float64, requires_grad=True)
    y = F.dropout(x, 0.4)
    other = F.dropout(mg.ones(*shape), 0.4)  # another draw in between does not change the mask
    g = mg.randn(*shape, dtype=mg.float64, requires_grad=True)
    (gx,) = mg.grad(y, x, g, create_graph=True)
    scale = (y / x).detach().numpy()
    np.testing.assert_allclose(gx.detach().numpy(), g.detach().numpy() * scale, rtol=1e-12)
    (gg,) = mg.grad(gx, g, mg.ones(*shape, dtype=mg.float64))  # and again
    np.testing.assert_allclose(gg.numpy(), scale, rtol=1e-12)
    assert other.shape == x.shape


def test_a_mask_goes_by_position_not_by_memory():
    """A transposed view, or a gradient with gaps, meets the same mask as its copy."""
    x = mg.randn(8, 6)
    mg.manual_seed(2)
    view = F.dropout(x.t()).numpy()
    mg.manual_seed(2)
    np.testing.assert_array_equal(F.dropout(x.t().contiguous()).numpy(), view)


def test_rates_zero_and_one_and_evaluation():
    x = mg.tensor([1.0, float("inf"), float("nan")], requires_grad=True)
    assert F.dropout(x, 0.0) is x and F.dropout(x, 0.7, training=False) is x
    y = F.dropout(x, 1.0)
    y.sum().backward()
    assert y.detach().numpy().tolist() == [0, 0, 0] and x.grad.numpy().tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("function", "shape", "window"),
    [
        (F.dropout1d, (6, 5, 4), (2,)),
        (F.dropout1d, (64, 4), (1,)),
        (F.dropout2d, (6, 5, 3, 2), (2, 3)),
        (F.dropout2d, (64, 3, 2), (1, 2)),
        (F.dropout3d, (6, 5, 2, 2, 2), (2, 3, 4)),
    ],
)
def test_whole_channels_are_dropped(function, shape, window):
    y = function(mg.ones(*shape), 0.5).numpy()
    assert (y.min(axis=window) == y.max(axis=window)).all() and set(np.unique(y)) == {0.0, 2.0}


def test_the_modules_drop_in_training_alone():
    x = mg.ones(4, 8, 3, 3)
    for layer in (nn.Dropout(0.5), nn.Dropout2d(0.5)):
        assert (layer(x).numpy() == 0).any()
        assert layer.eval()(x) is x
    assert repr(nn.Dropout()) == "Dropout(p=0.5, inplace=False)"
    assert (nn.Dropout3d(1.0)(mg.ones(2, 3, 2, 2, 2)).numpy() == 0).all()
    assert (nn.Dropout1d(1.0)(mg.ones(2, 3, 2)).numpy() == 0).all()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: F.dropout(mg.ones(2), 1.5), ValueError, r"dropout: p=1.5; a probability lies in \[0, 1\]"),
        (lambda: F.dropout(mg.ones(2), -0.1), ValueError, "p=-0.1"),
        (lambda: F.dropout(mg.ones(2), float("nan")), ValueError, "p=nan"),
        (lambda: nn.Dropout(2), ValueError, "Dropout: p=2"),
        (lambda: nn.Dropout(inplace=True), ValueError, "inplace=True is not supported; use inplace=False"),
        (lambda: F.dropout(mg.ones(2), inplace=True), ValueError, "inplace=True is not supported"),
        (lambda: F.dropout(mg.arange(3)), TypeError, "dropout: int64 input; it takes floating tensors"),
        (lambda: F.dropout2d(mg.ones(2, 2)), ValueError, r"dropout2d: input \[2, 2\]; it has 3 or 4 dims"),
    ],
)
def test_what_cannot_be_dropped_says_why(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_dropout_is_one_launch_each_way_and_reads_nothing():
    with fake_cupy.installed() as device:
        x = mg.ones(64, 32, device="cuda", requires_grad=True)
        F.dropout(x, 0.5).sum().backward()  # its two scalars are uploaded once
        with device.counting() as forward:
            y = F.dropout(x, 0.5)
        assert forward.launches == {"dropout": 1} and forward.host_reads == []
        assert len(forward.uploads) == 1  # seed and offset; the backward pass has them already
        with device.counting() as backward:
            mg.grad(y, x, mg.ones(64, 32, device="cuda"))
        assert backward.launches["dropout"] == 1 and backward.host_reads == []


def test_dropout_stores_no_mask():
    """The backward pass keeps the draw, 16 bytes, and nothing of the input's size."""
    y = F.dropout(mg.ones(1000, requires_grad=True))
    arrays = [a for a in y.node.saved if hasattr(a, "nbytes")]
    assert [a.nbytes for a in arrays] == [16]


def test_the_text_computes_each_word_once():
    """Four elements a group: 40 products of 32 bits for four elements, not for one."""
    assert DROPOUT.text().count("uint64(c0) * ") == 10
