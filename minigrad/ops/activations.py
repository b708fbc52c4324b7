"""Activation functions: a text of kernels/activations.py, forward and backward one launch each.

Beside each text stands its derivative once more, as a formula on Tensors: that one is recorded when gradients
are to be differentiated again (create_graph), and tests compare the two.
"""

from __future__ import annotations

import math

from kernels import activations as texts

from ..autograd import op
from ..backend import xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .constants import constants
from .select import clamp_min, masked, select
from .unary import abs, erf, exp, log, log1p, sigmoid, tanh

BACKWARD = ("backward",)  # f' does not depend on the other flags
SQRT_HALF, SQRT_TWO_OVER_PI = 0.5**0.5, (2 / math.pi) ** 0.5


def activation(name, text, slope, flags=()):
    """The operation y = text(x; scalars), where slope(x, *scalars) is its derivative on Tensors."""

    def forward(x, scalars):
        return text(x, scalars=constants(text, x, scalars), flags=flags)

    forward.__name__ = name
    forward.__doc__ = f"{name}(x); its scalars are: {' '.join(text.scalars) or 'none'}"
    made = op(forward)

    def gradient(g, x, scalars):
        if mode.enabled:
            return g * slope(x, *scalars)
        return Tensor(text(x.array, g.array, scalars=constants(text, x.array, scalars), flags=BACKWARD))

    made.vjp(x=gradient)
    return made


def _steps(x, condition, yes, no):
    """A derivative that is constant but for a jump: numbers `yes` where the condition holds, else `no`."""
    number = x.array.dtype.type
    return Tensor(xp_of(x.array).where(condition, number(yes), number(no)))


def _elu_slope(x, alpha, scale, steep):
    below = exp(masked(x, x.array < 0) * steep) * (scale * alpha * steep)
    return select(x.array <= 0, below, x.array.dtype.type(scale))


def gelu_slope(x):
    density = exp(x * x * -0.5) * (SQRT_TWO_OVER_PI / 2)
    return (erf(x * SQRT_HALF) + 1) * 0.5 + x * density


def gelu_tanh_slope(x):
    t = tanh((x + x * x * x * 0.044715) * SQRT_TWO_OVER_PI)
    du = (x * x * 0.134145 + 1) * SQRT_TWO_OVER_PI
    return (t + 1) * 0.5 + x * (1 - t * t) * du * 0.5


def _silu_slope(x):
    s = sigmoid(x)
    return s * (x * (1 - s) + 1)


def _softplus_slope(x, beta, threshold):
    u = x * beta
    number = x.array.dtype.type
    return select(u.array > number(threshold), number(1), sigmoid(u))


def _mish_slope(x):
    t = tanh(softplus(x, (1.0, 20.0)))
    return t + x * (1 - t * t) * sigmoid(x)


def _softsign_slope(x):
    d = abs(x) + 1
    return 1 / (d * d)


def _hardswish_slope(x):
    a = x.array
    return masked(x / 3 + 0.5, (a > -3) & (a < 3)) + _steps(x, a >= 3, 1, 0)


def _clipped_slope(x, slope, shift, low, high):
    number = x.array.dtype.type
    u = x.array * number(slope) + number(shift)
    return _steps(x, (u <= number(low)) | (u >= number(high)), 0, slope)


def _outside_slope(x, low, high, value):
    number = x.array.dtype.type
    return _steps(x, (x.array >= number(low)) & (x.array <= number(high)), 0, 1)


leaky_relu = activation("leaky_relu", texts.LEAKY_RELU, lambda x, slope: _steps(x, x.array > 0, 1, slope))
elu = activation("elu", texts.ELU, _elu_slope)
gelu = activation("gelu", texts.GELU, gelu_slope)
gelu_tanh = activation("gelu_tanh", texts.GELU_TANH, gelu_tanh_slope)
silu = activation("silu", texts.SILU, _silu_slope)
softplus = activation("softplus", texts.SOFTPLUS, _softplus_slope)
log_sigmoid = activation("log_sigmoid", texts.LOG_SIGMOID, lambda x: sigmoid(-x))
mish = activation("mish", texts.MISH, _mish_slope)
softsign = activation("softsign", texts.SOFTSIGN, _softsign_slope)
hardswish = activation("hardswish", texts.HARDSWISH, _hardswish_slope)
clipped_line = activation("clipped_line", texts.CLIPPED_LINE, _clipped_slope)
outside = activation("outside", texts.OUTSIDE, _outside_slope)
softshrink = activation("softshrink", texts.OUTSIDE, _outside_slope, flags=("soft",))


@op
def bce(x, t):
    """-(t log x + (1 - t) log(1 - x)), the logarithms cut at -100"""
    return texts.BCE(x, t)


def _bce_gradient(g, x, t):
    if mode.enabled:
        return g * (x - t) / clamp_min((1 - x) * x, x.array.dtype.type(1e-12))
    return Tensor(texts.BCE(x.array, t.array, g.array, flags=BACKWARD))


bce.vjp(x=_bce_gradient, t=lambda g, x: g * (log1p(-x) - log(x)))
