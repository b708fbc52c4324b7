"""Activation functions: x -> f(x), elementwise but for the softmax family and glu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import ops
from ...ops import activations
from ...public import distribution
from ...public.autocast import listed
from ...public.dims import one_dim
from ...public.register import alias_of
from ...tensor import Tensor

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # [Klambauer et al. 2017, eq. 14]
INFINITY = float("inf")


def floating(name: str, input: Any) -> Tensor:
    """The input, which must be a floating Tensor; TypeError says so."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}: {type(input).__name__} is no Tensor; make it one with minigrad.tensor(...)")
    if input.array.dtype.kind in "biu":
        raise TypeError(f"{name}: {input.dtype.name} input; it takes floating tensors, cast with .float()")
    return input


def _pointwise(
    name: str, operation: Callable, input: Tensor, scalars: tuple = (), inplace: bool = False
) -> Tensor:
    x = floating(name, input)
    if inplace:
        return x.changed(operation(alias_of(x), scalars), f"{name}(inplace=True)")
    return operation(x, scalars)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)"""
    if not isinstance(input, Tensor) or input.array.dtype == bool:
        floating("relu", input)  # says what is wrong
    if inplace:
        return input.changed(ops.relu(alias_of(input)), "relu(inplace=True)")
    return ops.relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x for x > 0, else negative_slope x"""
    return _pointwise("leaky_relu", activations.leaky_relu, input, (float(negative_slope),), inplace)


@listed
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x for x > 0, else weight x: one weight, or one for each channel (dim 1)."""
    x, w = floating("prelu", input), floating("prelu", weight)
    if x.array.dtype != w.array.dtype:
        kinds = f"input {x.dtype.name}, weight {w.dtype.name}"
        raise TypeError(f"prelu: mixed dtypes: {kinds}; cast one with .to(dtype), or use autocast")
    if w.array.size != 1:
        if w.array.ndim != 1 or x.array.ndim < 2 or x.array.shape[1] != w.array.size:
            raise ValueError(
                f"prelu: weight {list(w.shape)} for an input {list(x.shape)}; "
                "it has one element, or as many as the input has channels in dim 1"
            )
        w = w.reshape(-1, *[1] * (x.array.ndim - 2))
    elif w.array.ndim > x.array.ndim:
        w = w.reshape(())
    return ops.select(x.array > 0, x, w * x)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x for x > 0, else alpha (e^x - 1)"""
    return _pointwise("elu", activations.elu, input, (float(alpha), 1.0, 1.0), inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale elu(x, alpha), with the constants that keep mean 0 and variance 1 from layer to layer"""
    return _pointwise("selu", activations.elu, input, (SELU_ALPHA, SELU_SCALE, 1.0), inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x for x > 0, else alpha (e^(x / alpha) - 1)"""
    if not alpha:
        raise ValueError("celu: alpha is 0; it must not be")
    return _pointwise("celu", activations.elu, input, (float(alpha), 1.0, 1.0 / alpha), inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x P(N(0, 1) <= x); approximate="tanh" for the approximation by tanh"""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate={approximate!r}; use 'none' or 'tanh'")
    return _pointwise("gelu", activations.gelu if approximate == "none" else activations.gelu_tanh, input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x)"""
    return _pointwise("silu", activations.silu, input, (), inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x))"""
    return _pointwise("mish", activations.mish, input, (), inplace)


@listed
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta x)) / beta, and x itself where beta x > threshold"""
    return _pointwise("softplus", activations.softplus, input, (float(beta), float(threshold)))


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x))"""
    return _pointwise("logsigmoid", activations.log_sigmoid, input)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)"""
    return _pointwise("softsign", activations.softsign, input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """min(max(x, min_val), max_val); no gradient on the bounds"""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} is above max_val {max_val}")
    scalars = (1.0, 0.0, float(min_val), float(max_val))
    return _pointwise("hardtanh", activations.clipped_line, input, scalars, inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)"""
    return _pointwise("relu6", activations.clipped_line, input, (1.0, 0.0, 0.0, 6.0), inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x / 6 + 1/2, 0), 1)"""
    return _pointwise("hardsigmoid", activations.clipped_line, input, (1 / 6, 0.5, 0.0, 1.0), inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x hardsigmoid(x)"""
    return _pointwise("hardswish", activations.hardswish, input, (), inplace)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value"""
    scalars = (-INFINITY, float(threshold), float(value))
    return _pointwise("threshold", activations.outside, input, scalars, inplace)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0"""
    return _pointwise("hardshrink", activations.outside, input, (-float(lambd), float(lambd), 0.0))


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved by lambd toward 0, and 0 where |x| <= lambd"""
    if lambd < 0:
        raise ValueError(f"softshrink: lambd {lambd} is negative")
    return _pointwise("softshrink", activations.softshrink, input, (-float(lambd), float(lambd), 0.0))


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)"""
    return floating("tanhshrink", input) - ops.tanh(input)


def tanh(input: Tensor) -> Tensor:
    """tanh(x)"""
    return ops.tanh(floating("tanh", input))


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e^-x)"""
    return ops.sigmoid(floating("sigmoid", input))


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a sigmoid(b), where a and b are the halves of x along dim     [Dauphin et al. 2017]"""
    x = floating("glu", input)
    axis = one_dim("glu", dim, x.array.ndim)
    size = x.array.shape[axis] if x.array.ndim else 1
    if size % 2:
        raise ValueError(
            f"glu: dim {dim} of an input {list(x.shape)} has {size} elements, not an even number"
        )
    before = (slice(None),) * axis
    a, b = x[(*before, slice(0, size // 2))], x[(*before, slice(size // 2, None))]
    return a * ops.sigmoid(b)


@listed
def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """e^x / sum(e^x) along dim; computed in dtype if given"""
    return distribution.softmax(input, _given("softmax", dim), dtype)


@listed
def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x)"""
    return distribution.softmax(-floating("softmin", input), _given("softmin", dim), dtype)


@listed
def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """x - log(sum(e^x)) along dim; computed in dtype if given"""
    return distribution.log_softmax(input, _given("log_softmax", dim), dtype)


def _given(name: str, dim: int | None) -> int:
    if dim is None:
        raise TypeError(f"{name}: say along which dim; for class scores (N, C) it is dim=1")
    return dim
