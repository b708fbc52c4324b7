"""Hypergradient descent: the learning rate goes down the slope of the loss, too.

The loss after a step depends on the learning rate of that step: with p = p' - lr u, dL(p)/dlr = -g . u, g the
gradient at p. So before each step

    lr <- lr + hypergrad_lr g . u,       u the direction of the step before               [Baydin et al. 2018]

A group learns one lr, a 0-d Tensor in param_groups that lives on the device: no step reads it back. It may be
set by hand or by a schedule; learning goes on from there. It is not kept from becoming negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cuda import graph
from kernels.rules import ADAM_HD, HYPER_DOT, HYPER_RATE, SGD_HD

from ..arena import CHUNK
from ..backend import empty
from ..tensor import Tensor
from .groups import RANGES, Range, averages, number
from .on_device import place, scalar
from .optimizer import Optimizer, Run
from .record import Record
from .segments import chunks


class Hypergradient(Optimizer):
    """What the rules of this kind share. Parameters of one group share a device and the type of lr."""

    steady = True
    ranges = {"hypergrad_lr": Range("hypergrad_lr")}

    def check(self, group: dict[str, Any]) -> None:
        lr = group["lr"]
        super().check({k: v for k, v in group.items() if k != "lr"})
        if isinstance(lr, Tensor):  # what was learned may be below zero
            number(type(self).__name__, "learning rate", lr, -np.inf)
        else:
            RANGES["lr"].check(type(self).__name__, lr)

    def group(self, given: dict[str, Any]) -> dict[str, Any]:
        whole = super().group(given)
        scalar(type(self).__name__, whole, "lr", whole["lr"])
        return whole

    def update(self) -> None:
        work = [(group, self.runs(group["params"])) for group in self.param_groups]
        for group, runs in work:
            self.learn(group, [run for run in runs if run.stop > run.start])
        super().update()

    def learn(self, group: dict[str, Any], runs: list[Run]) -> None:
        """lr <- lr + hypergrad_lr d . u, over all runs of a group."""
        if not runs:
            return
        rate = place(type(self).__name__, group, "lr")
        sizes = [(run.stop - run.start) // CHUNK for run in runs]
        dots = empty((sum(sizes),), rate.dtype, runs[0].arena.device)
        start, recorder = 0, graph.current()
        for run, size in zip(runs, sizes, strict=True):
            scalars = self.scalars(group, run.t)
            if recorder is not None:
                recorder.launching(self, group, self.flags(group), run, scalars, counts=False)
            buffers = (run.piece(run.arena.gradient), run.piece(run.arena.array), self.slot(run, "direction"))
            HYPER_DOT(*map(chunks, buffers), dots[start : start + size], scalars=chosen(HYPER_DOT, scalars))
            start += size
        HYPER_RATE(dots.reshape(1, -1), rate, rate, scalars=chosen(HYPER_RATE, scalars))

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        if run.start == run.stop:
            return
        used = self.slots(group)
        state = [self.slot(run, p.name) if p.name in used else None for p in self.kernel.outputs[1:]]
        rate = group["lr"].array.reshape(1)
        gradient, values = run.piece(run.arena.gradient), run.piece(run.arena.array)
        self.kernel(gradient, rate, values, *state, scalars=chosen(self.kernel, scalars), flags=flags)


def chosen(text: Any, scalars: dict[str, float]) -> dict[str, float]:
    """The scalars that a text takes."""
    return {name: scalars[name] for name in text.scalars}


class SGDHD(Hypergradient):
    """lr <- lr + hypergrad_lr d . u;  p <- p - lr u,  u = d = g + weight_decay p   (SGD-HD)

    With momentum u = b, b <- momentum b + d; with nesterov u = d + momentum b (SGDN-HD). The paper's rates
    are lr 1e-3 at the start and hypergrad_lr 1e-3, which suits losses of a few thousand parameters and is to
    be lowered for larger ones: d . u is a sum over all. lr >= 0, hypergrad_lr >= 0, momentum >= 0,
    weight_decay >= 0 (an L2 penalty). With hypergrad_lr 0 it is SGD.
    [Baydin, Cornish, Martinez Rubio, Schmidt & Wood 2018, Algorithms 4 and 5]
    """

    kernel = SGD_HD
    record = Record(
        year=2018,
        paper="Baydin et al., Online learning rate adaptation with hypergradient descent, ICLR 2018, "
        "Algorithms 4 and 5",
        latex=r"\eta \leftarrow \eta + \kappa\, g_t^\top g_{t-1}, \quad \theta \leftarrow \theta - \eta g_t",
        oracles=(),
        kind="global",
        launches="3",
        texts=(HYPER_DOT, HYPER_RATE, SGD_HD),
        presets={"paper": {}, "nesterov": dict(momentum=0.9, nesterov=True)},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        hypergrad_lr: float = 1e-3,
        momentum: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
    ):
        options = dict(lr=lr, hypergrad_lr=hypergrad_lr, momentum=momentum, weight_decay=weight_decay)
        super().__init__(params, options | dict(nesterov=nesterov))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and not group["momentum"] > 0:
            raise ValueError("SGDHD: Nesterov momentum requires a momentum")

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        names = ("momentum", "weight_decay", "hypergrad_lr")
        return {name: float(group[name]) for name in names}


class AdamHD(Hypergradient):
    """lr <- lr + hypergrad_lr d . u;  p <- p - lr u,  u = m^ / (sqrt(v^) + eps), Adam's   (Adam-HD)

    m and v are Adam's moments of d = g + weight_decay p. lr >= 0, hypergrad_lr >= 0, betas in [0, 1),
    eps > 0, weight_decay >= 0 (an L2 penalty). With hypergrad_lr 0 it is Adam.
    [Baydin, Cornish, Martinez Rubio, Schmidt & Wood 2018, Algorithm 6]
    """

    kernel = ADAM_HD
    record = Record(
        year=2018,
        paper="Baydin et al., Online learning rate adaptation with hypergradient descent, ICLR 2018, "
        "Algorithm 6",
        latex=r"\eta \leftarrow \eta + \kappa\, g_t^\top u_{t-1}, \quad \theta \leftarrow \theta - \eta u_t,"
        r" \quad u_t = \hat m_t / (\sqrt{\hat v_t} + \epsilon)",
        oracles=(),
        kind="global",
        launches="3",
        texts=(HYPER_DOT, HYPER_RATE, ADAM_HD),
        presets={"paper": {}, "S1": {}},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        hypergrad_lr: float = 1e-7,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ):
        options = dict(lr=lr, hypergrad_lr=hypergrad_lr, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, options)

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        beta1, beta2 = map(float, group["betas"])
        return dict(
            **averages(beta1, beta2),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            hypergrad_lr=float(group["hypergrad_lr"]),
            bias1=1 - beta1**t,
            bias2_sqrt=(1 - beta2**t) ** 0.5,
        )
