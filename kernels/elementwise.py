"""Elementwise: one C text over arrays, run where the arrays are.

    ADAGRAD = Elementwise("adagrad", "S g", "S p, T s", scalars="lr eps weight_decay", body=\"\"\"
        T d = T(g) + weight_decay * T(p);      // L2 penalty
        T sum = s + d * d;                     // sum of squares so far
        s = sum;
        p = T(p) - lr * d / (sqrt(sum) + eps);
    \"\"\")
    ADAGRAD(g, p, s, scalars=dict(lr=0.1, eps=1e-10, weight_decay=0.0))

Inputs broadcast as NumPy's do; outputs have the full shape and are written in place, or allocated when left
out. `i` is the element's index in C order and `n` the number of elements; a `raw` parameter is indexed,
`seg[i >> 10]`, and an index outside it is the caller's error. An output may be one of the inputs; if they
overlap in any other way, the input is copied first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.call import Kernel
from kernels.kernel import Variant, caller


class Elementwise(Kernel):
    """y[i] = text(x[i]) for every i; see the module's docstring for the language and the call."""

    kinds = ("raw",)
    builtins = ("i", "n")

    def __init__(
        self,
        name: str,
        inputs: str,
        outputs: str,
        body: str,
        *,
        scalars: str = "",
        flags: str = "",
        doc: str = "",
    ) -> None:
        super().__init__(name, inputs, outputs, body, scalars, flags, doc, caller())

    def full_shape(self, variant: Variant, arrays: Mapping[str, Any]) -> tuple[int, ...]:
        iterated = {
            p.name: arrays[p.name]
            for p in variant.parameters
            if p.kind != "raw" and arrays[p.name] is not None
        }
        shapes = ", ".join(f"{k} {a.shape}" for k, a in iterated.items())
        if not iterated:
            raise TypeError(f"kernel {self.name!r} has no input that gives a shape: pass its outputs")
        try:
            shape = np.broadcast_shapes(*(a.shape for a in iterated.values()))
        except ValueError:
            raise ValueError(f"kernel {self.name!r}: the shapes do not broadcast: {shapes}") from None
        for p in variant.outputs:
            if p.name in iterated and iterated[p.name].shape != shape:
                raise ValueError(
                    f"kernel {self.name!r}: output {p.name!r} must have the full shape {shape}: {shapes}"
                )
        return shape

    def host_source(self, variant: Variant, letters: Mapping[str, str]) -> str:
        from kernels.compiled import elementwise_source

        return elementwise_source(variant, letters)

    def interpreter(self, variant: Variant, letters: Mapping[str, str]) -> Any:
        from kernels.interpreted import Interpreted

        return Interpreted(variant, letters)

    def device_kernel(self, variant: Variant, letters: Mapping[str, str], guarded: bool) -> Any:
        from kernels.cuda.elementwise import DeviceElementwise

        return DeviceElementwise(variant, letters, guarded)
