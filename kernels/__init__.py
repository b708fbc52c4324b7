"""What runs on the machine: C texts of the rules, and how one text runs on CUDA, on a CPU compiler, on NumPy.

    Elementwise    one text, every element       (elementwise.py)
    Rows           one text, every row: reductions and maps    (rows.py)
    rules/         the optimizers' texts, in historical order
    layers.py      the layers' texts
    windows.py, convolution.py      what slides over images: columns, pools, products

A text is read once (text.py), checked (check.py), and run by the machine that owns the arrays:
interpreted.py on NumPy, compiled.py with a C++ compiler, cuda/ on a GPU.
All of it is loaded with the first text.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kernels.machines import get_num_threads, machine, set_num_threads, use, why

if TYPE_CHECKING:
    from kernels import elementary
    from kernels.elementwise import Elementwise
    from kernels.errors import KernelError
    from kernels.kernel import registry
    from kernels.rows import Rows

__minigrad__ = True  # tells minigrad that this `kernels` is its own (minigrad/_guard.py)
__all__ = [
    "Elementwise",
    "KernelError",
    "Rows",
    "get_num_threads",
    "machine",
    "registry",
    "set_num_threads",
    "use",
    "why",
]

_LATER = dict(Elementwise="elementwise", Rows="rows", KernelError="errors", registry="kernel")


def __getattr__(name: str) -> Any:
    """What reads texts, and the texts that an operation of the core may want, are loaded when first used."""
    if name in _LATER:
        return getattr(import_module(f"kernels.{_LATER[name]}"), name)
    if name == "elementary":
        return import_module("kernels.elementary")
    raise AttributeError(f"module 'kernels' has no attribute {name!r}")
