"""Convolution on the compiled machine, without columns (convolution.h).

Three products make up all of convolution: the output from image and weight, the gradient of the image from
the weight and the gradient of the output, and that of the weight from image and gradient. With a compiler
each is one pass over the images, which also adds the bias and takes max(., 0), or undoes it. None says that
there is no such pass, for this type or on this computer: then columns and matrix products serve, see
minigrad/ops/conv.py. On a GPU cuDNN can make the three products (`by_cudnn`), where it is switched on.

Measured against im2col with OpenBLAS: benchmarks/results/convolution.md.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from kernels import host, machines
from kernels.windows import Windows


@functools.lru_cache(maxsize=1024)
def _shape(images: int, groups: int, channels: int, outputs: int, win: Windows) -> np.ndarray:
    """What convolution.h calls a shape: images, groups, channels of a group, then the geometry."""
    pairs = [n for pair in win for n in pair]
    return np.array([images, groups, channels // groups, outputs // groups, *pairs], np.int64)


def _library(*arrays: np.ndarray) -> Any:
    """convolution.h, if it can work on these."""
    usable = all(type(a) is np.ndarray and a.size for a in arrays)
    return host.library("convolution", arrays[0].dtype) if usable else None


def _address(a: np.ndarray | None) -> int | None:
    return None if a is None else a.ctypes.data


def _run(function: Any, *args: Any) -> None:
    if function(*args, machines.get_num_threads()):
        raise MemoryError("convolution: no memory for the planes of an image")


def forward(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, relu: bool, win: Windows, groups: int
) -> np.ndarray | None:
    """(N, C, H, W), (O, C / groups, kh, kw), (O) -> (N, O, OH, OW), with max(., 0) if relu."""
    library = _library(x, w)
    if library is None:
        return None
    x, w = np.ascontiguousarray(x), np.ascontiguousarray(w)
    bias = None if bias is None else np.ascontiguousarray(bias)
    y = np.empty((x.shape[0], w.shape[0], *win.out), x.dtype)
    shape = _shape(x.shape[0], groups, x.shape[1], w.shape[0], win)
    _run(library.forward, *map(_address, (x, w, bias, y, shape)), relu)
    return y


def backward(
    g: np.ndarray,
    y: np.ndarray | None,
    x: np.ndarray | None,
    w: np.ndarray | None,
    gx: np.ndarray | None,
    gw: np.ndarray | None,
    gb: np.ndarray | None,
    win: Windows,
    groups: int,
) -> bool:
    """Write the gradients of image, weight and bias for the gradient g of the output; None is not wanted.

    With y, the output after max(., 0), g counts where y > 0. x is needed for gw, w for gx. False where
    nothing was done.
    """
    like = gx if gw is None else x
    library = None if like is None else _library(g, like)
    if library is None or like is None:
        return False
    contiguous = [None if a is None else np.ascontiguousarray(a) for a in (x, w, g, y)]
    shape = _shape(g.shape[0], groups, like.shape[1], g.shape[1], win)
    _run(library.backward, *map(_address, (*contiguous, gx, gw, gb, shape)))
    return True


class Cudnn:
    """What minigrad.backends.cudnn sets: whether cuDNN convolves on a GPU, and may do so in TF32."""

    enabled = False
    allow_tf32 = True


def by_cudnn(direction: str, x: Any, w: Any, y: Any, win: Windows, groups: int) -> Any:
    """One of x, w and y of the other two, as kernels/cuda/dnn.py has it; None where columns are to do it."""
    if not Cudnn.enabled or type(x if w is None else w) is np.ndarray:
        return None
    from kernels.cuda import dnn

    return dnn.product(direction, x, w, y, win, groups, Cudnn.allow_tf32)
