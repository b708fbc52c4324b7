"""Running sums, products and extremes along a dim."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

from .. import ops
from ..backend import get_default_dtype
from ..tensor import Tensor
from .dims import check_tensor, one_dim
from .reductions import in_float32, summable
from .register import in_place, method, public


def _along(name: str, input: Tensor, dim: int, scan: Callable) -> Any:
    """scan(x, axis); 0-d tensors are taken as having one element along dim 0."""
    axis = one_dim(name, dim, input.array.ndim)
    return scan(input, axis) if input.array.ndim else ops.reshape(scan(ops.reshape(input, (1,)), 0), ())


@public
@method
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """y_k = Σ_(j <= k) x_j along dim. Integers are summed as int64."""
    return _along("cumsum", summable("cumsum", input, dtype), dim, ops.cumsum)


@public
@method
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """y_k = Π_(j <= k) x_j along dim; its gradient is right where elements are 0. Integers as int64."""
    input = summable("cumprod", input, dtype)
    return in_float32(lambda x: _along("cumprod", x, dim, ops.cumprod), input)


in_place(cumsum)
in_place(cumprod)


@public
@method
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """y_k = ln Σ_(j <= k) e^(x_j) along dim; does not overflow."""
    check_tensor("logcumsumexp", input)
    if input.array.dtype.kind in "iub":
        input = input.to(get_default_dtype())
    return in_float32(lambda x: _along("logcumsumexp", x, dim, ops.logcumsumexp), input)


CummaxResult = namedtuple("CummaxResult", "values indices")
CumminResult = namedtuple("CumminResult", "values indices")


def _extremes(name: str, input: Tensor, dim: int, scan: Callable) -> tuple[Tensor, Tensor]:
    check_tensor(name, input)
    axis = one_dim(name, dim, input.array.ndim)
    x = input if input.array.ndim else ops.reshape(input, (1,))
    values = scan(x, axis)
    indices = ops.last_equal(x, values, axis)
    shape = input.array.shape
    return (values, indices) if shape else (ops.reshape(values, shape), ops.reshape(indices, shape))


@public
@method
def cummax(input: Tensor, dim: int) -> CummaxResult:
    """(values, indices) of the largest element so far along dim, the last of those that tie."""
    return CummaxResult(*_extremes("cummax", input, dim, ops.cumulative_max))


@public
@method
def cummin(input: Tensor, dim: int) -> CumminResult:
    """(values, indices) of the smallest element so far along dim, the last of those that tie."""
    return CumminResult(*_extremes("cummin", input, dim, ops.cumulative_min))


@public
@method
def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """x_(k+1) - x_k along dim, n times over; prepend and append are joined to x first."""
    from .joining import cat, narrow

    check_tensor("diff", input)
    if not input.array.ndim:
        raise ValueError("diff: a 0-d tensor has no neighbours; give it a dim")
    axis = one_dim("diff", dim, input.array.ndim)
    if n < 0:
        raise ValueError(f"diff: n = {n}; it must be 0 or more")
    if n and (prepend is not None or append is not None):
        input = cat([t for t in (prepend, input, append) if t is not None], axis)
    for _ in range(min(n, input.array.shape[axis])):
        size = input.array.shape[axis]
        late, early = narrow(input, axis, 1, size - 1), narrow(input, axis, 0, size - 1)
        input = ops.ne(late, early) if input.array.dtype.kind == "b" else ops.sub(late, early)
    return input
