"""Rows of a table by their numbers: embeddings. The gradient adds up what arrives at each row, in order."""

from __future__ import annotations

from ..autograd import op
from .index import setitem, sum_at, zero


@op(aux=True)
def embedding(w, index, padding):
    """w[index]: (V, E), (...) -> (..., E); row `padding` (or None) gets no gradient"""
    return w.take(index, axis=0), len(w)


def _gradient(g, index, padding, aux):
    d = sum_at(g, index, 0, aux)
    return d if padding is None else setitem(d, zero(d), padding)


embedding.vjp(w=_gradient)
