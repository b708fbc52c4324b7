"""Lion: the sign of a momentum."""

from __future__ import annotations

from typing import Any

from kernels.rules import LION as TEXT

from ..tensor import Tensor
from .groups import averages
from .optimizer import Optimizer
from .record import Record


class Lion(Optimizer):
    """p <- p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p);  m <- beta2 m + (1 - beta2) g.

    Every element moves by lr, whatever the size of its gradient, so lr is 3 to 10 times smaller than Adam's,
    and weight_decay as much larger. sign(0) is 0: what has no gradient and no momentum stays. lr >= 0 (a
    number or a 0-d Tensor), betas in [0, 1), weight_decay >= 0, decoupled and scaled by lr; maximize climbs.
    The defaults are those of the authors' program; the paper tunes lr and weight_decay for each task.
    [Chen et al. 2023, Algorithm 2]
    """

    kernel = TEXT
    record = Record(
        year=2023,
        paper="Chen et al., Symbolic discovery of optimization algorithms, arXiv:2302.06675, Algorithm 2",
        latex=r"\theta \leftarrow \theta - \eta\,(\operatorname{sign}(\beta_1 m + (1-\beta_1) g)"
        r" + \lambda\theta), \quad m \leftarrow \beta_2 m + (1-\beta_2) g",
        oracles=("optax", "pytorch_optimizer"),
        presets={"paper": {}, "optax": dict(weight_decay=1e-3), "S3": dict(lr=3e-5)},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize))

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        beta1, beta2 = map(float, group["betas"])
        return dict(
            lr=float(group["lr"]),
            **averages(beta1, beta2),
            weight_decay=float(group["weight_decay"]),
        )
