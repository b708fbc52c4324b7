"""What runs on an NVIDIA GPU, through CuPy.

Only graph.py, which the engine asks whether a step is being captured, is there from the beginning; the rest
is imported when a device array is seen.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernels.cuda import blas


def __getattr__(name: str) -> Any:
    """The products of matrices, when the first of them runs on a device."""
    if name == "blas":
        return import_module("kernels.cuda.blas")
    raise AttributeError(f"module 'kernels.cuda' has no attribute {name!r}")
