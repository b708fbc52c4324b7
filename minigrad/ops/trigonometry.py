"""Circular and hyperbolic functions and their inverses, elementwise. (tanh stands in unary.py.)"""

from __future__ import annotations

from ..autograd import op
from ..backend import xp_of
from .unary import rsqrt


@op
def sin(x):
    """sin x, x in radians"""
    return xp_of(x).sin(x)


sin.vjp(x=lambda g, x: g * cos(x))


@op
def cos(x):
    """cos x, x in radians"""
    return xp_of(x).cos(x)


cos.vjp(x=lambda g, x: -(g * sin(x)))


@op
def tan(x):
    """tan x, x in radians"""
    return xp_of(x).tan(x)


tan.vjp(x=lambda g, y: g * (y * y + 1))


@op
def asin(x):
    """arcsin x in [-pi/2, pi/2]"""
    return xp_of(x).arcsin(x)


asin.vjp(x=lambda g, x: g * rsqrt(1 - x * x))


@op
def acos(x):
    """arccos x in [0, pi]"""
    return xp_of(x).arccos(x)


acos.vjp(x=lambda g, x: -(g * rsqrt(1 - x * x)))


@op
def atan(x):
    """arctan x in [-pi/2, pi/2]"""
    return xp_of(x).arctan(x)


atan.vjp(x=lambda g, x: g / (x * x + 1))


@op
def sinh(x):
    """(e^x - e^-x) / 2"""
    return xp_of(x).sinh(x)


sinh.vjp(x=lambda g, x: g * cosh(x))


@op
def cosh(x):
    """(e^x + e^-x) / 2"""
    return xp_of(x).cosh(x)


cosh.vjp(x=lambda g, x: g * sinh(x))


@op
def asinh(x):
    """ln(x + sqrt(x^2 + 1))"""
    return xp_of(x).arcsinh(x)


asinh.vjp(x=lambda g, x: g * rsqrt(x * x + 1))


@op
def acosh(x):
    """ln(x + sqrt(x^2 - 1))"""
    return xp_of(x).arccosh(x)


acosh.vjp(x=lambda g, x: g * rsqrt(x * x - 1))


@op
def atanh(x):
    """ln((1 + x) / (1 - x)) / 2"""
    return xp_of(x).arctanh(x)


atanh.vjp(x=lambda g, x: g / (1 - x * x))
