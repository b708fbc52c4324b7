"""Type promotion, as `torch.result_type` has it, and Python numbers.

A Python number is weak: it takes the tensor's dtype unless its category (bool < integer < float) is higher;
then an integer tensor meets a float as the default dtype. A 0-d tensor is weak beside tensors of higher rank
in the same way. Numbers become scalars of the array's own dtype on the host, so no Python float ever reaches
a kernel.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from .. import ops
from ..backend import bool_, device_of, dtype, get_default_dtype, int64, on_device, promote
from ..tensor import Tensor


def dtype_of_number(value: Any) -> dtype:
    """The dtype that a Python number stands for."""
    if isinstance(value, (bool, np.bool_)):
        return bool_
    return int64 if isinstance(value, numbers.Integral) else get_default_dtype()


def is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.generic))


def is_plain(value: Any) -> bool:
    """A float or int that every floating dtype holds: it becomes a scalar without further questions."""
    return (value.__class__ is float or value.__class__ is int) and -65504 < value < 65504


def check_operand(name: str, value: Any) -> None:
    """TypeError for an operand that is neither a Tensor nor a number, with the cure."""
    if isinstance(value, Tensor) or (is_number(value) and not isinstance(value, np.complexfloating)):
        return
    if isinstance(value, (complex, np.complexfloating)):
        raise TypeError(f"{name}: complex numbers are not supported; use real tensors")
    kind = type(value).__name__
    raise TypeError(
        f"{name}: {kind} operand; make it a Tensor with minigrad.tensor(...) or minigrad.from_numpy(...)"
    )


def result_type(*operands: Any) -> dtype:
    """The dtype of arithmetic on tensors and Python numbers, as torch.result_type.

    Tensors with dims come first, then 0-d tensors, then numbers: a later group only counts by a higher
    category.
    """
    full = point = number = None
    for value in operands:
        if not isinstance(value, Tensor):
            d = dtype_of_number(value)
            number = d if number is None else promote(number, d)
        elif value.array.ndim:
            full = value.dtype if full is None else promote(full, value.dtype)
        else:
            point = value.dtype if point is None else promote(point, value.dtype)
    found = full or point or number
    if found is None:
        raise TypeError("result_type: no operands")
    for weaker in (point, number):
        if weaker is not None and weaker.priority // 10 > found.priority // 10:
            found = promote(found, weaker)
    return found


def scalar(value: Any, d: dtype) -> np.generic:
    """A number as a host scalar of a dtype: integers wrap around, floats become inf, as in C."""
    kind = d.numpy.type
    try:
        if d.is_floating_point:
            value = float(value)
            if -65504 <= value <= 65504 or d.itemsize == 8:  # what every floating dtype holds
                return kind(value)
            with np.errstate(over="ignore"):
                return kind(value)
        return kind(value)
    except OverflowError:  # an int beyond the dtype
        if d.is_floating_point:
            return kind(np.copysign(np.inf, value))
        return np.uint64(int(value) & 0xFFFFFFFFFFFFFFFF).astype(d.numpy)


def operands(name: str, *values: Any, to: dtype | None = None) -> list[Any]:
    """The operands in one dtype (`to`, or their result_type): Tensors cast where needed, numbers as scalars.

    At least one must be a Tensor. Tensors share a device, but a 0-d CPU tensor may join tensors of a GPU.
    """
    for value in values:
        check_operand(name, value)
    d = result_type(*values) if to is None else to
    found: list[Any] = []
    places = set()
    for value in values:
        if isinstance(value, Tensor):
            found.append(cast(value, d))
            places.add(on_device(value.array))
        else:
            found.append(scalar(value, d))
    if len(places) > 1:
        where = next(device_of(v.array) for v in found if isinstance(v, Tensor) and on_device(v.array))
        found = [
            ops.move(v, where)
            if isinstance(v, Tensor) and v.array.ndim == 0 and not on_device(v.array)
            else v
            for v in found
        ]
    return found


def cast(x: Tensor, d: dtype) -> Tensor:
    """x in dtype d; x itself when it has it. Only between floating types is this differentiable."""
    if x.array.dtype == d.numpy:
        return x
    return ops.cast(x if d.is_floating_point else x.detach(), d.numpy)


def tensor_of(name: str, value: Any) -> Tensor:
    """The argument itself, which must be a Tensor."""
    if isinstance(value, Tensor):
        return value
    raise TypeError(f"{name}: {type(value).__name__} argument; make it a Tensor with minigrad.tensor(...)")


def floating(name: str, value: Any) -> Tensor:
    """The argument as a floating tensor: integers and bools become the default dtype."""
    x = tensor_of(name, value)
    return cast(x, get_default_dtype()) if x.array.dtype.kind in "biu" else x


def floating_operands(name: str, *values: Any) -> list[Any]:
    """Operands of a function whose result is floating: of integers and bools, in the default dtype."""
    for value in values:
        check_operand(name, value)
    d = result_type(*values)
    return operands(name, *values, to=d if d.is_floating_point else get_default_dtype())


def same_device(name: str, *tensors: Tensor) -> None:
    """TypeError when tensors live on different devices."""
    if {type(t.array) for t in tensors} == {np.ndarray}:
        return
    places = sorted({str(device_of(t.array)) for t in tensors})
    if len(places) > 1:
        raise TypeError(
            f"{name}: tensors on different devices {' and '.join(places)}; move them with .to(device)"
        )
