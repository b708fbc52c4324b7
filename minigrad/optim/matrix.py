"""What the matrix rules (Shampoo, Muon, SOAP) share: how a tensor is a matrix, state that is matrices, and
the decompositions.

    filters   (O, I, kh, kw) -> (O, I kh kw)     one row an output, as the layer's own matrix product has it
    vectors   (n,)                               as they are; a scalar is a vector of one element

One rule for all three, `matrix_view`. Shampoo and SOAP take tensors of any order as they are, unless told
as_matrix; Muon is about matrices alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from ..arena import Arena
from ..backend import Array, device_of, full, to_device, xp_of
from ..ops.products import product
from ..tensor import Tensor
from .groups import number
from .optimizer import Optimizer

Shape = tuple[int, ...]


def matrix_view(shape: Shape) -> Shape:
    """The shape of a tensor as a matrix: its first dimension, and all others; at most one stays a vector."""
    return (shape[0], prod(shape[1:])) if len(shape) > 1 else shape or (1,)


def merged(shape: Shape, limit: int) -> Shape:
    """Neighbouring dimensions made one while their product is at most `limit`: (64, 3, 5, 5) at 100 is
    (64, 75). Dimensions of one element disappear."""
    found: list[int] = []
    for n in shape:
        if found and found[-1] * n <= limit:
            found[-1] *= n
        elif n > 1:
            found.append(n)
    return tuple(found) or (1,)


def compute_kind(arena: Arena) -> np.dtype:
    """The type that an arena's rules compute in: float32 for half storage."""
    return np.dtype(np.float64 if arena.dtype == np.float64 else np.float32)


def matmul(a: Array, b: Array) -> Array:
    """a @ b. On a device one launch of cuBLAS for any layout, which a graph can capture; on the host always
    NumPy's, so that the bits do not depend on the machine that the kernels run on."""
    return np.matmul(a, b) if type(a) is np.ndarray else product(a, b)


def eigh(a: Array) -> tuple[Array, Array]:
    """(w, V) of a symmetric matrix, w ascending.

    Where float32 does not converge float64 is tried; where that does not either, because the matrix holds nan
    or inf, all is nan, as on a device, where nobody is told: the parameters show it then.
    """
    xp = xp_of(a)
    for kind in dict.fromkeys((a.dtype, np.dtype(np.float64))):
        try:
            w, v = xp.linalg.eigh(a.astype(kind))
            return w.astype(a.dtype), v.astype(a.dtype)
        except np.linalg.LinAlgError:
            continue
    return full(a.shape[:1], np.nan, a.dtype, device_of(a)), full(a.shape, np.nan, a.dtype, device_of(a))


def check_count(rule: str, name: str, value: Any, low: int = 1) -> None:
    """ValueError unless the value is a whole number of at least `low`."""
    if number(rule, name, value, low) != int(value):
        raise ValueError(f"{rule}: Invalid {name}: {value}; it must be a whole number")


class MatrixRule(Optimizer):
    """Base of rules whose state is matrices besides slots of the arena. A subclass defines

    vectors       the names of a group's slots, as long as the arena
    matrices_of   the names of a parameter's matrices, and their shapes
    """

    def prepare(self, defaults: dict[str, Any]) -> None:
        super().prepare(defaults)
        self.shapes: dict[Tensor, Mapping[str, Shape]] = {}
        self.matrices: dict[Tensor, dict[str, Array]] = {}

    def vectors(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The names of a group's slots of the arena."""
        return ()

    def matrices_of(self, p: Tensor, group: dict[str, Any]) -> Mapping[str, Shape]:
        """Name -> shape of the matrices that a parameter has."""
        return {}

    def slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        return self.vectors(group)

    def slots_of(self, p: Tensor, group: dict[str, Any]) -> tuple[str, ...]:
        self.shapes[p] = self.matrices_of(p, group)
        return (*self.vectors(group), *self.shapes[p])

    def shape_of(self, p: Tensor, name: str) -> Shape:
        return self.shapes.get(p, {}).get(name, p.array.shape)

    def place(self, p: Tensor, name: str) -> Array:
        shape = self.shapes.get(p, {}).get(name)
        return super().place(p, name) if shape is None else self.matrix(p, name, shape)

    def matrix(self, p: Tensor, name: str, shape: Shape) -> Array:
        """One of a parameter's matrices, where its arena is now; zeros at first."""
        held, where, kind = self.matrices.setdefault(p, {}), p.arena.device, compute_kind(p.arena)
        found = held.get(name)
        if found is None or found.shape != shape:
            held[name] = full(shape, 0, kind, where)
        elif found.dtype != kind or device_of(found) != where:
            held[name] = to_device(found, where).astype(kind)
        return held[name]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k not in ("shapes", "matrices")}
