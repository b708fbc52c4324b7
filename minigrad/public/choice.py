"""Choosing between values, elementwise: where, maximum, minimum, clamp."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..backend import bool_, dtype
from ..tensor import Tensor
from .promote import operands, result_type, tensor_of
from .register import alias, in_place, method, public


@public
def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """input where the condition is true, else other, with broadcasting.

    where(condition) is the indices of what is not 0, one tensor a dim; their length is read from the device.
    The gradient reaches what was chosen only: guard what is not (log of 0) before it, not after.
    """
    tensor_of("where", condition)
    if input is None and other is None:
        return tuple(Tensor(k) for k in condition.array.nonzero())
    if input is None or other is None:
        raise TypeError("where: the forms are where(condition) and where(condition, input, other)")
    if condition.dtype is not bool_:
        raise TypeError(
            f"where: the condition is a {condition.dtype.name} tensor; use a comparison, or .bool()"
        )
    return ops.select(condition, *operands("where", input, other))


def _where(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """where(condition, self, other)"""
    return where(condition, self, other)


Tensor.where = _where  # type: ignore[attr-defined]


@public
@method
def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of the two, nan if either is. At ties each gets half of the gradient."""
    return ops.maximum(*operands("maximum", input, other))


@public
@method
def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of the two, nan if either is. At ties each gets half of the gradient."""
    return ops.minimum(*operands("minimum", input, other))


@public
@method
def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The larger of the two, or the one that is not nan. At ties input gets the gradient."""
    return ops.fmax(*operands("fmax", input, other))


@public
@method
def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of the two, or the one that is not nan. At ties input gets the gradient."""
    return ops.fmin(*operands("fmin", input, other))


@public
@method
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """min(max(input, min), max), bounds being numbers, tensors or None; the gradient is 0 outside of them."""
    tensor_of("clamp", input)
    if min is None and max is None:
        raise ValueError("clamp: give min, max or both")
    d = result_type(input, *[bound for bound in (min, max) if bound is not None])
    if max is None:
        return ops.clamp_min(*operands("clamp", input, _within(min, d), to=d))
    if min is None:
        return ops.clamp_max(*operands("clamp", input, _within(max, d), to=d))
    return ops.clamp(*operands("clamp", input, _within(min, d), _within(max, d), to=d))


def _within(bound: Any, d: dtype) -> Any:
    """A bound beyond what an integer dtype holds is as good as its end."""
    if d.is_floating_point or d is bool_ or not isinstance(bound, int):
        return bound
    info = np.iinfo(d.numpy)
    return sorted((info.min, bound, info.max))[1]


@public
@method
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """max(input, min)"""
    return clamp(input, min)


@public
@method
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """min(input, max)"""
    return clamp(input, None, max)


for _function in (clamp, clamp_min, clamp_max):
    in_place(_function)
alias(clamp, "clip")
