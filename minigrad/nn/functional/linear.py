"""Affine and bilinear maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ... import taps
from ...ops import fused, layers, linear_product
from ...public.autocast import listed
from ...tensor import Tensor
from . import activation as functions

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: getattr(functions, name) for name in ("relu", "gelu", "silu", "tanh", "sigmoid")},
    "gelu_tanh": partial(functions.gelu, approximate="tanh"),
}


@listed
def linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """activation(input @ weight.T + bias) + residual: (..., in), (out, in), (out), (..., out) -> (..., out).

    activation is None or one of ACTIVATIONS. "relu", "gelu" and "gelu_tanh" are fused: the bias and the
    function are one launch on the product, backward its gradient and the bias's are one. The others are a
    launch of their own. So is the residual, unless it comes with a bias and no activation: one for both. A
    float32 residual may meet a product in half precision, as under autocast; the sum is float32.
    """
    x, w = input.array, weight.array
    b = None if bias is None else bias.array
    if w.ndim != 2 or not x.ndim or x.shape[-1] != w.shape[1] or (b is not None and b.shape != w.shape[:1]):
        shapes = f"input {list(x.shape)}, weight {list(w.shape)}, bias {None if b is None else list(b.shape)}"
        raise ValueError(f"linear: {shapes}; they are (..., in), (out, in) and (out)")
    if x.dtype != w.dtype or (b is not None and b.dtype != w.dtype):
        kinds = ", ".join(t.dtype.name for t in (input, weight, bias) if t is not None)
        raise TypeError(f"linear: mixed dtypes {kinds}; cast with .to(dtype), or use autocast")
    if activation is not None and activation not in ACTIVATIONS:
        known = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"linear: activation={activation!r}; use None or one of {known}")
    if taps.wanted(weight):
        return _tapped(input, weight, bias, activation, residual)
    if residual is not None:
        return _residual(input, weight, bias, activation, residual)
    if activation is None:
        return linear_product(input, weight) if bias is None else layers.linear(input, weight, bias)
    if activation == "relu" and bias is not None:
        return layers.linear_relu(input, weight, bias)
    if activation in ("gelu", "gelu_tanh") and bias is not None:
        return fused.linear_gelu(input, weight, bias, activation == "gelu_tanh")
    return ACTIVATIONS[activation](linear(input, weight, bias))


def _tapped(
    input: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None, residual: Tensor | None
) -> Tensor:
    """The same in steps, with the product's inputs and outputs for who asked."""
    y = linear_product(input, weight) if bias is None else layers.linear(input, weight, bias)
    taps.leave(taps.Tap(weight, bias, lambda: input.array.reshape(-1, input.array.shape[-1]), y))
    y = y if activation is None else ACTIVATIONS[activation](y)
    return y if residual is None else y + residual


def _residual(
    input: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None, residual: Tensor
) -> Tensor:
    shape = (*input.array.shape[:-1], weight.array.shape[0])
    if residual.array.shape != shape:
        raise ValueError(f"linear: residual {list(residual.shape)}; it has the output's shape {list(shape)}")
    mixed = residual.array.dtype != weight.array.dtype
    if mixed and (weight.dtype.itemsize != 2 or residual.array.dtype != np.float32):
        raise TypeError(
            f"linear: residual {residual.dtype.name}, weight {weight.dtype.name}; cast with .to(dtype)"
        )
    if bias is None or activation is not None or mixed:
        return linear(input, weight, bias, activation=activation) + residual
    return fused.linear_residual(input, weight, bias, residual)


@listed
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_o = x1 W_o x2 + b_o: (..., in1), (..., in2), (out, in1, in2), (out) -> (..., out)"""
    x1, x2, w = input1.array, input2.array, weight.array
    if w.ndim != 3 or x1.shape[:-1] != x2.shape[:-1] or (x1.shape[-1:] + x2.shape[-1:]) != w.shape[1:]:
        shapes = f"input1 {list(x1.shape)}, input2 {list(x2.shape)}, weight {list(w.shape)}"
        raise ValueError(f"bilinear: {shapes}; they are (..., in1), (..., in2) and (out, in1, in2)")
    out, in1, in2 = w.shape
    if bias is not None and bias.array.shape != (out,):
        raise ValueError(f"bilinear: bias {list(bias.shape)} for {out} outputs; it is [{out}]")
    kinds = [t.dtype.name for t in (input1, input2, weight, bias) if t is not None]
    if len(set(kinds)) > 1:
        raise TypeError(f"bilinear: mixed dtypes {', '.join(kinds)}; cast with .to(dtype), or use autocast")
    lead = x1.shape[:-1]
    u = linear(input1.reshape(-1, in1), weight.permute(0, 2, 1).reshape(out * in2, in1))  # (N, out * in2)
    y = (u.reshape(-1, out, in2) * input2.reshape(-1, 1, in2)).sum(-1).reshape(*lead, out)
    return y if bias is None else y + bias
