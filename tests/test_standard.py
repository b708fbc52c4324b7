"""The standard sets: where their files are found, what is refused, and what a call gives.

The sets stand in for themselves in small: the same code with a table of other checksums, because the real
ones cannot be shipped. Where MINIGRAD_DATA or the system has the real ones, they are read too.
"""

import gzip
import io
import os
import struct
import sys
import tarfile
import tracemalloc
from hashlib import sha256

import numpy as np
import pytest

from minigrad.data import DownloadError, formats, places, standard

RNG = np.random.default_rng(5)


def idx(array, magic=None):
    magic = magic or bytes((0, 0, 8, array.ndim))
    return magic + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


IMAGES = {
    "train": RNG.integers(0, 256, (30, 28, 28)).astype(np.uint8),
    "test": RNG.integers(0, 256, (7, 28, 28)).astype(np.uint8),
}
LABELS = {split: RNG.integers(0, 10, len(images)).astype(np.uint8) for split, images in IMAGES.items()}
RAW = {
    f"{prefix}-{kind}-ubyte": idx(arrays[split])
    for split, prefix in (("train", "train"), ("test", "t10k"))
    for kind, arrays in (("images-idx3", IMAGES), ("labels-idx1", LABELS))
}


def tables(origin, raw=RAW):
    """A table like standard.MNIST for other contents; its mirror is the folder `origin`."""
    rows = []
    for name, content in raw.items():
        packed = gzip.compress(content)
        (origin / f"{name}.gz").write_bytes(packed)
        sums = [f"{len(data)} {sha256(data).hexdigest()}" for data in (packed, content)]
        rows.append(" ".join([name.removesuffix("-ubyte"), *sums]))
    return standard._idx_files((origin.as_uri() + "/",), "\n".join(rows))


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """A mirror of the small sets, in a folder; the data folder is empty."""
    origin = tmp_path / "origin"
    origin.mkdir()
    monkeypatch.setattr(standard, "MNIST", tables(origin))
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(places, "SYSTEM", tmp_path / "system")
    return origin


@pytest.fixture
def data(origin, tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def assert_is_the_set(got, split):
    images, labels = got
    assert np.array_equal(images, IMAGES[split]) and np.array_equal(labels, LABELS[split])
    assert images.dtype == np.uint8 and labels.dtype == np.int64
    assert images.flags.writeable and labels.flags.writeable


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_downloaded_set_is_there_from_then_on(origin, tmp_path, split):
    assert_is_the_set(standard.mnist(split, download=True), split)
    for file in origin.iterdir():
        file.unlink()  # the second call needs no mirror
    assert_is_the_set(standard.mnist(split), split)
    assert_is_the_set(standard.mnist(split, download=True), split)
    assert len(list((tmp_path / "data" / "mnist").iterdir())) == 2  # this split's images and labels


def test_without_being_asked_nothing_is_downloaded(origin, tmp_path, monkeypatch):
    def connect(*_):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(places, "fetch", connect)
    with pytest.raises(
        FileNotFoundError, match=r"mnist: train-images.*mnist\(\.\.\., download=True\) gets it"
    ):
        standard.mnist()
    assert not (tmp_path / "data").exists()


LAYOUTS = {
    "raw": "{}",
    "gzipped": "{}.gz",
    "in the set's folder": "mnist/{}",
    "torchvision's": "MNIST/raw/{}",
    "gzipped in the set's folder": "mnist/{}.gz",
}


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_that_the_user_has_are_taken(data, layout, dotted):
    for name, content in RAW.items():
        named = name.replace("-idx", ".idx") if dotted else name
        path = data / LAYOUTS[layout].format(named)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    for split in ("train", "test"):
        assert_is_the_set(standard.mnist(split), split)


def test_debian_s_files_are_taken_though_gzipped_otherwise(origin, tmp_path, monkeypatch):
    monkeypatch.setattr(standard, "FASHION", standard.MNIST)
    folder = tmp_path / "system" / "fashion-mnist"
    folder.mkdir(parents=True)
    for name, content in RAW.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1, mtime=3))
    assert_is_the_set(standard.fashion_mnist("test"), "test")


def test_a_file_of_another_set_under_the_same_name_is_passed_over(data):
    """Fashion-MNIST's files have MNIST's names: the hash decides, and the next folder is looked at."""
    for name in RAW:
        (data / "mnist").mkdir(exist_ok=True)
        (data / "mnist" / name).write_bytes(idx(np.zeros((3, 28, 28))))
        (data / name).write_bytes(RAW[name])
    assert_is_the_set(standard.mnist("test"), "test")


CORRUPT = {
    "truncated": (lambda packed, raw: packed[: len(packed) // 2], "truncated or damaged gzip"),
    "empty": (lambda packed, raw: b"", "an empty file"),
    "gzip of nothing": (lambda packed, raw: gzip.compress(b""), "unpacks to 0 bytes instead of"),
    "doubled": (lambda packed, raw: packed + packed, "unpacks to more than"),
    "doubled content": (lambda packed, raw: gzip.compress(raw + raw), "unpacks to more than"),
    "short content": (lambda packed, raw: gzip.compress(raw[:-1]), "instead of"),
    "wrong CRC": (lambda packed, raw: packed[:-8] + bytes(4) + packed[-4:], "truncated or damaged gzip"),
    "not gzip": (lambda packed, raw: b"<html></html>", "truncated or damaged gzip"),
    "one other pixel": (lambda packed, raw: gzip.compress(raw[:-1] + bytes([raw[-1] ^ 1])), "SHA-256"),
    "a bomb": (lambda packed, raw: gzip.compress(bytes(50_000_000)), "unpacks to more than"),
}


@pytest.mark.parametrize("how", CORRUPT)
def test_a_corrupt_file_in_the_cache_is_refused_or_downloaded_anew(origin, tmp_path, how):
    standard.mnist("test", download=True)
    name = "t10k-images-idx3-ubyte"
    cached = tmp_path / "data" / "mnist" / f"{name}.gz"
    spoil, says = CORRUPT[how]
    cached.write_bytes(spoil(cached.read_bytes(), RAW[name]))
    with pytest.raises(ValueError, match=says) as error:
        standard.mnist("test")
    assert str(cached) in str(error.value) and "mnist(..., download=True)" in str(error.value)
    assert_is_the_set(standard.mnist("test", download=True), "test")
    assert_is_the_set(standard.mnist("test"), "test")


@pytest.mark.parametrize(
    ("change", "says"), [(lambda raw: raw[:-1], "5,503"), (lambda raw: raw * 2, "5,505")]
)
def test_a_raw_file_of_another_length_is_refused_with_both(data, change, says):
    (data / "t10k-images-idx3-ubyte").write_bytes(change(RAW["t10k-images-idx3-ubyte"]))
    with pytest.raises(ValueError, match=rf"{says} bytes.* instead of 5,504"):
        standard.mnist("test")


def test_what_unpacks_to_too_much_is_not_unpacked():
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="unpacks to more than 1,000 bytes"):
            formats.inflate(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_damaged_mirror_leaves_the_folder_empty(origin, tmp_path):
    file = origin / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DownloadError, match="announces"):
        standard.mnist("test", download=True)
    assert list((tmp_path / "data" / "mnist").iterdir()) == []


def images(n):
    return np.zeros((n, 28, 28), np.uint8)


MALFORMED = [
    (idx(images(3), b"\0\0\x08\x01"), idx(np.zeros(3)), "magic number 0x00000801, not 0x00000803"),
    (idx(images(3), b"\x1f\x8b\0\0"), idx(np.zeros(3)), "magic number 0x1f8b0000"),
    (idx(images(3))[:-1], idx(np.zeros(3)), r"2,367 bytes; shape \(3, 28, 28\) in its header takes 2,368"),
    (idx(images(3)) + b"\0", idx(np.zeros(3)), "2,369 bytes; shape"),
    (idx(images(3))[:9], idx(np.zeros(3)), "ends within the header, after 9 of 16"),
    (b"", idx(np.zeros(3)), "magic number 0x,"),
    (idx(images(3)), idx(np.zeros(4)), "3 images in t10k-images.*4 labels in t10k-labels"),
    (idx(images(3)), idx(np.array([0, 10, 2])), "t10k-labels.*label 10 of example 1 is not below 10"),
    (idx(images(3)), idx(np.zeros(3), b"\0\0\x0d\x01"), "magic number 0x00000d01, not 0x00000801"),
]


@pytest.mark.parametrize(("of_images", "of_labels", "says"), MALFORMED)
def test_a_malformed_file_is_refused_even_if_its_checksum_fits(
    origin, monkeypatch, of_images, of_labels, says
):
    raw = {"t10k-images-idx3-ubyte": of_images, "t10k-labels-idx1-ubyte": of_labels}
    monkeypatch.setattr(standard, "MNIST", tables(origin, raw))
    with pytest.raises(ValueError, match=says):
        standard.mnist("test", download=True)


def test_a_header_of_absurd_sizes_is_refused_without_memory_for_it():
    with pytest.raises(ValueError, match="takes 79,228,162,458,924,105,385,300,197,391"):
        formats.idx(b"\0\0\x08\x03" + b"\xff" * 12, "file", 3)


# -------------------------------------------------------------------------------------------------- CIFAR-10

RECORDS = RNG.integers(0, 10, (6, 4, formats.CIFAR_RECORD)).astype(np.uint8)  # six batches of four
MEMBERS = [f"data_batch_{k}" for k in (1, 2, 3, 4, 5)] + ["test_batch"]


def archive(change=lambda tar: None, batches=RECORDS, names=MEMBERS):
    """A tar.gz like CIFAR-10's, in another order; `change` adds to it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        add(tar, "cifar-10-batches-bin/readme.html", b"<html></html>")
        for name, records in reversed(list(zip(names, batches))):
            add(tar, f"cifar-10-batches-bin/{name}.bin", records.tobytes())
        change(tar)
    return packed.getvalue()


def add(tar, name, content=b"", kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(content), kind, link
    tar.addfile(member, io.BytesIO(content))


def offered(content, monkeypatch, origin):
    """Makes standard.cifar10 take this archive for the real one."""
    (origin / "cifar.tar.gz").write_bytes(content)
    size, digest = len(content), sha256(content).hexdigest()
    source = places.Source(standard.CIFAR10.name, size, digest, ((origin / "cifar.tar.gz").as_uri(),))
    monkeypatch.setattr(standard, "CIFAR10", source)
    monkeypatch.setattr(standard, "CIFAR_BATCH", RECORDS[0].nbytes)


def test_cifar_is_read_from_its_archive_in_the_order_of_the_batches(origin, monkeypatch, tmp_path):
    offered(archive(), monkeypatch, origin)
    got, labels = standard.cifar10("train", download=True)
    flat = RECORDS[:5].reshape(-1, formats.CIFAR_RECORD)
    assert np.array_equal(labels, flat[:, 0]) and labels.dtype == np.int64
    assert got.shape == (20, 3, 32, 32) and np.array_equal(got.reshape(20, -1), flat[:, 1:])
    test_images, test_labels = standard.cifar10("test")
    assert np.array_equal(test_images.reshape(4, -1), RECORDS[5, :, 1:]) and len(test_labels) == 4
    names = [path.name for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert names == ["cifar-10-binary.tar.gz"]  # nothing is unpacked to disk


BATCH = "cifar-10-batches-bin/test_batch.bin"


def link_of(size):
    member = tarfile.TarInfo(BATCH)
    member.size, member.type, member.linkname = size, tarfile.SYMTYPE, "/etc/passwd"
    return member


EVIL = {
    "a parent folder": (archive(lambda tar: add(tar, "../evil", b"x")), "member '../evil' points outside"),
    "a parent folder within": (archive(lambda tar: add(tar, "a/../../evil")), "points outside"),
    "an absolute path": (
        archive(lambda tar: add(tar, "/etc/evil", b"x")),
        "member '/etc/evil' points outside",
    ),
    "a backslash": (archive(lambda tar: add(tar, "..\\evil", b"x")), "points outside"),
    "a link for a batch": (
        archive(
            lambda tar: add(tar, BATCH, kind=tarfile.SYMTYPE, link="/etc/passwd"), RECORDS[:5], MEMBERS[:5]
        ),
        "test_batch.bin is not a plain file",
    ),
    "a link with the size of a batch": (
        archive(lambda tar: tar.addfile(link_of(RECORDS[5].nbytes)), RECORDS[:5], MEMBERS[:5]),
        "test_batch.bin is not a plain file",
    ),
    "a folder for a batch": (
        archive(lambda tar: add(tar, BATCH, kind=tarfile.DIRTYPE), RECORDS[:5], MEMBERS[:5]),
        "test_batch.bin is not a plain file",
    ),
    "a short batch": (
        archive(lambda tar: add(tar, BATCH, b"abc"), RECORDS[:5], MEMBERS[:5]),
        "test_batch.bin is 3 bytes, not a file of 12,292",
    ),
    "no such batch": (archive(batches=RECORDS[:5], names=MEMBERS[:5]), "no member .*test_batch.bin"),
    "half an archive": (archive()[:-3000], "truncated or damaged archive|no member"),
    "no archive": (b"<html></html>", "truncated or damaged archive"),
    "a label of 11": (archive(batches=np.full_like(RECORDS, 11)), "label 11 of example 0 is not below 10"),
}


@pytest.mark.parametrize("what", EVIL)
def test_an_archive_that_is_not_what_it_should_be_is_refused(origin, monkeypatch, tmp_path, what):
    content, says = EVIL[what]
    offered(content, monkeypatch, origin)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ValueError, match=says):
        standard.cifar10("test", download=True)
    names = [path.name for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert names == ["cifar-10-binary.tar.gz"] and sorted(os.listdir(tmp_path)) == sorted([*before, "data"])


# ------------------------------------------------------------------------------ text, folders, the real ones


def test_tiny_shakespeare_is_cut_at_nine_tenths(origin, monkeypatch):
    text = "To be, or not to be. " * 5
    (origin / "input.txt").write_text(text)
    digest = sha256(text.encode()).hexdigest()
    source = places.Source("input.txt", len(text), digest, ((origin / "input.txt").as_uri(),))
    monkeypatch.setattr(standard, "TINY_SHAKESPEARE", source)
    train, validation = (standard.tiny_shakespeare(split, download=True) for split in ("train", "validation"))
    assert train + validation == text and len(train) == 94


@pytest.mark.parametrize(
    "load", [standard.mnist, standard.fashion_mnist, standard.cifar10, standard.tiny_shakespeare]
)
def test_an_unknown_split_lists_those_there_are(load):
    with pytest.raises(
        ValueError, match=rf"{load.__name__}: split must be one of 'train', '.*'; got 'valid'"
    ):
        load("valid")


def test_the_cache_folder_is_the_platform_s(monkeypatch, tmp_path):
    pytest.importorskip("platformdirs")
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert places.home() == tmp_path / "minigrad" / "data"
    assert places.home().is_absolute() and "minigrad" in places.home().parts


def test_downloads_leave_the_shared_cache_folder_closed_to_others(origin, monkeypatch, tmp_path):
    """Compiled kernels live in the same ~/.cache/minigrad and refuse a folder that a group can write."""
    pytest.importorskip("platformdirs")
    if sys.platform != "linux":
        pytest.skip("the folder is set through XDG_CACHE_HOME")
    monkeypatch.delenv("MINIGRAD_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mask = os.umask(0o002)
    try:
        standard.mnist("test", download=True)
    finally:
        os.umask(mask)
    assert (tmp_path / "cache" / "minigrad").stat().st_mode & 0o077 == 0


def test_without_platformdirs_the_cure_is_named_and_a_folder_does(origin, monkeypatch, data):
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert_is_the_set(standard.mnist("test", download=True), "test")  # MINIGRAD_DATA is set
    monkeypatch.delenv("MINIGRAD_DATA")
    with pytest.raises(ImportError, match=r"pip install 'minigrad\[download\]', or set MINIGRAD_DATA"):
        standard.mnist("test")


REAL = [
    (standard.mnist, 33.318421, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
    (standard.fashion_mnist, 72.940352, [6000] * 10),
    (standard.cifar10, 120.707565, [5000] * 10),
]


@pytest.mark.slow
@pytest.mark.parametrize(("load", "mean", "classes"), REAL)
def test_the_real_set_where_it_is_at_hand(load, mean, classes):
    try:
        train, labels = load("train")
        test, _ = load("test")
    except (FileNotFoundError, ImportError) as absent:
        pytest.skip(f"not on this machine: {absent}")
    assert abs(train.mean() - mean) < 1e-5 and np.bincount(labels).tolist() == classes
    assert len(test) == 10_000


def test_a_set_is_loaded_by_its_name(monkeypatch):
    """An embedded one as it is; a standard one with leave to download it."""
    from minigrad import data

    assert data.load("digits")[0].shape == data.digits()[0].shape
    assert data.load("shakespeare", "validation") == data.shakespeare("validation")
    asked = []
    monkeypatch.setitem(standard.STANDARD, "mnist", lambda split, download: asked.append((split, download)))
    data.load("mnist", "test")
    assert asked == [("test", True)]
    with pytest.raises(ValueError, match="there is no set 'mnits'; there are 'digits'"):
        data.load("mnits")
