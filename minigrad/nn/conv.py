"""Convolution layers. Weights, their names and their first values are PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from ..tensor import Parameter, Tensor
from . import functional as F
from . import init
from .functional.windows import Sizes, numbers, reach
from .linear import check_sizes, empty_parameter
from .module import Module

PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


class _Convolution(Module):
    """What all convolutions share: the arguments, the parameters and what they begin with."""

    dims: ClassVar[int]
    transposed: ClassVar[bool] = False
    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes,
        padding: Sizes | str,
        output_padding: Sizes,
        dilation: Sizes,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        name, dims = type(self).__name__, self.dims
        check_sizes(name, in_channels=in_channels, out_channels=out_channels)
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: groups={groups} must be positive and divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        if padding_mode not in PADDING_MODES or (self.transposed and padding_mode != "zeros"):
            known = "'zeros'" if self.transposed else ", ".join(map(repr, PADDING_MODES))
            raise ValueError(f"{name}: padding_mode={padding_mode!r}; use {known}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = numbers(name, "kernel_size", kernel_size, dims, 1)
        self.stride = numbers(name, "stride", stride, dims, 1)
        self.dilation = numbers(name, "dilation", dilation, dims, 1)
        self.output_padding = numbers(name, "output_padding", output_padding, dims, 0)
        self.padding_mode = padding_mode
        if isinstance(padding, str) and not self.transposed:
            if padding not in ("same", "valid"):
                raise ValueError(f"{name}: padding={padding!r}; it is a number, a tuple, 'same' or 'valid'")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError(f"{name}: padding='same' with stride={stride}; it goes with stride 1 only")
            self.padding: Any = padding
        else:
            self.padding = numbers(name, "padding", padding, dims, 0)
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = empty_parameter((first, second // groups, *self.kernel_size), device, dtype)
        self.register_parameter("bias", empty_parameter((out_channels,), device, dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew: both from U(-b, b), b = 1 / sqrt(fan_in)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        fan_in = math.prod(self.weight.shape[1:])
        if self.bias is not None and fan_in:
            init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def extra_repr(self) -> str:
        said = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        zeros, ones = (0,) * self.dims, (1,) * self.dims
        defaults = dict(padding=zeros, dilation=ones, output_padding=zeros, groups=1)
        said += "".join([f", {n}={getattr(self, n)}" for n, d in defaults.items() if getattr(self, n) != d])
        said += "" if self.bias is not None else ", bias=False"
        return said + (f", padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else "")


class _Direct(_Convolution):
    """conv1d and conv2d with parameters."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            0,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def frame(self) -> list[int]:
        """The padding as F.pad takes it: last dim first."""
        if self.padding == "valid":
            return [0] * 2 * self.dims
        if self.padding == "same":
            pairs = [((n - 1) // 2, n // 2) for n in reach(self.kernel_size, self.dilation)]
        else:
            pairs = [(p, p) for p in self.padding]
        return [n for pair in reversed(pairs) for n in pair]

    def forward(self, input: Tensor) -> Tensor:
        function = F.conv1d if self.dims == 1 else F.conv2d
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self.frame(), PADDING_MODES[self.padding_mode]), 0
        return function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(_Direct):
    """nn.functional.conv1d with a weight (out, in / groups, k) and a bias (out): (N, in, L) -> (N, out, L')

    padding_mode says what the padding is made of: zeros, or reflect, replicate, circular as in F.pad.
    """

    dims = 1


class Conv2d(_Direct):
    """nn.functional.conv2d with a weight (out, in / groups, kh, kw) and a bias (out):
    (N, in, H, W) -> (N, out, H', W')

    padding_mode says what the padding is made of: zeros, or reflect, replicate, circular as in F.pad.
    """

    dims = 2


class _Transposed(_Convolution):
    """conv_transpose1d and conv_transpose2d with parameters."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """output_size (of the windowed dims, or of all) chooses the output padding."""
        function = F.conv_transpose1d if self.dims == 1 else F.conv_transpose2d
        extra = self.output_padding if output_size is None else self.missing(input, list(output_size))
        return function(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            extra,
            self.groups,
            self.dilation,
        )

    def missing(self, input: Tensor, output_size: list[int]) -> tuple[int, ...]:
        """The output padding that leads to a size."""
        name, wanted = type(self).__name__, output_size[-self.dims :]
        if len(output_size) not in (self.dims, input.ndim):
            raise ValueError(f"{name}: output_size={output_size}; it has {self.dims} or {input.ndim} entries")
        spans = reach(self.kernel_size, self.dilation)
        least = [
            (n - 1) * s - 2 * p + span
            for n, s, p, span in zip(input.shape[-self.dims :], self.stride, self.padding, spans, strict=True)
        ]
        extra = tuple([w - n for w, n in zip(wanted, least, strict=True)])
        if any(e < 0 or e >= s for e, s in zip(extra, self.stride, strict=True)):
            most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
            raise ValueError(f"{name}: output_size={output_size}; it lies between {least} and {most}")
        return extra


class ConvTranspose1d(_Transposed):
    """nn.functional.conv_transpose1d with a weight (in, out / groups, k) and a bias (out)"""

    dims = 1


class ConvTranspose2d(_Transposed):
    """nn.functional.conv_transpose2d with a weight (in, out / groups, kh, kw) and a bias (out)"""

    dims = 2
