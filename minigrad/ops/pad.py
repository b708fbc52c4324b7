"""Padding: a frame of one value round an array, or of its own elements.

Adding a frame of zeros and cutting it off are each other's gradients, so one operation with positive and
negative widths is both. For the other three modes, one axis at a time: `border` copies elements outward, and
its transpose adds them back.
"""

from __future__ import annotations

from ..autograd import op
from ..backend import xp_of


@op
def pad(x, widths, value):
    """x with `value` added before and after each axis, (before, after) in widths; negative ones cut off."""
    shape = [n + before + after for n, (before, after) in zip(x.shape, widths, strict=True)]
    source, place = [], []
    for n, size, (before, after) in zip(x.shape, shape, widths, strict=True):
        source.append(slice(max(-before, 0), n - max(-after, 0)))
        place.append(slice(max(before, 0), size - max(after, 0)))
    if any(s.start >= s.stop for s in source):  # all of it is cut off
        return xp_of(x).full(shape, value, x.dtype)
    if all(before <= 0 and after <= 0 for before, after in widths):
        return x[tuple(source)].copy()
    y = xp_of(x).full(shape, value, x.dtype)
    y[tuple(place)] = x[tuple(source)]
    return y


pad.vjp(x=lambda g, widths: pad(g, tuple([(-a, -b) for a, b in widths]), g.array.dtype.type(0)))


def frame(n, before, after, how):
    """[(where in the padded axis, what of the axis is copied there)] for an axis of n elements."""
    if how == "circular":
        sources = slice(n - before, n), slice(0, after)
    elif how == "reflect":
        sources = slice(before, 0, -1), slice(n - 2, n - 2 - after if after < n - 1 else None, -1)
    else:  # replicate: one element, which broadcasts
        sources = slice(0, 1), slice(n - 1, n)
    places = slice(0, before), slice(before + n, before + n + after)
    return [(p, s) for p, s in zip(places, sources, strict=True) if p.start < p.stop]


def along(axis, part):
    return (slice(None),) * axis + (part,)


@op
def border(x, axis, before, after, how):
    """x with elements of its own before and after an axis: how is reflect, replicate or circular."""
    n = x.shape[axis]
    y = xp_of(x).empty(x.shape[:axis] + (before + n + after,) + x.shape[axis + 1 :], x.dtype)
    y[along(axis, slice(before, before + n))] = x
    for place, source in frame(n, before, after, how):
        y[along(axis, place)] = x[along(axis, source)]
    return y


@op
def unborder(z, axis, before, after, how):
    """The inside of z, plus what `border` copies out of it: its transpose."""
    n = z.shape[axis] - before - after
    y = z[along(axis, slice(before, before + n))].copy()
    for place, source in frame(n, before, after, how):
        part = z[along(axis, place)]
        y[along(axis, source)] += part.sum(axis=axis, keepdims=True) if how == "replicate" else part
    return y


border.vjp(x=lambda g, axis, before, after, how: unborder(g, axis, before, after, how))
unborder.vjp(z=lambda g, axis, before, after, how: border(g, axis, before, after, how))
