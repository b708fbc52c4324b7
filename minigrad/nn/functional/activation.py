"""Activation functions."""

from __future__ import annotations

from typing import Any

from ... import ops
from ...tensor import Tensor


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)"""
    return ops.relu(input)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """x - log(sum(e^x)) along dim"""
    if dim is None:
        raise TypeError("log_softmax: give dim")
    return ops.log_softmax(input, dim % input.array.ndim)
