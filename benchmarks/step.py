"""How long a training step takes, beside PyTorch, in one process and in alternating blocks.

    python benchmarks/step.py --against torch            all workloads, one thread
    python benchmarks/step.py --workloads w1-32 w5 --threads 2 --json out.json

Workloads (float32):
    w1-32, w1-128   MLP 784-256-128-10, cross-entropy, AdamW, batch 32 or 128: a whole step
    w5              1,000 adds and multiplies on 16 elements, forward and backward: the cost of recording
    adamw-197       AdamW alone on 197 tensors of 1.29M parameters in all
    adamw-10m       AdamW alone on one tensor of 10M parameters

Before any time counts, the losses of the first five steps must agree to 1e-4. Then each contestant runs a
block of steps in turn, nine times; what is printed is the median block, and the median of the ratios block by
block.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

arguments = argparse.ArgumentParser(
    description="Time of a training step beside PyTorch's.", allow_abbrev=False
)
arguments.add_argument("--against", choices=["torch", "nothing"], default="torch", help="whom to run beside")
arguments.add_argument(
    "--workloads", nargs="+", metavar="W", help="which of: w1-32 w1-128 w5 adamw-197 adamw-10m"
)
arguments.add_argument("--threads", type=int, default=1, metavar="N", help="threads of both (default: 1)")
arguments.add_argument("--blocks", type=int, default=9, metavar="N", help="alternating blocks (default: 9)")
arguments.add_argument("--json", metavar="FILE", help="write the figures there too")
options = arguments.parse_args() if __name__ == "__main__" else arguments.parse_args([])
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(options.threads)  # read once, when the libraries are loaded
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import kernels
import minigrad as mg
from minigrad.nn import functional as F
from models import MLP

Step = Callable[[], Any]  # one step; returns the loss, unread
SIZES = [784, 256, 128, 10]


def mlp_weights() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [s for i, o in pairwise(SIZES) for s in ((o, i), (o,))]
    return [(rng.uniform(-1, 1, s) / np.sqrt(s[-1])).astype(np.float32) for s in shapes]


def mlp_data(batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((batch, 784), np.float32), rng.integers(0, 10, batch)


def w1(batch: int) -> dict[str, Step]:
    """The MLP's step: minigrad, and PyTorch eager with its plain and its fused optimizer."""

    def ours() -> Step:
        model = MLP(SIZES)
        for p, w in zip(model.parameters(), mlp_weights(), strict=True):
            p.data = mg.tensor(w)
        optimizer = mg.optim.AdamW(model.parameters())
        x, y = (mg.tensor(a) for a in mlp_data(batch))

        def step() -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return step

    def theirs(fused: bool) -> Step:
        import torch

        layers: list[Any] = []
        for i, o in pairwise(SIZES):
            layers += [torch.nn.Linear(i, o), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers[:-1])
        with torch.no_grad():
            for p, w in zip(model.parameters(), mlp_weights(), strict=True):
                p.copy_(torch.from_numpy(w))
        optimizer = torch.optim.AdamW(model.parameters(), fused=fused or None)
        x, y = (torch.from_numpy(a) for a in mlp_data(batch))

        def step() -> Any:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return step

    return {
        "minigrad": ours(),
        **peers({"torch, fused": lambda: theirs(True), "torch": lambda: theirs(False)}),
    }


def w5() -> dict[str, Step]:
    """1,000 tiny operations, forward and backward: y <- y b, y <- y + x. The same lines for both."""

    def chain(lib: Any) -> Step:
        x = lib.ones(16, requires_grad=True)
        b = lib.full((16,), 0.99)

        def step() -> Any:
            x.grad = None
            y = x
            for _ in range(500):
                y = y * b
                y = y + x
            loss = y.sum()
            loss.backward()
            return loss

        return step

    return {"minigrad": chain(mg), **peers({"torch": lambda: chain(torch_module())})}


def adamw(shapes: list[tuple[int, ...]]) -> dict[str, Step]:
    """The optimizer alone: AdamW on parameters of these shapes."""
    rng = np.random.default_rng(2)
    values = [rng.standard_normal(s, np.float32) for s in shapes]
    grads = [rng.standard_normal(s, np.float32) for s in shapes]

    def stepper(lib: Any, **fused: Any) -> Step:
        params = [lib.from_numpy(v.copy()).requires_grad_() for v in values]
        optimizer = lib.optim.AdamW(params, **fused)
        for p, g in zip(params, grads, strict=True):  # gradients as backward leaves them
            (p * lib.from_numpy(g)).sum().backward()

        def step() -> Any:
            optimizer.step()
            return params[0].detach().reshape(-1)[0]

        return step

    return {"minigrad": stepper(mg), **peers({"torch, fused": lambda: stepper(torch_module(), fused=True)})}


def torch_module() -> Any:
    import torch

    return torch


def peers(makers: dict[str, Callable[[], Step]]) -> dict[str, Step]:
    return {} if options.against == "nothing" else {name: make() for name, make in makers.items()}


def small_tensors() -> list[tuple[int, ...]]:
    """197 shapes, biases among them, of 1.29M elements in all."""
    rng = np.random.default_rng(3)
    return [(int(n), 128) if k % 2 else (int(n),) for k, n in enumerate(rng.integers(60, 145, 197))]


WORKLOADS: dict[str, tuple[Callable[[], dict[str, Step]], int]] = {  # and the steps of a block
    "w1-32": (lambda: w1(32), 200),
    "w1-128": (lambda: w1(128), 100),
    "w5": (w5, 20),
    "adamw-197": (lambda: adamw(small_tensors()), 100),
    "adamw-10m": (lambda: adamw([(10_000_000,)]), 10),
}


def equal_losses(name: str, steps: dict[str, Step]) -> None:
    """The first five losses of all contestants agree to 1e-4, or there is nothing to time."""
    losses = {who: [float(step().detach()) for _ in range(5)] for who, step in steps.items()}
    ours = losses["minigrad"]
    for who, theirs in losses.items():
        if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-4):
            raise SystemExit(f"{name}: the losses differ: minigrad {ours}, {who} {theirs}")


def race(name: str, steps: dict[str, Step], count: int, blocks: int) -> dict[str, Any]:
    """{contestant: median ms a step, ratio of ours to it} over alternating blocks."""
    times: dict[str, list[float]] = {who: [] for who in steps}
    for block in range(blocks + 1):  # the first block warms up
        for who, step in steps.items():
            start = time.perf_counter()
            for _ in range(count):
                step()
            if block:
                times[who].append((time.perf_counter() - start) / count * 1e3)
    ours = times["minigrad"]
    result: dict[str, Any] = {"workload": name, "ms": {w: statistics.median(t) for w, t in times.items()}}
    result["ratio"] = {
        who: statistics.median(a / b for a, b in zip(ours, t, strict=True))
        for who, t in times.items()
        if t is not ours
    }
    return result


def main() -> None:
    names = options.workloads or list(WORKLOADS)
    unknown = [n for n in names if n not in WORKLOADS]
    if unknown:
        arguments.error(f"no workload {unknown[0]!r}; there are: {' '.join(WORKLOADS)}")
    mg.set_num_threads(options.threads)
    versions = {"python": platform.python_version(), "numpy": np.__version__, "kernels": kernels.machine()}
    if options.against == "torch":
        try:
            torch = torch_module()
        except ImportError:
            arguments.error("--against torch: torch is not installed; make bench ORACLES=1 installs it")
        torch.set_num_threads(options.threads)
        versions["torch"] = torch.__version__
    print(f"{options.threads} thread(s), {options.blocks} alternating blocks; {versions}")
    results = []
    for name in names:
        maker, count = WORKLOADS[name]
        steps = maker()
        equal_losses(name, steps)
        result = race(name, steps, count, options.blocks)
        results.append(result)
        shown = "   ".join(f"{who} {ms:.3f} ms" for who, ms in result["ms"].items())
        ratios = "   ".join(f"{r:.2f}x {who}" for who, r in result["ratio"].items())
        print(f"{name:10s} {shown}   ratio: {ratios}", flush=True)
    if options.json:
        report = {"threads": options.threads, "versions": versions, "results": results}
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
