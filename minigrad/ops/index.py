"""Reading and writing by index: views by slices, and gathering by whole numbers.

Everything that gathers (advanced indexing, gather, index_select, embeddings, masks) is `take`, and its
gradient is `sum_at`: add up what arrives at each place. They are each other's gradients, so any order
works. Sums go in the order of the index, on the CPU by NumPy's one-dimensional `ufunc.at`, which is a plain
loop in C; on a device, where atomics would add in any order, by sorting and a segmented scan. Same input,
same bits, on both.

Indices are whole numbers from 0, in range: the public face has seen to that.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..autograd import op
from ..backend import on_device, xp_of
from ..tensor import Tensor
from .sums import is_half


@op(view=True, aux=True)
def getitem(x, key):
    """x[key] for a key of ints, slices, None and an Ellipsis. A view."""
    return x[key], x.shape


@op
def embed(g, key, shape):
    """Zeros of `shape`, with y[key] = g: the gradient of `getitem`."""
    y = xp_of(g).zeros(shape, g.dtype)
    y[key] = g
    return y


getitem.vjp(x=lambda g, key, aux: embed(g, key, aux))
embed.vjp(g=lambda g, key: getitem(g, key))


@op
def setitem(x, value, key):
    """A copy of x with y[key] = value, for a key as `getitem` takes it."""
    y = x.copy()
    y[key] = value
    return y


setitem.vjp(x=lambda g, key: setitem(g, zero(g), key), value=lambda g, key: getitem(g, key))


def zero(x):
    """0 in the dtype of a Tensor, on the host."""
    return x.array.dtype.type(0)


@op(aux=True)
def take(x, index, axis):
    """y[..., i, ...] = x[..., index[i], ...] along an axis, for an index of any shape"""
    return x.take(index, axis=axis), x.shape[axis]


@op
def sum_at(g, index, axis, size):
    """y[..., j, ...] = Σ g[..., i, ...] over i with index[i] = j: take's gradient. y.shape[axis] = size"""
    return collected(g, index, axis, size, "add")


take.vjp(x=lambda g, index, axis, aux: sum_at(g, index, axis, aux))
sum_at.vjp(g=lambda g, index, axis: take(g, index, axis))


@op
def put(x, source, index, axis):
    """A copy of x with y[..., index[i], ...] = source[..., i, ...]; of doubles the last one counts."""
    y = x.copy()
    y[(slice(None),) * axis + (index,)] = source
    return y


put.vjp(
    x=lambda g, index, axis: put(g, zero(g), index, axis),
    source=lambda g, index, axis: take(g, index, axis),
)


@op
def extreme_at(x, source, index, largest, include_self):
    """y[j] = max or min of x[j] (if include_self) and all source[i] with index[i] = j; x[j] where there are
    none.

    For vectors. Operands that are equally extreme share the gradient.
    """
    xp = xp_of(x)
    best = collected(source, index, 0, len(x), "maximum" if largest else "minimum")
    reached = touched(xp, index, len(x))
    if include_self:
        best = (xp.maximum if largest else xp.minimum)(x, best)
    return xp.where(reached, best, x)


@extreme_at.joint_vjp
def _(g, needed, y, x, source, index, include_self):
    xp, best, places = xp_of(y.array), y.array, raw(index)
    mine = x.array == best
    if not include_self:
        mine &= ~touched(xp, places, len(best))
    theirs = source.array == best[places]
    share = mine + collected(theirs.astype(best.dtype), places, 0, len(best), "add")
    each = g / Tensor(xp.maximum(share, best.dtype.type(1)))
    return (
        each * Tensor(mine.astype(best.dtype)),
        take(each, index, 0) * Tensor(theirs.astype(best.dtype)),
        *[None] * 3,
    )


def raw(x):
    """The array of a Tensor, or the array itself."""
    return x.array if isinstance(x, Tensor) else x


def touched(xp, index, size):
    """Which of `size` places an index names."""
    marks = xp.zeros(size, bool)
    marks[index] = True
    return marks


def start_of(how, dtype):
    """What a reduction of nothing gives: 0, or less (more) than every value of the type."""
    if how == "add":
        return dtype.type(0)
    if dtype.kind == "b":
        return dtype.type(how == "minimum")
    if dtype.kind in "iu":
        return dtype.type(np.iinfo(dtype).min if how == "maximum" else np.iinfo(dtype).max)
    return dtype.type(-np.inf if how == "maximum" else np.inf)


def collected(g, index, axis, size, how):
    """y[..., j, ...] = the sum (or "maximum", "minimum") of g[..., i, ...] over i with index[i] = j."""
    shape = g.shape[:axis] + (size,) + g.shape[axis + index.ndim :]
    if is_half(g):
        return collected(g.astype(np.float32), index, axis, size, how).astype(g.dtype)
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
    xp = xp_of(g)
    if not g.size:
        return xp.full(shape, start_of(how, g.dtype), g.dtype)
    places = index.reshape(-1)
    if outer > 1:  # one long axis: row o of the outer axes has places o size ... (o + 1) size - 1
        places = (xp.arange(0, outer * size, size)[:, None] + places).reshape(-1)
    if on_device(g):
        return scanned(xp, g.reshape(places.size, inner), places, outer * size, how).reshape(shape)
    if inner > 1:
        places = (places[:, None] * inner + xp.arange(inner)).reshape(-1)
    n = outer * size * inner
    y = np.zeros(n, g.dtype) if how == "add" else np.full(n, start_of(how, g.dtype), g.dtype)
    getattr(np, how).at(y, places, g.reshape(-1))
    return y.reshape(shape)


def scanned(xp, g, places, size, how):
    """`collected` for the rows of a matrix: sort by place; then in log2(n) rounds each row takes in the row
    1, 2, 4 ... before it if that has the same place; the last row of each place has them all."""
    reduce, start = getattr(xp, how), start_of(how, g.dtype)
    order = xp.argsort(places, kind="stable")
    places, g = places[order], g[order]
    step = 1
    while step < len(places):
        same = (places[step:] == places[:-step])[:, None]
        g = xp.concatenate((g[:step], reduce(g[step:], xp.where(same, g[:-step], start))))
        step *= 2
    every = xp.arange(size)
    last = xp.maximum(xp.searchsorted(places, every, side="right") - 1, 0)
    return xp.where((places[last] == every)[:, None], g[last], start)
