"""Device arrays as the kernels want them: inputs apart from outputs, and scalars in an array of T."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.signature import Parameter


def _extent(a: Any) -> tuple[int, int]:
    """The addresses of an array's first byte, and of the one after its last."""
    low = high = a.data.ptr
    for size, step in zip(a.shape, a.strides, strict=True):
        reach = (size - 1) * step
        low, high = (low + reach, high) if reach < 0 else (low, high + reach)
    return low, high + a.dtype.itemsize


def apart(p: Parameter, a: Any, outputs: list[tuple[Parameter, Any]]) -> Any:
    """The input a, or a copy of it if writing an output would change elements that are still to be read."""
    low, high = _extent(a)
    for q, b in outputs:
        other_low, other_high = _extent(b)
        if a.size == 0 or b.size == 0 or high <= other_low or other_high <= low:
            continue
        same = p.kind == q.kind and a.data.ptr == b.data.ptr and a.strides == b.strides and a.dtype == b.dtype
        if not (same and a.shape == b.shape):
            return a.copy()
    return a


def device_scalars(kernel: Any, scalars: Any, t: str) -> Any:
    """The scalars as an array of T on the device: passed through, or uploaded."""
    import cupy

    packed = kernel.host_scalars(() if scalars is None else scalars)
    if isinstance(packed, bytes):
        packed = np.frombuffer(packed).astype(t)
    if isinstance(packed, np.ndarray):
        return cupy.asarray(packed.astype(t, copy=False))
    if packed.dtype != t or packed.size != len(kernel.scalars):
        raise TypeError(
            f"kernel {kernel.name!r} wants {len(kernel.scalars)} scalars of {t}, "
            f"not {packed.size} of {packed.dtype}"
        )
    return packed
