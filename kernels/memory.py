"""Where NumPy's arrays lie: in blocks that begin a cache line and are used again (memory.h).

A training step makes the same arrays again and again. The C library gives the memory of large ones back to
the system each time, and the next step pays for it page by page: half of a transformer's step was that. And
NumPy's arrays begin 16 bytes into a cache line, so that each vector of 64 bytes lies across two of them.

NumPy lets the memory of arrays come from elsewhere ([NEP 49]); an array keeps to the place that it came from,
and its values, views and errors are the same. The compiled machine asks for it when it starts: from then on
new arrays of that thread, or of that context (contextvars), are made so. What lies idle is never more than
was once in use. MINIGRAD_MEMORY=numpy leaves everything to NumPy.

    counts()    bytes in use, the most that ever were, and bytes that lie idle
    empty()     gives what lies idle back to the system
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import Any

from kernels import machines

SET_HANDLER = 304  # the place of PyDataMem_SetHandler in NumPy's table of C functions


@functools.cache
def _library() -> Any:
    """memory.h, or None without a compiler."""
    from kernels.cache import Unavailable, build

    try:
        found = build("memory", (Path(__file__).parent / "memory.h").read_text())
    except Unavailable as error:
        machines.note(f"arrays stay in NumPy's memory: {error}")
        return None
    found.table.restype = ctypes.c_void_p
    found.counts.argtypes = [ctypes.c_void_p]
    return found


@functools.cache
def _handler() -> Any:
    """What NumPy is given: the table of memory.h in a capsule, which is never freed."""
    library = _library()
    if library is None:
        return None
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return capsule(library.table(), b"mem_handler", None)


def _set(handler: Any) -> Any:
    """NumPy's PyDataMem_SetHandler: the handler before it."""
    from numpy._core import multiarray

    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    functions = ctypes.cast(pointer(multiarray._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    return ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(functions[SET_HANDLER])(handler)


def install() -> None:
    """New arrays of this context lie here, unless MINIGRAD_MEMORY=numpy, or somebody else sees to them."""
    from numpy._core.multiarray import get_handler_name, get_handler_version

    asked = os.environ.get("MINIGRAD_MEMORY", "")
    if asked not in ("", "numpy"):
        raise ValueError(f"MINIGRAD_MEMORY is {asked!r}; it may be numpy, or not set")
    if asked or get_handler_name() != "default_allocator" or get_handler_version() != 1:
        return
    handler = _handler()
    if handler is not None:
        _set(handler)


def counts() -> tuple[int, int, int]:
    """Bytes in arrays now, the most that ever were, and bytes that lie idle."""
    found = (ctypes.c_size_t * 3)()
    if _library() is not None:
        _library().counts(found)
    return found[0], found[1], found[2]


def empty() -> None:
    """Give what lies idle back to the system."""
    if _library() is not None:
        _library().empty()
