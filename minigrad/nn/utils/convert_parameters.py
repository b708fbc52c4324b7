"""All parameters of a model as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from ... import ops
from ...tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened, one after the other. Differentiable."""
    return ops.cat(0, *[p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """The way back: copies the pieces of a vector into the parameters."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"vector_to_parameters: {type(vec).__name__} is no Tensor")
    params = list(parameters)
    total = sum(p.array.size for p in params)
    if vec.array.shape != (total,):
        raise ValueError(
            f"vector_to_parameters: a vector {list(vec.shape)} for {total} elements of parameters"
        )
    start = 0
    for p in params:
        stop = start + p.array.size
        p.data = vec.detach()[start:stop].reshape(p.array.shape)
        start = stop
