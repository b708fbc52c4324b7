"""Which machine host arrays get, and how many threads it may use.

MINIGRAD_KERNELS=compiled   the C++ compiler of this computer; an error when there is none
MINIGRAD_KERNELS=numpy      the same texts read as NumPy expressions
(not set)                   compiled if a compiler works, else numpy; `kernels.why()` tells the reason

With the compiled machine comes its memory (kernels/memory.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

MACHINES = ("compiled", "numpy")

current: str | None = None  # decided at the first call of a kernel
threads = 0  # 0: not decided yet
forced = False  # a machine that was asked for by name must serve, or raise
_reasons: list[str] = []


def machine() -> str:
    """The machine host arrays get now, "compiled" or "numpy". Raises when the one asked for cannot work."""
    global current
    if current is None:
        asked = os.environ.get("MINIGRAD_KERNELS", "")
        if asked not in ("", *MACHINES):
            raise ValueError(f"MINIGRAD_KERNELS is {asked!r}; it may be compiled or numpy")
        current = _decide(asked)
    return current


def _decide(asked: str) -> str:
    from kernels import memory
    from kernels.cache import Unavailable, toolchain

    global forced
    forced = asked == "compiled"
    if asked == "numpy":
        _reasons.append("MINIGRAD_KERNELS=numpy asks for the NumPy machine")
        return "numpy"
    try:
        tools = toolchain()
    except Unavailable as error:
        if asked == "compiled":
            raise RuntimeError(
                f"MINIGRAD_KERNELS=compiled, but kernels cannot be compiled here: {error}; "
                "install a C++ compiler (g++ or clang++) or unset MINIGRAD_KERNELS"
            ) from None
        _reasons.append(f"the NumPy machine serves: {error}")
        return "numpy"
    _reasons.append(f"the compiled machine serves: {tools}")
    memory.install()
    return "compiled"


def note(reason: str) -> None:
    """Remember why a kernel does not run where it was meant to."""
    if reason not in _reasons:
        _reasons.append(reason)


def why() -> str:
    """What decided the machine, and every kernel that had to leave it, one reason a line."""
    machine()
    return "\n".join(_reasons)


@contextmanager
def use(name: str | None) -> Iterator[None]:
    """Give host arrays to the named machine within a `with` block; None decides anew, from the environment.

    >>> import numpy as np, kernels
    >>> double = kernels.Elementwise("double", "S x", "S y", "y = T(x) + T(x);")
    >>> with kernels.use("numpy"):
    ...     double(np.ones(3, np.float32))
    array([2., 2., 2.], dtype=float32)
    """
    global current, forced
    if name not in (None, *MACHINES):
        raise ValueError(f"there is no machine {name!r}; the host machines are compiled and numpy")
    before, reasons = (current, forced), list(_reasons)
    try:
        current = None if name is None else _decide(name)
        yield
    finally:
        current, forced = before
        _reasons[:] = reasons


def get_num_threads() -> int:
    """How many threads a kernel may use on this computer: at most its cores, or OMP_NUM_THREADS if set."""
    global threads
    if threads == 0:
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
        threads = min(cores, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else cores
    return threads


def set_num_threads(n: int) -> None:
    """Let kernels use n threads at most; small arrays always use one. Raises ValueError for n < 1."""
    global threads
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"the number of threads must be an integer of at least 1, not {n!r}")
    threads = n


def _one_thread_after_fork() -> None:
    # A forked child has no OpenMP workers, and the runtime waits for them for ever.
    global threads
    threads = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread_after_fork)
