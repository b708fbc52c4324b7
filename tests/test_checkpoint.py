"""Checkpoints: whole or not there, verified before use, and nothing is executed."""

import os
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, nn

TENSORS = {
    "matrix": mg.tensor([[1.5, -2.0], [0.0, 4.0]]),
    "half": mg.tensor([1.0, 2.0], dtype=mg.float16),
    "brain": mg.tensor([1.0, 3.0], dtype=mg.bfloat16),
    "double": mg.tensor(np.float64([1e-300])),
    "index": mg.arange(5),
    "flag": mg.tensor(True),
    "empty": mg.zeros(0, 3),
    "strided": mg.arange(6).reshape(2, 3).t(),
}
META = {"step": 3, "lr": 0.1, "words": ["ä", "\n"], "nothing": None}


@pytest.fixture
def path(tmp_path):
    checkpoint.save(tmp_path / "new" / "a.safetensors", TENSORS, META)
    return tmp_path / "new" / "a.safetensors"


def test_tensors_and_meta_come_back_as_they_were(path):
    tensors, meta = checkpoint.load(path)
    assert meta == META and list(tensors) == sorted(TENSORS)
    for name, t in TENSORS.items():
        assert tensors[name].dtype is t.dtype and tensors[name].shape == t.shape
        assert np.array_equal(tensors[name].numpy(), t.numpy())
        tensors[name].zero_()  # they have memory of their own
    assert [f.name for f in path.parent.iterdir()] == ["a.safetensors"]


def test_the_file_is_a_safetensors_file_for_others_too(path):
    from safetensors.numpy import load_file

    others = {k: v for k, v in TENSORS.items() if k != "brain"}
    checkpoint.save(path, others, META)
    assert np.array_equal(load_file(path)["matrix"], TENSORS["matrix"].numpy())


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_refused_by_name(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(checkpoint.CheckpointError, match=r"a\.safetensors: truncated"):
        checkpoint.load(path)


def test_any_changed_byte_is_noticed(path):
    content = path.read_bytes()
    for place in range(0, len(content), 3 if len(content) < 3000 else 7):
        damaged = bytearray(content)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(checkpoint.CheckpointError):
            checkpoint.load(path)


def test_a_foreign_file_is_named_as_such(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "b")
    with pytest.raises(checkpoint.CheckpointError, match="something else"):
        checkpoint.load(tmp_path / "b")
    with pytest.raises(checkpoint.CheckpointError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "c")
    (tmp_path / "d").mkdir()
    with pytest.raises(checkpoint.CheckpointError, match="directory"):
        checkpoint.load(tmp_path / "d")


def test_a_save_that_fails_leaves_the_former_file(path, monkeypatch):
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"a": mg.zeros(3)}, {})
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    program = (
        "import sys, minigrad as mg\nfrom minigrad import checkpoint\nk = 0\n"
        "while True:\n k += 1\n checkpoint.save(sys.argv[1], {'a': mg.full((300_000,), k * 1.0)}, {'k': k})\n"
    )
    place = tmp_path / "killed"
    for wait in (0.5, 0.7, 0.9, 1.1):
        child = subprocess.Popen([sys.executable, "-c", program, str(place)])
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(wait)
        child.kill()
        child.wait()
        if place.exists():
            tensors, meta = checkpoint.load(place)
            assert (tensors["a"].numpy() == meta["k"]).all()
    assert place.exists()


def test_a_model_comes_back_bit_for_bit(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    checkpoint.save(tmp_path / "m", model.state_dict(), {})
    other = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    other.load_state_dict(checkpoint.load(tmp_path / "m")[0])
    x = mg.randn(5, 3)
    assert np.array_equal(model(x).detach().numpy(), other(x).detach().numpy())
