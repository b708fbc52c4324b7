"""Resilient backpropagation: only the sign of a gradient counts."""

from __future__ import annotations

from typing import Any

from kernels.rules import RPROP as TEXT

from ..tensor import Tensor
from .groups import number
from .optimizer import Optimizer, Run
from .record import Record


class Rprop(Optimizer):
    """p <- p - step_size sign(g);  step_size <- step_size etaplus where g kept its sign since the last step,

    step_size etaminus where it changed; there p waits a step. For full batches: the sign of a noisy gradient
    changes by itself. Arguments and defaults are torch.optim.Rprop's: lr >= 0 (a number or a 0-d Tensor) is
    the first step_size and counts no more after it; etas = (etaminus, etaplus), 0 < etaminus < 1 < etaplus;
    step_sizes = (smallest, largest), 0 < smallest <= largest; maximize climbs. foreach and capturable are
    without effect.

    Sources differ in what happens after a change of sign. The paper takes the last step back; we wait, as
    PyTorch does (iRprop-). [Riedmiller & Braun 1993; Igel & Huesken 2000]
    """

    kernel = TEXT
    record = Record(
        year=1993,
        paper="Riedmiller & Braun, A direct adaptive method for faster backpropagation learning, ICNN 1993; "
        "Igel & Huesken, Improving the Rprop learning algorithm, 2000, iRprop-",
        latex=r"\theta \leftarrow \theta - \Delta\,\mathrm{sign}(g), \quad"
        r" \Delta \leftarrow \Delta\,\eta^{\pm} \text{ as } g_t g_{t-1} \gtrless 0",
        oracles=("torch",),
        presets={"torch": {}, "paper": dict(lr=0.1)},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        options = dict(lr=lr, etas=etas, step_sizes=step_sizes, maximize=maximize)
        super().__init__(params, options | dict(differentiable=differentiable))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        for name, example in (("etas", (0.5, 1.2)), ("step_sizes", (1e-6, 50))):
            if not isinstance(group[name], (tuple, list)) or len(group[name]) != 2:
                raise ValueError(f"Rprop: {name} are {group[name]!r}; they are two numbers, as {example}")
        low, high = (number("Rprop", "eta value", eta, 0) for eta in group["etas"])
        if not 0 < low < 1 < high:
            raise ValueError(f"Rprop: Invalid eta values: {low}, {high}; 0 < etaminus < 1 < etaplus")
        least, most = (number("Rprop", "step size", size, 0, above=True) for size in group["step_sizes"])
        if least > most:
            raise ValueError(f"Rprop: Invalid step sizes: {least}, {most}; the smallest comes first")

    def begin(self, run: Run, group: dict[str, Any]) -> None:
        self.slot(run, "step_size")[...] = float(group["lr"])

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        (etaminus, etaplus), (least, most) = map(float, group["etas"]), map(float, group["step_sizes"])
        return dict(etaminus=etaminus, etaplus=etaplus, step_min=least, step_max=most)
