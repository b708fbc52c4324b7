"""Order: which element comes where. Indices are piecewise constant; the values are taken at them."""

from __future__ import annotations

import numpy as np

from ..autograd import op
from ..backend import xp_of
from .sums import is_half


@op
def argsort(x, axis, descending):
    """The indices that sort x along an axis, stable; nan counts as the largest. Not differentiable."""
    xp = xp_of(x)
    if is_half(x) or x.dtype.kind == "b":
        x = x.astype(np.float32)
    if not descending:
        return xp.argsort(x, axis=axis, kind="stable")
    last = x.shape[axis] - 1  # of equal ones the first comes first: sort from the end, and turn that round
    return xp.flip(last - xp.argsort(xp.flip(x, axis), axis=axis, kind="stable"), axis).copy()


def median_place(x, axis, skip_nan):
    """Where in the sorted x the median stands: the lower of two, or nan if there is one (unless skip_nan)."""
    xp, n = xp_of(x), x.shape[axis]
    nans = (x != x).sum(axis=axis, keepdims=True)
    if skip_nan:
        return xp.maximum(n - nans - 1, 0) // 2
    return xp.where(nans > 0, n - 1, (n - 1) // 2)


@op
def middle(x, axis, skip_nan):
    """`median_place` as a Tensor; not differentiable."""
    return median_place(x, axis, skip_nan)


@op(aux=True)
def take_along(x, index, axis):
    """y[..., i, ...] = x[..., index[..., i, ...], ...]: no element of x is taken twice."""
    return xp_of(x).take_along_axis(x, index, axis), x.shape[axis]


@op
def put_along(x, index, axis, n):
    """Zeros, n long along the axis, with y[..., index[..., i, ...], ...] = x[..., i, ...]"""
    xp = xp_of(x)
    y = xp.zeros(x.shape[:axis] + (n,) + x.shape[axis + 1 :], x.dtype)
    xp.put_along_axis(y, index, x, axis)
    return y


take_along.vjp(x=lambda g, index, axis, aux: put_along(g, index, axis, aux))
put_along.vjp(x=lambda g, index, axis: take_along(g, index, axis))
