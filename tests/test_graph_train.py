"""train.py on a GPU captures its steps, and gives the numbers of a run that does not."""

import functools
import json

import numpy as np
import pytest
from capturing import fake_device, nodes

import train
from minigrad import amp, training
from models.configuration import runs

SHORT = "--model mlp --epochs 3 --device cuda --validation 0.1 --log-every 7".split()


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They take most of the time of such short runs."""
    monkeypatch.setattr(training, "draw", lambda path, title: "")


@pytest.fixture
def device():
    with fake_device() as device:
        yield device


@pytest.fixture
def overflowing(monkeypatch):
    """A scale that is far too large at first, and too large again every nine steps."""
    scaler = functools.partial(amp.GradScaler, init_scale=2.0**28, growth_interval=9, growth_factor=2.0**8)
    monkeypatch.setattr(amp, "GradScaler", scaler)


def result(folder):
    """What a run leaves: its state without the configuration, its curve, and its weights."""
    state = training.Checkpoints(folder).latest().state
    state.pop("about")
    tensors, nest = training.packed(state)
    best = training.weights(folder / "best.safetensors")[0]
    return dict(
        state={name: np.asarray(getattr(t, "array", t)).tobytes() for name, t in tensors.items()},
        rest=json.dumps(nest),
        curve=(folder / "curve.jsonl").read_text(),
        best={name: t.numpy().tobytes() for name, t in best.items()},
    )


def compared(device, tmp_path, *more):
    """The graphs that a captured run launched, after it was found to be the eager one."""
    found, launches = [], []
    for switch in ("--graph", "--no-graph"):
        before, out = device.launches["graph"], tmp_path / switch
        train.main([*SHORT, "--out", str(out), switch, *more])
        launches.append(device.launches["graph"] - before)
        found.append(result(next(out.iterdir())))
    assert launches[1] == 0
    for what in found[0]:
        assert found[0][what] == found[1][what], what
    return launches[0]


RUNS = {
    "plain": [],
    "cosine": ["--schedule", "cosine", "--optimizer", "adamw", "--clip", "1"],
    "accumulate 2": ["--accumulate", "2"],
    "accumulate 3": ["--accumulate", "3"],
    "an average": ["--ema", "0.9"],
    "bfloat16": ["--amp", "bfloat16"],
    "batches made on the host": ["--augment"],
}


@pytest.mark.parametrize("name", RUNS)
def test_a_captured_run_is_the_eager_one(device, tmp_path, capsys, name):
    assert compared(device, tmp_path, *RUNS[name]) > 25
    assert "not captured" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "more", [[], ["--accumulate", "2", "--clip", "1"], ["--schedule", "cosine", "--clip-adaptive", "0.01"]]
)
def test_under_float16_too_though_steps_are_left_out(device, tmp_path, capsys, overflowing, more):
    assert compared(device, tmp_path, "--amp", "float16", *more) > 25
    shown = capsys.readouterr().out
    assert "not captured" not in shown and shown.count("steps were skipped") == 2


def test_a_captured_run_stops_and_goes_on_to_the_same_bits(device, tmp_path, overflowing):
    more, found = ["--amp", "float16", "--save-every", "10", "--schedule", "cosine"], []
    for cut in (False, True):
        out = ["--out", str(tmp_path / str(cut))]
        train.main([*SHORT, *more, *out])
        (folder,) = (tmp_path / str(cut)).iterdir()
        if cut:
            kept = training.Checkpoints(folder)
            last = next(step for step in kept.steps() if step % 10 == 0)
            for step in kept.steps():
                if step > last:
                    kept.path(step).unlink()
            train.main([*SHORT, *more, *out, "--resume"])
        found.append(result(folder))
    for what in found[0]:
        assert found[0][what] == found[1][what], what


def test_the_work_of_a_captured_step_is_its_indices(device):
    """One launch, the indices copied in, loss and norm copied out; nothing goes up and nothing is read."""
    ((c, _),) = runs([*SHORT, "--graph"])
    run = train.Run(c)
    stream = training.endless(run.source)
    for k in range(8):
        run.window = next(stream)
        with device.counting() as counted:
            run.plan()
            run.step()
        if k > 3:
            assert counted.launches == {"graph": 1, "copy": 3}
            assert (counted.uploads, counted.host_reads, counted.synchronizations) == ([], [], [])


def test_accumulated_batches_are_one_graph(device):
    """Each micro-batch adds the same launches; clip and step, one a group, are there once."""
    totals = []
    for n in (2, 3, 4):
        ((c, _),) = runs([*SHORT, "--graph", "--accumulate", str(n)])
        run = train.Run(c)
        stream = training.endless(run.source, n)
        for _ in range(5):
            run.window = next(stream)
            run.step()
        totals.append(nodes(run.captured.launch))
    assert totals[1] - totals[0] == totals[2] - totals[1]
    assert all((found["tick"], found["clip_norm"], found["adam"]) == (1, 1, 2) for found in totals)
    assert [found.total() for found in totals] == [1 + 21 * n for n in (2, 3, 4)]
