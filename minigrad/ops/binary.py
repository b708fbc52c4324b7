"""Functions of two arrays, elementwise with broadcasting."""

from __future__ import annotations

import numpy as np

from ..autograd import op
from ..tensor import Tensor
from .arithmetic import div, library, mul, neg, nothing, raw
from .select import masked, select
from .unary import exp, exp2, log, reciprocal


@op
def atan2(a, b):
    """the angle of the point (b, a), in (-pi, pi]"""
    return library(a, b).arctan2(a, b)


atan2.vjp(
    a=lambda g, a, b: mul(g, mul(b, _inverse_square(a, b))),
    b=lambda g, a, b: neg(mul(g, mul(a, _inverse_square(a, b)))),
)


def _inverse_square(a, b):
    """1 / (a^2 + b^2), and 0 at the origin"""
    square = a * a + b * b
    return masked(reciprocal(square), raw(square) != 0)


@op
def hypot(a, b):
    """(a^2 + b^2)^(1/2), without overflow in between"""
    return library(a, b).hypot(a, b)


hypot.vjp(a=lambda g, y, a: g * (a / y), b=lambda g, y, b: g * (b / y))


@op
def logaddexp(a, b):
    """ln(e^a + e^b), without overflow"""
    return library(a, b).logaddexp(a, b)


logaddexp.vjp(a=lambda g, a, b: g / (exp(b - a) + 1), b=lambda g, a, b: g / (exp(a - b) + 1))


@op
def logaddexp2(a, b):
    """log2(2^a + 2^b), without overflow"""
    return library(a, b).logaddexp2(a, b)


logaddexp2.vjp(a=lambda g, a, b: g / (exp2(b - a) + 1), b=lambda g, a, b: g / (exp2(a - b) + 1))


@op
def xlogy(a, b):
    """a ln b, and 0 where a = 0 (unless b is nan)"""
    xp = library(a, b)
    zero = b.dtype.type(0)
    return xp.where((a == 0) & (b == b), zero, a * xp.log(b))


xlogy.vjp(
    a=lambda g, a, b: mul(g, _log_or_zero(a, b, g.array.dtype.type(0))), b=lambda g, a, b: mul(g, div(a, b))
)


def _log_or_zero(a, b, zero):
    """ln b, and 0 where a = 0 and ln b is infinite or nan"""
    return select((raw(a) == 0) & (raw(b) <= 0), zero, log(b) if isinstance(b, Tensor) else np.log(b))


@op
def copysign(a, b):
    """|a| with the sign of b"""
    return library(a, b).copysign(a, b)


copysign.vjp(a=lambda g, y, a: mul(g, masked(div(y, a), raw(a) != 0)), b=nothing)


@op
def heaviside(a, b):
    """0 for a < 0 (or nan), b for a = 0, 1 for a > 0"""
    return library(a, b).where(a == 0, b, (a > 0).astype(b.dtype))


@op
def lerp(a, b, w):
    """a + w (b - a), computed from the end that is nearer: a at w = 0 and b at w = 1, exactly"""
    way, near = b - a, abs(w) < w.dtype.type(0.5)
    xp, first, last = library(a, b, w), a + w * way, b - way * (w.dtype.type(1) - w)
    if isinstance(near, np.bool_):  # of a number
        return first if near else last
    return xp.where(near, first, last)


lerp.vjp(a=lambda g, w: g * (1 - w), b=lambda g, w: mul(g, w), w=lambda g, a, b: mul(g, b - a))
