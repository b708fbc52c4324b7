"""LRScheduler: what all schedulers share: the count, the learning rates they start from, the state.

A scheduler says what the learning rates are at epoch `last_epoch` in one of two forms:

    get_lr()                 from the groups' present lr, by a recursion: schedulers can be chained, and what
                             another scheduler or the user wrote into a group stays
    _get_closed_form_lr()    from base_lrs alone, as step(epoch) takes it; not every class has it

An lr that is a Tensor stays that Tensor and is filled in place. Construction writes initial_lr into every
group (unless it is there) and sets lr for epoch 0. With last_epoch >= 0 it continues: last_epoch is the one
before the epoch whose lr the groups hold, and a recursion leaves that lr alone [pytorch#60265, #102261].
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any
from weakref import ref

from kernels.cuda import graph

from ...tensor import Tensor

Rate = Any  # a number, or a Tensor of one element where the group's lr is one

ORDER = (
    "In PyTorch 1.1.0 and later, `optimizer.step()` comes before `lr_scheduler.step()`, or the first value "
    "of the schedule is skipped. See https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate"
)
EPOCH_DEPRECATION_WARNING = (
    "The epoch parameter in `scheduler.step()` is deprecated: call `scheduler.step()`. An epoch that is "
    "given takes the closed form, where there is one, in place of the chainable form."
)


class LRScheduler:
    """Base of all schedulers. A subclass defines get_lr(), and may define _get_closed_form_lr().

    optimizer: whose param_groups are written to; anything with param_groups and step(), so a wrapper as well.
    last_epoch: -1 to begin; else KeyError unless every group has its 'initial_lr'.
    """

    _is_initial: bool = False
    _get_lr_called_within_step: bool = False

    def __init__(self, optimizer: Any, last_epoch: int = -1):
        self.optimizer = checked(optimizer)
        for k, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{k}] when resuming scheduler with "
                    f"last_epoch >= 0 ({last_epoch}): load the optimizer's state first, or begin with -1"
                )
        self.base_lrs: list[Rate] = values(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        watch(optimizer)
        self._initial_step()

    # ----------------------------------------------------------------------------------------- learning rates

    def get_lr(self) -> list[Rate]:
        """The learning rates at last_epoch, one a group. To ask for the present ones, see get_last_lr()."""
        raise NotImplementedError(f"{type(self).__name__} defines no get_lr()")

    def get_last_lr(self) -> list[Rate]:
        """The learning rates that this scheduler set last, one a group; Tensors are copies."""
        return self._last_lr

    def step(self, epoch: Any = None) -> None:
        """To the next epoch, or to `epoch`, which is deprecated. After optimizer.step()."""
        if self._step_count == 1:
            if not hasattr(self.optimizer.step, WATCHED):
                warnings.warn(
                    "Seems like `optimizer.step()` has been overridden after learning rate scheduler "
                    f"initialization. {ORDER}",
                    UserWarning,
                    stacklevel=2,
                )
            elif not getattr(self.optimizer, "_opt_called", False):
                warnings.warn(
                    f"Detected call of `lr_scheduler.step()` before `optimizer.step()`. {ORDER}",
                    UserWarning,
                    stacklevel=2,
                )
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _initial_step(self) -> None:
        """Set what the groups have at the first epoch."""
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def _update_lr(self, epoch: Any = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed = None if epoch is None else getattr(self, "_get_closed_form_lr", None)
        self._get_lr_called_within_step = True
        try:
            found = self.get_lr() if closed is None else closed()
        finally:
            self._get_lr_called_within_step = False
        self._write(found)

    def _write(self, lrs: list[Rate]) -> None:
        groups = self.optimizer.param_groups
        if len(lrs) != len(groups):
            raise ValueError(
                f"{type(self).__name__}: {len(lrs)} learning rates for {len(groups)} parameter groups; make "
                "the scheduler after the last group was added"
            )
        for group, lr in zip(groups, lrs):
            put(group, "lr", lr)
        self._last_lr: list[Rate] = values(self.optimizer, "lr")

    # ------------------------------------------------------------------------- as a part of another scheduler

    def _undo(self) -> None:
        """Take back the count of the initial step, which is made again when it is this part's turn."""
        self.last_epoch -= 1

    def _restart(self) -> None:
        """Begin at epoch 0, whatever the groups' lr is now."""
        self._update_lr(0)

    # -------------------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """All that the scheduler knows, but the optimizer; PyTorch's names."""
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state_dict(), PyTorch's own too. Load the optimizer's state as well: it holds lr.

        TypeError for what is no dict; ValueError where it is of another number of groups, or of parts. Then
        nothing has changed.
        """
        self._check_state(state_dict)
        vars(self).update({name: value for name, value in state_dict.items() if name != "optimizer"})

    def _check_state(self, state_dict: dict[str, Any]) -> None:
        rule, groups = type(self).__name__, len(self.optimizer.param_groups)
        if not isinstance(state_dict, dict):
            raise TypeError(f"{rule}: the state is a {type(state_dict).__name__}, not a dict")
        count = len(state_dict.get("_last_lr", self.optimizer.param_groups))
        if count != groups:
            raise ValueError(f"{rule}: the state has {count} learning rates, the optimizer {groups} groups")


class _LRScheduler(LRScheduler):
    """LRScheduler by its former name."""


# -------------------------------------------------------------------------------------------- for the classes


def checked(optimizer: Any) -> Any:
    """The optimizer. TypeError for what has no param_groups or no step()."""
    if not (hasattr(optimizer, "param_groups") and callable(getattr(optimizer, "step", None))):
        raise TypeError(
            f"{type(optimizer).__name__} is not an Optimizer: it has no param_groups or no step()"
        )
    return optimizer


def inside(scheduler: LRScheduler) -> None:
    """A warning where get_lr() is called by the user: it would be one recursion too far."""
    if not scheduler._get_lr_called_within_step:
        warnings.warn(
            "To get the last learning rate computed by the scheduler, please use `get_last_lr()`.",
            UserWarning,
            stacklevel=3,
        )


def copied(value: Rate) -> Rate:
    """A number, or a copy of a Tensor."""
    return value.detach().clone() if isinstance(value, Tensor) else value


def values(optimizer: Any, name: str) -> list[Rate]:
    """What the groups have under a name; Tensors are copies."""
    return [copied(group[name]) for group in optimizer.param_groups]


def put(group: dict[str, Any], name: str, value: Rate) -> None:
    """Set an option of a group; a Tensor is filled in place and stays the same Tensor."""
    graph.refuse("a learning rate scheduler's step: it belongs after the captured one")
    if isinstance(group[name], Tensor):
        group[name].fill_(value.reshape(()) if isinstance(value, Tensor) else value)
    else:
        group[name] = value


def per_group(name: str, optimizer: Any, value: Any) -> list[Any]:
    """One value a group: of a list those, else the same for all. ValueError for a list of another length."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        value = [value] * groups
    elif len(value) != groups:
        raise ValueError(f"{name} has {len(value)} values, but the optimizer {groups} parameter groups")
    return [copied(each) for each in value]


WATCHED = "_wrapped_by_lr_sched"


def watch(optimizer: Any) -> None:
    """Have optimizer.step() note on the optimizer that it was called (`_opt_called`).

    It is the class that gets the noting step, where it defines it: the optimizer then refers to no scheduler
    and to nothing that could not be pickled.
    """
    if hasattr(optimizer.step, WATCHED):
        return
    if "step" in vars(optimizer):  # a step that was put on this one optimizer
        me, step = ref(optimizer), optimizer.step

        def noting(*args: Any, **kwargs: Any) -> Any:
            me()._opt_called = True  # type: ignore[union-attr]
            return step(*args, **kwargs)

        optimizer.step = _marked(noting, step)
        return
    for cls in type(optimizer).__mro__:
        if "step" in vars(cls):
            _watch_class(cls)
            return
    watch(optimizer.step.__self__)  # a wrapper that hands on all it does not know


def _watch_class(cls: Any) -> None:
    step = cls.step

    def noting(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._opt_called = True
        return step(self, *args, **kwargs)

    cls.step = _marked(noting, step)


def _marked(noting: Callable, step: Callable) -> Callable:
    noting = wraps(step)(noting)
    setattr(noting, WATCHED, True)
    return noting
