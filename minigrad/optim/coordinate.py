"""Coordinate descent for any smooth loss; lasso.py has that of least squares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import Array, xp_of
from ..tensor import Tensor
from .flat import times
from .groups import Range
from .record import Record
from .whole import Objective, WholeVector


class CoordinateDescent(WholeVector):
    """x_j <- x_j + lr (S(h x_j - g_j, l1) / (h + l2) - x_j),   g_j = df/dx_j,  h = d^2 f / dx_j^2

    one coordinate after the other: on a quadratic with lr = 1 this is the minimum along x_j, and without
    penalties a sweep is one of Gauss and Seidel's on the normal equations. l1, l2 >= 0 add l1 |x|_1 +
    l2 |x|^2 / 2 to the closure's loss. h is the difference of two gradients over delta max(1, |x_j|), exact
    on a quadratic up to rounding; where it is not positive |h| is taken, at least 1e-6.

        optimizer.step(closure)      # closure: zero_grad, forward, backward, return the loss

    A step changes `coordinates` >= 1 of them (None: all) and calls the closure once, and twice for each.
    A move after which the loss with its penalties is higher or not finite is halved, at most 20 times, and
    left out then: the loss never rises by more than its rounding. selection: "cyclic"; "random", drawn from
    (seed, step); "greedy", the one of the steepest slope [Gauss-Southwell]. lr in (0, 2) for a quadratic.
    All evaluations of a step are of one function. state: step, and the next coordinate, `at`.
    [Tseng 2001, Convergence of a block coordinate descent method; Nesterov 2012 for random selection]
    """

    ranges = {
        "l1": Range("l1 value"),
        "l2": Range("l2 value"),
        "delta": Range("delta value", above=True),
    }
    record = Record(
        year=2001,
        paper="Tseng, Convergence of a block coordinate descent method for nondifferentiable minimization, "
        "J. Optim. Theory Appl. 109, 2001",
        latex=r"\theta_j \leftarrow \arg\min_{\theta_j} L(\theta) + \lambda_1|\theta_j|",
        oracles=("sklearn",),
        kind="global",
        needs=("closure",),
        launches="array code",
        proof="tests/test_coordinate.py",
        presets={"S3": {}, "greedy": dict(selection="greedy")},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        l1: float = 0.0,
        l2: float = 0.0,
        selection: str = "cyclic",
        coordinates: int | None = 1,
        delta: float = 1e-3,
        seed: int = 0,
    ):
        options = dict(lr=lr, l1=l1, l2=l2, selection=selection, coordinates=coordinates, delta=delta)
        super().__init__(params, options | dict(seed=seed))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["selection"] not in ("cyclic", "random", "greedy"):
            raise ValueError(
                f"CoordinateDescent: Invalid selection: {group['selection']!r}; it is 'cyclic', 'random' or "
                "'greedy'"
            )
        for name, least in (("coordinates", 1), ("seed", 0)):
            value = group[name]
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least
            if not whole and not (name == "coordinates" and value is None):
                raise ValueError(
                    f"CoordinateDescent: Invalid {name}: {value!r}; it must be a whole number of at "
                    f"least {least}"
                )

    def minimize(self, objective: Objective, group: dict[str, Any], memory: dict[str, Any]) -> None:
        flat, step = objective.flat, memory.get("step", 0) + 1
        loss, g = self.ask(objective)
        x, n = flat.read(), flat.size
        random = np.random.default_rng([int(group["seed"]), step])
        at = memory.get("at", 0)
        for _ in range(min(n, group["coordinates"] or n) if math.isfinite(loss) else 0):
            if group["selection"] == "cyclic":
                j, at = at, (at + 1) % n
            elif group["selection"] == "random":
                j = int(random.integers(n))
            else:
                j = self.steepest(x, g, group)
            x, loss, g = self.along(j, x, loss, g, objective, group)
        flat.write(x)
        memory["step"], memory["at"] = step, at

    def along(
        self, j: int, x: Array, loss: float, g: Array, objective: Objective, group: dict[str, Any]
    ) -> tuple[Array, float, Array]:
        """(x, loss, g) after the move along coordinate j; the same ones if no move is found that descends."""
        l1, l2, old, slope = float(group["l1"]), float(group["l2"]), float(x[j]), float(g[j])
        probe = x.copy()
        probe[j] += float(group["delta"]) * max(1.0, abs(old))
        beside, there = objective.at(probe)
        far = float(probe[j]) - old
        if not (math.isfinite(slope) and math.isfinite(beside) and far):
            return x, loss, g
        h = max(abs((float(there[j]) - slope) / far), 1e-6)
        z = h * old - slope
        move = float(group["lr"]) * (math.copysign(max(abs(z) - l1, 0.0), z) / (h + l2) - old)
        for _ in range(21 if move else 0):
            new = x.copy()
            new[j] = old + move
            found, slopes = objective.at(new)
            now = float(new[j])
            change = found - loss + l1 * (abs(now) - abs(old)) + 0.5 * l2 * (now * now - old * old)
            if change <= 4 * objective.eps * abs(loss):
                return new, found, slopes
            move /= 2
        return x, loss, g

    @staticmethod
    def steepest(x: Array, g: Array, group: dict[str, Any]) -> int:
        """The coordinate along which the loss with its penalties falls fastest."""
        xp, l1 = xp_of(x), x.dtype.type(group["l1"])
        g = g + times(float(group["l2"]), x)
        off = xp.where(x == 0, xp.maximum(xp.abs(g) - l1, x.dtype.type(0)), xp.abs(g + l1 * xp.sign(x)))
        return int(off.argmax())
