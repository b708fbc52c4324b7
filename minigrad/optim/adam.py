"""Adam, and AdamW with its decoupled weight decay."""

from __future__ import annotations

from math import sqrt
from typing import Any

from kernels.rules import ADAM as TEXT

from ..tensor import Tensor
from .optimizer import Optimizer
from .record import Record


class Adam(Optimizer):
    """m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;  p <- p - lr m^ / (sqrt(v^) + eps),

    m^ = m / (1 - beta1^t), v^ = v / (1 - beta2^t). weight_decay is an L2 penalty added to g; with
    decoupled_weight_decay it is AdamW's. amsgrad uses the largest v so far (raw, as PyTorch). Arguments and
    defaults are torch.optim.Adam's: lr >= 0 (a number or a 0-d Tensor), betas in [0, 1), eps > 0 outside the
    root; maximize climbs. foreach, fused and capturable are without effect.
    [Kingma & Ba 2015, Algorithm 1; Reddi, Kale & Kumar 2018 for amsgrad]
    """

    kernel = TEXT
    record = Record(
        year=2014,
        paper="Kingma & Ba, Adam: a method for stochastic optimization, ICLR 2015, Algorithm 1",
        latex=r"\theta \leftarrow \theta - \eta\, \hat m / (\sqrt{\hat v} + \epsilon), \quad"
        r" \hat m = m / (1 - \beta_1^t), \quad \hat v = v / (1 - \beta_2^t)",
        oracles=("torch", "optax"),
        presets={
            "torch": {},
            "paper": {},
            "S0": {},
            "S1": {},
            "S2": {},
            "S3": dict(lr=3e-4, betas=(0.9, 0.95)),
            "gan": dict(betas=(0.0, 0.99)),
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        options = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)
        options |= dict(maximize=maximize, decoupled_weight_decay=decoupled_weight_decay)
        super().__init__(params, options | dict(differentiable=differentiable))

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        lr, (beta1, beta2) = float(group["lr"]), map(float, group["betas"])
        return dict(
            lr=lr,
            beta1=beta1,
            one_minus_beta1=1 - beta1,
            beta2=beta2,
            one_minus_beta2=1 - beta2,
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            step_size=lr / (1 - beta1**t),
            bias2_sqrt=sqrt(1 - beta2**t),
        )


class AdamW(Adam):
    """p <- (1 - lr weight_decay) p - lr m^ / (sqrt(v^) + eps):  Adam with weight decay outside m and v.

    Arguments and defaults are torch.optim.AdamW's: as Adam's, with weight_decay 1e-2.
    [Loshchilov & Hutter 2019, Algorithm 2, the decay scaled by lr]
    """

    record = Record(
        year=2017,
        paper="Loshchilov & Hutter, Decoupled weight decay regularization, ICLR 2019, Algorithm 2",
        latex=r"\theta \leftarrow (1 - \eta\lambda)\,\theta - \eta\, \hat m / (\sqrt{\hat v} + \epsilon)",
        oracles=("torch", "optax"),
        presets={"torch": {}, "optax": dict(weight_decay=1e-4), "S0": {}, "S2": {}},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        options = dict(maximize=maximize, differentiable=differentiable, decoupled_weight_decay=True)
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **options)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if not group["decoupled_weight_decay"]:
            raise ValueError("AdamW: decoupled_weight_decay is always True here; with False it is optim.Adam")
