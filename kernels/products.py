"""Products of matrices that are too small for BLAS to do them well (products.h), on the compiled machine.

BLAS serves for what is left: other types, vectors, large matrices, a computer without a compiler or without
vectors of 512 bits. Measured against it in benchmarks/NOTES.md.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import host, machines
from kernels.compiled import layout_known

_found: dict[np.dtype, Callable | None] = {}  # of the compiled machine


def _look(dtype: np.dtype) -> Callable | None:
    """The function of products.h for this type, if it can be had."""
    library = host.library("products", dtype)
    if library is None or library.vector_bytes() < 64 or not layout_known():
        function = None
    else:
        library.know.argtypes = [ctypes.c_void_p]
        library.know(id(np.ndarray))
        function = library.product
        function.argtypes = [ctypes.py_object, ctypes.c_int]
    if machines.machine() == "compiled":
        _found[dtype] = function
    return function


def product(a: Any, b: Any, out: Any = None) -> Any:
    """a @ b of NumPy arrays of two or more axes, into `out` if given."""
    dtype = a.dtype
    if machines.current == "compiled" and dtype in _found:
        multiply = _found[dtype]
    else:
        multiply = _look(dtype)
    matrices = a.ndim == 2 == b.ndim
    if multiply is None or b.dtype is not dtype:
        return a.dot(b, out) if matrices else np.matmul(a, b, out)
    if out is None:
        if matrices:
            shape = (a.shape[0], b.shape[1])
        elif a.shape[:-2] == b.shape[:-2]:
            shape = (*a.shape[:-1], b.shape[-1])
        else:
            return np.matmul(a, b)
        out = np.empty(shape, dtype)
    elif out.dtype is not dtype:
        return a.dot(b, out) if matrices else np.matmul(a, b, out)
    if multiply((a, b, out), machines.threads):
        return a.dot(b, out) if matrices else np.matmul(a, b, out)
    return out
