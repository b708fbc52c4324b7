"""How many CPU threads minigrad uses: one number for the kernels and for BLAS."""

from __future__ import annotations

import kernels


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
