"""Padding as modules: nn.functional.pad in one mode, with the widths kept."""

from __future__ import annotations

from typing import Any, ClassVar

from ..tensor import Tensor
from . import functional as F
from .functional.windows import numbers
from .module import Module


class _Pad(Module):
    """`padding` is a number, or (left, right), (left, right, top, bottom), (..., front, back)."""

    dims: ClassVar[int]
    mode: ClassVar[str]

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = numbers(type(self).__name__, "padding", padding, 2 * self.dims, -(2**31))

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return str(self.padding)


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """`value` before and after the last dim"""

    dims = 1


class ConstantPad2d(_ConstantPad):
    """`value` round the last two dims"""

    dims = 2


class ConstantPad3d(_ConstantPad):
    """`value` round the last three dims"""

    dims = 3


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return str(self.padding)


class ZeroPad1d(_ZeroPad):
    """0 before and after the last dim"""

    dims = 1


class ZeroPad2d(_ZeroPad):
    """0 round the last two dims"""

    dims = 2


class ZeroPad3d(_ZeroPad):
    """0 round the last three dims"""

    dims = 3


class ReflectionPad1d(_Pad):
    """The neighbours of the edge in reverse order, before and after the last dim"""

    dims, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The neighbours of the edges in reverse order, round the last two dims"""

    dims, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """The neighbours of the edges in reverse order, round the last three dims"""

    dims, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The edge again, before and after the last dim"""

    dims, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The edges again, round the last two dims"""

    dims, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The edges again, round the last three dims"""

    dims, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """What stands at the other end, before and after the last dim"""

    dims, mode = 1, "circular"


class CircularPad2d(_Pad):
    """What stands at the other ends, round the last two dims"""

    dims, mode = 2, "circular"


class CircularPad3d(_Pad):
    """What stands at the other ends, round the last three dims"""

    dims, mode = 3, "circular"
