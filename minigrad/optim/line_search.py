"""How far to go along a direction d: searches on phi(t) = f(x + t d), t > 0, whose slope is phi'(t) = g . d.

    Armijo         phi(t) <= phi(0) + c1 t phi'(0)                       enough descent for the distance
    strong Wolfe   and |phi'(t)| <= c2 |phi'(0)|                         and past the steep part

`backtracking` halves t until the first holds. `strong_wolfe` goes out until an interval is known to contain
such a t, and then narrows it with the minimum of the cubic through values and slopes at both ends
[Nocedal & Wright 2006, algorithms 3.5 and 3.6, eq. 3.59].

Both take phi as a function t -> Point, the point at t = 0, and a first t. A loss or slope that is inf or nan
counts as +inf, without a slope: the search comes nearer by a tenth, then by halves. What they return is never
worse than the best point they have seen, the start included (t = 0: nothing better was found). They end after
max_evals evaluations, and before when the loss is at its rounding (`eps` of it) or the interval is narrower
than `resolution`: a float32 loss near its minimum is a staircase, on which the conditions may hold nowhere.
There the descent that Armijo asks for is less than a rounding; then no ascent and the slope
phi'(t) <= (1 - 2 c1) |phi'(0)| stand for it, as they do for a parabola [Hager & Zhang 2005, eq. 4.1].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Point:
    """A place on the line: distance t, loss f, its slope by t; `held` is what belongs to it, a gradient."""

    t: float
    f: float
    slope: float
    held: Any = None


@dataclass(frozen=True, slots=True)
class Found:
    """Where a search ended, after how many evaluations; why: "armijo", "wolfe", "stall", "evaluations"."""

    point: Point
    evaluations: int
    why: str

    @property
    def moved(self) -> bool:
        return self.point.t > 0


class _Search:
    """The evaluations of one search: it asks, counts and remembers the best."""

    def __init__(
        self,
        phi: Callable[[float], Point],
        start: Point,
        t: float,
        c1: float,
        c2: float,
        max_evals: int,
        eps: float,
    ):
        if not 0 < c1 < c2 < 1:
            raise ValueError(f"line search: c1 = {c1}, c2 = {c2}; they must be 0 < c1 < c2 < 1")
        if not start.slope < 0:
            raise ValueError(
                f"line search: the slope at the start is {start.slope:g}; the direction must go down, take "
                "-gradient"
            )
        if not (math.isfinite(start.f) and 0 < t < math.inf):
            raise ValueError(
                f"line search: starts at loss {start.f:g} with t = {t:g}; the loss must be finite, t > 0"
            )
        self.phi, self.start, self.best, self.left, self.asked = phi, start, start, max_evals, 0
        self.c1, self.c2, self.rounding = c1, c2, eps * abs(start.f)

    def ask(self, t: float) -> Point:
        self.left -= 1
        self.asked += 1
        p = self.phi(t)
        if not (math.isfinite(p.f) and math.isfinite(p.slope)):
            return Point(t, math.inf, math.nan)
        if (p.f, abs(p.slope)) < (self.best.f, abs(self.best.slope)):
            self.best = p
        return p

    def descends(self, p: Point) -> bool:
        """Armijo's condition; where its share is lost in rounding, that of the slope."""
        wanted = self.c1 * p.t * -self.start.slope
        if p.f <= self.start.f - wanted:
            return True
        level = wanted <= self.rounding and p.f <= self.start.f
        return level and p.slope <= (2 * self.c1 - 1) * self.start.slope

    def rises(self, low: Point, p: Point, towards: float) -> bool:
        """Is p no better than `low`? Of equal losses the slope decides, seen in the direction `towards`."""
        return p.f > low.f or (p.f == low.f and not p.slope * towards < 0)

    def levels(self, p: Point) -> bool:
        """The condition on the slope."""
        return abs(p.slope) <= -self.c2 * self.start.slope

    def end(self, why: str) -> Found:
        return Found(self.best, self.asked, why)


def backtracking(
    phi: Callable[[float], Point],
    start: Point,
    t: float = 1.0,
    c1: float = 1e-4,
    shrink: float = 0.5,
    max_evals: int = 25,
    eps: float = 2.3e-16,
) -> Found:
    """The first of t, shrink t, shrink^2 t, ... with enough descent; ValueError if the direction rises."""
    if not 0 < shrink < 1:
        raise ValueError(f"line search: shrink = {shrink}; it must be in (0, 1)")
    search = _Search(phi, start, t, c1, (1 + c1) / 2, max_evals, eps)
    while search.left > 0:
        p = search.ask(t)
        if search.descends(p):
            return search.end("armijo")
        if t * -start.slope <= search.rounding:  # all that is left to gain is a rounding
            return search.end("stall")
        t *= shrink
    return search.end("evaluations")


def strong_wolfe(
    phi: Callable[[float], Point],
    start: Point,
    t: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
    max_evals: int = 25,
    eps: float = 2.3e-16,
    resolution: float = 0.0,
) -> Found:
    """A t with both conditions; ValueError for a direction that rises."""
    search = _Search(phi, start, t, c1, c2, max_evals, eps)
    before = start
    while search.left > 0:
        p = search.ask(t)
        if not search.descends(p) or (before is not start and search.rises(before, p, 1.0)):
            return _zoom(search, before, p, resolution)
        if search.levels(p):
            return search.end("wolfe")
        if p.slope >= 0:
            return _zoom(search, p, before, resolution)
        t = _cubic(before, p, p.t + 0.01 * (p.t - before.t), 10 * p.t, search.rounding)  # still steep: out
        before = p
    return search.end("evaluations")


def _zoom(search: _Search, low: Point, high: Point, resolution: float) -> Found:
    """Narrow an interval: `low` has enough descent, and its slope goes down towards `high`."""
    crowded = False  # was the last t close to an end?
    widths = [math.inf, math.inf]
    level = 0  # how often the loss differed by its rounding only
    while search.left > 0:
        width = abs(high.t - low.t)
        if width <= max(resolution, 4e-16 * max(low.t, high.t)) or level > 5:
            return search.end("stall")
        left, right = min(low.t, high.t), max(low.t, high.t)
        if math.isinf(high.f):
            t = low.t + (0.1 if low is search.start else 0.5) * (high.t - low.t)
        elif width > 0.66 * widths[-2]:  # two steps took less than a third of it
            t = (left + right) / 2
        else:
            t = _cubic(low, high, left, right, search.rounding)
            if min(t - left, right - t) < 0.1 * width:
                if crowded or not left < t < right:
                    t = left + 0.1 * width if t - left < right - t else right - 0.1 * width
                crowded = not crowded
            else:
                crowded = False
        widths.append(width)
        p = search.ask(t)
        level += abs(p.f - low.f) <= search.rounding
        if search.rises(low, p, high.t - low.t) or not search.descends(p):
            high = p
            continue
        if search.levels(p):
            return search.end("wolfe")
        if p.slope * (high.t - low.t) >= 0:
            high = low
        low = p
    return search.end("evaluations")


def _cubic(a: Point, b: Point, left: float, right: float, rounding: float) -> float:
    """The minimum in [left, right] of the cubic with both points' values and slopes; the middle without.

    Where the values differ by rounding only, that of the parabola with both slopes.
    """
    middle = (left + right) / 2
    if math.isinf(a.f) or math.isinf(b.f):
        return middle
    if a.t > b.t:
        a, b = b, a
    if abs(a.f - b.f) <= rounding:
        rise = b.slope - a.slope
        return min(max(a.t - a.slope * (b.t - a.t) / rise, left), right) if rise > 0 else middle
    d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return middle
    d2 = math.sqrt(square)
    below = b.slope - a.slope + 2 * d2
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / below) if below else math.nan
    return min(max(t, left), right) if math.isfinite(t) else middle
