"""Pools: the largest or the mean of what a window sees; adaptive ones choose their windows by the output.

Of equal largest pixels the first one gets the gradient, and a nan counts as larger than all. Adaptive window
k of n on a size H is floor(k H / n) ... ceil((k + 1) H / n): all are alike where n divides H.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.windows import Windows

from ... import ops
from ...backend import device_of, on_device, to_device
from ...ops import pool
from ...tensor import Tensor
from .activation import floating
from .windows import Sizes, fixed, full, image, like_input, numbers, reach, windows, with_channels


@functools.lru_cache(maxsize=1024, typed=True)
def _windows(
    name: str,
    dims: int,
    size: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> Windows:
    """The geometry of a pool; with ceil_mode a last window may reach beyond the padding."""
    kernel = numbers(name, "kernel_size", kernel_size, dims, 1)
    stride = kernel if stride is None or stride == () else numbers(name, "stride", stride, dims, 1)
    before, dilation = (
        numbers(name, "padding", padding, dims, 0),
        numbers(name, "dilation", dilation, dims, 1),
    )
    size, spans = size[2 - dims :], reach(kernel, dilation)
    if any(2 * p > k for p, k in zip(before, kernel, strict=True)):
        raise ValueError(
            f"{name}: padding={padding} for kernel_size={kernel_size}; it may be half of that at most"
        )
    out = []
    for n, s, p, span in zip(size, stride, before, spans, strict=True):
        room = n + 2 * p - span
        count = room // s + 1
        if ceil_mode and room % s and (count * s < n + p):
            count += 1
        out.append(count)
    if min(out) < 1:
        raise ValueError(
            f"{name}: kernel_size={kernel_size}, padding={padding} on an input of size {list(size)} gives an "
            f"output of size {out}; the window is larger than the padded input"
        )
    return windows(size, kernel, stride, before, dilation, tuple(out))


# ------------------------------------------------------------------------------------- maximum


def _max_pool(
    name: str,
    dims: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    x = with_channels(name, image(name, input, dims), input)
    given = map(fixed, (kernel_size, stride, padding, dilation, ceil_mode))
    win = _windows(name, dims, x.array.shape[2:], *given)
    if not return_indices:
        return like_input(pool.max_pool(x, win), input, dims)
    taps = pool.winners(x, win).array
    places = Tensor(pool.pixels(taps, win))
    return like_input(pool.pick(x, taps, win), input, dims), like_input(places, input, dims)


def max_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As max_pool2d: (N, C, L) or (C, L) -> (N, C, L') or (C, L')"""
    return _max_pool(
        "max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


def max_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of each window: (N, C, H, W) or (C, H, W) -> (N, C, H', W') or (C, H', W')

    H' = floor((H + 2 p - d (k - 1) - 1) / s) + 1, or rounded up with ceil_mode; the stride is the kernel's
    size if left out. Padding is less than everything, and at most half a window. With return_indices also
    the places row * W + column in the image, as int64.
    """
    return _max_pool(
        "max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )


# ---------------------------------------------------------------------------------------- mean


@functools.lru_cache(maxsize=256)
def _counts(win: Windows, count_include_pad: bool, dtype: Any, device: Any) -> Any:
    """How many elements each window counts: a number, or an array (OH, OW) where they differ."""
    found = []
    for n, k, s, p, _, out in zip(*win, strict=True):
        start = np.arange(out) * s - p
        stop = np.minimum(start + k, n + p if count_include_pad else n)
        found.append(stop - (start if count_include_pad else np.maximum(start, 0)))
    counts = np.outer(*found).astype(dtype)
    if (counts == counts[0, 0]).all():
        return counts[0, 0]
    return Tensor(to_device(counts, device))


def _avg_pool(
    name: str,
    dims: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    if divisor_override == 0:
        raise ValueError(f"{name}: divisor_override is 0; it must not be")
    x = with_channels(name, image(name, input, dims), input)
    given = map(fixed, (kernel_size, stride, padding, 1, ceil_mode))
    win = _windows(name, dims, x.array.shape[2:], *given)
    dtype = x.array.dtype
    if divisor_override is None:
        count = _counts(win, bool(count_include_pad), dtype, device_of(x.array))
    else:
        count = dtype.type(divisor_override)
    return like_input(ops.div(pool.total(x, win), count), input, dims)


def avg_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """As avg_pool2d: (N, C, L) or (C, L) -> (N, C, L') or (C, L')"""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window: (N, C, H, W) or (C, H, W) -> (N, C, H', W') or (C, H', W')

    Padding is 0, and counts as elements unless count_include_pad is False; what ceil_mode lets a window reach
    beyond it never counts. divisor_override divides the sums instead of the count.
    """
    return _avg_pool(
        "avg_pool2d",
        2,
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
    )


def _power(y: Tensor, taps: int, norm_type: float) -> Tensor:
    """(taps max(y, 0))^(1 / norm_type), with the sign of y"""
    return (y.sign() * ops.relu(y.abs()) * taps) ** (1.0 / norm_type)


def _norm_type(name: str, norm_type: float) -> float:
    if not norm_type:
        raise ValueError(f"{name}: norm_type={norm_type}; it must not be 0")
    return float(norm_type)


def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """As lp_pool2d: (N, C, L) or (C, L) -> (N, C, L') or (C, L')"""
    p = _norm_type("lp_pool1d", norm_type)
    taps = numbers("lp_pool1d", "kernel_size", kernel_size, 1, 1)[0]
    powers = floating("lp_pool1d", input) ** p
    return _power(_avg_pool("lp_pool1d", 1, powers, kernel_size, stride, 0, ceil_mode, True, None), taps, p)


def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """(sum of x^p)^(1/p) over each window, p = norm_type: 1 is the sum, infinity would be the largest

    (N, C, H, W) or (C, H, W) -> (N, C, H', W') or (C, H', W'), the sizes of avg_pool2d. With an odd p a
    negative sum keeps its sign. What ceil_mode lets a window reach beyond the image counts as much as
    the rest.
    """
    p = _norm_type("lp_pool2d", norm_type)
    taps = math.prod(numbers("lp_pool2d", "kernel_size", kernel_size, 2, 1))
    powers = floating("lp_pool2d", input) ** p
    return _power(_avg_pool("lp_pool2d", 2, powers, kernel_size, stride, 0, ceil_mode, True, None), taps, p)


# -------------------------------------------------------------------------------------- the reverse


def _max_unpool(
    name: str,
    dims: int,
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Sequence[int] | None,
) -> Tensor:
    x = with_channels(name, image(name, input, dims), input)
    if not isinstance(indices, Tensor) or indices.array.dtype != np.int64:
        raise TypeError(
            f"{name}: indices are what {name.replace('un', '')} returns as int64 with return_indices"
        )
    if indices.array.shape != input.array.shape:
        raise ValueError(
            f"{name}: indices {list(indices.shape)} for an input {list(input.shape)}; shapes must be equal"
        )
    kernel = numbers(name, "kernel_size", kernel_size, dims, 1)
    steps = kernel if stride is None else numbers(name, "stride", stride, dims, 1)
    before = numbers(name, "padding", padding, dims, 0)
    old = x.array.shape[4 - dims :]
    usual = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(old, steps, before, kernel, strict=True)]
    size = usual if output_size is None else list(output_size)[-dims:]
    if output_size is not None and (
        len(output_size) not in (dims, dims + 1, dims + 2)
        or any(not u - s < n < u + s for n, u, s in zip(size, usual, steps, strict=True))
    ):
        near = [[u - s + 1, u + s - 1] for u, s in zip(usual, steps, strict=True)]
        raise ValueError(f"{name}: output_size={list(output_size)}; each lies in one of {near}")
    lead, area = x.array.shape[:2], math.prod(size)
    places = indices.array.reshape(*lead, math.prod(old))
    if not on_device(places) and places.size and not 0 <= places.min() <= places.max() < area:
        raise IndexError(
            f"{name}: indices from {places.min()} to {places.max()} for an output of size {size}"
        )
    y = x.new_zeros((*lead, area)).scatter(2, Tensor(places), x.reshape(*lead, math.prod(old)))
    return like_input(y.reshape(*lead, *(1,) * (2 - dims), *size), input, dims)


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """As max_unpool2d: (N, C, L) or (C, L) -> (N, C, L') or (C, L')"""
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """What max_pool2d took, back at its place, and 0 elsewhere: (N, C, H', W') -> (N, C, H, W), or without N.

    `indices` are what max_pool2d gives with return_indices. H = (H' - 1) s - 2 p + k, or what output_size
    says, which may differ by less than the stride. Of windows that name one pixel the last one counts.
    """
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


# ------------------------------------------------------------------------------------ adaptive


def _output_size(name: str, output_size: Any, size: tuple[int, ...]) -> tuple[int, ...]:
    """With None, the input's own size."""
    given = list(output_size) if isinstance(output_size, Sequence) else [output_size] * len(size)
    if len(given) == len(size):
        given = [n if wanted is None else wanted for wanted, n in zip(given, size, strict=True)]
    found = numbers(name, "output_size", given, len(size), 1)
    if min(size) < 1:
        raise ValueError(f"{name}: an input of size {list(size)} has no pixels to choose from")
    return found


def _regular(size: tuple[int, ...], out: tuple[int, ...]) -> Windows | None:
    """The windows where they are all alike and do not overlap."""
    if any(n % count for n, count in zip(size, out, strict=True)):
        return None
    step = tuple([n // count for n, count in zip(size, out, strict=True)])
    zeros, ones = (0,) * len(size), (1,) * len(size)
    return windows(size, step, step, zeros, ones, out)


@functools.lru_cache(maxsize=256)
def _members(size: int, out: int, device: Any) -> tuple[Any, Any]:
    """(indices, mask), both (out, widest): the elements of each window, filled up with its first one."""
    start = np.arange(out) * size // out
    stop = -(-(np.arange(out) + 1) * size // out)
    index = start[:, None] + np.arange((stop - start).max())
    mask = index < stop[:, None]
    return to_device(np.where(mask, index, start[:, None]), device), to_device(mask, device)


def _gathered(x: Tensor, out: tuple[int, int]) -> tuple[Tensor, Any, Any]:
    """(N, C, OH, OW, widest of both axes), the mask of its last axis (OH, OW, .), and the pixels' places."""
    where = device_of(x.array)
    (rows, row_mask), (cols, col_mask) = [
        _members(n, count, where) for n, count in zip(x.array.shape[2:], out, strict=True)
    ]
    seen = ops.take(ops.take(x, cols, 3), rows, 2)  # (N, C, OH, kh, OW, kw)
    shape = (*out, rows.shape[1] * cols.shape[1])
    mask = (row_mask[:, None, :, None] & col_mask[None, :, None, :]).reshape(shape)
    places = (rows[:, None, :, None] * x.array.shape[3] + cols[None, :, None, :]).reshape(shape)
    return ops.reshape(ops.permute(seen, (0, 1, 2, 4, 3, 5)), (*x.array.shape[:2], *shape)), mask, places


def _adaptive_avg_pool(name: str, dims: int, input: Tensor, output_size: Any) -> Tensor:
    x = image(name, input, dims)
    size = x.array.shape[4 - dims :]
    out = _output_size(name, output_size, size)
    win = _regular(size, out)
    if win is not None:
        if win.out == (1, 1):
            return like_input(ops.mean(x, (2, 3), True), input, dims)
        return like_input(ops.div(pool.total(x, win), x.array.dtype.type(win.taps)), input, dims)
    seen, mask, _ = _gathered(x, full(out, 1))
    counts = mask.sum(axis=-1).astype(x.array.dtype)
    return like_input(ops.div(ops.sum(ops.masked(seen, mask), (4,), False), Tensor(counts)), input, dims)


def adaptive_avg_pool1d(input: Tensor, output_size: Sizes) -> Tensor:
    """The mean of each of output_size windows: (N, C, L) or (C, L)"""
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of output_size windows: a number, or a pair in which None keeps the dim's size."""
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


def _adaptive_max_pool(name: str, dims: int, input: Tensor, output_size: Any, return_indices: bool) -> Any:
    x = with_channels(name, image(name, input, dims), input)
    size = x.array.shape[4 - dims :]
    out = _output_size(name, output_size, size)
    win = _regular(size, out)
    if win is not None:
        step = win.kernel[2 - dims :]
        return _max_pool(name, dims, input, step, step, 0, 1, False, return_indices)
    seen, mask, places = _gathered(x, full(out, 1))
    # the largest is the last nan, if there is one, else the first of those that are largest
    values = ops.select(mask, seen.detach(), x.array.dtype.type("-inf")).array
    nans, last = values != values, values.shape[-1] - 1
    best = values.argmax(axis=-1)
    where_nan = last - nans[..., ::-1].argmax(axis=-1)
    index = ops.select(nans.any(axis=-1), Tensor(where_nan), Tensor(best)).array[..., None]
    y = like_input(ops.take_along(seen, index, 4)[..., 0], input, dims)
    if not return_indices:
        return y
    every = ops.expand(Tensor(places), values.shape)
    return y, like_input(ops.take_along(every, index, 4)[..., 0], input, dims)


def adaptive_max_pool1d(input: Tensor, output_size: Sizes, return_indices: bool = False) -> Any:
    """The largest of each of output_size windows: (N, C, L) or (C, L); return_indices as in max_pool1d"""
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest of each of output_size windows: a number, or a pair in which None keeps the dim's size.

    return_indices as in max_pool2d.
    """
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)
