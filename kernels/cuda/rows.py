"""A rows text as a CUDA kernel.

    axis=-1   a block for each row; its threads take every blockDim.x-th element, a tree in shared memory
              makes one value of theirs
    axis=0    a block for 32 columns; blockDim.y threads take every blockDim.y-th row of each

The passes are those of the compiled machine, but what an element made in an earlier pass is always made
again: on a GPU arithmetic is cheaper than memory. No atomics: the same input gives the same bits. The order
of summation is not the host's, so sums agree to rounding only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.compiled_rows import START, Writer, join
from kernels.cuda.arrays import apart, device_scalars
from kernels.cuda.preamble import letter_types, preamble
from kernels.dtypes import C_NAME, concrete
from kernels.kernel import Variant
from kernels.stages import Pass, Reduce

_FOLDS = """
// Every thread of a group of `width` gives its part, and all get the whole; `step` lies between neighbours.
template <class A> struct Sum { static __device__ A join(A a, A b) { return a + b; } };
template <class A> struct Max { static __device__ A join(A a, A b) { return max(a, b); } };
template <class A> struct Min { static __device__ A join(A a, A b) { return min(a, b); } };
template <class Op, class A> __device__ A fold(A part, int place, int width, int step, int of_group) {
    __shared__ A room[1024];
    room[place * step + of_group] = part;
    __syncthreads();
    for (int w = width / 2; w; w /= 2) {
        if (place < w) {
            const int at = place * step + of_group;
            room[at] = Op::join(room[at], room[at + w * step]);
        }
        __syncthreads();
    }
    const A whole = room[of_group];
    __syncthreads();  // the next fold writes the same room
    return whole + A(0);
}
"""


def kernel_name(variant: Variant, letters: Mapping[str, str], guarded: bool = False) -> str:
    types = [letters[k] for k in sorted(letters)] + ["unless"] * guarded
    return "_".join(["mg", variant.kernel.name, *sorted(variant.flags), *types])


def rows_kernel(variant: Variant, letters: Mapping[str, str], guarded: bool = False) -> str:
    """The kernel itself; the preamble comes before it (or tests/cuda_on_cpu.h, to run it on a CPU).

    guarded: it takes one more number, and leaves everything as it is where that is not 0.
    """
    w = Writer(variant, letters, C_NAME)
    params = []
    for p in variant.parameters:
        const, c = "" if p.output else "const ", C_NAME[concrete(p.type, letters)]
        params.append(f"{const}{c}* {p.name}_{'raw' * (p.kind == 'raw')}")
    name = kernel_name(variant, letters, guarded)
    hp = ["const T* hp"] * bool(variant.scalars) + ["const float* _unless"] * guarded
    leave = "if (!(*_unless == 0.0f)) return;\n" * guarded
    body = _block_of_a_row(w) if w.axis == -1 else _block_of_columns(w)
    raws = " ".join(f"const auto* {p.name} = {p.name}_raw;" for p in variant.parameters if p.kind == "raw")
    return f"""namespace minigrad {{
{_FOLDS}
{letter_types(letters, C_NAME)}
extern "C" __global__ void {name}({", ".join([*params, *hp])}, int64 n, int64 rows) {{
{leave}{raws} {w.scalars()}
{body}
}}
}}
"""


def rows_source(variant: Variant, letters: Mapping[str, str], guarded: bool = False) -> str:
    """What NVRTC compiles."""
    return preamble() + rows_kernel(variant, letters, guarded)


def _line(w: Writer, loop: str, group: str, store: str) -> str:
    """The stages of one line: `loop` walks its elements, `group` says who folds, `store` who writes."""
    place = "i" if w.axis == -1 else "j"
    lines = []
    for q in w.lines:
        if not q.output:
            lines.append(f"const {w.c(q.name)} {q.name} = {q.name}_[{place}];")
        else:
            old = f" = {q.name}_[{place}]" if q.name in w.variant.loaded else ""
            lines.append(f"{w.c(q.name)} {q.name}{old};")
    across = "j" if w.axis == -1 else "i"
    at = {q.name: f"{q.name}_[i * n + j]" for q in w.matrices} | {
        q.name: f"{q.name}_[{across}]" for q in w.across
    }
    lines.append(w.located(w.stages.between[0]))
    for k, p in enumerate(w.stages.passes):
        lines.append(_walk(w, p, k == len(w.stages.passes) - 1, loop, group, at))
        lines.append(w.located(w.stages.between[k + 1]))
    stores = " ".join(f"{q.name}_[{place}] = {q.name};" for q in w.lines if q.output)
    if stores:
        lines.append(f"__syncthreads();  // an output may be an input\nif ({store}) {{ {stores} }}")
    return "\n".join(lines)


def _walk(w: Writer, p: Pass, last: bool, loop: str, group: str, at: Mapping[str, str]) -> str:
    found = p.reductions
    lines = [f"{w.c(r.name)} _{r.name}part = {_start(r.op, w.c(r.name))};" for r in found]
    lines += [loop + " {", w.element_loads(p, last, at), w.located(p.again)]
    lines += [w.steps(p, _into_part), w.element_stores(last, at), "}"]
    for r in found:
        c = w.c(r.name)
        fold = f"minigrad::fold<minigrad::{r.op.capitalize()}<{c}>>"
        lines.append(f"const {c} {r.name} = {fold}(_{r.name}part, {group});")
    return "\n".join(lines)


def _into_part(r: Reduce, value: str) -> str:
    return join(r.op, f"_{r.name}part", value)


def _start(op: str, c: str) -> str:
    infinity = "__int_as_float(0x7f800000)" if c == "float" else "__longlong_as_double(0x7ff0000000000000)"
    return START[op].replace("__builtin_inf()", infinity)


def _block_of_a_row(w: Writer) -> str:
    loop = "for (int64 j = threadIdx.x; j < n; j += blockDim.x)"
    inner = _line(w, loop, "threadIdx.x, blockDim.x, 1, 0", "threadIdx.x == 0")
    return f"for (int64 i = blockIdx.x; i < rows; i += gridDim.x) {{\n{inner}\n}}"


def _block_of_columns(w: Writer) -> str:
    loop = "for (int64 i = threadIdx.y; _inside && i < rows; i += blockDim.y)"
    inner = _line(w, loop, "threadIdx.y, blockDim.y, blockDim.x, threadIdx.x", "_inside && threadIdx.y == 0")
    return f"""const int64 _column = (int64)blockIdx.x * blockDim.x + threadIdx.x;
const bool _inside = _column < n;  // all threads fold, also those of no column
const int64 j = _inside ? _column : n - 1;
{inner}"""


def grid(axis: int, rows: int, n: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Blocks and threads for a matrix."""
    if axis == 0:
        return (-(-n // 32), 1), (32, 32 if rows > 256 else 8)
    threads = 32
    while threads < 512 and threads * 4 < n:
        threads *= 2
    return (min(rows, 2**31 - 1), 1), (threads, 1)


class DeviceRows:
    """One variant on the GPU, for one choice of types; called with all arrays by name."""

    def __init__(self, variant: Variant, letters: Mapping[str, str], guarded: bool) -> None:
        import cupy

        self.variant, self.t = variant, letters["T"]
        kernel: Any = variant.kernel
        self.axis = kernel.axis
        name, source = kernel_name(variant, letters, guarded), rows_source(variant, letters, guarded)
        self.kernel = cupy.RawKernel(source, name, options=("--std=c++17",))

    def __call__(self, arrays: Mapping[str, Any], shape: tuple[int, ...], scalars: Any, unless: Any) -> None:
        n = shape[-1]
        rows = int(np.prod(shape[:-1], dtype=np.int64))
        if (rows if self.axis == -1 else n) == 0:
            return
        ready, back = self._untangle(arrays)
        if self.variant.scalars:
            ready.append(device_scalars(self.variant.kernel, scalars, self.t))
        if unless is not None:
            ready.append(unless)
        blocks, threads = grid(self.axis, rows, n)
        self.kernel(blocks, threads, (*ready, np.int64(n), np.int64(rows)))
        for to, made in back:
            to[...] = made

    def _untangle(self, arrays: Mapping[str, Any]) -> tuple[list[Any], list[tuple[Any, Any]]]:
        """Arrays without gaps, where inputs meet outputs only element for element; what to copy back."""
        ready, back = [], []
        outputs = [(p, arrays[p.name]) for p in self.variant.outputs]
        for p in self.variant.parameters:
            a = arrays[p.name]
            if not p.output:
                a = apart(p, a, outputs)
            if not a.flags.c_contiguous:
                a = a.copy(order="C")
                if p.output:
                    back.append((arrays[p.name], a))
            ready.append(a)
        return ready, back
