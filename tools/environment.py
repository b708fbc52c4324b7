"""Makes `.venv` what a target of the Makefile needs: `python -m venv`, then pip with pinned requirements.

    environment.py install SET...     create .venv where it is missing, then install the sets not there yet
    environment.py reinstall SET...   the same, but a .venv of another Python version is made anew
    environment.py check SET...       NOVENV=1: only look whether the running Python has what the sets hold
    environment.py gpu                status 0 and the name of the GPU, or 3 and one line why there is none

A set is a file requirements/SET.txt, and done when .venv/.minigrad/SET holds the file's hash.  That stamp is
written last: an interrupted install is taken up again by the next call, a finished one costs 0.2 s, an edited
file is installed anew.  The set `cuda` stands for cuda12 or cuda13, by what `nvidia-smi` says of the driver,
or for nothing; `ptx` (CuPy for compiling without a GPU) for nothing where one of those is installed.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMPS = VENV / ".minigrad"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
SUPPORTED = ("3.11", "3.12", "3.13")
CUPY = {
    "cuda12": "cupy-cuda12x",
    "cuda13": "cupy-cuda13x",
    "ptx": "cupy-cuda13x",
}  # only one may be installed
SMI_SECONDS = 60  # without a persistence daemon nvidia-smi starts the driver first
TORCH_CPU = "https://download.pytorch.org/whl/cpu"
# what `check` looks for: the modules of a set without which its target cannot start
MODULES = {
    "core": ("numpy", "tqdm"),
    "test": ("numpy", "pytest", "hypothesis"),
    "lint": ("ruff", "mypy"),
    "oracles": ("torch", "scipy"),
    "peers": ("optax", "pytorch_optimizer", "schedulefree", "prodigyopt", "sklearn"),
    "ptx": ("cupy",),
}


class SetupError(Exception):
    """One line for the user: what failed and the cure."""


def say(line):
    print(f"set-up: {line}", file=sys.stderr, flush=True)


# ---- which CUDA


def driver() -> tuple[str | None, str]:
    """(set of CuPy's wheel or None, one line that says why), from the CUDA version that nvidia-smi prints."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None, "no NVIDIA driver (no nvidia-smi on PATH): CPU only"
    try:
        run = subprocess.run([program], capture_output=True, text=True, timeout=SMI_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"nvidia-smi does not run ({error}): CPU only"
    if run.returncode != 0:
        said = (run.stdout + run.stderr).strip().splitlines() or ["no output"]
        return None, f"nvidia-smi failed with status {run.returncode} ({said[0].strip()}): CPU only"
    version = re.search(r"CUDA (?:UMD )?Version\s*:\s*(\d+)\.(\d+)", run.stdout)
    if version is None:
        return None, "nvidia-smi names no CUDA version (a driver without libcuda?): CPU only"
    major = int(version[1])
    named = f"the NVIDIA driver runs CUDA {version[1]}.{version[2]}"
    if major < 12:
        return None, f"{named}, CuPy 14 needs 12 or later (update the driver): CPU only"
    return f"cuda{min(major, 13)}", f"{named}: CuPy is {CUPY[f'cuda{min(major, 13)}']}"


def gpu() -> int:
    """Prints the GPU's name and returns 0, or why there is none and returns 3; raises if CuPy is broken."""
    chosen, why = driver()
    if importlib.util.find_spec("cupy") is None:
        if chosen is None:
            print(f"no GPU tests: {why}")
            return 3
        raise SetupError(
            f"{why}, but CuPy is not installed for {sys.executable}: pip install {CUPY[chosen]}[ctk]"
        )
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own classes, and ImportError for missing libraries
        if chosen is None:
            print(f"no GPU tests: {why}")
            return 3
        raise SetupError(f"{why}, but CuPy finds no device: {error}") from None
    if count == 0:
        print("no GPU tests: CuPy finds no CUDA device")
        return 3
    print(f"GPU tests on {cupy.cuda.runtime.getDeviceProperties(0)['name'].decode()}")
    return 0


# ---- the virtual environment


def install(names, versions) -> None:
    with locked():
        if not usable(versions):
            create()
        chosen, why = driver() if "cuda" in names else (None, "")
        note("driver", why)
        for name in resolve(names, chosen):
            if stamp(name) != digest(name):
                pip(name)
                note(name, digest(name), silent=True)


def resolve(names, chosen) -> list[str]:
    """The sets behind the names, given the driver's CuPy set or None."""
    names = [chosen if name == "cuda" else name for name in names]
    return [name for name in names if name and not (name == "ptx" and chosen)]


class locked:
    """Two set-ups in one folder wait for each other (where the system has flock)."""

    def __enter__(self):
        self.file = open(ROOT / ".venv.lock", "w")  # beside .venv, which may be cleared
        try:
            import fcntl

            fcntl.flock(self.file, fcntl.LOCK_EX)
        except ImportError:
            pass

    def __exit__(self, *_):
        self.file.close()


def usable(versions) -> bool:
    """Whether .venv has one of the Python versions, and pip: it lacks pip after an interrupted creation."""
    if not PYTHON.exists():
        return False
    probe = "import sys, pip; print(*sys.version_info[:2], sep='.')"
    run = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True)
    return run.returncode == 0 and run.stdout.strip() in versions


def create() -> None:
    say(f"creating .venv with Python {sys.version.split()[0]} ({sys.executable})")
    run = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True)
    if run.returncode != 0:
        said = (run.stdout + run.stderr).strip().splitlines()
        if any("ensurepip" in line for line in said):
            raise SetupError(
                f"{sys.executable} cannot make a virtual environment, its ensurepip is missing: apt install "
                "python3-venv, or name another Python (make TARGET PYTHON=/path/to/python3.12)"
            )
        raise SetupError(
            f"{sys.executable} -m venv failed: {said[-1] if said else f'status {run.returncode}'}"
        )
    STAMPS.mkdir()


def pip(name) -> None:
    """pip install -r requirements/NAME.txt; its whole output goes to .venv/.minigrad/pip.log."""
    say(f"installing {name} (requirements/{name}.txt)")
    (STAMPS / name).unlink(missing_ok=True)
    for other, wheel in CUPY.items():
        if name in CUPY and (STAMPS / other).exists():
            (STAMPS / other).unlink()
            if wheel != CUPY[name]:  # both own the folder cupy/
                run_pip("uninstall", "-y", wheel)
    extra = torch_index() if name == "oracles" else ["--no-deps"] if name == "peers" else []
    status, output = run_pip("install", "-r", str(ROOT / "requirements" / f"{name}.txt"), *extra)
    if status != 0:
        raise SetupError(
            f"pip could not install requirements/{name}.txt: {explain(output)}. The same command goes on "
            "from here; NOVENV=1 PYTHON=python3 installs nothing. pip's own words: .venv/.minigrad/pip.log"
        )


def run_pip(*arguments) -> tuple[int, str]:
    run = subprocess.run(
        [PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with open(STAMPS / "pip.log", "a") as log:
        log.write(f"$ pip {' '.join(arguments)}\n{run.stdout}\n")
    return run.returncode, run.stdout


def explain(output) -> str:
    """Why pip failed, in a line: the network, the disk, or pip's last ERROR."""
    unreachable = (
        "NewConnectionError",
        "Connection refused",
        "ProxyError",
        "timed out",
        "Temporary failure in name",
    )
    if any(sign in output for sign in unreachable):
        return "the package index cannot be reached (no network?)"
    if "No space left on device" in output:
        return "no space left on the disk"
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    return errors[-1].removeprefix("ERROR: ") if errors else "see its output"


def torch_index() -> list[str]:
    """PyTorch's CPU index as pip options, where the default one would bring gigabytes of CUDA packages."""
    torch = next(line for line in lines("oracles") if line.startswith("torch=="))
    status, output = run_pip("install", "--dry-run", "--no-deps", "--quiet", "--report", "-", torch)
    if status == 0:
        report, _ = json.JSONDecoder().raw_decode(output, output.index("{"))  # warnings may stand before it
        needs = [need for found in report["install"] for need in found["metadata"].get("requires_dist", ())]
        if not any(need.startswith("nvidia-") for need in needs):
            return []
    from urllib.request import urlopen

    try:
        urlopen(f"{TORCH_CPU}/torch/", timeout=10).close()
    except OSError as error:
        say(f"PyTorch's CPU index cannot be reached ({error}): {torch} comes with CUDA packages")
        return []
    return ["--extra-index-url", TORCH_CPU]


# ---- stamps


def lines(name) -> list[str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def digest(name) -> str:
    return hashlib.sha256("\n".join(lines(name)).encode()).hexdigest()


def stamp(name) -> str:
    path = STAMPS / name
    return path.read_text() if path.exists() else ""


def note(name, text, silent=False) -> None:
    """Write a stamp in one piece; says a text that is new."""
    if not text or stamp(name) == text:
        return
    if not silent:
        say(text)
    STAMPS.mkdir(exist_ok=True)
    partial = STAMPS / f"{name}.partial"
    partial.write_text(text)
    os.replace(partial, STAMPS / name)


def check(names) -> None:
    """NOVENV=1: a line about what the running Python lacks, instead of a traceback from the first import."""
    modules = [module for name in names for module in MODULES.get(name, ())]
    absent = [module for module in dict.fromkeys(modules) if importlib.util.find_spec(module) is None]
    if absent:
        files = [f"-r requirements/{name}.txt" for name in names if set(MODULES.get(name, ())) & set(absent)]
        raise SetupError(
            f"NOVENV=1: {sys.executable} has no {', '.join(absent)}: "
            f"{sys.executable} -m pip install {' '.join(files)}, or leave NOVENV out"
        )


def main(arguments) -> int:
    match arguments:
        case ["install", *names] if names:
            install(names, SUPPORTED)
        case ["reinstall", *names] if names:
            install(names, [f"{sys.version_info[0]}.{sys.version_info[1]}"])
        case ["check", *names] if names:
            check(names)
        case ["gpu"]:
            return gpu()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as error:
        sys.exit(f"set-up failed: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up interrupted: the same command goes on from here")
