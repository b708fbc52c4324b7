"""LAMB: Adam with a step size for every layer."""

from __future__ import annotations

from math import sqrt
from typing import Any

from kernels.rules import LAMB as TEXT
from kernels.rules import LAMB_NORMS, LAMB_STEP, LAMB_TRUST

from ..tensor import Tensor
from .groups import Range, averages, number
from .lars import call
from .optimizer import Optimizer, Run
from .record import Record
from .segments import chunks, segments


class LAMB(Optimizer):
    """p <- p - lr phi(|p|) / |r| r,   r = m^ / (sqrt(v^) + eps) + weight_decay p,

    m^, v^ Adam's moments with their bias corrected; the norms are each tensor's own, and the ratio is 1 where
    one of them is zero. lr >= 0, betas in [0, 1), eps > 0 outside the root, weight_decay >= 0.

    clamp            (low, high): phi(z) = min(max(z, low), high), which the paper allows; None: phi(z) = z
    bias_correction  False: m and v as they are
    exclude_1d       tensors of fewer than two dimensions take ratio 1 and no decay, as BERT recipes
    maximize         climbs

    Four launches a run, whatever the number of tensors; nothing is read back.
    [You et al. 2019, arXiv:1904.00962, Algorithm 2]
    """

    kernel = TEXT
    steady = True
    record = Record(
        year=2019,
        paper="You et al., Large batch optimization for deep learning: training BERT in 76 minutes, "
        "ICLR 2020, arXiv:1904.00962, Algorithm 2",
        latex=r"r = \hat m / (\sqrt{\hat v} + \epsilon) + \lambda\theta, \quad"
        r" \theta \leftarrow \theta - \eta\,\frac{\phi(\|\theta\|)}{\|r\|}\, r",
        oracles=("optax",),
        kind="layer-wise",
        launches="4",
        texts=(TEXT, LAMB_NORMS, LAMB_TRUST, LAMB_STEP),
        presets={"paper": {}, "optax": dict(weight_decay=0.0), "tinygrad": dict(weight_decay=0.0)},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        clamp: tuple[float, float] | None = None,
        bias_correction: bool = True,
        exclude_1d: bool = False,
        maximize: bool = False,
    ):
        options = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, clamp=clamp)
        options |= dict(bias_correction=bias_correction, exclude_1d=exclude_1d, maximize=maximize)
        super().__init__(params, options)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if (clamp := group["clamp"]) is not None:
            Range("clamp bounds", count=2).check("LAMB", clamp)
            number("LAMB", f"upper bound of clamp={tuple(clamp)}", clamp[1], float(clamp[0]))

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        return tuple([n for n in ("clamp", "exclude_1d", "maximize") if group[n] not in (None, False)])

    def slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        beta1, beta2 = map(float, group["betas"])
        low, high = map(float, group["clamp"] or (0.0, 0.0))
        debiased = group["bias_correction"]
        return dict(
            lr=float(group["lr"]),
            **averages(beta1, beta2),
            eps=float(group["eps"]),
            weight_decay=float(group["weight_decay"]),
            bias1=1 - beta1**t if debiased else 1.0,
            bias2_sqrt=sqrt(1 - beta2**t) if debiased else 1.0,
            low=low,
            high=high,
        )

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        if run.start == run.stop:
            return
        at, values = segments(run), run.piece(run.arena.array)
        m, v = self.slot(run, "exp_avg"), self.slot(run, "exp_avg_sq")
        ww, rr, trust = at.of_chunks(), at.of_chunks(), at.of_tensors()
        call(TEXT, flags, scalars, run.piece(run.arena.gradient), m, v)
        m, v, values = chunks(m), chunks(v), chunks(values)
        call(LAMB_NORMS, flags, scalars, values, m, v, at.thin_chunks, ww, rr)
        call(LAMB_TRUST, flags, scalars, at.used, at.first, at.thin, ww, rr, trust)
        call(LAMB_STEP, flags, scalars, m, v, at.seg, at.thin_chunks, trust, values)
