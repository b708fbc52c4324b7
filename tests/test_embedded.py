"""The data inside the package: contents, splits, and an error for a file that is not the one shipped."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from minigrad.data import embedded

FOLDER = Path(embedded.__file__).parent


@pytest.fixture(autouse=True)
def fresh():
    """Each test reads the files itself."""
    embedded._arrays.cache_clear()
    embedded._text.cache_clear()
    yield
    embedded._arrays.cache_clear()
    embedded._text.cache_clear()


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the data that a test may damage."""
    for name in embedded.FILES:
        shutil.copy(FOLDER / name, tmp_path)
    monkeypatch.setattr(embedded, "_folder", lambda: tmp_path)
    return tmp_path


def test_digits_are_split_in_file_order():
    (train, train_labels), (test, test_labels) = embedded.digits(), embedded.digits("test")
    assert (train.shape, test.shape) == ((1297, 8, 8), (500, 8, 8))
    assert (train.dtype, train_labels.dtype) == (np.uint8, np.int64)
    with np.load(FOLDER / "digits8x8.npz", allow_pickle=False) as stored:
        assert np.array_equal(np.concatenate([train, test]), stored["images"])
        assert np.array_equal(np.concatenate([train_labels, test_labels]), stored["labels"])
    assert (train.max(), sorted(set(test_labels))) == (16, list(range(10)))


def test_fashion_is_balanced():
    for split, each in (("train", 200), ("test", 100)):
        images, labels = embedded.fashion(split)
        assert (images.shape, images.dtype) == ((10 * each, 28, 28), np.uint8)
        assert np.bincount(labels).tolist() == [each] * 10


def test_shakespeare_is_cut_once():
    train, validation = embedded.shakespeare("train"), embedded.shakespeare("validation")
    assert (len(train), len(validation)) == (1_069_911, 118_879)
    assert len(set(train + validation)) == 64 and train.isascii() and validation.isascii()
    assert train.startswith("First Citizen:\nBefore we proceed") and "Prospero" in validation.title()


def test_callers_do_not_share_arrays():
    images, labels = embedded.digits()
    images[:], labels[:] = 0, 0
    again, labels_again = embedded.digits()
    assert again.any() and labels_again.any()


@pytest.mark.parametrize(
    ("load", "split", "there"),
    [
        (embedded.digits, "validation", "'train', 'test'"),
        (embedded.fashion, "val", "'train', 'test'"),
        (embedded.shakespeare, "test", "'train', 'validation'"),
    ],
)
def test_an_unknown_split_lists_those_there_are(load, split, there):
    with pytest.raises(ValueError, match=f"{load.__name__}: split must be one of {there}; got '{split}'"):
        load(split)


LOADERS = [
    ("digits8x8.npz", embedded.digits),
    ("fashion_small.npz", embedded.fashion),
    ("shakespeare.txt.gz", embedded.shakespeare),
]


@pytest.mark.parametrize(("name", "load"), LOADERS)
def test_one_flipped_bit_is_an_error(copied, name, load):
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{re.escape(str(copied / name))} is damaged .*reinstall minigrad"):
        load()
    shutil.copy(FOLDER / name, copied)
    load()  # a failed load is not remembered


@pytest.mark.parametrize(("name", "load"), LOADERS)
def test_a_missing_file_is_named_with_the_cure(copied, name, load):
    (copied / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"{re.escape(str(copied / name))} is missing: reinstall minigrad"
    ):
        load()


def test_the_readme_states_the_same_checksums():
    text = (FOLDER / "README.md").read_text()
    for name, checksum in embedded.FILES.items():
        assert f"{checksum}  {name}" in text
