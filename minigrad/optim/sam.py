"""SAM: the gradient of the worst point nearby."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from kernels.rules import SAM as TEXT
from kernels.rules import SAM_NORM, SAM_NORMS

from .. import random
from ..arena import CHUNK, collect, house
from ..backend import Array, empty, to_device
from ..grad_mode import enable_grad
from ..statistics import hold
from ..tensor import Tensor
from .excursion import excursion, pieces
from .groups import number
from .optimizer import Optimizer
from .record import Record
from .sgd import SGD
from .wrapper import Wrapper


def _example(
    params: Any,
    lr: float | Tensor = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    *,
    rho: float = 0.05,
    adaptive: bool = False,
) -> Any:
    """SAM around SGD, which optim.zoo has of it."""
    return SAM(SGD(params, lr, momentum, weight_decay=weight_decay, nesterov=nesterov), rho, adaptive)


class SAM(Wrapper):
    """p <- p - step(grad L(p + e)),   e = rho g / |g|,  g = grad L(p),  |g| of all gradients together

    optimizer: the rule that steps with the gradient of the second pass. rho >= 0 is the radius.
    adaptive: e = rho p^2 g / | |p| g |, a radius relative to the parameters (ASAM; there rho is larger).

        loss = optimizer.step(closure)      # closure: zero_grad, forward, backward; it is called twice

    The loss is the first pass's. Gradients are forgotten between the passes. In the second pass running
    statistics hold still (minigrad.statistics), so that those of batch norm change once a step, and dropout
    draws the masks of the first, so that both gradients are of one function. Then the parameters come back to
    the very bits they had, and the rule inside steps. A gradient that is zero or not finite makes e zero.

    Without a closure, as a GradScaler needs it (e does not depend on the scale):

        loss.backward();  optimizer.first_step(zero_grad=True)
        with mg.statistics.hold(): again(...).backward()
        optimizer.step()                    # or scaler.step(optimizer)

    A first_step() that no step() followed (the scaler skipped it) is undone by the next one, or by go_back().
    Nothing is read back; three launches besides the rule's, where the parameters lie side by side.
    [Foret et al. 2021, arXiv:2010.01412, Algorithm 1; Kwon et al. 2021, arXiv:2102.11600, for adaptive]
    """

    numbers = ("rho", "adaptive")
    record = Record(
        year=2020,
        paper="Foret, Kleiner, Mobahi & Neyshabur, Sharpness-aware minimization for efficiently improving "
        "generalization, ICLR 2021, arXiv:2010.01412, Algorithm 1",
        latex=r"\theta \leftarrow \theta - \eta\,\nabla L(\theta + \rho\, g / \|g\|)",
        oracles=("optax", "pytorch_optimizer"),
        kind="global",
        needs=("closure", "another rule"),
        launches="3, and those of the rule inside",
        texts=(SAM_NORMS, SAM_NORM, TEXT),
        presets={"paper": {}, "pytorch_optimizer": {}},
        proof="tests/test_sam.py",
        example=_example,
    )

    def __init__(self, optimizer: Optimizer, rho: float = 0.05, adaptive: bool = False):
        super().__init__(optimizer)
        number("SAM", "rho value", rho, 0)
        inner = self.innermost.record
        if isinstance(optimizer, SAM) or (inner is not None and "closure" in inner.needs):
            raise ValueError(
                f"SAM: {type(optimizer).__name__} calls the closure by itself; SAM wraps rules "
                "that take a gradient"
            )
        self.rho, self.adaptive = rho, bool(adaptive)
        self.unsaved()

    def unsaved(self) -> None:
        self.away = ExitStack()  # what brings the parameters back
        self.is_away = False

    def advance(self, closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            if not self.is_away:
                raise RuntimeError(
                    "SAM: step() takes a closure that computes loss and gradients, called twice; or call "
                    "first_step() before it"
                )
            self.go_back()
            return self.optimizer.step()
        self.go_back()
        draws = random.default_generator.offset
        with enable_grad():
            loss = closure()
        self.first_step(zero_grad=True)
        try:
            random.default_generator.offset = draws
            with enable_grad(), hold():
                closure()
        finally:
            self.go_back()
        self.optimizer.step()
        return loss

    def first_step(self, zero_grad: bool = False) -> None:
        """Go from p to p + e. With zero_grad, forget the gradients then."""
        self.go_back()
        params = [p for p in self.parameters() if p.grad is not None]
        for p in params:
            if p.grad is not p.slot:
                house([p])
                collect(p, self.optimizer.label)
        runs = [piece for piece in pieces(params) if piece[1] < piece[2]]
        self.away.enter_context(excursion(params))
        self.is_away = True
        if runs:
            self._perturb(runs)
        if zero_grad:
            self.zero_grad()

    def go_back(self) -> None:
        """Bring the parameters back from a first_step(), bit for bit; without one, do nothing."""
        self.is_away = False
        self.away.close()

    def _perturb(self, runs: list[tuple[Any, int, int]]) -> None:
        flags = ("adaptive",) if self.adaptive else ()
        parts = []
        for arena, start, stop in runs:
            g, p = (a[start:stop].reshape(-1, CHUNK) for a in (arena.gradient, arena.array))
            parts.append(SAM_NORMS(g, p, flags=flags))
        norm = _norm(parts, runs[0][0].device)
        for arena, start, stop in runs:
            kind = np.float64 if arena.dtype == np.float64 else np.float32
            here = to_device(norm, arena.device).astype(kind, copy=False)
            scalars = dict(rho=float(self.rho))
            TEXT(arena.gradient[start:stop], here, arena.array[start:stop], scalars=scalars, flags=flags)
            arena.version[0] += 1


def _norm(parts: list[tuple[Array, Array]], where: Any) -> Array:
    """The norm (1,) of all parts together; on `where`, in the widest of their types."""
    if len(parts) == 1:
        return SAM_NORM(*(a.reshape(1, -1) for a in parts[0]))
    kind = max((peak.dtype for peak, _ in parts), key=lambda d: d.itemsize)
    whole = [empty((1, sum(peak.size for peak, _ in parts)), kind, where) for _ in range(2)]
    for joined, pieces_ in zip(whole, zip(*parts, strict=True), strict=True):
        at = 0
        for piece in pieces_:
            joined[0, at : at + piece.size] = to_device(piece, where)
            at += piece.size
    return SAM_NORM(*whole)
