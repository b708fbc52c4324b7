"""The number types a kernel text may name, and C's rules for mixing them.

A text is written in letters: `S` is the type the arrays are stored in, `T` the type the arithmetic is
done in. They are bound when a kernel meets its arrays:

    S float16, bfloat16, float32   ->  T float32
    S float64                      ->  T float64

so half-precision storage never means half-precision arithmetic. Any other single capital letter is a
free type, found from the arrays alone (`I target`: an index type).

Every machine follows C when types mix: what is smaller than int becomes int, unsigned wins among equals,
a 16-bit float becomes float32 as soon as it is computed with. Writing those rules down here, instead of
trusting each machine's own, is what makes the machines agree to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

FLOATS = ("float16", "bfloat16", "float32", "float64")
HALVES = ("float16", "bfloat16")
INTEGERS = ("int8", "uint8", "int32", "uint32", "int64", "uint64")
CONCRETE = ("bool", *INTEGERS, *FLOATS)

# The spelling of each type in C; the 16-bit floats are small classes that convert to float and back.
C_NAME = {
    "bool": "bool",
    "int8": "signed char",
    "uint8": "unsigned char",
    "int32": "int",
    "uint32": "unsigned int",
    "int64": "long long",
    "uint64": "unsigned long long",
    "float16": "half",
    "bfloat16": "bhalf",
    "float32": "float",
    "float64": "double",
}

# C's own words for types that a text may use in a declaration.
C_WORDS = {"int": "int32", "unsigned": "uint32", "unsigned int": "uint32", "long long": "int64"}
C_WORDS["unsigned long long"] = "uint64"

_RANK = {"int32": 0, "uint32": 1, "int64": 2, "uint64": 3, "float32": 4, "float64": 5}


def is_float(t: str) -> bool:
    return t in FLOATS


def is_integer(t: str) -> bool:
    return t in INTEGERS


def promoted(t: str) -> str:
    """What C computes in when it meets a value of type t alone: int for small integers, float for halves."""
    if t in HALVES:
        return "float32"
    return "int32" if t in ("bool", "int8", "uint8") else t


def common(a: str, b: str) -> str:
    """C's usual arithmetic conversion of two types."""
    return max(promoted(a), promoted(b), key=_RANK.__getitem__)


def compute_type(storage: str) -> str:
    """T for a given S: wide enough that storage, not arithmetic, decides the precision."""
    return "float64" if storage == "float64" else "float32"


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of a concrete type; bfloat16 comes from ml_dtypes, imported only here."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def concrete(word: str, letters: Mapping[str, str]) -> str:
    """The concrete type behind a letter, a C word or a concrete name."""
    return letters.get(word) or C_WORDS.get(word) or word
