"""A thousand damaged files: each is refused by a clear error, soon, and without taking memory."""

import gzip
import io
import json
import random
import struct
import tarfile
import time
import tracemalloc

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, training
from minigrad.checkpoint import CheckpointError
from minigrad.data import embedded, formats


def truncated(content, dice):
    return content[: dice.randrange(len(content))]


def flipped(content, dice):
    damaged = bytearray(content)
    damaged[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def overwritten(content, dice):
    start = dice.randrange(len(content))
    noise = dice.randbytes(dice.randrange(1, 64))
    changed = content[:start] + noise + content[start + len(noise) :]
    return changed if changed != content else content + b"\0"


def longer(content, dice):
    return content + dice.randbytes(dice.randrange(1, 40))


def shuffled(content, dice):
    cut = dice.randrange(1, len(content))
    return content[cut:] + content[:cut]


def noise(content, dice):
    return dice.randbytes(len(content))


def zeroed(content, dice):
    start = dice.randrange(len(content) - 1)
    changed = content[:start] + bytes(len(content) - start)
    return changed if changed != content else b""


DAMAGES = (truncated, flipped, flipped, overwritten, longer, shuffled, noise, zeroed)


def refused(load, content, error=ValueError, megabytes=20):
    """`load` raises an error that says something, within a second, and within so much memory."""
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            load(content)
        assert len(str(caught.value)) > 10
        assert tracemalloc.get_traced_memory()[1] < megabytes * 2**20
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 5


# ---------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tensors = {"a": mg.ones(3, 4), "b": mg.arange(5), "c": mg.ones(2, dtype=mg.bfloat16)}
    path = training.Checkpoints(folder).save(7, dict(model=tensors, lr=0.1, betas=(0.9, 0.99)))
    return path.read_bytes()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_damaged_checkpoints_are_refused(tmp_path, whole, damage):
    path = tmp_path / "x.safetensors"
    for seed in range(60):
        path.write_bytes(damage(whole, random.Random(seed)))
        refused(lambda content: training.read(path), None, CheckpointError)


def foreign(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


META = dict(format="minigrad-1", meta="{}", sha256="0" * 64)
ODD = {
    "nothing": b"",
    "a length and no header": struct.pack("<Q", 100),
    "a huge header": foreign({}, length=2**62),
    "a negative header": foreign({}, length=2**64 - 1),
    "a header of all memory": foreign({}, length=2**40),
    "no JSON": foreign(b"\xff\xfe{"),
    "a list": foreign([1, 2]),
    "deep nesting": foreign(b"[" * 100_000),
    "deep objects": foreign(b'{"a":' * 50_000),
    "a tensor beyond the end": foreign({"a": dict(dtype="F32", shape=[2**40], data_offsets=[0, 2**42])}),
    "sizes that overflow": foreign({"a": dict(dtype="F32", shape=[2**63, 8], data_offsets=[0, 4])}, b"1234"),
    "a negative shape": foreign({"a": dict(dtype="F32", shape=[-1], data_offsets=[0, 4])}, b"1234"),
    "offsets that overlap": foreign(
        {k: dict(dtype="F32", shape=[1], data_offsets=[0, 4]) for k in "ab"}, b"1234"
    ),
    "a type of others": foreign(
        {"a": dict(dtype="F8_E4M3", shape=[4], data_offsets=[0, 4]), "__metadata__": META}, b"1234"
    ),
    "another's format": foreign({"__metadata__": dict(format="pt")}),
    "no sum": foreign({"__metadata__": dict(format="minigrad-1")}),
    "a wrong sum": foreign({"__metadata__": META}),
    "a zip": b"PK\x03\x04" + bytes(100),
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.",
}


@pytest.mark.parametrize("what", ODD)
def test_foreign_files_and_huge_headers_are_refused(tmp_path, what):
    path = tmp_path / "x.safetensors"
    path.write_bytes(ODD[what])
    refused(lambda content: checkpoint.load(path), None, CheckpointError)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("meta", ["[" * 100_000, "[1]", "3", "{", '"x"'])
def test_json_that_is_no_object_is_refused_though_its_sum_fits(tmp_path, meta, monkeypatch):
    monkeypatch.setattr(checkpoint.json, "dumps", lambda *a, **k: meta)
    checkpoint.save(tmp_path / "x", {}, {})
    monkeypatch.undo()
    refused(lambda content: checkpoint.load(tmp_path / "x"), None, CheckpointError)


def test_devices_and_folders_are_no_checkpoints(tmp_path):
    for path in ("/dev/zero", tmp_path):
        with pytest.raises(CheckpointError, match="not a file"):
            checkpoint.load(path)


# ----------------------------------------------------------------------------------------------- data files


def idx_gz():
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 5)).astype(np.uint8)
    raw = struct.pack(">HBB3I", 0, 8, 3, *images.shape) + images.tobytes()
    return gzip.compress(raw, mtime=0), len(raw)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_damaged_idx_files_are_refused_or_are_not_damaged(damage):
    packed, size = idx_gz()
    expected = formats.idx(formats.inflate(packed, size), "x", 3)
    for seed in range(40):
        content = damage(packed, random.Random(seed))
        try:  # gzip leaves some bits of its header free
            found = formats.idx(formats.inflate(content, size), "x", 3)
        except ValueError:
            refused(lambda c: formats.idx(formats.inflate(c, size), "x", 3), content)
        else:
            assert np.array_equal(found, expected)


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (0, 5, 5), (4, 5, 6), (2**31, 2**31, 4)])
def test_idx_headers_that_lie_are_refused(shape):
    refused(lambda content: formats.idx(content, "x", 3), struct.pack(">HBB3I", 0, 8, 3, *shape) + bytes(100))


def test_a_gzip_bomb_is_not_unpacked():
    refused(lambda content: formats.inflate(content, 1000), gzip.compress(bytes(50_000_000)))


def tar_gz():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("a.bin", "b.bin"):
            content = np.random.default_rng(0).integers(0, 9, 2 * formats.CIFAR_RECORD).astype(np.uint8)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.tobytes()))
    return buffer.getvalue()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_damaged_archives_are_refused_or_are_not_damaged(damage):
    packed, size = tar_gz(), 2 * formats.CIFAR_RECORD

    def load(content):
        return formats.members(content, "x", ["a.bin", "b.bin"], size)

    expected = load(packed)
    for seed in range(15):
        content = damage(packed, random.Random(seed))
        try:
            found = load(content)
        except ValueError:
            refused(load, content)
        else:  # free bits of the headers, or damage behind the last member; sums of the sets catch it
            assert [len(member) for member in found] == [len(member) for member in expected]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", sorted(embedded.FILES))
def test_damaged_files_of_the_package_are_refused(tmp_path, monkeypatch, name, damage):
    content = embedded._folder().joinpath(name).read_bytes()
    monkeypatch.setattr(embedded, "_folder", lambda: tmp_path)
    for seed in range(5):
        (tmp_path / name).write_bytes(damage(content, random.Random(seed)))
        refused(lambda c: embedded._verified(name), None)
