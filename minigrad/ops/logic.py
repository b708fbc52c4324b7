"""Comparisons and bits: results that are bools or integers, so there are no gradients."""

from __future__ import annotations

from ..autograd import op
from .arithmetic import library


@op
def eq(a, b):
    """a = b"""
    return a == b


@op
def ne(a, b):
    """a != b"""
    return a != b


@op
def lt(a, b):
    """a < b"""
    return a < b


@op
def le(a, b):
    """a <= b"""
    return a <= b


@op
def gt(a, b):
    """a > b"""
    return a > b


@op
def ge(a, b):
    """a >= b"""
    return a >= b


@op
def close(a, b, rtol, atol, equal_nan):
    """a = b, or |a - b| <= atol + rtol |b| and finite; two nans if equal_nan"""
    difference = abs(a - b)
    near = (a == b) | (library(a, b).isfinite(difference) & (difference <= atol + abs(rtol * b)))
    return near | ((a != a) & (b != b)) if equal_nan else near


@op
def logical_and(a, b):
    """a and b; what is not 0 is true"""
    return library(a, b).logical_and(a, b)


@op
def logical_or(a, b):
    """a or b"""
    return library(a, b).logical_or(a, b)


@op
def logical_xor(a, b):
    """either a or b"""
    return library(a, b).logical_xor(a, b)


@op
def logical_not(x):
    """not x"""
    return library(x).logical_not(x)


@op
def bitwise_and(a, b):
    """a & b"""
    return a & b


@op
def bitwise_or(a, b):
    """a | b"""
    return a | b


@op
def bitwise_xor(a, b):
    """a ^ b"""
    return a ^ b


@op
def bitwise_not(x):
    """~x: every bit inverted; of a bool, not x"""
    return ~x


@op
def bitwise_left_shift(a, b):
    """a << b = a 2^b; 0 for b beyond the width of the type"""
    return a << b


@op
def bitwise_right_shift(a, b):
    """a >> b = floor(a / 2^b)"""
    return a >> b


@op
def isnan(x):
    """x is not a number"""
    return library(x).isnan(x)


@op
def isinf(x):
    """x is inf or -inf"""
    return library(x).isinf(x)


@op
def isfinite(x):
    """x is neither inf, -inf nor nan"""
    return library(x).isfinite(x)


@op
def signbit(x):
    """x is negative; of -0. and negative nans too"""
    return library(x).signbit(x)
