"""All parameters of an optimizer as one vector x of R^n.

Methods that look at the whole problem (L-BFGS, conjugate gradients, Newton, natural gradient) are written on
vectors x, g, d. `Flat` is the passage between them and the parameters: the elements in the order of the
parameters, without the arena's pads, as PyTorch's L-BFGS saves them; the history of such a method is a
hundred vectors, of which pads would be a part. A vector is an array of one type on one device: that of the
first parameter, float64 where any parameter is, float32 for half types.

    flat = Flat(params)
    x = flat.read()                            a copy of the parameters
    g = flat.gradient()                        zeros where there is no gradient
    flat.write(x - 0.1 * g)                    rounded once to each parameter's type
    flat.tensors(v), flat.gather(tensors)      a vector as Tensors of the parameters' shapes, and back

Inner products are summed in double in an order that does not change, and stay on the device, as arrays of no
dimension. The closure as a function of x, and the base of these optimizers, stand in whole.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from kernels.vectors import DOT, SHIFT

from ..arena import CHUNK, collect, house
from ..backend import Array, device_of, empty, full, to_device, xp_of
from ..tensor import Tensor


def dot(a: Array, b: Array) -> Array:
    """<a, b> of vectors (n,) of one type, float32 or float64, summed in double; a 0-d array where a is.

    The order of the sum depends on n alone, not on threads: the library's up to 8,192 doubles, as SciPy's
    methods have it; one row up to 65,536 elements, else rows of 1,024.
    """
    if a.dtype == np.float64 and a.size <= 8192:
        return xp_of(a).dot(a, b)
    whole = a.size // CHUNK * CHUNK if a.size > 65536 else 0
    rest = a.size - whole
    dots = empty((whole // CHUNK + 1,), np.dtype(np.float64), device_of(a))
    if whole:
        DOT(a[:whole].reshape(-1, CHUNK), b[:whole].reshape(-1, CHUNK), dots[:-1])
    if rest:
        DOT(a[whole:].reshape(1, rest), b[whole:].reshape(1, rest), dots[-1:])
    else:
        dots[-1:] = 0
    return dots.sum() if whole else dots.reshape(())


def shift(x: Array, a: Any, d: Array) -> Array:
    """x <- x + a d in place, and x; a is a number or a 0-d array."""
    if x.size:
        number = to_device(np.array([a], np.float64), device_of(x)) if isinstance(a, (int, float)) else a
        SHIFT(d, xp_of(x).asarray(number, dtype=np.float64).reshape(1), x)
    return x


def moved(x: Array, a: Any, d: Array) -> Array:
    """x + a d"""
    return shift(x.copy(), a, d)


def times(a: Any, v: Array) -> Array:
    """a v in v's type; a is a number or a 0-d array."""
    return v * (v.dtype.type(a) if isinstance(a, (int, float)) else a.astype(v.dtype))


def finite(v: Array) -> bool:
    """Are all elements finite? One read of the device."""
    return bool(xp_of(v).isfinite(v).all())


def largest(v: Array) -> float:
    """max |v|, 0 of nothing. One read of the device."""
    return float(xp_of(v).abs(v).max()) if v.size else 0.0


class Flat:
    """Parameters, in their order, as one vector of n = `size` elements; see the module."""

    def __init__(self, params: Iterable[Tensor], label: Callable[[Tensor], str] = lambda p: "a parameter"):
        self.params, self.label = list(params), label
        house(self.params)
        self.device = self.params[0].device
        double = any(p.array.dtype == np.float64 for p in self.params)
        self.kind = np.dtype(np.float64 if double else np.float32)
        self.eps = 2.0**-52 if double else 2.0**-23  # rounding of a vector's elements
        stops = np.cumsum([p.array.size for p in self.params]).tolist()
        self.places = list(zip(self.params, [0, *stops], stops, strict=False))
        self.size: int = stops[-1]

    def zeros(self) -> Array:
        """The vector 0."""
        return full((self.size,), 0, self.kind, self.device)

    def read(self) -> Array:
        """The parameters, a copy."""
        return self.gather(self.params)

    def write(self, x: Array) -> None:
        """Set the parameters but frozen ones, which have no gradient and ask for none. Graphs that need
        their old values refuse to go on."""
        for p, start, stop in self.places:
            if p.grad is None and not p.requires_grad:
                continue
            p.array[...] = to_device(x[start:stop], p.device).reshape(p.array.shape)
        for arena in {id(p.arena): p.arena for p in self.params}.values():
            arena.version[0] += 1

    def gradient(self) -> Array:
        """The gradients that the parameters hold, a copy; those set by hand come into the arena."""
        for p in self.params:
            if p.grad is not None and p.grad is not p.slot:
                collect(p, self.label)
        return self.gather([None if p.grad is None else p.slot for p in self.params])

    def gather(self, tensors: Sequence[Tensor | None]) -> Array:
        """Tensors of the parameters' shapes as a vector; None counts as zeros."""
        v = self.zeros()
        for (_, start, stop), t in zip(self.places, tensors, strict=True):
            if t is not None:
                v[start:stop] = to_device(t.array, self.device).reshape(-1)
        return v

    def tensors(self, v: Array) -> list[Tensor]:
        """The parts of a vector as Tensors, of each parameter's shape, type and device."""
        parts = []
        for p, start, stop in self.places:
            part = to_device(v[start:stop], p.device).astype(p.array.dtype, copy=False)
            parts.append(Tensor(part.reshape(p.array.shape)))
        return parts

    def here(self, v: Any) -> Array:
        """A vector of a state (a Tensor) as an array of this type on this device, wherever it was kept."""
        return to_device(v.array, self.device).astype(self.kind, copy=False)
