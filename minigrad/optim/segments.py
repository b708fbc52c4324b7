"""Segments: which tensor each chunk of a run belongs to, for norms per tensor over one flat buffer.

    tensors   |    w     | b |     e     |        a run of an arena: whole tensors, side by side
    chunks    | 0  1  2  | 3 | 4  5  6   |        1,024 elements each; the pads in the last one are zero
    seg       | 0  0  0  | 1 | 2  2  2   |        chunk -> tensor
    first     | 0          3   4                  tensor -> its first chunk
    used      | 1 1 1 / 1 0 0 / 1 1 1             (tensor, k) -> has it a k-th chunk?
    thin      | 0          1   0                  has it fewer than two dimensions?

All lie on the run's device, are made once for a run and kept with its arena: a step makes none, and reads
nothing back. `used` has tensors x (chunks of the largest) bytes, at most `tensors`/1,024 bytes a parameter.
Tensors without elements have no chunks and no place here.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..arena import CHUNK, Arena
from ..backend import Array, empty, to_device
from .optimizer import Run


class Segments:
    """The tensors of one run, as arrays of int32 on its device; see the module."""

    def __init__(self, run: Run):
        params = [p for p in run.params if p.stop > p.offset]
        self.device = run.arena.device
        self.kind = np.dtype(np.float64 if run.arena.dtype == np.float64 else np.float32)
        self.chunks = (run.stop - run.start) // CHUNK
        self.tensors = len(params)
        self.counts = np.array([(p.stop - p.offset) // CHUNK for p in params])
        self.offsets = np.array([(p.offset - run.start) // CHUNK for p in params])
        self.slender = np.array([p.ndim < 2 for p in params])

    def upload(self, values: Any, kind: Any = np.int32) -> Array:
        """A host array on the run's device."""
        return to_device(np.ascontiguousarray(values, kind), self.device)

    @cached_property
    def seg(self) -> Array:
        """chunk -> tensor"""
        return self.upload(np.repeat(np.arange(self.tensors), self.counts))

    @cached_property
    def first(self) -> Array:
        """tensor -> its first chunk in the run"""
        return self.upload(self.offsets)

    @cached_property
    def used(self) -> Array:
        """(tensor, k) -> 1 if the tensor has a k-th chunk"""
        return self.upload(np.arange(self.counts.max()) < self.counts[:, None], np.uint8)

    @cached_property
    def thin(self) -> Array:
        """tensor -> 1 if it has fewer than two dimensions"""
        return self.upload(self.slender)

    @cached_property
    def thin_chunks(self) -> Array:
        """chunk -> 1 if its tensor has fewer than two dimensions"""
        return self.upload(np.repeat(self.slender, self.counts))

    def of_chunks(self) -> Array:
        """Room for a number of each chunk, in the type that is computed in."""
        return empty((self.chunks,), self.kind, self.device)

    def of_tensors(self) -> Array:
        """Room for a number of each tensor."""
        return empty((self.tensors,), self.kind, self.device)


_known: WeakKeyDictionary[Arena, dict[tuple[int, int], Segments]] = WeakKeyDictionary()


def segments(run: Run) -> Segments:
    """The segments of a run, made at its first step."""
    known = _known.setdefault(run.arena, {})
    key = (run.start, run.stop)
    if key not in known:
        known[key] = Segments(run)
    return known[key]


def chunks(piece: Array) -> Array:
    """A run's part of a buffer as a matrix of chunks."""
    return piece.reshape(-1, CHUNK)
