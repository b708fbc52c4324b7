"""Dropout as modules: they drop in training mode and are the identity in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ..tensor import Tensor
from . import functional as F
from .functional.dropout import check_rate
from .module import Module


class Dropout(Module):
    """In training, elements become 0 with probability p and the others grow by 1 / (1 - p)
    [Srivastava et al. 2014]."""

    function: ClassVar[Callable] = staticmethod(F.dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        check_rate(type(self).__name__, p, inplace)
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return self.function(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """Dropout of whole channels: (N, C, L) or (C, L)"""

    function = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """Dropout of whole channels: (N, C, H, W) or (C, H, W)"""

    function = staticmethod(F.dropout2d)


class Dropout3d(Dropout):
    """Dropout of whole channels: (N, C, D, H, W) or (C, D, H, W)"""

    function = staticmethod(F.dropout3d)


class AlphaDropout(Dropout):
    """In training, elements become selu's least value with probability p; mean 0 and variance 1 stay
    [Klambauer et al. 2017]."""

    function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(Dropout):
    """AlphaDropout of whole channels: (N, C, ...)"""

    function = staticmethod(F.feature_alpha_dropout)
