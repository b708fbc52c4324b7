"""Shapes: views where the layout allows, their gradients the inverse view."""

from __future__ import annotations

import numpy as np

from ..autograd import op
from ..backend import xp_of


@op(view=True, aux=True)
def reshape(x, shape):
    """x with another shape, same elements in C order; a view where the layout allows."""
    return x.reshape(shape), x.shape


reshape.vjp(x=lambda g, aux: reshape(g, aux))


@op(view=True)
def permute(x, axes):
    """y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]: the axes of y are x's, in the order given. A view."""
    return x.transpose(axes)


permute.vjp(x=lambda g, axes: permute(g, tuple(sorted(range(len(axes)), key=axes.__getitem__))))


@op(view=True)
def matrix_transpose(x):
    """The last two axes exchanged. A view."""
    return x.mT


matrix_transpose.vjp(x=lambda g: matrix_transpose(g))


@op
def flip(x, axes):
    """x in reverse order along axes"""
    return xp_of(x).flip(x, axes).copy()


flip.vjp(x=lambda g, axes: flip(g, axes))


@op
def roll(x, shifts, axes):
    """x shifted along axes; what leaves at the end comes back at the start"""
    return xp_of(x).roll(x, shifts, axes)


roll.vjp(x=lambda g, shifts, axes: roll(g, tuple([-s for s in shifts]), axes))


@op
def tril(x, k):
    """x on and below the k-th diagonal of its last two axes, 0 above"""
    return xp_of(x).tril(x, k)


@op
def triu(x, k):
    """x on and above the k-th diagonal of its last two axes, 0 below"""
    return xp_of(x).triu(x, k)


tril.vjp(x=lambda g, k: tril(g, k))
triu.vjp(x=lambda g, k: triu(g, k))


@op(view=True, aux=True)
def diagonal(x, offset, a, b):
    """The diagonal x[..., i, i + offset] of axes a and b, as the last axis. A view."""
    y = x.diagonal(offset, a, b)
    if type(y) is np.ndarray and x.flags.writeable:  # NumPy guards its diagonals
        y.flags.writeable = True
    return y, x.shape


@op
def on_diagonal(x, offset, a, b, shape):
    """Zeros of `shape` with x on a diagonal of axes a and b: the gradient of `diagonal`."""
    xp = xp_of(x)
    y = xp.zeros(shape, x.dtype)
    i = xp.arange(x.shape[-1])
    xp.moveaxis(y, (a, b), (-2, -1))[..., i + max(-offset, 0), i + max(offset, 0)] = x
    return y


diagonal.vjp(x=lambda g, offset, a, b, aux: on_diagonal(g, offset, a, b, aux))
on_diagonal.vjp(x=lambda g, offset, a, b: diagonal(g, offset, a, b))


@op(view=True, aux=True)
def unfold(x, axis, size, step):
    """y[..., i, ..., j] = x[..., i step + j, ...]: windows of an axis, as a new last axis. May be a view."""
    if type(x) is np.ndarray and x.flags.c_contiguous and x.size and x.dtype.kind != "V":
        shape = (*x.shape[:axis], (x.shape[axis] - size) // step + 1, *x.shape[axis + 1 :], size)
        steps = (*x.strides[:axis], x.strides[axis] * step, *x.strides[axis + 1 :], x.strides[axis])
        y = np.ndarray(shape, x.dtype, x, 0, steps)
        y.flags.writeable = False
        return y, x.shape
    y = xp_of(x).lib.stride_tricks.sliding_window_view(x, size, axis)
    return y[(slice(None),) * axis + (slice(None, None, step),)].copy(), x.shape


@op(aux=True)
def overlap_add(x, axis, step, shape):
    """Windows added up where they came from: the gradient of `unfold`."""
    y = xp_of(x).zeros(shape, x.dtype)
    for j in range(x.shape[-1]):
        stop = j + (x.shape[axis] - 1) * step + 1
        y[(slice(None),) * axis + (slice(j, stop, step),)] += x[..., j]
    return y, x.shape[-1]


unfold.vjp(x=lambda g, axis, step, aux: overlap_add(g, axis, step, aux))
overlap_add.vjp(x=lambda g, axis, step, aux: unfold(g, axis, aux, step))
