"""The wheel: builds, installs into a clean environment, imports from there, and carries its data.

Without a network: the build uses the setuptools at hand, and the clean environment sees the NumPy at hand
through a .pth file, which comes after the environment's own folder on sys.path. The repository is not on it.
"""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
TOPS = ("kernels", "minigrad", "models")

pytestmark = pytest.mark.slow

PROBE = """
import json, sys
import minigrad, kernels, models
from minigrad.data import embedded

found = {
    "places": [module.__file__ for module in (minigrad, kernels, models)],
    "digits": [part.shape for split in ("train", "test") for part in embedded.digits(split)],
    "fashion": [embedded.fashion(split)[0].shape for split in ("train", "test")],
    "text": len(embedded.shakespeare("train")) + len(embedded.shakespeare("validation")),
    "trained": minigrad.tensor([1.0, 2.0], requires_grad=True).square().sum().item(),
}
print(json.dumps(found))
"""


def run(*command, cwd):
    result = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what the build reads, so that the repository stays clean."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    for name in TOPS:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel")
    run(*pip, "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, folder / "source", cwd=folder)
    (built,) = folder.glob("minigrad-*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """The Python of a new environment that has the wheel and, from here, NumPy and the like."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=folder)
    python = folder / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-I", "-c", code, cwd=folder).strip())
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site / "dependencies.pth").write_text(f"{Path(np.__file__).resolve().parent.parent}\n")
    return python, site


def test_the_wheel_holds_the_packages_the_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name for name in names if ".dist-info/" not in name}
    tracked = {
        str(path.relative_to(ROOT))
        for top in TOPS
        for pattern in ("*.py", "*.h", "*.npz", "*.gz", "README.md")
        for path in (ROOT / top).rglob(pattern)
    }
    assert inside == tracked
    assert {f"minigrad/data/{name}" for name in ("digits8x8.npz", "fashion_small.npz", "README.md")} <= inside
    assert any(name.endswith("LICENSE") for name in names)


def test_it_imports_and_loads_its_data_in_a_clean_environment(clean, tmp_path):
    python, site = clean
    found = json.loads(run(python, "-I", "-c", PROBE, cwd=tmp_path))
    assert found == {
        "places": [str(site / name / "__init__.py") for name in ("minigrad", "kernels", "models")],
        "digits": [[1297, 8, 8], [1297], [500, 8, 8], [500]],
        "fashion": [[2000, 28, 28], [1000, 28, 28]],
        "text": 1_188_790,
        "trained": 5.0,
    }


def test_its_metadata_states_what_it_needs(clean, tmp_path):
    python, _ = clean
    code = "import importlib.metadata as m, json; print(json.dumps(dict(m.metadata('minigrad').json)))"
    stated = json.loads(run(python, "-I", "-c", code, cwd=tmp_path))
    assert (stated["license_expression"], stated["requires_python"]) == ("MIT", "<3.14,>=3.11")
    needs = [need for need in stated["requires_dist"] if "extra ==" not in need]
    assert sorted(needs) == ["ml_dtypes", "numpy>=2", "safetensors", "tqdm"]
    assert {"cuda12", "cuda13", "plots", "parallel"} <= set(stated["provides_extra"])
    assert 'cupy-cuda13x[ctk]>=14; extra == "cuda13"' in stated["requires_dist"]
