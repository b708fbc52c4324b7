"""The Fisher of a layer as a Kronecker product of two small matrices: A of its inputs, B of its outputs.

    s = W a       a (in + 1): with a bias, a 1 stands below the inputs, and W (out, in + 1) is [W, bias]
    F_W  ~  A (x) B,    A = mean a a^T over rows (uses of W),    B = N sum g g^T over rows

g is the gradient of the mean loss over N labels by s, whence N: with one row a label, B is the mean of (N g)
(N g)^T. A product's inverse is that of its factors: F_W^-1 vec(D) = vec(B^-1 D A^-1).

A factor is (n, n), or (n,) where it is diagonal: A of a look-up, whose a are unit vectors, and what is too
large for a square. A weight is seen as (out, in): a convolution's (O, C kh kw), a table's transposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np

from ..arena import cut
from ..backend import Array, device_of, full, xp_of
from ..grad_mode import no_grad
from ..ops.index import sum_at
from ..taps import Tap
from ..tensor import Tensor

Shape = tuple[int, ...]
INPUTS, ROWS = ("input_factor", "input_inverse"), ("row_factor", "row_inverse")
OUTPUTS = ("output_factor", "output_inverse")
FACTORS = (INPUTS[0], ROWS[0], OUTPUTS[0])


@dataclass(eq=False)
class Layer:
    """A weight, its bias if it has one, and the shapes of its factors: A's `inner`, B's `outer`."""

    weight: Tensor
    bias: Tensor | None
    lookup: bool
    inner: Shape
    outer: Shape

    @classmethod
    def of(cls, tap: Tap, bias: Tensor | None, max_size: int) -> Layer:
        """The layer of a tap; factors of more than max_size rows are diagonal."""
        layer = cls(tap.weight, bias, tap.lookup, (), ())
        n, m = layer.sizes()
        layer.inner = (n,) if tap.lookup or n > max_size else (n, n)
        layer.outer = (m,) if m > max_size else (m, m)
        return layer

    def sizes(self) -> tuple[int, int]:
        """The rows of A and B."""
        first, rest = self.weight.array.shape[0], prod(self.weight.array.shape[1:])
        return (first, rest) if self.lookup else (rest + (self.bias is not None), first)

    @property
    def names(self) -> tuple[str, str, str, str]:
        """What A, its inverse, B, and its inverse are called in the state of the weight."""
        return (*(ROWS if self.lookup else INPUTS), *OUTPUTS)

    def shapes(self) -> dict[str, Shape]:
        """Name -> shape of the four."""
        return dict(zip(self.names, (self.inner, self.inner, self.outer, self.outer), strict=True))

    # ------------------------------------------------------------------------------------------- the factors

    @no_grad()
    def input_moment(self, taps: Sequence[Tap], kind: np.dtype) -> Array:
        """mean a a^T over all rows of these uses."""
        total, rows = None, 0
        for tap in taps:
            a = tap.inputs()
            rows += a.shape[0]
            if self.lookup:
                found = self.counts(tap, a, kind)
            else:
                found = _moment(self.with_one(a.astype(kind, copy=False)), self.inner)
            total = found if total is None else total + found
        assert total is not None
        return total / total.dtype.type(max(rows, 1))

    def counts(self, tap: Tap, index: Array, kind: np.dtype) -> Array:
        """How often each row is looked up, but for the one that gets no gradient."""
        ones = Tensor(full((index.size, 1), 1, kind, device_of(index)))
        found = sum_at(ones, index, 0, self.weight.array.shape[0]).array.reshape(-1)
        if tap.skipped is not None:
            found[tap.skipped] = 0
        return found

    def with_one(self, a: Array) -> Array:
        """The rows a, each with a 1 for the bias."""
        if self.bias is None:
            return a
        return xp_of(a).concatenate([a, full((a.shape[0], 1), 1, a.dtype, device_of(a))], axis=1)

    def output_moment(self, tap: Tap, g: Array, kind: np.dtype) -> Array:
        """sum g g^T over the rows of one use."""
        rows = tap.rows(g.astype(kind, copy=False))
        if tap.skipped is not None:
            rows = rows * (tap.inputs() != tap.skipped)[:, None].astype(kind)
        return _moment(rows, self.outer)

    # ----------------------------------------------------------------------------------------- their inverses

    def invert(self, a: Array, b: Array, damping: float) -> tuple[Array, Array]:
        """(A + pi sqrt(damping) I)^-1 and (B + sqrt(damping)/pi I)^-1, pi^2 = (tr A / dim) / (tr B / dim).

        pi gives each factor its share of the damping in proportion to its size: it minimises the bound on
        what the product of the two differs from A (x) B + damping I by [Martens & Grosse 2015, 6.3]. It is
        kept within [1e-4, 1e4], for a layer whose gradients vanish.
        """
        xp, root = xp_of(a), sqrt(damping)
        tiny = a.dtype.type(1e-30)
        pi = xp.clip(xp.sqrt((_mean_of_diagonal(a) + tiny) / (_mean_of_diagonal(b) + tiny)), 1e-4, 1e4)
        pi = pi.astype(a.dtype)
        return _inverse(a, pi * a.dtype.type(root)), _inverse(b, a.dtype.type(root) / pi)

    # ------------------------------------------------------------------------------------------- their use

    def gradient(self, update: Array, active: set[Tensor]) -> Array:
        """The layer's part of a buffer as (out, in + 1): [dW, dbias]; zero for what has no gradient."""
        w = self.weight
        d = cut(update, w.offset, w.array.shape).reshape(w.array.shape[0], -1)
        d = d if w in active else d * update.dtype.type(0)
        d = d.T if self.lookup else d
        if self.bias is None:
            return d
        b = cut(update, self.bias.offset, self.bias.array.shape)
        b = b if self.bias in active else b * update.dtype.type(0)
        return xp_of(d).concatenate([d, b[:, None]], axis=1)

    def put(self, update: Array, d: Array) -> None:
        """Write (out, in + 1) back into the layer's part of a buffer."""
        w = self.weight
        if self.bias is not None:
            cut(update, self.bias.offset, self.bias.array.shape)[...] = d[:, -1]
            d = d[:, :-1]
        cut(update, w.offset, w.array.shape)[...] = (d.T if self.lookup else d).reshape(w.array.shape)


def solve(inner: Array, outer: Array, d: Array) -> Array:
    """B^-1 D A^-1 of the inverses, either of which may be a diagonal."""
    d = d * inner if inner.ndim == 1 else d @ inner
    return d * outer[:, None] if outer.ndim == 1 else outer @ d


def _moment(rows: Array, shape: Shape) -> Array:
    return rows.T @ rows if len(shape) == 2 else (rows * rows).sum(axis=0)


def _mean_of_diagonal(m: Array) -> Array:
    return (m if m.ndim == 1 else xp_of(m).diagonal(m)).mean()


def _inverse(m: Array, damping: Any) -> Array:
    """(M + damping I)^-1; nan where M holds nan or inf, as on a device, where nobody is told."""
    if m.ndim == 1:
        return 1 / (m + damping)
    xp = xp_of(m)
    try:
        found = xp.linalg.inv(m + damping * xp.eye(m.shape[0], dtype=m.dtype))
    except np.linalg.LinAlgError:
        return full(m.shape, np.nan, m.dtype, device_of(m))
    return (found + found.T) * m.dtype.type(0.5)
