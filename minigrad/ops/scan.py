"""Scans: at each element, a reduction over it and all before it along an axis.

A scan of n elements is log2(n) steps on whole arrays: after the step with distance s, each element holds the
reduction of the 2 s elements that end with it [Hillis & Steele 1986]. The gradient of a running product, or
of a running log-sum-exp, is a *linear* scan, h_k = a_k h_(k-1) + b_k; and the gradient of that is one again,
backwards. So nothing is ever divided by what may be zero, and any order of differentiation works.
"""

from __future__ import annotations

import numpy as np

from ..autograd import op
from ..backend import xp_of
from ..tensor import Tensor
from .select import masked
from .shape import flip
from .sums import is_half
from .unary import exp


def _steps(n):
    """1, 2, 4, ... below n"""
    return [1 << k for k in range(max(n - 1, 0).bit_length())]


def _along(axis, part):
    return (slice(None),) * axis + (part,)


def scanned(combine, x, axis):
    """y_k = combine(x_0, ..., x_k) for an associative function of two arrays."""
    y = x.copy()
    for s in _steps(x.shape[axis]):
        late, early = _along(axis, slice(s, None)), _along(axis, slice(None, -s))
        y[late] = combine(y[early], y[late])
    return y


@op
def cumsum(x, axis):
    """y_k = Σ_(j <= k) x_j"""
    if is_half(x):
        return x.astype(np.float32).cumsum(axis=axis).astype(x.dtype)
    return x.cumsum(axis=axis, dtype=x.dtype)


cumsum.vjp(x=lambda g, axis: _reversed(cumsum(_reversed(g, axis), axis), axis))


def _reversed(x, axis):
    return flip(x, (axis,))


@op
def delayed(x, first, axis):
    """y_0 = first, y_k = x_(k-1)"""
    y = xp_of(x).empty_like(x)
    y[_along(axis, slice(1, None))] = x[_along(axis, slice(None, -1))]
    y[_along(axis, slice(None, 1))] = first
    return y


delayed.vjp(x=lambda g, axis: _reversed(delayed(_reversed(g, axis), g.array.dtype.type(0), axis), axis))


@op
def linear_scan(a, b, axis):
    """h_0 = b_0, h_k = a_k h_(k-1) + b_k"""
    a, h = a.copy(), b.copy()
    for s in _steps(b.shape[axis]):
        late, early = _along(axis, slice(s, None)), _along(axis, slice(None, -s))
        h[late] += a[late] * h[early]
        a[late] = a[late] * a[early]
    return h


@linear_scan.joint_vjp
def _(g, needed, y, a, axis):
    r = _backwards(a, g, axis)
    return r * delayed(y, y.array.dtype.type(0), axis), r, None


def _backwards(a, g, axis):
    """r_k = g_k + a_(k+1) r_(k+1): what arrives at the end of a linear scan, carried back through it"""
    a = delayed(_reversed(a, axis), a.array.dtype.type(0), axis)
    return _reversed(linear_scan(a, _reversed(g, axis), axis), axis)


@op
def cumprod(x, axis):
    """y_k = Π_(j <= k) x_j"""
    return xp_of(x).cumprod(x, axis=axis, dtype=x.dtype)


cumprod.vjp(x=lambda g, x, y, axis: delayed(y, y.array.dtype.type(1), axis) * _backwards(x, g, axis))


@op
def logcumsumexp(x, axis):
    """y_k = ln Σ_(j <= k) e^(x_j); does not overflow"""
    return scanned(xp_of(x).logaddexp, x, axis)


def _softly(g, x, y, axis):
    """Σ_(i >= k) g_i e^(x_k - y_i) = e^(x_k - y_k) r_k with r_k = g_k + e^(y_k - y_(k+1)) r_(k+1)

    No factor exceeds 1.
    """
    step = delayed(y, y.array.dtype.type(-np.inf), axis) - y
    step = masked(step, step.array == step.array)  # not nan, where both are infinite
    return exp(x - y) * _backwards(exp(step), g, axis)


logcumsumexp.vjp(x=lambda g, x, y, axis: _softly(g, x, y, axis))


@op(aux=True)
def cumulative_max(x, axis):
    """y_k = max_(j <= k) x_j, nan once there was one"""
    y = scanned(xp_of(x).maximum, x, axis)
    return y, _new(x, y)


@op(aux=True)
def cumulative_min(x, axis):
    """y_k = min_(j <= k) x_j, nan once there was one"""
    y = scanned(xp_of(x).minimum, x, axis)
    return y, _new(x, y)


def _new(x, y):
    """Where the running extreme y of x is taken from the element itself: the last one of those that tie."""
    return (x == y) | (x != x)


@op
def last_equal(x, y, axis):
    """The index of the element that each running extreme y of x is taken from; not differentiable."""
    xp, n = xp_of(x), x.shape[axis]
    places = xp.arange(n).reshape((n,) + (1,) * (x.ndim - axis - 1))
    return scanned(xp.maximum, xp.where(_new(x, y), places, 0), axis)


def _to_source(g, new, axis):
    """All that arrives at a run of elements, at the first of it: where its value is from."""
    return masked(_backwards(Tensor((~new).astype(g.array.dtype)), g, axis), new)


cumulative_max.vjp(x=lambda g, aux, axis: _to_source(g, aux, axis))
cumulative_min.vjp(x=lambda g, aux, axis: _to_source(g, aux, axis))
