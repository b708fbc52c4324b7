"""Contestants run in turn, block by block, in one process: so that what disturbs one disturbs all.

race(steps, count, blocks)  ->  {contestant: times of its blocks, ms a step}
medians, ratios             ->  the figures of a table; the first contestant is ours
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Step = Callable[[], Any]
Times = dict[str, list[float]]


def threads(count: int) -> None:
    """Sets how many threads BLAS and OpenMP use: before NumPy is loaded, for that is when they ask."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(count)
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def race(steps: Mapping[str, Step], count: int, blocks: int, wait: Step = lambda: None) -> Times:
    """Each contestant runs a block of `count` steps in turn, `blocks` times after one that warms up.

    wait    until the device has done what was asked of it: at both ends of a block
    """
    times: Times = {who: [] for who in steps}
    for block in range(blocks + 1):
        for who, step in steps.items():
            wait()
            start = time.perf_counter()
            for _ in range(count):
                step()
            wait()
            if block:
                times[who].append((time.perf_counter() - start) / count * 1e3)
    return times


def medians(times: Times) -> dict[str, float]:
    """The median block of each, ms a step."""
    return {who: statistics.median(blocks) for who, blocks in times.items()}


def ratios(times: Times) -> dict[str, float]:
    """The median of (ours / theirs) block by block; ours is the first."""
    ours, *_ = times.values()
    pairs = {who: zip(ours, blocks, strict=True) for who, blocks in times.items() if blocks is not ours}
    return {who: statistics.median(a / b for a, b in both) for who, both in pairs.items()}
