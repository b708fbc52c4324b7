"""Cross-entropy from class numbers, fused."""

from __future__ import annotations

from ..autograd import op
from ..backend import xp_of
from ..tensor import Tensor


def class_weights(x, t, weight, ignore_index):
    """What each row counts for, and its class with ignored ones made 0: arrays, for rows x and classes t."""
    xp = xp_of(x)
    counted = t != ignore_index
    t = xp.where(counted, t, t.dtype.type(0))
    return counted.astype(x.dtype) if weight is None else weight[t] * counted, t


@op(aux=True)
def cross_entropy(x, t, weight, ignore_index, smoothing, reduction):
    """-w[t] log softmax(x)[t] over the rows of x"""
    xp = xp_of(x)
    number = x.dtype.type
    w, safe = class_weights(x, t, weight, ignore_index)
    m = x.max(axis=1, keepdims=True)
    lse = m + xp.log(xp.exp(x - m).sum(axis=1, keepdims=True))
    hit = safe[:, None] == xp.arange(x.shape[1])
    spread = xp.ones(x.shape[1], x.dtype) if weight is None else weight
    counted = (t != ignore_index)[:, None]
    b = (number(1 - smoothing) * w[:, None] * hit + number(smoothing / x.shape[1]) * spread) * counted
    loss = (b * (lse - x)).sum(axis=1)
    a = b.sum(axis=1, keepdims=True)
    scale = number(1) / w.sum() if reduction == "mean" else number(1)
    if reduction == "none":
        return loss, (a, b, scale)
    return loss.sum() * scale, (a, b, scale)


def _gradient(g, x, aux, reduction):
    from .layers import softmax

    a, b, scale = aux
    p = softmax(x, 1)
    gx = p * Tensor(a) - Tensor(b)
    if reduction == "none":
        return gx * g.reshape(-1, 1)
    return gx * (g * Tensor(scale))


cross_entropy.vjp(x=_gradient)
