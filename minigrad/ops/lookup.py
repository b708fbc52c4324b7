"""Rows of a table by their numbers: embeddings. The gradient adds up what arrives at each row, in order.

On a device that is a product of matrices, onehot(index)^T g, while the table is not too long: two launches,
and the same bits at every run, which sums by atomics would not give.
"""

from __future__ import annotations

from kernels.layers import ONE_HOT

from ..autograd import op
from ..backend import destination, on_device, xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .index import setitem, sum_at, zero
from .products import flat, product

LARGEST = 1 << 24  # elements of a one-hot matrix


@op(aux=True)
def embedding(w, index, padding):
    """w[index]: (V, E), (...) -> (..., E); row `padding` (or None) gets no gradient"""
    return w.take(index, axis=0), len(w)


def _gradient(g, index, padding, aux):
    n = index.size
    if on_device(g.array) and not mode.enabled and 0 < n * aux <= LARGEST and g.array.dtype.kind == "f":
        rows = flat(g.array)
        y = ONE_HOT(index.reshape(n), xp_of(g.array).empty((n, aux), rows.dtype))
        place = destination.take((aux, rows.shape[1]), rows.dtype) if destination.array is not None else None
        d = Tensor(product(y.T, rows, place))
    else:
        d = sum_at(g, index, 0, aux)
    return d if padding is None else setitem(d, zero(d), padding)


embedding.vjp(w=_gradient)
