"""Pools, unfold and fold, and enlarging, as modules: their functions with the options kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..tensor import Tensor
from . import functional as F
from .functional.windows import Sizes, numbers
from .module import Module
from .wrapped import OfFunction


class _MaxPool(Module):
    """The arguments in the order of the modules: return_indices before ceil_mode."""

    dims: ClassVar[int]

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        function = F.max_pool1d if self.dims == 1 else F.max_pool2d
        return function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )

    def extra_repr(self) -> str:
        shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return ", ".join([f"{name}={getattr(self, name)}" for name in shown])


class MaxPool1d(_MaxPool):
    """nn.functional.max_pool1d"""

    dims = 1


class MaxPool2d(_MaxPool):
    """nn.functional.max_pool2d"""

    dims = 2


class _AvgPool(OfFunction):
    kernel_size: Sizes
    stride: Sizes | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.stride is None:
            self.stride = self.kernel_size

    def extra_repr(self) -> str:
        return ", ".join([f"{name}={getattr(self, name)}" for name in ("kernel_size", "stride", "padding")])


class AvgPool1d(_AvgPool):
    function = F.avg_pool1d


class AvgPool2d(_AvgPool):
    function = F.avg_pool2d


class LPPool1d(OfFunction):
    function = F.lp_pool1d

    def extra_repr(self) -> str:
        shown = ("norm_type", "kernel_size", "stride", "ceil_mode")
        return ", ".join([f"{name}={getattr(self, name)}" for name in shown])


class LPPool2d(LPPool1d):
    function = F.lp_pool2d


class _MaxUnpool(Module):
    dims: ClassVar[int]

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = numbers(name, "kernel_size", kernel_size, self.dims, 1)
        self.stride = self.kernel_size if stride is None else numbers(name, "stride", stride, self.dims, 1)
        self.padding = numbers(name, "padding", padding, self.dims, 0)

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        function = F.max_unpool1d if self.dims == 1 else F.max_unpool2d
        return function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """nn.functional.max_unpool1d"""

    dims = 1


class MaxUnpool2d(_MaxUnpool):
    """nn.functional.max_unpool2d"""

    dims = 2


class _Adaptive(OfFunction):
    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_Adaptive):
    function = F.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_Adaptive):
    function = F.adaptive_avg_pool2d


class AdaptiveMaxPool1d(_Adaptive):
    function = F.adaptive_max_pool1d


class AdaptiveMaxPool2d(_Adaptive):
    function = F.adaptive_max_pool2d


class _Windowed(OfFunction):
    def extra_repr(self) -> str:
        return ", ".join([f"{name}={getattr(self, name)}" for name in self.names])


class Unfold(_Windowed):
    function = F.unfold


class Fold(_Windowed):
    function = F.fold


class Upsample(Module):
    """nn.functional.interpolate to a size, or by a factor: (N, C, L) or (N, C, H, W)"""

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size, self.mode, self.align_corners = size, mode, align_corners
        self.scale_factor = (
            tuple(map(float, scale_factor))
            if isinstance(scale_factor, (tuple, list))
            else (float(scale_factor) if scale_factor else None)
        )
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        what = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{what}, mode={self.mode!r}"


class UpsamplingBilinear2d(Upsample):
    """Upsample with mode 'bilinear' and align_corners"""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


class UpsamplingNearest2d(Upsample):
    """Upsample with mode 'nearest'"""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor)
