"""The loss of a large vocabulary, forward and backward: time and memory, all scores at once and in chunks.

    python benchmarks/linear_classes.py                 one thread, all sizes, beside PyTorch
    python benchmarks/linear_classes.py --out results   writes results/linear_cross_entropy.md as well

A step is F.linear_cross_entropy(x (N, in), W (C, in), t) and backward, float32, gradients of x and W:

    minigrad        options=None: it takes `in` rows at a time where that saves memory
    whole           minigrad with all rows at once: cross_entropy(linear(x, W), t)
    torch           options=None, which is the same
    torch chunks    LinearCrossEntropyOptions(batch_chunk_size=in)

Losses and gradients must agree before any time counts. Contestants take turns; ms are the median of the
blocks, and the ratio is the median of ours / theirs. MB are what a process of its own held at most beyond
what it held before the step; the gradients, 4 in (N + C) bytes, are among them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import race

arguments = argparse.ArgumentParser(
    description="Time and memory of linear_cross_entropy beside PyTorch's.", allow_abbrev=False
)
arguments.add_argument("--blocks", type=int, default=5, metavar="N", help="turns of each (default: 5)")
arguments.add_argument("--out", metavar="DIR", help="a folder for the table")
arguments.add_argument("--memory", nargs=2, metavar=("SIZES", "WHO"), help=argparse.SUPPRESS)
options = arguments.parse_args()
race.threads(1)

import numpy as np

WHO = ("minigrad", "whole", "torch", "torch chunks")
SIZES = [(1024, 128, 65), (1024, 128, 1000), (1024, 128, 4096), (2048, 256, 16384), (2048, 512, 32000)]


def step_of(who: str, n: int, inputs: int, classes: int) -> Callable[[], list]:
    """A step: the loss and both gradients."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, inputs), np.float32)
    w = rng.standard_normal((classes, inputs), np.float32) / np.float32(inputs**0.5)
    t = rng.integers(0, classes, n)
    m: Any
    if who.startswith("torch"):
        import torch as m

        m.set_num_threads(1)
        leaves = [m.from_numpy(a).requires_grad_() for a in (x, w)]
        target, chosen = m.from_numpy(t), dict(batch_chunk_size=inputs) if who == "torch chunks" else None
    else:
        import minigrad as m

        leaves = [m.tensor(a, requires_grad=True) for a in (x, w)]
        target, chosen = m.tensor(t), dict(chunking_method=None) if who == "whole" else None
    given = None if chosen is None else m.nn.LinearCrossEntropyOptions(**chosen)

    def step() -> list:
        for leaf in leaves:
            leaf.grad = None
        loss = m.nn.functional.linear_cross_entropy(*leaves, target, options=given)
        loss.backward()
        return [loss.detach(), *[leaf.grad for leaf in leaves]]

    return step


def held(word: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(word)) * 1024


def memory(who: str, sizes: tuple[int, int, int]) -> float:
    """MB of two steps, in a process of their own; printed there."""
    if options.memory is None:
        given = [sys.executable, __file__, "--memory", ",".join(map(str, sizes)), who]
        return float(subprocess.run(given, check=True, capture_output=True, text=True).stdout)
    step_of(who, 256, 16, 32)()  # libraries are loaded, texts compiled
    step_of(who, 64, 16, 32)()
    step = step_of(who, *sizes)
    before = held("VmRSS")
    for _ in range(2):
        step()
    return (held("VmHWM") - before) / 1e6


def check(sizes: tuple[int, int, int], steps: dict[str, Callable[[], list]]) -> None:
    """Raise where a contestant's loss or gradient is another."""
    found = {who: [np.asarray(a.numpy()) for a in step()] for who, step in steps.items()}
    for who, results in found.items():
        for ours, theirs in zip(results, found["whole"], strict=True):
            off = np.abs(ours - theirs).max() / np.abs(theirs).max()
            if off > 2e-5:
                raise SystemExit(f"{sizes}: {who} differs by {off:.1e} of the largest entry")


def main() -> None:
    if options.memory is not None:
        sizes, who = options.memory
        print(memory(who, tuple(map(int, sizes.split(",")))))
        return
    lines = ["| N, in, C | " + " | ".join(WHO) + " | ours / torch | ours / torch chunks |", "|---" * 7 + "|"]
    for sizes in SIZES:
        steps = {who: step_of(who, *sizes) for who in WHO}
        check(sizes, steps)
        times = race.race(steps, 1 if sizes[2] > 9000 else 5, options.blocks)
        medians, ratios = race.medians(times), race.ratios(times)
        cells = [f"{medians[who]:.1f} ms, {memory(who, sizes):.0f} MB" for who in WHO]
        cells += [f"{ratios[who]:.2f}" for who in WHO[2:]]
        lines.append(f"| {', '.join(map(str, sizes))} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if options.out:
        table = "\n".join(["linear_cross_entropy forward and backward, float32, one thread", "", *lines, ""])
        (Path(options.out) / "linear_cross_entropy.md").write_text(table)


if __name__ == "__main__":
    main()
