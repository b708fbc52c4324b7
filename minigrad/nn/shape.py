"""Shapes as modules: Flatten, Unflatten, shuffles of pixels and channels; and the distances of
nn.functional."""

from __future__ import annotations

from collections.abc import Sequence

from ..public.promote import tensor_of
from ..tensor import Tensor
from . import functional as F
from .module import Module
from .wrapped import OfFunction


class Flatten(Module):
    """x with the dims from start_dim to end_dim as one: (N, C, H, W) -> (N, C H W)"""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return tensor_of("Flatten", input).flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """x with one dim as several; one of the sizes may be -1"""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(dim, int) or not all(isinstance(n, int) for n in unflattened_size):
            raise TypeError(
                f"Unflatten: dim {dim!r}, sizes {unflattened_size!r}; dims have numbers here, not names"
            )
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class CosineSimilarity(OfFunction):
    function, inputs = F.cosine_similarity, 2


class PairwiseDistance(OfFunction):
    function, inputs = F.pairwise_distance, 2


class _Rearranged(OfFunction):
    def extra_repr(self) -> str:
        return ", ".join([f"{name}={getattr(self, name)}" for name in self.names])


class PixelShuffle(_Rearranged):
    function = F.pixel_shuffle


class PixelUnshuffle(_Rearranged):
    function = F.pixel_unshuffle


class ChannelShuffle(_Rearranged):
    function = F.channel_shuffle
