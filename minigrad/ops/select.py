"""Choosing between values, elementwise. What decides (a mask, which operand is larger) is piecewise constant,
so the gradients below use it as a raw array; a gradient that is not chosen is 0, even where the one passed on
is inf or nan.
"""

from __future__ import annotations

from ..autograd import op
from ..backend import xp_of
from ..tensor import Tensor
from .arithmetic import either


@op
def masked(x, mask):
    """x where the mask is true, else 0"""
    return xp_of(x).where(mask, x, x.dtype.type(0))


masked.vjp(x=lambda g, mask: masked(g, mask))


@op
def select(condition, a, b):
    """a where the condition is true, else b"""
    return xp_of(condition).where(condition, a, b)


select.vjp(a=lambda g, condition: masked(g, condition), b=lambda g, condition: masked(g, ~_raw(condition)))


def _raw(x):
    return x.array if isinstance(x, Tensor) else x


@op
def relu(x):
    """max(x, 0)"""
    return xp_of(x).maximum(x, x.dtype.type(0))


relu.vjp(x=lambda g, y: masked(g, y.array > 0))


@op
def maximum(a, b):
    """the larger of a and b, nan if either is; at ties each gets half of the gradient"""
    return either(a, b).maximum(a, b)


maximum.vjp(
    a=lambda g, a, b: _shared(g, _raw(a) == _raw(b), ~(_raw(a) < _raw(b))),
    b=lambda g, a, b: _shared(g, _raw(a) == _raw(b), ~(_raw(a) > _raw(b))),
)


@op
def minimum(a, b):
    """the smaller of a and b, nan if either is; at ties each gets half of the gradient"""
    return either(a, b).minimum(a, b)


minimum.vjp(
    a=lambda g, a, b: _shared(g, _raw(a) == _raw(b), ~(_raw(a) > _raw(b))),
    b=lambda g, a, b: _shared(g, _raw(a) == _raw(b), ~(_raw(a) < _raw(b))),
)


def _shared(g, ties, mine):
    """g where an operand won, g / 2 where it drew."""
    return masked(select(ties, g * 0.5, g), mine)


@op
def fmax(a, b):
    """the larger of a and b, the other one if one is nan; at ties a gets the gradient"""
    return either(a, b).fmax(a, b)


fmax.vjp(
    a=lambda g, a, b: masked(g, _first_wins(_raw(a) >= _raw(b), b)),
    b=lambda g, a, b: masked(g, ~_first_wins(_raw(a) >= _raw(b), b)),
)


@op
def fmin(a, b):
    """the smaller of a and b, the other one if one is nan; at ties a gets the gradient"""
    return either(a, b).fmin(a, b)


fmin.vjp(
    a=lambda g, a, b: masked(g, _first_wins(_raw(a) <= _raw(b), b)),
    b=lambda g, a, b: masked(g, ~_first_wins(_raw(a) <= _raw(b), b)),
)


def _first_wins(wins, b):
    b = _raw(b)
    return wins | (b != b)


@op
def clamp_min(x, low):
    """max(x, low); at ties x gets the gradient"""
    return either(x, low).maximum(x, low)


clamp_min.vjp(
    x=lambda g, x, low: masked(g, _raw(x) >= _raw(low)),
    low=lambda g, x, low: masked(g, _raw(x) < _raw(low)),
)


@op
def clamp_max(x, high):
    """min(x, high); at ties x gets the gradient"""
    return either(x, high).minimum(x, high)


clamp_max.vjp(
    x=lambda g, x, high: masked(g, _raw(x) <= _raw(high)),
    high=lambda g, x, high: masked(g, _raw(x) > _raw(high)),
)


@op
def clamp(x, low, high):
    """min(max(x, low), high); x has the gradient inside and on the bounds"""
    xp = either(x, low)
    return xp.minimum(xp.maximum(x, low), high)


clamp.vjp(
    x=lambda g, x, low, high: masked(g, (_raw(x) >= _raw(low)) & (_raw(x) <= _raw(high))),
    low=lambda g, x, low, high: masked(g, (_raw(x) < _raw(low)) & (_raw(low) < _raw(high))),
    high=lambda g, x, low, high: masked(g, (_raw(x) > _raw(high)) | (_raw(high) < _raw(low))),
)
