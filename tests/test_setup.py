"""`make` on a machine as it may be: which Python, which driver, no network, an install cut short.

Nothing here reaches a package index: programs are stand-ins on PATH, packages are wheels written on the spot.
"""

import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETS = "core extras test cuda"
TARGETS = {"train", "test", "test-slow", "lint", "bench", "bench-gpu", "test-gpu", "help", "clean"}


@pytest.fixture
def environment():
    """tools/environment.py as a module."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools" / "environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the set-up consists of, to be changed at will."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "bin").mkdir()
    return tmp_path


def program(folder: Path, name: str, script: str) -> Path:
    """An executable shell script."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def call(*command, cwd=ROOT, path="", **variables):
    """Runs a command in a bare environment: `make test` itself hands its variables to what it starts."""
    kept = {key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR") if key in os.environ}
    path = path or os.environ["PATH"]
    run = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=kept | {"PATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return run.returncode, run.stdout, run.stderr


def recorder(checkout, version="3.12.4", name="python3", codes=""):
    """A stand-in for Python that says it is `version` and writes down what it is asked to run."""
    answer = f'if [ "$1" = -c ]; then echo "{version} $0"; exit 0; fi'
    return program(checkout / "bin", name, f'{answer}\necho "$*" >>{checkout}/asked\n{codes}\nexit 0')


def asked(checkout) -> list[str]:
    return (checkout / "asked").read_text().splitlines()


# ---- the Makefile


def test_help_lists_the_targets():
    status, listed, _ = call("make")
    assert status == 0
    assert set(re.findall(r"^  ([a-z-]+) {2,}\w", listed, re.M)) == TARGETS


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ([], ""),
        (["MODEL=mlp"], " --model mlp"),
        (["OPTIM=lion", "SCHEDULE=cosine"], " --optimizer lion --schedule cosine"),
        (["SEED=0", "DEVICE=cpu", "EPOCHS=3"], " --device cpu --seed 0 --epochs 3"),
        (["MODEL=mlp", "ARGS=--lr 1e-3 --help"], " --model mlp --lr 1e-3 --help"),
    ],
)
def test_train_passes_only_the_variables_that_are_set(given, passed):
    status, printed, _ = call("make", "-n", "train", *given)
    assert status == 0
    assert printed.splitlines()[-1].rstrip() == f".venv/bin/python train.py{passed}"


@pytest.mark.parametrize(
    ("target", "sets", "then"),
    [
        ("train", "core extras cuda", "train.py"),
        ("test", "core extras test cuda", "-m pytest -q -m not slow and not gpu"),
        ("test ORACLES=1", "core extras test cuda oracles peers ptx", "-m pytest -q -m not slow and not gpu"),
        ("test-slow", "core extras test cuda", "-m pytest -q -m slow and not gpu"),
        ("bench", "core extras cuda", "benchmarks/step.py"),
        ("bench ORACLES=1", "core extras cuda oracles", "benchmarks/step.py"),
        ("lint", "core lint", "-m mypy minigrad kernels models"),
    ],
)
def test_novenv_runs_the_given_python_and_installs_nothing(checkout, target, sets, then):
    python = recorder(checkout)
    status, _, error = call("make", *target.split(), "NOVENV=1", f"PYTHON={python}", cwd=checkout)
    assert status == 0, error
    assert asked(checkout)[0] == f"tools/environment.py check {sets}"
    assert asked(checkout)[-1] == then
    assert not (checkout / ".venv").exists()


def test_lint_formats_checks_and_types(checkout):
    call("make", "lint", "NOVENV=1", f"PYTHON={recorder(checkout)}", cwd=checkout)
    assert asked(checkout)[1:] == [
        "-m ruff format --check .",
        "-m ruff check .",
        "-m mypy minigrad kernels models",
    ]


def test_the_exit_status_of_train_reaches_the_caller(checkout):
    python = recorder(checkout, codes='case "$1" in train.py) exit 2;; esac')
    status, _, _ = call("make", "train", "NOVENV=1", f"PYTHON={python}", cwd=checkout)
    assert status == 2


@pytest.mark.parametrize(
    ("answer", "status", "tests"),
    [("exit 3", 0, False), ("exit 1", 2, False), ("exit 0", 0, True)],
    ids=["no GPU", "a GPU but no CuPy", "a GPU"],
)
def test_test_gpu(checkout, answer, status, tests):
    python = recorder(checkout, codes=f'case "$2" in gpu) {answer};; esac')
    assert call("make", "test-gpu", "NOVENV=1", f"PYTHON={python}", cwd=checkout)[0] == status
    assert ("-m pytest -q -m gpu" in asked(checkout)) == tests
    assert (f"tools/environment.py check {SETS}" in asked(checkout)) == tests  # only a GPU needs the packages


def test_novenv_names_what_is_missing(environment, monkeypatch):
    monkeypatch.setitem(environment.MODULES, "test", ("sys", "no_such_module"))
    with pytest.raises(environment.SetupError, match=r"has no no_such_module: .*-r requirements/test\.txt"):
        environment.check(["core", "test", "cuda"])


# ---- which Python


@pytest.mark.parametrize(
    ("version", "fits"), [("3.10.14", False), ("3.11.0", True), ("3.13.9", True), ("3.14.0", False)]
)
def test_python_of_3_11_to_3_13(checkout, version, fits):
    python = recorder(checkout, version)
    status, printed, error = call(ROOT / "tools/find-python", python)
    if fits:
        assert (status, printed.strip()) == (0, str(python))
    else:
        assert (status, printed) == (2, "")
        assert f"needs Python 3.11, 3.12 or 3.13; {python} is {version}" in error
        assert "PYTHON=" in error and error.count("\n") == 1


def test_another_python_on_path_is_taken_when_python3_does_not_fit(checkout):
    recorder(checkout, "3.9.2", "python3")
    program(checkout / "bin", "python3.13", "exit 127")  # a shim with nothing behind it
    fits = recorder(checkout, "3.12.1", "python3.12")
    assert call(ROOT / "tools/find-python", path=checkout / "bin")[:2] == (0, f"{fits}\n")


def test_no_python_that_fits_stops_make_with_one_line(checkout):
    python = recorder(checkout, "3.10.2")
    for novenv in ([], ["NOVENV=1"]):
        status, _, error = call("make", "test", f"PYTHON={python}", *novenv, cwd=checkout)
        assert status == 2
        assert error.startswith("minigrad needs Python 3.11, 3.12 or 3.13;")
        assert not (checkout / "asked").exists() and not (checkout / ".venv").exists()


# ---- which CuPy

SMI = """| NVIDIA-SMI 580.65.06      Driver Version: 580.65.06      CUDA Version: {} |"""


def smi(*lines, status=0):
    return "\n".join([*(f"echo '{line}'" for line in lines), f"exit {status}"])


@pytest.mark.parametrize(
    ("script", "chosen", "said"),
    [
        (smi("Sun Nov 22", SMI.format("13.0")), "cuda13", "CUDA 13.0: CuPy is cupy-cuda13x"),
        (smi("| NVIDIA-SMI 595.45  KMD Version: 595.79  CUDA UMD Version: 13.2 |"), "cuda13", "CUDA 13.2"),
        (smi(SMI.format("14.1")), "cuda13", "CUDA 14.1: CuPy is cupy-cuda13x"),
        (smi(SMI.format("12.4")), "cuda12", "CUDA 12.4: CuPy is cupy-cuda12x"),
        (smi(SMI.format("11.8")), None, "CUDA 11.8, CuPy 14 needs 12 or later (update the driver): CPU only"),
        (smi(SMI.format("N/A")), None, "names no CUDA version"),
        (
            smi("NVIDIA-SMI has failed because it could not talk to the driver.", status=9),
            None,
            "status 9 (NVIDIA",
        ),
        (smi(status=127), None, "status 127 (no output): CPU only"),
        ("exec sleep 30", None, "does not run"),
        (None, None, "no NVIDIA driver"),
    ],
)
def test_the_driver_chooses_the_wheel(environment, checkout, monkeypatch, script, chosen, said):
    monkeypatch.setenv("PATH", f"{checkout / 'bin'}:/bin:/usr/bin" if script else str(checkout / "bin"))
    monkeypatch.setattr(environment, "SMI_SECONDS", 1 if script == "exec sleep 30" else 60)
    if script:
        program(checkout / "bin", "nvidia-smi", script)
    wheel, line = environment.driver()
    assert wheel == chosen
    assert said in line and "\n" not in line
    assert line.endswith("CPU only") == (chosen is None)


def test_an_nvidia_smi_that_is_no_program(environment, checkout, monkeypatch):
    broken = program(checkout / "bin", "nvidia-smi", "")
    broken.write_bytes(b"\x7fELF and then nothing")
    monkeypatch.setenv("PATH", str(checkout / "bin"))
    wheel, line = environment.driver()
    assert wheel is None and "does not run" in line


def test_one_cupy_at_a_time(environment):
    names = ["core", "cuda", "oracles", "ptx"]
    assert environment.resolve(names, None) == ["core", "oracles", "ptx"]
    assert environment.resolve(names, "cuda12") == ["core", "cuda12", "oracles"]
    assert environment.resolve(names, "cuda13") == ["core", "cuda13", "oracles"]


def test_gpu_says_why_there_is_none(environment, monkeypatch, capsys):
    monkeypatch.setattr(environment, "driver", lambda: (None, "no NVIDIA driver: CPU only"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert environment.main(["gpu"]) == 3
    assert capsys.readouterr().out == "no GPU tests: no NVIDIA driver: CPU only\n"


def test_gpu_without_cupy_is_an_error(environment, monkeypatch):
    monkeypatch.setattr(environment, "driver", lambda: ("cuda13", "the NVIDIA driver runs CUDA 13.0"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(environment.SetupError, match=r"CuPy is not installed .*cupy-cuda13x\[ctk\]"):
        environment.main(["gpu"])


# ---- which torch


@pytest.mark.parametrize(
    ("needs", "reachable", "helps", "said"),
    [
        (["sympy"], False, False, ""),
        (["sympy", "nvidia-cublas==13.1"], True, True, ""),
        (["sympy", "nvidia-cublas==13.1"], False, False, "torch==2.13.0 comes with CUDA packages"),
    ],
    ids=["a CPU build is at hand", "PyTorch's index helps", "PyTorch's index is out of reach"],
)
def test_torch_without_cuda_where_possible(environment, monkeypatch, capsys, needs, reachable, helps, said):
    report = json.dumps({"install": [{"metadata": {"name": "torch", "requires_dist": needs}}]})
    monkeypatch.setattr(environment, "run_pip", lambda *arguments: (0, f"WARNING: a word first\n{report}"))
    if reachable:
        monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: io.BytesIO())
    else:
        monkeypatch.setattr(environment, "TORCH_CPU", "http://127.0.0.1:9")
    assert environment.torch_index() == (["--extra-index-url", environment.TORCH_CPU] if helps else [])
    assert said in capsys.readouterr().err


# ---- the requirement files


def test_every_requirement_is_pinned():
    files = sorted((ROOT / "requirements").glob("*.txt"))
    assert {path.stem for path in files} == {
        "core", "extras", "test", "lint", "oracles", "peers", "ptx", "cuda12", "cuda13"
    }  # fmt: skip
    loose = [
        f"{path.name}: {line}"
        for path in files
        for line in path.read_text().splitlines()
        if not line.startswith("#") and not re.fullmatch(r"[\w.-]+(\[\w+\])?==[\d.]+", line)
    ]
    assert loose == []


def test_sets_installed_side_by_side_agree():
    pins = {}
    for name in ("core", "extras", "test", "lint", "oracles", "peers", "ptx"):
        for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
            if not line.startswith("#"):
                project, version = line.split("==")
                pins.setdefault(project.lower(), set()).add(version)
    assert {project: versions for project, versions in pins.items() if len(versions) > 1} == {}


# ---- the virtual environment


def wheel(folder: Path, name: str, version: str, package: str = "") -> None:
    """The smallest wheel there is: a package, named like it or `package`, with its version."""
    info = f"{name}-{version}.dist-info"
    content = {
        f"{package or name}/__init__.py": f"__version__ = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**content, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)


class Local:
    """A checkout whose sets `core` and `lint` are the packages alpha and beta, from a folder of wheels."""

    def __init__(self, checkout):
        self.root, self.wheels = checkout, checkout / "wheels"
        self.wheels.mkdir()
        self.require("core", "alpha", "1.0")
        self.require("lint", "beta", "1.0")
        program(checkout / "bin", "nvidia-smi", "exit 9")

    def require(self, name, package, version):
        (self.root / "requirements" / f"{name}.txt").write_text(f"{package}=={version}\n")

    def install(self, *names, verb="install", **variables):
        offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        command = (sys.executable, "tools/environment.py", verb, *names)
        status, _, error = call(*command, cwd=self.root, path=path, **(offline | variables))
        return status, error

    def version(self, package):
        code = f"import {package}; print({package}.__version__)"
        return call(self.root / ".venv/bin/python", "-c", code, cwd=self.root)[1].strip()

    def stamps(self):
        return {path.name for path in (self.root / ".venv/.minigrad").iterdir()} - {"pip.log"}


@pytest.mark.slow
def test_an_install_is_done_once_and_taken_up_where_it_stopped(checkout):
    local = Local(checkout)
    wheel(local.wheels, "alpha", "1.0")

    status, said = local.install("core", "lint", "cuda")  # there is no wheel of beta yet
    assert status == 1
    assert "set-up failed: pip could not install requirements/lint.txt: No matching distribution" in said
    assert "nvidia-smi failed with status 9 (no output): CPU only" in said
    assert local.stamps() == {"core", "driver"}

    wheel(local.wheels, "beta", "1.0")
    status, said = local.install("core", "lint", "cuda")
    assert (status, said) == (0, "set-up: installing lint (requirements/lint.txt)\n")
    assert (local.version("alpha"), local.version("beta")) == ("1.0", "1.0")

    log = checkout / ".venv/.minigrad/pip.log"
    before = hashlib.sha256(log.read_bytes()).digest()
    assert local.install("core", "lint", "cuda") == (0, "")
    assert hashlib.sha256(log.read_bytes()).digest() == before  # pip was not asked again

    wheel(local.wheels, "alpha", "1.1")
    local.require("core", "alpha", "1.1")
    assert local.install("core", "lint") == (0, "set-up: installing core (requirements/core.txt)\n")
    assert local.version("alpha") == "1.1"

    (checkout / ".venv/.minigrad/core").unlink()  # as after an interruption: installed, but not stamped
    assert local.install("core", "lint") == (0, "set-up: installing core (requirements/core.txt)\n")


@pytest.mark.slow
def test_a_half_made_environment_is_made_anew(checkout):
    local = Local(checkout)
    wheel(local.wheels, "alpha", "1.0")
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to(checkout / "a/python/that/was/removed")
    status, said = local.install("core")
    assert status == 0 and "creating .venv with Python" in said
    assert local.version("alpha") == "1.0"

    (pip,) = (checkout / ".venv").glob("lib/python*/site-packages/pip")
    shutil.rmtree(pip)  # interrupted before ensurepip was through
    status, said = local.install("core")
    assert status == 0 and "creating .venv with Python" in said
    assert local.version("alpha") == "1.0"


@pytest.mark.slow
def test_a_driver_replaces_the_cupy_that_only_compiles(checkout):
    local = Local(checkout)
    wheel(local.wheels, "cupy_cuda13x", "1.0", package="cupy")
    wheel(local.wheels, "cupy_cuda12x", "2.0", package="cupy")
    local.require("ptx", "cupy-cuda13x", "1.0")
    local.require("cuda12", "cupy-cuda12x", "2.0")
    assert local.install("cuda", "ptx")[0] == 0
    assert local.version("cupy") == "1.0" and local.stamps() == {"driver", "ptx"}

    program(checkout / "bin", "nvidia-smi", smi(SMI.format("12.4")))
    status, said = local.install("cuda", "ptx")
    assert status == 0 and "CUDA 12.4: CuPy is cupy-cuda12x" in said
    assert local.version("cupy") == "2.0" and local.stamps() == {"driver", "cuda12"}
    assert [path.name for path in checkout.glob(".venv/lib/*/site-packages/cupy_*")] == [
        "cupy_cuda12x-2.0.dist-info"
    ]
    assert local.install("cuda", "ptx") == (0, "")


@pytest.mark.slow
def test_a_named_python_replaces_an_environment_of_another_version(checkout, environment, monkeypatch):
    local = Local(checkout)
    wheel(local.wheels, "alpha", "1.0")
    assert local.install("core")[0] == 0
    assert local.install("core", verb="reinstall") == (0, "")
    monkeypatch.setattr(environment, "PYTHON", checkout / ".venv/bin/python")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert environment.usable([version])
    assert not environment.usable([other for other in environment.SUPPORTED if other != version])


@pytest.mark.slow
def test_no_network_is_said_in_one_line(checkout):
    local = Local(checkout)
    unreachable = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    status, said = local.install("core", **unreachable)
    assert status == 1
    (line,) = [line for line in said.splitlines() if line.startswith("set-up failed")]
    assert "the package index cannot be reached (no network?)" in line and "NOVENV=1" in line
    assert "Traceback" not in said
