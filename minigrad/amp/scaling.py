"""What a scale does: the loss times it, forward and back, and gradients divided by it."""

from __future__ import annotations

import numpy as np

from kernels.scaling import FOUND_INF, UNSCALE

from .. import ops
from ..autograd import op
from ..backend import Array, device_of, empty, to_device
from ..grad_mode import mode
from ..nn.utils.clip_grad import ROW, blocks
from ..tensor import Tensor


@op
def scaled(x, scale):
    """scale x; the gradients that come out of its backward pass are marked as scaled"""
    return x * scale


def _scaled_gradient(g: Tensor, scale: Tensor) -> Tensor:
    mode.scaled = True  # until this pass ends
    return ops.mul(g, scale)


scaled.vjp(x=_scaled_gradient)


def unscaled(params: list[Tensor], inverse: Array) -> Array:
    """Multiply all gradients by inverse = 1 / scale, in place: a launch for each contiguous piece.

    Returns found_inf (1,), 0 where all were finite, on the device of inverse; None without gradients.
    """
    groups: dict[tuple[str, bool], list[Array]] = {}
    for array, _ in blocks(params):
        groups.setdefault((str(device_of(array)), array.dtype == np.float64), []).append(array)
    flags: Array = None
    for arrays in groups.values():
        where = device_of(arrays[0])
        by = to_device(inverse, where)
        pieces = [(a, _rows(a)) for a in arrays if a.size]
        bad = empty((sum([len(rows) for _, rows in pieces]) or 1,), np.dtype("float32"), where)
        if not pieces:
            bad.fill(0)
        start = 0
        for array, rows in pieces:
            stop = start + len(rows)
            UNSCALE(rows, by, rows, bad[start:stop])
            if not array.flags.c_contiguous:  # its rows are a copy
                array[...] = rows.reshape(array.shape)
            start = stop
        found = to_device(FOUND_INF(bad.reshape(1, -1)), device_of(inverse))
        flags = found if flags is None else flags + found
    return flags


def inverse_of(scale: float) -> np.float32:
    """1 / scale, divided in double; infinity where float32 cannot hold it."""
    with np.errstate(all="ignore"):
        return np.float32(np.float64(1) / np.float64(np.float32(scale)))


def _rows(a: Array) -> Array:
    """The array as rows of an arena's chunk where that goes, else as one row; a copy where it has gaps."""
    return a.reshape(-1, ROW) if a.size % ROW == 0 else a.reshape(1, -1)
