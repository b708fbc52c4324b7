"""Reductions: sums, means and norms, products, extremes, and what is counted."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..backend import as_dtype, float32, int64
from ..ops.sums import is_half
from ..tensor import Tensor
from .dims import all_dims
from .register import method, public


@public
@method
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ input over dim (all by default). Integers are summed as int64."""
    if dtype is not None:
        input = input.to(as_dtype(dtype))
    elif input.array.dtype.kind in "iub":
        input = input.to(int64)
    return ops.sum(input, all_dims("sum", dim, input.array.ndim), keepdim)


@public
@method
def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Σ input / n over dim (all by default); nan where n = 0."""
    input = floating("mean", input, dtype)
    axes = all_dims("mean", dim, input.array.ndim)
    if is_half(input.array):
        return ops.mean(input.to(float32), axes, keepdim).to(input.dtype)
    return ops.mean(input, axes, keepdim)


def floating(name: str, input: Tensor, dtype: Any = None) -> Tensor:
    """The input in a floating dtype: its own or the one asked for. TypeError for integers."""
    if dtype is not None:
        input = input.to(as_dtype(dtype))
    if input.array.dtype.kind in "iub":
        raise TypeError(
            f"{name}: {input.dtype.name} input; take input.float() first, or pass dtype=minigrad.float32"
            if dtype is None
            else f"{name}: dtype must be a floating type, not {input.dtype.name}"
        )
    return input
