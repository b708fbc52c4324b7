"""Rows on the NumPy machine: the steps in the order they are written, on blocks of whole rows.

Values of the line are arrays of shape (rows, 1), or (1, n) with axis=0, so that NumPy's broadcasting does
what the compiled passes do. The reductions add in the order that rows.h defines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kernels.dtypes import promoted
from kernels.kernel import Variant
from kernels.stages import LINE, Reduce
from kernels.translate import Translator, Value, compile_python, load

BLOCK = 16384
LANES, CHUNK = 16, 128


def _sum_rows(x: np.ndarray) -> np.ndarray:
    """(R, n) -> (R, 1): lane l adds the elements l, l + 16, ...; the lanes are added as a tree."""
    rows, n = x.shape
    steps = -(-n // LANES)
    padded = np.zeros((rows, steps * LANES), x.dtype)
    padded[:, :n] = x
    lanes = np.add.reduce(padded.reshape(rows, steps, LANES), axis=1)  # one step after the other
    width = LANES // 2
    while width:
        lanes = lanes[:, :width] + lanes[:, width : 2 * width]
        width //= 2
    return lanes + x.dtype.type(0)


def _sum_columns(x: np.ndarray) -> np.ndarray:
    """(R, n) -> (1, n): rows are added in order within chunks of 128, and the chunks in order."""
    total = np.zeros(x.shape[1:], x.dtype)
    for at in range(0, len(x), CHUNK):
        chunk = x[at : at + CHUNK]
        # NumPy adds the rows of a matrix in order, but a single column in pairs
        total += np.add.reduce(chunk, axis=0) if x.shape[1] > 1 else np.add.accumulate(chunk, axis=0)[-1]
    return total[None]


def reducer(op: str, axis: int) -> Any:
    """The function of (values, shape of the block) that reduces along the line."""
    if op == "sum":
        add = _sum_rows if axis == -1 else _sum_columns
        return lambda x, shape: add(np.broadcast_to(x, shape))
    pick = np.max if op == "max" else np.min
    # a zero is +0, whichever sign came last; an empty block has no lines
    return lambda x, shape: pick(np.broadcast_to(x, shape), axis=axis, keepdims=True) + x.dtype.type(0)


class InterpretedRows:
    """A rows variant as a Python function of blocks of rows."""

    short = None  # every call is looked at

    def __init__(self, variant: Variant, letters: Mapping[str, str]) -> None:
        kernel: Any = variant.kernel
        self.variant, self.axis = variant, kernel.axis
        scope = variant.scope(letters)
        translator = Translator(scope, kernel.levels(variant))
        for p in variant.parameters:
            if p.kind != "raw" and (not p.output or p.name in variant.loaded):
                translator.lines.append(load(p.name, scope.types[p.name]))
        for s in kernel.stages(variant).steps:
            if not isinstance(s, Reduce):
                translator.statement(s, None)
                continue
            t = promoted(scope.type_of(s.value))
            value = translator.convert(translator.expression(s.value, None), t)
            scope.types[s.name] = t
            translator.names[f"{s.op}_line_"] = reducer(s.op, self.axis)
            translator.bind(s.name, Value(f"{s.op}_line_({value.code}, shape_)", t, True, LINE))
        translator.store([p.name for p in variant.outputs])
        arguments = [p.name if p.kind == "raw" else f"{p.name}_" for p in variant.parameters]
        signature = ", ".join([*arguments, *kernel.scalars, "i", "j", "n", "rows", "shape_"])
        self.function = compile_python("run_", signature, translator.lines, translator.names)

    def run(self, arrays: Sequence[np.ndarray], shape: tuple[int, ...], hp: np.ndarray | None) -> None:
        """Run over contiguous arrays; outputs are written in place."""
        n = shape[-1]
        rows = int(np.prod(shape[:-1], dtype=np.int64))
        scalars = (None,) * len(self.variant.kernel.scalars) if hp is None else tuple(hp)
        step = max(1, BLOCK // max(n, 1)) if self.axis == -1 else max(rows, 1)
        with np.errstate(all="ignore"):
            for at in range(0, rows if self.axis == -1 else 1, step):
                block = (min(step, rows - at), n)
                views = [self._view(p.kind, a, at, block) for p, a in zip(self.variant.parameters, arrays)]
                i = np.arange(at, at + block[0], dtype=np.int64)[:, None]
                j = np.arange(n, dtype=np.int64)[None]
                across = np.broadcast_to(j if self.axis == -1 else i, block)
                i, j = (i, across) if self.axis == -1 else (across, j)
                self.function(*views, *scalars, i, j, np.int64(n), np.int64(rows), block)

    def _view(self, kind: str, a: np.ndarray, at: int, block: tuple[int, int]) -> np.ndarray:
        """The part of an array that belongs to a block of rows, with a place for each of its two axes."""
        count, n = block
        if kind == "array":
            return a.reshape(-1, n)[at : at + count] if n else a.reshape(count, 0)
        if kind == "row":
            part = a.reshape(-1, 1)[at : at + count]
            return part if self.axis == -1 else np.broadcast_to(part, block)
        if kind == "col":
            return a[None] if self.axis == 0 else np.broadcast_to(a, block)
        return a
