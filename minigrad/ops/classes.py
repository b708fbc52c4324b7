"""Cross-entropy of scores against class numbers: two launches forward, one backward.

The first launch gives each row's loss and log sum e^x, the second adds the losses up and divides; the
backward one makes the gradient from the scores again, nothing of their size is kept. Which rows count, and
what they weigh, is counted on the device.
"""

from __future__ import annotations

import numpy as np

from kernels.layers import CROSS_ENTROPY, CROSS_ENTROPY_BACKWARD, TOTAL_LOSS

from ..autograd import op
from ..backend import xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .constants import constants
from .layers import softmax

# the flags of CROSS_ENTROPY_BACKWARD for each reduction
KINDS: dict[str, tuple[str, ...]] = {"none": (), "sum": ("shared",), "mean": ("shared", "mean")}


def class_weights(x, t, weight):
    """What each row counts for, and its class with ignored ones (negative) made 0: arrays."""
    xp = xp_of(x)
    counted = t >= 0
    t = xp.where(counted, t, t.dtype.type(0))
    return counted.astype(x.dtype) if weight is None else weight[t] * counted, t


def widened(a, x):
    """An array in the type that a text computes in for x."""
    return a.astype(np.float32) if a is not None and x.dtype.itemsize == 2 else a


def text_call(text, x, weight, smoothing, *flags):
    """The keyword arguments of a call: flags, and the scalars where they are needed."""
    flags += ("weighted",) * (weight is not None) + ("smoothing",) * bool(smoothing)
    scalars = constants(text, x, (smoothing, 1 - smoothing)) if smoothing else None
    return dict(scalars=scalars, flags=flags)


@op(aux=True)
def cross_entropy(x, t, weight, smoothing, reduction):
    """-w[t] log softmax(x)[t] over the rows of x, smoothed; rows of negative classes are ignored"""
    wide = widened(weight, x)
    if reduction != "mean":
        loss, lse = CROSS_ENTROPY(x, t, None, wide, **text_call(CROSS_ENTROPY, x, weight, smoothing))
        if reduction == "none":
            return loss.astype(x.dtype, copy=False), (lse, None)
        y = xp_of(x).empty((1,), x.dtype)
        TOTAL_LOSS(loss.reshape(1, -1), None, y)
        return y.reshape(()), (lse, None)
    call = text_call(CROSS_ENTROPY, x, weight, smoothing, "share")
    loss, lse, share = CROSS_ENTROPY(x, t, None, wide, **call)
    y = xp_of(x).empty((1,), x.dtype)
    _, total = TOTAL_LOSS(loss.reshape(1, -1), share.reshape(1, -1), y, flags=("mean",))
    return y.reshape(()), (lse, total)


def _gradient(g, x, t, weight, smoothing, reduction, aux):
    lse, total = aux
    if mode.enabled:
        return _composed(g, x, t.array, weight, smoothing, reduction, total)
    text, kind = CROSS_ENTROPY_BACKWARD, KINDS[reduction]
    scale, shared = (widened(g.array, x.array), None) if reduction == "none" else (None, g.array.reshape(1))
    call = text_call(text, x.array, weight, smoothing, *kind)
    wide = widened(weight, x.array)
    return Tensor(text(x.array, t.array, lse, scale, None, wide, shared, total, **call))


cross_entropy.vjp(x=_gradient)


def _composed(g, x, t, weight, smoothing, reduction, total):
    """The same gradient as a formula: (softmax(x) sum(q) - q) g, for the targets q with their weights."""
    xp, number = xp_of(t), x.array.dtype.type
    w, safe = class_weights(x.array, t, weight)
    q = xp.where(safe[:, None] == xp.arange(x.array.shape[1]), w[:, None], number(0))
    if smoothing:
        everywhere = number(1) if weight is None else weight
        counted = (t >= 0)[:, None]
        q = number(1 - smoothing) * q + number(smoothing / x.array.shape[1]) * everywhere * counted
    gx = softmax(x, 1) * Tensor(q.sum(axis=1, keepdims=True)) - Tensor(q)
    if reduction == "none":
        return gx * g.reshape(-1, 1)
    return gx * (g if total is None else g / Tensor(total.astype(g.array.dtype, copy=False).reshape(())))


def index_targets(t, ignore_index):
    """Class numbers in which those to be ignored are negative: as they are where ignore_index is."""
    if ignore_index < 0:
        return t
    xp = xp_of(t.array)
    return Tensor(xp.where(t.array == ignore_index, np.int64(-1), t.array))
