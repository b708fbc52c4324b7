"""A GPU for machines without one: CuPy's module and arrays, acted by NumPy, with every step on record.

    import fake_cupy

    with fake_cupy.installed() as device:         # `import cupy` now gives the fake; restored afterwards
        import cupy
        x = cupy.asarray(np.ones(3))              # device.uploads == ["asarray"]
        y = x * 2 + 1                             # device.launches == {"multiply": 1, "add": 1}
        float(y.sum())                            # device.host_reads == ["float"], with the line
        with device.counting() as step:           # the same counts for one part of a run
            ...
        assert step.host_reads == [] and step.launched <= 17

A NumPy array is refused wherever a device array belongs, and a device array wherever NumPy takes over, so a
hidden conversion is an error with a line number. Names and signatures are CuPy's own (names.py). Kernels of
`kernels/` run through their host machine (`ndarray.__minigrad_launch__`). A captured graph replays (cuda.py).

What it cannot show: streams that overlap, asynchronous errors, and the launches inside CuPy's composite
functions.
"""

from __future__ import annotations

import contextlib
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import cuda, names
from .array import ndarray
from .cublas import FakeCublas
from .cudnn import FakeCudnn
from .device import Counts, Device, _current
from .elementwise import ElementwiseKernel
from .functions import FUNCTIONS, LINALG, STRIDE_TRICKS

__all__ = [
    "Counts",
    "Device",
    "ElementwiseKernel",
    "FUNCTIONS",
    "cuda",
    "installed",
    "module",
    "ndarray",
    "real_cupy",
]


def real_cupy() -> Any:
    """The installed CuPy, or None."""
    if isinstance(sys.modules.get("cupy"), _Module):
        raise RuntimeError("the fake CuPy is installed already")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its CUDA libraries, which the fake does without
            import cupy
    except ImportError:
        return None
    return cupy


class _Module(types.ModuleType):
    """A module that says why it lacks a name."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"module {self.__name__!r} has no attribute {name!r} in the fake CuPy; if CuPy 14 has it "
            "and minigrad needs it, add it to tests/fake_cupy/names.py"
        )


def _module(name: str, doc: str, content: dict[str, Any]) -> _Module:
    module = _Module(name, doc)
    vars(module).update(content)
    return module


def modules(real: Any = None) -> dict[str, Any]:
    """The entries of sys.modules. `real`: the installed CuPy, which then lends its ElementwiseKernel."""
    default_pool = cuda.MemoryPool(_default=True)
    tricks = _module("cupy.lib.stride_tricks", "views", STRIDE_TRICKS)
    parts = {
        "cuda": _module("cupy.cuda", "one fake GPU", cuda.OFFERED),
        "linalg": _module("cupy.linalg", "cuSOLVER's part of CuPy", LINALG),
        "random": _module("cupy.random", "empty: draw on the host, or by a counter-based kernel", {}),
        "lib": _module("cupy.lib", "", {"stride_tricks": tricks}),
    }
    top = _module("cupy", "the fake CuPy of minigrad's tests", {})
    content: dict[str, Any] = {name: getattr(np, name) for name in names.SHARED}
    content |= FUNCTIONS | parts
    content |= dict(
        ndarray=ndarray,
        ElementwiseKernel=ElementwiseKernel if real is None else real.ElementwiseKernel,
        get_array_module=lambda *args: top if any(isinstance(a, ndarray) for a in args) else np,
        get_default_memory_pool=lambda: default_pool,
        __version__="14.2.0",
    )
    vars(top).update(content)
    entries = {"cupy": top, **{f"cupy.{name}": part for name, part in parts.items()}}
    return {**entries, "cupy.cuda.runtime": cuda.runtime, "cupy.lib.stride_tricks": tricks, "cupyx": None}


def _entries() -> dict[str, Any]:
    return {name: m for name, m in sys.modules.items() if name.split(".")[0] in ("cupy", "cupyx")}


@contextlib.contextmanager
def installed(cublas: bool = True, cudnn: Any = True) -> Iterator[Device]:
    """Put the fake in the place of cupy and yield its device's record; sys.modules is restored afterwards.

    cublas=False, cudnn=False: a machine on which that library is not found; cudnn may be a FakeCudnn.
    """
    real = real_cupy()
    before = _entries()
    device, entries = Device(), modules(real)
    device.stream = cuda.Stream.null
    device.cublas = FakeCublas() if cublas else None
    device.cudnn = FakeCudnn() if cudnn is True else cudnn or None
    device.allocator = entries["cupy"].get_default_memory_pool().malloc
    _current.append(device)
    _replace(entries)
    try:
        yield device
    finally:
        _replace(before)
        _current.remove(device)


def _replace(entries: dict[str, Any]) -> None:
    for name in _entries():
        del sys.modules[name]
    sys.modules.update(entries)
