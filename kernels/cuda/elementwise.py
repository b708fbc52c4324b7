"""An elementwise text as a cupy.ElementwiseKernel.

CuPy writes the loop over elements; the text runs on locals that are read once before it and written once
after it, as on the host: four loads and three stores for AdamW, where a body on CuPy's references would make
seven and four. All parameters have concrete types and scalars come in an array of T, so nothing is ever
converted, and a new learning rate compiles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernels.compiled import located
from kernels.cuda.arrays import apart, device_scalars
from kernels.cuda.preamble import CUPY_NAME, cupy_preamble
from kernels.dtypes import concrete
from kernels.kernel import Variant
from kernels.signature import Parameter

GUARD = "_unless"  # no name of a text begins so


def _cupy_name(p: Parameter) -> str:
    """Raw parameters keep their names, the text indexes them; the others lend theirs to a local."""
    return p.name if p.kind == "raw" else f"_{p.name}"


def elementwise_kernel(variant: Variant, letters: Mapping[str, str], guarded: bool = False) -> Any:
    """The cupy.ElementwiseKernel of one variant for one choice of types. Constructing it needs no GPU.

    guarded: it takes one more number, and leaves everything as it is where that is not 0.
    """
    import cupy

    declared: dict[bool, list[str]] = {False: [], True: []}
    before, after = [], []
    for p in variant.parameters:
        t = concrete(p.type, letters)
        declared[p.output].append(f"{'raw ' * (p.kind == 'raw')}{t} {_cupy_name(p)}")
        c = CUPY_NAME[t]
        if p.output:
            before.append(f"{c} {p.name}{f' = _{p.name}' * (p.name in variant.loaded)};")
            after.append(f"_{p.name} = {p.name};")
        elif p.kind != "raw":
            before.append(f"const {c} {p.name} = _{p.name};")
    for k, s in enumerate(variant.kernel.scalars):
        if s in variant.scalars:
            before.append(f"const T {s} = hp[{k}];")
    if "n" in variant.used:
        before.append(f"const {CUPY_NAME['int64']} n = _ind.size();")  # what CuPy calls the index of the loop
    if variant.scalars:
        declared[False].append(f"raw {letters['T']} hp")
    operation = "\n".join([*before, "{", located(variant) + "}", *after])
    if guarded:
        declared[False].append(f"raw float32 {GUARD}")
        operation = f"if ({GUARD}[0] == 0.0f) {{\n{operation}\n}}"
    types = [letters[k] for k in sorted(letters)] + ["unless"] * guarded
    name = "_".join(["mg", variant.kernel.name, *sorted(variant.flags), *types])
    return cupy.ElementwiseKernel(
        ", ".join(declared[False]),
        ", ".join(declared[True]),
        operation,
        name,
        no_return=True,
        preamble=cupy_preamble(letters),
        options=("--std=c++17",),
    )


class DeviceElementwise:
    """One variant on the GPU, for one choice of types; called with all arrays by name."""

    def __init__(self, variant: Variant, letters: Mapping[str, str], guarded: bool) -> None:
        self.variant, self.t = variant, letters["T"]
        self.kernel = elementwise_kernel(variant, letters, guarded)

    def __call__(self, arrays: Mapping[str, Any], shape: tuple[int, ...], scalars: Any, unless: Any) -> None:
        outputs = [(p, arrays[p.name]) for p in self.variant.outputs]
        args = [apart(p, arrays[p.name], outputs) for p in self.variant.parameters if not p.output]
        if self.variant.scalars:
            args.append(device_scalars(self.variant.kernel, scalars, self.t))
        if unless is not None:
            args.append(unless)
        self.kernel(*args, *(a for _, a in outputs))
