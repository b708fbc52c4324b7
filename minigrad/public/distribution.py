"""Softmax and its logarithm: scores -> probabilities along a dim.

The operations are imported when they are first called: their texts belong to nn, and `import minigrad` alone
stays quick.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import as_dtype
from ..tensor import Tensor
from .dims import check_tensor, one_dim
from .register import method, public


def _along(name: str, operation: Callable, input: Tensor, dim: int, dtype: Any) -> Tensor:
    """The operation along a dim, in a dtype if one is given. TypeError for integers."""
    check_tensor(name, input)
    x = input if dtype is None else input.to(as_dtype(dtype))
    if x.array.dtype.kind in "biu":
        raise TypeError(
            f"{name}: {x.dtype.name} input; it takes floating tensors, cast with .float() or dtype="
        )
    axis = one_dim(name, dim, x.array.ndim)
    if not x.array.size:
        return x.clone()
    return operation(x, axis) if x.array.ndim else operation(x.reshape(1), 0).reshape(())


@public
@method
def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """e^x / Σ e^x along dim; computed in dtype if given."""
    from ..ops.layers import softmax as operation

    return _along("softmax", operation, input, dim, dtype)


@public
@method
def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """x - ln Σ e^x along dim; computed in dtype if given."""
    from ..ops.layers import log_softmax as operation

    return _along("log_softmax", operation, input, dim, dtype)
