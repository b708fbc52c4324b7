"""LARS: SGD with a step size for every layer."""

from __future__ import annotations

from typing import Any

from kernels.rules import LARS as TEXT
from kernels.rules import LARS_NORMS, LARS_TRUST

from ..tensor import Tensor
from .groups import Range
from .optimizer import Optimizer, Run
from .record import Record
from .segments import chunks, segments


class LARS(Optimizer):
    """b <- momentum b + lr trust (g + weight_decay p);  p <- p - b,

    trust = trust_coefficient |p| / (|g| + weight_decay |p|), a number for each tensor; 1 where it would be
    0/0 or the tensor is all zero. lr >= 0 stands inside the velocity, as in the paper; lr = 1 moves a layer
    by about trust_coefficient of its norm. 0 <= momentum, weight_decay >= 0, trust_coefficient >= 0.

    nesterov       p <- p - (lr trust (g + weight_decay p) + momentum b), as optax
    maximize       climbs
    decay_in_norm  the denominator is |g + weight_decay p|, as optax and most code; the paper adds the norms
    exclude_1d     tensors of fewer than two dimensions (biases, norms) take trust 1 and no decay, as most
                   recipes; the paper does not say

    Three launches a run, whatever the number of tensors; nothing is read back.
    [You, Gitman & Ginsburg 2017, arXiv:1708.03888, Algorithm 1]
    """

    kernel = TEXT
    ranges = {
        "trust_coefficient": Range("trust_coefficient value"),
    }
    steady = True
    record = Record(
        year=2017,
        paper="You, Gitman & Ginsburg, Large batch training of convolutional networks, arXiv:1708.03888, "
        "Algorithm 1",
        latex=r"b \leftarrow \mu b + \eta\,\frac{c\,\|\theta\|}{\|g\| + \lambda\|\theta\|}\,"
        r"(g + \lambda\theta), \quad \theta \leftarrow \theta - b",
        oracles=("optax", "pytorch_optimizer"),
        kind="layer-wise",
        launches="3",
        texts=(LARS_NORMS, LARS_TRUST, TEXT),
        presets={
            "paper": {},
            "optax": dict(weight_decay=0.0, decay_in_norm=True),
            "pytorch_optimizer": dict(lr=1e-3, weight_decay=0.0, exclude_1d=True),
            "tinygrad": dict(lr=1e-3, weight_decay=1e-4),
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        trust_coefficient: float = 1e-3,
        *,
        nesterov: bool = False,
        maximize: bool = False,
        decay_in_norm: bool = False,
        exclude_1d: bool = False,
    ):
        options = dict(lr=lr, momentum=momentum, weight_decay=weight_decay)
        options |= dict(trust_coefficient=trust_coefficient, nesterov=nesterov, maximize=maximize)
        super().__init__(params, options | dict(decay_in_norm=decay_in_norm, exclude_1d=exclude_1d))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and not group["momentum"] > 0:
            raise ValueError(f"LARS: nesterov requires a momentum; it is {group['momentum']}")

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        names = ("momentum", "nesterov", "maximize", "decay_in_norm", "exclude_1d")
        return tuple([name for name in names if group[name]])

    def slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        names = ("lr", "momentum", "weight_decay", "trust_coefficient")
        return {name: float(group[name]) for name in names}

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        if run.start == run.stop:
            return
        at = segments(run)
        gradient, values = chunks(run.piece(run.arena.gradient)), chunks(run.piece(run.arena.array))
        ww, dd, trust, decay = at.of_chunks(), at.of_chunks(), at.of_tensors(), at.of_tensors()
        call(LARS_NORMS, flags, scalars, gradient, values, ww, dd)
        call(LARS_TRUST, flags, scalars, at.used, at.first, at.thin, ww, dd, trust, decay)
        buffer = chunks(self.slot(run, "momentum_buffer")) if group["momentum"] else None
        call(TEXT, flags, scalars, gradient, at.seg, trust, decay, values, buffer)


def call(text: Any, flags: tuple[str, ...], scalars: dict[str, float], *arrays: Any) -> None:
    """Run one of a rule's texts, with those of the rule's flags and scalars that it has."""
    chosen = tuple([name for name in flags if name in text.flags])
    text(*arrays, scalars={name: scalars[name] for name in text.scalars}, flags=chosen)
