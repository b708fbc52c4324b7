"""Nesterov's momentum as it is written down: the gradient is taken where the momentum is about to lead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels.rules import LOOK_AHEAD
from kernels.rules import SGD as TEXT

from ..tensor import Tensor
from .excursion import excursion, pieces
from .record import Record
from .sgd import SGD


class NAG(SGD):
    """b <- momentum b + lr grad(p - momentum b);  p <- p - b:  a gradient at the look-ahead point.

    step(closure) moves the parameters there, calls closure(), which computes loss and gradients, and puts
    them back bit for bit before it updates them; the loss that it returns is the look-ahead point's. Without
    a closure it raises: SGD(nesterov=True) is the same method for gradients taken at the parameters. The two
    agree in exact arithmetic: where this one looks, theta - momentum b, is where that one stands
    [Bengio, Boulanger-Lewandowski & Pascanu 2013, eq. 7].

    lr >= 0 and momentum >= 0; weight_decay >= 0 is an L2 penalty, taken at the look-ahead point too; with
    decoupled_weight_decay it shrinks the parameters themselves; maximize climbs. `form` says what b is, as in
    SGD: by default "velocity", the learning rate inside it [S1, where b has the other sign; S2; S3];
    "heavy_ball" looks ahead to p - lr momentum b [S0].
    [Nesterov 1983; Sutskever, Martens, Dahl & Hinton 2013, eq. 3-4]
    """

    record = Record(
        year=1983,
        paper="Nesterov, A method of solving a convex programming problem with rate O(1/k^2), 1983",
        latex=r"v \leftarrow \mu v + \eta \nabla L(\theta - \mu v), \quad \theta \leftarrow \theta - v",
        oracles=(),
        needs=("closure",),
        launches="2, and a copy there and back",
        texts=(TEXT, LOOK_AHEAD),
        presets={
            "paper": {},
            "S0": dict(form="heavy_ball"),
            "S1": dict(lr=3e-4),
            "S2": {},
            "S3": {},
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        form: str = "velocity",
        decoupled_weight_decay: bool = False,
        fixed_decay: bool = False,
    ):
        options: dict[str, Any] = dict(maximize=maximize, form=form, fixed_decay=fixed_decay)
        options |= dict(decoupled_weight_decay=decoupled_weight_decay)
        super().__init__(params, lr, momentum, 0, weight_decay, **options)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] or group["dampening"]:
            raise ValueError("NAG: nesterov and dampening are SGD's; here the closure looks ahead")

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        return (*super().flags(group), "look_ahead")

    def evaluate(self, closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            raise TypeError(
                "NAG: step() needs a closure that computes the gradients at the look-ahead point; "
                "without one use SGD(nesterov=True)"
            )
        with excursion(self.parameters()):
            for group in self.param_groups:
                lr = 1.0 if group["form"] == "velocity" else float(group["lr"])
                for arena, start, stop in pieces(group["params"]):
                    b = arena.state(self, "momentum_buffer")[start:stop]
                    far = dict(far=lr * float(group["momentum"]))
                    LOOK_AHEAD(b, arena.array[start:stop], scalars=far)
                    arena.version[0] += 1
            return super().evaluate(closure)
