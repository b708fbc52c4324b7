"""Powers x^p. Where ln x or x^(p-1) is infinite and its factor 0, the gradient is 0, as in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import op
from ..tensor import Tensor
from .arithmetic import library, mul, nothing, raw
from .select import masked
from .unary import log


@op
def power(x, p):
    """x^p; of integers, what is left of the fraction 1 / x^-p: 0, 1 or -1"""
    xp = library(x, p)
    if x.dtype.kind in "iu":
        return _integer_power(xp, x, p)
    if isinstance(p, np.generic):  # the exponents that cost no logarithm
        if p == 2:
            return x * x
        if p == 3:
            return x * x * x
        if p == 0.5:
            return xp.sqrt(x)
        if p == -0.5:
            return x.dtype.type(1) / xp.sqrt(x)
        if p == -1:
            return x.dtype.type(1) / x
    return xp.power(x, p)


def _integer_power(xp: Any, x: Any, p: Any) -> Any:
    zero, one = x.dtype.type(0), x.dtype.type(1)
    x = xp.full_like(p, x) if isinstance(x, np.generic) else x
    whole = xp.power(x, xp.maximum(p, zero))
    if x.dtype.kind == "u" or (isinstance(p, np.generic) and zero <= p):
        return whole
    fraction = xp.where(x == one, one, xp.where(x == -one, one - (p & one) * x.dtype.type(2), zero))
    return xp.where(p < zero, fraction, whole)


power.vjp(x=lambda g, x, p: _for_base(g, x, p), p=lambda g, y, x, p: _for_exponent(g, y, x, p))


def _for_base(g: Tensor, x: Tensor, p: Any) -> Tensor:
    """g p x^(p-1), and 0 where p = 0"""
    if isinstance(p, Tensor):
        return masked(mul(g, p * power(x, p - 1)), p.array != 0)
    if p == 0:
        return nothing(g)
    return mul(g, mul(power(x, p - p.dtype.type(1)), p))


def _for_exponent(g: Tensor, y: Tensor, x: Any, p: Tensor) -> Tensor:
    """g x^p ln x, and 0 where x = 0 and p >= 0"""
    ln = log(x) if isinstance(x, Tensor) else np.log(x)
    return mul(g, masked(y * ln, ~((raw(x) == 0) & (p.array >= 0))))
