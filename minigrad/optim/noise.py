"""Noise on purpose: on every gradient, or a kick where descent stands still.

Both draw from Philox with a seed of their own (kernels/normal.py): what element k of parameter number n gets
at step t is a function of (seed, n, k, t). So a run that is resumed draws what it would have drawn, on every
device, and there is no generator to save: the optimizer's state holds t.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from kernels.rules import GRADIENT_NOISE, NORMAL_NOISE, PERTURB_DECIDE, PERTURB_NORMS, PERTURBED_DESCENT

from ..arena import CHUNK, Arena
from ..backend import Array, empty, to_device
from ..random import philox4x32
from ..tensor import Tensor
from .groups import Range, number
from .on_device import place, scalar
from .optimizer import Optimizer, Run
from .record import Record
from .segments import chunks

_known: WeakKeyDictionary[Arena, dict[Any, Array]] = WeakKeyDictionary()


def places(run: Run, numbers: dict[Tensor, int]) -> Array:
    """For each chunk of a run: its parameter's number, its first element, the parameter's size.

    One array of int64 on the run's device, made at its first step and kept with its arena.
    """
    known = _known.setdefault(run.arena, {})
    key = (run.start, tuple([numbers[p] for p in run.params]))
    if key not in known:
        rows = [
            (numbers[p], first, p.array.size)
            for p in run.params
            for first in range(0, p.stop - p.offset, CHUNK)
        ]
        known[key] = to_device(np.array(rows, np.int64).reshape(-1), run.arena.device)
    return known[key]


def draw(seed: int, run: Run) -> Array:
    """Key and step of a run's draw, on its device."""
    return to_device(np.array([seed & (2**64 - 1), run.t], np.uint64), run.arena.device)


def _seed(rule: str, seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not -(2**63) <= seed < 2**64:
        raise ValueError(f"{rule}: Invalid seed: {seed!r}; it must be an integer of 64 bits")
    return int(seed)


class GradientNoise:
    """g <- g + N(0, eta / t^gamma) before every step t (from 1) of an optimizer, whichever it is.

        optimizer = optim.Adam(model.parameters())
        noise = optim.GradientNoise(optimizer, eta=0.3)

    It stays until noise.remove(). The optimizer remains what it is: its groups, state, schedules and hooks.
    A gradient that is missing stays missing; p.grad shows the noise after the step, as it shows clipping.
    A state_dict holds t but neither eta, gamma nor seed: make the noise again after loading, with the same.

    eta >= 0 (0.01, 0.3 and 1 in the paper), gamma >= 0, seed an integer of 64 bits. The paper counts t from 0
    and divides by (1 + t)^gamma, which is the same. "Adam with noisy L2" is Adam(weight_decay=...) with this.
    [Neelakantan et al. 2015, Adding gradient noise improves learning for very deep networks, eq. 1]
    """

    def __init__(self, optimizer: Optimizer, eta: float = 0.01, gamma: float = 0.55, seed: int = 0):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"GradientNoise: {type(optimizer).__name__} is no Optimizer")
        self.eta = number("GradientNoise", "eta", eta, 0)
        self.gamma = number("GradientNoise", "gamma", gamma, 0)
        self.seed = _seed("GradientNoise", seed)
        self.handle = optimizer.register_update_pre_hook(self)

    def __call__(self, optimizer: Optimizer) -> None:
        """Add the noise of the step that comes to the gradients that are there."""
        numbers = {p: k for k, p in enumerate(optimizer.parameters())}
        for group in optimizer.param_groups:
            for run in optimizer.runs(group["params"]):
                if run.stop > run.start:
                    scalars = dict(deviation=(self.eta / run.t**self.gamma) ** 0.5)
                    arrays = (places(run, numbers), draw(self.seed, run))
                    GRADIENT_NOISE(*arrays, run.piece(run.arena.gradient), scalars=scalars)
                    for p in run.params:
                        slot: Any = p.slot
                        p.grad = slot  # a gradient set by hand was copied there; its own memory is not ours
                        slot.touch()

    def remove(self) -> None:
        """Take the noise off the optimizer."""
        self.handle.remove()

    def __repr__(self) -> str:
        return f"GradientNoise(eta={self.eta}, gamma={self.gamma}, seed={self.seed})"


class PerturbedGD(Optimizer):
    """p <- p - lr g;  but where |g| <= threshold and no kick fell in the last `interval` steps:  p <- p + xi,

    xi uniform in the ball of that radius. Descent crawls at a saddle point, where a random kick finds a way
    down; at a minimum it is undone by the steps after it.

    |g| is the norm over the whole group, and a group is kicked as one. The decision is made on the device:
    nothing is read back, and `quiet`, the number of steps since the last kick, is a 0-d Tensor in
    param_groups. In the paper an iteration kicks and then descends from there; here the kick is a step for
    itself, since the gradient there is not known yet, so the points visited are the same. The paper's stop
    when a kick did not pay (f fell by less than f_thres in `interval` steps) is the caller's, who has f.

    lr >= 0, radius >= 0 (0: plain descent), threshold >= 0, interval >= 0 steps, seed an integer of 64 bits.
    The paper derives them from the constants of the loss (smoothness l, Hessian's rho, accuracy eps): with
    chi its logarithmic factor and c a constant, lr = c/l, radius = sqrt(c) eps / (chi^2 l),
    threshold = sqrt(c) eps / chi^2, interval = chi l / (c^2 sqrt(rho eps)). The defaults are for losses of
    order 1. [Jin, Ge, Netrapalli, Kakade & Jordan 2017, How to escape saddle points efficiently, Algorithm 4]
    """

    eager = "its noise is drawn by a count on the host"
    kernel = PERTURBED_DESCENT
    ranges = {
        "radius": Range("radius"),
        "threshold": Range("threshold"),
        "interval": Range("interval"),
        "quiet": Range("quiet"),
    }
    record = Record(
        year=2017,
        paper="Jin et al., How to escape saddle points efficiently, ICML 2017, Algorithm 4",
        latex=r"\theta \leftarrow \theta - \eta g; \quad \theta \leftarrow \theta + \xi,"
        r"\ \xi \sim U(B_r) \text{ where } \|g\| \le g_{thres}",
        oracles=(),
        proof="tests/test_noise.py",
        kind="global",
        launches="4",
        texts=(NORMAL_NOISE, PERTURB_NORMS, PERTURB_DECIDE, PERTURBED_DESCENT),
        presets={"paper": {}},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        radius: float = 1e-2,
        threshold: float = 1e-3,
        interval: float = 100,
        seed: int = 0,
    ):
        options = dict(lr=lr, radius=radius, threshold=threshold, interval=interval, seed=seed)
        super().__init__(params, options)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        _seed("PerturbedGD", group["seed"])

    def group(self, given: dict[str, Any]) -> dict[str, Any]:
        whole = super().group(given)
        scalar("PerturbedGD", whole, "quiet", float(whole["interval"]) + 1)  # the first kick may come at once
        return whole

    def prepare(self, defaults: dict[str, Any]) -> None:
        super().prepare(defaults)
        self.kicks: list[Array | None] = []  # of each group, in the step that runs

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        return dict(lr=float(group["lr"]))

    def update(self) -> None:
        work = [[run for run in self.runs(g["params"]) if run.stop > run.start] for g in self.param_groups]
        self.kicks = [self.decide(k, runs) if runs else None for k, runs in enumerate(work)]
        super().update()
        self.kicks = []

    def decide(self, k: int, runs: list[Run]) -> Array:
        """Draw noise for group k and decide: the factor of the noise in the kick, 0 for none."""
        group, rule = self.param_groups[k], "PerturbedGD"
        quiet, where = place(rule, group, "quiet"), runs[0].arena.device
        numbers = {p: n for n, p in enumerate(self.parameters())}
        seed, t = int(group["seed"]), max(run.t for run in runs)
        sizes = [(run.stop - run.start) // CHUNK for run in runs]
        gg, zz = (empty((1, sum(sizes)), quiet.dtype, where) for _ in range(2))
        start = 0
        for run, size in zip(runs, sizes, strict=True):
            noise = self.slot(run, "noise")
            NORMAL_NOISE(places(run, numbers), draw(seed, run), noise)
            part = slice(start, start + size)
            PERTURB_NORMS(chunks(run.piece(run.arena.gradient)), chunks(noise), gg[0, part], zz[0, part])
            start += size
        key = seed & (2**64 - 1)  # the radius has a word that no parameter has
        word = philox4x32((0, 0, t, 2**32 - 1 - k), (key & 0xFFFFFFFF, key >> 32))[0]
        size = sum(p.array.size for run in runs for p in run.params)
        reach = float(group["radius"]) * ((int(word) + 0.5) / 2**32) ** (1 / size)
        scalars = dict(threshold=float(group["threshold"]), interval=float(group["interval"]), reach=reach)
        kick = empty((1,), quiet.dtype, where)
        PERTURB_DECIDE(gg, zz, quiet, quiet, kick, scalars=scalars)
        return kick

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        if run.stop > run.start:
            k = next(k for k, other in enumerate(self.param_groups) if other is group)
            arrays = (run.piece(run.arena.gradient), self.slot(run, "noise"), self.kicks[k])
            PERTURBED_DESCENT(*arrays, run.piece(run.arena.array), scalars=scalars)
