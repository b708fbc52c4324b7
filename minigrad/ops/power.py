"""Powers x^p. Where ln x or x^(p-1) is infinite and its factor 0, the gradient is 0, as in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import op
from ..backend import xp_of
from ..tensor import Tensor
from .select import masked
from .unary import log


@op
def power(x, p):
    """x^p"""
    return x**p


power.vjp(x=lambda g, x, p: _for_base(g, x, p), p=lambda g, y, x, p: _for_exponent(g, y, x, p))


def _for_base(g: Tensor, x: Tensor, p: Any) -> Tensor:
    """g p x^(p-1), and 0 where p = 0"""
    if isinstance(p, Tensor):
        return masked(g * (p * power(x, p - 1)), p.array != 0)
    if p == 0:
        return Tensor(xp_of(g.array).zeros_like(g.array))
    return g * (power(x, p - p.dtype.type(1)) * p)


def _for_exponent(g: Tensor, y: Tensor, x: Any, p: Tensor) -> Tensor:
    """g x^p ln x, and 0 where x = 0 and p >= 0"""
    if isinstance(x, Tensor):
        base, ln = x.array, log(x)
    else:
        base, ln = x, np.log(x)
    return g * masked(y * ln, ~((base == 0) & (p.array >= 0)))
