"""Comparison, logic and bits: < <= == != >= > & | ^ ~ << >>, isnan, isclose, equal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..backend import bool_, float64, int64, to_host
from ..tensor import Tensor
from .promote import is_number, is_plain, operands, result_type, tensor_of
from .register import alias, in_place, method, public

# ------------------------------------------------------------------------------------------------- comparison


def _comparison(operation: Any, names: str, symbol: str, dunder: str) -> Callable:
    """eq, ne, ...: bools, by the operands' common dtype."""
    name, *others = names.split()

    def function(input: Any, other: Any) -> Tensor:
        return operation(*_comparable(name, input, other))

    def operator(self: Tensor, other: Any) -> Any:
        kind = self.array.dtype
        if isinstance(other, Tensor):
            if other.array.dtype is kind and type(other.array) is type(self.array):
                return operation(self, other)
        elif kind.kind == "f" and is_plain(other):
            return operation(self, kind.type(other))
        if symbol in ("==", "!=") and not (
            isinstance(other, (Tensor, np.ndarray, complex)) or is_number(other)
        ):
            return NotImplemented  # a tensor is not None, a list or a string: Python answers by identity
        return function(self, other)

    function.__name__, function.__doc__ = name, f"input {symbol} other, elementwise with broadcasting."
    public(method(function))
    in_place(function)
    alias(function, *others)
    setattr(Tensor, dunder, operator)
    return function


def _comparable(name: str, input: Any, other: Any) -> list[Any]:
    """Operands of one dtype, which holds both of them: 300 is larger than any uint8."""
    for a, b in ((input, other), (other, input)):
        if (
            isinstance(a, Tensor)
            and isinstance(b, int)
            and not a.dtype.is_floating_point
            and a.dtype is not bool_
        ):
            info = np.iinfo(a.dtype.numpy)
            if not info.min <= b <= info.max:
                return operands(name, input, other, to=int64 if -(2**63) <= b < 2**63 else float64)
    return operands(name, input, other)


eq = _comparison(ops.eq, "eq", "==", "__eq__")
ne = _comparison(ops.ne, "ne not_equal", "!=", "__ne__")
lt = _comparison(ops.lt, "lt less", "<", "__lt__")
le = _comparison(ops.le, "le less_equal", "<=", "__le__")
gt = _comparison(ops.gt, "gt greater", ">", "__gt__")
ge = _comparison(ops.ge, "ge greater_equal", ">=", "__ge__")


@public
@method
def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """|input - other| <= atol + rtol |other|, elementwise; infinities are close to themselves."""
    if rtol < 0 or atol < 0:
        raise ValueError(f"isclose: rtol = {rtol} and atol = {atol} are not to be negative")
    d = result_type(tensor_of("isclose", input), tensor_of("isclose", other))
    a, b = operands("isclose", input, other, to=d if d.is_floating_point else float64)
    kind = a.array.dtype.type
    return ops.close(a, b, kind(rtol), kind(atol), bool(equal_nan))


@public
@method
def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """True when isclose() is true everywhere. On a GPU this waits for the device."""
    return bool(to_host(isclose(input, other, rtol, atol, equal_nan).array.all()))


@public
@method
def equal(input: Tensor, other: Tensor) -> bool:
    """True when both have one shape and the same values. On a GPU this waits for the device."""
    a, b = operands("equal", tensor_of("equal", input), tensor_of("equal", other))
    return a.array.shape == b.array.shape and bool(to_host((a.array == b.array).all()))


def _contains(self: Tensor, element: Any) -> bool:
    """`element in tensor`: some value equals it. On a GPU this waits for the device."""
    return bool(to_host(eq(self, element).array.any()))


Tensor.__contains__ = _contains  # type: ignore[operator]


# ------------------------------------------------------------------------------------------- kinds of numbers


def _test(operation: Any, doc: str) -> None:
    name = operation.op.name

    def function(input: Tensor) -> Tensor:
        return operation(tensor_of(name, input))

    function.__name__, function.__doc__ = name, doc
    public(method(function))


_test(ops.isnan, "True where input is not a number.")
_test(ops.isinf, "True where input is inf or -inf.")
_test(ops.isfinite, "True where input is neither inf, -inf nor nan.")


@public
@method
def isposinf(input: Tensor) -> Tensor:
    """True where input is inf."""
    return eq(tensor_of("isposinf", input), math.inf)


@public
@method
def isneginf(input: Tensor) -> Tensor:
    """True where input is -inf."""
    return eq(tensor_of("isneginf", input), -math.inf)


@public
@method
def signbit(input: Tensor) -> Tensor:
    """True where input is negative, -0. included."""
    x = tensor_of("signbit", input)
    return ops.signbit(x) if x.dtype.is_floating_point else lt(x, 0)


@public
@method
def is_nonzero(input: Tensor) -> bool:
    """True when the one element of input is not 0. On a GPU this waits for the device."""
    return bool(input)


# --------------------------------------------------------------------------------------------- logic and bits


@public
@method
def logical_not(input: Tensor) -> Tensor:
    """True where input is 0."""
    return ops.logical_not(tensor_of("logical_not", input))


@public
@method
def bitwise_not(input: Tensor) -> Tensor:
    """Every bit inverted; of a bool, its opposite."""
    _bits("~", tensor_of("bitwise_not", input))
    return ops.bitwise_not(input)


def _bits(name: str, *values: Any) -> None:
    for value in values:
        if isinstance(value, float) or (isinstance(value, Tensor) and value.dtype.is_floating_point):
            kind = value.dtype.name if isinstance(value, Tensor) else "float"
            raise TypeError(f"{name}: a {kind} operand has no bits; use integers or bools")


def _logic(operation: Any) -> Callable:
    name = operation.op.name

    def function(input: Tensor, other: Tensor) -> Tensor:
        return operation(*operands(name, input, other))

    function.__name__, function.__doc__ = name, f"{operation.__doc__}, elementwise with broadcasting."
    in_place(public(method(function)))
    return function


def _bitwise(operation: Any, symbol: str, dunder: str) -> None:
    name = operation.op.name

    def function(input: Any, other: Any) -> Tensor:
        _bits(name, input, other)
        a, b = input, other
        if "shift" in name and result_type(a, b) is bool_:
            raise TypeError(f"{name}: bools are not shifted; convert them with .int()")
        return operation(*operands(name, a, b))

    def reflected(self: Tensor, other: Any) -> Tensor:
        return function(other, self)

    def changing(self: Tensor, other: Any) -> Tensor:
        return self.changed(function(self, other), f"{symbol}=")

    function.__name__, function.__doc__ = (
        name,
        f"input {symbol} other, of integers or bools, with broadcasting.",
    )
    in_place(public(method(function)))
    setattr(Tensor, f"__{dunder}__", function)
    setattr(Tensor, f"__r{dunder}__", reflected)
    setattr(Tensor, f"__i{dunder}__", changing)


for _operation in (ops.logical_and, ops.logical_or, ops.logical_xor):
    _logic(_operation)
_bitwise(ops.bitwise_and, "&", "and")
_bitwise(ops.bitwise_or, "|", "or")
_bitwise(ops.bitwise_xor, "^", "xor")
_bitwise(ops.bitwise_left_shift, "<<", "lshift")
_bitwise(ops.bitwise_right_shift, ">>", "rshift")
for _function in (logical_not, bitwise_not):
    in_place(_function)
Tensor.__invert__ = bitwise_not
