"""Functions of one tensor, elementwise: exp, sqrt, sin, floor, sigmoid, ... and their in-place forms."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..backend import get_default_dtype
from ..tensor import Tensor
from .conversion import cast
from .register import EXPORTS, alias, in_place


def tensor_of(name: str, value: Any) -> Tensor:
    """The argument itself, which must be a Tensor."""
    if isinstance(value, Tensor):
        return value
    raise TypeError(f"{name}: {type(value).__name__} argument; make it a Tensor with minigrad.tensor(...)")


def floating(name: str, value: Any) -> Tensor:
    """The argument as a floating tensor: integers and bools become the default dtype."""
    x = tensor_of(name, value)
    return x if x.array.dtype.kind not in "biu" else cast(x, get_default_dtype())


def _expose(operation: Any, *, floats: bool) -> Any:
    """An operation of one argument as `minigrad.name`, `Tensor.name` and `Tensor.name_`.

    floats      integers and bools become the default floating dtype; else integers are their own result
    """
    name = operation.op.name

    def function(input: Tensor) -> Tensor:
        return operation(floating(name, input))

    def integers_too(input: Tensor) -> Tensor:
        return operation(tensor_of(name, input))

    chosen = function if floats else integers_too
    chosen.__name__, chosen.__doc__ = name, operation.__doc__
    EXPORTS[name] = chosen
    setattr(Tensor, name, chosen)
    in_place(chosen)
    return chosen


for (
    _name
) in """exp exp2 expm1 log log2 log10 log1p sigmoid sqrt rsqrt reciprocal sin cos tan asin acos atan sinh cosh
        tanh asinh acosh atanh""".split():
    _expose(getattr(ops, _name), floats=True)
for _name in "relu square abs sign floor ceil trunc frac".split():
    _expose(getattr(ops, _name), floats=False)
for _name in "asin acos atan asinh acosh atanh".split():
    alias(EXPORTS[_name], f"arc{_name[1:]}")
