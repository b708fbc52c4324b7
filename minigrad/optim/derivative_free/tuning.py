"""tune: learning rates and their like, by any optimizer that needs no gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...tensor import Parameter, Tensor
from ..groups import number
from .bayes import BayesianOptimization


@dataclass(frozen=True)
class Tuned:
    """What was found: the best values, their loss, and all (values, loss) that were tried, in order."""

    values: dict[str, float]
    loss: float
    tried: list[tuple[dict[str, float], float]]


def tune(
    run: Callable[..., Any],
    space: Mapping[str, tuple],
    evaluations: int = 20,
    optimizer: Callable[[Any], Any] | None = None,
    seed: int = 0,
) -> Tuned:
    """The values in `space` for which run(**values) gives the lowest loss, after so many evaluations.

        found = tune(lambda lr: train(lr), {"lr": (1e-5, 1.0, "log")}, evaluations=15)
        found.values["lr"], found.loss

    space: name -> (low, high), or (low, high, "log") for what is searched by its order of magnitude, as
    learning rates are; then low > 0. run trains for a while and returns a loss, a number or a Tensor; one
    that is not finite counts as the worst. By default the first evaluation is in the middle.

    optimizer: makes the search over one parameter in [0, 1]^n, BayesianOptimization by default; for another,
    say optimizer=lambda params: CMAES(params, sigma=0.2). What it tries outside is moved to the edge. A step
    that takes several evaluations is finished, but only the first `evaluations` runs are made.
    """
    names = list(space)
    edges = [_edges(name, tuple(space[name])) for name in names]
    if not names:
        raise ValueError("tune: space is empty; name at least one value, as {'lr': (1e-5, 1.0, 'log')}")
    if evaluations < 1:
        raise ValueError(f"tune: Invalid evaluations: {evaluations}; it must be at least 1")
    place = Parameter(Tensor(np.full(len(names), 0.5)))
    if optimizer is None:
        search: Any = BayesianOptimization([place], bounds=(0.0, 1.0), seed=seed)
    else:
        search = optimizer([place])
    tried: list[tuple[dict[str, float], float]] = []

    def closure() -> float:
        if len(tried) >= evaluations:
            return math.inf
        u = np.clip(place.array, 0.0, 1.0)
        values = {name: _at(*edge, float(x)) for name, edge, x in zip(names, edges, u, strict=True)}
        loss = float(run(**values))
        tried.append((values, loss))
        return loss

    while len(tried) < evaluations:
        search.step(closure)
    values, loss = min(tried, key=lambda t: t[1] if math.isfinite(t[1]) else math.inf)
    return Tuned(values, loss, tried)


def _edges(name: str, given: tuple) -> tuple[float, float, bool]:
    """(low, high, by order of magnitude?) of one value, checked."""
    log = len(given) == 3 and given[2] == "log"
    if not (len(given) == 2 or log):
        raise ValueError(f"tune: space of {name!r} is {given!r}; it is (low, high) or (low, high, 'log')")
    low = number("tune", f"low of {name!r}", given[0], 0 if log else -math.inf, above=log)
    return low, number("tune", f"high of {name!r}", given[1], low, above=True), log


def _at(low: float, high: float, log: bool, u: float) -> float:
    """The value at a share u of the way from low to high, inside both."""
    found = low * (high / low) ** u if log else low + u * (high - low)
    return min(max(found, low), high)
