"""Normalization as modules, with PyTorch's parameters and running statistics."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .. import backend
from ..statistics import held
from ..tensor import Tensor
from . import functional as F
from . import init
from .functional.norm import check_eps, last_shape
from .linear import check_sizes, empty_parameter
from .module import Module
from .wrapped import OfFunction


def _full(shape: tuple[int, ...], value: float, device: Any, dtype: Any) -> Tensor:
    d = backend.get_default_dtype() if dtype is None else backend.as_dtype(dtype)
    return Tensor(backend.full(shape, value, d.numpy, backend.resolve_device(device)))


class _Affine(Module):
    """A module with a weight that begins as 1 and a bias that begins as 0, where it has them."""

    decays = False  # optim.param_groups keeps a norm's parameters out of weight decay

    def _parameters_of(
        self, shape: tuple[int, ...], weight: bool, bias: bool, device: Any, dtype: Any
    ) -> None:
        self.register_parameter("weight", empty_parameter(shape, device, dtype) if weight else None)
        self.register_parameter("bias", empty_parameter(shape, device, dtype) if bias else None)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _Running(_Affine):
    """Normalization of channels, with running statistics: BatchNorm and InstanceNorm."""

    dims: ClassVar[tuple[int, ...]]  # that an input may have

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, num_features=num_features)
        check_eps(type(self).__name__, eps)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._parameters_of((num_features,), affine, affine and bias, device, dtype)
        track, shape = track_running_stats, (num_features,)
        self.register_buffer("running_mean", _full(shape, 0, device, dtype) if track else None)
        self.register_buffer("running_var", _full(shape, 1, device, dtype) if track else None)
        self.register_buffer("num_batches_tracked", _full((), 0, device, "int64") if track else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batch seen."""
        if self.track_running_stats:
            for buffer, value in (
                (self.running_mean, 0),
                (self.running_var, 1),
                (self.num_batches_tracked, 0),
            ):
                buffer.array.fill(value)
                buffer.touch()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0; the running statistics start anew."""
        self.reset_running_stats()
        super().reset_parameters()

    def _check(self, input: Tensor) -> None:
        if input.array.ndim not in self.dims:
            dims = " or ".join(map(str, self.dims))
            raise ValueError(f"{type(self).__name__}: input {list(input.shape)}; it has {dims} dims")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_Running):
    """(x - mean) / sqrt(var + eps) w + b for each channel: (N, C) or (N, C, L)     [Ioffe & Szegedy 2015]

    In training over the batch; the running statistics follow by `momentum` (None: they are the plain average
    of all batches) and serve in evaluation. Without track_running_stats it is always over the batch. Inside
    `with minigrad.statistics.hold()` they stay as they are.
    """

    dims: ClassVar[tuple[int, ...]] = (2, 3)

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        mean, var = self.running_mean, self.running_var
        if not self.training and mean is not None:
            return F.batch_norm(input, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        if mean is None or not self.training:
            return F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)
        count = self.num_batches_tracked
        if count is not None and not held():
            array = count.array
            array += np.int64(1)
            count.touch()
        momentum, batches = self.momentum, None
        if momentum is None:
            momentum, batches = 0.0, count
        return F.batch_norm(
            input, mean, var, self.weight, self.bias, True, momentum, self.eps, batches=batches
        )


class BatchNorm2d(BatchNorm1d):
    """BatchNorm1d for (N, C, H, W)"""

    dims: ClassVar[tuple[int, ...]] = (4,)


class BatchNorm3d(BatchNorm1d):
    """BatchNorm1d for (N, C, D, H, W)"""

    dims: ClassVar[tuple[int, ...]] = (5,)


class InstanceNorm1d(_Running):
    """(x - mean) / sqrt(var + eps) w + b over the window of each channel: (N, C, L) or (C, L)

    [Ulyanov, Vedaldi & Lempitsky 2016]. Neither weight and bias nor running statistics unless asked for.
    """

    dims: ClassVar[tuple[int, ...]] = (2, 3)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        track = track_running_stats
        super().__init__(num_features, eps, momentum, affine, track, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        shape = input.array.shape
        channels = shape[0 if len(shape) == self.dims[0] else 1]
        if channels != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input {list(shape)} has {channels} channels, "
                f"num_features={self.num_features}"
            )
        x = input[None] if len(shape) == self.dims[0] else input
        own = self.training or self.running_mean is None
        y = F.instance_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            own,
            self.momentum or 0.0,
            self.eps,
        )
        return y[0] if len(shape) == self.dims[0] else y


class InstanceNorm2d(InstanceNorm1d):
    """InstanceNorm1d for (N, C, H, W) or (C, H, W)"""

    dims: ClassVar[tuple[int, ...]] = (3, 4)


class InstanceNorm3d(InstanceNorm1d):
    """InstanceNorm1d for (N, C, D, H, W) or (C, D, H, W)"""

    dims: ClassVar[tuple[int, ...]] = (4, 5)


class LayerNorm(_Affine):
    """(x - mean) / sqrt(var + eps) w + b over the last dims, of sizes normalized_shape

    [Ba, Kiros & Hinton 2016]. Called with a residual as well it gives (x + residual, the norm of that), by
    one launch.
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = last_shape("LayerNorm", normalized_shape)
        check_eps("LayerNorm", eps)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        affine = elementwise_affine
        self._parameters_of(self.normalized_shape, affine, affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Any:
        of = (self.normalized_shape, self.weight, self.bias, self.eps)
        return F.layer_norm(input, *of) if residual is None else F.residual_layer_norm(input, residual, *of)

    def extra_repr(self) -> str:
        affine = f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        return f"{self.normalized_shape}, eps={self.eps}, {affine}"


class RMSNorm(Module):
    """x / sqrt(mean(x^2) + eps) w over the last dims, of sizes normalized_shape   [Zhang & Sennrich 2019]"""

    decays = False

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = last_shape("RMSNorm", normalized_shape)
        check_eps("RMSNorm", 0.0 if eps is None else eps)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        weight = empty_parameter(self.normalized_shape, device, dtype) if elementwise_affine else None
        self.register_parameter("weight", weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(_Affine):
    """(x - mean) / sqrt(var + eps) w + b over each group of channels of an example: (N, C, ...)

    [Wu & He 2018].
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_sizes("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        check_eps("GroupNorm", eps)
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: num_channels={num_channels} does not divide by num_groups={num_groups}"
            )
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self._parameters_of((num_channels,), affine, affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        affine = f"affine={self.affine}, bias={self.bias is not None}"
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, {affine}"


class LocalResponseNorm(OfFunction):
    function = F.local_response_norm

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
