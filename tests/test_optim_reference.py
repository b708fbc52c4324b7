"""What is printed and written about the optimizers comes from their registry."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.optim import __main__ as printed

ROOT = Path(__file__).resolve().parent.parent


def test_the_readme_has_the_registrys_table():
    assert printed.readme() in (ROOT / "README.md").read_text(), "python -m minigrad.optim --readme"


def test_the_reference_is_what_the_command_prints():
    assert (ROOT / "docs" / "optimizers.md").read_text() == printed.reference(), "... --reference"


def test_the_command_prints_the_table_and_pages(capsys):
    run = subprocess.run(
        [sys.executable, "-m", "minigrad.optim"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = run.stdout.splitlines()
    assert len(lines) == 2 + len(optim.zoo)
    assert all(line.startswith(name) for line, name in zip(lines[2:], optim.zoo, strict=True))
    assert printed.main(["adamw"]) == 0
    assert "decoupled_weight_decay" in capsys.readouterr().out
    assert printed.main(["adamx"]) == 2
    assert "no optimizer 'adamx'; there are Newton, SGD" in capsys.readouterr().err


@pytest.mark.parametrize(("rule", "state", "moved"), [("SGD", 0, 12), ("Adam", 8, 28), ("AdamW", 8, 28)])
def test_bytes_are_counted_from_the_text(rule, state, moved):
    assert (optim.zoo[rule].state_bytes, optim.zoo[rule].moved_bytes) == (state, moved)


def kept_after(rule, steps, n=6, **options):
    """Bytes of state a float32 parameter, after so many steps on n of them."""
    p = nn.Parameter(mg.tensor(np.linspace(1, 2, n), dtype="float32"))
    optimizer = optim.zoo[rule].make([p], **options)

    def closure():
        optimizer.zero_grad()
        loss = (p**4).sum()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    listed = [v for slot in optimizer.state[p].values() for v in (slot if isinstance(slot, list) else [slot])]
    return sum(v.array.nbytes for v in listed if isinstance(v, mg.Tensor) and v.numel() > 1) / n


def test_state_that_depends_on_more_than_the_rule_is_said_in_words():
    """A number measured on one problem would say nothing of another: 16,424 of 1,024 parameters."""
    for n in (6, 10):
        assert optim.zoo["CMAES"].state == "16 n and 40, n parameters"
        assert kept_after("CMAES", 2, n) == 16 * n + 40
    assert optim.zoo["LBFGS"].state == "8 and 8 a pair, of at most history_size"
    for pairs in (2, 3):
        assert kept_after("LBFGS", 5, history_size=pairs, max_iter=2) == 8 + 8 * pairs
    assert optim.zoo["BayesianOptimization"].state == "8 and 8 an evaluation"
    assert [kept_after("BayesianOptimization", k) for k in (1, 3)] == [16, 32]
    for rule in ("CMAES", "LBFGS", "BayesianOptimization"):
        state = optim.zoo[rule].state
        assert state in printed.cells(optim.zoo[rule]) and f"| {state} |" in printed.readme()
