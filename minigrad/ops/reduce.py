"""Reductions other than sums. Axes are sorted tuples; `keepdim` leaves them with size 1.

Which elements are largest, or not zero, is piecewise constant: such masks enter the gradients as raw arrays.
Where a formula is 0 / 0 at a special point (the norm at 0, a standard deviation of 0) the gradient is 0, as
in PyTorch; the divisor is made 1 there, so that gradients of gradients are finite, too.
"""

from __future__ import annotations

from math import prod as size_of

import numpy as np

from ..autograd import op
from ..backend import xp_of
from ..tensor import Tensor
from .order import median_place
from .power import power
from .scan import cumprod, delayed
from .select import masked
from .shape import flip
from .sums import fold, mean, reduced, spread
from .unary import abs, exp, sign


def kept(y, axes, shape):
    """The result of a reduction, with the reduced axes again: an array or a Tensor."""
    return y.reshape(reduced(shape, axes, True))


# ------------------------------------------------------------------------------------------ products


@op
def prod(x, axis, keepdim):
    """The product over one axis."""
    return xp_of(x).prod(x, axis=axis, keepdims=keepdim, dtype=x.dtype)


prod.vjp(x=lambda g, x, axis: spread(g, (axis,), x.array.shape) * _others(x, axis))


def _others(x, axis):
    """At each element, the product of those before and those after it along the axis. No division."""
    one = x.array.dtype.type(1)
    after = delayed(cumprod(flip(x, (axis,)), axis), one, axis)
    return delayed(cumprod(x, axis), one, axis) * flip(after, (axis,))


# ------------------------------------------------------------------------------------------ extremes


@op
def amax(x, axes, keepdim):
    """The largest element over axes; those that tie share the gradient."""
    return x.max(axis=axes, keepdims=keepdim)


@op
def amin(x, axes, keepdim):
    """The smallest element over axes; those that tie share the gradient."""
    return x.min(axis=axes, keepdims=keepdim)


def _shared(g, axes, winners):
    """g to the winners over axes, in equal parts"""
    dtype = g.array.dtype
    parts = winners / winners.sum(axis=axes, keepdims=True, dtype=dtype)
    return spread(g, axes, winners.shape) * Tensor(parts.astype(dtype, copy=False))


def _best(g, x, y, axes):
    return _shared(g, axes, x.array == kept(y.array, axes, x.array.shape))


amax.vjp(x=lambda g, x, y, axes: _best(g, x, y, axes))
amin.vjp(x=lambda g, x, y, axes: _best(g, x, y, axes))


@op
def largest(x):
    """The largest element of a vector, nan if there is one; all such share the gradient."""
    return x.max(axis=0)


@op
def smallest(x):
    """The smallest element of a vector, nan if there is one; all such share the gradient."""
    return x.min(axis=0)


@op
def median(x, skip_nan):
    """The median of a vector, the lower one of two; all such share the gradient."""
    return xp_of(x).sort(x)[median_place(x, 0, skip_nan)].reshape(())


def _equal(g, x, y):
    a, b = x.array, y.array
    return _shared(g, (0,), (a == b) | ((a != a) & (b != b)))


largest.vjp(x=lambda g, x, y: _equal(g, x, y))
smallest.vjp(x=lambda g, x, y: _equal(g, x, y))
median.vjp(x=lambda g, x, y: _equal(g, x, y))


@op
def argmax(x, axis, keepdim):
    """The index of the largest element along an axis, the first if there are several; not differentiable."""
    return _expanded(x.argmax(axis=axis), axis, keepdim)


@op
def argmin(x, axis, keepdim):
    """The index of the smallest element along an axis, the first if there are several; not differentiable."""
    return _expanded(x.argmin(axis=axis), axis, keepdim)


def _expanded(y, axis, keepdim):
    return y.reshape(y.shape[:axis] + (1,) + y.shape[axis:]) if keepdim else y


# -------------------------------------------------------------------------------- variance and norms


@op
def var(x, axes, keepdim, correction):
    """Σ (x - mean)^2 / max(n - correction, 0) over axes"""
    n = size_of([x.shape[k] for k in axes])
    d = x - fold(x, axes, reduced(x.shape, axes, True)) / x.dtype.type(n)
    return fold(d * d, axes, reduced(x.shape, axes, keepdim)) / x.dtype.type(max(n - correction, 0))


@var.joint_vjp
def _(g, needed, x, axes, correction):
    shape, dtype = x.array.shape, x.array.dtype
    n = size_of([shape[k] for k in axes])
    g = spread(g * dtype.type(2), axes, shape) / dtype.type(n - correction)
    return g * (x - mean(x, axes, True)), None, None, None


@op
def root(x):
    """x^(1/2), with gradient 0 at 0: of a variance"""
    return xp_of(x).sqrt(x)


root.vjp(x=lambda g, y: _safe_ratio(g, y) * y.array.dtype.type(0.5))


def _safe_ratio(g, y):
    """g / y, and 0 where y = 0"""
    zeros = y.array == 0
    return masked(g / (y + Tensor(zeros.astype(y.array.dtype))), ~zeros)


@op
def euclidean(x, axes, keepdim):
    """(Σ x^2)^(1/2) over axes; the gradient at 0 is 0"""
    return xp_of(x).sqrt(fold(x * x, axes, reduced(x.shape, axes, keepdim)))


euclidean.vjp(x=lambda g, x, y, axes: spread(_safe_ratio(g, y), axes, x.array.shape) * x)


@op
def norm(x, p, axes, keepdim):
    """(Σ |x|^p)^(1/p) over axes, p not 0 or infinite; where x or the norm is 0, so is the gradient"""
    return fold(xp_of(x).abs(x) ** p, axes, reduced(x.shape, axes, keepdim)) ** (p.dtype.type(1) / p)


@norm.joint_vjp
def _(g, needed, x, y, p, axes):
    zeros = x.array == 0
    size = abs(x) + Tensor(zeros.astype(x.array.dtype))
    slope = masked(sign(x) * power(size, p - p.dtype.type(1)), ~zeros)
    where = y.array != 0
    scale = power(y + Tensor((~where).astype(y.array.dtype)), p.dtype.type(1) - p)
    return slope * spread(masked(g * scale, where), axes, x.array.shape), None, None, None


@op(aux=True)
def nonzeros(x, axes, keepdim):
    """How many elements are not 0, in the dtype of x: the 0-norm. Its gradient is 0."""
    return fold((x != 0).astype(x.dtype), axes, reduced(x.shape, axes, keepdim)), x.shape


nonzeros.vjp(x=lambda g, axes, aux: spread(g * g.array.dtype.type(0), axes, aux))


@op
def logsumexp(x, axes, keepdim):
    """ln Σ e^x over axes; does not overflow"""
    xp, inner = xp_of(x), reduced(x.shape, axes, True)
    if not x.size:
        return xp.log(fold(x, axes, reduced(x.shape, axes, keepdim)))
    top = x.max(axis=axes, keepdims=True)
    top = xp.where(xp.isfinite(top), top, x.dtype.type(0))
    y = xp.log(fold(xp.exp(x - top), axes, inner)) + top
    return y.reshape(reduced(x.shape, axes, keepdim))


logsumexp.vjp(x=lambda g, x, y, axes: spread(g, axes, x.array.shape) * exp(x - kept(y, axes, x.array.shape)))


# ----------------------------------------------------------------------------------- what is counted


@op
def all(x, axes, keepdim):
    """Whether no element over axes is 0."""
    return x.all(axis=axes, keepdims=keepdim)


@op
def any(x, axes, keepdim):
    """Whether some element over axes is not 0."""
    return x.any(axis=axes, keepdims=keepdim)


@op
def count_nonzero(x, axes):
    """How many elements over axes are not 0, as int64."""
    return (x != 0).sum(axis=axes, dtype=np.int64)
