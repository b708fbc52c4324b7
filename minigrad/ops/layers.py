"""What layers are made of beyond one function an element: affine maps, softmax, dropout.

The gradients are launches of their own texts (kernels/layers.py); beside each stands the formula on Tensors,
which is recorded when gradients are to be differentiated again.
"""

from __future__ import annotations

from kernels.dropout import DROPOUT
from kernels.elementary import RELU_BACKWARD
from kernels.layers import (
    BIAS_GRAD,
    BIAS_RELU,
    BIAS_RELU_BACKWARD,
    LOG_SOFTMAX,
    LOG_SOFTMAX_BACKWARD,
    SOFTMAX,
    SOFTMAX_BACKWARD,
)

from ..autograd import op
from ..backend import xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .constants import constants
from .products import flat, linear_product, matmul, product
from .select import relu_backward
from .sums import sum
from .unary import exp


@op
def linear(x, w, b):
    """x @ w.T + b: (..., I), (O, I), (O) -> (..., O)"""
    y = product(flat(x), w.T)
    y += b
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0])


@linear.joint_vjp
def _(g, needed, x, w):
    if mode.enabled:
        return linear_product(g, w.mT), matmul(flat(g).mT, flat(x)), g
    gz, bias = flat(g.array), needed[2]
    gb = None if bias is False else BIAS_GRAD(gz, None if bias is True else bias)
    return *factors(gz, needed, x, w), gb if gb is None else Tensor(gb)


def factors(g, needed, x, w):
    """The gradients of both factors of x @ w.T, for the matrix g; into the memory that is offered."""
    gx = gw = None
    if needed[0] is not False:
        place = None if needed[0] is True else flat(needed[0])
        gx = product(g, w.array, place)
        gx = Tensor(gx if x.array.ndim == 2 else gx.reshape(x.array.shape))
    if needed[1] is not False:
        gw = Tensor(product(g.T, flat(x.array), None if needed[1] is True else needed[1]))
    return gx, gw


@op
def linear_relu(x, w, b):
    """max(x @ w.T + b, 0): (..., I), (O, I), (O) -> (..., O)"""
    y = product(flat(x), w.T)
    BIAS_RELU(y, b, y)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0])


@linear_relu.joint_vjp
def _(g, needed, y, x, w):
    if mode.enabled:
        g = relu_backward(g, y)
        return linear_product(g, w.mT), matmul(flat(g).mT, flat(x)), g
    bias = needed[2]
    if bias is False:
        return *factors(RELU_BACKWARD(flat(g.array), flat(y.array)), needed, x, w), None
    gz, gb = BIAS_RELU_BACKWARD(flat(g.array), flat(y.array), None, None if bias is True else bias)
    return *factors(gz, needed, x, w), Tensor(gb)


def along(axis, text, *arrays):
    """A text of rows, applied along any axis: that axis goes last, and back."""
    if axis == arrays[0].ndim - 1:
        return text(*arrays)
    moved = [xp_of(a).moveaxis(a, axis, -1) for a in arrays]
    return xp_of(arrays[0]).moveaxis(text(*moved), -1, axis)


@op
def softmax(x, axis):
    """e^x / sum(e^x), the sum along an axis"""
    return along(axis, SOFTMAX, x)


def _softmax_gradient(g, y, axis):
    if mode.enabled:
        return y * (g - sum(g * y, (axis,), True))
    return Tensor(along(axis, SOFTMAX_BACKWARD, g.array, y.array))


softmax.vjp(x=_softmax_gradient)


@op
def log_softmax(x, axis):
    """x - log(sum(e^x)), the sum along an axis"""
    return along(axis, LOG_SOFTMAX, x)


def _log_softmax_gradient(g, y, axis):
    if mode.enabled:
        return g - exp(y) * sum(g, (axis,), True)
    return Tensor(along(axis, LOG_SOFTMAX_BACKWARD, g.array, y.array))


log_softmax.vjp(x=_log_softmax_gradient)


def quarters(a):
    """The four quarters of a vector."""
    q = a.size // 4
    return a[:q], a[q : 2 * q], a[2 * q : 3 * q], a[3 * q :]


@op
def dropout(x, rate, draw):
    """x / (1 - rate), or 0 with probability rate; draw is the array [seed, offset] of the counter stream"""
    xp = xp_of(x)
    vector, n = x.reshape(-1), x.size
    if n % 4:
        vector = xp.concatenate([vector, xp.zeros(-n % 4, x.dtype)])
    y = xp.empty_like(vector)
    scalars = constants(DROPOUT, x, (rate, 1 / (1 - rate) if rate < 1 else 0.0))
    DROPOUT(*quarters(vector), draw, *quarters(y), scalars=scalars)
    return y[:n].reshape(x.shape)


dropout.vjp(x=lambda g, rate, draw: dropout(g, rate, draw))
