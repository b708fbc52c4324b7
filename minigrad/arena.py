"""The arena: many parameters in one buffer, their gradients in another, so that a step is one kernel launch.

    offset   0        1024                    3072     4096
             | weight | bias ........ 0 0 0 0 | ...    |        parameters: p.array is a view of it
             | grad   | grad ........ 0 0 0 0 | ...    |        gradients:  p.slot, where backward writes
             | m      | m ........... 0 0 0 0 | ...    |        state:      such buffers for each optimizer

Every tensor starts at a multiple of 1,024 elements (a chunk), so that norms per tensor are sums of whole
chunks; the pads between stay zero under every rule, because zero gradient and zero state give zero step.
Names and shapes do not change: `p.array` becomes a view. All parameters share one version, which a step bumps
once: a graph that needs any of them refuses to go on after it.

A parameter stays where its first optimizer put it. A second optimizer over the same parameters works in the
same memory, by contiguous runs. Moving parameters to another device or dtype builds a new arena of them, with
their gradients and the state of every optimizer. Under autocast an arena has a shadow: all its parameters in
a half type, renewed by one launch a step.

What shared a parameter's memory before it moved in (a detached copy, a state_dict, a NumPy array) keeps the
old memory, and shows no further change: make the optimizer first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from . import backend
from .backend import SILENT, Array, device, empty, hush, unhush
from .slot import vacant
from .tensor import Tensor

CHUNK = 1024


def cut(buffer: Array, offset: int, shape: tuple[int, ...]) -> Array:
    """The part of a buffer that belongs to a tensor of this shape, as a view."""
    size = 1
    for n in shape:
        size *= n
    return buffer[offset : offset + size].reshape(shape)


class Arena:
    """One buffer of parameters and one of gradients, of one dtype on one device."""

    def __init__(self, params: Sequence[Tensor], where: device, numpy_dtype: np.dtype):
        stops = np.cumsum([-(-p.array.size // CHUNK) * CHUNK for p in params]).tolist()
        self.device, self.dtype, self.size = where, numpy_dtype, stops[-1]
        self.array = backend.zeros_on_a_line(self.size, numpy_dtype, where)
        self.gradient = backend.zeros_on_a_line(self.size, numpy_dtype, where)
        self.states: WeakKeyDictionary[Any, dict[str, Array]] = WeakKeyDictionary()  # optimizer -> its slots
        self.version = [max(p.version[0] for p in params)]
        self.shadows: dict[np.dtype, Shadow] = {}  # the parameters in half types, for autocast
        token = hush(SILENT)  # a narrower dtype overflows to infinity, as in PyTorch
        try:
            for p, offset, stop in zip(params, [0, *stops], stops, strict=False):
                self.take(p, offset, stop)
        finally:
            unhush(token)

    def take(self, p: Tensor, offset: int, stop: int) -> None:
        """Give a parameter its place, and bring along what another arena holds of it."""
        array, shape, old = cut(self.array, offset, p.array.shape), p.array.shape, p.arena
        array[...] = backend.to_device(p.array, self.device)
        slot = Tensor(cut(self.gradient, offset, shape))
        if old is not None:
            if p.grad is p.slot and p.grad is not None:
                slot.array[...] = backend.to_device(p.grad.array, self.device)
                slot.scaled = p.grad.scaled
                p.grad = slot
            for optimizer, buffers in old.states.items():
                for name, buffer in buffers.items():
                    mine = cut(self.state(optimizer, name), offset, shape)
                    mine[...] = backend.to_device(cut(buffer, p.offset, shape), self.device)
        p.array, p.version, p.slot = array, self.version, slot
        p.arena, p.offset, p.stop = self, offset, stop

    def state(self, optimizer: Any, name: str) -> Array:
        """A state slot of an optimizer: zeros at first, in the compute type (float32 for half storage)."""
        buffers = self.states.setdefault(optimizer, {})
        if name not in buffers:
            kind = np.float64 if self.dtype == np.float64 else np.float32
            buffers[name] = backend.zeros_on_a_line(self.size, np.dtype(kind), self.device)
        return buffers[name]

    def in_type(self, p: Tensor, numpy_dtype: np.dtype) -> tuple[Array, list]:
        """A parameter's values in a half type, and their version: a view of the shadow.

        The first that asks after a change of any parameter has all of them cast, by one launch.
        """
        shadow = self.shadows.get(numpy_dtype)
        if shadow is None:
            shadow = self.shadows[numpy_dtype] = Shadow(empty((self.size,), numpy_dtype, self.device))
        if shadow.seen != self.version[0]:
            token = hush(SILENT)  # what the half type cannot hold is infinity
            try:
                shadow.array[...] = self.array
            finally:
                unhush(token)
            shadow.seen = self.version[0]
            shadow.version[0] += 1
        return cut(shadow.array, p.offset, p.array.shape), shadow.version


class Shadow:
    """The parameters of an arena in another type, at the same offsets.

    seen is the version of the parameters that it shows; version counts how often it was renewed: a graph that
    was made with older values refuses to go on.
    """

    __slots__ = ("array", "seen", "version")

    def __init__(self, array: Array):
        self.array, self.seen, self.version = array, -1, [0]


def house(params: Iterable[Tensor]) -> None:
    """Arenas for the parameters that have none yet: one for each device and dtype, in the order given."""
    homeless: dict[tuple[device, np.dtype], list[Tensor]] = {}
    for p in params:
        if p.arena is None:
            homeless.setdefault((p.device, p.array.dtype), []).append(p)
    for (where, numpy_dtype), together in homeless.items():
        Arena(together, where, numpy_dtype)


def move(params: Iterable[Tensor], where: device | None, numpy_dtype: np.dtype | None) -> None:
    """Take parameters to a device and dtype (None: the one they have). The Tensors stay the same objects.

    Those of one arena share one again, with gradients and optimizer state; others in it stay where they are.
    """
    settled: dict[Arena, list[Tensor]] = {}
    for p in dict.fromkeys(params):
        if p.arena is not None:
            settled.setdefault(p.arena, []).append(p)
    for old, together in settled.items():
        target = (where or old.device, numpy_dtype or old.dtype)
        if target != (old.device, old.dtype):
            together.sort(key=lambda p: (p.offset, p.stop))
            Arena(together, *target).version[0] += 1  # graphs that saved the old values cannot go on


def collect(p: Tensor, label: Callable[[Tensor], str]) -> None:
    """Copy a gradient that lies elsewhere (set by hand, or made with create_graph) into the parameter's slot.

    It stays where it is: what the user writes into that memory counts at the next step, too.
    """
    grad: Any = p.grad
    if not isinstance(grad, Tensor):
        kind = f"{type(grad).__module__.split('.')[0]}.{type(grad).__name__}"
        kind = f"complex {kind}" if "complex" in str(getattr(grad, "dtype", "")) else kind
        kind = f"sparse {kind}" if "sparse" in f"{kind} {getattr(grad, 'layout', '')}" else kind
        raise TypeError(
            f"the grad of {label(p)} is a {kind}; gradients are dense and real: make it a Tensor with "
            "mg.tensor(...)"
        )
    a = grad.array
    if a.shape != p.array.shape:
        raise ValueError(
            f"the grad of {label(p)} has shape {list(a.shape)}, the parameter {list(p.array.shape)}"
        )
    if a.dtype != p.arena.dtype or backend.device_of(a) != p.arena.device:
        raise TypeError(
            f"the grad of {label(p)} is {grad.dtype.name} on {grad.device}, the parameter {p.dtype.name} on "
            f"{p.device}; cast or move it with .to(...)"
        )
    slot = vacant(p)
    slot.array[...] = a
    slot.touch()


def zero_grad(params: Iterable[Tensor], set_to_none: bool) -> None:
    """Forget the gradients of these parameters; with set_to_none=False fill them with zeros."""
    for p in params:
        grad = p.grad
        if grad is None:
            continue
        if set_to_none:
            p.grad = None
            continue
        if grad.requires_grad:  # it was made with create_graph: leave that graph
            grad = p.grad = grad.detach()
        grad.array.fill(0)
        grad.touch()
