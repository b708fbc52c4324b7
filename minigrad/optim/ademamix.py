"""AdEMAMix: Adam with a second, long memory of gradients."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Any

from kernels.rules import ADEMAMIX as TEXT

from ..tensor import Tensor
from .groups import Range, averages
from .optimizer import Optimizer
from .record import Record


class AdEMAMix(Optimizer):
    """p <- p - lr ((m1^ + alpha m2) / (sqrt(v^) + eps) + weight_decay p),  m2 <- beta3 m2 + (1 - beta3) g.

    m1^ and v^ are Adam's m^ and v^ with beta1 and beta2; the bias of m2 is not corrected. betas are (beta1,
    beta2, beta3) in [0, 1), lr >= 0 (a number or a 0-d Tensor), alpha >= 0, eps > 0 outside the root,
    weight_decay >= 0 decoupled and scaled by lr; maximize climbs.

    A long memory is let in slowly: with alpha_warmup = T (steps) alpha grows as alpha min(t / T, 1); with
    beta3_warmup = T the time that m2 remembers, -1 / log(beta3), grows in a straight line from beta1's to
    beta3's: `schedules` gives both. None, the default, is without. alpha is 5 as in optax; the authors'
    program has 2, their experiments 4 to 10.
    [Pagliardini, Ablin & Grangier 2024, Algorithm 1 and eq. of section 3]
    """

    kernel = TEXT
    ranges = {
        "betas": Range("betas", high=1, count=3),
        "alpha": Range("alpha value"),
    }
    record = Record(
        year=2024,
        paper="Pagliardini, Ablin & Grangier, The AdEMAMix optimizer: better, faster, older,"
        " arXiv:2409.03137, Algorithm 1",
        latex=r"\theta \leftarrow \theta - \eta\,\big((\hat m_1 + \alpha m_2) / (\sqrt{\hat v} + \epsilon)"
        r" + \lambda\theta\big), \quad m_2 \leftarrow \beta_3 m_2 + (1-\beta_3) g",
        oracles=("optax", "pytorch_optimizer"),
        presets={"paper": {}, "optax": {}, "official": dict(alpha=2.0)},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 5.0,
        beta3_warmup: float | None = None,
        alpha_warmup: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ):
        options = dict(lr=lr, betas=betas, alpha=alpha, beta3_warmup=beta3_warmup, alpha_warmup=alpha_warmup)
        super().__init__(params, options | dict(eps=eps, weight_decay=weight_decay, maximize=maximize))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        for name in ("beta3_warmup", "alpha_warmup"):
            if group[name] is not None:
                Range(f"{name} value", above=True).check(type(self).__name__, group[name])

    @staticmethod
    def schedules(group: dict[str, Any], t: int) -> tuple[float, float]:
        """(alpha, beta3) of step t, from 1."""
        beta1, _, beta3 = map(float, group["betas"])
        alpha = float(group["alpha"])
        if (steps := group["alpha_warmup"]) is not None:
            alpha *= min(t / steps, 1.0)
        if (steps := group["beta3_warmup"]) is not None and t < steps and beta3 > beta1:
            memory = (1 - t / steps) * _memory(beta1) + t / steps * _memory(beta3)
            beta3 = exp(-1 / memory)
        return alpha, beta3

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        beta1, beta2, _ = map(float, group["betas"])
        alpha, beta3 = self.schedules(group, t)
        return dict(
            lr=float(group["lr"]),
            **averages(beta1, beta2, beta3),
            alpha=alpha,
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            bias1=1 - beta1**t,
            bias2_sqrt=sqrt(1 - beta2**t),
        )


def _memory(beta: float) -> float:
    """In how many steps an average forgets all but 1/e of a gradient."""
    return -1 / log(beta) if beta > 0 else 0.0
