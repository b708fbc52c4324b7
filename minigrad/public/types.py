"""Questions about dtypes: what arithmetic gives, what converts to what, how far numbers reach."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..backend import as_dtype, dtype
from ..tensor import Tensor
from . import promote
from .register import method, public


@public
def result_type(tensor1: Any, tensor2: Any) -> dtype:
    """The dtype of arithmetic on two operands, tensors or numbers."""
    for value in (tensor1, tensor2):
        promote.check_operand("result_type", value)
    return promote.result_type(tensor1, tensor2)


@public
def promote_types(type1: Any, type2: Any) -> dtype:
    """The smallest dtype that both convert to."""
    return backend.promote(as_dtype(type1), as_dtype(type2))


@public
def can_cast(from_: Any, to: Any) -> bool:
    """Whether an in-place operation may put one dtype into the other: not floats into integers, say."""
    return as_dtype(from_).priority // 10 <= as_dtype(to).priority // 10


@public
def is_tensor(obj: Any) -> bool:
    """True for a Tensor."""
    return isinstance(obj, Tensor)


@public
@method
def is_floating_point(input: Tensor) -> bool:
    """True for a tensor of a floating dtype."""
    return input.dtype.is_floating_point


@public
@method
def is_complex(input: Tensor) -> bool:
    """False: there are no complex dtypes."""
    return False


class finfo:
    """What a floating dtype holds: bits, eps, max, min, tiny (the smallest normal number), resolution."""

    def __init__(self, type: Any = None):
        d = backend.get_default_dtype() if type is None else as_dtype(type)
        if not d.is_floating_point:
            raise TypeError(f"finfo: {d.name} is not a floating type; use iinfo")
        info = limits(d)
        self.dtype, self.bits = d.name, d.itemsize * 8
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.tiny)
        self.resolution = float(info.resolution)

    def __repr__(self) -> str:
        return f"finfo(dtype={self.dtype}, eps={self.eps}, max={self.max}, min={self.min}, tiny={self.tiny})"


class iinfo:
    """What an integer dtype holds: bits, max, min."""

    def __init__(self, type: Any):
        d = as_dtype(type)
        if d.is_floating_point or d is backend.bool_:
            raise TypeError(f"iinfo: {d.name} is not an integer type")
        info = np.iinfo(d.numpy)
        self.dtype, self.bits, self.max, self.min = d.name, d.itemsize * 8, int(info.max), int(info.min)

    def __repr__(self) -> str:
        return f"iinfo(dtype={self.dtype}, max={self.max}, min={self.min})"


def limits(d: dtype) -> Any:
    """NumPy's finfo of a floating dtype, or what ml_dtypes has in its place."""
    if d is not backend.bfloat16:
        return np.finfo(d.numpy)
    import ml_dtypes  # as in backend: for bfloat16 only

    return ml_dtypes.finfo(d.numpy)


public(finfo)
public(iinfo)
