"""The machine of a computer with a C++ compiler: the text pasted into a loop, built once, called directly.

    struct element {
        static void flat(p, hp, first, count, n) {
            const T lr = hp[0];                            the scalars, by name
            for (j = 0; j < count; j++) {
                const S g = g_[j];  S p = p_[j];           load
                <the text, as it was written>
                p_[j] = p;                                 store once
            }
        }
    };

Outputs become locals, so the compiler need not fear that storing `m` changes `g`, and the loop becomes vector
code. The loop round it (loop.h) handles shapes, strides and threads.

The library reads NumPy's arrays itself, out of the tuple of arguments. That is checked once against an array
whose layout is known; on a Python with other layouts the pointers are passed as numbers instead.
"""

from __future__ import annotations

import ctypes
import functools
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels import machines
from kernels.dtypes import C_NAME, concrete
from kernels.kernel import Variant
from kernels.signature import Parameter

HERE = Path(__file__).parent
NOT_DONE = (
    "done",
    "an argument is not a NumPy array",
    "shapes differ",
    "a flag is missing",
    "arrays overlap",
)


def letter_types(letters: Mapping[str, str]) -> str:
    return "".join(f"typedef {C_NAME[t]} {letter};\n" for letter, t in sorted(letters.items()))


def pointer(p: Parameter, letters: Mapping[str, str], k: int, shift: str = "") -> str:
    """The declaration of a parameter's pointer: `p_` for an iterated `p`, `p` itself for a raw one."""
    c = C_NAME[concrete(p.type, letters)]
    const = "" if p.output else "const "
    name = p.name if p.kind == "raw" else f"{p.name}_"
    return f"{const}{c}* const {name} = ({const}{c}*)_p[{k}]{shift};"


def located(variant: Variant) -> str:
    """The text, with the place in the Python file that a compiler's message should name."""
    kernel = variant.kernel
    return f'#line {kernel.line} "{kernel.file}"\n{variant.text}\n#line 1 "generated"\n'


def elementwise_source(variant: Variant, letters: Mapping[str, str]) -> str:
    """The C++ of one elementwise kernel for one choice of types."""
    params = variant.parameters
    c = [C_NAME[concrete(p.type, letters)] for p in params]
    kinds = [_kind(p, variant) for p in params]
    loads, stores = [], []
    for p, t in zip(params, c, strict=True):
        if p.kind == "raw":
            continue
        if not p.output:
            loads.append(f"const {t} {p.name} = {p.name}_[_j];")
        else:
            loads.append(f"{t} {p.name} = {p.name}_[_j];" if p.name in variant.loaded else f"{t} {p.name};")
            stores.append(f"{p.name}_[_j] = {p.name};")
    hp = [f"const T {s} = hp[{k}];" for k, s in enumerate(variant.kernel.scalars) if s in variant.scalars]
    return f"""{(HERE / "preamble.h").read_text()}
{(HERE / "loop.h").read_text()}
namespace minigrad {{
namespace {{  // every library has its own `element`; with a name of its own none can be taken for another's
{letter_types(letters)}
struct element {{
    typedef {C_NAME[letters["T"]]} T;
    enum {{ arrays = {len(params)}, scalars = {variant.wants} }};
    static constexpr Kind kinds[] = {{{", ".join(kinds)}}};
    static constexpr int64 sizes[] = {{{", ".join(f"sizeof({t})" for t in c)}}};
    static constexpr int where[] = {{{", ".join(map(str, variant.positions))}}};
    static void flat(char* const* _p, const T* hp, int64 _first, int64 _count, const int64 n) {{
        {" ".join(pointer(p, letters, k) for k, p in enumerate(params))}
        {" ".join(hp)}
#pragma omp simd
        for (int64 _j = 0; _j < _count; _j++) {{
            const int64 i = _first + _j;
            {" ".join(loads)}
            {{
{located(variant)}            }}
            {" ".join(stores)}
        }}
    }}
}};
}}
}}
{ENTRY}"""


def _kind(p: Parameter, variant: Variant) -> str:
    if p.kind == "raw":
        return "RAW"
    return "INPUT" if not p.output else "LOADED" if p.name in variant.loaded else "OUTPUT"


ENTRY = """
using namespace minigrad;
extern "C" int run(const PyTuple* args, const double* doubles, const PyArray* given, int threads,
                   int checked) {
    Array a[element::arrays];
    element::T room[element::scalars + 1];
    const element::T* hp;
    if (int why = read_call<element>(args, doubles, given, a, room, &hp)) return why;
    return launch<element>(a, hp, threads, checked);
}
extern "C" int run_numbers(const int64* numbers, const void* hp, int threads, int checked) {
    Array a[element::arrays];
    read_numbers<element>(numbers, a);
    return launch<element>(a, (const element::T*)hp, threads, checked);
}
extern "C" void know(const void* type) { ndarray_type = type; }
"""

_LAYOUT = f"""{(HERE / "preamble.h").read_text()}
using namespace minigrad;
extern "C" int agrees(const PyTuple* args, const int64* numbers) {{
    const PyArray* a = args->items[0];
    if (args->size != 1 || a->type != (const void*)numbers[0] || a->data != (char*)numbers[1]) return 0;
    if (a->nd != 3 || (a->flags & 0x501) != numbers[2]) return 0;
    for (int d = 0; d < 3; d++)
        if (a->dims[d] != numbers[3 + d] || a->strides[d] != numbers[6 + d]) return 0;
    return 1;
}}
"""


@functools.cache
def layout_known() -> bool:
    """Whether this Python lays out tuples and arrays as preamble.h reads them; tried on two arrays."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    from kernels.cache import build

    agrees = build("layout", _LAYOUT).agrees
    agrees.argtypes = [ctypes.py_object, ctypes.c_void_p]
    for a in (np.zeros((2, 3, 5), np.float32), np.zeros((7, 5, 3), np.float64)[::2].transpose(2, 0, 1)):
        flags = a.flags.c_contiguous * 1 + a.flags.aligned * 0x100 + a.flags.writeable * 0x400
        numbers = np.array([id(np.ndarray), a.ctypes.data, flags, *a.shape, *a.strides], np.int64)
        if not agrees((a,), numbers.ctypes.data):
            return False
    return True


class Native:
    """A built kernel: `run` does what every machine does, with arrays that were looked at.

    `short(args, packed, threads, checked)` takes a call's arguments as they are, and gives 0, or an index
    into NOT_DONE.
    """

    def __init__(self, library: ctypes.CDLL, variant: Variant, t: str) -> None:
        self.variant, self.t = variant, np.dtype(t)
        library.know.argtypes = [ctypes.c_void_p]
        library.know(id(np.ndarray))
        self._direct = library.run
        self._direct.argtypes = [
            ctypes.py_object,
            ctypes.c_char_p,
            ctypes.py_object,
            ctypes.c_int,
            ctypes.c_int,
        ]
        self._numbers = library.run_numbers
        self._numbers.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        self.short: Callable[..., int] = self._direct_call if layout_known() else self._call_of_numbers

    def run(self, arrays: Sequence[np.ndarray], shape: tuple[int, ...], hp: np.ndarray | None) -> None:
        """Run over the variant's arrays, which have been checked; outputs are written in place."""
        kernel = self.variant.kernel
        args: list[Any] = [None] * len(kernel.parameters)
        for a, k in zip(arrays, self.variant.positions, strict=True):
            args[k] = a
        if why := self.short(tuple(args), hp, machines.get_num_threads(), 1):
            raise RuntimeError(f"kernel {kernel.name!r} refused arrays that were checked: {NOT_DONE[why]}")

    def _direct_call(self, args: tuple[Any, ...], packed: Any, threads: int, checked: int = 0) -> int:
        if type(packed) is bytes or packed is None:
            return self._direct(args, packed, None, threads, checked)
        if packed.dtype != self.t:
            return 1
        return self._direct(args, None, packed, threads, checked)

    def _call_of_numbers(self, args: tuple[Any, ...], packed: Any, threads: int, checked: int = 0) -> int:
        numbers: list[int] = []
        for k in self.variant.positions:
            a = args[k]
            if type(a) is not np.ndarray:
                return 1
            flags = a.flags
            mask = flags.c_contiguous * 1 + flags.aligned * 0x100 + flags.writeable * 0x400
            numbers += [a.ctypes.data, mask, a.ndim, *a.shape, *a.strides]
        if isinstance(packed, bytes):
            packed = np.frombuffer(packed).astype(self.t)
        elif packed is not None and (packed.dtype != self.t or not packed.flags.c_contiguous):
            return 1
        written = (ctypes.c_int64 * len(numbers))(*numbers)
        return self._numbers(written, None if packed is None else packed.ctypes.data, threads, checked)


def native(variant: Variant, letters: Mapping[str, str], source: Callable[..., str]) -> Native | None:
    """The built kernel for these types, or None where it cannot be built; `machines.why` says why."""
    from kernels.cache import Unavailable, build  # not at the top: it brings subprocess, tempfile, hashlib

    kernel = variant.kernel
    try:
        library = build(kernel.name, source(variant, letters))
    except Unavailable as error:
        if machines.forced:
            raise RuntimeError(f"kernel {kernel.name!r} cannot be compiled: {error}") from None
        machines.note(f"kernel {kernel.name!r} runs on the NumPy machine: {error}")
        return None
    return Native(library, variant, letters["T"])
