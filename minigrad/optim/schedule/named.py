"""Schedules by name, with the same few arguments for all: what `--schedule` of a command line takes.

    named("cosine", lr=0.1, steps=1000, warm=50, floor=1e-4)

`lr` is the highest learning rate, `steps` the optimizer steps of the whole run, `warm` how many of them are a
linear warm-up in front, `floor` the learning rate that a decay ends at or does not go below. What a shape has
besides is an option with a default that suits the length of the run: the steps of `step`, `multi_step` and
the cycles are fractions of what follows the warm-up.

Two shapes are made of others: `chained` multiplies their factors, `sequential` joins them. A part is a name,
or a dictionary of name, options, and three shares that stand for themselves: `lr` and `floor` of the whole's
lr, `warm` of the part's own steps.

    named("sequential", lr=0.1, steps=1000, parts=["warmup_constant", "cosine"], at=[0.1])
    named("chained", lr=0.1, steps=1000, parts=["cosine", {"name": "step", "size": 300, "gamma": 0.5}])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import pairwise
from math import prod
from typing import Any

from . import cycle, decay
from .decay import Schedule, at_least, positive
from .warm import join, ordered, warmup


@dataclass(frozen=True)
class Shape:
    """A schedule as `named` makes it.

    make(lr, steps, floor, **options) is what follows the warm-up, over the steps that are left; floor is None
    where the caller gave none. `warm` is the share of the run that is warm-up where the caller says nothing.
    With `ramps`, make takes `warm` too, and has a ramp of its own.
    """

    make: Callable[..., Schedule]
    says: str
    warm: float = 0.0
    ramps: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The names of the shape's own options, and their defaults."""
        own = list(signature(self.make).parameters.values())[4 if self.ramps else 3 :]
        return {option.name: option.default for option in own}


def named(
    name: str,
    lr: float,
    steps: float,
    warm: float | None = None,
    floor: float | None = None,
    offset: float = 0.0,
    initial: float = 0.0,
    **options: Any,
) -> Schedule:
    """SCHEDULES[name] over `steps` optimizer steps in all; the first `warm` lead to where the shape begins.

    offset and initial are warmup's. ValueError for an unknown name, an option that the shape does not have, a
    warm-up that is not shorter than the run, and what the shape itself refuses.

    >>> lr = named("cosine", lr=1e-3, steps=100_000, warm=5000)
    >>> round(lr(50_000), 7)
    0.0005413
    >>> sorted(SCHEDULES["step"].options)
    ['gamma', 'size']
    """
    if name not in SCHEDULES:
        raise ValueError(f"no schedule is called {name!r}; there are {', '.join(SCHEDULES)}")
    shape = SCHEDULES[name]
    unknown = sorted(set(options) - set(shape.options))
    if unknown:
        known = ", ".join(shape.options) or "no options of its own"
        raise ValueError(f"{name}: no option is called {', '.join(unknown)}; it has {known}")
    positive(name, lr=lr, steps=steps)
    first = shape.warm * steps if warm is None else warm
    ordered(name, first, steps)
    if shape.ramps:
        return shape.make(lr, steps, floor, first, **options)
    then = shape.make(lr, steps - first, floor, **options)
    return warmup(then(0), first, then, offset, initial)


# ----------------------------------------------------------------------------------- what follows the warm-up


def _constant(lr: float, steps: float, floor: float | None) -> Schedule:
    return _floored(decay.constant(lr), floor)


def _step(
    lr: float, steps: float, floor: float | None, size: float | None = None, gamma: float = 0.1
) -> Schedule:
    return _floored(decay.step(lr, steps / 3 if size is None else size, gamma), floor)


def _multi_step(
    lr: float,
    steps: float,
    floor: float | None,
    milestones: Sequence[float] | None = None,
    gamma: float = 0.1,
) -> Schedule:
    marks = (steps / 2, steps * 3 / 4) if milestones is None else milestones
    return _floored(decay.multi_step(lr, marks, gamma), floor)


def _exponential(
    lr: float,
    steps: float,
    floor: float | None,
    gamma: float | None = None,
    rate: float | None = None,
    every: float = 1.0,
    staircase: bool = False,
) -> Schedule:
    if gamma is None and rate is None:  # lr / 100 at the end
        gamma = 0.01 ** (every / steps)
    return _floored(decay.exponential(lr, gamma, rate, every, staircase), floor)


def _inverse_time(
    lr: float, steps: float, floor: float | None, b: float | None = None, c: float = 1.0
) -> Schedule:
    b = steps / 10 if b is None else b
    positive("inverse_time", b=b)
    return _floored(decay.inverse_time(lr * b**c, b, c), floor)


def _robbins_monro(
    lr: float, steps: float, floor: float | None, b: float | None = None, c: float = 1.0
) -> Schedule:
    b = steps / 10 if b is None else b
    positive("robbins_monro", b=b)
    return _floored(decay.robbins_monro(lr * b**c, b, c), floor)


def _inverse_sqrt(lr: float, steps: float, floor: float | None, warm: float) -> Schedule:
    return _floored(decay.inverse_sqrt(lr, max(warm, 1.0)), floor)


def _polynomial(lr: float, steps: float, floor: float | None, power: float = 2.0) -> Schedule:
    return decay.polynomial(lr, steps, power, floor or 0.0)


def _linear(lr: float, steps: float, floor: float | None) -> Schedule:
    return decay.linear(lr, steps, floor or 0.0)


def _cosine(lr: float, steps: float, floor: float | None) -> Schedule:
    return decay.cosine(lr, steps, floor or 0.0)


def _half_cosine(lr: float, steps: float, floor: float | None) -> Schedule:
    return decay.half_cosine(lr, steps, floor or 0.0)


def _cyclical(mode: str) -> Callable[..., Schedule]:
    def make(
        lr: float,
        steps: float,
        floor: float | None,
        up: float | None = None,
        down: float | None = None,
        gamma: float | None = None,
    ) -> Schedule:
        low = lr / 4 if floor is None else floor  # Smith's lower bound: a third or a quarter of the upper
        if gamma is None:
            gamma = 0.1 ** (1 / steps) if mode == "exp_range" else 1.0
        return cycle.cyclical(low, lr, steps / 8 if up is None else up, down, mode, gamma)

    return make


def _one_cycle(
    lr: float,
    steps: float,
    floor: float | None,
    warm: float,
    anneal: str = "cos",
    div: float = 25.0,
    three_phase: bool = False,
    placement: str = "torch",
    pct_final: float = 0.85,
) -> Schedule:
    share = warm / steps if warm else 0.3
    last = 1e4 if floor is None else (lr / div / floor if floor else float("inf"))
    return cycle.one_cycle(lr, steps, share, anneal, div, last, three_phase, placement, pct_final)


def _warm_restarts(
    lr: float,
    steps: float,
    floor: float | None,
    period: float | None = None,
    mult: float = 2,
    decay: float = 1.0,
) -> Schedule:
    # three cycles of 1, mult and mult^2 periods fill the run
    return cycle.warm_restarts(
        lr, steps / (1 + mult + mult**2) if period is None else period, mult, floor or 0.0, decay
    )


# ---------------------------------------------------------------------------------------- made of others

Part = str | Mapping[str, Any]


def _chained(
    lr: float, steps: float, floor: float | None, parts: Sequence[Part] = ("cosine", "step")
) -> Schedule:
    """lr times the product of what each part makes of 1, all over the whole length."""
    factors = [_factor("chained", part, steps) for part in _listed("chained", "parts", parts)]
    return _floored(lambda t: lr * prod(factor(t) for factor in factors), floor)


def _sequential(
    lr: float,
    steps: float,
    floor: float | None,
    parts: Sequence[Part] = ("constant", "cosine"),
    at: Sequence[float] | None = None,
) -> Schedule:
    """lr times what part k makes of 1 from share at[k - 1] of the steps to at[k]; at None: equal shares.

    Each counts from its own start, and has the steps to its own end for its length.
    """
    parts = _listed("sequential", "parts", parts)
    count = len(parts)
    shares = [k / count for k in range(1, count)] if at is None else _listed("sequential", "at", at, 0)
    edges = (0, *shares, 1)
    if len(shares) != count - 1 or not all(low < high for low, high in pairwise(edges)):
        raise ValueError(
            f"sequential: at is {list(shares)} for {count} parts; it holds the shares of the run at which "
            f"the next part begins: {count - 1}, rising, between 0 and 1"
        )
    bounds = [round(share * steps, 6) for share in edges]  # 0.07 of 100 steps is 7, not 7.000000000000001
    factors = [
        _factor("sequential", part, end - start) for part, (start, end) in zip(parts, pairwise(bounds))
    ]
    joined = join(factors, bounds[1:-1])
    return _floored(lambda t: lr * joined(t), floor)


def _listed(shape: str, name: str, given: Any, least: int = 1) -> Sequence[Any]:
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence) or len(given) < least:
        raise ValueError(f"{shape}: {name} is {given!r}; it is a list, as parts=['constant', 'cosine']")
    return given


def _factor(shape: str, part: Part, steps: float) -> Schedule:
    """What a part makes of lr = 1 over its steps."""
    options: dict[str, Any] = {"name": part} if isinstance(part, str) else {}
    if isinstance(part, Mapping):
        options = dict(part)
    if not isinstance(options.get("name"), str):
        raise ValueError(f"{shape}: {part!r} is no part: a name, or a dictionary with a name and options")
    warm = options.pop("warm", None)
    return named(
        options.pop("name"), options.pop("lr", 1.0), steps, None if warm is None else warm * steps,
        options.pop("floor", None), **options,
    )  # fmt: skip


def _floored(schedule: Schedule, floor: float | None) -> Schedule:
    return schedule if floor is None else at_least(schedule, floor)


SCHEDULES: dict[str, Shape] = {
    "constant": Shape(_constant, "lr"),
    "step": Shape(_step, "a tenth (gamma) after every third of the run (size)"),
    "multi_step": Shape(_multi_step, "a tenth (gamma) at each of the milestones: half, three quarters"),
    "exponential": Shape(_exponential, "lr gamma^t, or e^(-rate t); a hundredth at the end"),
    "inverse_time": Shape(_inverse_time, "lr (b / (b + t))^c"),
    "robbins_monro": Shape(_robbins_monro, "lr (b / (b + t))^c, 1/2 < c <= 1"),
    "inverse_sqrt": Shape(_inverse_sqrt, "a ramp, then lr sqrt(warm / t)", warm=0.05, ramps=True),
    "polynomial": Shape(_polynomial, "(1 - t/T)^power down to the floor"),
    "linear": Shape(_linear, "a straight line down to the floor"),
    "cosine": Shape(_cosine, "half a cosine down to the floor"),
    "half_cosine": Shape(_half_cosine, "the cosine from lr / 2"),
    "triangular": Shape(_cyclical("triangular"), "up and down between floor and lr, four times"),
    "triangular2": Shape(_cyclical("triangular2"), "the same, half as high from cycle to cycle"),
    "exp_range": Shape(_cyclical("exp_range"), "the same, gamma^t as high"),
    "cosine_cycles": Shape(_cyclical("cosine"), "the same with rounded corners"),
    "one_cycle": Shape(_one_cycle, "lr/div up to lr, then down to the floor", ramps=True),
    "warm_restarts": Shape(_warm_restarts, "the cosine, again and again, mult times as long"),
    "warmup_constant": Shape(_constant, "a ramp over 5 % of the run, then lr", warm=0.05),
    "warmup_linear": Shape(_linear, "a ramp over 5 % of the run, then linear", warm=0.05),
    "warmup_cosine": Shape(_cosine, "a ramp over 5 % of the run, then cosine", warm=0.05),
    "chained": Shape(_chained, "the product of others (parts)"),
    "sequential": Shape(_sequential, "others (parts) one after the other, from shares (at)"),
}
