"""Adamax: Adam in the infinity norm."""

from __future__ import annotations

from typing import Any

from kernels.rules import ADAMAX as TEXT

from ..tensor import Tensor
from .groups import averages
from .optimizer import Optimizer
from .record import Record


class Adamax(Optimizer):
    """m <- beta1 m + (1 - beta1) g;  u <- max(beta2 u, |g| + eps);  p <- p - lr / (1 - beta1^t) m / u.

    Arguments and defaults are torch.optim.Adamax's: lr >= 0 (a number or a 0-d Tensor), betas in [0, 1),
    eps > 0, weight_decay >= 0 (an L2 penalty); maximize climbs. foreach and capturable are without effect.

    The paper has no eps: where the first gradient is exactly zero its step is 0/0. PyTorch, optax and we add
    eps inside the norm. [Kingma & Ba 2015, Algorithm 2]
    """

    kernel = TEXT
    record = Record(
        year=2014,
        paper="Kingma & Ba, Adam: a method for stochastic optimization, ICLR 2015, Algorithm 2",
        latex=r"\theta \leftarrow \theta - \frac{\eta}{1 - \beta_1^t}\, m / u, \quad"
        r" u \leftarrow \max(\beta_2 u, |g| + \epsilon)",
        oracles=("torch", "optax"),
        presets={"torch": {}, "optax": {}, "paper": {}, "S3": {}},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        options = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize)
        super().__init__(params, options | dict(differentiable=differentiable))

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        beta1, beta2 = map(float, group["betas"])
        return dict(
            **averages(beta1),
            beta2=beta2,
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            step_size=float(group["lr"]) / (1 - beta1**t),
        )
