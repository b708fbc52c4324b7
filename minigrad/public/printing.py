"""How a Tensor prints: as in PyTorch, values first, then what cannot be seen from them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..backend import CPU
from ..tensor import Tensor


def _repr(self: Tensor) -> str:
    """tensor([1., 2.], dtype=minigrad.float64, requires_grad=True)"""
    array = backend.to_host(self.array)
    if self.dtype is backend.bfloat16:
        array = array.astype(np.float32)
    values = np.array2string(
        array, separator=", ", prefix="tensor(", precision=4, threshold=1000, edgeitems=3
    )
    notes = [values]
    if self.device != CPU:
        notes.append(f"device='{self.device}'")
    if array.size == 0 and array.ndim != 1:
        notes.append(f"size={tuple(self.shape)}")
    if self.dtype not in (backend.get_default_dtype(), backend.int64, backend.bool_):
        notes.append(f"dtype={self.dtype}")
    if self.node is not None:
        notes.append(f"grad_fn={self.node}")
    elif self.requires_grad:
        notes.append("requires_grad=True")
    return f"tensor({', '.join(notes)})"


def _format(self: Tensor, spec: str) -> Any:
    return format(self.item(), spec) if self.array.ndim == 0 and spec else format(str(self), spec)


Tensor.__repr__ = _repr  # type: ignore[method-assign]
Tensor.__format__ = _format  # type: ignore[method-assign, assignment]
