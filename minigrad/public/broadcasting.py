"""Broadcasting by hand: dims of size 1 repeated, new dims in front, without memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .. import ops
from ..tensor import Size, Tensor
from .dims import check_tensor, sizes_of
from .register import method, public


@lru_cache(4096)
def _expanded(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    new = len(wanted) - len(shape)
    if new < 0:
        raise ValueError(
            f"expand: sizes {wanted} for a tensor of shape {shape}; each of its dims needs a size"
        )
    old = (None,) * new + shape
    full = tuple([h if n == -1 and h is not None else n for n, h in zip(wanted, old)])
    for n, h in zip(full, old):
        if n < 0 or (h is not None and n != h and h != 1):
            raise ValueError(f"expand: shape {shape} does not expand to {wanted}; only dims of size 1 repeat")
    return full


@method
def expand(self: Tensor, *sizes: Any, size: Any = ()) -> Tensor:
    """Dims of size 1 repeated, and new dims in front, without memory: a read-only view. -1 keeps a size."""
    return ops.expand(self, _expanded(self.array.shape, sizes_of("expand", sizes or size)))


@method
def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """self expanded to the shape of other."""
    return expand(self, tuple(other.shape))


@public
@method
def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """As `expand`: dims of size 1 repeated, and new dims in front. A read-only view."""
    return expand(input, size)


@public
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All tensors expanded to the shape that they have together. Read-only views."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    check_tensor("broadcast_tensors", *tensors)
    shape = broadcast_shapes(*[t.array.shape for t in tensors])
    return tuple([t if t.array.shape == shape else ops.expand(t, shape) for t in tensors])


@public
def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of these shapes have together. ValueError when they do not fit."""
    sizes = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    try:
        return Size(np.broadcast_shapes(*sizes))
    except ValueError:
        raise ValueError(f"broadcast_shapes: {', '.join(map(str, sizes))} do not fit together") from None
