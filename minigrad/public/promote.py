"""Type promotion, as `torch.result_type` has it, and Python scalars.

A Python number is weak: it takes the tensor's dtype unless its category (bool < integer < float) is higher;
then an integer tensor meets a float as the default dtype. A 0-d tensor is weak beside tensors of higher rank
in the same way. Numbers become scalars of the array's own dtype on the host, so no Python float ever reaches
a kernel.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from ..backend import as_dtype, bool_, device_of, dtype, get_default_dtype, int64, promote
from ..tensor import Tensor


def dtype_of_number(value: Any) -> dtype:
    """The dtype that a Python number stands for."""
    if isinstance(value, (bool, np.bool_)):
        return bool_
    return int64 if isinstance(value, numbers.Integral) else get_default_dtype()


def is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.generic))


def result_type(*operands: Any) -> dtype:
    """The dtype of arithmetic on tensors and Python numbers, as torch.result_type.

    Tensors with dims come first, then 0-d tensors, then numbers: a later group only counts by a higher
    category.
    """
    found: dtype | None = None
    groups: list[list[dtype]] = [[], [], []]
    for value in operands:
        if isinstance(value, Tensor):
            groups[0 if value.array.ndim else 1].append(value.dtype)
        else:
            groups[2].append(dtype_of_number(value))
    for group in groups:
        together: dtype | None = None
        for d in group:
            together = d if together is None else promote(together, d)
        if together is None:
            continue
        if found is None:
            found = together
        elif together.priority // 10 > found.priority // 10:
            found = promote(found, together)
    assert found is not None
    return found


def check_operand(name: str, value: Any) -> None:
    """TypeError for an operand that is neither a Tensor nor a number, with the cure."""
    if isinstance(value, Tensor) or is_number(value):
        return
    if isinstance(value, complex):
        raise TypeError(f"{name}: complex numbers are not supported; use real tensors")
    kind = type(value).__name__
    raise TypeError(
        f"{name}: {kind} operand; make it a Tensor with minigrad.tensor(...) or minigrad.from_numpy(...)"
    )


def scalar(value: Any, d: dtype) -> np.generic:
    """A number as a host scalar of a dtype."""
    return d.numpy.type(value)


def operands(name: str, *values: Any, to: Any = None) -> list[Any]:
    """The operands in one dtype (`to`, or their result_type): Tensors cast where needed, numbers as host
    scalars.

    At least one must be a Tensor; tensors must share a device, but a 0-d CPU tensor may join tensors of a
    GPU.
    """
    for value in values:
        check_operand(name, value)
    d = result_type(*values) if to is None else as_dtype(to)
    return [value.to(d) if isinstance(value, Tensor) else scalar(value, d) for value in values]


def same_device(name: str, *tensors: Tensor) -> None:
    """TypeError when tensors live on different devices."""
    places = sorted({str(device_of(t.array)) for t in tensors})
    if len(places) > 1:
        raise TypeError(
            f"{name}: tensors on different devices {' and '.join(places)}; move them with .to(device)"
        )
