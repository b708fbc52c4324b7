"""Matrix products on a GPU by cuBLAS itself, called through ctypes.

CuPy's own binding refuses a stream that is being captured, copies views before a batched product, multiplies
batches of float16 in float32 and cannot multiply batches of bfloat16. This one hands over every layout that
cuBLAS can read, and launches one kernel for a product:

    gemm                    2-D; also (..., M, K) @ (K, N), whose rows are one long matrix
    strided batched         the matrices of each operand lie at one distance from each other (0: the same one)
    pointer-array batched   they lie anywhere, as the heads of a packed projection do: no permutes, no copies

cuBLAS thinks in columns. A matrix whose rows are contiguous is, read by columns, its transpose; so what is
asked for is C^T = B^T A^T: the operands change places, and each is "transposed" exactly where its columns,
not its rows, are contiguous. `beta=1` adds to what stands in the output.

Types: float32, float64, float16 and bfloat16 (both added up in float32). float32 is multiplied in full unless
`precision` says otherwise: "high" allows TF32 (10 bits of mantissa), "medium" bfloat16.

Where the library is not found, `matmul` answers None and the caller goes on with CuPy; `why()` says which.
A handle belongs to a device and a thread. It follows the thread's current stream, and has a workspace of its
own, because what cuBLAS would allocate by itself cannot be captured; setting the stream resets that, so it is
set again after it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import threading
from collections.abc import Iterator
from ctypes import byref, c_double, c_float, c_int, c_longlong, c_size_t, c_void_p
from typing import Any, NamedTuple

import numpy as np

from kernels.cuda import graph

# cudaDataType, cublasComputeType_t, and the C type of alpha and beta, by element type
TYPES = {
    "float32": (0, 68, c_float),
    "float64": (1, 70, c_double),
    "float16": (2, 68, c_float),
    "bfloat16": (14, 68, c_float),
}
PRECISIONS = {"highest": 68, "high": 77, "medium": 75}  # of float32: itself, TF32, bfloat16
STATUS = {1: "not initialized", 3: "allocation failed", 7: "invalid value", 8: "architecture mismatch",
          11: "mapping error", 13: "execution failed", 14: "internal error", 15: "not supported"}  # fmt: skip
ANY_ALGORITHM = -1
WORKSPACE = {9: 32 << 20}  # bytes by compute capability; NVIDIA advises 32 MiB for Hopper
OTHER_WORKSPACE = 4 << 20
POINTERS = 4096  # arrays of pointers that are kept: addresses come back, because memory pools are reused

p, i, ll = c_void_p, c_int, c_longlong
SIGNATURES: dict[str, list[Any]] = {
    "cublasCreate_v2": [p],
    "cublasGetVersion_v2": [p, p],
    "cublasSetStream_v2": [p, p],
    "cublasSetWorkspace_v2": [p, p, c_size_t],
    # handle, op, op, m, n, k, alpha, A, type, ld, B, type, ld, beta, C, type, ld, compute type, algorithm
    "cublasGemmEx": [p, i, i, i, i, i, p, p, i, i, p, i, i, p, p, i, i, i, i],
    # the same with a stride after each ld, and the number of products before the compute type
    "cublasGemmStridedBatchedEx": [p, i, i, i, i, i, p, p, i, i, ll, p, i, i, ll, p, p, i, i, ll, i, i, i],
    "cublasGemmBatchedEx": [p, i, i, i, i, i, p, p, i, i, p, i, i, p, p, i, i, i, i, i],
}

precision = "highest"
_reason = "no matrix product has run on a GPU yet"
_found: tuple[Any, Any] | None = None  # the cupy module it was looked for with, the library or None
_local = threading.local()


def set_precision(name: str) -> None:
    """How float32 matrices are multiplied on a GPU; ValueError for what is none of PRECISIONS."""
    global precision
    if name not in PRECISIONS:
        raise ValueError(
            f"set_float32_matmul_precision: {name!r}; it is one of {', '.join(map(repr, PRECISIONS))}"
        )
    precision = name


def why() -> str:
    """Which library multiplies matrices on the GPU, and why."""
    return _reason


def library() -> Any:
    """cuBLAS with its functions typed; None where it is not found (why() has the reason)."""
    global _found, _reason
    import cupy

    if _found is None or _found[0] is not cupy:
        opened, said = _open(cupy)
        if opened is not None:
            for name, arguments in SIGNATURES.items():
                function = getattr(opened, name)
                function.argtypes, function.restype = arguments, c_int
        _found, _reason = (cupy, opened), said
    return _found[1]


@contextlib.contextmanager
def without(reason: str = "cuBLAS was switched off") -> Iterator[None]:
    """Within the block CuPy multiplies: to compare the two."""
    global _found, _reason
    import cupy

    before = _found, _reason
    _found, _reason = (cupy, None), f"cupy.matmul serves: {reason}"
    try:
        yield
    finally:
        _found, _reason = before


def _open(cupy: Any) -> tuple[Any, str]:
    own = getattr(cupy.ndarray, "__minigrad_cublas__", None)  # an array may bring its library
    if own is not None:
        brought = own()
        if brought is None:
            return None, "cupy.matmul serves, and steps cannot be captured: the arrays brought no cuBLAS"
        return brought, "cuBLAS serves: the arrays brought it"
    tried = []
    for name in _candidates(cupy):
        try:
            return ctypes.CDLL(name), f"cuBLAS serves: {name}"
        except OSError as error:
            tried.append(str(error))
    cure = "install CuPy with its CUDA libraries (the ctk extra of cupy-cuda12x and cupy-cuda13x)"
    return None, f"cupy.matmul serves, and steps cannot be captured: {'; '.join(tried)}; {cure}"


def _candidates(cupy: Any) -> Iterator[str]:
    """Paths and names of the library for CuPy's CUDA: where NVIDIA's wheels have it, then the system's."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        yield load_nvidia_dynamic_lib("cublas").abs_path
    except Exception:  # not installed, or one of its own errors for a library that it does not find
        pass
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    yield from (f"libcublas.so.{major}", f"cublas64_{major}.dll", "libcublas.so")


# ------------------------------------------------------------------------------------------------- the handle


class Handle:
    """A cuBLAS handle of one device and one thread."""

    def __init__(self, lib: Any, cupy: Any):
        self.lib, self.cupy, self.stream = lib, cupy, None
        handle = c_void_p()
        self.check("cublasCreate_v2", lib.cublasCreate_v2(byref(handle)))
        self.handle = handle
        major = int(str(cupy.cuda.Device().compute_capability)[:-1])
        with self.lasting():
            self.workspace = cupy.empty(WORKSPACE.get(major, OTHER_WORKSPACE), np.uint8)
        self.pointers: dict[tuple, Any] = {}

    def lasting(self) -> Any:
        """A context for what outlives a step: not from the memory of a graph that is warming up."""
        return self.cupy.cuda.using_allocator(self.cupy.get_default_memory_pool().malloc)

    def check(self, function: str, status: int, detail: str = "") -> None:
        if status:
            found = STATUS.get(status, "unknown")
            raise RuntimeError(f"{function}: cuBLAS status {status}, {found}{detail and f' ({detail})'}")

    def follow(self) -> None:
        """Work goes to the thread's current stream."""
        stream = self.cupy.cuda.get_current_stream().ptr
        if stream != self.stream:
            lib, space = self.lib, self.workspace
            self.check("cublasSetStream_v2", lib.cublasSetStream_v2(self.handle, stream))
            status = lib.cublasSetWorkspace_v2(self.handle, space.data.ptr, space.nbytes)
            self.check("cublasSetWorkspace_v2", status)
            self.stream = stream

    def addresses(self, base: int, lead: tuple[int, ...], strides: tuple[int, ...]) -> int:
        """Where an array on the device lies that has the addresses of a batch's matrices."""
        recorder = graph.current()
        key = (base, lead, strides)
        if recorder is not None and (place := recorder.pointers(key)):
            return place
        held = self.pointers.get(key)
        if held is None:
            if len(self.pointers) >= POINTERS:
                self.cupy.cuda.get_current_stream().synchronize()  # products may still read them
                self.pointers.clear()
            with self.lasting():
                held = self.pointers[key] = self.cupy.asarray(table_of(key))
        return held.data.ptr


def table_of(key: tuple[int, tuple[int, ...], tuple[int, ...]]) -> np.ndarray:
    """The addresses of matrices at base + sum(index stride), the last axis fastest, as int64."""
    base, lead, strides = key
    found = np.array(base, np.int64)
    for n, s in zip(lead, strides, strict=True):
        found = found[..., None] + np.arange(n) * s
    return found.reshape(-1)


def handle() -> Handle | None:
    """The thread's handle on its current device; None where there is no library."""
    lib = library()
    if lib is None:
        return None
    import cupy

    held = _local.__dict__.setdefault("handles", {})
    number = cupy.cuda.Device().id
    found = held.get(number)
    if found is None or found.lib is not lib:
        found = held[number] = Handle(lib, cupy)
    return found


# ------------------------------------------------------------------------------------------------ the product


class Layout(NamedTuple):
    """How cuBLAS reads a matrix in memory: what to do with its columns, and how far apart they are."""

    transposed: int  # 0: its rows are contiguous, so by columns it is the transpose, as wanted
    ld: int


def layout(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> Layout | None:
    """The layout of the matrices in the last two axes; None where they must be copied first."""
    rows, columns = shape[-2:]
    down, along = strides[-2] // itemsize, strides[-1] // itemsize
    if (along == 1 or columns == 1) and (down >= columns or rows == 1):
        return Layout(0, max(down if rows > 1 else columns, 1))
    if (down == 1 or rows == 1) and (along >= rows or columns == 1):
        return Layout(1, max(along if columns > 1 else rows, 1))
    return None


@functools.lru_cache(4096)
def one_stride(lead: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """The distance of neighbours in a batch if it is the same throughout, in bytes; else None."""
    found, size = None, 1
    for n, s in zip(reversed(lead), reversed(strides), strict=True):
        if n != 1:
            if found is None:
                found = s
            elif s != found * size:
                return None
            size *= n
    return 0 if found is None else found


def _ready(a: Any) -> Any:
    """The array, or a copy of it if cuBLAS cannot read its matrices."""
    return a if layout(a.shape, a.strides, a.itemsize) is not None else a.copy(order="C")


def matmul(a: Any, b: Any, out: Any = None, beta: int = 0) -> Any:
    """a @ b for CuPy arrays (..., M, K) and (..., K, N), which broadcast; None without a library.

    out     written to, of any layout with contiguous rows or columns; allocated where it is None
    beta    1: added to what stands in out
    """
    its = handle() if a.dtype.name in TYPES and a.dtype == b.dtype else None
    if its is None:
        return None
    m, k = a.shape[-2:]
    n = b.shape[-1]
    if b.shape[-2] != k:
        raise ValueError(f"matmul: {list(a.shape)} @ {list(b.shape)}; the inner sizes {k} and {b.shape[-2]}")
    if a.ndim == 2 == b.ndim:
        lead: tuple[int, ...] = ()
    else:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*lead, m, n)
    if out is None:
        out = its.cupy.empty(shape, a.dtype)
        beta = 0
    elif out.shape != shape or out.dtype != a.dtype:
        wanted = f"{a.dtype}{list(shape)}"
        raise ValueError(f"matmul: out is {out.dtype}{list(out.shape)}, the product {wanted}")
    if out.size == 0:
        return out
    if k == 0:
        if not beta:
            out.fill(0)
        return out
    place = out if layout(out.shape, out.strides, out.itemsize) is not None else out.copy(order="C")
    _multiply(its, _ready(a), _ready(b), place, lead, beta)
    if place is not out:
        out[...] = place
    return out


def _multiply(its: Handle, a: Any, b: Any, c: Any, lead: tuple[int, ...], beta: int) -> None:
    size = a.itemsize
    if len(lead) and b.ndim == 2 and _one_matrix(a) and _one_matrix(c):  # its rows are one long matrix
        a, c, lead = a.reshape(-1, a.shape[-1]), c.reshape(-1, c.shape[-1]), ()
    of_c = layout(c.shape, c.strides, size)
    assert of_c is not None
    if of_c.transposed:  # C^T = B^T A^T is the one with contiguous rows
        a, b, c = b.swapaxes(-1, -2), a.swapaxes(-1, -2), c.swapaxes(-1, -2)
        of_c = Layout(0, of_c.ld)
    of_a, of_b = layout(a.shape, a.strides, size), layout(b.shape, b.strides, size)
    assert of_a is not None and of_b is not None
    m, k = a.shape[-2:]
    n = b.shape[-1]
    kind, compute, number = TYPES[a.dtype.name]
    if kind == 0:
        compute = PRECISIONS[precision]
    one, into = _constant(number, 1), _constant(number, beta)
    its.follow()
    head = (its.handle, of_b.transposed, of_a.transposed, n, m, k, one)
    count = math.prod(lead)
    if count == 1:
        name = "cublasGemmEx"
        status = its.lib.cublasGemmEx(
            *head, b.data.ptr, kind, of_b.ld, a.data.ptr, kind, of_a.ld, into, c.data.ptr, kind, of_c.ld,
            compute, ANY_ALGORITHM,
        )  # fmt: skip
    else:
        steps = [_spread(x, lead) for x in (b, a, c)]
        strides = [one_stride(lead, s) for s in steps]
        if None not in strides:
            name = "cublasGemmStridedBatchedEx"
            by_b, by_a, by_c = (s // size for s in strides)
            status = its.lib.cublasGemmStridedBatchedEx(
                *head, b.data.ptr, kind, of_b.ld, by_b, a.data.ptr, kind, of_a.ld, by_a,
                into, c.data.ptr, kind, of_c.ld, by_c, count, compute, ANY_ALGORITHM,
            )  # fmt: skip
        else:
            name = "cublasGemmBatchedEx"
            at_b, at_a, at_c = (
                its.addresses(x.data.ptr, lead, s) for x, s in zip((b, a, c), steps, strict=True)
            )
            status = its.lib.cublasGemmBatchedEx(
                *head, at_b, kind, of_b.ld, at_a, kind, of_a.ld, into, at_c, kind, of_c.ld,
                count, compute, ANY_ALGORITHM,
            )  # fmt: skip
    its.check(name, status, f"{a.dtype}{list(a.shape)} @ {list(b.shape)}, strides {a.strides} {b.strides}")


@functools.lru_cache(16)
def _constant(number: Any, value: int) -> Any:
    """alpha and beta, which cuBLAS reads on the host."""
    return byref(number(value))


def _one_matrix(a: Any) -> bool:
    """Whether the rows of all matrices of a batch are those of one matrix."""
    if a.strides[-1] != a.itemsize and a.shape[-1] != 1:
        return False
    return one_stride(a.shape[:-1], a.strides[:-1]) is not None and _down(a) >= a.shape[-1] * a.itemsize


def _down(a: Any) -> int:
    return next((s for n, s in zip(reversed(a.shape[:-1]), reversed(a.strides[:-1])) if n != 1), 1 << 62)


def _spread(x: Any, lead: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a batch's axes, 0 where it is broadcast, in bytes."""
    own = x.ndim - 2
    missing = len(lead) - own
    return (0,) * missing + tuple(
        [0 if n == 1 else s for n, s in zip(x.shape[:own], x.strides[:own], strict=True)]
    )
