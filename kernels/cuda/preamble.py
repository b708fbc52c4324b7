"""What the texts stand on in CUDA: the same names as preamble.h, meaning the same.

`max` and `min` must be selections there too (CUDA's own lose a nan), and the library's functions are reached
under the text's names. They are macros, because CuPy's kernels put a text into the global namespace, where
CUDA's functions of the same names stand already.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernels.dtypes import C_NAME

# CuPy's classes for 16-bit floats: they convert to float and back, as the host's do.
CUDA_NAME = C_NAME | {"float16": "float16", "bfloat16": "bfloat16"}

TYPES = """
typedef signed char int8;  typedef unsigned char uint8;
typedef int int32;         typedef unsigned int uint32;
typedef long long int64;   typedef unsigned long long uint64;
typedef float float32;     typedef double float64;
"""

_SELECTION = """
template <class A, class B> __device__ __forceinline__ auto mg_{name}(A a_, B b_) -> decltype(a_ + b_) {{
    typedef decltype(a_ + b_) C;
    const C a = a_, b = b_;
    return {choice};
}}
#define {name}(a, b) mg_{name}(a, b)
"""

_FUNCTION = """
__device__ __forceinline__ float mg_{name}(float x) {{ return {single}; }}
__device__ __forceinline__ double mg_{name}(double x) {{ return {double}; }}
#define {name}(x) mg_{name}(x)
"""

_ABS = """
__device__ __forceinline__ float mg_abs(float x) { return ::fabsf(x); }
__device__ __forceinline__ double mg_abs(double x) { return ::fabs(x); }
__device__ __forceinline__ int mg_abs(int x) { return x < 0 ? -x : x; }
__device__ __forceinline__ long long mg_abs(long long x) { return x < 0 ? -x : x; }
__device__ __forceinline__ unsigned int mg_abs(unsigned int x) { return x; }
__device__ __forceinline__ unsigned long long mg_abs(unsigned long long x) { return x; }
#define abs(x) mg_abs(x)
__device__ __forceinline__ float mg_pow(float x, float y) { return ::powf(x, y); }
__device__ __forceinline__ double mg_pow(double x, double y) { return ::pow(x, y); }
#define pow(x, y) mg_pow(x, y)
"""


def _functions() -> str:
    choices = dict(
        max="a > b || a != a ? a : b",
        min="a < b || a != a ? a : b",
        fmax="a > b || b != b ? a : b",
        fmin="a < b || b != b ? a : b",
    )
    found = [_SELECTION.format(name=name, choice=choice) for name, choice in choices.items()]
    library = "sqrt exp log tanh erf erfc floor ceil sin cos tan asin acos atan sinh cosh log1p expm1 log2"
    spelled = {name: name for name in library.split()} | {"exp2": "exp2", "fabs": "fabs", "round": "rint"}
    for name, c in spelled.items():
        found.append(_FUNCTION.format(name=name, single=f"::{c}f(x)", double=f"::{c}(x)"))
    return "".join(found) + _ABS


# isnan, isinf and isfinite are CUDA's own; they are overloaded for float and double already.
FUNCTIONS = _functions()


def letter_types(letters: Mapping[str, str]) -> str:
    return "".join(f"typedef {CUDA_NAME[t]} {letter};\n" for letter, t in sorted(letters.items()))


def preamble(letters: Mapping[str, str]) -> str:
    """Types, functions and the meaning of S and T: what stands before every text."""
    return TYPES + FUNCTIONS + letter_types(letters)
