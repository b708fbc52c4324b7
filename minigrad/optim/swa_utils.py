"""Averages of a model's weights: exponential (EMA) and equal (SWA), with PyTorch's names.

    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    for batch in loader:
        ... optimizer.step()
        averaged.update_parameters(model)
    update_bn(loader, averaged)                  # the running statistics of its batch norms, if it has any

    EMA     a <- d a + (1 - d) p           the last 1 / (1 - d) steps, roughly      [Polyak & Juditsky 1992]
    SWA     a <- a + (p - a) / (n + 1)     the mean of all p seen                   [Izmailov et al. 2018]
    SWALR   the scheduler that goes with SWA: down to a constant rate, and there it stays

The average lies in memory as the model does: in an arena in the same order, so that an update is one launch
where the model's parameters lie side by side. How many models were averaged is counted on the host, so that
nothing is read from a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from functools import cache
from itertools import pairwise
from math import cos, pi
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.averaging import AVERAGE
from kernels.cuda import graph

from ..arena import Arena
from ..backend import Array, device_of, to_device
from ..grad_mode import no_grad
from ..ops.constants import constants
from ..tensor import Tensor
from .lr_scheduler.base import LRScheduler, inside, per_group

Average = Callable[[Tensor, Tensor, Any], Tensor]
MultiAverage = Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]


# ----------------------------------------------------------------------------------------- how to average


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """a <- decay a + (1 - decay) p for lists of tensors, in place; decay in [0, 1]."""
    _check_decay(decay)

    def ema_update(averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Any) -> None:
        _blend(averaged, current, 1 - decay)

    ema_update.on_host = True  # type: ignore[attr-defined]
    return ema_update


def get_swa_multi_avg_fn() -> MultiAverage:
    """a <- a + (p - a) / (num_averaged + 1) for lists of tensors, in place."""

    def swa_update(averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Any) -> None:
        _blend(averaged, current, 1 / (float(num_averaged) + 1))

    swa_update.on_host = True  # type: ignore[attr-defined]
    return swa_update


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """decay a + (1 - decay) p, a new tensor; decay in [0, 1]."""
    _check_decay(decay)

    @no_grad()
    def ema_update(averaged: Tensor, current: Tensor, num_averaged: Any) -> Tensor:
        return decay * averaged + (1 - decay) * current

    return ema_update


def get_swa_avg_fn() -> Average:
    """a + (p - a) / (num_averaged + 1), a new tensor."""

    @no_grad()
    def swa_update(averaged: Tensor, current: Tensor, num_averaged: Any) -> Tensor:
        return averaged + (current - averaged) / (num_averaged + 1)

    return swa_update


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(
            f"Invalid decay value {decay} provided. Please provide a value in [0,1] range."
        )  # PyTorch's words


def _blend(averaged: Sequence[Tensor], current: Sequence[Tensor], w: float) -> None:
    """a <- a + w (p - a), a launch for each stretch of memory that both sides have in one piece."""
    for a, p in _stretches(averaged, current):
        if a.dtype.kind in "fV":
            AVERAGE(p, a, scalars=constants(AVERAGE, a, (w, 1 - w)))
        else:  # a counter among the buffers: cut off, as PyTorch does
            a[...] = a * (1 - w) + p * w
    _changed(averaged)


def _stretches(averaged: Sequence[Tensor], current: Sequence[Tensor]) -> Iterator[tuple[Array, Array]]:
    """(memory of averages, memory of current values), as few pairs as possible, on the averages' devices."""
    housed: list[tuple[Tensor, Tensor]] = []
    pairs: list[tuple[Tensor, Tensor]] = []
    for a, p in zip(averaged, current, strict=True):
        together = a.arena is not None and p.arena is not None and a.arena.dtype == p.arena.dtype
        (housed if together else pairs).append((a, p))
    housed.sort(key=lambda pair: (id(pair[1].arena), pair[1].offset, pair[1].stop))
    runs: list[list[Any]] = []
    for a, p in housed:
        if (
            runs
            and runs[-1][::3] == [a.arena, p.arena]
            and (runs[-1][2], runs[-1][5]) == (a.offset, p.offset)
        ):
            runs[-1][2], runs[-1][5] = a.stop, p.stop
        else:
            runs.append([a.arena, a.offset, a.stop, p.arena, p.offset, p.stop])
    for mine, start, stop, theirs, first, last in runs:
        yield mine.array[start:stop], to_device(theirs.array[first:last], mine.device)
    for a, p in pairs:
        yield a.array, to_device(p.array, device_of(a.array)).astype(a.array.dtype, copy=False)


def _changed(tensors: Iterable[Tensor]) -> None:
    """Graphs that need these values will refuse to go on."""
    for version in {id(t.shared_version()): t.shared_version() for t in tensors}.values():
        version[0] += 1


# ----------------------------------------------------------------------------------------- the averaged model


class AveragedModel:
    """A copy of a model whose parameters are an average of the model's over time. It is a Module itself.

    model           the Module to copy; its copy is `.module`, and the names in state_dict() begin so
    device          where the copy lives; None: where the model does
    avg_fn          (average, current, n) -> new average, for each tensor; n models have been averaged
    multi_avg_fn    (averages, currents, n), in place, on lists of tensors of one device and dtype
    use_buffers     average buffers too; else they are copied at each update

    Without a function the average is equal (SWA). update_parameters(model) takes the model's values in:
    copies them the first time, averages from then on. Of the functions here n is an int; a function of your
    own gets the Tensor `n_averaged`, as in PyTorch.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        model = kwargs.get("model", args[0] if args else None)
        whole: type = cls
        return object.__new__(whole if model is None else _as_module(whole, _module_class(model)))

    def __init__(
        self,
        model: Any,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")  # PyTorch's words
        self.module = deepcopy(model)
        if device is not None:
            self.module.to(device)
        self.register_buffer("n_averaged", Tensor(np.zeros((), np.int64)))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, bool(use_buffers)
        self._counted: tuple[int, int] = (0, self.n_averaged.version[0])  # n, and the version that it is of

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def _count(self) -> int:
        """n_averaged as an int; the tensor is read only after somebody else changed it."""
        if self._counted[1] != self.n_averaged.version[0]:
            self._counted = (int(self.n_averaged), self.n_averaged.version[0])
        return self._counted[0]

    @no_grad()
    def update_parameters(self, model: Any) -> None:
        """Take the model's present values into the average. Not in a captured step: the host counts."""
        graph.refuse("AveragedModel.update_parameters: it belongs after the captured step")
        n, mine, theirs = self._count(), self.module, model
        averaged, current = list(mine.parameters()), list(theirs.parameters())
        if len(averaged) != len(current):
            raise ValueError(
                f"update_parameters: the model has {len(current)} parameters, the average {len(averaged)}"
            )
        _settle(averaged, current)
        if self.use_buffers:
            averaged, current = averaged + list(mine.buffers()), current + list(theirs.buffers())
        if n == 0:
            _copy(averaged, current)
        elif self.avg_fn is not None:
            for a, p in zip(averaged, current, strict=True):
                new = self.avg_fn(a.detach(), _beside(p, a).detach(), self.n_averaged)
                a.array[...] = to_device(new.array, device_of(a.array))
            _changed(averaged)
        else:
            function = self.multi_avg_fn or get_swa_multi_avg_fn()
            number = n if getattr(function, "on_host", False) else self.n_averaged
            for some, others in _by_kind(averaged, current):
                function(some, others, number)
        if not self.use_buffers:
            _copy(list(mine.buffers()), list(theirs.buffers()))
        self.n_averaged.array += np.int64(1)
        self.n_averaged.touch()
        self._counted = (n + 1, self.n_averaged.version[0])

    def __reduce_ex__(self, protocol: Any) -> tuple:
        plain, module = type(self).__bases__
        return _empty, (plain, module), self.__dict__


def _module_class(model: Any) -> type:
    """The class Module, from which a model comes: optimizers do not import layers."""
    found = [c for c in type(model).__mro__ if "named_parameters" in vars(c)]
    if not found:
        raise TypeError(f"AveragedModel: {type(model).__name__} is no Module")
    return found[-1]


@cache
def _as_module(cls: type, module: type) -> type:
    """AveragedModel, or a subclass, as a Module."""
    if issubclass(cls, module):
        return cls
    return type(cls.__name__, (cls, module), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def _empty(cls: type, module: type) -> Any:
    return object.__new__(_as_module(cls, module))


def _settle(averaged: list[Tensor], current: list[Tensor]) -> None:
    """Let the averages of parameters of one arena lie side by side in the same order, in an arena too."""
    arenas: dict[Arena, list[tuple[Tensor, Tensor]]] = {}
    for a, p in zip(averaged, current, strict=True):
        if p.arena is not None:
            arenas.setdefault(p.arena, []).append((a, p))
    for pairs in arenas.values():
        pairs.sort(key=lambda pair: (pair[1].offset, pair[1].stop))
        mine = [a for a, _ in pairs]
        if any(a.arena is not mine[0].arena for a in mine) or mine[0].arena is None:
            settled = False
        else:
            settled = all(a.stop == b.offset for a, b in pairwise(mine))
        kinds = {(a.array.dtype, a.device) for a in mine}
        if not settled and len(kinds) == 1:
            Arena(mine, mine[0].device, mine[0].array.dtype)


def _beside(p: Tensor, a: Tensor) -> Tensor:
    """p on the device of a; itself, arena and all, where it is there already."""
    where = device_of(a.array)
    return p if device_of(p.array) == where else Tensor(to_device(p.array, where))


def _by_kind(averaged: list[Tensor], current: list[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Both lists in parts of one device and dtype, the current values on the averages' device."""
    parts: dict[tuple, tuple[list[Tensor], list[Tensor]]] = {}
    for a, p in zip(averaged, current, strict=True):
        some, others = parts.setdefault((a.array.dtype, device_of(a.array)), ([], []))
        some.append(a)
        others.append(_beside(p, a))
    return list(parts.values())


def _copy(averaged: list[Tensor], current: list[Tensor]) -> None:
    for a, p in _stretches(averaged, current):
        a[...] = p
    _changed(averaged)


# --------------------------------------------------------------------------------------------- batch norm


@no_grad()
def update_bn(loader: Iterable[Any], model: Any, device: Any = None) -> None:
    """Make the running statistics of all batch norms anew: the plain average over one pass of the data.

    An average of weights has statistics that no model in the average had. loader gives tensors, or lists and
    tuples whose first entry goes into the model; device is where that is moved first. Momenta and the mode of
    the model are as before afterwards.
    """
    layers = [m for m in model.modules() if any(c.__name__ == "BatchNorm1d" for c in type(m).__mro__)]
    if not layers:
        return
    momenta, modes = [m.momentum for m in layers], [(m, m.training) for m in model.modules()]
    model.train()
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
        for batch in loader:
            x = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(x if device is None else x.to(device))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, training in modes:
            module.training = training


# ---------------------------------------------------------------------------------------- the learning rate


class SWALR(LRScheduler):
    """lr <- (1 - a) lr_0 + a swa_lr:  from what the group has to swa_lr, over anneal_epochs, and there it
                                       stays.

    a = (1 - cos(pi t)) / 2 for anneal_strategy "cos", t for "linear";  t = min(epoch / anneal_epochs, 1)

    swa_lr is a number, or a list with one a group; anneal_epochs >= 0 counts calls of step(). lr_0 is worked
    out from the present lr, so it may be stepped after another scheduler has brought the rate somewhere.
    [Izmailov et al. 2018, section 3.2: a constant rate, high enough to explore]
    """

    def __init__(
        self,
        optimizer: Any,
        swa_lr: Any,
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ):
        rates = per_group("swa_lr", optimizer, swa_lr)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            )
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["swa_lr"] = rate
        self.anneal_epochs, self._anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        inside(self)
        epoch = self._step_count - 1
        if self.anneal_epochs == 0:
            epoch = max(1, epoch)
        before, now = self._share(epoch - 1), self._share(epoch)
        found = []
        for group in self.optimizer.param_groups:
            lr, goal = group["lr"], group["swa_lr"]
            first = goal if before == 1 else (lr - before * goal) / (1 - before)
            found.append(goal * now + first * (1 - now))
        return found

    def _share(self, epoch: int) -> float:
        """How much of swa_lr there is."""
        t = max(0.0, min(1.0, epoch / max(1, self.anneal_epochs)))
        return t if self._anneal_strategy == "linear" else (1 - cos(pi * t)) / 2
