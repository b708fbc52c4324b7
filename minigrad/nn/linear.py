"""Affine and bilinear maps, and the identity."""

from __future__ import annotations

import math
from typing import Any

from .. import backend
from ..tensor import Parameter, Tensor
from . import functional as F
from . import init
from .module import Module


def check_sizes(name: str, **sizes: Any) -> None:
    """TypeError or ValueError, naming the layer, for a size that is no whole number or is negative."""
    for word, n in sizes.items():
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(f"{name}: {word}={n!r}; it is a whole number")
        if n < 0:
            raise ValueError(f"{name}: {word}={n}; it must not be negative")


def empty_parameter(shape: tuple[int, ...], device: Any, dtype: Any) -> Parameter:
    """A parameter without values yet, of the default dtype unless another is given."""
    d = backend.get_default_dtype() if dtype is None else backend.as_dtype(dtype)
    return Parameter(Tensor(backend.empty(shape, d.numpy, backend.resolve_device(device))))


class Linear(Module):
    """y = x W^T + b: (..., in) -> (..., out), for W (out, in) and b (out).

    Both begin as U(-1/sqrt(in), 1/sqrt(in)).
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = empty_parameter((out_features, in_features), device, dtype)
        self.register_parameter("bias", empty_parameter((out_features,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # the bound is 1/sqrt(in)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Bilinear(Module):
    """y_o = x1 W_o x2 + b_o: (..., in1), (..., in2) -> (..., out); both begin as U(-1/sqrt(in1),
    1/sqrt(in1))."""

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_sizes(
            "Bilinear", in1_features=in1_features, in2_features=in2_features, out_features=out_features
        )
        if in1_features == 0:
            raise ValueError(f"Bilinear: in1_features={in1_features}; it must be positive")
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = empty_parameter((out_features, in1_features, in2_features), device, dtype)
        self.register_parameter("bias", empty_parameter((out_features,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


class Identity(Module):
    """y = x; the constructor takes any arguments and ignores them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input
