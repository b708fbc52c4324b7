"""The functions a kernel text may call: one table for all three machines.

`min` and `max` are selections with a fixed answer in every case, so that machines agree to the bit:

    max(a, b) = a > b or a is nan ? a : b           a nan in either place comes out
    fmax(a, b) = a > b or b is nan ? a : b          a nan loses against a number

The host compiler finds the C spellings in preamble.h: `exp log tanh erf` of float32 are polynomials
there, of at most 2 ulp; everything else is the C library's. `round` is to nearest even.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Function:
    """A function of the text: how many arguments, what it gives back, and NumPy's way to compute it."""

    arity: int
    numpy: Callable[..., Any]
    gives: str = "float"  # "float": the promoted type; "bool"; "same": also for integers


def _select(ufunc: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy leaves open which zero max(0., -0.) is; the text does not: equal operands give the second."""

    def choose(a: Any, b: Any) -> Any:
        out = np.asarray(ufunc(a, b))
        np.copyto(out, b, where=np.equal(a, b))
        return out[()]

    return choose


# erf of float32: x P(x^2) near zero, 1 - exp(Q(x)) beyond 1; the coefficients are preamble.h's.
_ERF_NEAR = (
    7.889119297033176e-05,
    -0.0008020841050893068,
    0.005189535208046436,
    -0.026854444295167923,
    0.11283600330352783,
    -0.3761262595653534,
    0.12837916612625122,
)
_ERF_FAR = (
    2.1208619216395164e-07,
    -2.4754242986091413e-05,
    0.0004603578709065914,
    -0.004270636476576328,
    0.025348925963044167,
    -0.10860659927129745,
    -0.6330657601356506,
    -1.1296494007110596,
    0.00020206546469125897,
)
_erf64 = np.frompyfunc(math.erf, 1, 1)
_erfc64 = np.frompyfunc(math.erfc, 1, 1)


def _erf(x: Any) -> Any:
    if x.dtype == np.float64:
        return np.asarray(_erf64(x), np.float64)[()]
    a = np.abs(x)
    z = x * x
    near = np.full_like(a, np.float32(_ERF_NEAR[0]))
    for c in _ERF_NEAR[1:]:
        near = near * z + np.float32(c)
    near = x * near + x
    a = np.minimum(a, np.float32(4))
    far = np.full_like(a, np.float32(_ERF_FAR[0]))
    for c in _ERF_FAR[1:]:
        far = far * a + np.float32(c)
    far = np.copysign(np.float32(1) - np.exp(far), x)
    return np.where(np.abs(x) < np.float32(1), near, np.where(np.isnan(x), x, far))


def _erfc(x: Any) -> Any:
    return np.asarray(_erfc64(np.asarray(x, np.float64)), x.dtype)[()]


FUNCTIONS: dict[str, Function] = {
    **{name: Function(1, getattr(np, name)) for name in "sqrt exp log tanh floor ceil sin cos tan".split()},
    **{name: Function(1, getattr(np, name)) for name in "sinh cosh log1p expm1 log2 exp2".split()},
    "asin": Function(1, np.arcsin),
    "acos": Function(1, np.arccos),
    "atan": Function(1, np.arctan),
    "erf": Function(1, _erf),
    "erfc": Function(1, _erfc),
    "round": Function(1, np.rint),
    "fabs": Function(1, np.abs),
    "pow": Function(2, np.power),
    "isnan": Function(1, np.isnan, "bool"),
    "isinf": Function(1, np.isinf, "bool"),
    "isfinite": Function(1, np.isfinite, "bool"),
    "abs": Function(1, np.abs, "same"),
    "min": Function(2, _select(np.minimum), "same"),
    "max": Function(2, _select(np.maximum), "same"),
    "fmin": Function(2, _select(np.fmin)),
    "fmax": Function(2, _select(np.fmax)),
}
