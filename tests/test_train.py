"""The main job reaches its score, repeats itself bit for bit, and refuses what it cannot do in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
import train

ROOT = Path(__file__).resolve().parent.parent


def run(*args, **kwargs):
    command = [sys.executable, str(ROOT / "train.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **kwargs)


@pytest.mark.slow
def test_the_mlp_reads_at_least_92_percent_of_unseen_writers_digits():
    """The mean of three seeds on the file-order split; PyTorch reaches 92.7 % (minigrad/data/README.md)."""
    scores = [train.main(["--model", "mlp", "--device", "cpu", "--seed", str(seed)]) for seed in (0, 1, 2)]
    assert np.mean(scores) >= 0.92, scores


def test_a_short_run_already_reads_digits(capsys):
    score = train.main(["--model", "mlp", "--device", "cpu", "--epochs", "10"])
    assert score > 0.85
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"test accuracy {100 * score:.2f} %") and "cpu" in last and last.endswith(" s")


@pytest.mark.parametrize("optimizer", sorted(train.OPTIMIZERS))
def test_every_optimizer_of_the_command_line_learns(optimizer):
    lr = "0.1" if optimizer == "sgd" else "0.002"
    assert train.main(["--device", "cpu", "--epochs", "8", "--optimizer", optimizer, "--lr", lr]) > 0.8


def weights_after(seed, epochs="2"):
    built = []
    original = train.build

    def build(config):
        built.append(original(config))
        return built[0]

    train.build = build
    try:
        train.main(["--device", "cpu", "--epochs", epochs, "--seed", str(seed)])
    finally:
        train.build = original
    return np.concatenate([p.detach().numpy().ravel() for p in built[0].parameters()])


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    first = weights_after(3)
    assert np.array_equal(first, weights_after(3))
    assert not np.array_equal(first, weights_after(4))


def test_the_seed_is_set_by_the_run_and_not_by_what_ran_before():
    first = weights_after(3)
    mg.rand(1000)
    assert np.array_equal(first, weights_after(3))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--optimizer", "adm"], "invalid choice: 'adm'"),
        (["--learning-rate", "1"], "unrecognized arguments: --learning-rate"),
        (["--lr", "-1"], "-1 is not a positive number"),
        (["--lr", "nan"], "nan is not a positive number"),
        (["--epochs", "0"], "0 is not a positive whole number"),
        (["--model", "resnet"], "invalid choice: 'resnet'"),
        (["--device", "tpu"], "'tpu' is not a device"),
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
    def damaged(split):
        raise ValueError("digits8x8.npz is not what minigrad ships; reinstall minigrad")

    monkeypatch.setattr(train, "digits", damaged)
    with pytest.raises(SystemExit) as stop:
        train.main(["--device", "cpu"])
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
