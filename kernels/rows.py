"""Rows: one text of reductions and maps over the rows of a matrix, run where the arrays are.

    SOFTMAX = Rows("softmax", "S x", "S y", \"\"\"
        T m = max(T(x));
        T e = exp(T(x) - m);
        T s = sum(e);
        y = e / s;
    \"\"\")

`max`, `min` and `sum` of one argument reduce along the row: what they give is one value a row. With axis=0
they reduce along the column. Parameters: `S x` a matrix, `row T lse` one value a row, `col T b` one value a
column, `raw` indexed. `i` is the row, `j` the column, `n` the row length, `rows` their number.

Arrays of shape (..., C) are matrices of C columns; `row` arrays then have the shape (...), `col` arrays
(C,). Arrays with gaps are copied first. A sum of nothing is 0; the largest of nothing raises. The order of
summation is fixed (rows.h), so the compiled and the NumPy machine agree to the bit, on any number of
threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kernels.call import Kernel
from kernels.errors import KernelError
from kernels.kernel import Variant, caller
from kernels.signature import Parameter
from kernels.stages import ELEMENT, LINE, UNIFORM, Planner, Stages


class Rows(Kernel):
    """Reductions and maps over the rows (axis=-1) or columns (axis=0) of a matrix; see the module."""

    kinds = ("row", "col", "raw")
    builtins = ("i", "j", "n", "rows")
    reduces = True
    contiguous = True

    def __init__(
        self,
        name: str,
        inputs: str,
        outputs: str,
        body: str,
        *,
        axis: int = -1,
        scalars: str = "",
        flags: str = "",
        doc: str = "",
    ) -> None:
        if axis not in (-1, 0):
            raise KernelError(name, "declaration", f"axis={axis}", "reduces along rows (-1) or columns (0)")
        self.axis = axis
        self._stages: dict[frozenset[str], Stages] = {}
        super().__init__(name, inputs, outputs, body, scalars, flags, doc, caller())

    def finish(self, variant: Variant) -> None:
        if not any(p.kind == "array" for p in variant.parameters):
            raise KernelError(self.name, "declaration", self.name, "needs a matrix, like 'S x'")
        across = "col" if self.axis == -1 else "row"
        for p in variant.outputs:
            if p.kind == across:
                cure = f"differs along the lines of axis={self.axis}, so it cannot be an output"
                raise KernelError(self.name, "outputs", f"{across} {p.name}", cure)
        outputs = [p.name for p in variant.outputs if p.kind == "array"]
        planner = Planner(self.name, self.levels(variant), outputs, self.axis)
        self._stages[variant.flags] = planner.plan(variant.statements)

    def levels(self, variant: Variant) -> dict[str, int]:
        """What the names a text starts with differ along."""
        line, across = ("row", "col") if self.axis == -1 else ("col", "row")
        of_kind = {"array": ELEMENT, line: LINE, across: ELEMENT, "raw": UNIFORM}
        levels = {p.name: of_kind[p.kind] for p in variant.parameters}
        levels |= dict.fromkeys((*self.scalars, "n", "rows"), UNIFORM)
        return levels | ({"i": LINE, "j": ELEMENT} if self.axis == -1 else {"i": ELEMENT, "j": LINE})

    def stages(self, variant: Variant) -> Stages:
        """The passes of one variant."""
        return self._stages[variant.flags]

    def full_shape(self, variant: Variant, arrays: Mapping[str, Any]) -> tuple[int, ...]:
        given = {
            p: arrays[p.name] for p in variant.parameters if p.kind != "raw" and arrays[p.name] is not None
        }
        shapes = ", ".join(f"{p.name} {a.shape}" for p, a in given.items())
        shape = next((a.shape for p, a in given.items() if p.kind == "array"), None)
        if not shape:
            raise ValueError(f"kernel {self.name!r} needs a matrix of shape (..., C): {shapes or 'no array'}")
        for p, a in given.items():
            if a.shape != self.output_shape(p, shape):
                wanted = self.output_shape(p, shape)
                raise ValueError(f"kernel {self.name!r}: {p.name!r} must have the shape {wanted}: {shapes}")
        lines, length = math.prod(shape[:-1]), shape[-1]
        if self.axis == 0:
            lines, length = length, lines
        picks = any(r.op != "sum" for p in self.stages(variant).passes for r in p.reductions)
        if length == 0 and lines > 0 and picks:
            raise ValueError(f"kernel {self.name!r}: there is no largest or smallest of nothing: {shapes}")
        return shape

    def output_shape(self, p: Parameter, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if p.kind == "array" else shape[:-1] if p.kind == "row" else shape[-1:]

    def _launch(
        self,
        variant: Variant,
        letters: Mapping[str, str],
        arrays: Mapping[str, Any],
        passed: tuple[Any, ...],
        scalars: Any,
        flags: Any,
        unless: Any,
    ) -> Any:
        # An array may launch for itself, as CuPy's elementwise kernels allow; the fake device does.
        for a in passed:
            if hasattr(type(a), "__minigrad_launch__"):
                return a.__minigrad_launch__(self, passed, scalars, flags, unless)
        return super()._launch(variant, letters, arrays, passed, scalars, flags, unless)

    def host_source(self, variant: Variant, letters: Mapping[str, str]) -> str:
        from kernels.compiled_rows import rows_source

        return rows_source(variant, letters)

    def interpreter(self, variant: Variant, letters: Mapping[str, str]) -> Any:
        from kernels.interpreted_rows import InterpretedRows

        return InterpretedRows(variant, letters)

    def device_kernel(self, variant: Variant, letters: Mapping[str, str], guarded: bool) -> Any:
        from kernels.cuda.rows import DeviceRows

        return DeviceRows(variant, letters, guarded)
