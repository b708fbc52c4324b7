"""Warm-up, and how schedules are put together: in front of another, one after the other, per epoch.

A model just initialised has large gradients that mean little, and Adam's second moment is an average of few;
so the first steps are small: a straight ramp over the first 1 to 10 per cent of the run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from .decay import Schedule, constant, cosine, linear, positive, rising


def warmup(
    lr: float, steps: float, then: Schedule | None = None, offset: float = 0.0, initial: float = 0.0
) -> Schedule:
    """initial + (lr - initial) (t + offset) / (steps + offset) for t < steps, then then(t - steps), or lr.

    offset 0 begins at `initial`, with a first step of length 0 where that is 0; offset 1 is nanoGPT's form,
    (t + 1) / (steps + 1), whose first step already moves. Without steps it is `then` itself.
    ValueError unless steps + offset > 0 or steps is 0.
    """
    if steps != 0:
        positive("warmup", steps=steps)
    after = constant(lr) if then is None else then
    span = steps + offset
    return lambda t: initial + (lr - initial) * (t + offset) / span if t < steps else after(t - steps)


def warmup_constant(lr: float, warm: float, offset: float = 0.0, initial: float = 0.0) -> Schedule:
    """A ramp from initial to lr over `warm` steps, then lr. [optax's warmup_constant_schedule]"""
    return warmup(lr, warm, constant(lr), offset, initial)


def warmup_cosine(
    lr: float, warm: float, steps: float, floor: float = 0.0, offset: float = 0.0, initial: float = 0.0
) -> Schedule:
    """A linear warm-up over `warm` steps, then a cosine that reaches the floor at `steps` in all.

    ValueError unless 0 <= warm < steps. [optax's warmup_cosine_decay_schedule; with offset 1, nanoGPT's]

    >>> lr = warmup_cosine(1e-3, warm=5000, steps=100_000)
    >>> [round(lr(t), 7) for t in (0, 1000, 5000, 50_000, 100_000)]
    [0.0, 0.0002, 0.001, 0.0005413, 0.0]
    """
    ordered("warmup_cosine", warm, steps)
    return warmup(lr, warm, cosine(lr, steps - warm, floor), offset, initial)


def warmup_linear(
    lr: float, warm: float, steps: float, floor: float = 0.0, offset: float = 0.0, initial: float = 0.0
) -> Schedule:
    """A linear warm-up over `warm` steps, then a straight line to the floor at `steps` in all.

    ValueError unless 0 <= warm < steps. [Devlin et al. 2019, app. A.2]
    """
    ordered("warmup_linear", warm, steps)
    return warmup(lr, warm, linear(lr, steps - warm, floor), offset, initial)


def join(schedules: Sequence[Schedule], boundaries: Sequence[float]) -> Schedule:
    """schedules[k](t - boundaries[k - 1]), k the number of boundaries <= t: each counts from its own start.

    ValueError unless the boundaries rise and there is one schedule more. [optax's join_schedules]
    """
    if len(schedules) != len(boundaries) + 1:
        raise ValueError(
            f"join: {len(schedules)} schedules and {len(boundaries)} boundaries; it takes one schedule more"
        )
    rising("join", boundaries)
    parts, starts, ends = tuple(schedules), (0, *boundaries), tuple(boundaries)

    def joined(t: float) -> float:
        k = bisect_right(ends, t)
        return parts[k](t - starts[k])

    return joined


def per_epoch(schedule: Schedule, steps_per_epoch: float) -> Schedule:
    """schedule(floor(t / steps_per_epoch)): a schedule that counts epochs, asked by the step.

    ValueError unless steps_per_epoch > 0. It holds still for an epoch.
    """
    positive("per_epoch", steps_per_epoch=steps_per_epoch)
    return lambda t: schedule(t // steps_per_epoch)


def ordered(name: str, warm: float, steps: float) -> None:
    """ValueError unless the warm-up is shorter than the run."""
    if not 0 <= warm < steps:
        raise ValueError(f"{name}: a warm-up of {warm} steps in a run of {steps}; it must be shorter")
