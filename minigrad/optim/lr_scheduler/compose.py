"""Schedulers made of schedulers: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from .base import LRScheduler, copied, put, values
from .plateau import ReduceLROnPlateau


class Composite(LRScheduler):
    """Base: the parts in _schedulers, all of one optimizer; their states are in this one's."""

    _schedulers: Sequence[LRScheduler]

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"_schedulers": [part.state_dict() for part in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._check_state(state_dict)
        own = {k: v for k, v in state_dict.items() if k not in ("optimizer", "_schedulers")}
        vars(self).update(own)
        for part, state in zip(self._schedulers, state_dict["_schedulers"]):
            part.load_state_dict(state)

    def _check_state(self, state_dict: dict[str, Any]) -> None:
        super()._check_state(state_dict)
        rule, saved = type(self).__name__, state_dict.get("_schedulers", ())
        if len(saved) != len(self._schedulers):
            raise ValueError(f"{rule}: the state has {len(saved)} schedulers, not {len(self._schedulers)}")
        for part, state in zip(self._schedulers, saved):
            part._check_state(state)

    def _to_initial(self) -> None:
        """Every group's lr is its initial_lr again."""
        for group in self.optimizer.param_groups:
            put(group, "lr", copied(group["initial_lr"]))


class SequentialLR(Composite):
    """schedulers[k] with k the number of milestones <= t; each begins at its own epoch 0.

    Construction takes back what the parts' own construction did to lr. ValueError unless there is one
    scheduler more than milestones, all of this optimizer, and none ReduceLROnPlateau; TypeError for what is
    no scheduler. A part may be a SequentialLR or a ChainedScheduler anywhere; PyTorch's takes them in the
    first place only.
    """

    def __init__(
        self, optimizer: Any, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ):
        fitting(type(self).__name__, optimizer, schedulers)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number "
                "of "
                f"milestone points, but got {len(schedulers)} schedulers and {len(milestones)} milestones"
            )
        self._schedulers, self._milestones = schedulers, milestones
        self.optimizer = optimizer
        for part in schedulers:
            part._undo()
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self.last_epoch += 1
        self._to_initial()
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:  # type: ignore[override]
        """A step of the part whose turn it is; at a milestone the next one begins."""
        self.last_epoch += 1
        k = bisect_right(self._milestones, self.last_epoch)
        part = self._schedulers[k]
        if k > 0 and self._milestones[k - 1] == self.last_epoch:
            part._restart()
        else:
            part.step()
        self._last_lr = part.get_last_lr()

    def _undo(self) -> None:
        super()._undo()
        self._schedulers[bisect_right(self._milestones, 0)]._undo()

    def _restart(self) -> None:
        self.last_epoch = -1
        self._initial_step()


class ChainedScheduler(Composite):
    """All schedulers at every step, one after the other: lr times the product of their factors.

    ValueError unless there is one at least, all of one optimizer, and none ReduceLROnPlateau; TypeError for
    what is no scheduler.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Any = None):
        fitting(type(self).__name__, optimizer, schedulers)
        self._schedulers = schedulers
        self.optimizer = optimizer or schedulers[0].optimizer
        self._last_lr = values(self.optimizer, "lr")

    def step(self) -> None:  # type: ignore[override]
        """A step of each."""
        for part in self._schedulers:
            part.step()
        self._last_lr = values(self.optimizer, "lr")

    def _initial_step(self) -> None:
        for part in self._schedulers:
            part._initial_step()
        self._last_lr = values(self.optimizer, "lr")

    def _undo(self) -> None:
        for part in self._schedulers:
            part._undo()

    def _restart(self) -> None:
        self._to_initial()
        self._initial_step()


def fitting(rule: str, optimizer: Any, schedulers: Sequence[Any]) -> None:
    """ValueError or TypeError, naming the place, for schedulers that cannot be put together."""
    if len(schedulers) < 1:
        raise ValueError(f"{rule} expects at least one scheduler, but got no scheduler.")
    for k, part in enumerate(schedulers):
        if not hasattr(part, "optimizer"):
            raise TypeError(
                f"{rule} at index {k} should have `optimizer` as its attribute: {part!r} has none."
            )
        if isinstance(part, ReduceLROnPlateau):
            raise ValueError(
                f"{rule} does not support `ReduceLROnPlateau` scheduler, whose `step` needs the metric, but "
                f"got one at index {k} in the given schedulers sequence."
            )
        expected = schedulers[0].optimizer if optimizer is None else optimizer
        if part.optimizer is not expected:
            raise ValueError(
                f"{rule} expects all schedulers to belong to the same optimizer, but {type(part).__name__} "
                f"at index {k} belongs to another {type(part.optimizer).__name__}."
            )
