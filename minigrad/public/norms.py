"""Norms of vectors: (Σ |x|^p)^(1/p), and its limits at p = 0, inf and -inf."""

from __future__ import annotations

from math import inf
from typing import Any

from .. import ops
from ..tensor import Tensor
from .autocast import listed
from .dims import all_dims
from .extremes import not_empty
from .reductions import floating, in_float32
from .register import method, public


def p_norm(name: str, input: Tensor, p: Any, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """The p-norm of a floating tensor over axes. TypeError for a p that is no number."""
    if isinstance(p, (str, bool)) or not isinstance(p, (int, float)):
        raise TypeError(f"{name}: order {p!r}; it must be a number, inf or -inf among them")
    if abs(p) == inf and (p < 0 or input.array.size == 0):
        not_empty(name, input, axes)

    def compute(x: Tensor) -> Tensor:
        if p == 2:
            return ops.euclidean(x, axes, keepdim)
        if p == 1:
            return ops.sum(ops.abs(x), axes, keepdim)
        if p == 0:
            return ops.nonzeros(x, axes, keepdim)
        if abs(p) == inf:
            return (ops.amax if p > 0 else ops.amin)(ops.abs(x), axes, keepdim)
        return ops.norm(x, x.array.dtype.type(p), axes, keepdim)

    return in_float32(compute, input)


@public
@method
def norm(input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """(Σ |input|^p)^(1/p) over dim (all by default), for any number p, inf and -inf included; 'fro' is p = 2.

    The gradient is 0 where the norm is. p = 'nuc' is the sum of the singular values of matrices.
    """
    input = floating("norm", input, dtype)
    if p == "nuc":
        from ..linalg import matrix_norm

        return matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim)
    axes = all_dims("norm", dim, input.array.ndim)
    return p_norm("norm", input, 2 if p is None or p == "fro" else p, axes, keepdim)


@listed
def vector_norm(
    x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """(Σ |x|^ord)^(1/ord) over dim, or over the flat tensor, for any number ord, inf and -inf included."""
    x = floating("vector_norm", x, dtype)
    return p_norm("vector_norm", x, ord, all_dims("vector_norm", dim, x.array.ndim), keepdim)
