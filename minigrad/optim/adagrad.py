"""Adagrad: a step size for every parameter, that shrinks with what its gradients were."""

from __future__ import annotations

from typing import Any

from kernels.rules import ADAGRAD as TEXT

from ..tensor import Tensor
from .groups import Range
from .optimizer import Optimizer, Run
from .record import Record


class Adagrad(Optimizer):
    """sum <- sum + g^2;  p <- p - lr_t g / (sqrt(sum) + eps),  lr_t = lr / (1 + (t - 1) lr_decay).

    Rare features keep large steps; all steps shrink as 1 / sqrt(t). Arguments and defaults are
    torch.optim.Adagrad's: lr >= 0 (a number or a 0-d Tensor), lr_decay >= 0, weight_decay >= 0 (an L2
    penalty), initial_accumulator_value >= 0 where sum begins, eps > 0; maximize climbs. foreach and fused
    are without effect.

    Sources differ in where eps stands and where sum begins. We follow PyTorch and S3, and the paper, whose
    diagonal form is delta I + diag(G)^(1/2): outside the root. eps_in_sqrt=True is S1's and S2's
    p <- p - lr g / sqrt(sum + eps), also optax's, where sum begins at 0.1 and not at 0.
    [Duchi, Hazan & Singer 2011, Figure 1]
    """

    kernel = TEXT
    ranges = {"initial_accumulator_value": Range("initial_accumulator_value value")}
    record = Record(
        year=2011,
        paper="Duchi, Hazan & Singer, Adaptive subgradient methods for online learning, JMLR 12, Figure 1",
        latex=r"\theta \leftarrow \theta - \eta\, g / (\sqrt{G} + \epsilon), \quad G \leftarrow G + g^2",
        oracles=("torch", "optax"),
        presets={
            "torch": {},
            "optax": dict(eps=1e-7, eps_in_sqrt=True, initial_accumulator_value=0.1),
            "paper": {},
            "S1": dict(eps_in_sqrt=True),
            "S2": dict(lr=0.1, eps=1e-8, eps_in_sqrt=True),
            "S3": dict(eps=1e-8),
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        eps_in_sqrt: bool = False,
    ):
        options = dict(lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay, maximize=maximize)
        options |= dict(initial_accumulator_value=initial_accumulator_value, eps_in_sqrt=eps_in_sqrt)
        super().__init__(params, options | dict(differentiable=differentiable))

    def begin(self, run: Run, group: dict[str, Any]) -> None:
        if value := float(group["initial_accumulator_value"]):
            self.slot(run, "sum")[...] = value

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        return dict(
            lr_t=float(group["lr"]) / (1 + (t - 1) * float(group["lr_decay"])),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
        )
