"""Prodigy: Adam that finds its own learning rate.

How far is the solution? If gradients all point to it, then <g, p0 - p> says so from below, and so

    d = max(d, sum of d^2 lr <g, p0 - p> / |sum of d^2 lr g|_1)

grows until it is about |p0 - p*| and stays. d lr is the learning rate. The sums run over all parameters of
all groups, so a step is three things: moments and the parts of both sums, a launch a group; the new d, one
launch; the step, a launch a group. d is a double on the device, and never leaves it.
"""

from __future__ import annotations

from math import sqrt
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from kernels.rules import PRODIGY, PRODIGY_ESTIMATE, PRODIGY_MOMENTS

from ..arena import CHUNK, Arena
from ..backend import Array, empty, to_device
from ..tensor import Tensor
from .groups import Range, averages
from .optimizer import Optimizer, Run
from .record import Record

DEVICE = ("d", "d_max", "d_numerator")  # what lives on the device, a 0-d Tensor for all groups
DOUBLE = np.dtype(np.float64)
SLOTS = ("p0", "exp_avg", "exp_avg_sq", "s")


class Prodigy(Optimizer):
    """p <- p - d lr (m / (sqrt(v) + d eps) + weight_decay p),  m, v the averages of d g and d^2 g^2;

    s <- beta3 s + d^2 lr g / d0,  r <- beta3 r + d^2 lr <g, p0 - p> / d0,  d <- max(d, d_coef r / |s|_1).

    Arguments and defaults are prodigyopt's. Leave lr at 1, and let a schedule change it: lr >= 0, the same in
    all groups, or 0: such a group stands still. betas in [0, 1); beta3 in [0, 1), None is sqrt(beta2).
    eps > 0. weight_decay >= 0, decoupled, or with decouple=False an L2 penalty. use_bias_correction is
    Adam's; safeguard_warmup leaves lr out of s. d0 > 0 to begin with; d_coef > 0, the one to tune; d grows
    by at most growth_rate >= 1 a step. slice_p >= 1: only every slice_p-th element is asked for d, and state
    is not smaller for it. fsdp_in_use is without effect.

    d, d_max and d_numerator stand in param_groups, after the first step as 0-d Tensors on the device: reading
    one waits for the device. All parameters are on one. k counts the steps of the optimizer, for the bias
    correction. Where prodigyopt departs from the paper we follow it: the d of eps is the new one, that of the
    step the old one (with beta1 = 0, where prodigyopt takes the new one, too).
    [Mishchenko & Defazio 2024, Algorithm 4]
    """

    eager = "it counts its steps in param_groups"
    kernel = PRODIGY
    ranges = {"d0": Range("d0 value", above=True), "d_coef": Range("d_coef value", above=True)}
    ignored = (*Optimizer.ignored, "fsdp_in_use")
    record = Record(
        year=2023,
        paper="Mishchenko & Defazio, Prodigy: an expeditiously adaptive parameter-free learner,"
        " arXiv:2306.06101, Algorithm 4",
        latex=r"\theta \leftarrow \theta - d\,\eta\, m / (\sqrt{v} + d\epsilon), \quad"
        r" d \leftarrow \max\big(d,\, r / \lVert s\rVert_1\big), \quad"
        r" r \leftarrow \beta_3 r + d^2\eta\,\langle g, \theta_0 - \theta\rangle, \quad"
        r" s \leftarrow \beta_3 s + d^2\eta\, g",
        oracles=("prodigyopt", "optax", "pytorch_optimizer"),
        kind="global",
        launches="2 a group, and 1",
        presets={
            "paper": {},
            "prodigyopt": {},
            "optax": dict(lr=0.1, betas=(0.9, 0.999), use_bias_correction=True),
        },
        texts=(PRODIGY_MOMENTS, PRODIGY_ESTIMATE, PRODIGY),
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0,
        decouple: bool = True,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = float("inf"),
        fsdp_in_use: bool = False,
        slice_p: int = 1,
    ):
        options = dict(lr=lr, betas=betas, beta3=beta3, eps=eps, weight_decay=weight_decay, decouple=decouple)
        options |= dict(use_bias_correction=use_bias_correction, safeguard_warmup=safeguard_warmup)
        options |= dict(d0=d0, d_coef=d_coef, growth_rate=growth_rate, slice_p=slice_p)
        super().__init__(params, options | dict(d=d0, d_max=d0, d_numerator=0.0, k=0))

    def prepare(self, defaults: dict[str, Any]) -> None:
        super().prepare(defaults)
        self.phases: WeakKeyDictionary[Arena, dict[tuple, Array]] = WeakKeyDictionary()

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["beta3"] is not None:
            Range("beta3 value", high=1).check(type(self).__name__, group["beta3"])
        if not group["growth_rate"] >= 1:
            what = f"{type(self).__name__}: Invalid growth_rate value: {group['growth_rate']}"
            raise ValueError(f"{what}; it must be a number of at least 1, or inf")
        if not isinstance(group["slice_p"], int) or group["slice_p"] < 1:
            what = f"{type(self).__name__}: Invalid slice_p value: {group['slice_p']}"
            raise ValueError(f"{what}; it must be a positive whole number")

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        asked = [name for name in ("decouple", "safeguard_warmup") if group[name]]
        return (*asked, "sliced") if group["slice_p"] > 1 else tuple(asked)

    def slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        return SLOTS

    def begin(self, run: Run, group: dict[str, Any]) -> None:
        """p0 is where a parameter starts."""
        self.slot(run, "p0")[...] = run.piece(run.arena.array)

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        """Of the step t of the optimizer; those of all three texts. lr is the largest of the groups."""
        first = self.param_groups[0]
        beta1, beta2 = map(float, first["betas"])
        bias = sqrt(1 - beta2**t) / (1 - beta1**t) if first["use_bias_correction"] else 1.0
        return dict(
            **averages(beta1, beta2),
            beta3=sqrt(beta2) if first["beta3"] is None else float(first["beta3"]),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            d0=float(first["d0"]),
            d_coef=float(first["d_coef"]),
            growth_rate=float(first["growth_rate"]),
            lr_bias=max(float(g["lr"]) for g in self.param_groups) * bias,
            slice_p=float(group["slice_p"]),
        )

    def update(self) -> None:
        """2 launches a group and 1. All that may raise comes before the first: an error changes nothing."""
        work = [
            (run, group, frozenset(self.flags(group)), self.scalars(group, group["k"] + 1))
            for group in self._moving()
            for run in self.runs(group["params"])
        ]
        if not work:
            return
        where = self._one_device([run.arena for run, *_ in work])
        d, d_max, d_numerator = (self._on_device(name, where) for name in DEVICE)
        rows = sum(run.stop - run.start for run, *_ in work) // CHUNK
        dots, sums, rate = (empty((n,), DOUBLE, where) for n in (rows, rows, 1))
        at = 0
        for run, group, flags, scalars in work:
            if run.t == 1:
                self.begin(run, group)
            a, to = run.arena, at + (run.stop - run.start) // CHUNK
            arrays = [run.piece(a.gradient), run.piece(a.array), *(self.slot(run, name) for name in SLOTS)]
            g, p, p0, m, v, s = (x.reshape(-1, CHUNK) for x in arrays)
            phase = self._phase(run, group["slice_p"]) if "sliced" in flags else None
            chosen = {name: scalars[name] for name in PRODIGY_MOMENTS.scalars}
            PRODIGY_MOMENTS(
                g, p, p0, d, phase, m, v, s, dots[at:to], sums[at:to], scalars=chosen, flags=flags
            )
            at = to
        chosen = {name: scalars[name] for name in PRODIGY_ESTIMATE.scalars}
        parts = (dots.reshape(1, -1), sums.reshape(1, -1))
        PRODIGY_ESTIMATE(*parts, d, d_max, d_numerator, rate, scalars=chosen)
        for run, _, flags, scalars in work:
            chosen = {name: scalars[name] for name in PRODIGY.scalars}
            arrays = [
                self.slot(run, "exp_avg"),
                self.slot(run, "exp_avg_sq"),
                d,
                rate,
                run.piece(run.arena.array),
            ]
            PRODIGY(*arrays, scalars=chosen, flags=flags & {"decouple"})
            self.steps.update(dict.fromkeys(run.params, run.t))
        for arena in {run.arena for run, *_ in work}:
            arena.version[0] += 1
        for group in self.param_groups:
            group["k"] += 1

    def _moving(self) -> list[dict[str, Any]]:
        """The groups whose lr is not 0; ValueError if they differ in it."""
        rates = {float(group["lr"]) for group in self.param_groups} - {0.0}
        if len(rates) > 1:
            raise ValueError(
                f"Prodigy: groups with different lr, {', '.join(map(str, sorted(rates)))}; d is common to "
                "all, so they have one lr, or 0"
            )
        return [group for group in self.param_groups if float(group["lr"])]

    def _one_device(self, arenas: list[Arena]) -> Any:
        """The device of all parameters. ValueError if there are several."""
        devices = {str(a.device) for a in arenas}
        if len(devices) > 1:
            raise ValueError(
                f"Prodigy: parameters on {' and '.join(sorted(devices))}; d is common to all, so they must "
                "be on one device"
            )
        return arenas[0].device

    def _on_device(self, name: str, where: Any) -> Array:
        """One of the numbers that live on the device, as an array of one element; the groups share it."""
        value = self.param_groups[0][name]
        if not isinstance(value, Tensor):
            value = Tensor(to_device(np.array(float(value)), where))
        elif value.device != where:
            value = Tensor(to_device(value.array, where))
        for group in self.param_groups:
            group[name] = value
        return value.array.reshape(1)

    def _phase(self, run: Run, every: int) -> Array:
        """For each row of a run, the place of its first element in its tensor, modulo `every`."""
        known = self.phases.setdefault(run.arena, {})
        key = (run.start, run.stop, every)
        if key not in known:
            chunks = [np.arange((p.stop - p.offset) // CHUNK) for p in run.params]
            places = np.concatenate([(c * CHUNK % every).astype(np.int32) for c in chunks])
            known[key] = to_device(places, run.arena.device)
        return known[key]
