"""libcublas for the fake GPU: C functions that multiply with NumPy what they find at the addresses given.

They are real C callbacks (ctypes.CFUNCTYPE), so an argument in a wrong place or of a wrong type arrives
wrong. Everything cuBLAS documents about its arguments is looked at: the smallest leading dimension, types
that go together, a workspace that was set after the stream, and that every element read or written lies in
memory that some array holds. What is wrong gives a status, as there, and its reason in `refusals`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from .device import current, inside, memory_of_pools

DTYPES = {0: np.dtype("f4"), 1: np.dtype("f8"), 2: np.dtype("f2"), 14: np.dtype(ml_dtypes.bfloat16)}
COMPUTES = {68: (0, 2, 14), 77: (0,), 75: (0,), 70: (1,)}  # compute type -> types of the operands
INVALID, FAILED = 7, 13
refusals: list[str] = []


class Refused(Exception):
    """What cuBLAS answers by a status."""


def view(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype, among: Any = None
) -> np.ndarray:
    """The device's memory as an array; strides in elements."""
    extent = sum((n - 1) * s for n, s in zip(shape, strides)) + 1
    nbytes = extent * dtype.itemsize
    if not inside(address, nbytes, among):
        raise Refused(f"{nbytes} bytes at {address:#x} are not in one array's memory")
    raw = (ctypes.c_char * nbytes).from_address(address)
    return np.ndarray(shape, dtype, raw, 0, [s * dtype.itemsize for s in strides])


class FakeCublas:
    """What `ctypes.CDLL("libcublas.so")` is on a machine with a GPU."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple]] = []
        self.stream = self.workspace_of = None
        self.workspace = 0
        p, i, ll = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong
        gemm = [p, i, i, i, i, i, p]
        self._add("cublasCreate_v2", [p], self._create)
        self._add("cublasGetVersion_v2", [p, p], lambda handle, version: 0)
        self._add("cublasSetStream_v2", [p, p], self._set_stream)
        self._add("cublasSetWorkspace_v2", [p, p, ctypes.c_size_t], self._set_workspace)
        self._add("cublasGemmEx", [*gemm, p, i, i, p, i, i, p, p, i, i, i, i], self._gemm)
        batched = [*gemm, p, i, i, ll, p, i, i, ll, p, p, i, i, ll, i, i, i]
        self._add("cublasGemmStridedBatchedEx", batched, self._strided)
        self._add("cublasGemmBatchedEx", [*gemm, p, i, i, p, i, i, p, p, i, i, i, i, i], self._pointers)

    def _add(self, name: str, arguments: list[Any], run: Callable[..., int]) -> None:
        def call(*args: Any) -> int:
            self.calls.append((name, args))
            try:
                return run(*args) or 0
            except Refused as error:
                refusals.append(f"{name}: {error}")
                return INVALID
            except Exception as error:  # nothing may leave a C callback
                refusals.append(f"{name}: {type(error).__name__}: {error}")
                return FAILED

        setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *arguments)(call))

    def _create(self, handle: int) -> None:
        ctypes.c_void_p.from_address(handle).value = 0xB1A5

    def _set_stream(self, handle: int, stream: int | None) -> None:
        self.stream, self.workspace_of = stream or 0, None  # resets the workspace

    def _set_workspace(self, handle: int, address: int, size: int) -> None:
        if not inside(address, size):
            raise Refused(f"a workspace of {size} bytes outside of memory")
        self.workspace_of, self.workspace = self.stream, size

    # products: cuBLAS' arguments, and its columns

    def _checked(self, handle: int, types: tuple[int, ...], compute: int, algorithm: int) -> np.dtype:
        if handle != 0xB1A5:
            raise Refused("no handle")
        if self.stream != current().stream.ptr:
            raise Refused("the handle's stream is not the current one")
        if self.workspace_of != self.stream or self.workspace_of is None:
            raise Refused("no workspace was set after the stream")
        if len(set(types)) != 1 or types[0] not in COMPUTES.get(compute, ()) or algorithm != -1:
            raise Refused(f"types {types}, compute type {compute}, algorithm {algorithm}")
        return DTYPES[types[0]]

    def _numbers(self, dtype: np.dtype, *addresses: int) -> list[float]:
        kind = ctypes.c_double if dtype == np.float64 else ctypes.c_float
        return [kind.from_address(a).value for a in addresses]

    def _shapes(self, transa: int, transb: int, m: int, n: int, k: int, lda: int, ldb: int, ldc: int) -> list:
        """(rows, columns, ld) of the three matrices as they lie in memory, by columns."""
        found = [(m, k, lda) if not transa else (k, m, lda), (k, n, ldb) if not transb else (n, k, ldb)]
        found.append((m, n, ldc))
        for rows, _, ld in found:
            if ld < max(1, rows):
                raise Refused(f"leading dimension {ld} for {rows} rows")
        return found

    def _gemm(self, handle, ta, tb, m, n, k, alpha, a, at, lda, b, bt, ldb, beta, c, ct, ldc, compute, algo):
        dtype = self._checked(handle, (at, bt, ct), compute, algo)
        numbers = self._numbers(dtype, alpha, beta)
        places = self._shapes(ta, tb, m, n, k, lda, ldb, ldc)
        arrays = [view(x, (r, w), (1, ld), dtype) for x, (r, w, ld) in zip((a, b, c), places)]

        def run(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
            multiply(a, b, c, ta, tb, *numbers)

        current().execute("matmul", run, tuple(arrays), {}, True)

    def _strided(self, handle, ta, tb, m, n, k, alpha, a, at, lda, by_a, b, bt, ldb, by_b, beta, c, ct, ldc,
                 by_c, count, compute, algo):  # fmt: skip
        dtype = self._checked(handle, (at, bt, ct), compute, algo)
        numbers = self._numbers(dtype, alpha, beta)
        places = self._shapes(ta, tb, m, n, k, lda, ldb, ldc)
        if by_c < ldc * (n - 1) + m and count > 1:
            raise Refused("the outputs overlap")
        arrays = [
            view(x, (count, r, w), (by, 1, ld), dtype)
            for x, by, (r, w, ld) in zip((a, b, c), (by_a, by_b, by_c), places)
        ]

        def run(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
            multiply(a, b, c, ta, tb, *numbers)

        current().execute("matmul", run, tuple(arrays), {}, True)

    def _pointers(self, handle, ta, tb, m, n, k, alpha, a, at, lda, b, bt, ldb, beta, c, ct, ldc, count,
                  compute, algo):  # fmt: skip
        dtype = self._checked(handle, (at, bt, ct), compute, algo)
        numbers = self._numbers(dtype, alpha, beta)
        places = self._shapes(ta, tb, m, n, k, lda, ldb, ldc)
        tables = [view(x, (count,), (1,), np.dtype("i8")) for x in (a, b, c)]
        captured = current().capture is not None

        def run() -> None:  # the addresses are read when it runs, also at a replay
            among = memory_of_pools() if captured else None
            for addresses in zip(*tables):
                arrays = [
                    view(int(x), (r, w), (1, ld), dtype, among) for x, (r, w, ld) in zip(addresses, places)
                ]
                multiply(*arrays, ta, tb, *numbers)

        current().execute("matmul", run, (), {}, True, deferred=True)


def multiply(a, b, c, ta, tb, alpha, beta):
    """c = alpha op(a) op(b) + beta c; c is not read where beta is 0."""
    wide = np.float64 if c.dtype == np.float64 else np.float32
    a, b = (np.swapaxes(x, -1, -2) if t else x for x, t in ((a, ta), (b, tb)))
    y = np.float32(alpha) * np.matmul(a.astype(wide, copy=False), b.astype(wide, copy=False))
    c[...] = (y if beta == 0 else y + wide(beta) * c.astype(wide, copy=False)).astype(c.dtype, copy=False)
