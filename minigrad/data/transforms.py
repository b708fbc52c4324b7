"""Transforms of images, a whole batch at a time: shift, mirror, scale. More data from the same data.

A transform takes (images, host), a batch (B, H, W) or (B, C, H, W) and a host generator from which it draws
for every image, and gives a new batch. The loader makes the generator of the epoch's seed and the number of
the batch, so a seed fixes what every image becomes, also after a resume and with a thread that works ahead.

    DataLoader(train, 128, shuffle=True, transform=Compose([
        RandomCrop(32, padding=4), RandomHorizontalFlip(), Normalize(mean, std)]))

Cheap ones come first: images stay uint8, a quarter of the bytes, until Normalize makes them float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import random

PADDING_MODES = ("constant", "edge", "reflect", "symmetric")


class Compose:
    """One transform after the other, from the same generator."""

    def __init__(self, transforms: Sequence[Callable[..., np.ndarray]]):
        self.transforms = list(transforms)

    def __call__(self, images: np.ndarray, host: Any = None) -> np.ndarray:
        host = numpy_generator(host)
        for transform in self.transforms:
            images = transform(images, host)
        return images

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"


class RandomCrop:
    """A window of `size` at a random place of every image, after `padding` pixels were put around it.

    size and padding are a number, or (height, width). padding_mode: "constant" (of value `fill`), "edge",
    "reflect" or "symmetric", as numpy.pad.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        padding: int | tuple[int, int] = 0,
        fill: float = 0,
        padding_mode: str = "constant",
    ):
        self.size, self.padding = _pair("size", size, 1), _pair("padding", padding, 0)
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f"RandomCrop: padding_mode must be one of {', '.join(PADDING_MODES)}; got {padding_mode!r}"
            )
        self.fill = fill
        self.padding_mode: Any = padding_mode

    def __call__(self, images: np.ndarray, host: Any = None) -> np.ndarray:
        images = _batch("RandomCrop", images)
        host = numpy_generator(host)
        (ph, pw), (height, width) = self.padding, self.size
        if ph or pw:
            around = [(0, 0)] * (images.ndim - 2) + [(ph, ph), (pw, pw)]
            constant: Any = {"constant_values": self.fill} if self.padding_mode == "constant" else {}
            images = np.pad(images, around, mode=self.padding_mode, **constant)
        n, free = len(images), (images.shape[-2] - height, images.shape[-1] - width)
        if min(free) < 0:
            raise ValueError(
                f"RandomCrop: a window of {height}x{width} does not fit into padded images of "
                f"{images.shape[-2]}x{images.shape[-1]}; give more padding or a smaller size"
            )
        top, left = host.integers(0, free[0] + 1, n), host.integers(0, free[1] + 1, n)
        windows = np.lib.stride_tricks.sliding_window_view(images, self.size, axis=(-2, -1))
        return windows[np.arange(n), ..., top, left, :, :]

    def __repr__(self) -> str:
        return f"RandomCrop({self.size}, padding={self.padding})"


class RandomHorizontalFlip:
    """Every image mirrored left to right with probability p."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip: p is {p!r}; it is a probability, 0 to 1")
        self.p = p

    def __call__(self, images: np.ndarray, host: Any = None) -> np.ndarray:
        images = _batch("RandomHorizontalFlip", images)
        chosen = numpy_generator(host).random(len(images)) < self.p
        flipped = images.copy()
        flipped[chosen] = images[chosen][..., ::-1]
        return flipped

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip(p={self.p})"


class Normalize:
    """(image - mean) / std as float32, each channel with its own; uint8 is taken as 0 to 255 for 0 to 1.

    mean and std are numbers, or one a channel of (B, C, H, W).
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]):
        self.mean, self.std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        if self.mean.ndim > 1 or self.std.ndim > 1:
            raise ValueError("Normalize: mean and std are numbers or one a channel")
        if not (self.std > 0).all():
            raise ValueError(f"Normalize: std is {std!r}; it is positive")

    def __call__(self, images: np.ndarray, host: Any = None) -> np.ndarray:
        images = _batch("Normalize", images)
        channels = {v.size for v in (self.mean, self.std) if v.ndim}
        if channels and (images.ndim != 4 or channels != {images.shape[1]}):
            raise ValueError(
                f"Normalize: {' and '.join(map(str, channels))} values for images of shape {images.shape}; "
                "give one a channel of (B, C, H, W), or one number"
            )
        unit = 255.0 if images.dtype == np.uint8 else 1.0
        scale = _channels(1 / (unit * self.std))  # x / (unit std) - mean / std: one product, one sum
        shift = _channels(self.mean / self.std)
        scaled = np.multiply(images, scale, dtype=np.float32)
        return np.subtract(scaled, shift, out=scaled)

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean.tolist()}, std={self.std.tolist()})"


def numpy_generator(host: Any) -> np.random.Generator:
    """numpy.random.Generator as it is, the one behind a minigrad.Generator, or None's: manual_seed's."""
    return host if isinstance(host, np.random.Generator) else random.host(host)


def _batch(name: str, images: np.ndarray) -> np.ndarray:
    if not isinstance(images, np.ndarray) or images.ndim not in (3, 4):
        shape = getattr(images, "shape", type(images).__name__)
        raise ValueError(f"{name}: images are a NumPy array (B, H, W) or (B, C, H, W); got {shape}")
    return images


def _channels(values: np.ndarray) -> np.ndarray:
    """float32, over the channels of (B, C, H, W) if there is one for each."""
    values = values.astype(np.float32)
    return values[:, None, None] if values.ndim else values


def _pair(name: str, value: Any, least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else value
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(v, int) for v in pair):
        raise ValueError(f"RandomCrop: {name} is {value!r}; it is a whole number or (height, width)")
    if min(pair) < least:
        raise ValueError(f"RandomCrop: {name} is {value!r}; it is at least {least}")
    return pair[0], pair[1]
