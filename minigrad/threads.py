"""How the machine is used: CPU threads, one number for kernels and BLAS; precision of products on a GPU."""

from __future__ import annotations

import kernels
from kernels import cuda


def set_num_threads(threads: int) -> None:
    """Use this many threads (>= 1) in kernels, and in the BLAS of NumPy where threadpoolctl is installed.

    Without threadpoolctl, BLAS follows what OPENBLAS_NUM_THREADS (MKL_NUM_THREADS, ...) said when NumPy was
    loaded.
    """
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f"set_num_threads: {threads!r} is not a positive whole number")
    kernels.set_num_threads(threads)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return
    threadpool_limits(threads)


def get_num_threads() -> int:
    """The number of threads of the kernels."""
    return kernels.get_num_threads()


def set_float32_matmul_precision(precision: str) -> None:
    """How a GPU multiplies float32 matrices: "highest" in float32, "high" in TF32, "medium" in bfloat16.

    Sums are float32 in any case. Without effect on the CPU. ValueError for another name.
    """
    cuda.blas.set_precision(precision)


def get_float32_matmul_precision() -> str:
    """How float32 matrices are multiplied on a GPU."""
    return cuda.blas.precision
