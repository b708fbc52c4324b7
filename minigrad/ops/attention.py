"""Attention: each query's mean of the values, weighted by how well their keys match it.

    weights = softmax(scale q k^T + bias), masked     one product, one launch
    y = weights v                                     one product
    backward: dweights and dv, the softmax's gradient, dq and dk     four products, one launch

q, k and v are read where they are: the heads of one projection are views of it, and on the host a batched
product takes views as they are. The result's memory is (..., L, heads, E), so that joining the heads is a
view too.
"""

from __future__ import annotations

from math import prod

import numpy as np

from kernels.attention import ATTENTION_WEIGHTS, ATTENTION_WEIGHTS_BACKWARD
from kernels.cuda import blas

from ..autograd import op
from ..backend import on_device, xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .composed import gradients
from .constants import constants
from .products import matmul, product
from .shape import permute, reshape
from .sums import sum

_held: dict = {}  # arrays that depend on shapes alone, made once for each device


def _made(scores, key, make):
    """The array make() for scores' device, from an earlier call if there was one with this key."""
    key = *key, scores.device.id if on_device(scores) else None
    if key not in _held:
        if len(_held) > 200:  # shapes that change at every call
            _held.clear()
        _held[key] = xp_of(scores).asarray(make())
    return _held[key]


def row_numbers(lead, scores):
    """For each row of scores (..., L, S) the number of its row in a bias (*lead, S)."""
    full = scores.shape[:-1]
    numbers = np.arange(prod(lead)).reshape(lead)
    return _made(scores, ("rows", lead, full), lambda: np.ascontiguousarray(np.broadcast_to(numbers, full)))


def causal_bias(queries, keys, like):
    """0 where key <= query, else minus infinity: (queries, keys), of the type and on the device of `like`."""

    def make():
        return np.where(np.tri(queries, keys, dtype=bool), 0.0, -np.inf).astype(like.dtype)

    return _made(like, ("causal", queries, keys, like.dtype), make)


def _weights(x, bias, scale, out=None):
    """The weights for scores x (..., L, S), into `out`; the bias broadcasts to x."""
    if not x.size:
        return x
    scalars = constants(ATTENTION_WEIGHTS, x, (scale,))
    if bias is None:
        return ATTENTION_WEIGHTS(x, None, None, out, scalars=scalars)
    xp, shape = xp_of(bias), (*bias.shape[:-1], x.shape[-1])
    bias = xp.ascontiguousarray(bias if bias.shape == shape else xp.broadcast_to(bias, shape))
    at = row_numbers(shape[:-1], x)
    return ATTENTION_WEIGHTS(x, at, bias, out, scalars=scalars, flags=("biased",))


def _weights_gradient(g, y, scale, out=None):
    scalars = constants(ATTENTION_WEIGHTS_BACKWARD, y, (scale,))
    return ATTENTION_WEIGHTS_BACKWARD(g, y, out, scalars=scalars)


@op
def attention_weights(x, bias, scale):
    """softmax(scale x + bias) of scores x (..., L, S) over the last axis; 0 where all is minus infinity"""
    return _weights(x, bias, scale)


@attention_weights.joint_vjp
def _(g, needed, y, scale):
    if mode.enabled:
        d = y * (g - sum(g * y, (y.array.ndim - 1,), True))
        return d * scale, d, None
    if needed[1] is False:
        return Tensor(_weights_gradient(g.array, y.array, scale)), None, None
    d = Tensor(_weights_gradient(g.array, y.array, 1.0))
    return d * scale, d, None


def _joined(p, v):
    """p @ v (B, heads, L, E) in memory (B, L, heads, E), where a product can write so."""
    if p.ndim != 4 or p.shape[:2] != v.shape[:2] or (type(p) is not np.ndarray and blas.library() is None):
        return product(p, v)
    b, h, rows, _ = p.shape
    return product(p, v, xp_of(p).empty((b, rows, h, v.shape[-1]), v.dtype).transpose(0, 2, 1, 3))


@op
def mix(p, v):
    """p @ v: (B, heads, L, S), (B, heads, S, E) -> (B, heads, L, E)"""
    return _joined(p, v)


mix.vjp(p=lambda g, v: matmul(g, v.mT), v=lambda g, p: matmul(p.mT, g))


def _heads(qkv, heads):
    """q, k, v as views (B, heads, T, E) of the projection (B, T, 3 heads E)."""
    b, t, width = qkv.shape
    return qkv.reshape(b, t, 3, heads, width // (3 * heads)).transpose(2, 0, 3, 1, 4)


@op(aux=True)
def packed_attention(qkv, heads, bias, scale):
    """Attention of a sequence to itself: q, k, v side by side (B, T, 3 heads E) -> (B, T, heads E)"""
    q, k, v = _heads(qkv, heads)
    p = product(q, k.mT)
    p = _weights(p, bias, scale, p)
    y = _joined(p, v).transpose(0, 2, 1, 3)
    return y.reshape(*qkv.shape[:2], qkv.shape[2] // 3), p


def _packed_attention(qkv, heads, bias, scale):
    b, t, width = qkv.array.shape
    five = permute(reshape(qkv, (b, t, 3, heads, width // (3 * heads))), (2, 0, 3, 1, 4))
    q, k, v = five[0], five[1], five[2]
    y = matmul(attention_weights(matmul(q, k.mT), bias, scale), v)
    return reshape(permute(y, (0, 2, 1, 3)), (b, t, width // 3))


@packed_attention.joint_vjp
def _(g, needed, aux, qkv, heads, bias, scale):
    if mode.enabled:
        return gradients(_packed_attention, g, needed, qkv, heads, bias, scale)
    q, k, v = _heads(qkv.array, heads)
    b, h, t, e = q.shape
    g = g.array.reshape(b, t, h, e).transpose(0, 2, 1, 3)
    found = xp_of(g).empty(qkv.array.shape, g.dtype)
    gq, gk, gv = _heads(found, heads)
    product(aux.mT, g, gv)
    d = product(g, v.mT)
    gbias = None
    if needed[2] is not False:
        gbias = Tensor(_weights_gradient(d, aux, 1.0))
    d = _weights_gradient(d, aux, scale, d)
    product(d, k, gq)
    product(d.mT, q, gk)
    return Tensor(found), None, gbias, None
