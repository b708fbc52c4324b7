"""Pools, and the two maps that all windows are made of (kernels/windows.py).

    im2col  <-> col2im          what each tap sees, and adding up what the taps have
    total   <-> spread          the sum over the taps of a window
    max_pool -> put <-> pick    the largest of a window; which tap sees it is piecewise constant

Each arrow is a gradient, so any order works. Images are (N, C, H, W), `win` is a kernels.windows.Windows.
"""

from __future__ import annotations

from kernels import windows

from ..autograd import op
from ..backend import xp_of


@op
def im2col(x, win):
    """(N, C, H, W) -> (N, C, kh, kw, OH, OW): what each tap sees, 0 where that is padding"""
    return windows.columns(x, win)


@op
def col2im(c, win):
    """(N, C, kh, kw, OH, OW) -> (N, C, H, W): each pixel adds up what the taps that see it have"""
    return windows.fold(c, win)


im2col.vjp(x=lambda g, win: col2im(g, win))
col2im.vjp(c=lambda g, win: im2col(g, win))


@op
def total(x, win):
    """(N, C, H, W) -> (N, C, OH, OW): the sum of each window"""
    return windows.total(x, win)


@op
def spread(z, win):
    """(N, C, OH, OW) -> (N, C, H, W): each pixel adds up the windows that see it"""
    return windows.spread(z, win)


total.vjp(x=lambda g, win: spread(g, win))
spread.vjp(z=lambda g, win: total(g, win))


@op(aux=True)
def max_pool(x, win):
    """(N, C, H, W) -> (N, C, OH, OW): the largest of each window; of equal ones the first has the gradient"""
    return windows.largest(x, win)


@op
def winners(x, win):
    """The tap i kw + j of each window that sees the largest pixel; not differentiable."""
    return windows.largest(x, win)[1]


@op
def put(z, taps, win):
    """(N, C, OH, OW) -> (N, C, H, W): each window's z at the pixel that its tap sees, added up"""
    return windows.put(z, taps, win)


@op
def pick(x, taps, win):
    """(N, C, H, W) -> (N, C, OH, OW): of each window the pixel that its tap sees"""
    places = pixels(taps, win).reshape(*taps.shape[:2], win.out[0] * win.out[1])
    rows = x.reshape(*x.shape[:2], win.size[0] * win.size[1])
    return xp_of(x).take_along_axis(rows, places, 2).reshape(taps.shape)


max_pool.vjp(x=lambda g, win, aux: put(g, aux, win))
put.vjp(z=lambda g, taps, win: pick(g, taps, win))
pick.vjp(x=lambda g, taps, win: put(g, taps, win))


def pixels(taps, win):
    """The pixel row * W + column that each window's tap sees, as int64."""
    xp = xp_of(taps)
    taps = taps.astype("int64")
    place = []
    for axis, tap in enumerate((taps // win.kernel[1], taps % win.kernel[1])):
        start = xp.arange(win.out[axis]) * win.stride[axis] - win.before[axis]
        place.append((start[:, None] if axis == 0 else start) + tap * win.dilation[axis])
    return place[0] * win.size[1] + place[1]
