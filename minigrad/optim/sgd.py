"""Stochastic gradient descent, with momentum in its three forms and weight decay in both."""

from __future__ import annotations

from typing import Any

from kernels.rules import SGD as TEXT

from ..tensor import Tensor
from .optimizer import Optimizer
from .record import Record

FORMS = ("heavy_ball", "average", "velocity")


class SGD(Optimizer):
    """p <- p - lr b,  b <- momentum b + (1 - dampening) d,  d = g + weight_decay p;  at the first step b = d.

    With nesterov the step is d + momentum b. Arguments and defaults are torch.optim.SGD's: lr >= 0 (a number
    or a 0-d Tensor), momentum >= 0, dampening, weight_decay >= 0 (an L2 penalty); maximize climbs. foreach
    and fused are without effect. Batch, stochastic and mini-batch gradient descent are this rule on the
    gradients of all examples, of one, and of some: the loader decides.

    Sources write momentum in three ways, which `form` selects:

        "heavy_ball"    b <- momentum b + d,                  p <- p - lr b    S0, PyTorch, optax
        "average"       b <- momentum b + (1 - momentum) d,   p <- p - lr b    S1: 1 - momentum times that
        "velocity"      b <- momentum b + lr d,               p <- p - b       S2, S3: equal until lr changes

    The first is the default. dampening is PyTorch's, which the first step skips, so it is for that form only:
    dampening = momentum is not the average. With nesterov, "velocity" is equation 7 of [Bengio et al. 2013].
    decoupled_weight_decay takes the decay out of d and b (SGDW); fixed_decay does not multiply it by lr.
    [Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013, with lr outside the velocity]
    """

    kernel = TEXT
    record = Record(
        year=1951,
        paper="Robbins & Monro 1951; momentum: Polyak 1964; Nesterov's, as in Sutskever et al. 2013",
        latex=r"b \leftarrow \mu b + g, \quad \theta \leftarrow \theta - \eta b",
        oracles=("torch", "optax", "pytorch_optimizer"),
        presets={
            "torch": {},
            "optax": {},
            "paper": dict(momentum=0.9),
            "sutskever": dict(momentum=0.9, nesterov=True, form="velocity"),
            "S0": dict(momentum=0.9),
            "S1": dict(lr=3e-4, momentum=0.9, form="average"),
            "S2": dict(lr=0.01, momentum=0.9, form="velocity"),
            "S3": dict(lr=0.01, momentum=0.9, form="velocity"),
            # S2's three functions without momentum: one rule, three loaders
            **{name: dict(lr=0.01) for name in ("S2_batch", "S2_stochastic", "S2_mini_batch")},
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        form: str = "heavy_ball",
        decoupled_weight_decay: bool = False,
        fixed_decay: bool = False,
    ):
        options: dict[str, Any] = dict(lr=lr, momentum=momentum, dampening=dampening)
        options |= dict(
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
            differentiable=differentiable,
            form=form,
        )
        options |= dict(decoupled_weight_decay=decoupled_weight_decay, fixed_decay=fixed_decay)
        super().__init__(params, options)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        rule, form = type(self).__name__, group["form"]
        if form not in FORMS:
            raise ValueError(f"{rule}: Invalid form: {form!r}; it is one of {', '.join(FORMS)}")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(f"{rule}: Nesterov momentum requires a momentum and zero dampening")
        if form != "heavy_ball" and group["dampening"] != 0:
            raise ValueError(
                f"{rule}: Invalid dampening: {group['dampening']}; with form={form!r} it must be 0, "
                "it belongs to 'heavy_ball'"
            )
        if form == "average" and group["momentum"] >= 1:
            raise ValueError(
                f"{rule}: Invalid momentum value: {group['momentum']}; of an average it must be in [0, 1)"
            )
        if group["fixed_decay"] and not group["decoupled_weight_decay"]:
            raise ValueError(f"{rule}: fixed_decay=True is for decoupled_weight_decay=True only")

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        given = super().flags(group)
        return (*given, "velocity") if group["form"] == "velocity" else given

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        lr, momentum, decay = float(group["lr"]), float(group["momentum"]), float(group["weight_decay"])
        fresh = 1.0 if t == 1 else 1 - float(group["dampening"])
        scaled = group["decoupled_weight_decay"] and not group["fixed_decay"]
        return dict(
            lr=lr,
            momentum=momentum,
            one_minus_dampening=1 - momentum if group["form"] == "average" else fresh,
            weight_decay=lr * decay if scaled else decay,
        )


class SGDW(SGD):
    """p <- (1 - lr weight_decay) p - lr b:  SGD with weight decay outside the gradient and the momentum.

    Arguments as SGD's, with weight_decay 1e-2. The paper's Algorithm 1 has the learning rate inside the
    velocity and a decay that only the schedule multiplies: preset "paper", where the user's schedule has to
    scale weight_decay. We scale the decay by lr, as PyTorch's AdamW does.
    [Loshchilov & Hutter 2019, Algorithm 1]
    """

    record = Record(
        year=2017,
        paper="Loshchilov & Hutter, Decoupled weight decay regularization, ICLR 2019, Algorithm 1",
        latex=r"b \leftarrow \mu b + g, \quad \theta \leftarrow (1 - \eta\lambda)\,\theta - \eta b",
        oracles=("optax", "pytorch_optimizer"),
        presets={
            "paper": dict(momentum=0.9, form="velocity", fixed_decay=True),
            "S1": dict(lr=3e-4, momentum=0.9, weight_decay=1e-4, form="average"),
            "S3": dict(lr=0.01, momentum=0.9, form="velocity", fixed_decay=True),
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 1e-2,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        form: str = "heavy_ball",
        fixed_decay: bool = False,
    ):
        options: dict[str, Any] = dict(maximize=maximize, differentiable=differentiable, form=form)
        options |= dict(fixed_decay=fixed_decay, decoupled_weight_decay=True)
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov, **options)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if not group["decoupled_weight_decay"]:
            raise ValueError("SGDW: decoupled_weight_decay is always True here; with False it is optim.SGD")
