"""Windows that slide over images: what convolutions and pools look through.

A window stands at every output pixel. Its tap (i, j), at the output pixel (r, c), sees the pixel

    (r stride - before + i dilation,  c stride - before + j dilation)

of the image, of each channel; what lies outside the image is padding. Two maps follow, each the other's
transpose, and all the rest is made of them:

    columns   (N, C, H, W) -> (N, C, kh, kw, OH, OW)     what each tap sees
    fold      the way back: every pixel adds up what the taps that see it have

A pool sums over the taps (`total`, back by `spread`) or takes the largest (`largest`, which also tells the
tap; back by `put`). On NumPy these are loops over taps, of views with steps; the pools have twins in C++
(pool.h), and all have CUDA kernels that gather (cuda/windows.py). All machines add in one order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from kernels import host, machines

Pair = tuple[int, int]
Array = Any


class Windows(NamedTuple):
    """The geometry: all pairs are (rows, columns)."""

    size: Pair  # of the image
    kernel: Pair
    stride: Pair
    before: Pair  # padding above and to the left; what is missing below and to the right is padding too
    dilation: Pair
    out: Pair

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def seen(self) -> Pair:
        """How much of the padded image the windows reach."""
        (oh, ow), (sh, sw), (kh, kw), (dh, dw) = self.out, self.stride, self.kernel, self.dilation
        return (oh - 1) * sh + (kh - 1) * dh + 1, (ow - 1) * sw + (kw - 1) * dw + 1


def on_any_machine(function: Callable) -> Callable:
    """The function, which is written for NumPy, for arrays of a device too: the kernel of its name."""

    @functools.wraps(function)
    def call(x: Array, *args: Any) -> Any:
        if type(x) is np.ndarray or not hasattr(type(x), "__cuda_array_interface__"):
            return function(x, *args)
        if hasattr(type(x), "__minigrad_host__"):  # an array that launches for itself: the fake device's
            return x.__minigrad_host__(function.__name__, function, x, *args)
        import kernels.cuda.windows as device

        return getattr(device, function.__name__)(x, *args)

    return call


# ---------------------------------------------------------------------------------- on NumPy


@functools.lru_cache(maxsize=1024)
def inside(win: Windows) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Which part of the image the windows see, and where it lies in the padded image."""
    pairs = zip(win.size, win.before, win.seen, strict=True)
    counts = [max(min(size, seen - before), 0) for size, before, seen in pairs]
    image = tuple([slice(n) for n in counts])
    place = tuple([slice(before, before + n) for before, n in zip(win.before, counts, strict=True)])
    return image, place  # type: ignore[return-value]


def padded(x: np.ndarray, win: Windows, value: float = 0) -> np.ndarray:
    """(N, C, H, W) -> (N, C, *win.seen): what the windows see, with padding; a view where there is none."""
    image, place = inside(win)
    part = x[..., *image]
    if part.shape[-2:] == win.seen:
        return part
    y = np.full((*x.shape[:2], *win.seen), value, x.dtype)
    y[..., *place] = part
    return y


def unpadded(y: np.ndarray, win: Windows) -> np.ndarray:
    """The image of a padded one; zeros where no window looks."""
    image, place = inside(win)
    part = y[..., *place]
    if part.shape[-2:] == win.size:
        return part
    x = np.zeros((*y.shape[:2], *win.size), y.dtype)
    x[..., *image] = part
    return x


def every_tap(win: Windows) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """(i, j, the slices of the padded image that tap (i, j) sees), in order."""
    (kh, kw), (sh, sw), (dh, dw), (oh, ow) = win.kernel, win.stride, win.dilation, win.out
    for i in range(kh):
        rows = slice(i * dh, i * dh + (oh - 1) * sh + 1, sh)
        for j in range(kw):
            yield i, j, (rows, slice(j * dw, j * dw + (ow - 1) * sw + 1, sw))


@on_any_machine
def columns(x: np.ndarray, win: Windows, order: str = "NC") -> np.ndarray:
    """(N, C, H, W) -> (N, C, kh, kw, OH, OW), or (C, kh, kw, N, OH, OW) in order "CN": contiguous."""
    y = padded(x, win)
    (sh, sw), (dh, dw) = win.stride, win.dilation
    n, c, h, w = y.strides
    seen = np.lib.stride_tricks.as_strided(
        y, (*y.shape[:2], *win.kernel, *win.out), (n, c, h * dh, w * dw, h * sh, w * sw), writeable=False
    )
    return (seen if order == "NC" else seen.transpose(1, 2, 3, 0, 4, 5)).copy()


@on_any_machine
def fold(c: np.ndarray, win: Windows) -> np.ndarray:
    """(N, C, kh, kw, OH, OW), of any strides, -> (N, C, H, W): the transpose of `columns`."""
    y = np.zeros((*c.shape[:2], *win.seen), c.dtype if c.dtype.itemsize > 2 else np.float32)
    for i, j, place in every_tap(win):
        y[..., *place] += c[:, :, i, j]
    return unpadded(y, win).astype(c.dtype, copy=False)


@functools.lru_cache(maxsize=1024)
def numbers(win: Windows) -> np.ndarray:
    return np.array([n for pair in win for n in pair], np.int64)


def in_cpp(name: str, x: np.ndarray, *others: Any, win: Windows) -> bool:
    """Run a function of pool.h on arrays (and numbers) for x.shape[0] * x.shape[1] planes; False if it is not
    to be had for this type, or on this computer."""
    library = host.library("pool", x.dtype)
    if library is None:
        return False
    given = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in (x, *others)]
    passed = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in given]
    getattr(library, name)(
        *passed, numbers(win).ctypes.data, x.shape[0] * x.shape[1], machines.get_num_threads()
    )
    return True


def wide(x: np.ndarray) -> np.ndarray:
    """x in the type that sums are taken in."""
    return x if x.dtype.itemsize > 2 else x.astype(np.float32)


@on_any_machine
def total(x: np.ndarray, win: Windows) -> np.ndarray:
    """(N, C, H, W) -> (N, C, OH, OW): the sum over the taps."""
    y = np.empty((*x.shape[:2], *win.out), wide(x).dtype)
    if in_cpp("total", x, y, win=win):
        return y
    y[...], seen = 0, padded(wide(x), win)
    for _, _, place in every_tap(win):
        y += seen[..., *place]
    return y.astype(x.dtype, copy=False)


@on_any_machine
def spread(g: np.ndarray, win: Windows) -> np.ndarray:
    """(N, C, OH, OW) -> (N, C, H, W): the transpose of `total`, the sum of the windows that see a pixel."""
    y = np.empty((*g.shape[:2], *win.size), g.dtype)
    if in_cpp("spread", g, y, win=win):
        return y
    return fold(np.broadcast_to(g[:, :, None, None], (*g.shape[:2], *win.kernel, *win.out)), win)


def tap_type(win: Windows) -> str:
    return "uint8" if win.taps <= 256 else "int32"


@functools.lru_cache(maxsize=256)
def first_taps(win: Windows) -> tuple[np.ndarray, np.ndarray]:
    """For each row of windows the first row of taps inside the image, and for columns likewise.

    ValueError where a window lies in the padding: there is no largest of nothing.
    """
    found = []
    for size, kernel, stride, before, dilation, out in zip(*win, strict=True):
        at = np.arange(out)[:, None] * stride - before + np.arange(kernel) * dilation
        sees = (at >= 0) & (at < size)
        if not sees.any(axis=1).all():
            raise ValueError(
                f"a window of {kernel} taps {dilation} apart, with {before} before, sees nothing but padding "
                f"of an image of size {size}; use less padding or dilation"
            )
        found.append(sees.argmax(axis=1).astype(np.int32))
    return found[0], found[1]


@on_any_machine
def largest(x: np.ndarray, win: Windows) -> tuple[np.ndarray, np.ndarray]:
    """(N, C, H, W) -> (N, C, OH, OW) twice: the largest of each window, and the tap i kw + j that sees it.

    The first of equal ones; a nan counts as larger than all, the last one if there are several.
    """
    rows, cols = first_taps(win)
    shape, kw = (*x.shape[:2], *win.out), win.kernel[1]
    y, taps = np.empty(shape, x.dtype), np.empty(shape, tap_type(win))
    if in_cpp("largest", x, y, taps, rows, cols, taps.itemsize, win=win):
        return y, taps
    y[...], taps[...], image = -np.inf, rows[:, None] * kw + cols, padded(x, win, -np.inf)
    for i, j, place in every_tap(win):
        seen = image[..., *place]
        better = (seen > y) | (seen != seen)
        np.maximum(taps, better * taps.dtype.type(i * kw + j), out=taps)  # later taps have larger numbers
        np.maximum(y, seen, out=y)
    return y, taps


@on_any_machine
def put(g: np.ndarray, taps: np.ndarray, win: Windows) -> np.ndarray:
    """(N, C, OH, OW) -> (N, C, H, W): each window's g to the pixel that its tap sees, added up."""
    if taps.dtype != tap_type(win) or taps.shape != g.shape or g.shape[2:] != win.out:
        raise ValueError(f"put: taps {taps.dtype}{taps.shape} for {g.dtype}{g.shape} and {win}")
    y = np.empty((*g.shape[:2], *win.size), g.dtype)
    if in_cpp("put", g, taps, y, taps.itemsize, win=win):
        return y
    y = np.zeros((*g.shape[:2], *win.seen), wide(g).dtype)
    for i, j, place in reversed(list(every_tap(win))):  # so that a pixel adds its windows in their order
        y[..., *place] += np.where(taps == i * win.kernel[1] + j, g, g.dtype.type(0))
    return unpadded(y, win).astype(g.dtype, copy=False)
