"""What convolutions and pools share in their faces: arguments that are a number or a tuple, and shapes.

Everything runs on images (N, C, H, W). A sequence (N, C, L) is an image of one row, and what has no batch
axis is a batch of one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from kernels.windows import Windows

from ... import ops
from ...tensor import Tensor
from .activation import floating

Sizes = int | Sequence[int]
AXES = {1: "(N, C, L) or (C, L)", 2: "(N, C, H, W) or (C, H, W)"}


def fixed(value: Any) -> Any:
    """An argument as a key of a cache; what is none shows in the message that refuses it."""
    if isinstance(value, list):
        return tuple(value)
    return value if isinstance(value, Hashable) else repr(value)


def numbers(name: str, what: str, value: Any, dims: int, least: int) -> tuple[int, ...]:
    """An int or a tuple as a tuple with an entry a dim, none below `least`."""
    given = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if len(given) == 1:
        given *= dims
    if len(given) != dims or any(isinstance(n, bool) or not hasattr(n, "__index__") for n in given):
        raise TypeError(f"{name}: {what}={value!r}; it is a whole number, or a tuple of {dims}")
    found = tuple([int(n) for n in given])
    if min(found) < least:
        raise ValueError(f"{name}: {what}={value!r}; it must be at least {least}")
    return found


def image(name: str, input: Any, dims: int) -> Tensor:
    """The input as (N, C, H, W)."""
    x = floating(name, input)
    shape = x.array.shape
    if len(shape) not in (dims + 1, dims + 2):
        raise ValueError(f"{name}: input {list(shape)}; it has the shape {AXES[dims]}")
    if len(shape) == 4:
        return x
    lead = shape[:-dims] if len(shape) == dims + 2 else (1, shape[0])
    return ops.reshape(x, (*lead, *(1,) * (2 - dims), *shape[-dims:]))


def with_channels(name: str, x: Tensor, input: Tensor) -> Tensor:
    """The image; ValueError where it has no channels. No examples are fine, they give none."""
    if not x.array.shape[1]:
        raise ValueError(f"{name}: input {list(input.shape)} has no channels; only the batch may be empty")
    return x


def like_input(y: Tensor, input: Tensor, dims: int) -> Tensor:
    """(N, C, H, W) in the form of the input."""
    shape = y.array.shape
    lead = shape[:2] if input.array.ndim == dims + 2 else shape[1:2]
    wanted = (*lead, *shape[4 - dims :])
    return y if wanted == shape else ops.reshape(y, wanted)


def full(values: tuple[int, ...], filler: int) -> tuple[int, int]:
    """The values of one or two dims as a pair."""
    return (filler, values[0]) if len(values) == 1 else (values[0], values[1])


def reach(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    """How many pixels a window spans."""
    return [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]


def windows(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    before: tuple[int, ...],
    dilation: tuple[int, ...],
    out: tuple[int, ...],
) -> Windows:
    """The geometry, of one dim or two."""
    return Windows(
        full(size, 1), full(kernel, 1), full(stride, 1), full(before, 0), full(dilation, 1), full(out, 1)
    )
