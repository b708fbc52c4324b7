"""Learning-rate schedules: pure functions of the number of completed optimizer steps, from 0.

A schedule is made once and called with the step: `cosine(1e-3, 1000)(0) == 1e-3`. It has no state, so a
resumed run asks the same question and gets the same answer. This file imports nothing but mathematics.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

Schedule = Callable[[float], float]


def constant(lr: float) -> Schedule:
    """lr"""
    return lambda t: lr


def cosine(lr: float, steps: float, floor: float = 0.0) -> Schedule:
    """floor + (lr - floor) (1 + cos(pi t / steps)) / 2; it stays at the floor after `steps`.

    [Loshchilov & Hutter 2017, eq. 5, without restarts]
    """
    _positive("cosine", steps=steps)
    return lambda t: floor + (lr - floor) * (1 + cos(pi * min(t / steps, 1.0))) / 2


def linear(lr: float, steps: float, floor: float = 0.0) -> Schedule:
    """From lr at 0 to floor at `steps`, in a straight line, and there it stays."""
    _positive("linear", steps=steps)
    return lambda t: lr + (floor - lr) * min(t / steps, 1.0)


def warmup(lr: float, steps: float, then: Schedule, offset: float = 0.0) -> Schedule:
    """lr (t + offset) / (steps + offset) for t < steps, from then on then(t - steps).

    offset 0 starts at 0; offset 1 is nanoGPT's form, whose first step already moves.
    """
    _positive("warmup", steps=steps + 1)
    return lambda t: lr * (t + offset) / (steps + offset) if t < steps else then(t - steps)


def warmup_cosine(lr: float, warm: float, steps: float, floor: float = 0.0, offset: float = 0.0) -> Schedule:
    """A linear warm-up over `warm` steps, then a cosine that reaches the floor at `steps` in all."""
    _ordered("warmup_cosine", warm, steps)
    return warmup(lr, warm, cosine(lr, steps - warm, floor), offset)


def warmup_linear(lr: float, warm: float, steps: float, floor: float = 0.0, offset: float = 0.0) -> Schedule:
    """A linear warm-up over `warm` steps, then a straight line to the floor at `steps` in all."""
    _ordered("warmup_linear", warm, steps)
    return warmup(lr, warm, linear(lr, steps - warm, floor), offset)


def _positive(name: str, **values: float) -> None:
    for what, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}: {what} is {value}; it must be positive")


def _ordered(name: str, warm: float, steps: float) -> None:
    if not 0 <= warm < steps:
        raise ValueError(f"{name}: a warm-up of {warm} steps in a run of {steps}; it must be shorter")
