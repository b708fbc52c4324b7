"""Cross-entropy of a linear map's scores, some rows at a time: the scores are never whole in memory.

    loss_i = -w[t_i] log softmax(W x_i + b)[t_i]                 x (N, I), W (C, I), b (C), t (N)

The scores and their gradient are 2 N C numbers, the most of all in a language model of C = 50,000 words; what
is wanted of them are N losses, and gradients of the size of x, W and b. So `rows` of them are made at a time,
in one piece of memory: the scores z, their losses, in the place of z its gradient, and of that the shares in
the gradients of x, W and b [Hsu et al. 2024, "Liger kernel"; Wijmans et al. 2024, "Cut your losses"].

A mean or a sum does all of it in the forward pass, which has the scores at hand: the gradients are kept, and
backward multiplies them with the one number that arrives. Where each loss has a number of its own
(reduction "none"), and in float16, where that number is the scale without which small gradients vanish, the
backward pass makes the scores again: a fourth product beside three.
"""

from __future__ import annotations

import numpy as np

from kernels.layers import BIAS_GRAD, CROSS_ENTROPY, CROSS_ENTROPY_BACKWARD, TOTAL_LOSS

from ..autograd import op
from ..backend import on_device, xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .cast import cast
from .classes import KINDS, cross_entropy, text_call, widened
from .composed import gradients
from .layers import linear
from .products import add_product, linear_product, product


class Chunks:
    """The operands of one call, and what is made of each chunk of rows."""

    def __init__(self, x, w, b, t, weight, smoothing, reduction, rows):
        self.x, self.w, self.b, self.t = x, w, widened(b, x), t
        self.weight, self.smoothing, self.kind = widened(weight, x), smoothing, KINDS[reduction]
        self.biased = ("bias",) * (b is not None)
        self.xp, self.rows = xp_of(x), rows
        self.float = np.dtype(np.float32) if x.dtype.itemsize == 2 else x.dtype
        self.scores = self.xp.empty((rows, len(w)), x.dtype)

    def __iter__(self):
        """For each chunk: its rows as a slice, and their scores without the bias."""
        for start in range(0, len(self.x), self.rows):
            at = slice(start, min(start + self.rows, len(self.x)))
            yield at, product(self.x[at], self.w.T, self.scores[: at.stop - start])

    def losses(self, at, z, loss, lse):
        """Each row's loss and log sum e^z."""
        call = text_call(CROSS_ENTROPY, z, self.weight, self.smoothing, *self.biased)
        CROSS_ENTROPY(z, self.t[at], self.b, self.weight, loss[at], lse[at], **call)

    def shares(self):
        """What each row counts for in a mean, and in one element the sum of that."""
        counted = self.t >= 0
        share = counted.astype(self.float)
        if self.weight is not None:
            share *= self.weight[self.xp.where(counted, self.t, self.t.dtype.type(0))]
        return share, share.sum().reshape(1)

    def places(self, wanted):
        """Where the gradients of x, w and b go, those of w and b zero: an array that is offered, or new ones.

        None where a gradient is not wanted. On the host sums in half precision are float32.
        """
        summed = self.x.dtype if on_device(self.x) else self.float
        found = []
        for offer, like, kind in zip(wanted, (self.x, self.w, self.b), (self.x.dtype, summed, summed)):
            if like is None or offer is False:
                place = None
            elif offer is True or offer.dtype != kind:
                place = self.xp.empty(like.shape, kind)
            else:
                place = offer
            if place is not None and like is not self.x:
                place.fill(0)
            found.append(place)
        return found

    def add_gradients(self, at, z, lse, g, total, places):
        """The chunk's part of the gradients of x, w and b; z is written over.

        g   the gradients of the losses, or in one element that of their sum or mean
        """
        scale, shared = (None, g) if self.kind else (g[at], None)
        total = total if "mean" in self.kind else None
        text, given = CROSS_ENTROPY_BACKWARD, (scale, self.b, self.weight, shared, total)
        call = text_call(text, z, self.weight, self.smoothing, *self.biased, *self.kind)
        text(z, self.t[at], lse[at], *given, z, **call)
        gx, gw, gb = places
        if gx is not None:
            product(z, self.w, gx[at])
        if gw is not None:
            add_product(z.T, self.x[at], gw)
        if gb is not None:
            gb += BIAS_GRAD(z)


@op(aux=True)
def linear_cross_entropy(x, w, b, t, weight, smoothing, reduction, rows, kind, early):
    """cross_entropy(x @ w.T + b, t), `rows` rows at a time; rows of negative classes are ignored

    kind    the dtype of the result
    early   for x, w and b, whether its gradient is made now; a mean's or a sum's can be
    """
    chunks = Chunks(x, w, b, t, weight, smoothing, reduction, rows)
    loss, lse = (chunks.xp.empty(len(x), chunks.float) for _ in range(2))
    share, total = chunks.shares() if reduction == "mean" else (None, None)
    places = chunks.places(early)
    one = chunks.xp.ones(1, chunks.float) if any(early) else None
    for at, z in chunks:
        chunks.losses(at, z, loss, lse)
        if one is not None:
            chunks.add_gradients(at, z, lse, one, total, places)
    aux = lse, total, places if any(early) else None
    if reduction == "none":
        return loss.astype(kind, copy=False), aux
    y = chunks.xp.empty((1,), kind)
    if share is None:
        TOTAL_LOSS(loss.reshape(1, -1), None, y)
    else:
        TOTAL_LOSS(loss.reshape(1, -1), share.reshape(1, -1), y, total, flags=("mean",))
    return y.reshape(()), aux


def _composed(x, w, b, t, weight, smoothing, reduction, kind):
    z = linear_product(x, w) if b is None else linear(x, w, b)
    z = z if z.array.dtype == kind else cast(z, kind)
    return cross_entropy(z, t, widened(weight, z.array), smoothing, reduction)


def _scaled(d, number, place):
    """d times a number on its device; into the memory that is offered, if it fits."""
    place = None if place is True or place.dtype != d.dtype else place
    return xp_of(d).multiply(d, number.astype(d.dtype, copy=False), out=place)


@linear_cross_entropy.joint_vjp
def _(g, needed, aux, x, w, b, t, weight, smoothing, reduction, rows, kind):
    none = [None] * 7
    if mode.enabled:
        return *gradients(_composed, g, needed[:3], x, w, b, t, weight, smoothing, reduction, kind)[:3], *none
    lse, total, early = aux
    if early is not None:
        made = [None if n is False else _scaled(d, g.array, n) for d, n in zip(early, needed)]
    else:
        bias = None if b is None else b.array
        chunks = Chunks(x.array, w.array, bias, t.array, weight, smoothing, reduction, rows)
        made, g = chunks.places(needed[:3]), g.array.reshape(-1)
        g = g if chunks.kind else widened(g, x.array)
        for at, z in chunks:
            chunks.add_gradients(at, z, lse, g, total, made)
    kinds = [t.array.dtype if isinstance(t, Tensor) else None for t in (x, w, b)]
    return *[None if d is None else Tensor(d.astype(k, copy=False)) for d, k in zip(made, kinds)], *none
