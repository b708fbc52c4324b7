"""Recurrent layers: one direction of one layer over all steps is one operation.

z (T, B, gates H) is the part of the inputs, one product for all steps. A step is the product of the hidden
state (B, H) with the weight (gates H, H), then one launch. Backward goes through the steps the other way; the
gradient of the weight is one product, over all steps together. The formula on Tensors beside each is what is
recorded when gradients are to be differentiated again.
"""

from __future__ import annotations

from kernels.recurrent import (
    GRU_STEP,
    GRU_STEP_BACKWARD,
    LSTM_STEP,
    LSTM_STEP_BACKWARD,
    RNN_STEP,
    RNN_STEP_BACKWARD,
)

from ..autograd import op
from ..backend import xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .composed import gradients
from .join import stack
from .products import matmul, product
from .select import relu
from .unary import sigmoid, tanh


def order(steps, reverse):
    """The steps in the order in which a direction takes them."""
    return range(steps - 1, -1, -1) if reverse else range(steps)


def parts(a, count):
    """(B, count H) as `count` views (B, H): arrays or Tensors."""
    width = a.shape[-1] // count
    return [a[..., k * width : (k + 1) * width] for k in range(count)]


def _before(y, h0, t, reverse, first):
    """The state before step t."""
    return h0 if t == first else y[t + 1 if reverse else t - 1]


def _weight_gradient(du, y, h0, reverse):
    """The sum over steps of du[t]^T h[t - 1], as one product."""
    if not len(du):
        return xp_of(du).zeros((du.shape[-1], h0.shape[-1]), du.dtype)
    states = [y[1:], h0[None]] if reverse else [h0[None], y[:-1]]
    before = xp_of(y).concatenate(states).reshape(-1, h0.shape[-1])
    return product(du.reshape(-1, du.shape[-1]).T, before)


def _tensors(arrays, needed):
    """Gradients as Tensors, where they are needed."""
    return [None if n is False or a is None else Tensor(a) for a, n in zip(arrays, needed, strict=True)]


def _stacked(found, reverse):
    """What the steps gave, in the order of time."""
    return stack(0, *(found[::-1] if reverse else found))


# ------------------------------------------------------------------------------------------------------- RNN


@op
def rnn(z, h0, w, rectified, reverse):
    """h[t] = f(z[t] + h[t-1] w^T), f = tanh, or max(., 0) if rectified: (T, B, H)"""
    y, h, flags = xp_of(z).empty(z.shape, z.dtype), h0, ("relu",) * rectified
    for t in order(len(z), reverse):
        h = product(h, w.T, y[t])
        RNN_STEP(z[t], h, flags=flags)
    return y


def _rnn(z, h0, w, rectified, reverse):
    h, found, f = h0, [], relu if rectified else tanh
    for t in order(len(z), reverse):
        h = f(z[t] + matmul(h, w.mT))
        found.append(h)
    return _stacked(found, reverse)


@rnn.joint_vjp
def _(g, needed, y, z, h0, w, rectified, reverse):
    if mode.enabled:
        return gradients(_rnn, g, needed, z, h0, w, rectified, reverse)
    g, y, h0, w, flags = g.array, y.array, h0.array, w.array, ("relu",) * rectified
    dz, more = xp_of(g).empty(y.shape, y.dtype), xp_of(g).zeros(h0.shape, y.dtype)
    for t in order(len(y), not reverse):
        RNN_STEP_BACKWARD(g[t], more, y[t], dz[t], flags=flags)
        more = product(dz[t], w)
    found = dz, more, _weight_gradient(dz, y, h0, reverse) if needed[2] is not False else None
    return *_tensors(found, needed[:3]), None, None


# ------------------------------------------------------------------------------------------------------ LSTM


@op(aux=True)
def lstm(z, h0, c0, w, reverse):
    """h[t] of the cell with input z[t] + h[t-1] w^T, and behind them the last c: (T + 1, B, H)"""
    xp, steps = xp_of(z), len(z)
    y = xp.empty((steps + 1, *h0.shape), z.dtype)
    gates, cells = xp.empty_like(z), xp.empty((steps, *h0.shape), z.dtype)
    h, c = h0, c0
    for t in order(steps, reverse):
        hidden = product(h, w.T, gates[t])
        LSTM_STEP(*parts(z[t], 4), c, *parts(hidden, 4), cells[t], y[t])
        h, c = y[t], cells[t]
    y[steps] = c
    return y, (gates, cells)


def _lstm(z, h0, c0, w, reverse):
    h, c, found = h0, c0, []
    for t in order(len(z), reverse):
        p, q, a, o = parts(z[t] + matmul(h, w.mT), 4)
        c = sigmoid(q) * c + sigmoid(p) * tanh(a)
        h = sigmoid(o) * tanh(c)
        found.append(h)
    return stack(0, *(found[::-1] if reverse else found), c)


@lstm.joint_vjp
def _(g, needed, y, aux, z, h0, c0, w, reverse):
    if mode.enabled:
        return gradients(_lstm, g, needed, z, h0, c0, w, reverse)
    gates, cells = aux
    g, y, h0, c0, w = g.array, y.array[:-1], h0.array, c0.array, w.array
    xp, steps = xp_of(g), len(y)
    dz, more, gc = xp.empty_like(gates), xp.zeros(h0.shape, y.dtype), g[steps].copy()
    taken = order(steps, reverse)
    for t in taken[::-1]:
        before = _before(cells, c0, t, reverse, taken[0])
        LSTM_STEP_BACKWARD(g[t], more, *parts(gates[t], 4), cells[t], before, gc, *parts(dz[t], 4))
        more = product(dz[t], w)
    found = dz, more, gc, _weight_gradient(dz, y, h0, reverse) if needed[3] is not False else None
    return *_tensors(found, needed[:4]), None


# ------------------------------------------------------------------------------------------------------- GRU


@op(aux=True)
def gru(z, h0, w, b, reverse):
    """h[t] of the cell with inputs z[t] and u = h[t-1] w^T + b: (T, B, H); b may be None"""
    xp, steps = xp_of(z), len(z)
    y = xp.empty((steps, *h0.shape), z.dtype)
    gates, us = xp.empty_like(z), xp.empty_like(y)
    h = h0
    for t in order(steps, reverse):
        hidden = product(h, w.T, gates[t])
        if b is not None:
            hidden += b
        GRU_STEP(*parts(z[t], 3), h, *parts(hidden, 3), us[t], y[t])
        h = y[t]
    return y, (gates, us)


def _gru(z, h0, w, b, reverse):
    h, found = h0, []
    for t in order(len(z), reverse):
        u = matmul(h, w.mT)
        u = u if b is None else u + b
        (zr, zk, za), (ur, uk, ua) = parts(z[t], 3), parts(u, 3)
        k = sigmoid(zk + uk)
        h = (1 - k) * tanh(za + sigmoid(zr + ur) * ua) + k * h
        found.append(h)
    return _stacked(found, reverse)


@gru.joint_vjp
def _(g, needed, y, aux, z, h0, w, b, reverse):
    if mode.enabled:
        return gradients(_gru, g, needed, z, h0, w, b, reverse)
    gates, us = aux
    g, y, h0, w = g.array, y.array, h0.array, w.array
    xp, steps = xp_of(g), len(y)
    dz, du, more = xp.empty_like(gates), xp.empty_like(gates), xp.zeros(h0.shape, y.dtype)
    taken = order(steps, reverse)
    for t in taken[::-1]:
        before = _before(y, h0, t, reverse, taken[0])
        through = xp.empty_like(more)
        dr, dk, dua = parts(du[t], 3)
        GRU_STEP_BACKWARD(
            *(g[t], more, *parts(gates[t], 3), us[t], before), dr, dk, parts(dz[t], 3)[2], dua, through
        )
        more = product(du[t], w)
        more += through
    width = h0.shape[-1]
    dz[..., : 2 * width] = du[..., : 2 * width]
    gw = _weight_gradient(du, y, h0, reverse) if needed[2] is not False else None
    gb = du.sum(axis=(0, 1)) if needed[3] is not False else None
    return *_tensors((dz, more, gw, gb), needed[:4]), None
