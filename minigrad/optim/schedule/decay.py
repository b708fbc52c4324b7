"""Decays: schedules that begin at lr and only fall. t counts completed optimizer steps, from 0.

    constant      lr
    step          lr gamma^floor(t / size)
    multi_step    lr gamma^(milestones passed)
    exponential   lr gamma^t = lr e^(-rate t)
    inverse_time  a / (b + t)^c
    inverse_sqrt  lr sqrt(warm / t), after a ramp
    polynomial    floor + (lr - floor) (1 - t/T)^power; linear is power 1
    cosine        floor + (lr - floor) (1 + cos(pi t/T)) / 2

What has an end T stays at its floor from there on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import cos, exp, pi
from math import floor as whole

Schedule = Callable[[float], float]


def constant(lr: float) -> Schedule:
    """lr"""
    return lambda t: lr


def step(lr: float, size: float, gamma: float = 0.1) -> Schedule:
    """lr gamma^floor(t / size): a tenth after every `size` steps, or gamma instead of a tenth.

    ValueError unless size > 0. [He et al. 2016, sec. 3.4: a tenth every 30 epochs; torch's StepLR]
    """
    positive("step", size=size)
    return lambda t: lr * gamma ** (t // size)


def multi_step(lr: float, milestones: Iterable[float], gamma: float = 0.1) -> Schedule:
    """lr gamma^k, k the number of milestones <= t; one that is given twice counts twice.

    [torch's MultiStepLR; optax's piecewise_constant_schedule with equal scales]
    """
    passed = sorted(milestones)
    return lambda t: lr * gamma ** bisect_right(passed, t)


def piecewise(values: Sequence[float], boundaries: Sequence[float]) -> Schedule:
    """values[k], k the number of boundaries <= t: values[0] before the first, values[-1] from the last on.

    ValueError unless the boundaries rise and there is one value more than boundaries.
    """
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"piecewise: {len(values)} values and {len(boundaries)} boundaries; it takes one value more"
        )
    rising("piecewise", boundaries)
    values, boundaries = tuple(values), tuple(boundaries)
    return lambda t: values[bisect_right(boundaries, t)]


def exponential(
    lr: float,
    gamma: float | None = None,
    rate: float | None = None,
    every: float = 1.0,
    staircase: bool = False,
) -> Schedule:
    """lr gamma^(t / every); `rate` says the same as lr e^(-rate t / every), so rate = -ln gamma.

    Give one of gamma, the factor per `every` steps (> 0), and rate, in 1 / (`every` steps). `staircase` takes
    floor(t / every) instead of t / every. ValueError for both or neither.
    [torch's ExponentialLR; optax's exponential_decay, whose transition_steps is `every`]
    """
    positive("exponential", every=every)
    if (gamma is None) == (rate is None):
        raise ValueError(f"exponential: gamma is {gamma} and rate is {rate}; give one of them")
    if gamma is not None:
        positive("exponential", gamma=gamma)
    factor = exp(-rate) if gamma is None else gamma  # type: ignore[operator]
    return lambda t: lr * factor ** (whole(t / every) if staircase else t / every)


def inverse_time(a: float, b: float = 1.0, c: float = 1.0) -> Schedule:
    """a / (b + t)^c, so a / b^c at the start.

    ValueError unless b > 0. Chainer's InverseShift lr (1 + gamma t)^(-c) is a = lr / gamma^c, b = 1 / gamma.
    """
    positive("inverse_time", b=b)
    return lambda t: a / (b + t) ** c


def robbins_monro(a: float, b: float = 1.0, c: float = 1.0) -> Schedule:
    """a / (b + t)^c with 1/2 < c <= 1: the sum over t diverges, the sum of squares does not.

    So the steps reach any distance, and the noise dies out. ValueError for c outside, where one of the two
    sums fails. [Robbins & Monro 1951, conditions (6) and (26)]
    """
    if not 0.5 < c <= 1:
        raise ValueError(
            f"robbins_monro: c is {c}; 1/2 < c <= 1 is what makes the sum of the steps infinite and the sum "
            "of their squares finite (inverse_time takes any c)"
        )
    positive("robbins_monro", a=a, b=b)
    return inverse_time(a, b, c)


def inverse_sqrt(lr: float, warm: float = 1.0) -> Schedule:
    """lr min((t + 1) / warm, sqrt(warm / (t + 1))): a ramp to lr at step `warm`, then 1 / sqrt.

    ValueError unless warm > 0. [Vaswani et al. 2017, sec. 5.3, eq. 3, scaled to a peak of lr]
    """
    positive("inverse_sqrt", warm=warm)
    return lambda t: lr * min((t + 1) / warm, (warm / (t + 1)) ** 0.5)


def noam(d_model: float, warm: float = 4000.0, factor: float = 1.0) -> Schedule:
    """factor d_model^(-1/2) min(n^(-1/2), n warm^(-3/2)), n = t + 1: inverse_sqrt with the paper's peak.

    [Vaswani et al. 2017, eq. 3, where steps are counted from 1]
    """
    positive("noam", d_model=d_model, warm=warm)
    return inverse_sqrt(factor * (d_model * warm) ** -0.5, warm)


def polynomial(lr: float, steps: float, power: float = 1.0, floor: float = 0.0) -> Schedule:
    """floor + (lr - floor) (1 - t / steps)^power; it stays at the floor after `steps`.

    ValueError unless steps > 0 and power >= 0. [torch's PolynomialLR, floor 0; optax's polynomial_schedule]
    """
    positive("polynomial", steps=steps)
    if not power >= 0:
        raise ValueError(f"polynomial: power is {power}; it must be at least 0")
    return lambda t: floor + (lr - floor) * (1.0 - min(t / steps, 1.0)) ** power


def linear(lr: float, steps: float, floor: float = 0.0) -> Schedule:
    """lr + (floor - lr) t / steps; it stays at the floor after `steps`. ValueError unless steps > 0."""
    positive("linear", steps=steps)
    return lambda t: lr + (floor - lr) * min(t / steps, 1.0) if t < steps else floor


def cosine(lr: float, steps: float, floor: float = 0.0) -> Schedule:
    """floor + (lr - floor) (1 + cos(pi t / steps)) / 2; it stays at the floor after `steps`.

    torch's class CosineAnnealingLR climbs again after T_max; optax's function stays, as this one.
    ValueError unless steps > 0. [Loshchilov & Hutter 2017, eq. 5, without restarts]
    """
    positive("cosine", steps=steps)
    return lambda t: floor + (lr - floor) * (1 + cos(pi * min(t / steps, 1.0))) / 2


def half_cosine(lr: float, steps: float, floor: float = 0.0) -> Schedule:
    """The cosine from half the height: cosine(lr / 2, steps, floor).

    An article's "0.5 x cosine schedule", read by the letter; where 0.5 is meant as the factor in front of
    (1 + cos), that is `cosine` itself.
    """
    return cosine(0.5 * lr, steps, floor)


def at_least(schedule: Schedule, floor: float) -> Schedule:
    """max(schedule(t), floor): a floor for a decay that has none of its own."""
    return lambda t: max(schedule(t), floor)


def positive(name: str, **values: float) -> None:
    """ValueError, naming function, argument and value, for a value that is not a number > 0."""
    for what, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}: {what} is {value}; it must be positive")


def rising(name: str, boundaries: Sequence[float]) -> None:
    """ValueError for boundaries that do not rise from one to the next."""
    if any(not low < high for low, high in pairwise(boundaries)):
        raise ValueError(
            f"{name}: boundaries are {list(boundaries)}; each must be greater than the one before"
        )
