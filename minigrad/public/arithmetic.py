"""Arithmetic on Tensors and numbers: + - * /, and the operators that mean them."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..backend import get_default_dtype
from ..tensor import Tensor
from ..unrolled import first_call
from .promote import operands, result_type
from .register import alias, in_place, method, public


@public
@method
def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input + alpha other, with broadcasting."""
    if alpha != 1:
        other = mul(other, alpha)
    return ops.add(*operands("add", input, other))


@public
@method
def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input - alpha other, with broadcasting."""
    if alpha != 1:
        other = mul(other, alpha)
    return ops.sub(*operands("sub", input, other))


@public
@method
def mul(input: Any, other: Any) -> Tensor:
    """input other, elementwise with broadcasting."""
    return ops.mul(*operands("mul", input, other))


@public
@method
def neg(input: Tensor) -> Tensor:
    """-input"""
    return ops.neg(input)


@public
@method
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, with broadcasting; of integers, in the default floating dtype."""
    d = result_type(input, other)
    return ops.div(*operands("div", input, other, to=d if d.is_floating_point else get_default_dtype()))


@public
@method
def pow(input: Any, exponent: Any) -> Tensor:
    """input^exponent, with broadcasting."""
    return ops.power(*operands("pow", input, exponent))


for function in (add, sub, mul, neg, div, pow):
    in_place(function)
alias(sub, "subtract")
alias(mul, "multiply")
alias(neg, "negative")


def operator(name: str, fast: Any, general: Any, *, reflected: bool = True, inplace: bool = True) -> None:
    """Attach __name__, __rname__ and __iname__: straight to the operation for two tensors of one dtype."""

    def backward(self: Tensor, other: Any) -> Tensor:
        return general(other, self)

    def changing(self: Tensor, other: Any) -> Tensor:
        return self.changed(general(self, other), f"__i{name}__")

    if hasattr(fast, "op"):  # an operation: its own text takes two tensors of one dtype
        fast = first_call(fast.op, fast.op.scope | {"general": general}, "general")
    setattr(Tensor, f"__{name}__", fast)
    if reflected:
        setattr(Tensor, f"__r{name}__", backward)
    if inplace:
        setattr(Tensor, f"__i{name}__", changing)


operator("add", ops.add, add)
operator("sub", ops.sub, sub)
operator("mul", ops.mul, mul)
operator("truediv", div, div)
operator("pow", pow, pow)
Tensor.__neg__ = neg  # type: ignore[attr-defined]
