"""One contestant: do its losses agree, and how long does a step take?

Twenty steps of beginning (compiling and capturing are timed there, apart), on to step 100 for its loss and
the mean of the ten up to it, twenty of warm-up, then seven windows of 200 steps: the host waits for the
device at their ends only.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class Contestant:
    """A step of a batch's numbers -> the loss on the device; the batches; how to wait for the device."""

    step: Callable[[Any], Any]
    batches: Sequence[Any]
    wait: Callable[[], Any]


@dataclass(frozen=True)
class Plan:
    """How many steps are made of what."""

    begin: int = 20
    checked: int = 100
    averaged: int = 10
    warm: int = 20
    windows: int = 7
    steps: int = 200


DRY = Plan(begin=4, checked=12, averaged=4, warm=1, windows=1, steps=2)


def measured(c: Contestant, plan: Plan) -> dict[str, Any]:
    """Losses of the first step, of step `checked` and before it, seconds of the beginning, us a step."""
    done = 0

    def steps(count: int) -> Any:
        nonlocal done
        for k in range(done, done + count):
            loss = c.step(c.batches[k % len(c.batches)])
        done += count
        return loss

    started = time.perf_counter()
    first = float(steps(1))
    steps(plan.begin - 1)
    c.wait()
    begin = time.perf_counter() - started
    steps(plan.checked - plan.averaged - plan.begin)
    last = [float(steps(1)) for _ in range(plan.averaged)]
    steps(plan.warm)
    times, hosts = [], []
    for _ in range(plan.windows):
        c.wait()
        started = time.perf_counter()
        steps(plan.steps)
        hosts.append((time.perf_counter() - started) / plan.steps * 1e6)
        c.wait()
        times.append((time.perf_counter() - started) / plan.steps * 1e6)
    losses = [first, last[-1], statistics.fmean(last)]
    return dict(losses=losses, begin_s=begin, times_us=times, host_us=statistics.median(hosts),
                why=getattr(c.step, "why", ""))  # fmt: skip
