"""Padding, and images at another size."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.windows import Windows

from ... import ops
from ...backend import device_of, to_device
from ...ops import pad as padding
from ...ops import pool
from ...public.autocast import listed
from ...public.promote import scalar, tensor_of
from ...tensor import Tensor
from .activation import floating

MODES = ("constant", "reflect", "replicate", "circular")


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """input with more before and after its dims; pad = (before, after) of the last, of the one before, ...

    mode "constant" adds `value` (0), to any dims; "reflect" adds the neighbours in reverse order, without the
    edge itself, "replicate" the edge, "circular" what stands at the other end: to the last 1, 2 or 3 dims of
    an input that has 1 or 2 more. Negative widths cut off.
    """
    x = tensor_of("pad", input)
    shape = x.array.shape
    if isinstance(pad, int) or len(pad) % 2 or len(pad) > 2 * len(shape):
        raise ValueError(
            f"pad: pad={pad!r} for an input {list(shape)}; it is (before, after) of the last dim, then of "
            "the one before that, and so on"
        )
    if not all(hasattr(n, "__index__") for n in pad):
        raise TypeError(f"pad: pad={pad!r}; widths are whole numbers")
    if mode not in MODES:
        raise ValueError(f"pad: mode={mode!r}; use one of {', '.join(map(repr, MODES))}")
    pairs = [(int(pad[k]), int(pad[k + 1])) for k in range(0, len(pad), 2)]
    widths = [(0, 0)] * (len(shape) - len(pairs)) + pairs[::-1]
    if any(n + before + after < 0 for n, (before, after) in zip(shape, widths, strict=True)):
        raise ValueError(f"pad: pad={tuple(pad)} cuts more off an input {list(shape)} than there is")
    if mode == "constant":
        number = scalar(0 if value is None else value, x.dtype)
        return padding.pad(x, tuple(widths), number) if any(map(any, widths)) else x.clone()
    if value is not None and value != 0:
        raise ValueError(f"pad: value={value} with mode={mode!r}; only 'constant' has a value")
    if not 1 <= len(pairs) <= 3 or len(shape) - len(pairs) not in (1, 2):
        raise ValueError(
            f"pad: mode={mode!r} with {len(pad)} widths for an input {list(shape)}; it pads the last 1, 2 or "
            "3 dims of an input that has one or two more"
        )
    if not shape[len(shape) - len(pairs) - 1] and mode != "circular":
        raise ValueError(f"pad: mode={mode!r} for an input {list(shape)}; only the batch may be empty")
    return _bordered(x, widths, mode)


def _bordered(x: Tensor, widths: list[tuple[int, int]], mode: str) -> Tensor:
    shape = x.array.shape
    kept = tuple([(min(before, 0), min(after, 0)) for before, after in widths])
    none = x.array.dtype.type(0)
    if mode == "circular" and any(map(any, kept)):  # what is cut off is not seen at the other end
        x = padding.pad(x, kept, none)
    for axis, (before, after) in enumerate(widths):
        n, most = x.array.shape[axis], max(before, after)
        room = max({"reflect": n - 1, "replicate": most if n else 0, "circular": n}[mode], 0)
        if most > room:
            raise ValueError(
                f"pad: mode={mode!r} with {(before, after)} in dim {axis} of an input {list(shape)}; that "
                f"dim has {room} elements to copy; pad less"
            )
        if most > 0:
            x = padding.border(x, axis, max(before, 0), max(after, 0), mode)
    if mode != "circular" and any(map(any, kept)):
        x = padding.pad(x, kept, none)
    return x


@functools.lru_cache(maxsize=256)
def _nearest(size: int, out: int, factor: float | None, exact: bool, device: Any) -> tuple[Any, bool]:
    """Which element stands at each of `out` places, and whether each is repeated equally often.

    Computed in float32 as PyTorch does.
    """
    scale = np.float32(size / out if factor is None else 1 / factor)
    place = np.arange(out, dtype=np.float32)
    index = np.minimum(((place + np.float32(0.5 if exact else 0)) * scale).astype(np.int64), size - 1)
    repeated = out % size == 0 and bool((index == np.arange(out) // (out // size)).all())
    return to_device(index, device), repeated


@functools.lru_cache(maxsize=256)
def _neighbours(
    size: int, out: int, factor: float | None, corners: bool, device: Any
) -> tuple[Any, Any, Any]:
    """The two elements that each of `out` places lies between, and how far it is from the first one."""
    if corners:
        place = np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)
    else:
        scale = size / out if factor is None else 1 / factor
        place = np.maximum((np.arange(out) + 0.5) * scale - 0.5, 0.0)
    first = np.minimum(place.astype(np.int64), size - 1)
    second = np.minimum(first + 1, size - 1)
    return to_device(first, device), to_device(second, device), to_device(place - first, device)


def _between(x: Tensor, axis: int, first: Any, second: Any, part: Any) -> Tensor:
    share = Tensor(part.astype(x.array.dtype).reshape(-1, *[1] * (x.array.ndim - 1 - axis)))
    return ops.take(x, first, axis) * (1 - share) + ops.take(x, second, axis) * share


@listed
def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """input (N, C, L) or (N, C, H, W) at another size.

    Either size or scale_factor is given, a number or one for each dim; the size is floor(old * factor).
    mode          "nearest", "nearest-exact": each pixel is a copy; "linear" (N, C, L) and "bilinear"
                  (N, C, H, W): between the two nearest of each dim, in proportion
    align_corners with it the centres of the outer pixels stay where they are, without it the outer edges
    """
    x = floating("interpolate", input)
    old = x.array.shape[2:]
    if mode not in ("nearest", "nearest-exact", "linear", "bilinear"):
        raise ValueError(
            f"interpolate: mode={mode!r}; use 'nearest', 'nearest-exact', 'linear' or 'bilinear'"
        )
    between = mode in ("linear", "bilinear")
    if antialias or (align_corners is not None and not between):
        raise ValueError(f"interpolate: mode={mode!r} takes neither align_corners nor antialias")
    if between and len(old) != (1 if mode == "linear" else 2):
        form = "(N, C, L)" if mode == "linear" else "(N, C, H, W)"
        raise ValueError(f"interpolate: input {list(x.shape)}; with mode={mode!r} it is {form}")
    if len(old) not in (1, 2) or min(old) < 1:
        raise ValueError(f"interpolate: input {list(x.shape)}; it has the shape (N, C, L) or (N, C, H, W)")
    if not x.array.shape[1]:
        raise ValueError(f"interpolate: input {list(x.shape)} has no channels; only the batch may be empty")
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor")
    given: Any = size if scale_factor is None else scale_factor
    each = list(given) if isinstance(given, Sequence) else [given] * len(old)
    if len(each) != len(old):
        raise ValueError(
            f"interpolate: {given!r} for an input {list(x.shape)}; give one for each of {list(old)}"
        )
    new = [
        int(n) if scale_factor is None else int(n * f)
        for n, f in zip(each if size is not None else old, each, strict=True)
    ]
    if min(new) < 1:
        raise ValueError(f"interpolate: an output of size {new}; it must be at least 1")
    factors = [None] * len(old) if scale_factor is None or recompute_scale_factor else each
    exact, where = mode != "nearest", device_of(x.array)
    if between:
        for axis, (n, m, f) in enumerate(zip(old, new, factors, strict=True)):
            if n != m:
                x = _between(x, axis + 2, *_neighbours(n, m, f, bool(align_corners), where))
        return x
    found = [_nearest(n, m, f, exact, where) for n, m, f in zip(old, new, factors, strict=True)]
    if all(repeated for _, repeated in found):
        return _repeated(x, old, new, [m // n for n, m in zip(old, new, strict=True)])
    for axis, (index, _) in enumerate(found):
        x = ops.take(x, index, axis + 2)
    return x


def _repeated(x: Tensor, old: tuple[int, ...], new: list[int], steps: list[int]) -> Tensor:
    """Each pixel as a block of pixels: windows that do not overlap, in reverse."""
    row = (1,) * (2 - len(old))
    pairs = [(*row, *values) for values in (new, steps, steps)]
    win = Windows(pairs[0], pairs[1], pairs[2], (0, 0), (1, 1), (*row, *old))  # type: ignore[arg-type]
    lead = x.array.shape[:2]
    y = pool.spread(ops.reshape(x, (*lead, *win.out)), win)
    return ops.reshape(y, (*lead, *new))
