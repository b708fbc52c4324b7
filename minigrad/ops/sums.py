"""Sums, and the expansion of a smaller shape: each is the other's gradient.

The product of a matrix with a vector of ones is a sum of its rows or columns too, by BLAS, and three times as
fast as NumPy's; so the short sums that training is full of (over a batch, over a row) go that way. Long ones
stay with NumPy, whose pairwise addition loses fewer digits. float16 and bfloat16 are summed in float32.
"""

from __future__ import annotations

from math import prod as size_of

import numpy as np

from ..autograd import op
from ..backend import destination, on_device, xp_of

LONGEST = 65536  # additions that are left to BLAS
_ONES = {np.dtype(t): np.ones(LONGEST, t) for t in ("float32", "float64")}
SMALL = 16384  # elements up to which an expansion is written out: NumPy is slow at reading a stretched axis


def is_half(x):
    """Whether x has one of the 16-bit floating types, in which sums are not taken."""
    return x.dtype.itemsize == 2 and x.dtype.kind not in "iu"


def fold(x, axes, shape):
    """The sum of an array over sorted axes, as an array of `shape`: without these axes, or with size 1."""
    out = destination.take(shape, x.dtype) if destination.array is not None else None
    ones = _ONES.get(x.dtype)
    if ones is not None and type(x) is np.ndarray and x.flags.c_contiguous and x.size and axes:
        k, n = len(axes), x.ndim
        if axes[-1] == k - 1 and k < n and (rows := size_of(x.shape[:k])) <= LONGEST:
            if n > 2:
                x = x.reshape(rows, -1)
            if out is not None:
                ones[:rows].dot(x, out.reshape(-1))
                return out
            y = ones[:rows].dot(x)
            return y if y.shape == shape else y.reshape(shape)
        if axes[0] == n - k and k < n and (columns := size_of(x.shape[-k:])) <= LONGEST:
            y = (x if k == 1 else x.reshape(*x.shape[:-k], columns)).dot(ones[:columns])
            return _stored(y, shape, out)
    if is_half(x):
        return _stored(x.astype(np.float32).sum(axis=axes).astype(x.dtype), shape, out)
    return _stored(x.sum(axis=axes), shape, out)


def _stored(y, shape, out):
    if out is None:
        return y if y.shape == shape else y.reshape(shape)
    out[...] = y.reshape(shape)
    return out


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
    count = x.dtype.type(size_of([x.shape[k] for k in axes]))
    return fold(x, axes, reduced(x.shape, axes, keepdim)) / count, (x.shape, count)


mean.vjp(x=lambda g, axes, aux: spread(g / aux[1], axes, aux[0]))


@op(aux=True)
def spread(x, axes, shape):
    """x repeated along axes, which it lacks or has with size 1, up to `shape`: the gradient of a sum."""
    return stretched(x.reshape(reduced(shape, axes, True)), shape), x.shape


spread.vjp(x=lambda g, axes, aux: sum(g, axes, len(aux) == g.array.ndim))


def stretched(x, shape):
    """x broadcast to shape: written out if small, else a read-only view."""
    if size_of(shape) > SMALL or on_device(x):
        return xp_of(x).broadcast_to(x, shape)
    y = destination.take(shape, x.dtype) if destination.array is not None else None
    if y is None:
        y = np.empty(shape, x.dtype)
    y[...] = x
    return y


@op(view=True, aux=True)
def expand(x, shape):
    """x repeated along new and size-1 axes, without memory: a read-only view."""
    return xp_of(x).broadcast_to(x, shape), x.shape


expand.vjp(x=lambda g, aux: sum_to(g, aux))


@op(aux=True)
def sum_to(x, shape):
    """The sum of x over the axes that broadcasting from `shape` to x.shape added or stretched."""
    extra = x.ndim - len(shape)
    axes = (*range(extra), *[k + extra for k, n in enumerate(shape) if n == 1 and x.shape[k + extra] != 1])
    return fold(x, axes, shape), x.shape


sum_to.vjp(x=lambda g, aux: expand(g, aux))
