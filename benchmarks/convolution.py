"""How long convolutions and pools take, forward and backward, beside columns with BLAS and beside PyTorch.

    python benchmarks/convolution.py                     one thread, all layers
    python benchmarks/convolution.py --against nothing   without PyTorch

Each line is a layer with bias and ReLU, or a pool, float32, with gradients of everything but a first image:

    minigrad    one pass over the images (kernels/convolution.h), or the pool's twin in C++
    columns     im2col in chunks and a matrix product: what serves without a compiler
    torch       F.relu(F.conv2d(...)), F.max_pool2d

Before any time counts, outputs and gradients must agree. Contestants take turns; the figure is the median of
the thread's own time in ms, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

arguments = argparse.ArgumentParser(
    description="Time of convolutions and pools beside PyTorch's.", allow_abbrev=False
)
arguments.add_argument("--against", choices=["torch", "nothing"], default="torch", help="whom to run beside")
arguments.add_argument("--rounds", type=int, default=15, metavar="N", help="turns of each (default: 15)")
options = arguments.parse_args() if __name__ == "__main__" else arguments.parse_args([])
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # read once, when the libraries are loaded
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import kernels
import minigrad as mg
from minigrad.nn import functional as F

# name, (N, C, H, W), (O, C / groups, k, k), options
CONVOLUTIONS: list[tuple[str, tuple, tuple, dict]] = [
    ("W2, first layer", (64, 1, 28, 28), (32, 1, 3, 3), dict(padding=1)),
    ("W2, second", (64, 32, 28, 28), (64, 32, 3, 3), dict(padding=1)),
    ("W2, third", (64, 64, 14, 14), (64, 64, 3, 3), dict(padding=1, stride=2)),
    ("128 channels", (32, 128, 16, 16), (128, 128, 3, 3), dict(padding=1)),
    ("256 channels", (32, 256, 8, 8), (256, 256, 3, 3), dict(padding=1)),
    ("512 channels", (32, 512, 4, 4), (512, 512, 3, 3), dict(padding=1)),
    ("1 x 1", (16, 64, 56, 56), (64, 64, 1, 1), dict()),
    ("depthwise", (16, 64, 32, 32), (64, 1, 3, 3), dict(padding=1, groups=64)),
    ("5 x 5 of LeNet", (64, 6, 14, 14), (16, 6, 5, 5), dict()),
]
POOLS: list[tuple[str, tuple, dict]] = [
    ("max 2, W2's", (64, 64, 28, 28), dict(kernel_size=2)),
    ("max 3, stride 2", (64, 64, 28, 28), dict(kernel_size=3, stride=2, padding=1)),
    ("mean 2", (64, 64, 28, 28), dict(kernel_size=2)),
]


def layer(m: Any, arrays: list[np.ndarray], call: Callable, first: bool) -> Callable[[], list]:
    """A step of m: the output, and the gradients of the inputs for a fixed gradient of it."""
    tensors = [m.tensor(a) for a in arrays]
    for t in tensors[first:]:
        t.requires_grad_()
    g = m.ones(*call(*tensors).shape)

    def step() -> list:
        for t in tensors:
            t.grad = None
        y = call(*tensors)
        y.backward(g)
        return [y.detach(), *[t.grad for t in tensors if t.grad is not None]]

    return step


def convolution(shape: tuple, weight: tuple, settings: dict) -> dict[str, Callable]:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in (shape, weight, weight[:1])]
    first = shape[1] == 1
    ours = layer(mg, arrays, lambda *t: F.conv2d(*t, **settings, activation="relu"), first)
    return contestants(ours, lambda m: layer(m, arrays, lambda *t: _relu(m, t, settings), first))


def _relu(m: Any, tensors: tuple, settings: dict) -> Any:
    f = m.nn.functional
    return f.relu(f.conv2d(*tensors, **settings))


def pool(name: str, shape: tuple, settings: dict) -> dict[str, Callable]:
    arrays = [np.random.default_rng(0).standard_normal(shape).astype(np.float32)]
    function = "max_pool2d" if name.startswith("max") else "avg_pool2d"

    def make(m: Any) -> Callable:
        return layer(m, arrays, lambda x: getattr(m.nn.functional, function)(x, **settings), False)

    return contestants(make(mg), make)


def contestants(ours: Callable, theirs: Callable[[Any], Callable]) -> dict[str, Callable]:
    def on_numpy() -> list:
        with kernels.use("numpy"):
            return ours()

    found = {"minigrad": ours, "columns": on_numpy}
    if options.against == "torch":
        import torch

        torch.set_num_threads(1)
        found["torch"] = theirs(torch)
    return found


def race(name: str, steps: dict[str, Callable]) -> None:
    """One line of the table."""
    wanted = steps["minigrad"]()
    for who, step in steps.items():
        for a, b in zip(wanted, step(), strict=True):
            error = np.abs(a.numpy() - b.numpy()).max() / np.abs(a.numpy()).max()
            if error > 1e-4:
                raise SystemExit(f"{name}: minigrad and {who} differ by {error:.1e}")
    times: dict[str, list[float]] = {who: [] for who in steps}
    for _ in range(options.rounds):
        for who, step in steps.items():
            start = time.thread_time()
            step()
            times[who].append((time.thread_time() - start) * 1e3)
    medians = {who: statistics.median(t) for who, t in times.items()}
    columns = [f"{m:8.2f}" for m in medians.values()]
    ratio = f" | {medians['minigrad'] / medians['torch']:.2f}" if "torch" in medians else ""
    print(f"| {name:16} | {' | '.join(columns)}{ratio} |", flush=True)


def main() -> None:
    kernels.set_num_threads(1)
    peers = " | torch | ratio" if options.against == "torch" else ""
    print(f"| ms, 1 thread     | minigrad | columns{peers} |")
    for name, shape, weight, settings in CONVOLUTIONS:
        race(name, convolution(shape, weight, settings))
    for name, shape, settings in POOLS:
        race(name, pool(name, shape, settings))


if __name__ == "__main__":
    main()
