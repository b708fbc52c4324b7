"""Normalization: values less their mean, over their standard deviation, then a weight and a bias.

    batch_norm      over the batch and the window, for each channel     (N, C, ...)
    instance_norm   over the window, for each channel of each example   (N, C, L, ...)
    group_norm      over the window and a group of channels, for each example
    layer_norm      over the last dims, for each position               (..., *normalized_shape)
    rms_norm        the same without a mean, and without a bias

Variances are the biased ones, the mean square of what is left; those in running statistics are unbiased.
float16 and bfloat16 are computed in float32; such an input may meet a float32 weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ops import normalization
from ...public.arguments import of_tensors
from ...public.autocast import listed
from ...public.promote import cast
from ...statistics import held
from ...tensor import Tensor
from .activation import floating
from .pad import pad
from .pool import avg_pool2d


def _like(name: str, x: Tensor, shape: tuple[int, ...], **tensors: Tensor | None) -> Tensor:
    """Check what goes with x; x in their dtype, where x is of a half type and they are float32."""
    result = x
    for what, t in tensors.items():
        if t is None:
            continue
        if t.array.shape != shape:
            raise ValueError(
                f"{name}: {what} {list(t.shape)} for an input {list(x.shape)}; it has the shape {list(shape)}"
            )
        if t.array.dtype != x.array.dtype:
            if x.array.dtype.itemsize != 2 or t.array.dtype != np.float32:
                raise TypeError(
                    f"{name}: {what} is {t.dtype.name}, the input {x.dtype.name}; cast one with .to(dtype)"
                )
            result = cast(x, t.dtype)
    return result


def _in_one(name: str, x: Tensor, tensors: Sequence[Tensor | None]) -> None:
    """TypeError for a mixture that no float32 explains."""
    kinds = {t.dtype.name for t in (x, *tensors) if t is not None}
    if len(kinds) > 1:
        raise TypeError(f"{name}: mixed dtypes {', '.join(sorted(kinds))}; cast with .to(dtype)")


def last_shape(name: str, normalized_shape: Any) -> tuple[int, ...]:
    """normalized_shape as a tuple."""
    shape = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    if any(not hasattr(n, "__index__") or n < 0 for n in shape):
        raise ValueError(f"{name}: normalized_shape={normalized_shape!r}; sizes are whole numbers from 0 on")
    if not shape:
        raise ValueError(f"{name}: normalized_shape is empty; give the sizes of the last dims")
    return shape


def _rows(name: str, input: Tensor, normalized_shape: Any, *tensors: Tensor | None) -> tuple:
    """The input as rows, and what goes with it as vectors."""
    x, shape = floating(name, input), last_shape(name, normalized_shape)
    n = len(shape)
    if x.array.shape[-n:] != shape:
        raise ValueError(f"{name}: input {list(x.shape)}; its last dims are normalized_shape={list(shape)}")
    given = dict(zip(("weight", "bias"), tensors))
    x = _like(name, x, shape, **given)
    _in_one(name, x, tensors)
    if n == 1:
        return x, *tensors
    size = math.prod(shape)
    flat = x.reshape(*x.array.shape[:-n], size)
    return flat, *[None if t is None else t.reshape(size) for t in tensors]


def _back(y: Tensor, input: Tensor) -> Tensor:
    """The result in the shape and dtype of the input."""
    if y.array.shape != input.array.shape:
        y = y.reshape(input.array.shape)
    return y if y.array.dtype == input.array.dtype else cast(y, input.dtype)


@listed
def layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) w + b over the last dims, whose sizes normalized_shape is

    [Ba, Kiros & Hinton 2016]. One launch forward; backward one, and one for weight and bias together.
    """
    x, w, b = _rows("layer_norm", input, normalized_shape, weight, bias)
    return _back(normalization.layer_norm(x, w, b, check_eps("layer_norm", eps)), input)


def residual_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """(x + residual, its layer norm): what stands between the parts of a transformer's block, one launch"""
    name = "residual_layer_norm"
    if input.array.shape != residual.array.shape or input.array.dtype != residual.array.dtype:
        kinds = " and ".join(f"{t.dtype.name}{list(t.shape)}" for t in (input, residual))
        raise ValueError(f"{name}: input and residual are {kinds}; they have one shape and dtype")
    x, w, b = _rows(name, input, normalized_shape, weight, bias)
    r = _rows(name, residual, normalized_shape, weight)[0]
    total, y = normalization.residual_layer_norm(x, r, w, b, check_eps(name, eps))
    return _back(total, input), _back(y, input)


residual_layer_norm = listed(residual_layer_norm, "layer_norm")


@listed
def rms_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean(x^2) + eps) w over the last dims     [Zhang & Sennrich 2019]

    eps=None is the machine epsilon of the type that it is computed in.
    """
    x, w = _rows("rms_norm", input, normalized_shape, weight)
    if eps is None:
        eps = float(np.finfo(np.float64 if x.array.dtype == np.float64 else np.float32).eps)
    return _back(normalization.rms_norm(x, w, check_eps("rms_norm", eps)), input)


def check_batch(name: str, shape: tuple[int, ...], over: int) -> None:
    """ValueError where there is only one value to take a mean and a variance of."""
    if over == 1:
        raise ValueError(
            f"{name}: input {list(shape)} has 1 value a channel; its statistics need more: a larger batch, "
            "or eval()"
        )


def check_eps(name: str, eps: float) -> float:
    """eps, which must not be negative: the root of a variance less that much may not be there."""
    if not eps >= 0:
        raise ValueError(f"{name}: eps={eps}; it must not be negative, 1e-5 is usual")
    return float(eps)


def _nothing(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """No values, normalized: no values, which leave weight and bias gradients of 0."""
    beside = (-1, *[1] * (x.array.ndim - 2))
    y = x if weight is None else x * weight.reshape(beside)
    return y if bias is None else y + bias.reshape(beside)


@of_tensors
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    batches: Tensor | None = None,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) w + b for each channel: (N, C) or (N, C, ...)     [Ioffe & Szegedy 2015]

    training: mean and variance are the batch's, and running <- (1 - momentum) running + momentum batch's, in
    place, the variance the unbiased one. With `batches`, an int64 count of batches with this one, momentum is
    1 / batches: the plain average. Otherwise mean and variance are the running ones. Inside
    `with minigrad.statistics.hold()` the running ones stay as they are.
    """
    x = floating("batch_norm", input)
    shape = x.array.shape
    if len(shape) < 2:
        raise ValueError(f"batch_norm: input {list(shape)}; it is (N, C) or (N, C, ...)")
    eps = check_eps("batch_norm", eps)
    of = dict(running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    x = _like("batch_norm", x, shape[1:2], **of)
    _in_one("batch_norm", x, list(of.values()))
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: one of running_mean and running_var is given; give both, or none")
    running = None
    if running_mean is not None and running_var is not None:
        running = running_mean.array, running_var.array
    if not training:
        if running is None:
            raise ValueError("batch_norm: training=False takes running_mean and running_var; give them")
        return _back(normalization.channel_norm(x, weight, bias, running, eps), input)
    if not x.array.size:  # an empty batch says nothing about the running statistics
        return _back(_nothing(x, weight, bias), input)
    check_batch("batch_norm", shape, x.array.size // shape[1])
    if held():
        running = None
    count = None if batches is None or running is None else batches.array.reshape(1)
    y = normalization.batch_norm(
        x, weight, bias, running, 0.0 if momentum is None else float(momentum), count, eps
    )
    if running is not None and running_mean is not None and running_var is not None:
        running_mean.touch()
        running_var.touch()
    return _back(y, input)


def _by_group(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Layer norm of each group of channels; weight and bias are the channels'."""
    n, c, *window = x.array.shape
    rows = x.reshape(n, groups, c // groups * math.prod(window))
    y = normalization.layer_norm(rows, None, None, float(eps)).reshape(x.array.shape)
    beside = (c, *[1] * len(window))
    if weight is not None:
        y = y * weight.reshape(beside)
    return y if bias is None else y + bias.reshape(beside)


@listed
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) w + b over each group of channels of an example: (N, C, ...)

    The C channels stand in num_groups groups; weight and bias are (C)     [Wu & He 2018].
    """
    x = floating("group_norm", input)
    shape = x.array.shape
    if len(shape) < 2 or num_groups < 1 or shape[1] % num_groups:
        raise ValueError(
            f"group_norm: input {list(shape)}, num_groups={num_groups}; the input is (N, C, ...), and its "
            "channels divide by num_groups"
        )
    eps = check_eps("group_norm", eps)
    x = _like("group_norm", x, shape[1:2], weight=weight, bias=bias)
    _in_one("group_norm", x, (weight, bias))
    return _back(_by_group(x, num_groups, weight, bias, eps), input)


@of_tensors
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) w + b over the window of each channel: (N, C, L, ...)

    [Ulyanov, Vedaldi & Lempitsky 2016]. use_input_stats=False takes the running statistics instead; with it,
    given ones move towards the mean over the examples of their means and unbiased variances.
    """
    x = floating("instance_norm", input)
    shape = x.array.shape
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if len(shape) < 3:
        raise ValueError(f"instance_norm: input {list(shape)}; it is (N, C, L, ...)")
    of = dict(running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    x, eps = _like("instance_norm", x, shape[1:2], **of), check_eps("instance_norm", eps)
    _in_one("instance_norm", x, list(of.values()))
    if not x.array.size:
        return _back(_nothing(x, weight, bias), input)
    size = math.prod(shape[2:])
    check_batch("instance_norm", shape, size)
    if running_mean is not None and running_var is not None and not held():
        _follow(x.array.reshape(*shape[:2], size), running_mean, running_var, momentum)
    return _back(_by_group(x, shape[1], weight, bias, eps), input)


def _follow(x: Any, running_mean: Tensor, running_var: Tensor, momentum: float) -> None:
    """Move the running statistics of instance_norm: x is (N, C, L)."""
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
    for running, now in ((running_mean, wide.mean(axis=2)), (running_var, wide.var(axis=2, ddof=1))):
        a = running.array
        f = now.dtype.type(momentum)
        a[...] = (now.dtype.type(1) - f) * a + f * now.mean(axis=0)
        running.touch()


@of_tensors
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha mean of x^2 over `size` neighbouring channels)^beta: (N, C, ...)

    [Krizhevsky, Sutskever & Hinton 2012, sec. 3.3; they take the sum instead of the mean]. Channels beyond
    the first and the last count as 0; of an even size the larger half is before.
    """
    x = floating("local_response_norm", input)
    shape = x.array.shape
    if len(shape) < 3 or isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(
            f"local_response_norm: input {list(shape)}, size={size!r}; the input is (N, C, ...) with at "
            "least 3 dims, size a positive whole number"
        )
    if not x.array.size:
        return x
    squares = (x * x).reshape(shape[0], 1, shape[1], -1)
    around = pad(squares, (0, 0, size // 2, (size - 1) // 2))
    mean = avg_pool2d(around, (size, 1), 1).reshape(shape)
    return x / (mean * alpha + k) ** beta
