"""Normalization: x less its mean, over its deviation, then a weight and a bias.

Along rows (layer norm, RMS norm) the forward is one launch, the gradient of the input one, those of weight
and bias together one. The gradient that the input has from elsewhere, as in a residual stream, is added in
the same launch. Along channels (batch norm) it is one launch each way where the channels are the last
axis in memory, and three where they are not. The formula on Tensors, at each operation's end, is what is
recorded when gradients are to be differentiated again.
"""

from __future__ import annotations

from kernels.norms import (
    BATCH_APPLY,
    BATCH_APPLY_BACKWARD,
    BATCH_JOIN,
    BATCH_JOIN_SUMS,
    BATCH_NORM,
    BATCH_NORM_BACKWARD,
    BATCH_PARTS,
    BATCH_SUMS,
    LAYER_NORM,
    LAYER_NORM_BACKWARD,
    LAYER_NORM_PARAMETERS,
    RESIDUAL_LAYER_NORM,
    RMS_NORM,
    RMS_NORM_BACKWARD,
    RMS_NORM_WEIGHT,
    RSTD,
)

from ..autograd import op
from ..backend import xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .composed import gradients
from .constants import constants
from .sums import mean, sum
from .unary import rsqrt


def _flags(w, b=None):
    return ("weighted",) * (w is not None) + ("shifted",) * (b is not None)


def _affine(u, w, b):
    u = u if w is None else u * w
    return u if b is None else u + b


def _array(t):
    return None if t is None else t.array


def _place(wanted):
    """The memory that a gradient may be written into, or None."""
    return None if wanted is True or wanted is False else wanted


def _onto(wanted):
    """For the gradient of x: the flag, what it is added to, and the memory that it may be written into."""
    return (("added",), wanted.array, None) if isinstance(wanted, Tensor) else ((), None, _place(wanted))


def _wrapped(array, wanted):
    return None if wanted is False else Tensor(array)


# ------------------------------------------------------------------------------------------------- along rows


@op(aux=True, adds=True)
def layer_norm(x, w, b, eps):
    """(x - mean) / sqrt(var + eps) w + b over the last axis; w and b are vectors or None"""
    scalars = constants(LAYER_NORM, x, (eps,))
    y, m, r = LAYER_NORM(x, w, b, scalars=scalars, flags=_flags(w, b))
    return y, (m, r)


def _layer_norm(x, w, b, eps):
    d = x - mean(x, (x.array.ndim - 1,), True)
    return _affine(d * rsqrt(mean(d * d, (x.array.ndim - 1,), True) + eps), w, b)


def _layer_norm_gradient(g, needed, aux, x, w, b, eps):
    if mode.enabled:
        return gradients(_layer_norm, g, needed, x, w, b, eps)
    gx = gw = gb = None
    g, x = g.array, x.array
    if needed[0] is not False:
        added, r, place = _onto(needed[0])
        gx = Tensor(LAYER_NORM_BACKWARD(g, x, _array(w), *aux, r, place, flags=_flags(w) + added))
    if needed[1] is not False or needed[2] is not False:
        gw, gb = LAYER_NORM_PARAMETERS(g, x, *aux, _place(needed[1]), _place(needed[2]))
        gw, gb = _wrapped(gw, needed[1]), _wrapped(gb, needed[2])
    return gx, gw, gb, None


@layer_norm.joint_vjp
def _(g, needed, aux, x, w, b, eps):
    return _layer_norm_gradient(g, needed, aux, x, w, b, eps)


def residual_layer_norm(x, r, w, b, eps):
    """(x + r, its layer norm), as Tensors: one launch; its gradients are those of the two apart"""
    arrays = [_array(t) for t in (x, r, w, b)]
    scalars = constants(RESIDUAL_LAYER_NORM, arrays[0], (eps,))
    total, y, m, k = RESIDUAL_LAYER_NORM(*arrays, scalars=scalars, flags=_flags(w, b))
    z = sum_made(x, r, total)
    return z, layer_norm_made(z, w, b, eps, y, (m, k))


@op
def sum_made(x, r, total):
    """x + r, which is there already"""
    return total


sum_made.vjp(x=lambda g: g, r=lambda g: g)


@op(aux=True, adds=True)
def layer_norm_made(x, w, b, eps, made, held):
    """layer_norm, which is there already with what its gradient needs"""
    return made, held


@layer_norm_made.joint_vjp
def _(g, needed, aux, x, w, b, eps):
    return *_layer_norm_gradient(g, needed, aux, x, w, b, eps), None, None


@op(aux=True, adds=True)
def rms_norm(x, w, eps):
    """x / sqrt(mean(x^2) + eps) w over the last axis; w is a vector or None"""
    return RMS_NORM(x, w, scalars=constants(RMS_NORM, x, (eps,)), flags=_flags(w))


def _rms_norm(x, w, eps):
    return _affine(x * rsqrt(mean(x * x, (x.array.ndim - 1,), True) + eps), w, None)


@rms_norm.joint_vjp
def _(g, needed, aux, x, w, eps):
    if mode.enabled:
        return gradients(_rms_norm, g, needed, x, w, eps)
    gx = gw = None
    g, x = g.array, x.array
    if needed[0] is not False:
        added, r, place = _onto(needed[0])
        gx = Tensor(RMS_NORM_BACKWARD(g, x, _array(w), aux, r, place, flags=_flags(w) + added))
    if needed[1] is not False:
        gw = Tensor(RMS_NORM_WEIGHT(g, x, aux, _place(needed[1])))
    return gx, gw, None


# --------------------------------------------------------------------------------------------- along channels


def _matrix(x):
    """x (N, C, ...) as a matrix of the channels (N ..., C), where its memory is one; else None."""
    if x.ndim == 2:
        return x
    last = x.transpose(0, *range(2, x.ndim), 1)
    return last.reshape(-1, x.shape[1]) if last.flags.c_contiguous and not x.flags.c_contiguous else None


def _unmatrix(y, shape):
    """Back from the matrix of the channels to (N, C, ...)."""
    if len(shape) == 2:
        return y
    n, c, *window = shape
    return y.reshape(n, *window, c).transpose(0, len(shape) - 1, *range(1, len(shape) - 1))


def _channels(v):
    """One value a channel, beside (N, C, L)."""
    return None if v is None else v[:, None]


def _axes(x):
    """All axes but the channels'."""
    return (0, *range(2, x.array.ndim))


def _beside(v, x):
    """A Tensor of one value a channel, beside x (N, C, ...)."""
    return None if v is None else v.reshape(-1, *[1] * (x.array.ndim - 2))


@op(aux=True)
def batch_norm(x, w, b, running, momentum, batches, eps):
    """(x - mean) / sqrt(var + eps) w + b, mean and variance those of each channel: (N, C, ...)

    running   the arrays (running mean, running variance), which move in place, or None
    batches   an array [count of batches, this one too]: they move by 1 / count; or None: by momentum
    """
    more = ("running",) * (running is not None) + ("cumulative",) * (batches is not None)
    means, squares = running or (None, None)
    matrix = _matrix(x)
    if matrix is not None:
        scalars = constants(BATCH_NORM, x, (eps, momentum))
        call = dict(scalars=scalars, flags=_flags(w, b) + more)
        y, m, r, *_ = BATCH_NORM(matrix, w, b, batches, None, None, None, means, squares, **call)
        return _unmatrix(y, x.shape), (None, m, r)
    n, c = x.shape[:2]
    x3 = x.reshape(n, c, -1)
    part, spread = BATCH_PARTS(x3)
    scalars = constants(BATCH_JOIN, x, (eps, momentum, x3.shape[2]))
    m, r, *_ = BATCH_JOIN(part, spread, batches, None, None, means, squares, scalars=scalars, flags=more)
    columns = [_channels(v) for v in (m, r, w, b)]
    return BATCH_APPLY(x3, *columns, flags=_flags(w, b)).reshape(x.shape), (part, m, r)


def _batch_norm(x, w, b, eps):
    d = x - mean(x, _axes(x), True)
    r = rsqrt(mean(d * d, _axes(x), True) + eps)
    return _affine(d * r, _beside(w, x), _beside(b, x))


@batch_norm.joint_vjp
def _(g, needed, aux, x, w, b, eps):
    if mode.enabled:
        gx, gw, gb, _ = gradients(_batch_norm, g, (*needed[:3], False), x, w, b, eps)
        return gx, gw, gb, *[None] * 4
    part, m, r = aux
    g, x, w = g.array, x.array, _array(w)
    places = [_place(needed[1]), _place(needed[2])]
    if part is None:
        g2 = g if g.ndim == 2 else g.transpose(0, *range(2, g.ndim), 1).reshape(-1, x.shape[1])
        gx, gw, gb = BATCH_NORM_BACKWARD(g2, _matrix(x), w, m, r, None, *places, flags=_flags(w))
        gx = _unmatrix(gx, x.shape)
    else:
        g3, x3 = (v.reshape(*part.shape, -1) for v in (g, x))
        scalars = constants(BATCH_JOIN_SUMS, x, (x3.shape[2],))
        sums = BATCH_SUMS(g3, x3, part)
        empty = xp_of(x).empty
        places = [empty(x.shape[1], x.dtype) if v is None else v for v in places]
        gw, gb, *kac = BATCH_JOIN_SUMS(part, *sums, m, r, w, *places, scalars=scalars, flags=_flags(w))
        gx = BATCH_APPLY_BACKWARD(g3, x3, *[_channels(v) for v in (m, *kac)]).reshape(x.shape)
    return Tensor(gx), _wrapped(gw, needed[1]), _wrapped(gb, needed[2]), *[None] * 4


@op(aux=True)
def channel_norm(x, w, b, running, eps):
    """(x - mean) / sqrt(var + eps) w + b, for given arrays (mean, variance) of each channel: (N, C, ...)"""
    r = RSTD(running[1], scalars=constants(RSTD, x, (eps,)))
    m = running[0].astype(r.dtype, copy=False)
    shape = (-1, *[1] * (x.ndim - 2))
    columns = [None if v is None else v.reshape(shape) for v in (m, r, w, b)]
    return BATCH_APPLY(x, *columns, flags=_flags(w, b)), tuple(
        [v.astype(x.dtype, copy=False) for v in (m, r)]
    )


@channel_norm.joint_vjp
def _(g, needed, aux, x, w):
    m, r = (_beside(Tensor(v), x) for v in aux)
    gx = gw = gb = None
    if needed[0] is not False:
        gx = g * (r if w is None else _beside(w, x) * r)
    if needed[1] is not False:
        gw = sum(g * ((x - m) * r), _axes(x), False)
    if needed[2] is not False:
        gb = sum(g, _axes(x), False)
    return gx, gw, gb, None, None
