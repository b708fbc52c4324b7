"""What the texts stand on in CUDA: the same names as preamble.h, meaning the same.

`max` and `min` are selections there too (CUDA's own lose a nan). A rows kernel has a namespace for its
names, as on the host. A CuPy kernel's text stands in the global namespace, among CUDA's functions of the
same names, so there ours are called mg_exp and a macro leads to them.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernels.dtypes import C_NAME

# CuPy's classes for 16-bit floats: they convert to float and back, as the host's do.
CUPY_NAME = C_NAME | {"float16": "float16", "bfloat16": "bfloat16"}

_TYPES = """
typedef signed char int8;  typedef unsigned char uint8;
typedef int int32;         typedef unsigned int uint32;
typedef long long int64;   typedef unsigned long long uint64;
typedef float float32;     typedef double float64;
"""

# Storage of 16 bits without CUDA's headers, which not every installation has.
_HALVES = """
struct half {
    unsigned short b;
    half() = default;
    __device__ half(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(b) : "f"(x)); }
    __device__ operator float() const { float x; asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(b)); return x; }
};
struct bhalf {
    unsigned short b;
    bhalf() = default;
    __device__ bhalf(float x) {
        const unsigned u = __float_as_uint(x);
        b = x != x ? (u >> 16) | 0x40 : (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    }
    __device__ operator float() const { return __uint_as_float((unsigned)b << 16); }
};
"""

_SELECTION = """
template <class A, class B> __device__ __forceinline__ auto @{name}(A a_, B b_) -> decltype(a_ + b_) {{
    typedef decltype(a_ + b_) C;
    const C a = a_, b = b_;
    return {choice};
}}
"""
_CHOICES = dict(
    max="a > b || a != a ? a : b",
    min="a < b || a != a ? a : b",
    fmax="a > b || b != b ? a : b",
    fmin="a < b || b != b ? a : b",
)

_FUNCTION = """
__device__ __forceinline__ float @{name}(float x) {{ return ::{c}f(x); }}
__device__ __forceinline__ double @{name}(double x) {{ return ::{c}(x); }}
"""
# isnan, isinf and isfinite are CUDA's own: they are overloaded for float and double already.
_LIBRARY = (
    "sqrt exp log tanh erf erfc floor ceil sin cos tan asin acos atan sinh cosh log1p expm1 log2 exp2 fabs"
)
_SPELLED = {name: name for name in _LIBRARY.split()} | {"round": "rint"}

_OTHERS = """
__device__ __forceinline__ float @abs(float x) { return ::fabsf(x); }
__device__ __forceinline__ double @abs(double x) { return ::fabs(x); }
__device__ __forceinline__ int @abs(int x) { return x < 0 ? -x : x; }
__device__ __forceinline__ long long @abs(long long x) { return x < 0 ? -x : x; }
__device__ __forceinline__ unsigned int @abs(unsigned int x) { return x; }
__device__ __forceinline__ unsigned long long @abs(unsigned long long x) { return x; }
__device__ __forceinline__ float @pow(float x, float y) { return ::powf(x, y); }
__device__ __forceinline__ double @pow(double x, double y) { return ::pow(x, y); }
"""


def _functions() -> str:
    """All functions; `@` stands where a prefix of their names goes."""
    found = [_SELECTION.format(name=name, choice=choice) for name, choice in _CHOICES.items()]
    found += [_FUNCTION.format(name=name, c=c) for name, c in _SPELLED.items()]
    return "".join(found) + _OTHERS


def letter_types(letters: Mapping[str, str], names: Mapping[str, str]) -> str:
    return "".join(f"typedef {names[t]} {letter};\n" for letter, t in sorted(letters.items()))


def cupy_preamble(letters: Mapping[str, str]) -> str:
    """What stands before the text of an elementwise kernel, in CuPy's source."""
    two = {*_CHOICES, "pow"}
    macros = [f"#define {name}(a, b) mg_{name}(a, b)\n" for name in sorted(two)]
    macros += [f"#define {name}(x) mg_{name}(x)\n" for name in sorted({*_SPELLED, "abs"})]
    functions = _functions().replace("@", "mg_")
    return _TYPES + functions + "".join(macros) + letter_types(letters, CUPY_NAME)


def preamble() -> str:
    """What stands before a rows kernel: the start of its namespace."""
    return "namespace minigrad {\n" + _TYPES + _HALVES + _functions().replace("@", "") + "\n}\n"
