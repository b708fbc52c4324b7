"""Channels and pixels in another order: pixel_shuffle, its reverse, channel_shuffle."""

from __future__ import annotations

from ...public.arguments import of_tensors
from ...tensor import Tensor


def _images(name: str, input: Tensor, factor: int, what: str) -> tuple[tuple[int, ...], int, int, int]:
    """(the leading dims, C, H, W) of an input (..., C, H, W)."""
    shape = input.array.shape
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise ValueError(f"{name}: {what}={factor!r}; it is a positive whole number")
    if len(shape) < 3:
        raise ValueError(f"{name}: input {list(shape)}; it is (..., C, H, W)")
    return (shape[:-3], *shape[-3:])


@of_tensors
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C r^2, H, W) -> (..., C, H r, W r): channel c r^2 + i r + j is pixel (i, j) of each block

    [Shi et al. 2016].
    """
    lead, c, h, w = _images("pixel_shuffle", input, upscale_factor, "upscale_factor")
    r = upscale_factor
    if c % (r * r):
        raise ValueError(
            f"pixel_shuffle: input {list(input.shape)}, upscale_factor={r}; the {c} channels do not "
            f"divide by {r * r}"
        )
    k = len(lead)
    x = input.reshape(*lead, c // (r * r), r, r, h, w)
    order = (*range(k), k, k + 3, k + 1, k + 4, k + 2)  # (..., C, H, r, W, r)
    return x.permute(*order).reshape(*lead, c // (r * r), h * r, w * r)


@of_tensors
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, H r, W r) -> (..., C r^2, H, W): the reverse of pixel_shuffle"""
    lead, c, h, w = _images("pixel_unshuffle", input, downscale_factor, "downscale_factor")
    r = downscale_factor
    if h % r or w % r:
        raise ValueError(
            f"pixel_unshuffle: input {list(input.shape)}, downscale_factor={r}; height and width divide by it"
        )
    k = len(lead)
    x = input.reshape(*lead, c, h // r, r, w // r, r)
    order = (*range(k), k, k + 2, k + 4, k + 1, k + 3)  # (..., C, r, r, H, W)
    return x.permute(*order).reshape(*lead, c * r * r, h // r, w // r)


@of_tensors
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """(N, C, ...): channel g C/groups + k becomes channel k groups + g     [Zhang et al. 2018]"""
    shape = input.array.shape
    if len(shape) < 3 or isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ValueError(
            f"channel_shuffle: input {list(shape)}, groups={groups!r}; the input is (N, C, ...) with at "
            "least 3 dims, groups a positive whole number"
        )
    n, c, *window = shape
    if c % groups:
        raise ValueError(
            f"channel_shuffle: input {list(shape)}: the {c} channels do not divide by groups={groups}"
        )
    x = input.reshape(n, groups, c // groups, *window)
    return x.transpose(1, 2).reshape(shape)
