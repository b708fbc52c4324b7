"""C++ files of this folder, for one element type `S`: compiled at first use, cached, called by address.

What is no text of an element or a row (kernels/elementwise.py, rows.py): convolution.h, pool.h, products.h.
Each function here has a form in NumPy beside its call, for computers without a compiler.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np

from kernels import machines
from kernels.cache import Unavailable, build

TYPES = {np.dtype("float32"): "float", np.dtype("float64"): "double"}
NAMES: dict[str, str] = {  # p an address, i a number
    "convolution.forward": "pppppii",
    "convolution.backward": "ppppppppi",
    "pool.total": "pppii",
    "pool.spread": "pppii",
    "pool.largest": "pppppipii",
    "pool.put": "pppipii",
}
PARTS = {
    "convolution": ("tiles.h", "planes.h", "convolution.h"),
    "pool": ("pool.h",),
    "products": ("preamble.h", "tiles.h", "products.h"),
}
LETTERS = {"p": ctypes.c_void_p, "i": ctypes.c_int64}


@functools.cache
def _built(file: str, dtype: np.dtype) -> ctypes.CDLL | str:
    """The library, or why there is none."""
    source = "\n".join([(Path(__file__).parent / name).read_text() for name in PARTS[file]])
    try:
        library = build(f"{file}_{dtype.name}", f"typedef {TYPES[dtype]} S;\n{source}")
    except Unavailable as error:
        return str(error)
    for name, letters in NAMES.items():
        if name.startswith(file):
            getattr(library, name.split(".")[1]).argtypes = [LETTERS[k] for k in letters]
    return library


def library(file: str, dtype: np.dtype) -> Any:
    """The library of a file, or None where NumPy serves: for another type, or without a compiler."""
    if dtype not in TYPES or machines.machine() != "compiled":
        return None
    found = _built(file, dtype)
    if not isinstance(found, str):
        return found
    if machines.forced:
        raise RuntimeError(f"{file}.h cannot be compiled: {found}")
    machines.note(f"{file}.h is not used, NumPy serves: {found}")
    return None
