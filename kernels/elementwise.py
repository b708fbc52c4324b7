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

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kernels import machines
from kernels.compiled import NOT_DONE, Native, elementwise_source, native
from kernels.interpreted import Interpreted
from kernels.kernel import Kernel, Variant, caller
from kernels.signature import Parameter


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

    def execute(
        self, host: str, variant: Variant, letters: dict[str, str], kept: dict[str, Any], hp: Any
    ) -> Any:
        shape = self.full_shape(variant, kept)
        arrays = {p.name: kept[p.name] for p in variant.parameters}
        for p in variant.outputs:
            if arrays[p.name] is None:
                arrays[p.name] = np.empty(shape, self.output_dtype(p, letters, kept))
        results = [arrays[p.name] for p in variant.outputs]
        ready, back = self.untangle(variant, arrays)
        machine = self.machine(host, variant, letters)
        if isinstance(machine, Native):
            args: list[Any] = [None] * len(self.parameters)
            for a, k in zip(ready, variant.positions, strict=True):
                args[k] = a
            if why := machine.run(tuple(args), hp, machines.get_num_threads(), 1):
                raise RuntimeError(f"kernel {self.name!r} refused arrays that were checked: {NOT_DONE[why]}")
        else:
            machine.run(ready, shape, hp)
        for to, made in back:
            to[...] = made
        return results[0] if len(results) == 1 else tuple(results)

    def launch(
        self, variant: Variant, letters: dict[str, str], kept: dict[str, Any], scalars: Any, like: Any
    ) -> Any:
        import cupy

        from kernels.cuda.elementwise import elementwise_kernel, launch

        key = ("cuda", variant.flags, *sorted(letters.items()))
        if key not in self._machines:
            self._machines[key] = elementwise_kernel(variant, letters)
        shape = self.full_shape(variant, kept)
        arrays = dict(kept)
        for p in variant.outputs:
            if arrays[p.name] is None:
                arrays[p.name] = cupy.empty(shape, self.output_dtype(p, letters, kept))
        launch(self._machines[key], variant, letters, arrays, scalars)
        results = [arrays[p.name] for p in variant.outputs]
        return results[0] if len(results) == 1 else tuple(results)

    def full_shape(self, variant: Variant, kept: Mapping[str, Any]) -> tuple[int, ...]:
        """The shape of the outputs; ValueError naming the shapes when the arrays do not fit it."""
        iterated = {
            p.name: kept[p.name] for p in variant.parameters if p.kind != "raw" and kept[p.name] is not None
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

    def untangle(
        self, variant: Variant, arrays: Mapping[str, np.ndarray]
    ) -> tuple[list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
        """The arrays as the loops want them, and what to copy back afterwards."""
        ready, back = [], []
        outs = {p.name: arrays[p.name] for p in variant.outputs}
        for k, (name, a) in enumerate(outs.items()):
            if not a.flags.writeable:
                raise ValueError(
                    f"kernel {self.name!r}: output {name!r} is read-only; pass a writeable array"
                )
            for other, b in list(outs.items())[:k]:
                if np.may_share_memory(a, b) and np.shares_memory(a, b):
                    raise ValueError(
                        f"kernel {self.name!r}: the outputs {other!r} and {name!r} overlap in memory"
                    )
        for p in variant.parameters:
            a = np.asarray(arrays[p.name])  # a view of the plain array below a subclass
            if p.output:
                if not a.flags.aligned:
                    ready.append(a.copy())
                    back.append((a, ready[-1]))
                    continue
            elif (
                not a.flags.aligned
                or (p.kind == "raw" and not a.flags.c_contiguous)
                or self._meets(p, a, outs)
            ):
                a = a.copy()
            ready.append(a)
        return ready, back

    @staticmethod
    def _meets(p: Parameter, a: np.ndarray, outs: Mapping[str, np.ndarray]) -> bool:
        """Whether writing an output would change elements of this input that are still to be read."""
        return any(
            np.may_share_memory(a, b) and (p.kind == "raw" or not _same_place(a, b)) for b in outs.values()
        )

    def machine(self, host: str, variant: Variant, letters: Mapping[str, str]) -> Native | Interpreted:
        """The variant on a host machine, for these types; made once."""
        key = (host, variant.flags, *sorted(letters.items()))
        made = self._machines.get(key)
        if made is None:
            made = native(variant, letters, elementwise_source) if host == "compiled" else None
            made = self._machines[key] = made or Interpreted(variant, letters)
        return made

    def remember(
        self, key: tuple[Any, ...], variant: Variant, letters: Mapping[str, str], args: Sequence[Any]
    ) -> None:
        machine = self.machine("compiled", variant, letters)
        if not isinstance(machine, Native):
            return
        run, count = machine.run, len(args)
        wanted = [(k, p) for p, k in zip(variant.parameters, variant.positions, strict=True) if p.output]
        given = dict(zip((p.name for p in self.parameters), args, strict=False))
        made = [self.output_dtype(p, letters, given) for k, p in wanted if k >= count]
        filled = (None,) * (len(self.parameters) - count)
        shaped = [p.kind != "raw" for p in self.parameters]
        first = next((k for k in variant.positions if k < count and shaped[k]), 0)
        places = [k for k, _ in wanted]

        def complete(args: tuple[Any, ...], packed: Any) -> Any:
            """Every output was given."""
            if run(args, packed, machines.threads):
                return NotImplemented
            return args[places[0]] if len(places) == 1 else tuple([args[k] for k in places])

        def allocate(args: tuple[Any, ...], packed: Any) -> Any:
            """The outputs were left out: they get the first input's shape, unless the library objects."""
            shape = args[first].shape
            if len(places) == 1 and len(filled) == 1:
                out = np.empty(shape, made[0])
                return NotImplemented if run((*args, out), packed, machines.threads) else out
            whole = [*args, *filled]
            fresh = iter(made)
            for k in places:
                if k >= count:
                    whole[k] = np.empty(shape, next(fresh))
            if run(tuple(whole), packed, machines.threads):
                return NotImplemented
            return whole[places[0]] if len(places) == 1 else tuple([whole[k] for k in places])

        self._bound[key] = allocate if made else complete


def _same_place(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same elements in the same order."""
    same = a.__array_interface__["data"] == b.__array_interface__["data"]
    return same and a.shape == b.shape and a.strides == b.strides and a.itemsize == b.itemsize
