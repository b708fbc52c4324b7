"""Where `Module.to` goes: its arguments as a device and a dtype, and one tensor's way there."""

from __future__ import annotations

from typing import Any

from ..backend import as_dtype, resolve_device, to_device
from ..backend import device as device_type
from ..backend import dtype as dtype_type
from ..tensor import Tensor


def destination(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """The (device, dtype) that the arguments of Module.to mean, None for what stays."""
    known = {"device", "dtype", "non_blocking"}
    if unknown := sorted(set(kwargs) - known):
        raise TypeError(f"Module.to: unknown argument {unknown[0]!r}; it takes a device, a dtype or a tensor")
    where, kind = kwargs.get("device"), kwargs.get("dtype")
    for arg in args:
        if isinstance(arg, Tensor):
            where, kind = arg.device, arg.dtype
        elif isinstance(arg, bool) or arg is None:  # non_blocking, or a device left open
            continue
        elif isinstance(arg, device_type) or (
            isinstance(arg, str) and arg.partition(":")[0] in ("cpu", "cuda")
        ):
            where = arg
        elif isinstance(arg, int):
            where = f"cuda:{arg}"
        else:
            kind = arg
    d = None if kind is None else as_dtype(kind)
    if d is not None and not d.is_floating_point:
        raise TypeError(
            f"Module.to: parameters are floating, {d.name} is not; use float32, float64 or a half type"
        )
    return (None if where is None else resolve_device(where)), d


def move(t: Tensor, where: device_type | None, kind: dtype_type | None) -> None:
    """Give a tensor another home and type without making it another object."""
    array = t.array if where is None else to_device(t.array, where)
    if kind is not None and t.dtype.is_floating_point:
        array = array.astype(kind.numpy, copy=False)
    if array is not t.array:
        t.array, t.is_view, t.version = array, False, [t.version[0] + 1]
