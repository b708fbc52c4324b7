"""Convolutions, transposed ones, and what their windows see (unfold) and add up (fold).

Weights are (out, in / groups, *kernel) as PyTorch lays them out, of transposed ones (in, out / groups,
*kernel). Group g of the outputs sees group g of the inputs only; groups = in = out is a depthwise one.
"""

from __future__ import annotations

import functools
from typing import Any

from kernels.windows import Windows
from kernels.windows import columns as kernel_columns

from ... import ops, taps
from ...ops import conv as directions
from ...ops import pool
from ...public.arguments import of_tensors
from ...public.autocast import listed
from ...tensor import Tensor
from .linear import ACTIVATIONS
from .windows import Sizes, fixed, image, like_input, numbers, reach, windows, with_channels


def _fitting(
    name: str, x: Tensor, weight: Any, bias: Any, dims: int, groups: int, transposed: bool
) -> Tensor:
    """The weight as (., ., kh, kw), once all shapes and types fit together."""
    for what, t in (("weight", weight), ("bias", bias)):
        if not isinstance(t, Tensor) and (t is not None or what == "weight"):
            raise TypeError(f"{name}: {what} is a {type(t).__name__}, no Tensor")
    w, channels = weight.array, x.array.shape[1]
    shapes = f"input channels {channels}, weight {list(w.shape)}, groups={groups}"
    if w.ndim != dims + 2:
        raise ValueError(f"{name}: weight {list(w.shape)}; it has {dims + 2} dims")
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1 or w.shape[0] % groups:
        raise ValueError(f"{name}: {shapes}; groups must be positive and divide {w.shape[0]}")
    wanted = w.shape[0] if transposed else w.shape[1] * groups
    if channels != wanted:
        raise ValueError(f"{name}: {shapes}; this weight takes {wanted} input channels")
    outputs = w.shape[1] * groups if transposed else w.shape[0]
    if bias is not None and bias.array.shape != (outputs,):
        raise ValueError(f"{name}: bias {list(bias.shape)} for {outputs} output channels")
    kinds = [t.dtype.name for t in (x, weight, bias) if t is not None]
    if len(set(kinds)) > 1:
        raise TypeError(f"{name}: mixed dtypes {', '.join(kinds)}; cast with .to(dtype), or use autocast")
    return weight if dims == 2 else ops.reshape(weight, (*w.shape[:2], 1, w.shape[2]))


def _padding(
    name: str, padding: Any, dims: int, spans: list[int], stride: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(before, after) of each dim."""
    if not isinstance(padding, str):
        both = numbers(name, "padding", padding, dims, 0)
        return both, both
    if padding == "valid":
        return (0,) * dims, (0,) * dims
    if padding != "same":
        raise ValueError(f"{name}: padding={padding!r}; it is a number, a tuple, 'same' or 'valid'")
    if any(s != 1 for s in stride):
        raise ValueError(f"{name}: padding='same' with stride={stride}; it goes with stride 1 only")
    before = tuple([(span - 1) // 2 for span in spans])
    return before, tuple([span - 1 - b for span, b in zip(spans, before, strict=True)])


@functools.lru_cache(maxsize=1024, typed=True)
def _geometry(
    name: str,
    dims: int,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
) -> Windows:
    """The windows of a convolution, and all that can be wrong with them."""
    size, kernel = size[2 - dims :], kernel[2 - dims :]
    stride, dilation = numbers(name, "stride", stride, dims, 1), numbers(name, "dilation", dilation, dims, 1)
    spans = reach(kernel, dilation)
    before, after = _padding(name, padding, dims, spans, stride)
    room = [n + a + b - span for n, a, b, span in zip(size, before, after, spans, strict=True)]
    if min(room) < 0 or min(kernel) < 1:
        raise ValueError(
            f"{name}: a weight of size {list(kernel)} with dilation={dilation} on an input of size "
            f"{list(size)} with padding={padding!r}: the window is larger than the padded image; pad more"
        )
    out = tuple([n // s + 1 for n, s in zip(room, stride, strict=True)])
    return windows(size, kernel, stride, before, dilation, out)


def _columns(x: Any, win: Windows) -> Any:
    """What each window sees, as a row: (N, C, H, W) -> (N OH OW, C kh kw)."""
    columns = kernel_columns(x, win)  # (N, C, kh, kw, OH, OW)
    return columns.transpose(0, 4, 5, 1, 2, 3).reshape(-1, x.shape[1] * win.taps)


def _convolution(
    name: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    activation: str | None,
) -> Tensor:
    if activation is not None and activation not in ACTIVATIONS:
        known = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"{name}: activation={activation!r}; use None or one of {known}")
    x = image(name, input, dims)
    w = _fitting(name, x, weight, bias, dims, groups, transposed=False)
    win = _geometry(
        name, dims, x.array.shape[2:], w.array.shape[2:], *map(fixed, (stride, padding, dilation))
    )
    if taps.wanted(weight) and groups == 1:
        y = directions.conv(x, w, bias, win, groups)
        taps.leave(taps.Tap(weight, bias, lambda: _columns(x.array, win), y, channels=1))
        y = like_input(y, input, dims)
        return y if activation is None else ACTIVATIONS[activation](y)
    if activation == "relu":
        return like_input(directions.conv_relu(x, w, bias, win, groups), input, dims)
    y = like_input(directions.conv(x, w, bias, win, groups), input, dims)
    return y if activation is None else ACTIVATIONS[activation](y)


@listed
def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
) -> Tensor:
    """As conv2d: (N, C, L) or (C, L), weight (O, C / groups, k), bias (O) -> (N, O, L') or (O, L')."""
    return _convolution("conv1d", 1, input, weight, bias, stride, padding, dilation, groups, activation)


@listed
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
) -> Tensor:
    """y[n, o, r, c] = bias[o] + sum over k, i, j of weight[o, k, i, j] x[n, k, r s + i d - p, c s + j d - p]

    (N, C, H, W) or (C, H, W), weight (O, C / groups, kh, kw), bias (O) -> (N, O, H', W') or (O, H', W'),
    H' = floor((H + 2 p - d (kh - 1) - 1) / s) + 1; s, p, d are the stride, padding and dilation of that
    axis. padding='same' keeps H and W (stride 1 only; of an odd padding the larger half is after), 'valid' is
    no padding.

    activation is None or one of linear.ACTIVATIONS: max(., 0) of "relu" is taken with the bias in one pass,
    and backward its gradient with the bias's; the others are a launch of their own.
    """
    return _convolution("conv2d", 2, input, weight, bias, stride, padding, dilation, groups, activation)


def _transposed(
    name: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    x = image(name, input, dims)
    w = _fitting(name, x, weight, bias, dims, groups, transposed=True)
    stride, dilation = numbers(name, "stride", stride, dims, 1), numbers(name, "dilation", dilation, dims, 1)
    before = numbers(name, "padding", padding, dims, 0)
    extra = numbers(name, "output_padding", output_padding, dims, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(
            f"{name}: output_padding={output_padding}; it must be less than stride {stride} or "
            f"dilation {dilation}"
        )
    size, kernel = x.array.shape[4 - dims :], w.array.shape[4 - dims :]
    spans = reach(kernel, dilation)
    out = tuple(
        [
            (n - 1) * s - 2 * p + span + e
            for n, s, p, span, e in zip(size, stride, before, spans, extra, strict=True)
        ]
    )
    if min(out) < 1:
        raise ValueError(
            f"{name}: an input {list(input.shape)} with weight {list(weight.shape)}, padding={padding} gives "
            f"an output of size {list(out)}; pad less"
        )
    y = directions.conv_input(x, w, windows(out, kernel, stride, before, dilation, size), groups)
    if bias is not None:
        y = ops.add(y, ops.reshape(bias, (-1, 1, 1)))
    return like_input(y, input, dims)


@listed
def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """As conv_transpose2d: (N, C, L) or (C, L), weight (C, O / groups, k), bias (O)."""
    return _transposed(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@listed
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The gradient of conv2d by its input, as a map: every pixel puts weight times itself into a window.

    (N, C, H, W) or (C, H, W), weight (C, O / groups, kh, kw), bias (O) -> (N, O, H', W') or (O, H', W'),
    H' = (H - 1) s - 2 p + d (kh - 1) + output_padding + 1; output_padding chooses among the sizes that conv2d
    maps to H.
    """
    return _transposed(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def _grid(name: str, size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    """The windows of unfold and fold."""
    kernel, dilation = (
        numbers(name, "kernel_size", kernel_size, 2, 1),
        numbers(name, "dilation", dilation, 2, 1),
    )
    before, stride = numbers(name, "padding", padding, 2, 0), numbers(name, "stride", stride, 2, 1)
    spans = reach(kernel, dilation)
    room = [n + 2 * p - span for n, p, span in zip(size, before, spans, strict=True)]
    if min(room) < 0:
        raise ValueError(
            f"{name}: kernel_size={kernel_size}, dilation={dilation} on an image {list(size)} with "
            f"padding={padding}: the window is larger than the padded image; pad more"
        )
    out = tuple([n // s + 1 for n, s in zip(room, stride, strict=True)])
    return windows(size, kernel, stride, before, dilation, out)


def unfold(
    input: Tensor, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
) -> Tensor:
    """What each of L windows sees, as a column: (N, C, H, W) -> (N, C kh kw, L), or both without N."""
    x = with_channels("unfold", image("unfold", input, 2), input)
    n, c, *size = x.array.shape
    win = _grid("unfold", tuple(size), kernel_size, dilation, padding, stride)
    lead = (n,) if input.array.ndim == 4 else ()
    return ops.reshape(pool.im2col(x, win), (*lead, c * win.taps, win.out[0] * win.out[1]))


@of_tensors
def fold(
    input: Tensor,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Tensor:
    """The transpose of unfold: columns (N, C kh kw, L) or (C kh kw, L), added up where they came from."""
    size = numbers("fold", "output_size", output_size, 2, 1)
    win = _grid("fold", size, kernel_size, dilation, padding, stride)
    shape = input.array.shape
    if len(shape) not in (2, 3) or shape[-2] % win.taps or shape[-1] != win.out[0] * win.out[1]:
        raise ValueError(
            f"fold: input {list(shape)}; for output_size={list(size)} it is (N, C * {win.taps}, "
            f"{win.out[0] * win.out[1]}), or that without N"
        )
    n, c = (shape[0] if len(shape) == 3 else 1), shape[-2] // win.taps
    y = pool.col2im(ops.reshape(input, (n, c, *win.kernel, *win.out)), win)
    return y if len(shape) == 3 else ops.reshape(y, (c, *size))
