"""The shape of the tree: imports run one way, files stay readable, `import minigrad` stays light.

    kernels <- minigrad.{backend,tensor,autograd,ops} <- nn, arena <- optim, data, amp <- models <- train.py

Read from the syntax trees, so that an import inside a function counts as well; `if TYPE_CHECKING:` does not.
"""

import ast
import os
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOPS = ("kernels", "minigrad", "models")
WIDTH = 110
CORE_LINES = 650  # tensor.py + autograd.py: the core reads alone

# the layers above the core; what stands in none of them is core (tensor, autograd, ops, dtypes, ...)
LAYERS = dict.fromkeys(("nn", "arena"), 2) | dict.fromkeys(
    (
        *("optim", "data", "amp", "backends", "cuda", "graph", "checkpoint", "serialization", "parallel"),
        *("training", "utils"),
    ),
    3,
)
DYNAMIC = ("import_module", "__import__")
KERNELS, CORE, FACE, MODELS, TRAIN = 0, 1, 4, 5, 6


def files(root=ROOT) -> list[Path]:
    """The Python files of the packages and train.py."""
    found = [path for top in TOPS for path in (root / top).rglob("*.py")]
    return sorted(found) + [path for path in [root / "train.py"] if path.exists()]


def dotted(path: Path, root=ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def runtime_nodes(tree):
    """All nodes but those below `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from runtime_nodes(node)


def imports(path: Path, root=ROOT):
    """Yields (line, module) for every import of a file, relative ones resolved.

    `from a import b` is a.b if that is a module of ours, else a.
    """
    package = dotted(path, root).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in runtime_nodes(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                inner = root.joinpath(*whole.split("."))
                ours = inner.with_suffix(".py").exists() or inner.is_dir()
                yield node.lineno, whole if ours else module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in DYNAMIC and node.args:
            yield node.lineno, ast.unparse(node.args[0]).removeprefix("f").strip("'")


def layer(module: str) -> int | None:
    """The layer of a module of ours, None for one that is not."""
    top, *rest = module.split(".")
    if top == "minigrad":
        return LAYERS.get(rest[0], CORE) if rest else FACE
    return {"kernels": KERNELS, "models": MODELS, "train": TRAIN}.get(top)


def pure(path: Path, root=ROOT) -> bool:
    """Whether a file holds schedules; the one that draws them is a program."""
    return not {"schedule", "schedules"}.isdisjoint(dotted(path, root).split(".")) and path.stem != "__main__"


def violations(root=ROOT) -> list[str]:
    """Every import that the law forbids, as 'file:line imports module: why'."""
    found = []
    for path in files(root):
        name = dotted(path, root)
        above = layer(name)
        for line, module in imports(path, root):
            below = layer(module)
            why = None
            if module.split(".")[0] in ("cupy", "cupyx", "cupy_backends"):
                if not name.startswith("kernels") and name != "minigrad.backend":
                    why = "only minigrad/backend.py and kernels/ know CuPy"
            elif (
                pure(path, root)
                and module.split(".")[0] not in sys.stdlib_module_names
                and not module.startswith("minigrad.optim.schedule.")
            ):
                why = "schedules are pure functions and import nothing"
            elif below is None or above is None:
                continue
            elif above == MODELS and below == KERNELS:
                why = "models are plain users of minigrad"
            elif below == FACE and name.startswith("minigrad") and above < FACE:
                why = "inside minigrad, import from the module that defines the name"
            elif name.startswith("minigrad.optim") and module.startswith("minigrad.nn"):
                why = "optim never imports nn"
            elif below > above:
                why = "imports run one way"
            if why:
                found.append(f"{path.relative_to(root)}:{line} imports {module}: {why}")
    return found


def test_imports_run_one_way():
    assert violations() == []


@pytest.mark.parametrize(
    ("path", "line", "why"),
    [
        ("kernels/a.py", "import minigrad", "one way"),
        ("kernels/a.py", "def f():\n    from minigrad.tensor import Tensor", "one way"),
        ("minigrad/tensor.py", "from .nn import Linear", "one way"),
        ("minigrad/tensor.py", "from . import nn", "one way"),
        ("minigrad/arena.py", "from .optim import SGD", "one way"),
        ("minigrad/ops/a.py", "from ..amp import autocast", "one way"),
        ("minigrad/nn/a.py", "from minigrad import Tensor", "defines the name"),
        ("minigrad/optim/sgd.py", "from ..nn import Module", "optim never imports nn"),
        ("minigrad/optim/schedules.py", "import numpy as np", "schedules"),
        ("minigrad/optim/schedule/decay.py", "from ...tensor import Tensor", "schedules"),
        ("minigrad/nn/a.py", "import models", "one way"),
        ("models/mlp.py", "from kernels import Elementwise", "plain users"),
        ("models/mlp.py", "import train", "one way"),
        ("minigrad/tensor.py", "import cupy as cp", "CuPy"),
        ("train.py", "import importlib\nimportlib.import_module('cupy')", "CuPy"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, path, line, why):
    for package in ("kernels", "minigrad/ops", "minigrad/nn", "minigrad/optim/schedule", "models"):
        (tmp_path / package).mkdir(parents=True)
    (tmp_path / path).write_text(line + "\n")
    (found,) = violations(tmp_path)
    assert found.startswith(path) and why in found


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("minigrad/backend.py", "import cupy\nfrom kernels import Elementwise"),
        ("kernels/cuda/blas.py", "import cupy"),
        ("minigrad/nn/a.py", "from ..tensor import Tensor\nfrom .. import ops"),
        ("minigrad/optim/sgd.py", "from ..arena import Arena"),
        ("minigrad/optim/schedules.py", "import math"),
        ("minigrad/optim/schedule/warm.py", "from .decay import cosine"),
        (
            "minigrad/tensor.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .nn import Module",
        ),
        ("models/mlp.py", "import minigrad as mg\nfrom minigrad import nn"),
        ("train.py", "import minigrad\nfrom models import mlp"),
    ],
)
def test_an_allowed_import_is_not(tmp_path, path, line):
    for package in ("kernels/cuda", "minigrad/ops", "minigrad/nn", "minigrad/optim/schedule", "models"):
        (tmp_path / package).mkdir(parents=True)
    (tmp_path / path).write_text(line + "\n")
    assert violations(tmp_path) == []


def test_only_declared_packages_are_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {name.rstrip(">=0123456789") for name in project["dependencies"]} == CORE_DEPENDENCIES
    allowed = {*sys.stdlib_module_names, *TOPS, *CORE_DEPENDENCIES, *OPTIONAL}
    foreign = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in files()
        for line, module in imports(path)
        if module.split(".")[0] not in allowed
    ]
    assert foreign == []


CORE_DEPENDENCIES = {"numpy", "tqdm", "safetensors", "ml_dtypes"}
OPTIONAL = {
    "cupy",
    "cupyx",
    "cupy_backends",
    "cuda",
    "matplotlib",
    "platformdirs",
    "threadpoolctl",
}  # extras; imported when used


def test_every_package_is_listed_for_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in files() if path.parent != ROOT}
    assert sorted(listed) == sorted(".".join(folder.parts) for folder in folders)
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()] == []


def test_lines_are_short():
    paths = [
        *files(),
        *(path for folder in ("tests", "benchmarks", "tools") for path in (ROOT / folder).rglob("*.py")),
    ]
    long = [
        f"{path.relative_to(ROOT)}:{number} has {len(line)} characters"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > WIDTH
    ]
    assert long == []


def test_the_core_is_short():
    count = {
        name: len((ROOT / "minigrad" / name).read_text().splitlines())
        for name in ("tensor.py", "autograd.py")
    }
    assert sum(count.values()) <= CORE_LINES, count


# ---- what `import minigrad` costs

PROBE = """
import sys, time
started = []
sys.addaudithook(lambda event, _: started.append(event) if event in EVENTS else None)
before = time.perf_counter()
import {module}
seconds = time.perf_counter() - before
status = open("/proc/self/status").readlines() if sys.platform == "linux" else ["VmRSS: 0 kB"]
(kilobytes,) = [line.split()[1] for line in status if line.startswith("VmRSS")]
print(seconds, int(kilobytes) / 1024, *started)
print(*sorted(sys.modules))
"""
EVENTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")
HEAVY = {"cupy", "torch", "scipy", "matplotlib", "ml_dtypes", "safetensors", "tqdm", "_pytest"}
IMPORT_SECONDS, IMPORT_MB = 0.2, 60
OF_MINIGRAD = """
    _guard anomaly autograd backend grad_mode hooks linalg ops public random separate size slot tensor threads
    unrolled
"""
FROM_KERNELS = "kernels kernels.cuda kernels.cuda.graph kernels.machines kernels.products"
FROM_PYTHON = "__future__ _heapq gc heapq importlib._abc importlib.util threading"
NUMPY_SECONDS = 0.14  # what a bare `import numpy` takes at most where the limit above was set (0.10 to 0.14)


def fresh_import(module, tmp_path):
    """(seconds, resident MB, programs started, modules loaded) of an import in a new interpreter."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(
        tmp_path / "pycache"
    )  # byte code is there from the second run on
    code = PROBE.replace("EVENTS", repr(EVENTS)).format(module=module)
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    figures, loaded = run.stdout.splitlines()
    seconds, megabytes, *started = figures.split()
    return float(seconds), float(megabytes), started, set(loaded.split())


def test_import_is_light(tmp_path):
    """Fast, small, and no program started.

    A shared machine can be slow for a while, so the time is the median of seven runs, each beside a bare
    `import numpy`; where NumPy alone is slower than NUMPY_SECONDS, the limit grows by the same factor.
    """
    fresh_import("minigrad", tmp_path)  # writes the byte code
    fresh_import("numpy", tmp_path)
    runs = [(fresh_import("minigrad", tmp_path), fresh_import("numpy", tmp_path)) for _ in range(7)]
    ours = statistics.median(mine[0] for mine, _ in runs)
    numpy = statistics.median(bare[0] for _, bare in runs)
    limit = IMPORT_SECONDS * max(1.0, numpy / NUMPY_SECONDS)
    assert ours < limit, f"import minigrad {ours:.3f} s (numpy alone {numpy:.3f} s), limit {limit:.3f} s"

    (_, megabytes, started, loaded), _ = runs[0]
    assert megabytes < IMPORT_MB
    assert started == []
    assert sorted(HEAVY & {name.split(".")[0] for name in loaded}) == []


def test_import_brings_the_core_alone(tmp_path):
    """No layer, no reader of kernel texts, little beyond what NumPy brings: seen without a clock."""
    loaded = fresh_import("minigrad", tmp_path)[3] - fresh_import("numpy", tmp_path)[3]
    ours = {name for name in loaded if name.split(".")[0] == "minigrad"}
    assert sorted({name.split(".")[1] for name in ours if "." in name}) == OF_MINIGRAD.split()
    assert sorted(name for name in loaded if name.split(".")[0] == "kernels") == FROM_KERNELS.split()
    foreign = {name for name in loaded - ours if name.split(".")[0] != "kernels"}
    assert sorted(foreign - set(FROM_PYTHON.split())) == []
