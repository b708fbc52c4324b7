"""Adam; AdamW with its decoupled weight decay; AMSGrad, which never forgets a large gradient."""

from __future__ import annotations

from math import sqrt
from typing import Any

from kernels.rules import ADAM as TEXT

from ..tensor import Tensor
from .groups import averages
from .optimizer import Optimizer
from .record import Record


class Adam(Optimizer):
    """m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;  p <- p - lr m^ / (sqrt(v^) + eps),

    m^ = m / (1 - beta1^t), v^ = v / (1 - beta2^t). weight_decay is an L2 penalty added to g; with
    decoupled_weight_decay it is AdamW's. amsgrad uses the largest v so far (raw, as PyTorch; the other forms
    are optim.AMSGrad's). Arguments and defaults are torch.optim.Adam's: lr >= 0 (a number or a 0-d Tensor),
    betas in [0, 1), eps > 0 outside the root; maximize climbs. foreach, fused and capturable are without
    effect.

    Sources differ in where eps stands; we follow the paper's Algorithm 1, as PyTorch and optax do. Elsewhere:

        eps_in_sqrt=True   p <- p - lr m^ / sqrt(v^ + eps)                    optax's eps_root
        eps_hat=True       p <- p - lr_t m / (sqrt(v) + eps),  lr_t = lr sqrt(1 - beta2^t) / (1 - beta1^t):
                           the paper's remark after Algorithm 1, and what Chainer and Thinc compute; eps
                           counts for more in the first steps

    fixed_decay, with decoupled_weight_decay, shrinks by weight_decay alone, not by lr weight_decay (AdamW).
    [Kingma & Ba 2015, Algorithm 1 and section 2; Reddi, Kale & Kumar 2018 for amsgrad]
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
            "optax": {},
            "paper": {},
            "S0": {},
            "S1": {},
            "S2": {},
            "S2_prose": dict(eps_in_sqrt=True),
            "S3": dict(lr=3e-4, betas=(0.9, 0.95)),
            "gan": dict(betas=(0.0, 0.99)),
            "chainer": dict(eps_hat=True),
            "thinc": dict(eps_hat=True),
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
        eps_in_sqrt: bool = False,
        eps_hat: bool = False,
        fixed_decay: bool = False,
    ):
        options = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)
        options |= dict(maximize=maximize, decoupled_weight_decay=decoupled_weight_decay)
        options |= dict(eps_in_sqrt=eps_in_sqrt, eps_hat=eps_hat, fixed_decay=fixed_decay)
        super().__init__(params, options | dict(differentiable=differentiable))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["eps_in_sqrt"] and group["eps_hat"]:
            raise ValueError(
                f"{type(self).__name__}: eps_in_sqrt=True and eps_hat=True put eps in two places; choose one"
            )
        if group["fixed_decay"] and not group["decoupled_weight_decay"]:
            raise ValueError(f"{type(self).__name__}: fixed_decay=True needs decoupled_weight_decay=True")

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        lr, (beta1, beta2) = float(group["lr"]), map(float, group["betas"])
        bias2, eps = 1 - beta2**t, float(group["eps"])
        return dict(
            lr=lr,
            **averages(beta1, beta2),
            eps=eps / sqrt(bias2) if group.get("eps_hat") else eps,  # beside sqrt(v) and not beside sqrt(v^)
            weight_decay=float(group["weight_decay"]),
            step_size=lr / (1 - beta1**t),
            bias2=bias2,
        )


class AdamW(Adam):
    """p <- (1 - lr weight_decay) p - lr m^ / (sqrt(v^) + eps):  Adam with weight decay outside m and v.

    Arguments and defaults are torch.optim.AdamW's: as Adam's, with weight_decay 1e-2.

    Sources differ in whether lr scales the decay. PyTorch, optax, S0 and S2 scale it; so does the default.
    fixed_decay=True is S3's p <- (1 - weight_decay) p - ..., and the paper's Algorithm 2 while its schedule
    multiplier is 1; weight_decay must then be far smaller, for 0.01 leaves 0.99^1000 = 4e-5 of the weights
    after 1000 steps. [Loshchilov & Hutter 2019, Algorithm 2]
    """

    record = Record(
        year=2017,
        paper="Loshchilov & Hutter, Decoupled weight decay regularization, ICLR 2019, Algorithm 2",
        latex=r"\theta \leftarrow (1 - \eta\lambda)\,\theta - \eta\, \hat m / (\sqrt{\hat v} + \epsilon)",
        oracles=("torch", "optax"),
        presets={
            "torch": {},
            "optax": dict(weight_decay=1e-4),
            "paper": dict(fixed_decay=True),
            "S0": {},
            "S1": {},
            "S2": {},
            "S2_prose": dict(eps_in_sqrt=True),
            "S3": dict(lr=3e-4, weight_decay=0.01, fixed_decay=True),
        },
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
        eps_in_sqrt: bool = False,
        eps_hat: bool = False,
        fixed_decay: bool = False,
    ):
        options = dict(maximize=maximize, differentiable=differentiable, decoupled_weight_decay=True)
        options |= dict(eps_in_sqrt=eps_in_sqrt, eps_hat=eps_hat, fixed_decay=fixed_decay)
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **options)

    def check(self, group: dict[str, Any]) -> None:
        if not group["decoupled_weight_decay"]:
            raise ValueError("AdamW: decoupled_weight_decay is always True here; with False it is optim.Adam")
        super().check(group)


class AMSGrad(Adam):
    """p <- p - lr m^ / (sqrt(max v) + eps):  Adam that divides by the largest v of all steps, so that no
    rare large gradient is forgotten.

    Sources differ in how the bias of m and v is corrected; bias_correction says which:

        "raw"    the largest v, then corrected: max(v_1 ... v_t) / (1 - beta2^t)          PyTorch; the default
        "hat"    the largest corrected v: max(v_1 / (1 - beta2) ... v_t / (1 - beta2^t))  optax
        "none"   neither m nor v is corrected                                             the paper

    The other arguments are optim.Adam's. optim.Adam(amsgrad=True) is the form "raw".
    [Reddi, Kale & Kumar 2018, Algorithm 2, which has no eps]
    """

    record = Record(
        year=2018,
        paper="Reddi, Kale & Kumar, On the convergence of Adam and beyond, ICLR 2018, Algorithm 2",
        latex=r"\theta \leftarrow \theta - \eta\, \hat m / (\sqrt{\hat v} + \epsilon), \quad"
        r" \hat v = \max(\hat v, v)",
        oracles=("torch", "optax"),
        presets={
            "torch": {},
            "optax": dict(bias_correction="hat"),
            "paper": dict(bias_correction="none"),
            "S3": {},
        },
    )
    corrections = ("none", "raw", "hat")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        bias_correction: str = "raw",
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        options: dict[str, Any] = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=True)
        options |= dict(maximize=maximize, decoupled_weight_decay=decoupled_weight_decay)
        options |= dict(bias_correction=bias_correction, differentiable=differentiable)
        Optimizer.__init__(self, params, options)

    def check(self, group: dict[str, Any]) -> None:
        Optimizer.check(self, group)
        if group["bias_correction"] not in self.corrections:
            raise ValueError(
                f"AMSGrad: Invalid bias_correction: {group['bias_correction']!r}; "
                f"it must be one of {', '.join(map(repr, self.corrections))}"
            )
        if not group["amsgrad"]:
            raise ValueError("AMSGrad: amsgrad is always True here; with False it is optim.Adam")

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        return super().flags(group) + ("corrected_max",) * (group["bias_correction"] == "hat")

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        values = super().scalars(group, t)
        return (
            values | dict(step_size=values["lr"], bias2=1.0) if group["bias_correction"] == "none" else values
        )
