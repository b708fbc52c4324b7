"""CUDA devices, with the names of torch.cuda; `cuda.amp` is minigrad.amp for them."""

from __future__ import annotations

from typing import Any

from .. import backend
from . import amp


def is_available() -> bool:
    """True when CuPy is installed and shows a GPU."""
    return backend.cuda_is_available()


def device_count() -> int:
    """How many GPUs there are; 0 without CuPy or a driver."""
    return backend.cupy().cuda.runtime.getDeviceCount() if is_available() else 0


def current_device() -> int:
    """The index of the GPU that new arrays go to. RuntimeError without a GPU."""
    return backend.cupy().cuda.Device().id


def synchronize(device: Any = None) -> None:
    """Wait until the GPU has done all that was asked of it."""
    where = backend.resolve_device("cuda" if device is None else device)
    backend.cupy().cuda.Device(where.index).synchronize()


def get_device_name(device: Any = None) -> str:
    """The name of the GPU, as its driver gives it."""
    where = backend.resolve_device("cuda" if device is None else device)
    name = backend.cupy().cuda.runtime.getDeviceProperties(where.index)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)
