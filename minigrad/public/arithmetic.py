"""Arithmetic on Tensors and numbers, and the operators + - * / // % ** that mean it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..backend import as_dtype, bool_, float64, on_device
from ..tensor import Tensor
from ..unrolled import operator_of
from .autocast import where_listed, without
from .promote import (
    dtype_of_number,
    floating_operands,
    is_number,
    is_plain,
    operands,
    result_type,
    scalar,
    tensor_of,
)
from .register import alias, alias_of, in_place, method, public


def scaled(name: str, value: Any, factor: Any, called: str) -> Any:
    """factor value: a Tensor or scalar, times a number of the same kind."""
    if factor.__class__ is int and factor == 1:
        return value
    if not is_number(factor):
        raise TypeError(f"{name}: {called} is a number, not a {type(factor).__name__}")
    d = value.dtype if isinstance(value, Tensor) else as_dtype(value.dtype)
    if not d.is_floating_point and dtype_of_number(factor).is_floating_point:
        raise TypeError(f"{name}: {called} = {factor} for {d.name} tensors; use a whole number, or .float()")
    factor = scalar(factor, d)
    return ops.mul(value, factor) if isinstance(value, Tensor) else value * factor


def _subtractable(name: str, *values: Any) -> None:
    for value in values:
        if isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype is bool_):
            raise TypeError(
                f"{name}: bools have no difference; use ^ or logical_not(), or convert with .int()"
            )


# ------------------------------------------------------------------------------------------------------ + - *


@public
@method
def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input + alpha other, with broadcasting."""
    a, b = operands("add", input, other)
    return ops.add(a, scaled("add", b, alpha, "alpha"))


@public
@method
def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input - alpha other, with broadcasting."""
    _subtractable("sub", input, other)
    a, b = operands("sub", input, other)
    return ops.sub(a, scaled("sub", b, alpha, "alpha"))


@public
def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """other - alpha input, with broadcasting."""
    return sub(other, input, alpha=alpha)


@public
@method
def mul(input: Any, other: Any) -> Tensor:
    """input other, elementwise with broadcasting."""
    return ops.mul(*operands("mul", input, other))


@public
@method
def neg(input: Tensor) -> Tensor:
    """-input"""
    _subtractable("neg", tensor_of("neg", input))
    return ops.neg(input)


@public
@method
def positive(input: Tensor) -> Tensor:
    """+input: the tensor itself."""
    _subtractable("positive", tensor_of("positive", input))
    return input


@public
@method
def addcmul(input: Tensor, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Tensor:
    """input + value tensor1 tensor2, with broadcasting."""
    a, b, c = operands("addcmul", input, tensor1, tensor2)
    product = ops.mul(b, c)
    return ops.add(a, scaled("addcmul", product, value, "value"))


@public
@method
def addcdiv(input: Tensor, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Tensor:
    """input + value tensor1 / tensor2, with broadcasting."""
    a, b, c = operands("addcdiv", input, tensor1, tensor2)
    _floating_only("addcdiv", a, b)
    quotient = ops.div(b, c)
    return ops.add(a, scaled("addcdiv", quotient, value, "value"))


@public
@method
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """input + weight (end - input): the point at `weight` on the way from input to end."""
    _floating_only("lerp", input, end)
    a, b, w = operands("lerp", input, end, weight)
    return ops.lerp(a, b, w)


def _floating_only(name: str, *values: Any) -> None:
    for value in values:
        if isinstance(value, Tensor) and not value.dtype.is_floating_point:
            raise TypeError(f"{name}: {value.dtype.name} tensors; convert them with .float()")


# ------------------------------------------------------------------------------------------- division, powers


@public
@method
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, with broadcasting; of integers in the default floating dtype.

    rounding_mode "trunc" rounds toward 0 and "floor" down, both in the operands' own dtype.
    """
    if rounding_mode is None:
        return ops.div(*floating_operands("div", input, other))
    if rounding_mode not in ("trunc", "floor"):
        raise ValueError(f"div: rounding_mode is None, 'trunc' or 'floor', not {rounding_mode!r}")
    operation = ops.div_floor if rounding_mode == "floor" else ops.div_trunc
    return operation(*_divisible("div", input, other))


@public
@method
def floor_divide(input: Any, other: Any) -> Tensor:
    """floor(input / other), with broadcasting."""
    return ops.div_floor(*_divisible("floor_divide", input, other))


@public
@method
def remainder(input: Any, other: Any) -> Tensor:
    """input - other floor(input / other), as Python's %: has the sign of other."""
    return ops.remainder(*_divisible("remainder", input, other))


@public
@method
def fmod(input: Any, other: Any) -> Tensor:
    """input - other trunc(input / other), as C's fmod: has the sign of input."""
    return ops.fmod(*_divisible("fmod", input, other))


def _divisible(name: str, input: Any, other: Any) -> list[Any]:
    """Operands of a division with a remainder. On a GPU, integers divided by 0 give whatever CUDA gives."""
    a, b = operands(name, input, other)
    d = result_type(input, other)
    if d is bool_:
        raise TypeError(f"{name}: bools are not divided; convert them with .int()")
    array = b.array if isinstance(b, Tensor) else b
    if not d.is_floating_point and not on_device(array) and not np.all(array):
        raise ZeroDivisionError(f"{name}: {d.name} division by zero")
    return [a, b]


@public
@method
def pow(input: Any, exponent: Any) -> Tensor:
    """input^exponent, with broadcasting."""
    a, b = operands("pow", input, exponent)
    d = result_type(input, exponent)
    if d is bool_ and not isinstance(b, Tensor):
        return ops.bitwise_or(a, ~b)  # 0^0 = 1
    if d is bool_:
        raise TypeError("pow: bools to the power of bools; convert them with .int()")
    if not d.is_floating_point and not isinstance(b, Tensor) and b < 0:
        raise ValueError(f"pow: {d.name} tensor to the power {exponent}, which is no integer; use .float()")
    return ops.power(a, b)


@public
@method
def float_power(input: Any, exponent: Any) -> Tensor:
    """input^exponent in float64."""
    return ops.power(*operands("float_power", input, exponent, to=float64))


for function in (
    add,
    sub,
    mul,
    neg,
    addcmul,
    addcdiv,
    lerp,
    div,
    floor_divide,
    remainder,
    fmod,
    pow,
    float_power,
):
    in_place(function)
alias(sub, "subtract")
alias(mul, "multiply")
alias(neg, "negative")
alias(div, "divide", "true_divide")


# -------------------------------------------------------------------------------------------------- operators


def operator(name: str, fast: Callable, general: Callable, symbol: str) -> None:
    """Attach __name__, __rname__ and __iname__.

    Two tensors of one dtype go straight to the operation `fast`, and so does a floating tensor with a number.
    Where `fast` is an operation and not a choice between two, the operator is that operation's own text.
    """

    plain = without(general)

    def forward(self: Tensor, other: Any) -> Tensor:
        kind = self.array.dtype
        if isinstance(other, Tensor):
            if other.array.dtype is kind and type(other.array) is type(self.array):
                return fast(self, other)
        elif kind.kind == "f" and is_plain(other):
            return fast(self, kind.type(other))
        return general(self, other)

    def reflected(self: Tensor, other: Any) -> Tensor:
        kind = self.array.dtype
        if kind.kind == "f" and is_plain(other):
            return fast(kind.type(other), self)
        return general(other, self)

    def changing(self: Tensor, other: Any) -> Tensor:
        return self.changed(plain(alias_of(self), other), f"{symbol}=")

    straight = operator_of(fast, f"__{name}__", forward) if hasattr(fast, "op") else forward
    for method_name, function in (("", straight), ("r", reflected), ("i", changing)):
        function.__name__ = f"__{method_name}{name}__"
        setattr(Tensor, function.__name__, where_listed(function))


def _is_float(a: Any, b: Any) -> bool:
    return (a if isinstance(a, Tensor) else b).array.dtype.kind == "f"


def _quotient(a: Any, b: Any) -> Tensor:
    return ops.div(a, b) if _is_float(a, b) else div(a, b)


def _power(a: Any, b: Any) -> Tensor:
    return ops.power(a, b) if _is_float(a, b) else pow(a, b)


operator("add", ops.add, add, "+")
operator("sub", ops.sub, sub, "-")
operator("mul", ops.mul, mul, "*")
operator("truediv", _quotient, div, "/")
operator("floordiv", floor_divide, floor_divide, "//")
operator("mod", remainder, remainder, "%")
operator("pow", _power, pow, "**")
for _name, _function in {"__neg__": neg, "__pos__": positive}.items():
    setattr(Tensor, _name, _function)
