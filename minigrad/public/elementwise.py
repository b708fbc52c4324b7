"""Functions of one tensor or two, elementwise: exp, sqrt, sin, floor, atan2, ... and their in-place forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import ops
from ..backend import bool_
from ..tensor import Tensor
from .promote import floating, floating_operands, scalar, tensor_of
from .register import EXPORTS, alias, in_place, method, public
from .types import limits


def _expose(operation: Any, convert: Callable, whole: bool = False) -> None:
    """An operation of one argument as `minigrad.name`, `Tensor.name` and `Tensor.name_`."""
    name = operation.op.name

    def function(input: Tensor) -> Tensor:
        return operation(convert(name, input))

    def rounding(input: Tensor) -> Tensor:
        x = convert(name, input)
        return ops.clone(x) if x.array.dtype.kind in "iu" else operation(x)

    function = rounding if whole else function
    function.__name__, function.__doc__ = name, operation.__doc__
    public(method(function))
    in_place(function)


def _no_bools(name: str, x: Any) -> Tensor:
    if tensor_of(name, x).array.dtype.kind == "b":
        raise TypeError(f"{name}: bool tensor; convert it with .int() or .float()")
    return x


def _only_floats(name: str, x: Any) -> Tensor:
    if not tensor_of(name, x).dtype.is_floating_point:
        raise TypeError(f"{name}: {x.dtype.name} tensor; convert it with .float()")
    return x


_FLOATING = """exp exp2 expm1 log log2 log10 log1p sigmoid sqrt rsqrt reciprocal sin cos tan asin acos atan
    sinh cosh tanh asinh acosh atanh erf erfc erfinv"""
for _name in _FLOATING.split():  # of integers and bools in the default floating dtype
    _expose(getattr(ops, _name), floating)
for _name in "relu abs".split():  # of integers in their own dtype
    _expose(getattr(ops, _name), _no_bools)
for _name in "floor ceil trunc".split():  # integers are whole already
    _expose(getattr(ops, _name), _no_bools, whole=True)
_expose(ops.frac, _only_floats)


@public
@method
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1; the gradient is 0"""
    return ops.clone(input) if tensor_of("sign", input).dtype is bool_ else ops.sign(input)


@public
@method
def square(input: Tensor) -> Tensor:
    """input^2"""
    return ops.square(input) if tensor_of("square", input).dtype is not bool_ else input.long()


@public
@method
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest whole number, halves to the even one; with decimals, the nearest n 10^-decimals."""
    _no_bools("round", input)
    if decimals == 0:
        return ops.round(input) if input.dtype.is_floating_point else ops.clone(input)
    _only_floats("round with decimals", input)
    scale = 10.0 ** math.fabs(decimals)
    return ops.round_to(input, scalar(scale if decimals > 0 else -scale, input.dtype))


@public
@method
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """ln(input / (1 - input)); with eps, of input clamped to [eps, 1 - eps]."""
    x = floating("logit", input)
    if eps is not None:
        x = ops.clamp(x, scalar(eps, x.dtype), scalar(1 - eps, x.dtype))
    return ops.logit(x)


@public
@method
def nan_to_num(
    input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """input with numbers in place of nan, inf and -inf: by default 0, the dtype's largest and -largest."""
    x = tensor_of("nan_to_num", input)
    if not x.dtype.is_floating_point:
        return x.clone()
    largest = float(limits(x.dtype).max)
    values = (nan, largest if posinf is None else posinf, -largest if neginf is None else neginf)
    return ops.nan_to_num(x, *[scalar(v, x.dtype) for v in values])


@public
@method
def deg2rad(input: Tensor) -> Tensor:
    """input pi / 180"""
    return floating("deg2rad", input) * (math.pi / 180)


@public
@method
def rad2deg(input: Tensor) -> Tensor:
    """input 180 / pi"""
    return floating("rad2deg", input) * (180 / math.pi)


for _function in (sign, square, round, logit, nan_to_num, deg2rad, rad2deg):
    in_place(_function)
for _name in "asin acos atan asinh acosh atanh".split():
    alias(EXPORTS[_name], f"arc{_name[1:]}")
alias(EXPORTS["abs"], "absolute")
alias(sign, "sgn")
alias(EXPORTS["trunc"], "fix")
Tensor.__abs__ = EXPORTS["abs"]

# ------------------------------------------------------------------------------------------- of two arguments


@public
@method
def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, input), in (-pi, pi]: arctan(input / other) in the right quadrant."""
    return ops.atan2(*floating_operands("atan2", input, other))


@public
@method
def hypot(input: Tensor, other: Tensor) -> Tensor:
    """(input^2 + other^2)^(1/2), without overflow in between."""
    return ops.hypot(*floating_operands("hypot", input, other))


@public
@method
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """ln(e^input + e^other), without overflow."""
    return ops.logaddexp(*floating_operands("logaddexp", input, other))


@public
@method
def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """log2(2^input + 2^other), without overflow."""
    return ops.logaddexp2(*floating_operands("logaddexp2", input, other))


@public
@method
def xlogy(input: Any, other: Any) -> Tensor:
    """input ln other, and 0 where input is 0."""
    return ops.xlogy(*floating_operands("xlogy", input, other))


@public
@method
def copysign(input: Tensor, other: Any) -> Tensor:
    """|input| with the sign of other."""
    return ops.copysign(*floating_operands("copysign", input, other))


@public
@method
def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 where input is negative, 1 where it is positive, values where it is 0."""
    if tensor_of("heaviside", input).dtype is not tensor_of("heaviside", values).dtype:
        raise TypeError(
            f"heaviside: {input.dtype.name} and {values.dtype.name} tensors; convert one with .to()"
        )
    return ops.heaviside(input, values)


for _function in (atan2, hypot, xlogy, copysign, heaviside):
    in_place(_function)
alias(atan2, "arctan2")
