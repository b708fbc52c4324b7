"""What is printed and written about the optimizers comes from their registry."""

import subprocess
import sys
from pathlib import Path

import pytest

from minigrad import optim
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
