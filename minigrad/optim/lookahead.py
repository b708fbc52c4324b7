"""Lookahead: k steps forward, one step back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels.rules import LOOKAHEAD as TEXT

from ..tensor import Tensor
from .excursion import pieces
from .groups import number
from .optimizer import Optimizer
from .record import Record
from .sgd import SGD
from .wrapper import Wrapper

MOMENTA = ("momentum_buffer", "exp_avg")  # the slots that a rule may call its momentum


def _example(
    params: Any,
    lr: float | Tensor = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    *,
    k: int = 5,
    alpha: float = 0.5,
    pullback_momentum: str = "none",
) -> Any:
    """Lookahead around SGD, which optim.zoo has of it."""
    inner = SGD(params, lr, momentum, weight_decay=weight_decay, nesterov=nesterov)
    return Lookahead(inner, k, alpha, pullback_momentum)


class Lookahead(Wrapper):
    """after every k steps of the rule inside:  slow <- slow + alpha (p - slow);  p <- slow

    optimizer: any rule, or wrapper. k >= 1 steps, 0 <= alpha <= 1. The slow weights begin where the
    parameters are at the first step, are kept in float32 or wider, and are saved with the state; after a sync
    they are the parameters. The slow update is one launch for all parameters that lie side by side.

    pullback_momentum   what becomes of the momentum (the slot momentum_buffer or exp_avg) at a sync:
        "none"      it goes on
        "reset"     it becomes zero
        "pullback"  it is averaged as the weights are:  m <- slow_m <- slow_m + alpha (m - slow_m), from 0

    [Zhang, Lucas, Hinton & Ba 2019, arXiv:1907.08610, Algorithm 1]
    """

    steady = True
    numbers = ("k", "alpha", "pullback_momentum", "count")
    record = Record(
        year=2019,
        paper="Zhang, Lucas, Hinton & Ba, Lookahead optimizer: k steps forward, 1 step back, NeurIPS 2019, "
        "arXiv:1907.08610, Algorithm 1",
        latex=r"\phi \leftarrow \phi + \alpha\,(\theta_k - \phi), \quad \theta \leftarrow \phi",
        oracles=("optax", "pytorch_optimizer"),
        needs=("another rule",),
        launches="those of the rule inside; 1 more every k steps",
        texts=(TEXT,),
        presets={"paper": {}, "pytorch_optimizer": {}},
        proof="tests/test_wrappers.py",
        example=_example,
    )

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5, pullback_momentum: str = "none"):
        super().__init__(optimizer)
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"Lookahead: Invalid k: {k}; it must be a whole number of at least 1")
        number("Lookahead", "alpha value", alpha, 0)
        if alpha > 1:
            raise ValueError(f"Lookahead: Invalid alpha value: {alpha}; it must be a number in [0, 1]")
        if pullback_momentum not in ("none", "reset", "pullback"):
            raise ValueError(
                f"Lookahead: Invalid pullback_momentum: {pullback_momentum!r}; it is 'none', 'reset' or "
                "'pullback'"
            )
        self.k, self.alpha, self.pullback_momentum, self.count = k, alpha, pullback_momentum, 0
        self.unsaved()
        if pullback_momentum != "none" and not self.momenta():
            raise ValueError(
                f"Lookahead: pullback_momentum={pullback_momentum!r}, but "
                f"{type(self.innermost).__name__} has no {' or '.join(MOMENTA)} with these options"
            )

    def unsaved(self) -> None:
        self.begun: set[Tensor] = set()  # the parameters that have slow weights

    @property
    def buffers(self) -> tuple[str, ...]:  # type: ignore[override]
        """The state slots."""
        return ("slow_param", "slow_momentum") if self.pullback_momentum == "pullback" else ("slow_param",)

    def momenta(self) -> list[str]:
        """The slots of the rule inside that are a momentum."""
        rule = self.innermost
        return [n for n in MOMENTA if any(n in rule.slots(g) for g in rule.param_groups)]

    def plain(self) -> bool:
        begun = all(p in self.begun for p in self.parameters())
        return begun and (self.count + 1) % self.k != 0 and self.optimizer.plain()

    def count_on(self, n: int) -> None:
        self.count += n

    def advance(self, closure: Callable[[], Any] | None) -> Any:
        for p in self.parameters():
            if p not in self.begun:
                self.place(p, "slow_param")[...] = p.array
                self.begun.add(p)
        loss = self.optimizer.step(closure)
        self.count_on(1)
        if self.count % self.k == 0:
            self.sync()
        return loss

    def sync(self) -> None:
        """The step back, for all parameters that have moved."""
        scalars = dict(alpha=float(self.alpha))
        for arena, start, stop in pieces(self.moved()):
            if start == stop:
                continue
            TEXT(arena.array[start:stop], arena.state(self, "slow_param")[start:stop], scalars=scalars)
            inner = arena.states.get(self.innermost, {})
            for name in MOMENTA if self.pullback_momentum != "none" else ():
                if name not in inner:
                    continue
                momentum = inner[name][start:stop]
                if self.pullback_momentum == "reset":
                    momentum.fill(0)
                else:
                    TEXT(momentum, arena.state(self, "slow_momentum")[start:stop], scalars=scalars)
            arena.version[0] += 1

    def restored(self, params: list[Tensor]) -> None:
        self.begun = set(params)
