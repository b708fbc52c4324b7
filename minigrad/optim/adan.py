"""Adan: Nesterov's momentum from differences of gradients."""

from __future__ import annotations

from math import sqrt
from typing import Any

from kernels.rules import ADAN as TEXT

from ..tensor import Tensor
from .groups import Range, averages
from .optimizer import Optimizer, Run
from .record import Record


class Adan(Optimizer):
    """p <- (p - lr (m^ + beta2 v^) / (sqrt(n^) + eps)) / (1 + lr weight_decay),  d = g - (the last g),

    m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) d,  n <- beta3 n + (1 - beta3) (g + beta2 d)^2,
    all three without bias, as Adam's (^). At the first step d = 0.

    lr >= 0 (a number or a 0-d Tensor); betas in [0, 1) say how much is kept, as Adam's do (the paper's say
    how much is new: its (0.02, 0.08, 0.01) are our defaults); eps > 0, outside the root; weight_decay >= 0 is
    the paper's proximal one, with no_prox AdamW's (1 - lr weight_decay) before the step; maximize climbs.
    The bias corrections are the authors' program's; Algorithm 1 starts from m = g and n = g^2 instead. A
    parameter keeps its last gradient over steps in which it has none.
    [Xie et al. 2022, Algorithm 1. optax's adan weighs the difference by 1 - beta2: it is another rule]
    """

    kernel = TEXT
    ranges = {"betas": Range("betas", high=1, count=3)}
    record = Record(
        year=2022,
        paper="Xie et al., Adan: adaptive Nesterov momentum algorithm, arXiv:2208.06677, Algorithm 1",
        latex=r"\theta \leftarrow \frac{\theta - \eta\,(\hat m + \beta_2 \hat v) /"
        r" (\sqrt{\hat n} + \epsilon)}{1 + \eta\lambda}, \quad"
        r" n \leftarrow \beta_3 n + (1-\beta_3)\,(g + \beta_2 (g - g_{t-1}))^2",
        oracles=("pytorch_optimizer",),
        presets={"paper": {}, "official": {}, "pytorch_optimizer": {}},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        no_prox: bool = False,
        *,
        maximize: bool = False,
    ):
        options = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, no_prox=no_prox)
        super().__init__(params, options | dict(maximize=maximize))

    def begin(self, run: Run, group: dict[str, Any]) -> None:
        """The gradient before the first is the first."""
        first = run.piece(run.arena.gradient)
        self.slot(run, "previous_grad")[...] = -first if group["maximize"] else first

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        lr, (beta1, beta2, beta3) = float(group["lr"]), map(float, group["betas"])
        decay = lr * float(group["weight_decay"])
        return dict(
            **averages(beta1, beta2, beta3),
            eps=float(group["eps"]),
            step_size=lr / (1 - beta1**t),
            diff_size=lr * beta2 / (1 - beta2**t),
            bias3_sqrt=sqrt(1 - beta3**t),
            keep=1 - decay if group["no_prox"] else 1 / (1 + decay),
        )
