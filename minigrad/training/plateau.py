"""Plateau: learning rates that fall where the score on held-out data gets no better.

ReduceLROnPlateau, the scheduler, with what a run adds to it: a warm-up in front, a state that is a part of a
checkpoint, and looks that count only where something was learnt since the last one.

    plateau = Plateau([0.1], mode="min", warm=50, patience=2)
    ...
    group["lr"] = plateau.schedules[0](t)      # t: optimizer steps completed, skipped ones not among them
    ...
    plateau.look(score, t)                     # at each look at held-out data
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

from ..optim.lr_scheduler import ReduceLROnPlateau
from ..optim.schedule import Schedule, warmup
from ..tensor import Tensor


class Plateau:
    """lr_k of each group: a ramp over `warm` steps, times a level that falls by `factor` on plateaus.

    lrs      the learning rates of the groups before any fall
    mode     "min" or "max": which of two scores is better
    warm     steps of linear warm-up
    options  ReduceLROnPlateau's: factor, patience, threshold, threshold_mode, cooldown, min_lr, eps. They
             count looks. A run looks at held-out data a few times only: patience is 1 unless given

    schedules    completed optimizer steps -> learning rate, one a group; they change when look() says so
    ValueError for an option that there is not, and what ReduceLROnPlateau refuses.
    """

    def __init__(self, lrs: Sequence[float], mode: str = "min", warm: float = 0.0, **options: Any):
        known = list(signature(ReduceLROnPlateau).parameters)[2:]  # without optimizer and mode
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ValueError(f"plateau: no option is called {', '.join(unknown)}; it has {', '.join(known)}")
        self.param_groups = [dict(lr=lr) for lr in lrs]  # what the scheduler takes for an optimizer's
        self.scheduler = ReduceLROnPlateau(self, mode, **{"patience": 1, **options})
        self.seen = 0
        self.schedules = [self._schedule(group, warm) for group in self.param_groups]

    @staticmethod
    def _schedule(group: dict[str, float], warm: float) -> Schedule:
        ramp = warmup(1.0, warm)
        return lambda t: group["lr"] * ramp(t)

    def __repr__(self) -> str:
        lrs, bad = [group["lr"] for group in self.param_groups], self.scheduler.num_bad_epochs
        return f"Plateau({lrs}, bad looks in a row: {bad})"

    def step(self, score: float | Tensor) -> None:
        """A look that counts."""
        self.scheduler.step(score)

    def look(self, score: float | Tensor, t: int) -> None:
        """The score after t completed steps. It does not count if all since the last look were skipped."""
        if t != self.seen:
            self.step(score)
        self.seen = t

    def state_dict(self) -> dict[str, Any]:
        lrs = [group["lr"] for group in self.param_groups]
        return dict(lrs=lrs, seen=self.seen, scheduler=self.scheduler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state_dict(). ValueError for another number of groups; then nothing has changed."""
        if len(state["lrs"]) != len(self.param_groups):
            raise ValueError(
                f"plateau: the state has {len(state['lrs'])} learning rates, not {len(self.param_groups)}"
            )
        self.scheduler.load_state_dict(state["scheduler"])
        for group, lr in zip(self.param_groups, state["lrs"]):
            group["lr"] = lr
        self.seen = state["seen"]
