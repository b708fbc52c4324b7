"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any

from kernels.rules import SGD as TEXT

from .optimizer import Optimizer, in_range


class SGD(Optimizer):
    """d = g + weight_decay p;  b <- momentum b + (1 - dampening) d  (b = d at the first step);  p <- p - lr
    b.

    With nesterov the step is d + momentum b. Arguments and defaults are torch.optim.SGD's: lr 1e-3 (> 0 in
    practice, >= 0 accepted), momentum in [0, inf), dampening, weight_decay >= 0 (coupled, an L2 penalty),
    maximize climbs. [Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013, the form with lr outside the
    velocity]
    """

    kernel = TEXT

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
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
        in_range("SGD", "learning rate", group["lr"], 0)
        in_range("SGD", "momentum value", group["momentum"], 0)
        in_range("SGD", "weight_decay value", group["weight_decay"], 0)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("SGD: Nesterov momentum requires a momentum and zero dampening")

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        return tuple(f for f in ("momentum", "nesterov", "maximize") if group[f])

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        return dict(
            lr=float(group["lr"]),
            momentum=group["momentum"],
            one_minus_dampening=1.0 if t == 1 else 1 - group["dampening"],
            weight_decay=group["weight_decay"],
        )
