"""Where an array and the host meet: the reads that make the host wait, the uploads, NumPy's refusal."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import current

IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. "
    "Please use `.get()` to construct a NumPy array explicitly."
)


class HostDoors:
    """The part of `ndarray` that the host can see through. Every door is noted under its name."""

    __slots__ = ()
    __array_ufunc__ = None  # NumPy's operators leave the operation to ours, which refuse NumPy arrays by name
    _host: Any
    dtype: Any
    shape: Any
    flags: Any

    # the host looks: every one of these waits for the device

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        return self._read("get", out=out, order=order)

    def _read(self, name: str, out: Any = None, order: str = "C") -> np.ndarray:
        current().host_read(name)
        if out is None:
            return self._host.copy(order)
        out[...] = self._host
        return out

    def item(self) -> Any:
        return self._read("item").item()

    def tolist(self) -> Any:
        return self._read("tolist").tolist()

    def tobytes(self, order: Any = "C") -> bytes:
        return self._read("tobytes").tobytes(order)

    def __bool__(self) -> bool:
        return bool(self._read("bool"))

    def __int__(self) -> int:
        return int(self._read("int").item())

    def __float__(self) -> float:
        return float(self._read("float").item())

    def __complex__(self) -> complex:
        return complex(self._read("complex").item())

    def __repr__(self) -> str:
        return repr(self._read("repr"))

    def __str__(self) -> str:
        return str(self._read("str"))

    def __format__(self, spec: str) -> str:
        host = self._read("format")
        return format(host.item() if host.ndim == 0 else host, spec)

    def __reduce__(self) -> Any:
        return upload, (self._read("pickle"),)

    def set(self, arr: Any, stream: Any = None) -> None:
        """Upload a NumPy array of the same shape and dtype into this one."""
        if not isinstance(arr, np.ndarray):
            raise TypeError(f"Only numpy.ndarray can be set to cupy.ndarray, got {type(arr)}")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        current().upload("set")
        self._host[...] = arr

    # NumPy is refused

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(IMPLICIT)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(
            f"numpy.{func.__name__} was given a device array; use cupy.{func.__name__} or `.get()`"
        )


def upload(host: np.ndarray) -> Any:
    """What a pickled array becomes: a new one on the device."""
    from .functions import FUNCTIONS

    return FUNCTIONS["array"](host)
