"""The arena: many parameters in one buffer, their gradients in another, so that a step is one kernel launch.

    offset   0        1024                    3072     4096
             | weight | bias ........ 0 0 0 0 | ...    |        parameters: p.array is a view of it
             | grad   | grad ........ 0 0 0 0 | ...    |        gradients:  p.slot, where backward writes

Every tensor starts at a multiple of 1,024 elements (a chunk), so that norms per tensor are sums of whole
chunks; the pads between stay zero under every rule, because zero gradient and zero state give zero step.
Names and shapes do not change: `p.array` becomes a view. All parameters share one version, which a step bumps
once.

A parameter lives in one arena for good. A second optimizer over the same parameters works in the same memory,
by contiguous runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import backend
from .backend import Array, device
from .tensor import Tensor

CHUNK = 1024


def padded(p: Tensor) -> int:
    """The room that a tensor takes in an arena."""
    return -(-p.array.size // CHUNK) * CHUNK


class Arena:
    """One buffer of parameters and one of gradients, of one dtype on one device."""

    def __init__(self, params: Sequence[Tensor]):
        first = params[0]
        self.params = list(params)
        self.offsets: list[int] = []
        self.size = 0
        for p in params:
            self.offsets.append(self.size)
            self.size += padded(p)
        self.version = [max(p.version[0] for p in params)]
        self.array = backend.full((self.size,), 0, first.array.dtype, first.device)
        self.gradient = backend.full((self.size,), 0, first.array.dtype, first.device)
        for p, offset in zip(params, self.offsets, strict=True):
            view = self.view(self.array, p, offset)
            view[...] = p.array
            p.array, p.version = view, self.version
            p.arena, p.offset, p.stop = self, offset, offset + padded(p)
            p.slot = Tensor(self.view(self.gradient, p, offset))
            if p.grad is not None:
                self.collect(p)

    @staticmethod
    def view(buffer: Array, p: Tensor, offset: int) -> Array:
        """The part of a buffer that belongs to a parameter, in the parameter's shape."""
        return buffer[offset : offset + p.array.size].reshape(p.array.shape)

    @property
    def device(self) -> device:
        return backend.device_of(self.array)

    def collect(self, p: Tensor) -> None:
        """Bring a gradient that was made elsewhere (by hand, or with create_graph) into the arena."""
        assert p.grad is not None and p.slot is not None
        if p.grad.array.shape != p.array.shape:
            raise ValueError(f"grad of shape {tuple(p.grad.shape)} for a parameter of shape {tuple(p.shape)}")
        if backend.device_of(p.grad.array) != self.device:
            raise TypeError(
                f"grad on {p.grad.device} for a parameter on {self.device}; move it with .to(device)"
            )
        p.slot.array[...] = p.grad.array
        p.slot.touch()
        p.grad = p.slot

    def move(self, where: device, numpy_dtype: Any) -> dict[str, Array]:
        """Move to a device and dtype: the Tensors stay the same, with new memory behind them."""
        self.array = backend.to_device(self.array, where).astype(numpy_dtype, copy=False)
        self.gradient = backend.to_device(self.gradient, where).astype(numpy_dtype, copy=False)
        self.version[0] += 1
        for p, offset in zip(self.params, self.offsets, strict=True):
            p.array = self.view(self.array, p, offset)
            had = p.grad is p.slot
            p.slot = Tensor(self.view(self.gradient, p, offset))
            if had:
                p.grad = p.slot
        return {"array": self.array, "gradient": self.gradient}


def house(params: Sequence[Tensor]) -> list[Arena]:
    """The arenas of these parameters, in order; those without one get one, by device and dtype."""
    homeless: dict[tuple, list[Tensor]] = {}
    for p in params:
        if p.arena is None:
            homeless.setdefault((str(p.device), p.array.dtype), []).append(p)
    for together in homeless.values():
        Arena(together)
    return list(dict.fromkeys(p.arena for p in params))
