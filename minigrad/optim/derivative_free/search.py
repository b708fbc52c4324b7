"""Search: what methods share that ask for losses alone, no gradients.

step(closure) calls closure() at several places; it returns the loss and need not call backward. The search
itself is small beside the losses, so it runs on the host in float64, whatever the parameters are. Its random
numbers are a function of (seed, step): a search that is saved and loaded goes on to the same bits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend import to_host
from ...tensor import Tensor
from ..whole import Objective, WholeVector


class Search(WholeVector):
    """Base of the derivative-free optimizers: one vector x of all parameters, one group.

    step() returns the loss of the best point that it tried. `best` is the best of all steps. Frozen
    parameters (requires_grad=False) stay as they are; RuntimeError where all are. All points of a step are
    compared on one function: running statistics hold still and dropout draws the same masks; whether the data
    are the same is up to the closure. A loss that is nan counts as inf.
    """

    vectors: tuple[str, ...] = ("best",)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        seed = group["seed"]
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(
                f"{type(self).__name__}: Invalid seed: {seed!r}; it must be a whole number of at least 0"
            )

    def whole(self, name: str, value: Any, least: int) -> None:
        """ValueError unless an option is a whole number of at least so much."""
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(
                f"{type(self).__name__}: Invalid {name}: {value!r}; it must be a whole number of at least "
                f"{least}"
            )

    @property
    def best(self) -> tuple[float, list[Tensor]]:
        """(loss, parameters) of the best point so far; RuntimeError before the first finite loss."""
        params = self.param_groups[0]["params"]
        memory = self.own.get(params[0], {})
        if "best" not in memory:
            raise RuntimeError(f"{type(self).__name__} has no best point yet; make a step first")
        x, at, found = host(memory["best"]), 0, []
        for p in params:
            part = x[at : at + p.array.size].reshape(p.array.shape)
            found.append(Tensor(part.astype(p.array.dtype)).to(p.device))
            at += p.array.size
        return float(memory["best_loss"]), found

    def minimize(self, objective: Objective, group: dict[str, Any], memory: dict[str, Any]) -> None:
        x = host(Tensor(objective.flat.read()))
        step = memory.get("step", 0) + 1
        free = [np.full(p.array.size, p.requires_grad) for p in objective.flat.params]
        trial = Trial(objective, memory, np.concatenate(free), x)
        if x.size and not trial.free.any():
            raise RuntimeError(
                f"{type(self).__name__}: all parameters are frozen, and there is nothing to search; call "
                "requires_grad_(True) on those that it may move"
            )
        trial.go(self.search(trial, x, group, memory, np.random.default_rng([int(group["seed"]), step])))
        self.telling("ready")
        memory["step"] = step
        objective.loss = trial.loss

    def search(
        self, f: Trial, x: np.ndarray, group: dict[str, Any], memory: dict[str, Any], random: Any
    ) -> np.ndarray:
        """One step from x; where the parameters are to be after it."""
        raise TypeError(f"{type(self).__name__} defines no search")


class Trial:
    """x -> the closure's loss there, as a float; keeps the best of the step and of the run.

    free (n,): which elements belong to parameters with requires_grad. Frozen ones stay where they were at
    `start`, whatever x has there; the searches leave them out of their dimensions.
    """

    def __init__(self, objective: Objective, memory: dict[str, Any], free: np.ndarray, start: np.ndarray):
        self.objective, self.memory, self.free, self.start = objective, memory, free, start
        self.lowest = math.inf
        self.loss: Any = None

    def __call__(self, x: np.ndarray) -> float:
        x = self.go(x)
        value, _ = self.objective.here()
        value = math.inf if math.isnan(value) else value
        if self.loss is None or value < self.lowest:
            self.lowest, self.loss = value, self.objective.last
        if value < self.memory.get("best_loss", math.inf):
            self.memory["best_loss"], self.memory["best"] = value, Tensor(x)
        return value

    def go(self, x: np.ndarray) -> np.ndarray:
        """Set the parameters to x, but for frozen elements; where they are then."""
        x = np.where(self.free, x, self.start)
        self.objective.flat.write(x)
        return x

    def all(self, points: np.ndarray) -> np.ndarray:
        """The losses of the rows of a matrix."""
        return np.array([self(x) for x in points])


def host(t: Tensor) -> np.ndarray:
    """A Tensor of a state as a float64 array here."""
    return np.array(to_host(t.array), np.float64)
