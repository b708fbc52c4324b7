"""Activation functions as modules."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import functional as F
from . import init
from .linear import check_sizes, empty_parameter
from .module import Module
from .wrapped import Activation


class ReLU(Activation):
    function = F.relu


class ReLU6(Activation):
    function = F.relu6


class LeakyReLU(Activation):
    function = F.leaky_relu


class ELU(Activation):
    function = F.elu


class SELU(Activation):
    function = F.selu


class CELU(Activation):
    function = F.celu


class GELU(Activation):
    function = F.gelu


class SiLU(Activation):
    function = F.silu


class Mish(Activation):
    function = F.mish


class Sigmoid(Activation):
    function = F.sigmoid


class LogSigmoid(Activation):
    function = F.logsigmoid


class Tanh(Activation):
    function = F.tanh


class Tanhshrink(Activation):
    function = F.tanhshrink


class Softplus(Activation):
    function = F.softplus


class Softsign(Activation):
    function = F.softsign


class Softshrink(Activation):
    function = F.softshrink

    def extra_repr(self) -> str:
        return str(self.lambd)


class Hardshrink(Softshrink):
    function = F.hardshrink


class Hardtanh(Activation):
    function = F.hardtanh


class Hardsigmoid(Activation):
    function = F.hardsigmoid


class Hardswish(Activation):
    function = F.hardswish


class Threshold(Activation):
    function = F.threshold


class GLU(Activation):
    function = F.glu


class Softmax(Activation):
    function, without = F.softmax, ("dtype",)


class Softmin(Activation):
    function, without = F.softmin, ("dtype",)


class LogSoftmax(Activation):
    function, without = F.log_softmax, ("dtype",)


class Softmax2d(Module):
    """softmax over the channels: (N, C, H, W) or (C, H, W)"""

    def forward(self, input: Tensor) -> Tensor:
        if input.array.ndim not in (3, 4):
            raise ValueError(f"Softmax2d: input {list(input.shape)}; it is (N, C, H, W) or (C, H, W)")
        return F.softmax(input, -3)


class PReLU(Module):
    """x for x > 0, else w x, with w learned: one, or one for each channel     [He et al. 2015]"""

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        check_sizes("PReLU", num_parameters=num_parameters)
        self.num_parameters, self.init = num_parameters, init
        self.weight = empty_parameter((num_parameters,), device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the slopes to what they begin with."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
