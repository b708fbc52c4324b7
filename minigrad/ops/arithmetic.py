"""Arithmetic, elementwise with broadcasting, which the engine undoes for gradients, in one place."""

from __future__ import annotations

from ..autograd import op
from ..backend import on_device, xp_of
from ..tensor import Tensor


def library(*operands):
    """The library whose functions take these operands: arrays of one device, and NumPy scalars."""
    for x in operands:
        if on_device(x):
            return xp_of(x)
    return xp_of(operands[0])


def raw(x):
    """The array of a Tensor; other operands as they are."""
    return x.array if isinstance(x, Tensor) else x


def nothing(g):
    """The gradient of what is constant almost everywhere: 0, and not 0 g, which an infinite g would spoil."""
    return Tensor(xp_of(g.array).zeros_like(g.array))


@op
def add(a, b):
    """a + b"""
    return a + b


add.vjp(a=lambda g: g, b=lambda g: g)


@op
def sub(a, b):
    """a - b"""
    return a - b


sub.vjp(a=lambda g: g, b=lambda g: -g)


@op
def mul(a, b):
    """a b"""
    return a * b


mul.vjp(a=lambda g, b: g * b, b=lambda g, a: g * a)


@op
def div(a, b):
    """a / b"""
    return a / b


div.vjp(a=lambda g, b: g / b, b=lambda g, y, b: -(g * y / b))


@op
def neg(x):
    """-x"""
    return -x


neg.vjp(x=lambda g: -g)


# ----------------------------------------------------------------- division with rounding, and what it leaves


@op
def div_floor(a, b):
    """floor(a / b)"""
    return library(a, b).floor_divide(a, b)


@op
def div_trunc(a, b):
    """trunc(a / b)"""
    if a.dtype.kind not in "iu":
        return library(a, b).trunc(a / b)
    quotient = library(a, b).floor_divide(a, b)  # of integers: one more where the exact quotient is below 0
    return quotient + ((a - quotient * b != 0) & ((a < 0) != (b < 0)))


div_floor.vjp(a=nothing, b=nothing)
div_trunc.vjp(a=nothing, b=nothing)


@op
def remainder(a, b):
    """a - b floor(a / b): has b's sign"""
    return library(a, b).remainder(a, b)


remainder.vjp(a=lambda g: g, b=lambda g, a, b: neg(mul(g, div_floor(a, b))))


@op
def fmod(a, b):
    """a - b trunc(a / b): has a's sign"""
    return library(a, b).fmod(a, b)


fmod.vjp(a=lambda g: g, b=lambda g, a, b: neg(mul(g, div_trunc(a, b))))
