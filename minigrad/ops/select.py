"""Choosing between values, elementwise.

What decides (a mask, which operand is larger) is piecewise constant: the gradients use it as a raw array. A
gradient that is not chosen is 0, even where the one passed on is inf or nan.
"""

from __future__ import annotations

import kernels

from ..autograd import op
from ..backend import xp_of
from .arithmetic import library, nothing, raw


@op
def masked(x, mask):
    """x where the mask is true, else 0"""
    if x.ndim and mask.ndim:
        return kernels.elementary.MASKED(x, mask.view("uint8"))
    return library(x).where(mask, x, x.dtype.type(0))


masked.vjp(x=lambda g, mask: masked(g, mask))


@op
def select(condition, a, b):
    """a where the condition is true, else b"""
    return library(condition, a, b).where(condition, a, b)


select.vjp(a=lambda g, condition: masked(g, condition), b=lambda g, condition: masked(g, ~raw(condition)))


@op
def overwrite(x, value):
    """the value, in the shape of x"""
    return library(x).broadcast_to(value, x.shape).copy()


overwrite.vjp(x=nothing, value=lambda g: g)


@op
def relu(x):
    """max(x, 0)"""
    return xp_of(x).maximum(x, x.dtype.type(0))


relu.vjp(x=lambda g, y: relu_backward(g, y))


@op
def relu_backward(g, value):
    """0 where the value is <= 0, else g"""
    return kernels.elementary.RELU_BACKWARD(g, value)


relu_backward.vjp(g=lambda g, value: relu_backward(g, value))


@op
def maximum(a, b):
    """the larger of a and b, nan if either is; at ties each gets half of the gradient"""
    return library(a, b).maximum(a, b)


maximum.vjp(
    a=lambda g, a, b: _shared(g, raw(a) == raw(b), ~(raw(a) < raw(b))),
    b=lambda g, a, b: _shared(g, raw(a) == raw(b), ~(raw(a) > raw(b))),
)


@op
def minimum(a, b):
    """the smaller of a and b, nan if either is; at ties each gets half of the gradient"""
    return library(a, b).minimum(a, b)


minimum.vjp(
    a=lambda g, a, b: _shared(g, raw(a) == raw(b), ~(raw(a) > raw(b))),
    b=lambda g, a, b: _shared(g, raw(a) == raw(b), ~(raw(a) < raw(b))),
)


def _shared(g, ties, mine):
    """g where an operand won, g / 2 where it drew."""
    return masked(select(ties, g * 0.5, g), mine)


@op
def fmax(a, b):
    """the larger of a and b, or the one that is not nan; at ties a gets the gradient"""
    return library(a, b).fmax(a, b)


fmax.vjp(
    a=lambda g, a, b: masked(g, _first(raw(a) >= raw(b), b)),
    b=lambda g, a, b: masked(g, ~_first(raw(a) >= raw(b), b)),
)


@op
def fmin(a, b):
    """the smaller of a and b, or the one that is not nan; at ties a gets the gradient"""
    return library(a, b).fmin(a, b)


fmin.vjp(
    a=lambda g, a, b: masked(g, _first(raw(a) <= raw(b), b)),
    b=lambda g, a, b: masked(g, ~_first(raw(a) <= raw(b), b)),
)


def _first(wins, b):
    """Where a is the result: where it wins, and where b is nan."""
    b = raw(b)
    return wins | (b != b)


@op
def clamp_min(x, low):
    """max(x, low); at ties x gets the gradient"""
    return library(x, low).maximum(x, low)


clamp_min.vjp(
    x=lambda g, x, low: masked(g, raw(x) >= raw(low)),
    low=lambda g, x, low: masked(g, raw(x) < raw(low)),
)


@op
def clamp_max(x, high):
    """min(x, high); at ties x gets the gradient"""
    return library(x, high).minimum(x, high)


clamp_max.vjp(
    x=lambda g, x, high: masked(g, raw(x) <= raw(high)),
    high=lambda g, x, high: masked(g, raw(x) > raw(high)),
)


@op
def clamp(x, low, high):
    """min(max(x, low), high); x has the gradient inside and on the bounds"""
    xp = library(x, low, high)
    return xp.minimum(xp.maximum(x, low), high)


clamp.vjp(
    x=lambda g, x, low, high: masked(g, (raw(x) >= raw(low)) & (raw(x) <= raw(high))),
    low=lambda g, x, low, high: masked(g, (raw(x) < raw(low)) & (raw(low) < raw(high))),
    high=lambda g, x, low, high: masked(g, (raw(x) > raw(high)) | (raw(high) < raw(low))),
)


@op
def nan_to_num(x, nan, high, low):
    """x, with other values for nan, inf and -inf, where the gradient is 0"""
    xp, inf = library(x), x.dtype.type(float("inf"))
    return xp.where(x != x, nan, xp.where(x == inf, high, xp.where(x == -inf, low, x)))


nan_to_num.vjp(x=lambda g, x: masked(g, library(raw(x)).isfinite(raw(x))))
