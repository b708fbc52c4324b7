"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any

from kernels.rules import SGD as TEXT

from ..tensor import Tensor
from .optimizer import Optimizer
from .record import Record


class SGD(Optimizer):
    """p <- p - lr b,  b <- momentum b + (1 - dampening) d,  d = g + weight_decay p;  at the first step b = d.

    With nesterov the step is d + momentum b. Arguments and defaults are torch.optim.SGD's: lr >= 0 (a number
    or a 0-d Tensor), momentum >= 0, dampening, weight_decay >= 0 (an L2 penalty); maximize climbs. foreach
    and fused are without effect. [Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013, with lr outside
    the velocity]
    """

    kernel = TEXT
    record = Record(
        year=1951,
        paper="Robbins & Monro 1951; momentum: Polyak 1964; Nesterov's, as in Sutskever et al. 2013",
        latex=r"b \leftarrow \mu b + g, \quad \theta \leftarrow \theta - \eta b",
        oracles=("torch", "optax"),
        presets={"torch": {}, "optax": {}, "S0": dict(momentum=0.9), "S2": dict(lr=0.01)},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        options = dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)
        super().__init__(
            params, options | dict(nesterov=nesterov, maximize=maximize, differentiable=differentiable)
        )

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("SGD: Nesterov momentum requires a momentum and zero dampening")

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        return dict(
            lr=float(group["lr"]),
            momentum=float(group["momentum"]),
            one_minus_dampening=1.0 if t == 1 else 1 - float(group["dampening"]),
            weight_decay=float(group["weight_decay"]),
        )
