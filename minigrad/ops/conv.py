"""Convolution, its transpose, and the gradient of its weight: one trilinear form in three directions.

    <z, conv(x, w)> = <conv_input(z, w), x> = <conv_weight(x, z), w>

So each is the gradient of another, to any order. With a C++ compiler they are kernels/convolution.h; else,
and on a GPU, products of matrices with columns (what each tap of the window sees, kernels/windows.py), made
for as many images at once as fit into COLUMNS bytes, and again in the backward pass. A window of one pixel
needs no columns. On a GPU cuDNN makes all three where it is switched on (minigrad/backends/cudnn.py). Images
are (N, C, H, W), weights (O, C / groups, kh, kw).
"""

from __future__ import annotations

import numpy as np

from kernels import convolution
from kernels.layers import BIAS_RELU
from kernels.windows import columns, fold

from ..autograd import op
from ..backend import destination, on_device, xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .products import product
from .select import relu_backward
from .sums import is_half, sum

COLUMNS = 2 << 20  # on the host: they stay in its second cache (1 to 2 MiB measured best)
DEVICE_COLUMNS = 256 << 20


# ------------------------------------------------------------------------------------ on arrays


def exact(*arrays):
    """On the host 16-bit floats are multiplied and added in float32."""
    return [a.astype(np.float32) if type(a) is np.ndarray and is_half(a) else a for a in arrays]


def is_pointwise(win):
    """Whether each window is one pixel of the image, and each pixel one window."""
    return win.taps == 1 and win.out == win.size and win.before == (0, 0) and win.stride == (1, 1)


def chunks(images, rows, itemsize, device, win):
    """Slices of the batch whose columns, of so many rows, fit into the bound."""
    room = DEVICE_COLUMNS if device else COLUMNS
    count = max(1, room // max(1, rows * win.out[0] * win.out[1] * itemsize))
    return [slice(k, min(k + count, images)) for k in range(0, images, count)]


def columns_of(x, win, groups):
    """The images as (groups, C / groups taps, N OH OW)."""
    seen = columns(x, win, "CN")
    return seen.reshape(groups, x.shape[1] // groups * win.taps, x.shape[0] * win.out[0] * win.out[1])


def pixels(x, groups):
    """(N, C, H, W) -> (N, groups, C / groups, H W)"""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h * w)


def side_by_side(g, groups):
    """(N, O, OH, OW) -> (groups, O / groups, N OH OW): the pixels of all images."""
    n, o, oh, ow = g.shape
    return pixels(g, groups).transpose(1, 2, 0, 3).reshape(groups, o // groups, n * oh * ow)


def flat(w, groups):
    """(O, C / groups, kh, kw) -> (groups, O / groups, C / groups taps)"""
    return w.reshape(groups, w.shape[0] // groups, -1)


def multiplied(a, b):
    """The products of the groups, as one product of matrices where there is one group."""
    return product(a[0], b[0])[None] if len(a) == 1 else product(a, b)


def by_columns(x, w, win, groups):
    """The convolution as products of matrices."""
    n, o = x.shape[0], w.shape[0]
    if is_pointwise(win):
        return product(flat(w, groups), pixels(x, groups)).reshape(n, o, *win.out)
    y = xp_of(x).empty((n, o, *win.out), x.dtype)
    for part in chunks(n, x.shape[1] * win.taps, x.dtype.itemsize, on_device(x), win):
        z = multiplied(flat(w, groups), columns_of(x[part], win, groups))
        y[part] = z.reshape(o, -1, *win.out).transpose(1, 0, 2, 3)
    return y


def convolved(x, w, b, relu, win, groups):
    """The convolution, plus the bias (or None), and max(., 0) of that if relu."""
    made = convolution.forward(x, w, b, relu, win, groups)
    if made is not None:
        return made
    y = convolution.by_cudnn("forward", x, w, None, win, groups)
    if y is None:
        y = by_columns(x, w, win, groups)
    xp = xp_of(x)
    if b is None:
        return xp.maximum(y, y.dtype.type(0), out=y) if relu else y
    if relu:
        return BIAS_RELU(y, b.reshape(-1, 1, 1), y)
    y += b.reshape(-1, 1, 1)
    return y


def of_input(g, w, win, groups, out=None):
    """The transpose: the gradient of the images, into `out` if given."""
    n, c = g.shape[0], w.shape[1] * groups
    x = xp_of(g).empty((n, c, *win.size), g.dtype) if out is None else out
    if convolution.backward(g, None, None, w, x, None, None, win, groups):
        return x
    if convolution.by_cudnn("input", x, w, g, win, groups) is not None:
        return x
    turned = flat(w, groups).swapaxes(1, 2)
    if is_pointwise(win):
        product(turned, pixels(g, groups), pixels(x, groups))
        return x
    for part in chunks(n, c * win.taps, g.dtype.itemsize, on_device(g), win):
        seen = multiplied(turned, side_by_side(g[part], groups))
        taps = seen.reshape(c, *win.kernel, len(x[part]), *win.out)
        x[part] = fold(taps.transpose(3, 0, 1, 2, 4, 5), win)
    return x


def of_weight(x, g, win, groups, out=None):
    """The gradient of the weight, into `out` if given."""
    shape = (g.shape[1], x.shape[1] // groups, *win.kernel)
    w = xp_of(x).empty(shape, x.dtype) if out is None else out
    if convolution.backward(g, None, x, None, None, w, None, win, groups):
        return w
    if convolution.by_cudnn("weight", x, w, g, win, groups) is not None:
        return w
    started = False
    for part in chunks(x.shape[0], x.shape[1] * win.taps, x.dtype.itemsize, on_device(x), win):
        seen = columns_of(x[part], win, groups).swapaxes(1, 2)
        found = multiplied(side_by_side(g[part], groups), seen).reshape(shape)
        if started:
            w += found
        else:
            w[...], started = found, True
    if not started:
        w[...] = w.dtype.type(0)
    return w


# ---------------------------------------------------------------------------------- operations


@op
def conv_input(z, w, win, groups):
    """Each pixel adds up z times the weight of every tap that sees it: the transposed convolution."""
    z_, w_ = exact(z, w)
    return of_input(z_, w_, win, groups).astype(z.dtype, copy=False)


@op
def conv_weight(x, z, win, groups):
    """Each weight adds up what its tap sees, times z."""
    x_, z_ = exact(x, z)
    out = destination.take((z.shape[1], x.shape[1] // groups, *win.kernel), x_.dtype)
    return of_weight(x_, z_, win, groups, out).astype(x.dtype, copy=False)


def _forward(x, w, b, relu, win, groups):
    x_, w_, b_ = exact(x, w, b)
    return convolved(x_, w_, b_, relu, win, groups).astype(x.dtype, copy=False)


def _gradients(g, needed, y, x, w, win, groups):
    """The gradients of x, w and b, for the gradient g of the output y; y is None where there was no max."""
    if mode.enabled:
        g = g if y is None else relu_backward(g, y)
        gx = conv_input(g, w, win, groups) if needed[0] is not False else None
        gw = conv_weight(x, g, win, groups) if needed[1] is not False else None
        return gx, gw, sum(g, (0, 2, 3), False) if needed[2] is not False else None
    dtype = g.array.dtype
    g_, y_, x_, w_ = exact(g.array, None if y is None else y.array, x.array, w.array)
    xp = xp_of(g_)
    gx = None if needed[0] is False else xp.empty(x_.shape, x_.dtype)
    gw = memory(needed[1], xp, w_.shape, w_.dtype)
    gb = memory(needed[2], xp, w_.shape[:1], w_.dtype)
    if not convolution.backward(g_, y_, x_, w_, gx, gw, gb, win, groups):
        if y_ is not None:
            g_ = relu_backward(Tensor(g_), Tensor(y_)).array
        if gx is not None:
            of_input(g_, w_, win, groups, gx)
        if gw is not None:
            of_weight(x_, g_, win, groups, gw)
        if gb is not None:
            gb[...] = g_.sum(axis=(0, 2, 3), dtype=g_.dtype if g_.dtype.itemsize > 2 else np.float32)
    return tuple([None if a is None else Tensor(a.astype(dtype, copy=False)) for a in (gx, gw, gb)])


def memory(need, xp, shape, dtype):
    """Where a gradient goes: into the memory offered, new memory, or nowhere."""
    if need is False:
        return None
    usable = need is not True and need.dtype == dtype and need.flags.c_contiguous
    return need if usable else xp.empty(shape, dtype)


@op
def conv(x, w, b, win, groups):
    """y[n, o] = b[o] + Σ_c w[o, c] * x[n, c], where * is the cross-correlation; b may be None."""
    return _forward(x, w, b, False, win, groups)


@op
def conv_relu(x, w, b, win, groups):
    """max(conv(x, w, b), 0)"""
    return _forward(x, w, b, True, win, groups)


conv.joint_vjp(lambda g, needed, x, w, win, groups: _gradients(g, needed, None, x, w, win, groups))
conv_relu.joint_vjp(lambda g, needed, y, x, w, win, groups: _gradients(g, needed, y, x, w, win, groups))
conv_input.vjp(
    z=lambda g, w, win, groups: conv(g, w, None, win, groups),
    w=lambda g, z, win, groups: conv_weight(g, z, win, groups),
)
conv_weight.vjp(
    x=lambda g, z, win, groups: conv_input(z, g, win, groups),
    z=lambda g, x, win, groups: conv(x, g, None, win, groups),
)
