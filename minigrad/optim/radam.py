"""RAdam: Adam that waits with its step sizes until they can be trusted."""

from __future__ import annotations

from math import sqrt
from typing import Any

from kernels.rules import RADAM as TEXT

from ..tensor import Tensor
from .groups import Range, averages
from .optimizer import Optimizer
from .record import Record


class RAdam(Optimizer):
    """p <- p - lr r m^ sqrt(1 - beta2^t) / (sqrt(v) + eps)  where rho > threshold,  p <- p - lr m^  before,

    r = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho)), rho_inf = 2 / (1 - beta2) - 1,
    rho = rho_inf - 2 t beta2^t / (1 - beta2^t): of how many gradients v is the mean, about. m, v and m^ are
    Adam's. Arguments and defaults are torch.optim.RAdam's: lr >= 0 (a number or a 0-d Tensor), betas in [0,
    1), eps > 0, weight_decay >= 0 (an L2 penalty, or with decoupled_weight_decay AdamW's); maximize climbs.
    foreach and capturable are without effect.

    Sources differ in two places. eps stands beside sqrt(v) in PyTorch and here; with eps_hat=False beside
    sqrt(v / (1 - beta2^t)), as in optax (the paper has none). threshold is 5 in PyTorch and optax, 4 in the
    paper; threshold >= 4, since r is not real below. [Liu et al. 2020, Algorithm 2]
    """

    kernel = TEXT
    ranges = {"threshold": Range("threshold value", low=4)}
    record = Record(
        year=2019,
        paper="Liu et al., On the variance of the adaptive learning rate and beyond, ICLR 2020, Algorithm 2",
        latex=r"\theta \leftarrow \theta - \eta\, r_t\, \hat m \sqrt{1 - \beta_2^t} / (\sqrt{v} + \epsilon)"
        r" \text{ if } \rho_t > 5 \text{ else } \theta - \eta\, \hat m",
        oracles=("torch", "optax"),
        presets={"torch": {}, "optax": dict(eps_hat=False), "paper": dict(threshold=4.0)},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        eps_hat: bool = True,
        threshold: float = 5.0,
    ):
        options = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize)
        options |= dict(decoupled_weight_decay=decoupled_weight_decay, eps_hat=eps_hat, threshold=threshold)
        super().__init__(params, options | dict(differentiable=differentiable))

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        lr, (beta1, beta2) = float(group["lr"]), map(float, group["betas"])
        bias2, eps = 1 - beta2**t, float(group["eps"])
        longest = 2 / (1 - beta2) - 1
        rho = longest - 2 * t * beta2**t / bias2
        rectified = rho > float(group["threshold"])
        r = (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho) if rectified else 1.0
        return dict(
            lr=lr,
            **averages(beta1, beta2),
            eps=eps / sqrt(bias2) if group["eps_hat"] else eps,  # beside sqrt(v) and not beside sqrt(v^)
            weight_decay=float(group["weight_decay"]),
            step_size=lr * sqrt(r) / (1 - beta1**t),
            bias2=bias2,
            rectified=float(rectified),
        )
