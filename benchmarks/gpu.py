"""How long a whole training step takes on a GPU, beside PyTorch in five modes and JAX.

    python benchmarks/gpu.py                          what is not measured yet, the most telling first
    python benchmarks/gpu.py --minutes 9              the same, as far as it comes in so many minutes
    python benchmarks/gpu.py --rows H1 H5 --again     these rows anew
    python benchmarks/gpu.py --contestants jax        these, and ours beside them
    python benchmarks/gpu.py --report                 writes the table again from the figures
    python benchmarks/gpu.py --dry                    tiny networks on the CPU: does all run, to equal losses?

    H1  MLP 784-512-256-10, batch 128, 256, 512, 1024        TF32
    H2  GPT of 4 layers, width 128, 128 tokens, batch 16     TF32
    H3  GPT of 6 layers, width 384, 256 tokens, batch 8, 64  TF32 and bfloat16
    H4  ResNet-9, batch 128, 512                             TF32 and bfloat16
    H5  every elementwise optimizer on 10.7M parameters: GB/s, and its share of what a copy reaches

A step is all of it: the batch gathered from data on the device, forward, backward, clipping, AdamW.
Contestants start from the same weights and see the same batches. Each runs in a process of its own, ours
before and after the others (A-B-A): median, fastest and slowest of 7 windows of 200 steps, after 120. The
beginning, with compiling and capturing, is timed apart. No time counts where the losses of steps 1 and
100, or of 91 to 100 together, are not PyTorch's to 1e-3. Every contestant has its line, won or lost; what did
not run says why.

Figures go to benchmarks/results/gpu.json and gpu.md as they come; a later command on such a machine goes on
from there. `make bench-gpu NOVENV=1` runs it with the Python that has CuPy, torch and jax.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import importlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from headline.figures import problems
from headline.measure import DRY, Plan, measured
from headline.report import markdown
from headline.results import Results
from headline.run import Run
from headline.table import GROUPS, PARAMETERS, ROWS
from headline.work import Work

RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = {"minigrad": "ours", "torch": "torch_steps", "jax": "jax_steps"}
PACKAGES = {
    "minigrad": ("numpy", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cublas", "nvidia-cublas-cu12"),
    "torch": ("torch", "triton", "nvidia-cublas", "nvidia-cudnn-cu13"),
    "jax": ("jax", "jaxlib", "optax", "jax-cuda13-plugin", "jax-cuda12-plugin"),
    "rates": ("numpy", "torch", "cupy-cuda13x", "cupy-cuda12x"),
}
SMALL_BATCH, SMALL_VECTOR = 8, 5000  # of --dry


# ---- in a process of its own


def child(
    who: str, kind: str, precision: str, which: list[str], dry: bool, plan: Plan
) -> Iterator[dict[str, Any]]:
    """The figures of one contestant, by batch size; of the optimizers, by rule."""
    where = "cpu" if dry else "cuda"
    library, _, mode = who.partition(" ")
    if library == "rates":
        from headline import rates

        for found in rates.measured(which, SMALL_VECTOR if dry else PARAMETERS, where, plan):
            yield found | dict(versions=versions(library, where))
        return
    contestants = importlib.import_module(f"headline.{LIBRARIES[library]}")
    for size in which:
        work = Work(kind, SMALL_BATCH if dry else int(size), precision, dry)
        try:
            found = measured(contestants.contestant(work, mode, where), plan)
        except Exception as error:
            found = dict(error=f"{type(error).__name__}: {error}".splitlines()[0][:300])
        yield found | dict(versions=versions(library, where))


def versions(library: str, where: str) -> dict[str, str]:
    """Of what a contestant runs on."""
    found = {}
    for name in PACKAGES[library]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    if library == "torch":
        import torch

        found |= {
            "CUDA of torch": str(torch.version.cuda),
            "cuDNN of torch": str(torch.backends.cudnn.version()),
        }
    if library in ("minigrad", "rates") and where != "cpu":
        found |= minigrads()
    return found


def minigrads() -> dict[str, str]:
    """The libraries that minigrad itself has opened on the GPU."""
    from kernels.cuda import blas
    from minigrad.backends import cudnn

    found, opened = {"cuDNN of minigrad": str(cudnn.version()) if cudnn.enabled else "off"}, blas.library()
    if opened is not None:
        parts = [ctypes.c_int() for _ in range(3)]  # of libraryPropertyType: major, minor, patch
        for kind, part in enumerate(parts):
            opened.cublasGetProperty(kind, ctypes.byref(part))
        found["cuBLAS of minigrad"] = ".".join(str(part.value) for part in parts)
    return found


# ---- the command


def machine() -> dict[str, str]:
    """GPU and driver, and the computer around them."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    gpu = driver = memory = "none"
    with contextlib.suppress(OSError, subprocess.CalledProcessError, ValueError):
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        gpu, driver, memory = (part.strip() for part in said.splitlines()[0].split(","))
    return dict(
        gpu=gpu, driver=driver, memory=memory, python=platform.python_version(), system=platform.platform()
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time of a training step on a GPU.", allow_abbrev=False)
    add = parser.add_argument
    add("--rows", nargs="+", choices=ROWS, default=ROWS, help="which rows (default: all)")
    everybody = sorted({who for group in GROUPS for who in group.contestants[1:]})
    add("--contestants", nargs="+", choices=everybody, metavar="WHO",
        help=f"only these beside ours (default: all): {', '.join(everybody)}")  # fmt: skip
    add("--minutes", type=float, metavar="M", help="begin nothing that is not likely to end within M minutes")
    add("--again", action="store_true", help="measure what is measured already, too")
    add("--steps", type=int, default=Plan.steps, metavar="N", help="steps of a window (default: 200)")
    add("--out", type=Path, default=RESULTS, metavar="FOLDER", help="where gpu.json and gpu.md are")
    add("--report", action="store_true", help="write gpu.md from gpu.json, and measure nothing")
    add("--dry", action="store_true", help="tiny networks on the CPU, nothing is kept")
    add("--child", nargs="+", metavar="WORD", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.child:
        who, kind, precision, *which = options.child
        plan = DRY if options.dry else dataclasses.replace(Plan(), steps=options.steps)
        for found in child(who, kind, precision, which, options.dry, plan):
            print(json.dumps(found), flush=True)
        return 0
    place = options.out / "gpu.json"
    if options.report:
        kept = Results(place, json.loads(place.read_text())["machine"])
        kept.save(markdown(kept))
        return 0
    about = machine()
    if about["gpu"] == "none" and not options.dry:
        print("benchmarks/gpu.py: nvidia-smi shows no GPU; --dry runs the contestants on the CPU")
        return 0
    results = Results(None if options.dry else place, about)
    if results.other:
        print(f"{place.name} is of another machine, {results.other}: it will be written over")
    run = Run(results, options)
    for row in [row for row in ROWS if row in options.rows]:
        run.row(row)
    print(markdown(results))
    for left in run.left_out:
        print(f"left out for want of time: {left}")
    if options.dry:
        wrong = problems(results)
        print("\n".join(wrong) or "all ran, with equal losses")
        return int(bool(wrong))
    return 0


if __name__ == "__main__":
    sys.exit(main())
