"""The main job reaches its score, repeats itself bit for bit, and refuses what it cannot do in one line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
import train
from minigrad import checkpoint
from minigrad.optim.schedule import SCHEDULES

ROOT = Path(__file__).resolve().parent.parent


def run(*args, **kwargs):
    command = [sys.executable, str(ROOT / "train.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)


def score_of(out, *args):
    (score,) = train.main([*args, "--device", "cpu", "--out", str(out)])
    return score


@pytest.mark.slow
def test_the_mlp_reads_at_least_92_percent_of_unseen_writers_digits(tmp_path):
    """The mean of three seeds on the file-order split; PyTorch reaches 92.7 % (minigrad/data/README.md)."""
    scores = [score_of(tmp_path, "--model", "mlp", "--seed", str(seed)) for seed in (0, 1, 2)]
    assert np.mean(scores) >= 0.92, scores


@pytest.mark.slow
def test_the_cnn_knows_at_least_84_percent_of_the_clothes(tmp_path):
    assert score_of(tmp_path, "--model", "cnn") >= 0.84


def test_a_short_run_already_reads_digits(tmp_path, capsys):
    score = score_of(tmp_path, "--model", "mlp", "--epochs", "10")
    assert score > 0.85
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"test accuracy {100 * score:.2f} %") and "cpu" in last and last.endswith(" s")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_optimizer_of_the_command_line_learns(tmp_path, optimizer):
    lr = "0.1" if optimizer == "sgd" else "0.002"
    assert score_of(tmp_path, "--model", "mlp", "--epochs", "8", "--optimizer", optimizer, "--lr", lr) > 0.8


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_every_schedule_of_the_command_line_learns(tmp_path, schedule):
    options = ["--epochs", "8", "--lr", "0.003", "--warmup", "0.1"]
    assert score_of(tmp_path, "--model", "mlp", "--schedule", schedule, *options) > 0.8


def test_a_short_run_of_the_cnn_and_of_the_transformer(tmp_path, capsys, short_validation):
    assert score_of(tmp_path, "--model", "cnn", "--epochs", "2") > 0.6
    assert (
        score_of(tmp_path, "--model", "transformer", "--epochs", "0.02", "--batch-size", "8") < 3.6
    )  # ln 64 = 4.16


def weights(out, seed):
    score_of(out, "--model", "mlp", "--epochs", "2", "--seed", str(seed))
    tensors, _ = checkpoint.load(out / f"mlp-digits-adam-{seed}" / "best.safetensors")
    return np.concatenate([t.numpy().ravel() for t in tensors.values()])


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path):
    first = weights(tmp_path, 3)
    mg.rand(1000)  # the seed is set by the run, not by what ran before
    assert np.array_equal(first, weights(tmp_path, 3))
    assert not np.array_equal(first, weights(tmp_path, 4))


def test_what_was_held_out_chooses_the_weights(tmp_path):
    score = score_of(tmp_path, "--model", "mlp", "--epochs", "5", "--validation", "0.2", "--lr", "0.01")
    rows = [
        json.loads(line) for line in (tmp_path / "mlp-digits-adam-0" / "curve.jsonl").read_text().splitlines()
    ]
    scores = {row["step"]: row["score"] for row in rows if "score" in row}
    _, meta = checkpoint.load(tmp_path / "mlp-digits-adam-0" / "best.safetensors")
    assert 10 <= len(scores) <= 11 and meta["score"] == max(scores.values()) == scores[meta["step"]]
    assert score > 0.7 and meta["config"]["lr"] == 0.01


def test_a_run_can_start_from_weights_and_freeze_layers(tmp_path, capsys):
    score_of(tmp_path / "a", "--model", "mlp", "--epochs", "5")
    start = tmp_path / "a" / "mlp-digits-adam-0" / "best.safetensors"
    score_of(tmp_path / "b", "--model", "mlp", "--epochs", "1", "--init", str(start), "--freeze", "layers.0")
    before, after = (
        checkpoint.load(tmp_path / run / "mlp-digits-adam-0" / "best.safetensors")[0] for run in "ab"
    )
    assert np.array_equal(before["layers.0.weight"].numpy(), after["layers.0.weight"].numpy())
    assert not np.array_equal(before["layers.1.weight"].numpy(), after["layers.1.weight"].numpy())
    assert "not in the file: []" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--optimizer", "adm"], "there is no optimizer 'adm'; there are ada"),
        (["--learning-rate", "1"], "unrecognized arguments: --learning-rate"),
        (["--lr", "-1"], "-1 is not a positive number"),
        (["--lr", "nan"], "nan is not a positive number"),
        (["--epochs", "0"], "0 is not a positive number"),
        (["--model", "resnet"], "invalid choice: 'resnet'"),
        (["--device", "tpu"], "'tpu' is not a device"),
        (["--warmup", "1"], "1 is not in [0, 1)"),
        (["--model", "mlp", "--data", "shakespeare"], "--model mlp does not go with --data shakespeare"),
        (["--model", "mlp", "--device", "cpu", "--init", "no/such/file"], "there is no such checkpoint"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_one_line_and_exit_code_2(args, says, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(args)
    assert stop.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_cuda_without_a_gpu_is_one_line_and_exit_code_2():
    if mg.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run("--device", "cuda")
    assert done.returncode == 2
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "device 'cuda'" in done.stderr and "cpu" in done.stderr


def test_a_damaged_data_file_is_one_line_and_exit_code_2(monkeypatch, capsys):
    def damaged(name, split):
        raise ValueError("digits8x8.npz is not what minigrad ships; reinstall minigrad")

    monkeypatch.setattr(mg.data, "load", damaged)
    with pytest.raises(SystemExit) as stop:
        train.main(["--model", "mlp", "--device", "cpu"])
    assert stop.value.code == 2
    assert "digits8x8.npz" in capsys.readouterr().err


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for (
        option
    ) in "model data optimizer lr weight-decay momentum epochs batch-size device seed log-every".split():
        assert f"--{option}" in text
