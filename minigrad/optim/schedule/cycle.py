"""Cycles: schedules that come back up: cyclical, one cycle, warm restarts.

A large learning rate from time to time leaves sharp minima and saddle points, and explores; the small ones in
between settle. One cycle does it once, with the momentum going the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import cos, log, pi

from .decay import Schedule, positive

# ---------------------------------------------------------------------------------------------- cyclical


def triangle(t: float, up: float, down: float) -> tuple[int, float]:
    """(cycle, height): which cycle of up + down steps t lies in, from 1, and 0 at its ends, 1 at its peak."""
    period, ratio = up + down, up / (up + down)
    cycle = int(1 + t // period)
    x = 1 + t / period - cycle  # how much of this cycle has passed
    return cycle, (x / ratio if x <= ratio else (x - 1) / (ratio - 1))


MODES: dict[str, Callable[[float, float, float], float]] = {
    "triangular": lambda cycle, t, gamma: 1.0,
    "triangular2": lambda cycle, t, gamma: 0.5 ** (cycle - 1),
    "exp_range": lambda cycle, t, gamma: gamma**t,
    "cosine": lambda cycle, t, gamma: 1.0,
}


def cyclical(
    low: float,
    high: float,
    up: float,
    down: float | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
) -> Schedule:
    """low + (high - low) h s: h goes 0 -> 1 in `up` steps and 1 -> 0 in `down` (as many), over and over.

    mode "triangular": s = 1; "triangular2": s halves from cycle to cycle; "exp_range": s = gamma^t;
    "cosine": s = 1 and (1 - cos(pi h)) / 2 for h, so that it rounds the corners.
    ValueError for another mode, up <= 0 or down < 0. [Smith 2017, sec. 3; torch's CyclicLR]
    """
    return _cycles("cyclical", up, down, mode, gamma, lambda part: low + (high - low) * part)


def cyclical_momentum(
    low: float,
    high: float,
    up: float,
    down: float | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
) -> Schedule:
    """high - (high - low) h s: the momentum that goes against cyclical's learning rate, low at its peak."""
    return _cycles("cyclical_momentum", up, down, mode, gamma, lambda part: high - (high - low) * part)


def _cycles(
    name: str, up: float, down: float | None, mode: str, gamma: float, at: Callable[[float], float]
) -> Schedule:
    positive(name, up=up)
    fall = up if down is None else down
    if not fall >= 0:
        raise ValueError(f"{name}: down is {down}; it must be at least 0")
    if mode not in MODES:
        raise ValueError(f"{name}: mode is {mode!r}; it is one of {', '.join(MODES)}")
    scale = MODES[mode]

    def value(t: float) -> float:
        cycle, height = triangle(t, up, fall)
        if mode == "cosine":
            height = (1 - cos(pi * height)) / 2
        return at(height * scale(cycle, t, gamma))

    return value


# ---------------------------------------------------------------------------------------------- one cycle

Phases = list[tuple[float, str, str]]  # (the step at which it ends, from, to), of initial, max and min


def phases(
    steps: float,
    pct_start: float = 0.3,
    three_phase: bool = False,
    placement: str = "torch",
    pct_final: float = 0.85,
) -> Phases:
    """The legs of one cycle over `steps` steps."""
    if placement == "torch":
        peak, back, last = pct_start * steps - 1, 2 * pct_start * steps - 2, steps - 1
    else:
        peak, back, last = int(pct_start * steps), int(pct_final * steps), steps
    if three_phase:
        return [(peak, "initial", "max"), (back, "max", "initial"), (last, "initial", "min")]
    return [(peak, "initial", "max"), (last, "max", "min")]


def annealed(start: float, end: float, x: float, anneal: str = "cos") -> float:
    """From start at x = 0 to end at x = 1: half a cosine, or a straight line."""
    if anneal == "cos":
        return end + (start - end) / 2 * (cos(pi * x) + 1)
    return (end - start) * x + start


def leg(t: float, ends: Sequence[float]) -> tuple[int, float]:
    """(k, x): which leg t lies in, and how much of it has passed; beyond the last end x is greater than 1."""
    start = 0.0
    for k, end in enumerate(ends):
        if t <= end or k == len(ends) - 1:
            break
        start = end
    return k, ((t - start) / (end - start) if end != start else 1.0)


def one_cycle(
    lr: float,
    steps: float,
    pct_start: float = 0.3,
    anneal: str = "cos",
    div: float = 25.0,
    final_div: float = 1e4,
    three_phase: bool = False,
    placement: str = "torch",
    pct_final: float = 0.85,
) -> Schedule:
    """lr/div -> lr -> lr/(div final_div), and there it stays; three_phase goes back to lr/div in between.

    The legs are half cosines (anneal "cos") or straight lines ("linear"). placement "torch" has the peak at
    step pct_start steps - 1 and the end at steps - 1 (29 and 99 of 100), the second leg of three as long as
    the first; "optax" at int(pct_start steps) and steps (30 and 100), and three legs part at pct_final.
    A leg for which so few steps leave no room is left out. ValueError for what is out of range.
    [Smith & Topin 2018; torch's OneCycleLR; optax's cosine_onecycle_schedule and, in three straight legs,
    linear_onecycle_schedule]
    """
    positive("one_cycle", div=div, final_div=final_div)
    points = {"initial": lr / div, "max": lr, "min": lr / div / final_div}
    return _legs("one_cycle", points, steps, pct_start, anneal, three_phase, placement, pct_final)


def one_cycle_momentum(
    steps: float,
    low: float = 0.85,
    high: float = 0.95,
    pct_start: float = 0.3,
    anneal: str = "cos",
    three_phase: bool = False,
    placement: str = "torch",
    pct_final: float = 0.85,
) -> Schedule:
    """The momentum of one_cycle: high -> low where the learning rate has its peak -> high, where it stays."""
    points = {"initial": high, "max": low, "min": high}
    return _legs("one_cycle_momentum", points, steps, pct_start, anneal, three_phase, placement, pct_final)


def _legs(
    name: str,
    points: Mapping[str, float],
    steps: float,
    pct_start: float,
    anneal: str,
    three_phase: bool,
    placement: str,
    pct_final: float,
) -> Schedule:
    positive(name, steps=steps)
    if not 0 <= pct_start <= 1:
        raise ValueError(f"{name}: pct_start is {pct_start}; it is a share of the steps, from 0 to 1")
    if anneal not in ("cos", "linear"):
        raise ValueError(f"{name}: anneal is {anneal!r}; it is 'cos' or 'linear'")
    if placement not in ("torch", "optax"):
        raise ValueError(f"{name}: placement is {placement!r}; it is 'torch' or 'optax'")
    legs = phases(steps, pct_start, three_phase, placement, pct_final)
    ends = [end for end, _, _ in legs]

    def value(t: float) -> float:
        k, x = leg(t, ends)
        _, start, end = legs[k]
        return annealed(points[start], points[end], x, anneal) if x < 1 else points[end]

    return value


# ---------------------------------------------------------------------------------------------- warm restarts


def restart(t: float, period: float, mult: float = 1) -> tuple[float, float]:
    """(passed, length): how far t is into its cycle, and how long that is: period mult^k for cycle k."""
    if mult == 1:
        return t % period, period
    while t >= period:
        t -= period
        period *= mult
    return t, period


def warm_restarts(
    lr: float, period: float, mult: float = 1, floor: float = 0.0, decay: float = 1.0
) -> Schedule:
    """A cosine from lr to floor over `period` steps, then again from lr over period mult, period mult^2, ...

    With decay cycle k begins at floor + (lr - floor) decay^k. ValueError unless period > 0 and mult >= 1.
    [Loshchilov & Hutter 2017, eq. 5, SGDR; torch's CosineAnnealingWarmRestarts; optax's sgdr_schedule]
    """
    positive("warm_restarts", period=period)
    if not mult >= 1:
        raise ValueError(f"warm_restarts: mult is {mult}; it must be at least 1")

    def value(t: float) -> float:
        passed, length = restart(t, period, mult)
        height = lr - floor
        if decay != 1:
            k = round(log(length / period, mult)) if mult > 1 else t // period
            height *= decay**k
        return floor + height * (1 + cos(pi * passed / length)) / 2

    return value
