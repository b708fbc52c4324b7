"""Sums, and the expansion of a smaller shape: each is the other's gradient.

The product of a matrix with a vector of ones is a sum of its rows or columns too, by BLAS, and three times as
fast as NumPy's; so the short sums that training is full of (over a batch, over a row) go that way. Long ones
stay with NumPy, whose pairwise addition loses fewer digits. float16 and bfloat16 are summed in float32.
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import prod as size_of

import numpy as np

from ..autograd import op
from ..backend import destination, xp_of
from .arithmetic import div

BLAS_TYPES = (np.dtype("float32"), np.dtype("float64"))
TALL = 65536  # rows that BLAS adds up: one after the other, as NumPy does
WIDE = 4096  # elements of a row that BLAS adds up
SMALL = 16384  # elements up to which an expansion is written out: NumPy is slow at reading a stretched axis


def is_half(x):
    """Whether x has one of the 16-bit floating types, in which sums are not taken."""
    return x.dtype.itemsize == 2 and x.dtype.kind not in "iu"


@cache
def _ones(dtype):
    """What BLAS multiplies with."""
    return np.ones(TALL, dtype)


@lru_cache(4096)
def _plan(shape, axes, dtype):
    """How BLAS sums a contiguous array over axes; None where it does not.

    (a vector of ones, the array's form for it, whether the ones come first, how many such sums NumPy adds up)
    """
    n, k = len(shape), len(axes)
    if dtype not in BLAS_TYPES or not axes or 0 in shape:
        return None
    ones, count = _ones(dtype), size_of([shape[a] for a in axes])
    if axes == tuple(range(n - k, n)):
        width = 1
        for a in reversed(axes):
            width *= shape[a] if width * shape[a] <= WIDE else 1
        if width == count or width >= 64:
            return ones[:width], (-1, width)[width == size_of(shape) :], False, count // width
    if axes == tuple(range(k)) and count <= TALL and k < n:
        return ones[:count], (count, -1), True, 1
    return None


def fold(x, axes, shape):
    """The sum of an array over sorted axes, as an array of `shape`: without these axes, or with size 1."""
    out = destination.take(shape, x.dtype) if destination.array is not None else None
    plan = _plan(x.shape, axes, x.dtype)
    if plan is not None and type(x) is np.ndarray and x.flags.c_contiguous:
        ones, form, first, sums = plan
        if x.ndim != len(form) or sums > 1:
            x = x.reshape(form)
        if not first:
            y = x.dot(ones)
            return _stored(y if sums == 1 else y.reshape(-1, sums).sum(axis=1), shape, out)
        if out is None:
            return _stored(ones.dot(x), shape, None)
        ones.dot(x, out.reshape(-1))
        return out
    if is_half(x):
        return _stored(x.astype(np.float32).sum(axis=axes).astype(x.dtype), shape, out)
    return _stored(x.sum(axis=axes, dtype=x.dtype), shape, out)


def _stored(y, shape, out):
    if out is None:
        return y if y.shape == shape else y.reshape(shape)
    out[...] = y.reshape(shape)
    return out


@lru_cache(4096)
def reduced(shape, axes, keepdim):
    """The shape that a reduction over axes leaves."""
    if keepdim:
        return tuple([1 if k in axes else n for k, n in enumerate(shape)])
    return tuple([n for k, n in enumerate(shape) if k not in axes])


@op(aux=True)
def sum(x, axes, keepdim):
    """The sum over axes, which stay with size 1 if keepdim."""
    return fold(x, axes, reduced(x.shape, axes, keepdim)), x.shape


sum.vjp(x=lambda g, axes, aux: spread(g, axes, aux))


@op(aux=True)
def mean(x, axes, keepdim):
    """The sum over axes / the number of elements summed."""
    y = fold(x, axes, reduced(x.shape, axes, keepdim))
    count = x.dtype.type(x.size / y.size if y.size else 1)
    return y / count, (x.shape, count)


mean.vjp(x=lambda g, axes, aux: spread(div(g, aux[1]), axes, aux[0]))


@op(aux=True)
def spread(x, axes, shape):
    """x repeated along axes, which it lacks or has with size 1, up to `shape`: the gradient of a sum."""
    y = x if x.ndim == len(shape) else x.reshape(reduced(shape, axes, True))
    if type(x) is not np.ndarray or size_of(shape) > SMALL:
        return stretched(y, shape), x.shape
    out = destination.take(shape, x.dtype) if destination.array is not None else None
    if out is None:
        out = np.empty(shape, x.dtype)
    out[...] = y
    return out, x.shape


spread.vjp(x=lambda g, axes, aux: sum(g, axes, len(aux) == g.array.ndim))


def stretched(x, shape):
    """x broadcast to shape: a read-only view."""
    if type(x) is not np.ndarray or x.dtype not in BLAS_TYPES or not (x.flags.c_contiguous and x.size):
        return xp_of(x).broadcast_to(x, shape)
    steps = tuple([0 if n == 1 else s for n, s in zip(x.shape, x.strides)])  # as broadcast_to, but faster
    y = np.ndarray(shape, x.dtype, x, 0, (0,) * (len(shape) - x.ndim) + steps)
    y.flags.writeable = False
    return y


@op(view=True, aux=True)
def expand(x, shape):
    """x repeated along new and size-1 axes, without memory: a read-only view."""
    return stretched(x, shape), x.shape


expand.vjp(x=lambda g, aux: sum_to(g, aux))


@lru_cache(4096)
def _stretched_axes(full, shape):
    extra = len(full) - len(shape)
    return (*range(extra), *[k + extra for k, n in enumerate(shape) if n == 1 and full[k + extra] != 1])


@op(aux=True)
def sum_to(x, shape):
    """The sum of x over the axes that broadcasting from `shape` to x.shape added or stretched."""
    return fold(x, _stretched_axes(x.shape, shape), shape), x.shape


sum_to.vjp(x=lambda g, aux: expand(g, aux))
