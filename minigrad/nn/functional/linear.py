"""Affine maps."""

from __future__ import annotations

from ... import ops
from ...tensor import Tensor

ACTIVATIONS = (None, "relu")


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, activation: str | None = None
) -> Tensor:
    """activation(input @ weight.T + bias): (..., in), (out, in), (out,) -> (..., out).

    activation="relu" is part of the same operation: with a bias, it and max(., 0) are one launch on the product.
    """
    x, w = input.array, weight.array
    if (
        w.ndim != 2
        or not x.ndim
        or x.shape[-1] != w.shape[1]
        or (bias is not None and bias.array.shape != w.shape[:1])
    ):
        raise ValueError(
            f"linear: input {list(x.shape)}, weight {list(w.shape)}, "
            f"bias {None if bias is None else list(bias.array.shape)}; they are (..., in), (out, in) and (out,)"
        )
    if x.dtype != w.dtype or (bias is not None and bias.array.dtype != w.dtype):
        kinds = ", ".join(t.dtype.name for t in (input, weight, bias) if t is not None)
        raise TypeError(f"linear: mixed dtypes {kinds}; cast with .to(dtype), or use autocast")
    if activation not in ACTIVATIONS:
        raise ValueError(f"linear: activation {activation!r}; use one of {', '.join(map(repr, ACTIVATIONS))}")
    if bias is None:
        y = ops.linear_product(input, weight)
        return y if activation is None else ops.relu(y)
    return (ops.linear if activation is None else ops.linear_relu)(input, weight, bias)
