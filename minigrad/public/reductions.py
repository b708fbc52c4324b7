"""Reductions: sums, means, variances, products, and what is counted.

`dim` is None (all of them), an int or, where PyTorch has it, a tuple; negative dims count from the end;
keepdim leaves size 1. float16 and bfloat16 are reduced in float32. Here `sum`, `all`, `max` are not Python's
own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import ops
from ..backend import as_dtype, float32, get_default_dtype, int64, uint8
from ..ops.sums import is_half
from ..tensor import Tensor
from .dims import all_dims, check_tensor, one_dim
from .register import method, public


def summable(name: str, input: Any, dtype: Any = None) -> Tensor:
    """The input in dtype if given; else integers and bools as int64, for their sums and products."""
    check_tensor(name, input)
    if dtype is not None:
        return input.to(as_dtype(dtype))
    return input.to(int64) if input.array.dtype.kind in "iub" else input


def floating(name: str, input: Any, dtype: Any = None) -> Tensor:
    """The input in a floating dtype: its own or the one asked for. TypeError for integers."""
    check_tensor(name, input)
    if dtype is not None:
        input = input.to(as_dtype(dtype))
    if input.array.dtype.kind in "iub":
        if dtype is not None:
            raise TypeError(f"{name}: dtype must be a floating type, not {input.dtype.name}")
        raise TypeError(
            f"{name}: {input.dtype.name} input; use input.float(), or pass dtype= where it is taken"
        )
    return input


def in_float32(function: Callable, input: Tensor) -> Tensor:
    """function(input), computed in float32 when the input is float16 or bfloat16."""
    if is_half(input.array):
        return function(input.to(float32)).to(input.dtype)
    return function(input)


# ------------------------------------------------------------------------------------ sums, products


@public
@method
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ input over dim (all by default). Integers are summed as int64."""
    if dtype is not None or not isinstance(input, Tensor) or input.array.dtype.kind in "iub":
        input = summable("sum", input, dtype)
    return ops.sum(input, all_dims("sum", dim, input.array.ndim), keepdim)


@public
@method
def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ input over dim, nan counted as 0."""
    check_tensor("nansum", input)
    if input.array.dtype.kind in "iub":
        return sum(input, dim, keepdim, dtype=dtype)
    return sum(ops.masked(input, input.array == input.array), dim, keepdim, dtype=dtype)


@public
@method
def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ input / n over dim (all by default); nan where n = 0."""
    if dtype is not None or not isinstance(input, Tensor) or input.array.dtype.char not in "fd":
        input = floating("mean", input, dtype)
    axes = all_dims("mean", dim, input.array.ndim)
    if input.array.dtype.char in "fd":
        return ops.mean(input, axes, keepdim)
    return in_float32(lambda x: ops.mean(x, axes, keepdim), input)


@public
@method
def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean of what is not nan, over dim."""
    input = floating("nanmean", input, dtype)
    axes = all_dims("nanmean", dim, input.array.ndim)
    there = Tensor(input.array == input.array)

    def ratio(x: Tensor) -> Tensor:
        total = ops.sum(ops.masked(x, there.array), axes, keepdim)
        return ops.div(total, ops.sum(there.to(x.dtype), axes, keepdim))

    return in_float32(ratio, input)


@public
@method
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Π input over one dim, or all; its gradient is right where elements are 0. Integers as int64."""
    input = summable("prod", input, dtype)
    ndim = input.array.ndim
    if dim is None or not ndim:
        x = ops.reshape(input, (input.array.size,))
        y = in_float32(lambda x: ops.prod(x, 0, False), x)
        if dim is not None:
            one_dim("prod", dim, 0)
        return ops.reshape(y, (1,) * ndim) if keepdim and ndim else y
    axis = one_dim("prod", dim, ndim)
    return in_float32(lambda x: ops.prod(x, axis, keepdim), input)


# ------------------------------------------------------------------------------------------- moments


def _spread_arguments(name: str, dim: Any, unbiased: Any, correction: Any) -> tuple[Any, Any]:
    """(dim, correction) of var(dim, unbiased, keepdim), var(unbiased) and var(dim, correction=, keepdim=)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim if unbiased is None else unbiased
    if unbiased is not None and correction is not None:
        raise TypeError(f"{name}: give unbiased or correction, not both; unbiased=True is correction=1")
    return dim, (1 if unbiased is None else int(unbiased)) if correction is None else correction


def _var(
    name: str, input: Any, dim: Any, unbiased: Any, keepdim: bool, correction: Any, deviation: bool
) -> Tensor:
    input = floating(name, input)
    dim, correction = _spread_arguments(name, dim, unbiased, correction)
    axes = all_dims(name, dim, input.array.ndim)

    def compute(x: Tensor) -> Tensor:
        y = ops.var(x, axes, keepdim, correction)
        return ops.root(y) if deviation else y

    return in_float32(compute, input)


@public
@method
def var(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """Σ (input - mean)^2 / max(n - correction, 0) over dim. correction is 1; unbiased=False makes it 0."""
    return _var("var", input, dim, unbiased, keepdim, correction, False)


@public
@method
def std(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """The square root of `var`; its gradient is 0 where it is 0."""
    return _var("std", input, dim, unbiased, keepdim, correction, True)


@public
def var_mean(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """(var, mean) over dim."""
    place = _spread_arguments("var_mean", dim, unbiased, correction)[0]
    return var(input, dim, unbiased, keepdim, correction=correction), mean(input, place, keepdim)


@public
def std_mean(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """(std, mean) over dim."""
    place = _spread_arguments("std_mean", dim, unbiased, correction)[0]
    return std(input, dim, unbiased, keepdim, correction=correction), mean(input, place, keepdim)


@public
@method
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """ln Σ e^input over dim; does not overflow. Integers are taken in the default dtype."""
    check_tensor("logsumexp", input)
    if input.array.dtype.kind in "iub":
        input = input.to(get_default_dtype())
    axes = all_dims("logsumexp", dim, input.array.ndim)
    return in_float32(lambda x: ops.logsumexp(x, axes, keepdim), input)


# ----------------------------------------------------------------------------------- what is counted


def _truth(name: str, operation: Callable, input: Any, dim: Any, keepdim: bool) -> Tensor:
    check_tensor(name, input)
    y = operation(input, all_dims(name, dim, input.array.ndim), keepdim)
    return y.to(uint8) if input.dtype is uint8 else y


@public
@method
def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether every element over dim is true (not 0)."""
    return _truth("all", ops.all, input, dim, keepdim)


@public
@method
def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether some element over dim is true (not 0)."""
    return _truth("any", ops.any, input, dim, keepdim)


@public
@method
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements over dim are not 0."""
    check_tensor("count_nonzero", input)
    return ops.count_nonzero(input, all_dims("count_nonzero", dim, input.array.ndim))
