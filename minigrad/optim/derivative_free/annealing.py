"""Simulated annealing: a random walk that goes downhill always, uphill while it is hot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..groups import Range
from ..record import Record
from .search import Search, Trial

SCHEDULES = {
    "geometric": lambda start, cooling, k: start * cooling**k,
    "fast": lambda start, cooling, k: start / (1 + k),
    "logarithmic": lambda start, cooling, k: start * math.log(2) / math.log(2 + k),
}


class SimulatedAnnealing(Search):
    """x' = x + scale z;  x <- x' with probability min(1, exp(-(f(x') - f(x)) / T)),  T falling; z ~ N(0, I)

        optimizer.step(closure)      # closure: forward, return the loss; once a step, at the first step twice

    The parameters are the walker's, which goes uphill while it is hot, by design: what was found is
    `optimizer.best`, (loss, parameters), the best of all that it saw.

    temperature >= 0 is T at the first step, in the unit of the loss; 0 accepts no rise at all. By default it
    is |f(x0)| / n for the first finite loss (1 / n, if that is 0) and n elements: at temperature T a walk on
    a quadratic stays n T / 2 above the minimum on average, here half of where it began, while T = 1 would
    carry a thousand elements to 500. schedule says how T falls with k, the number of steps made: "geometric"
    T cooling^k, with cooling in (0, 1]; "fast" T / (1 + k), with moves from Cauchy's distribution, among
    which far ones are never rare, z / |N(0, 1)| [Szu & Hartley 1987]; "logarithmic" T ln 2 / ln(2 + k), which
    finds the global minimum of a bounded problem almost surely if the first T is large enough, and takes for
    ever [Hajek 1988].

    scale > 0 is the length of a move of each element; by default 0.3 of the parameters' root mean square at
    the first step, 0.3 if they are all zero. Unless adapt is False, it follows the moves: longer after an
    accepted one, shorter after another, so that `accept` in (0, 1) of them are accepted in the long run [in
    the spirit of Corana et al. 1987]. noisy=True asks for f(x) anew at each step, for losses that change from
    call to call, as those of minibatches do, or when the parameters were set by hand.

    A loss that is not finite is never accepted, but left at once. seed >= 0: the draws are a function of it
    and the step.
    [Metropolis et al. 1953; Kirkpatrick, Gelatt & Vecchi 1983]
    """

    ranges = {
        "temperature": Range("temperature value"),
        "scale": Range("scale value", above=True),
    }
    record = Record(
        year=1983,
        paper="Kirkpatrick, Gelatt & Vecchi, Optimization by simulated annealing, Science 220, 1983",
        latex=r"P(\theta \leftarrow \theta') = \min\big(1, e^{-(L(\theta') - L(\theta)) / T_k}\big)",
        oracles=(),
        kind="global",
        needs=("closure", "no gradient"),
        launches="array code on the host",
        proof="tests/test_derivative_free.py",
        presets={"S3": {}, "fast": dict(schedule="fast"), "hajek": dict(schedule="logarithmic")},
    )

    def __init__(
        self,
        params: Any,
        temperature: float | None = None,
        scale: float | None = None,
        schedule: str = "geometric",
        cooling: float = 0.99,
        adapt: bool = True,
        accept: float = 0.3,
        noisy: bool = False,
        seed: int = 0,
    ):
        options = dict(temperature=temperature, scale=scale, schedule=schedule, cooling=cooling)
        super().__init__(params, options | dict(adapt=adapt, accept=accept, noisy=noisy, seed=seed))

    def check(self, group: dict[str, Any]) -> None:
        derived = ("temperature", "scale")  # None asks for what fits loss and parameters
        super().check({k: v for k, v in group.items() if k not in derived or v is not None})
        if group["schedule"] not in SCHEDULES:
            raise ValueError(
                f"SimulatedAnnealing: Invalid schedule: {group['schedule']!r}; it is one of "
                f"{', '.join(SCHEDULES)}"
            )
        if not 0 < float(group["cooling"]) <= 1:
            raise ValueError(
                f"SimulatedAnnealing: Invalid cooling value: {group['cooling']}; it must be a number in "
                "(0, 1]"
            )
        if not 0 < float(group["accept"]) < 1:
            raise ValueError(
                f"SimulatedAnnealing: Invalid accept value: {group['accept']}; it must be a number in (0, 1)"
            )

    def search(
        self, f: Trial, x: np.ndarray, group: dict[str, Any], memory: dict[str, Any], random: Any
    ) -> np.ndarray:
        k = memory.get("step", 0)
        here = f(x) if group["noisy"] or "loss" not in memory else float(memory["loss"])
        start, scale = self.begun(here, x[f.free], group, memory)
        move = random.standard_normal(x.size)
        if group["schedule"] == "fast":
            move = move / max(abs(float(random.standard_normal())), 1e-12)
        new = x + scale * move
        there = f(new)
        heat = SCHEDULES[group["schedule"]](start, float(group["cooling"]), k)
        rise = there - here if math.isfinite(here) else -math.inf
        if not math.isfinite(there):
            chance = 0.0
        elif rise <= 0:
            chance = 1.0
        else:
            chance = math.exp(-min(rise / heat, 700.0)) if heat > 0 else 0.0
        taken = float(random.random()) < chance
        if group["adapt"]:  # in balance where a share `accept` of the moves is taken
            target = float(group["accept"])
            scale = min(max(scale * math.exp(((1.0 if taken else 0.0) - target) / 10), 1e-300), 1e300)
        memory["loss"], memory["scale"] = (there if taken else here), scale
        return new if taken else x

    @staticmethod
    def begun(
        here: float, x: np.ndarray, group: dict[str, Any], memory: dict[str, Any]
    ) -> tuple[float, float]:
        """(T of the first step, length of the next move) at a loss `here` of the elements x that move."""
        start, scale = group["temperature"], memory.get("scale", group["scale"])
        if scale is None:
            size = math.sqrt(float(np.mean(x * x))) if x.size else 0.0
            scale = 0.3 * (size if 0 < size < math.inf else 1.0)
        if start is None:
            if "temperature" not in memory and math.isfinite(here):
                memory["temperature"] = (abs(here) or 1.0) / max(x.size, 1)
            start = memory.get("temperature", 0.0)  # from a loss that is not finite every move is taken
        return float(start), float(scale)
