"""Order: sorting, the k-th of something, what occurs and how often. Values are differentiable.

nan counts as larger than any number. Sorting is stable here with and without `stable`.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from .. import ops
from ..backend import float32, float64, xp_of
from ..tensor import Tensor
from .dims import check_tensor, one_dim
from .extremes import chosen, not_empty
from .reductions import floating, in_float32
from .register import method, public

SortResult = namedtuple("SortResult", "values indices")
TopkResult = namedtuple("TopkResult", "values indices")
KthvalueResult = namedtuple("KthvalueResult", "values indices")
MedianResult = namedtuple("MedianResult", "values indices")
NanmedianResult = namedtuple("NanmedianResult", "values indices")


@public
@method
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> SortResult:
    """(values, indices) in ascending or descending order along dim; equal ones stay in order."""
    indices = argsort(input, dim, descending)
    if not input.array.ndim:
        return SortResult(ops.reshape(input, ()), indices)
    return SortResult(ops.take_along(input, indices, one_dim("sort", dim, input.array.ndim)), indices)


@public
@method
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices that sort the tensor along dim; equal ones stay in order."""
    check_tensor("argsort", input)
    axis = one_dim("argsort", dim, input.array.ndim)
    if not input.array.ndim:
        return ops.reshape(ops.argsort(ops.reshape(input, (1,)), 0, False), ())
    return ops.argsort(input, axis, bool(descending))


@public
@method
def msort(input: Tensor) -> Tensor:
    """The values in ascending order along dim 0."""
    return sort(input, 0).values


@public
@method
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> TopkResult:
    """(values, indices) of the k largest (or smallest) elements along dim, in order."""
    check_tensor("topk", input)
    axis, ndim = one_dim("topk", dim, input.array.ndim), input.array.ndim
    x = input if ndim else ops.reshape(input, (1,))
    if not 0 <= k <= x.array.shape[axis]:
        raise IndexError(f"topk: k = {k}, but dim {dim} has {x.array.shape[axis]} elements")
    order = ops.argsort(x, axis, bool(largest))
    indices = ops.getitem(order, (slice(None),) * axis + (slice(0, k), ...))
    values = ops.take_along(x, indices, axis)
    if not ndim and k:
        return TopkResult(ops.reshape(values, ()), ops.reshape(indices, ()))
    return TopkResult(values, indices)


@public
@method
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> KthvalueResult:
    """(values, indices) of the k-th smallest element along dim, k from 1."""
    check_tensor("kthvalue", input)
    axis = one_dim("kthvalue", dim, input.array.ndim)
    size = input.array.shape[axis] if input.array.ndim else 1
    if not 1 <= k <= size:
        raise IndexError(f"kthvalue: k = {k}, but dim {dim} has {size} elements; k counts from 1")

    def place(x: Tensor, axis: int) -> Tensor:
        return ops.getitem(ops.argsort(x, axis, False), (slice(None),) * axis + (slice(k - 1, k), ...))

    return KthvalueResult(*chosen(input, axis, keepdim, place))


def _median(name: str, result: Any, input: Tensor, dim: Any, keepdim: bool, skip_nan: bool) -> Any:
    check_tensor(name, input)
    if dim is None:
        x = ops.reshape(input, (input.array.size,))
        not_empty(name, x, (0,))
        return ops.median(x, skip_nan)
    axis = one_dim(name, dim, input.array.ndim)
    if input.array.ndim:
        not_empty(name, input, (axis,))

    def place(x: Tensor, axis: int) -> Tensor:
        return ops.take_along(ops.argsort(x, axis, False), ops.middle(x, axis, skip_nan), axis)

    return result(*chosen(input, axis, keepdim, place))


@public
@method
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median, of an even number the lower one; nan if there is one. With dim: (values, indices)."""
    return _median("median", MedianResult, input, dim, keepdim, False)


@public
@method
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median of what is not nan. With dim: (values, indices)."""
    return _median("nanmedian", NanmedianResult, input, dim, keepdim, True)


@public
@method
def quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """The q-quantiles along dim (or of all), q in [0, 1] a number or a vector, whose dim then comes first.

    interpolation: linear, lower, higher, midpoint or nearest. nan if there is one. q is read by the host.
    """
    input = floating("quantile", input)
    wanted = q.tolist() if isinstance(q, Tensor) else q
    many = isinstance(wanted, (list, tuple))
    if not all_between(wanted if many else [wanted]):
        raise ValueError(f"quantile: q = {wanted}; quantiles lie in [0, 1]")
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise ValueError(
            f"quantile: interpolation {interpolation!r}; use linear, lower, higher, midpoint or nearest"
        )
    ndim = input.array.ndim
    axis = 0 if dim is None else one_dim("quantile", dim, ndim)
    x = ops.reshape(input, (input.array.size,)) if dim is None or not ndim else input
    not_empty("quantile", x, (axis,))

    def at(k: int, x: Tensor) -> Tensor | None:
        """The k-th quantile as a Tensor, where it has a gradient."""
        if not (isinstance(q, Tensor) and q.requires_grad and interpolation == "linear"):
            return None
        return ops.getitem(ops.reshape(q, (q.array.size,)), (k, ...)).to(x.dtype)

    def compute(x: Tensor) -> Tensor:
        ordered = ops.take_along(x, ops.argsort(x, axis, False), axis)
        parts = [
            _between(ordered, p, at(k, x), axis, interpolation)
            for k, p in enumerate(wanted if many else [wanted])
        ]
        if keepdim:
            shape = tuple([1 if dim is None or k == axis else n for k, n in enumerate(input.array.shape)])
            parts = [ops.reshape(part, shape) for part in parts]
        return ops.stack(0, *parts) if many else parts[0]

    return in_float32(compute, x)


def all_between(numbers: Any) -> bool:
    return not [p for p in numbers if not 0 <= p <= 1]


def _between(ordered: Tensor, q: float, exact: Tensor | None, axis: int, interpolation: str) -> Tensor:
    """The q-quantile of a tensor sorted along an axis, without that axis. exact: q, if it has a gradient."""

    def at(k: int) -> Tensor:
        return ops.getitem(ordered, (slice(None),) * axis + (k, ...))

    last = ordered.array.shape[axis] - 1
    position = q * last
    low = int(position)
    fraction: Any = position - low
    if interpolation == "nearest":
        low, fraction = round(position), 0.0
    elif interpolation == "midpoint":
        fraction = 0.5 if fraction else 0.0
    elif interpolation != "linear":
        low, fraction = low + (1 if fraction and interpolation == "higher" else 0), 0.0
    y = at(low)
    if fraction:
        way = ordered.array.dtype.type(fraction) if exact is None else exact * last - low
        y = ops.add(y, ops.mul(ops.sub(at(low + 1), y), way))
    top = at(last)  # nan comes last
    return ops.select(Tensor(top.array != top.array), top, y)


# ------------------------------------------------------------------------ what occurs, and how often


@public
@method
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: Any = None,
) -> Any:
    """The different values in ascending order; with dim, the different slices along it.

    return_inverse adds, for each element, the index of its value; return_counts how often each value occurs.
    The host waits for the number of values. Not differentiable.
    """
    check_tensor("unique", input)
    xp = xp_of(input.array)
    axis = None if dim is None else one_dim("unique", dim, input.array.ndim)
    found = xp.unique(input.array, return_inverse=True, return_counts=True, axis=axis, equal_nan=False)
    values, inverse, counts = [Tensor(a) for a in found]
    inverse = Tensor(inverse.array.reshape(input.array.shape if axis is None else -1))
    results = (values, *([inverse] if return_inverse else []), *([counts] if return_counts else []))
    return results if len(results) > 1 else values


@public
@method
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """y_j = how often j occurs in a vector of whole numbers >= 0, or the sum of the weights where it does."""
    check_tensor("bincount", input)
    if input.array.dtype.kind not in "iu" or input.array.ndim != 1:
        raise TypeError(
            f"bincount: whole numbers in a vector are needed, not {input.dtype.name}{list(input.shape)}"
        )
    low, high = (int(input.array.min()), int(input.array.max())) if input.array.size else (0, -1)
    if low < 0 or minlength < 0:
        raise ValueError(f"bincount: {f'element {low}' if low < 0 else f'minlength {minlength}'} is negative")
    size = max(high + 1, minlength)
    if weights is None:
        weights = Tensor(xp_of(input.array).ones(input.array.shape, np.int64))
    elif weights.dtype is not float32:
        weights = weights.to(float64)
    if weights.array.shape != input.array.shape:
        raise ValueError(f"bincount: {tuple(weights.shape)} weights for {tuple(input.shape)} elements")
    return ops.sum_at(weights.detach(), input, 0, size)


@public
@method
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` equal parts of [min, max]; from the data if min = max."""
    input = floating("histc", input).detach()
    low, high = float(min), float(max)
    x = input.array.reshape(-1)
    if bins <= 0 or low > high:
        raise ValueError(f"histc: bins = {bins} must be positive, and min = {low} not above max = {high}")
    if low == high and x.size:
        low, high = float(x.min()), float(x.max())
    if low == high:
        low, high = low - 1, high + 1
    if not -np.inf < low <= high < np.inf:
        raise ValueError(f"histc: the range [{low}, {high}] must be finite")
    xp, t = xp_of(x), x.dtype.type
    x = x[(x >= t(low)) & (x <= t(high))]
    place = ((x - t(low)) * t(bins / (high - low))).astype(np.int64)
    place = xp.minimum(place, bins - 1)
    return ops.sum_at(Tensor(xp.ones(place.shape, x.dtype)), Tensor(place), 0, bins)
