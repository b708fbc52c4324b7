"""A foreign `kernels` or `models` that shadows minigrad's own: `import minigrad` names it, and the cure."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "minigrad"
CHECK = "from minigrad._guard import check; check(); print('ours')"


@pytest.fixture
def site(tmp_path):
    """A folder as pip would lay it out, with packages that hold nothing but the mark, and the real guard."""
    site = tmp_path / "site"
    for name in ("minigrad", "kernels", "models"):
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").write_text("__minigrad__ = True\n")
    shutil.copy(PACKAGE / "_guard.py", site / "minigrad")
    return site


def run(site, *before, code=CHECK):
    path = [str(folder) for folder in (*before, site)]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path}; {code}"]
    return subprocess.run(command, cwd=site.parent, capture_output=True, text=True, timeout=60)


def message(result) -> str:
    assert result.returncode == 1, result.stdout
    return result.stderr.splitlines()[-1]


def test_ours_pass(site):
    assert run(site).stdout == "ours\n"


@pytest.mark.parametrize("name", ["kernels", "models"])
@pytest.mark.parametrize("form", ["package", "module"])
def test_a_foreign_package_first_on_the_path_is_named(site, tmp_path, name, form):
    foreign = tmp_path / "theirs" / (f"{name}/__init__.py" if form == "package" else f"{name}.py")
    foreign.parent.mkdir(parents=True)
    foreign.write_text("raise SystemExit('the foreign package was run')\n")
    said = message(run(site, tmp_path / "theirs"))
    assert said.startswith("ImportError: ")
    assert str(foreign) in said and str(site / name) in said and f"PYTHONPATH={site}" in said


def test_a_folder_without_init_shadows_nothing(site, tmp_path):
    (tmp_path / "theirs" / "models").mkdir(parents=True)
    assert run(site, tmp_path / "theirs").stdout == "ours\n"


def test_a_distribution_installed_over_ours_is_named(site):
    (site / "kernels" / "__init__.py").write_text('"""Somebody else\'s kernels."""\n')
    said = message(run(site))
    assert f"{site / 'kernels' / '__init__.py'} is another distribution's 'kernels'" in said
    assert "reinstall minigrad" in said


def test_one_that_is_missing_is_named(site):
    shutil.rmtree(site / "models")
    said = message(run(site))
    assert "'models' was not found" in said and str(site / "models") in said


def test_import_minigrad_runs_the_check(tmp_path):
    """The whole of it: the real package, a foreign folder first on sys.path."""
    foreign = tmp_path / "kernels" / "__init__.py"
    foreign.parent.mkdir()
    foreign.write_text("")
    said = message(run(PACKAGE.parent, tmp_path, code="import minigrad"))
    assert said.startswith(f"ImportError: the name 'kernels' is taken by {foreign}")
