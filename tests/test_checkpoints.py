"""Checkpoints of a run: the last few and the best, the newest sound one, all of a state or nothing of it."""

import json

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, nn, optim, training
from minigrad.checkpoint import CheckpointError
from minigrad.data import DataLoader, TensorDataset
from minigrad.training import Checkpoints, packed, read, restore, state_of, unpacked


def parts(width=4, **more):
    mg.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))
    optimizer = optim.Adam(list(model.named_parameters()), lr=0.1)
    loader = DataLoader(TensorDataset(mg.randn(12, 3)), 4, shuffle=True)
    return dict(model=model, optimizer=optimizer, loader=loader, random=mg.random.default_generator) | more


def train(parts, epochs=1):
    for _ in range(epochs):
        for (x,) in parts["loader"]:
            parts["optimizer"].zero_grad()
            parts["model"](x + mg.randn(*x.shape)).square().sum().backward()
            parts["optimizer"].step()


def bits(parts):
    tensors, nest = packed(state_of(parts))
    return json.dumps(nest), {name: t.numpy().tobytes() for name, t in tensors.items()}


def test_the_last_ones_and_the_best_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.latest() is None
    checkpoints.save_best({"w": mg.ones(2)}, {"score": 1})
    for step in (5, 10, 15, 20):
        checkpoints.save(step, {"step": step, "w": mg.full((2,), step)})
    assert checkpoints.steps() == [15, 20]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "best.safetensors",
        "step-00000015.safetensors",
        "step-00000020.safetensors",
    ]
    found = checkpoints.latest()
    assert (found.step, found.problems) == (20, []) and found.state["w"].tolist() == [20, 20]
    assert read(tmp_path).step == 20 and "[15, 20]" in repr(checkpoints)
    checkpoints.forget_after(15)
    assert checkpoints.steps() == [15]
    with pytest.raises(ValueError, match="keep is 0"):
        Checkpoints(tmp_path, keep=0)


def test_the_newest_sound_one_is_taken_and_the_others_are_named(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, {"step": step})
    checkpoints.path(3).write_bytes(b"")
    damaged = bytearray(checkpoints.path(2).read_bytes())
    damaged[-1] ^= 1
    checkpoints.path(2).write_bytes(damaged)
    found = checkpoints.latest()
    assert found.step == 1 and len(found.problems) == 2
    assert "step-00000003" in found.problems[0] and "step-00000002" in found.problems[1]
    checkpoints.path(1).write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"no sound checkpoint(.|\n)*00003(.|\n)*00002(.|\n)*00001"):
        checkpoints.latest()


def test_what_a_killed_save_left_half_written_goes(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {})
    for name in (".step-00000002.safetensors.abc.tmp", ".best.safetensors.abc.tmp"):
        (tmp_path / name).write_bytes(b"half")
    assert checkpoints.latest().step == 1
    checkpoints.forget_after(1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001.safetensors"]


def test_any_nest_comes_back_as_it_was(tmp_path):
    nest = {
        "a": [1, 2.5, None, True, "ü", (3, (4,))],
        "state": {0: {"step": 7, "m": mg.ones(2, dtype=mg.float16)}, 1: {}},
        "$": {"x": mg.tensor(3)},
        "array": np.arange(3),
        "scalar": np.float64(0.1),
        "far": float("inf"),
        "a/b": mg.zeros(1),
        "more": {"a": {"b": mg.ones(1)}},
    }
    Checkpoints(tmp_path).save(1, nest)
    found = Checkpoints(tmp_path).latest().state
    assert found["a"] == nest["a"] and isinstance(found["a"][5], tuple) and found["far"] == float("inf")
    assert found["state"][0]["step"] == 7 and found["state"][0]["m"].dtype is mg.float16
    assert found["$"]["x"].tolist() == 3 and found["scalar"] == 0.1
    assert isinstance(found["array"], np.ndarray) and found["array"].tolist() == [0, 1, 2]
    assert found["a/b"].tolist() == [0] and found["more"]["a"]["b"].tolist() == [1]
    with pytest.raises(TypeError, match="model/f is a function"):
        packed({"model": {"f": lambda: 0}})
    tensors, json_able = packed({"x": {"y": mg.ones(1)}, "x/y": mg.zeros(1)})  # one path, two tensors
    again = unpacked(json.loads(json.dumps(json_able)), tensors)
    assert again["x"]["y"].tolist() == [1] and again["x/y"].tolist() == [0]


def test_a_restored_state_goes_on_to_the_same_bits(tmp_path):
    whole = parts()
    train(whole)
    Checkpoints(tmp_path).save(3, state_of(whole))
    train(whole, 2)
    again = parts()
    train(again, 3)
    found = read(tmp_path)
    restore(again, found.state, found.path)
    train(again, 2)
    assert bits(again) == bits(whole)


WRONG = {
    "a shape": lambda s: s["model"].update({"0.weight": mg.zeros(4, 2)}),
    "a type": lambda s: s["model"].update({"0.weight": s["model"]["0.weight"].to(mg.float64)}),
    "a missing name": lambda s: s["model"].pop("2.bias"),
    "a foreign name": lambda s: s["model"].update(extra=mg.zeros(1)),
    "a missing part": lambda s: s.pop("optimizer"),
    "no dictionary": lambda s: s.update(optimizer=[1, 2]),
    "a slot's shape": lambda s: s["optimizer"]["state"][0].update(exp_avg=mg.zeros(7)),
    "a missing slot": lambda s: s["optimizer"]["state"][0].pop("exp_avg_sq"),
    "another rule's group": lambda s: s["optimizer"].update(param_groups=[]),
    "an option": lambda s: s["optimizer"]["param_groups"][0].update(lr=-1.0),
    "other data": lambda s: s["loader"].update(examples=13),
    "an order beyond the data": lambda s: s["loader"].update(
        position=1, order=mg.tensor([0, 1, 99]), ends=mg.tensor([2, 3]), seed=None
    ),
    "a position beyond the epoch": lambda s: s["loader"].update(
        position=3, order=mg.tensor([0, 1, 2]), ends=mg.tensor([2, 3]), seed=None
    ),
    "no generator": lambda s: s.update(random=mg.zeros(3)),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_state_that_does_not_fit_changes_nothing(tmp_path, what):
    ours = parts()
    train(ours)
    Checkpoints(tmp_path).save(3, state_of(ours))
    state = read(tmp_path).state
    WRONG[what](state)
    Checkpoints(tmp_path / "wrong").save(1, state)  # sound as a file
    train(ours)
    before = bits(ours)
    found = read(tmp_path / "wrong")
    with pytest.raises(CheckpointError, match="step-00000001"):
        restore(ours, found.state, found.path)
    assert bits(ours) == before
    train(ours)  # and it still trains


def test_rules_that_train_elsewhere_are_saved_where_they_learn(tmp_path):
    mg.manual_seed(0)
    p = nn.Parameter(mg.tensor([1.0, -2.0]))
    rule = optim.SGDScheduleFree([p], lr=0.1)

    def steps(n):
        for _ in range(n):
            rule.zero_grad()
            (p * p).sum().backward()
            rule.step()

    steps(3)
    here = p.tolist()
    state = state_of(dict(rule=rule))
    assert p.tolist() == here and state["rule"]["param_groups"][0]["train_mode"] is False
    steps(2)
    expected = p.tolist()
    with training.at_rest(rule):
        assert p.tolist() != expected
    assert p.tolist() == expected


def test_weights_are_found_in_both_kinds_of_file(tmp_path):
    model = nn.Linear(2, 2)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(model.state_dict(), {"score": 1.0})
    checkpoints.save(1, dict(model=model.state_dict(), about={"score": 2.0}))
    for path, score in ((tmp_path / "best.safetensors", 1.0), (checkpoints.path(1), 2.0)):
        found, meta = training.weights(path)
        assert meta["score"] == score and sorted(found) == ["bias", "weight"]
    with pytest.raises(CheckpointError, match="weights only"):
        read(tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError, match="a folder without a checkpoint"):
        (tmp_path / "empty").mkdir()
        read(tmp_path / "empty")
    checkpoint.save(tmp_path / "odd", {}, {"kind": "training state", "state": [1], "step": 1})
    with pytest.raises(CheckpointError, match="its state cannot be read"):
        read(tmp_path / "odd")


@pytest.mark.parametrize("keep", [1, 2])
def test_a_save_that_fails_leaves_every_file_that_was_there(tmp_path, monkeypatch, keep):
    checkpoints = Checkpoints(tmp_path, keep=keep)
    for step in range(1, keep + 1):
        checkpoints.save(step, dict(x=mg.ones(2)))

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minigrad.checkpoint.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(9, dict(x=mg.ones(2)))
    assert checkpoints.steps() == list(range(1, keep + 1))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        checkpoints.path(s).name for s in checkpoints.steps()
    ]
    assert checkpoints.latest().step == keep
