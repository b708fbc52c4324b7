"""The machine that always works: a text as NumPy expressions (translate.py), in blocks that stay in cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kernels.kernel import Variant
from kernels.translate import UNIFORM, Translator, compile_python, load

BLOCK = 16384


class Interpreted:
    """An elementwise variant as a Python function of blocks."""

    short = None  # every call is looked at

    def __init__(self, variant: Variant, letters: Mapping[str, str]) -> None:
        scope = variant.scope(letters)
        levels = dict.fromkeys((*variant.kernel.scalars, "n"), UNIFORM)
        translator = Translator(scope, levels)
        self.variant, self.indexed = variant, "i" in variant.used
        iterated = [p for p in variant.parameters if p.kind != "raw"]
        for p in iterated:
            if not p.output or p.name in variant.loaded:
                translator.lines.append(load(p.name, scope.types[p.name]))
        for s in variant.statements:
            translator.statement(s, None)
        translator.store([p.name for p in variant.outputs])
        arguments = [p.name if p.kind == "raw" else f"{p.name}_" for p in variant.parameters]
        signature = ", ".join([*arguments, *variant.kernel.scalars, "i", "n"])
        self.function = compile_python("run_", signature, translator.lines, translator.names)

    def run(self, arrays: Sequence[np.ndarray], shape: tuple[int, ...], hp: np.ndarray | None) -> None:
        """Run over full-shape arrays (raw ones excepted); outputs are written in place."""
        kinds = [p.kind == "raw" for p in self.variant.parameters]
        scalars = (None,) * len(self.variant.kernel.scalars) if hp is None else tuple(hp)
        n = int(np.prod(shape, dtype=np.int64))
        if n == 0:
            return
        flat = all(
            raw or (a.shape == shape and a.flags.c_contiguous) for a, raw in zip(arrays, kinds, strict=True)
        )
        if flat:
            views = [a if raw else a.reshape(-1) for a, raw in zip(arrays, kinds, strict=True)]
            step, rows, inner = BLOCK, n, 1
        else:
            views = []
            for a, raw in zip(arrays, kinds, strict=True):
                views.append(a if raw else np.broadcast_to(a, shape) if a.shape != shape else a)
            rows, inner = shape[0], n // shape[0]
            step = max(1, BLOCK // inner)
        with np.errstate(all="ignore"):
            for at in range(0, rows, step):
                block = [v if raw else v[at : at + step] for v, raw in zip(views, kinds, strict=True)]
                count = min(step, rows - at)
                i = None
                if self.indexed:
                    i = np.arange(at * inner, (at + count) * inner, dtype=np.int64)
                    i = i if flat else i.reshape(count, *shape[1:])
                self.function(*block, *scalars, i, np.int64(n))
