"""The ends of a branch beside a residual stream: a product with bias and residual; dropout and residual.

What is fused is a formula of other operations: that one is recorded when gradients are to be differentiated
again.
"""

from __future__ import annotations

from kernels.fused import BIAS_RESIDUAL, DROPOUT_ADD
from kernels.layers import BIAS_GRAD

from ..autograd import op
from ..backend import xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .arithmetic import add
from .composed import gradients
from .constants import constants
from .layers import dropout, factors, linear, quarters
from .products import flat, product


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
    vectors = x.reshape(-1), r.reshape(-1)
    if n % 4:
        vectors = [xp.concatenate([v, xp.zeros(-n % 4, x.dtype)]) for v in vectors]
    y = xp.empty_like(vectors[0])
    scalars = constants(DROPOUT_ADD, x, (rate, 1 / (1 - rate) if rate < 1 else 0.0))
    DROPOUT_ADD(*quarters(vectors[0]), *quarters(vectors[1]), draw, *quarters(y), scalars=scalars)
    return y[:n].reshape(x.shape)


dropout_add.vjp(x=lambda g, rate, draw: dropout(g, rate, draw), r=lambda g: g)
