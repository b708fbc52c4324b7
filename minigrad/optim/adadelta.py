"""Adadelta: a step in the parameter's own units, without a learning rate."""

from __future__ import annotations

from typing import Any

from kernels.rules import ADADELTA as TEXT

from ..tensor import Tensor
from .optimizer import Optimizer
from .record import Record


class Adadelta(Optimizer):
    """p <- p - lr delta,  delta = sqrt(u + eps) / sqrt(v + eps) g,

    v <- rho v + (1 - rho) g^2 before the step, u <- rho u + (1 - rho) delta^2 after it (`acc_delta` and
    `square_avg` in the state). Arguments and defaults are torch.optim.Adadelta's: lr >= 0 (a number or a 0-d
    Tensor; the paper has none, which is 1), rho in [0, 1), eps > 0, weight_decay >= 0 (an L2 penalty);
    maximize climbs. foreach and capturable are without effect.

    S3 leaves out when u is updated; the paper does it after the step, with the step just taken. PyTorch's and
    optax's rho is 0.9; the paper's and Chainer's 0.95. [Zeiler 2012, Algorithm 1]
    """

    kernel = TEXT
    record = Record(
        year=2012,
        paper="Zeiler, Adadelta: an adaptive learning rate method, arXiv:1212.5701, Algorithm 1",
        latex=r"\theta \leftarrow \theta - \Delta, \quad"
        r" \Delta = \sqrt{E[\Delta^2] + \epsilon} / \sqrt{E[g^2] + \epsilon}\; g",
        oracles=("torch", "optax"),
        presets={
            "torch": {},
            "optax": {},
            "paper": dict(rho=0.95),
            "chainer": dict(rho=0.95),
            "S3": {},
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        options = dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize)
        super().__init__(params, options | dict(differentiable=differentiable))

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        rho = float(group["rho"])
        return dict(
            lr=float(group["lr"]),
            rho=rho,
            one_minus_rho=1 - rho,
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
        )
