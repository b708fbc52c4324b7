"""Functions of one array, elementwise."""

from __future__ import annotations

import math

import kernels

from ..autograd import op
from ..backend import xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .arithmetic import nothing
from .select import select

# ----------------------------------------------------------------------------------- exponentials, logarithms


@op
def exp(x):
    """e^x"""
    return xp_of(x).exp(x)


exp.vjp(x=lambda g, y: g * y)


@op
def exp2(x):
    """2^x"""
    return xp_of(x).exp2(x)


exp2.vjp(x=lambda g, y: g * y * math.log(2))


@op
def expm1(x):
    """e^x - 1, accurate near 0"""
    return xp_of(x).expm1(x)


expm1.vjp(x=lambda g, y: g * (y + 1))


@op
def log(x):
    """ln x"""
    return xp_of(x).log(x)


log.vjp(x=lambda g, x: g / x)


@op
def log2(x):
    """ln x / ln 2"""
    return xp_of(x).log2(x)


log2.vjp(x=lambda g, x: g / (x * math.log(2)))


@op
def log10(x):
    """ln x / ln 10"""
    return xp_of(x).log10(x)


log10.vjp(x=lambda g, x: g / (x * math.log(10)))


@op
def log1p(x):
    """ln(1 + x), accurate near 0"""
    return xp_of(x).log1p(x)


log1p.vjp(x=lambda g, x: g / (x + 1))


@op
def sigmoid(x):
    """1 / (1 + e^-x)"""
    return kernels.elementary.SIGMOID(x)


def _sigmoid_gradient(g, y):
    if mode.enabled:
        return g * ((1 - y) * y)
    return Tensor(kernels.elementary.SIGMOID_BACKWARD(g.array, y.array))


sigmoid.vjp(x=_sigmoid_gradient)


@op
def tanh(x):
    """(e^x - e^-x) / (e^x + e^-x)"""
    return xp_of(x).tanh(x)


def _tanh_gradient(g, y):
    if mode.enabled:
        return g * (1 - y * y)
    return Tensor(kernels.elementary.TANH_BACKWARD(g.array, y.array))


tanh.vjp(x=_tanh_gradient)


@op
def logit(x):
    """ln(x / (1 - x)), for x in [0, 1]"""
    return xp_of(x).log(x / (x.dtype.type(1) - x))


logit.vjp(x=lambda g, x: _inside(g / (x * (1 - x)), x.array))


def _inside(g, x):
    """g where x is in [0, 1], else nan"""
    return select((x >= 0) & (x <= 1), g, x.dtype.type(math.nan))


# ----------------------------------------------------------------------------------------------------- powers


@op
def sqrt(x):
    """x^(1/2); the gradient at 0 is g / 0"""
    return xp_of(x).sqrt(x)


sqrt.vjp(x=lambda g, y: g / (y * 2))


@op
def rsqrt(x):
    """x^(-1/2)"""
    return x.dtype.type(1) / xp_of(x).sqrt(x)


rsqrt.vjp(x=lambda g, y: g * -0.5 * (y * y * y))


@op
def square(x):
    """x^2"""
    return x * x


square.vjp(x=lambda g, x: g * (x * 2))


@op
def reciprocal(x):
    """1 / x"""
    return x.dtype.type(1) / x


reciprocal.vjp(x=lambda g, y: -(g * (y * y)))


# ----------------------------------------------------------------------------------------- the error function


@op
def erf(x):
    """2/sqrt(pi) times the integral of e^(-t^2) from 0 to x"""
    return kernels.elementary.ERF(x)


erf.vjp(x=lambda g, x: g * (exp(-(x * x)) * (2 / math.sqrt(math.pi))))


@op
def erfc(x):
    """1 - erf(x), accurate where that is small"""
    return kernels.elementary.ERFC(x)


erfc.vjp(x=lambda g, x: g * (exp(-(x * x)) * (-2 / math.sqrt(math.pi))))


@op
def erfinv(x):
    """y with erf(y) = x"""
    return kernels.elementary.ERFINV(x)


erfinv.vjp(x=lambda g, y: g * (exp(y * y) * (math.sqrt(math.pi) / 2)))


# --------------------------------------------------------------------------------------------- sign, rounding


@op
def abs(x):
    """|x|; the gradient at 0 is 0"""
    return xp_of(x).abs(x)


abs.vjp(x=lambda g, x: g * Tensor(_sign(x.array)))


@op
def sign(x):
    """-1, 0 or 1, and 0 of nan; the gradient is 0"""
    return _sign(x)


def _sign(x):
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


sign.vjp(x=nothing)


@op
def floor(x):
    """the largest integer <= x; the gradient is 0"""
    return xp_of(x).floor(x)


floor.vjp(x=nothing)


@op
def ceil(x):
    """the smallest integer >= x; the gradient is 0"""
    return xp_of(x).ceil(x)


ceil.vjp(x=nothing)


@op
def round(x):
    """the nearest integer, halves to the even one; the gradient is 0"""
    return xp_of(x).rint(x)


round.vjp(x=nothing)


@op
def round_to(x, scale):
    """the nearest multiple of 1 / scale (of -scale, if that is negative); the gradient is 0"""
    xp = xp_of(x)
    return xp.rint(x * scale) / scale if scale > 0 else xp.rint(x / -scale) * -scale


round_to.vjp(x=nothing)


@op
def trunc(x):
    """the integer part, rounded toward 0; the gradient is 0"""
    return xp_of(x).trunc(x)


trunc.vjp(x=nothing)


@op
def frac(x):
    """x - trunc(x)"""
    return x - xp_of(x).trunc(x)


frac.vjp(x=lambda g: g)
