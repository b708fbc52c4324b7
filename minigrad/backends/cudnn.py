"""cuDNN for convolutions on a GPU, with the names of torch.backends.cudnn. Off unless it is switched on:

    mg.backends.cudnn.enabled = True

By default a convolution on a GPU is columns and cuBLAS (minigrad/ops/conv.py). cuDNN needs no columns, which
are most of the bytes, and should be the faster one on large images; but no GPU has been at hand to measure
it, and what is not measured is not the default. Row H4 of benchmarks/gpu.py (ResNet-9, `make bench-gpu
ARGS="--rows H4"`) runs both, side by side. cuDNN serves convolutions only, and no recurrence.

    enabled         whether convolutions and their gradients go to cuDNN; False. Where the library is missing,
                    and for what it does not take, columns go on serving: why() says so, nothing raises
    allow_tf32      whether set_float32_matmul_precision speaks for cuDNN too; True. TF32 is used when that is
                    "high" or "medium" *and* this is True. In PyTorch this alone turns TF32 on; here float32
                    is float32 until less is asked for
    deterministic   True, always: the same seed gives the same bits. Setting False raises
    benchmark       False, always: an algorithm that is chosen by its time differs between runs, and the last
                    bits with it; cuDNN's own ranking chooses. Setting True raises
    is_available()  whether there are a GPU and a cuDNN that goes with it
    version()       92800 is 9.28.0; None without the library
    why()           which of the two convolves, and why
    flags(...)      a context in which they are set

The library comes with `pip install nvidia-cudnn-cu13` (or -cu12), version 9. What it does is told in
kernels/cuda/dnn.py.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from kernels.convolution import Cudnn

from .. import backend


def is_available() -> bool:
    """Whether there are a GPU and a cuDNN that goes with it. Imports CuPy and loads the library."""
    return version() is not None


def version() -> int | None:
    """cudnnGetVersion(): 92800 is 9.28.0; None without a GPU or the library."""
    if not backend.cuda_is_available():
        return None
    from kernels.cuda import libcudnn

    return libcudnn.version()


def why() -> str:
    """Whether cuDNN convolves, and why not; a line each for convolutions that it did not take."""
    if not Cudnn.enabled:
        return "columns serve, not cuDNN: minigrad.backends.cudnn.enabled is False"
    if not backend.cuda_is_available():
        return "columns serve, not cuDNN: there is no GPU"
    from kernels.cuda import libcudnn

    libcudnn.library()
    return libcudnn.why()


@contextlib.contextmanager
def flags(
    enabled: bool = False, benchmark: bool = False, deterministic: bool = True, allow_tf32: bool = True
) -> Iterator[None]:
    """Within the block the switches are these, by PyTorch's defaults; afterwards what they were before."""
    module: Any = sys.modules[__name__]
    before = Cudnn.enabled, Cudnn.allow_tf32
    try:
        module.benchmark, module.deterministic = benchmark, deterministic
        module.enabled, module.allow_tf32 = enabled, allow_tf32
        yield
    finally:
        Cudnn.enabled, Cudnn.allow_tf32 = before


def _switch(name: str) -> Any:
    """A property of the module that is stored where kernels read it."""

    def write(module: ModuleType, value: Any) -> None:
        setattr(Cudnn, name, _flag(name, value))

    return property(lambda module: getattr(Cudnn, name), write)


def _fixed(name: str, only: bool, reason: str) -> Any:
    """A property of the module that has one value."""

    def write(module: ModuleType, value: Any) -> None:
        if _flag(name, value) is not only:
            raise ValueError(f"backends.cudnn.{name}: {value} is not supported, only {only}: {reason}")

    return property(lambda module: only, write)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"backends.cudnn.{name}: {value!r} is neither True nor False")
    return value


class _Module(ModuleType):
    enabled = _switch("enabled")
    allow_tf32 = _switch("allow_tf32")
    deterministic = _fixed("deterministic", True, "the same seed gives the same bits")
    benchmark = _fixed(
        "benchmark", False, "algorithms chosen by their times differ between runs, and so do the last bits"
    )


sys.modules[__name__].__class__ = _Module
