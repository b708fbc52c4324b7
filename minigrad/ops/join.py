"""Joining several arrays in one."""

from __future__ import annotations

from ..autograd import op
from ..backend import xp_of
from .index import getitem


@op(aux=True)
def cat(axis, *xs):
    """The arrays one after the other along an axis that they have."""
    return xp_of(xs[0]).concatenate(xs, axis=axis), [x.shape[axis] for x in xs]


@cat.joint_vjp
def _(g, needed, axis, aux):
    grads, start = [None], 0
    for need, n in zip(needed[1:], aux, strict=True):
        key = (slice(None),) * axis + (slice(start, start + n), ...)
        grads.append(getitem(g, key) if need is not False else None)
        start += n
    return grads


@op
def stack(axis, *xs):
    """The arrays side by side along a new axis."""
    key = (slice(None),) * axis + (None,)
    return xp_of(xs[0]).concatenate([x[key] for x in xs], axis=axis)


@stack.joint_vjp
def _(g, needed, axis):
    lead = (slice(None),) * axis
    return [None] + [
        getitem(g, (*lead, k, ...)) if n is not False else None for k, n in enumerate(needed[1:])
    ]
