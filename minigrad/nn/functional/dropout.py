"""Dropout: in training, elements become 0 with probability p and the others grow by 1 / (1 - p)
[Srivastava et al. 2014].

The mask is drawn from the counter stream (minigrad/random.py): the same seed drops the same elements on every
device, and the backward pass draws the mask again instead of keeping it.
"""

from __future__ import annotations

from typing import Any

from ... import ops, random
from ...backend import device_of
from ...ops import fused, layers
from ...public.autocast import listed
from ...tensor import Tensor
from .activation import SELU_ALPHA, SELU_SCALE, floating


def check_rate(name: str, p: float, inplace: bool) -> None:
    """ValueError for a rate outside [0, 1], and for inplace=True."""
    if not isinstance(p, float | int):
        raise TypeError(f"{name}: p is a {type(p).__name__}; it is a number, a probability")
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: p={p}; a probability lies in [0, 1]")
    if inplace:
        raise ValueError(f"{name}: inplace=True is not supported; use inplace=False")


def _draw(x: Tensor) -> Any:
    """The next draw of the counter stream, on the device of x: [seed, offset]."""
    return random.draw(device_of(x.array))


def _drop(x: Tensor, p: float) -> Tensor:
    return layers.dropout(x, float(p), _draw(x))


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """x / (1 - p), or 0 with probability p; x itself if not training"""
    check_rate("dropout", p, inplace)
    x = floating("dropout", input)
    return _drop(x, p) if training and p else x


@listed
def dropout_add(input: Tensor, residual: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """residual + dropout(input, p): one launch"""
    check_rate("dropout_add", p, False)
    x, r = floating("dropout_add", input), floating("dropout_add", residual)
    if x.array.shape != r.array.shape or x.array.dtype != r.array.dtype:
        kinds = " and ".join(f"{t.dtype.name}{list(t.shape)}" for t in (x, r))
        raise ValueError(f"dropout_add: input and residual are {kinds}; they have one shape and dtype")
    return fused.dropout_add(x, r, float(p), _draw(x)) if training and p else r + x


def _channels(name: str, input: Tensor, p: float, training: bool, inplace: bool, dims: int) -> Tensor:
    """Whole channels become 0: (N, C, *window), or (C, *window), of `dims` window dims."""
    check_rate(name, p, inplace)
    x = floating(name, input)
    if x.array.ndim not in (dims + 1, dims + 2):
        raise ValueError(
            f"{name}: input {list(x.shape)}; it has {dims + 1} or {dims + 2} dims, the last {dims} a window"
        )
    if not training or not p:
        return x
    shape = x.array.shape[:-dims] + (1,) * dims
    return x * _drop(x.new_ones(shape), p)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """dropout of whole channels: (N, C, L) or (C, L)     [Tompson et al. 2015]"""
    return _channels("dropout1d", input, p, training, inplace, 1)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """dropout of whole channels: (N, C, H, W) or (C, H, W)     [Tompson et al. 2015]"""
    return _channels("dropout2d", input, p, training, inplace, 2)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """dropout of whole channels: (N, C, D, H, W) or (C, D, H, W)     [Tompson et al. 2015]"""
    return _channels("dropout3d", input, p, training, inplace, 3)


def _alpha(x: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
    """x where a mask of this shape keeps it, else the least value of selu, at the same mean and variance."""
    if p == 1:
        return x * 0.0
    kept = _drop(x.new_ones(shape), p).array != 0
    least = -SELU_SCALE * SELU_ALPHA
    a = ((least * least * p + 1) * (1 - p)) ** -0.5
    return (ops.select(kept, x, x.array.dtype.type(least)) - least * p) * a


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """a (x - p s) or, with probability p, a (s - p s), for s = -1.7581 the least value of selu and
    a = ((s^2 p + 1) (1 - p))^(-1/2): mean 0 and variance 1 stay as they are     [Klambauer et al. 2017]
    """
    check_rate("alpha_dropout", p, inplace)
    x = floating("alpha_dropout", input)
    return _alpha(x, p, x.array.shape) if training and p else x


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """alpha_dropout of whole channels: (N, C, ...)"""
    check_rate("feature_alpha_dropout", p, inplace)
    x = floating("feature_alpha_dropout", input)
    if x.array.ndim < 2:
        raise ValueError(f"feature_alpha_dropout: input {list(x.shape)}; it is (N, C, ...)")
    if not training or not p:
        return x
    return _alpha(x, p, (*x.array.shape[:2], *[1] * (x.array.ndim - 2)))
