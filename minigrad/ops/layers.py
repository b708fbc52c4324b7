"""What layers and losses are made of: affine maps, softmax, and choosing one class a row."""

from __future__ import annotations

import numpy as np

from kernels.dropout import DROPOUT

from ..autograd import op
from ..backend import device_of, to_device, xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .activations import constants
from .products import linear_product, matmul
from .select import masked
from .sums import sum_to
from .unary import exp


def flat(x):
    """x as a matrix, the last dim its columns: an array or a Tensor."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def product(a, b, need):
    """a @ b for matrices; into the memory of `need` where that is an array."""
    if need is True:
        return xp_of(a).matmul(a, b)
    out = need if need.ndim == 2 else need.reshape(a.shape[0], b.shape[1])
    xp_of(a).matmul(a, b, out=out)
    return need


def column_sum(g, need):
    """The sum of a matrix over its rows; into `need` where that is an array."""
    out = None if need is True else need
    total = g.sum(axis=0, dtype="float32" if g.dtype.itemsize == 2 else None)
    if out is None:
        return total.astype(g.dtype, copy=False)
    out[...] = total
    return out


@op
def linear(x, w, b):
    """x @ w.T + b: (..., I), (O, I), (O,) -> (..., O)"""
    y = xp_of(x).matmul(flat(x), w.T)
    y += b
    return y.reshape(*x.shape[:-1], w.shape[0])


@linear.joint_vjp
def _(g, needed, x, w):
    if mode.enabled:
        return linear_product(g, w.mT), matmul(flat(g).mT, flat(x)), g
    return _affine_gradients(flat(g.array), needed, x, w)


def _affine_gradients(g, needed, x, w):
    """The gradients of x @ w.T + b for the matrix g, as arrays' worth of Tensors."""
    gx = gw = gb = None
    if needed[0] is not False:
        gx = Tensor(product(g, w.array, needed[0]).reshape(x.array.shape))
    if needed[1] is not False:
        gw = Tensor(product(g.T, flat(x.array), needed[1]))
    if needed[2] is not False:
        gb = Tensor(column_sum(g, needed[2]))
    return gx, gw, gb


@op
def linear_relu(x, w, b):
    """max(x @ w.T + b, 0)"""
    y = xp_of(x).matmul(flat(x), w.T)
    y += b
    xp_of(y).maximum(y, y.dtype.type(0), out=y)
    return y.reshape(*x.shape[:-1], w.shape[0])


@linear_relu.joint_vjp
def _(g, needed, y, x, w):
    if mode.enabled:
        g = masked(g, y.array > 0)
        return linear_product(g, w.mT), matmul(flat(g).mT, flat(x)), g
    return _affine_gradients(flat(g.array * (y.array > 0)), needed, x, w)


@op
def softmax(x, axis):
    """e^x / sum(e^x), the sum along an axis"""
    xp = xp_of(x)
    x = xp.exp(x - x.max(axis=axis, keepdims=True))
    return x / x.sum(axis=axis, keepdims=True)


softmax.vjp(x=lambda g, y, axis: y * (g - sum_to(g * y, _kept(g, axis))))


@op
def log_softmax(x, axis):
    """x - log(sum(e^x)), the sum along an axis"""
    xp = xp_of(x)
    x = x - x.max(axis=axis, keepdims=True)
    return x - xp.log(xp.exp(x).sum(axis=axis, keepdims=True))


def _kept(x, axis):
    return x.array.shape[:axis] + (1,) + x.array.shape[axis + 1 :]


log_softmax.vjp(x=lambda g, y, axis: g - exp(y) * sum_to(g, _kept(g, axis)))


def quarters(a):
    """The four quarters of a vector."""
    q = a.size // 4
    return a[:q], a[q : 2 * q], a[2 * q : 3 * q], a[3 * q :]


@op
def dropout(x, rate, seed, offset):
    """x / (1 - rate), or 0 with probability rate, decided by draw number `offset` of the counter stream of
    `seed`"""
    xp = xp_of(x)
    flat, n = x.reshape(-1), x.size
    if n % 4:
        flat = xp.concatenate([flat, xp.zeros(-n % 4, x.dtype)])
    y = xp.empty_like(flat)
    draw = to_device(np.array([seed, offset], np.uint64), device_of(x))
    scalars = constants(DROPOUT, x, (rate, 1 / (1 - rate) if rate < 1 else 0.0))
    DROPOUT(*quarters(flat), draw, *quarters(y), scalars=scalars)
    return y[:n].reshape(x.shape)


dropout.vjp(x=lambda g, rate, seed, offset: dropout(g, rate, seed, offset))
