"""Fused layers of a transformer: a product with bias and GELU, with bias and residual; dropout and residual.

What is fused is a formula of other operations: that one is recorded when gradients are to be differentiated
again.
"""

from __future__ import annotations

from kernels.fused import BIAS_GELU, BIAS_GELU_BACKWARD, BIAS_RESIDUAL, DROPOUT_ADD
from kernels.layers import BIAS_GRAD

from ..autograd import op
from ..backend import xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .activations import gelu, gelu_tanh
from .arithmetic import add
from .composed import gradients
from .constants import constants
from .layers import dropout, factors, linear, quarters
from .products import flat, product


@op(aux=True)
def linear_gelu(x, w, b, approximate):
    """gelu(x @ w.T + b), or its approximation by tanh: (..., I), (O, I), (O) -> (..., O)"""
    z = product(flat(x), w.T)
    y = BIAS_GELU(z, b, flags=("tanh",) * approximate)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0]), z


def _linear_gelu(x, w, b, approximate):
    return (gelu_tanh if approximate else gelu)(linear(x, w, b), ())


@linear_gelu.joint_vjp
def _(g, needed, aux, x, w, b, approximate):
    if mode.enabled:
        return gradients(_linear_gelu, g, needed, x, w, b, approximate)
    place = None if needed[2] is True or needed[2] is False else needed[2]
    flags = ("tanh",) * approximate
    gz, gb = BIAS_GELU_BACKWARD(flat(g.array), aux, b.array, None, place, flags=flags)
    return *factors(gz, needed, x, w), None if needed[2] is False else Tensor(gb), None


@op
def linear_residual(x, w, b, r):
    """r + x @ w.T + b: (..., I), (O, I), (O), (..., O) -> (..., O)"""
    y = product(flat(x), w.T)
    BIAS_RESIDUAL(y, b, r.reshape(y.shape), y)
    return y.reshape(r.shape)


def _linear_residual(x, w, b, r):
    return add(linear(x, w, b), r)


@linear_residual.joint_vjp
def _(g, needed, x, w, b, r):
    if mode.enabled:
        return gradients(_linear_residual, g, needed, x, w, b, r)
    gz, bias = flat(g.array), needed[2]
    gb = None if bias is False else Tensor(BIAS_GRAD(gz, None if bias is True else bias))
    return *factors(gz, needed, x, w), gb, g


@op
def dropout_add(x, r, rate, draw):
    """r + dropout(x, rate, draw)"""
    xp, n = xp_of(x), x.size
    vectors = [x.reshape(-1), r.reshape(-1)]
    if n % 4:
        vectors = [xp.concatenate([v, xp.zeros(-n % 4, x.dtype)]) for v in vectors]
    y = xp.empty_like(vectors[0])
    scalars = constants(DROPOUT_ADD, x, (rate, 1 / (1 - rate) if rate < 1 else 0.0))
    DROPOUT_ADD(*quarters(vectors[0]), *quarters(vectors[1]), draw, *quarters(y), scalars=scalars)
    return y[:n].reshape(x.shape)


dropout_add.vjp(x=lambda g, rate, draw: dropout(g, rate, draw), r=lambda g: g)
