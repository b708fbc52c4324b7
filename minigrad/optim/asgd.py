"""Averaged stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from kernels.rules import ASGD as TEXT

from ..tensor import Tensor
from .groups import Range
from .optimizer import Optimizer
from .record import Record


class ASGD(Optimizer):
    """p <- (1 - lambd eta) p - eta g;  ax <- ax + mu (p - ax):  descent, and the mean of its path in `ax`,

    eta = lr / (1 + lambd lr t)^alpha, mu = 1 / max(1, t - t0): until step t0 + 1 `ax` is p itself. Train
    with p; the state's `ax` is what to evaluate. Arguments and defaults are torch.optim.ASGD's: lr >= 0 (a
    number or a 0-d Tensor), the decay lambd >= 0, alpha >= 0, t0 >= 0 in steps, weight_decay >= 0 (an L2
    penalty); maximize climbs. foreach and capturable are without effect.

    eta and mu of a step were computed at the step before it, and stand in the state: another lr counts one
    step later, as in PyTorch, which also rounds both to float32 where we keep double. [Polyak & Juditsky
    1992; Xu 2011 for eta]
    """

    kernel = TEXT
    ranges = {
        "lambd": Range("lambd value"),
        "alpha": Range("alpha value"),
        "t0": Range("t0 value"),
    }
    carries = ("eta", "mu")
    record = Record(
        year=1992,
        paper="Polyak & Juditsky, Acceleration of stochastic approximation by averaging, SIAM J. Control 30",
        latex=r"\theta \leftarrow (1 - \lambda\eta_t)\,\theta - \eta_t g, \quad"
        r" \bar\theta \leftarrow \bar\theta + \mu_t (\theta - \bar\theta)",
        oracles=("torch",),
        presets={"torch": {}},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        options = dict(lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, maximize=maximize)
        super().__init__(params, options | dict(differentiable=differentiable))

    def scalars(  # type: ignore[override]
        self, group: dict[str, Any], t: int, kept: dict[str, float]
    ) -> dict[str, float]:
        lr, lambd = float(group["lr"]), float(group["lambd"])
        eta, mu = kept.get("eta", lr), kept.get("mu", 1.0)
        kept["eta"] = lr / (1 + lambd * lr * t) ** float(group["alpha"])
        kept["mu"] = 1 / max(1.0, t - float(group["t0"]))
        return dict(eta=eta, mu=mu, lambd=lambd, weight_decay=float(group["weight_decay"]))
