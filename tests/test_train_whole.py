"""The main job under rules that see all parameters as one vector: scores, resumed runs, their batches."""

import numpy as np
import pytest
from safetensors.numpy import load_file

import train
from models.configuration import configuration

RULES = ("lbfgs", "nonlinearcg", "newtoncg")


@pytest.mark.parametrize("rule", RULES)
def test_the_mlp_reads_the_digits_and_a_resumed_run_is_the_same_to_the_bit(rule, tmp_path):
    args = ["--model", "mlp", "--device", "cpu", "--optimizer", rule, "--save-every", "4", "--keep", "9"]
    (score,) = train.main([*args, "--out", str(tmp_path / "whole")])
    assert score >= 0.915
    folder = f"mlp-digits-{rule}-0"
    middle = tmp_path / "whole" / folder / "step-00000004.safetensors"
    train.main(["--resume", str(middle), "--out", str(tmp_path / "again"), "--device", "cpu"])
    one, other = (load_file(tmp_path / d / folder / "best.safetensors") for d in ("whole", "again"))
    assert one.keys() == other.keys() and len(one) == 4
    for name in one:
        assert np.array_equal(one[name], other[name])


@pytest.mark.parametrize("rule", RULES)
def test_they_get_batches_of_nearly_everything_unless_told_otherwise(rule):
    for data in ("digits", "mnist"):
        c = configuration("mlp", dict(optimizer=rule, device="cpu", data=data))
        assert c.batch_size == 2048 and c.epochs == (10 if rule == "lbfgs" else 20)
    c = configuration("mlp", dict(optimizer=rule, device="cpu", batch_size=64, epochs=3))
    assert (c.batch_size, c.epochs) == (64, 3)
    assert configuration("transformer", dict(optimizer=rule, device="cpu")).batch_size == 16
    assert configuration("mlp", dict(optimizer="adam", device="cpu", data="mnist")).batch_size == 128


def test_they_have_one_group_of_all_parameters():
    c = configuration("mlp", dict(optimizer="lbfgs", device="cpu"))
    run = train.Run(c)
    (group,) = run.optimizer.param_groups
    assert sorted(group["param_names"]) == sorted(dict(run.model.named_parameters()))


def test_newton_says_that_the_mlp_is_too_large_for_it(tmp_path, capsys):
    with pytest.raises((SystemExit, ValueError)) as e:
        train.main(["--model", "mlp", "--device", "cpu", "--optimizer", "newton", "--out", str(tmp_path)])
    said = str(e.value) + capsys.readouterr().err
    assert "the Hessian of 4,810 parameters would take 185,088,800 bytes" in said and "NewtonCG" in said
