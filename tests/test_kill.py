"""A run that is killed, at any moment and as often as one likes, ends as if nothing had happened."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minigrad import checkpoint, training

ROOT = Path(__file__).resolve().parent.parent
MLP = "--model mlp --epochs 24 --validation 0.2 --save-every 7 --log-every 5 --schedule cosine".split()
CNN = "--model cnn --epochs 1 --batch-size 32 --save-every 3 --log-every 4 --accumulate 2".split()
GPT = "--model transformer --epochs 0.04 --batch-size 4 --save-every 2 --log-every 3".split()


def start(folder, *args):
    command = [sys.executable, str(ROOT / "train.py"), "--device", "cpu", "--out", str(folder), *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(child):
    out, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    return out


def result(folder):
    """What a run leaves, without the paths in it."""
    (run,) = Path(folder).iterdir()
    tensors, meta = checkpoint.load(run / "best.safetensors")
    best = {name: t.numpy().tobytes() for name, t in tensors.items()}
    state = training.Checkpoints(run).latest().state
    state.pop("about")
    last, nest = training.packed(state)
    arrays = {name: np.asarray(getattr(a, "array", a)).tobytes() for name, a in last.items()}
    return dict(
        best=best,
        score=(meta["step"], meta["score"]),
        state=arrays,
        rest=json.dumps(nest, sort_keys=True),
        curve=(run / "curve.jsonl").read_text(),
    )


def killed(folder, args, kills, longest, seed=0):
    """Kill a run `kills` times, up to `longest` seconds after it has begun to train; then let it end."""
    dice, done = random.Random(seed), 0
    while done < kills:
        child = start(folder, *args, "--resume", "auto")
        line = child.stdout.readline()  # the model is made, the loop begins
        assert "parameters on" in line, child.communicate()[1]
        time.sleep(dice.uniform(0, longest))
        running = child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert running, f"it had ended after {done} kills; make it longer"
        done += 1
        if not list(folder.glob("*/step-*.safetensors")):
            longest *= 1.25  # a slow machine has to reach the first checkpoint, too
    return finished(start(folder, *args, "--resume", "auto"))


def check(tmp_path, args, kills, longest):
    finished(start(tmp_path / "whole", *args))
    out = killed(tmp_path / "killed", args, kills, longest)
    whole, pieces = result(tmp_path / "whole"), result(tmp_path / "killed")
    for what, expected in whole.items():
        assert pieces[what] == expected, what
    assert "going on after step" in out


def test_a_run_killed_three_times_ends_with_the_same_bits(tmp_path):
    check(tmp_path, MLP, 3, 0.25)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "longest"),
    [([*MLP, "--epochs", "96"], 0.12), (CNN, 0.15), (GPT, 0.15)],
    ids=["mlp", "cnn", "transformer"],
)
def test_a_run_killed_twenty_times_ends_with_the_same_bits(tmp_path, args, longest):
    check(tmp_path, args, 20, longest)


# ------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(tmp_path, number, code):
    args = [*MLP, "--save-every", "100000"]
    child = start(tmp_path / "a", *args)
    child.stdout.readline()
    time.sleep(0.15)
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    assert child.returncode == code, err
    (line,) = err.splitlines()
    assert number.name in line and "go on with: python train.py --resume" in line
    path = line.split("--resume ")[1]
    assert 0 < training.read(path).step < 816
    out = finished(start(tmp_path / "b", "--resume", path, "--out", str(tmp_path / "a")))
    assert "going on after step" in out
    finished(start(tmp_path / "c", *args))
    stopped, whole = result(tmp_path / "a"), result(tmp_path / "c")
    assert stopped["best"] == whole["best"] and stopped["curve"] == whole["curve"]
    assert stopped["state"] == whole["state"] and stopped["rest"] == whole["rest"]


TWICE = """
import os, signal, time
from minigrad.training import Interrupt
with Interrupt() as asked:
    os.kill(os.getpid(), signal.SIGTERM)
    assert asked.signal == signal.SIGTERM
    print("first", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""


def test_a_second_signal_exits_at_once():
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", TWICE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and done.stdout == "first\n"
    assert time.monotonic() - started < 30


def test_the_former_handlers_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with training.Interrupt() as asked:
        assert signal.getsignal(signal.SIGINT) not in before and asked.signal is None
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
