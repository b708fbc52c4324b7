"""RMSprop: Adagrad that forgets."""

from __future__ import annotations

from typing import Any

from kernels.rules import RMSPROP as TEXT

from ..tensor import Tensor
from .optimizer import Optimizer
from .record import Record

_INSIDE = dict(alpha=0.9, eps_in_sqrt=True)


class RMSprop(Optimizer):
    """v <- alpha v + (1 - alpha) g^2;  p <- p - lr g / (sqrt(v) + eps).

    With momentum p <- p - lr b, b <- momentum b + g / (sqrt(v) + eps); centered takes the square of the mean
    gradient (`grad_avg` in the state) from v. Arguments and defaults are torch.optim.RMSprop's: lr >= 0 (a
    number or a 0-d Tensor), alpha in [0, 1), eps > 0, weight_decay >= 0 (an L2 penalty), momentum >= 0;
    maximize climbs. foreach and capturable are without effect.

    Sources differ in alpha, 0.99 in PyTorch and 0.9 elsewhere, and in where eps stands: outside the root in
    PyTorch and here; eps_in_sqrt=True is p <- p - lr g / sqrt(v + eps), as S1, S2, S3 and optax have it.
    Where rounding takes the centered v below zero it is zero; PyTorch's step is nan there. [Tieleman &
    Hinton 2012, lecture 6.5; Graves 2013, eq. 38-45, for centered]
    """

    kernel = TEXT
    record = Record(
        year=2012,
        paper="Tieleman & Hinton, Lecture 6.5, Neural networks for machine learning, Coursera 2012; "
        "centered: Graves, arXiv:1308.0850",
        latex=r"\theta \leftarrow \theta - \eta\, g / (\sqrt{v} + \epsilon), \quad"
        r" v \leftarrow \alpha v + (1 - \alpha) g^2",
        oracles=("torch", "optax"),
        presets={
            "torch": {},
            "optax": _INSIDE,
            "hinton": _INSIDE | dict(lr=1e-3),
            "S1": _INSIDE,
            "S2": _INSIDE | dict(lr=0.01),
            "S2_table": dict(lr=1e-3, alpha=0.99, eps_in_sqrt=True),
            "S3": _INSIDE | dict(lr=1e-3),
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        eps_in_sqrt: bool = False,
    ):
        options = dict(lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered)
        options |= dict(weight_decay=weight_decay, maximize=maximize, eps_in_sqrt=eps_in_sqrt)
        super().__init__(params, options | dict(differentiable=differentiable))

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        alpha = float(group["alpha"])
        return dict(
            lr=float(group["lr"]),
            alpha=alpha,
            one_minus_alpha=1 - alpha,
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            momentum=float(group["momentum"]),
        )
