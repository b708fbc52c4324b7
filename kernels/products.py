"""Products of matrices that are too small for BLAS to do them well (products.h), on the compiled machine.

BLAS serves for what is left: other types, vectors, large matrices, a computer without a compiler or without
vectors of 512 bits. Measured against it in benchmarks/NOTES.md.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import machines

_found: dict[tuple, Callable[[tuple, int], int]] = {}  # (machine, type) -> the function of products.h


def _nowhere(arrays: tuple, threads: int) -> int:
    """In place of a function of products.h that cannot be had: this is for BLAS."""
    return 1


def _look(dtype: np.dtype) -> Callable[[tuple, int], int]:
    """The function of products.h for this type, if it can be had."""
    from kernels import host  # not at the top: it brings subprocess, tempfile, hashlib
    from kernels.compiled import layout_known

    library = host.library("products", dtype)
    function: Any = _nowhere
    if library is not None and library.vector_bytes() == 64 and layout_known():
        library.know.argtypes = [ctypes.c_void_p]
        library.know(id(np.ndarray))
        function = library.product
        function.argtypes = [ctypes.py_object, ctypes.c_int]
    return _found.setdefault((machines.machine(), dtype), function)


def product(a: Any, b: Any, out: Any = None) -> Any:
    """a @ b of NumPy arrays of two or more axes, into `out` if given."""
    multiply = _found.get((machines.current, a.dtype)) or _look(a.dtype)
    c = np.empty(a.shape[:-1] + b.shape[-1:], a.dtype) if out is None else out
    if not multiply((a, b, c), machines.threads):
        return c
    if a.ndim == 2 == b.ndim:  # the same BLAS call as matmul's, with half of the way to it
        return a.dot(b, out)
    return np.matmul(a, b, out)
