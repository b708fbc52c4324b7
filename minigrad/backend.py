"""Arrays, and the machines they live on.

A Tensor holds one array. The array owns its device: a `numpy.ndarray` lives on the CPU, a `cupy.ndarray` on a
GPU, and every function of the framework asks the array which library it belongs to (`xp_of`) and calls that.
So there is no `if gpu` anywhere else, and CuPy is imported here, on first use of a CUDA device, or not at
all.

    dtype, device       the public objects, with PyTorch's names: `mg.float32`, `mg.device("cuda:0")`
    xp_of(array)        the library of an array: numpy or cupy
    asarray, empty, to_device, to_host      the few doors through which arrays enter, move and leave
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from kernels.cuda import graph

Array = Any  # numpy.ndarray or cupy.ndarray: one interface, two libraries


class dtype:
    """An element type, named as in PyTorch. `.numpy` is the NumPy dtype (bfloat16 comes from ml_dtypes)."""

    def __init__(self, name: str, priority: int):
        self.name, self.priority = name, priority
        self.is_floating_point = priority >= 20
        self._numpy: np.dtype | None = None if name == "bfloat16" else np.dtype(name)

    @property
    def numpy(self) -> np.dtype:
        if self._numpy is None:
            import ml_dtypes  # only bfloat16 needs it, so only bfloat16 imports it

            self._numpy = np.dtype(ml_dtypes.bfloat16)
            _by_numpy[self._numpy] = self
        return self._numpy

    @property
    def itemsize(self) -> int:
        return 2 if self.name == "bfloat16" else self.numpy.itemsize

    def __repr__(self) -> str:
        return f"minigrad.{self.name}"

    def __reduce__(self):
        return _dtype_named, (self.name,)  # one object a type, also after pickle and deepcopy


# priority: tens are PyTorch's categories (bool < integer < float), which decide promotion before size does
bool_ = dtype("bool", 0)
uint8, int8, int16, int32, int64 = (
    dtype(n, 10 + i) for i, n in enumerate("uint8 int8 int16 int32 int64".split())
)
float16, bfloat16, float32, float64 = (
    dtype(n, 20 + i) for i, n in enumerate("float16 bfloat16 float32 float64".split())
)
DTYPES = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64)
_by_name = {d.name: d for d in DTYPES} | {
    "half": float16,
    "float": float32,
    "double": float64,
    "long": int64,
    "int": int32,
    "short": int16,
}
_by_numpy = {d.numpy: d for d in DTYPES if d is not bfloat16}
_by_python = {float: float64, int: int64, bool: bool_}


def _dtype_named(name: str) -> dtype:
    return _by_name[name]


def as_dtype(spec: Any) -> dtype:
    """dtype | "float32" | numpy dtype | float | int | bool -> dtype. TypeError for others, complex too."""
    if isinstance(spec, dtype):
        return spec
    found = _by_python.get(spec) if isinstance(spec, type) else None
    if found is None and isinstance(spec, str):
        found = _by_name.get(spec.removeprefix("torch.").removeprefix("minigrad."))
    if found is None:
        try:
            numpy_dtype = np.dtype(spec)
        except TypeError:
            numpy_dtype = None
        found = _by_numpy.get(numpy_dtype)
        if found is None and numpy_dtype is not None and numpy_dtype.name == "bfloat16":
            found = bfloat16 if bfloat16.numpy == numpy_dtype else None
    if found is None:
        raise TypeError(f"dtype: {spec!r} is not supported; use one of {', '.join(d.name for d in DTYPES)}")
    return found


def dtype_of(array: Array) -> dtype:
    """The dtype object of an array."""
    return _by_numpy.get(array.dtype) or as_dtype(array.dtype)


def promote(a: dtype, b: dtype) -> dtype:
    """The common type of two tensors of equal rank category, as `torch.promote_types`."""
    if a is b:
        return a
    low, high = sorted((a, b), key=lambda d: d.priority)
    if low.priority // 10 != high.priority // 10:
        return high
    if high.is_floating_point:
        return float32 if {low, high} == {float16, bfloat16} else high
    return _by_numpy[np.result_type(low.numpy, high.numpy)]


_default_dtype = float32


def get_default_dtype() -> dtype:
    """The type of new floating tensors: float32 unless `set_default_dtype` said otherwise."""
    return _default_dtype


def set_default_dtype(d: Any) -> None:
    """Set the type of new floating tensors. TypeError when it is not a floating type."""
    global _default_dtype
    d = as_dtype(d)
    if not d.is_floating_point:
        raise TypeError(f"set_default_dtype: {d} is not a floating type; use float32 or float64")
    _default_dtype = d


class device:
    """Where an array lives: `device("cpu")`, `device("cuda")`, `device("cuda:1")`, `device("cuda", 1)`."""

    __slots__ = ("index", "type")
    type: str
    index: int | None

    def __init__(self, type: Any, index: int | None = None):
        if isinstance(type, device):
            type, index = type.type, type.index
        kind, _, number = str(type).partition(":")
        if number and index is None:
            index = int(number) if number.isdigit() else -1
        if kind not in ("cpu", "cuda") or (index is not None and index < 0) or (kind == "cpu" and index):
            raise ValueError(f"device: {type!r} is not a device; use 'cpu', 'cuda' or 'cuda:N'")
        self.type = kind
        self.index = index if kind == "cuda" else None

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type={self.type!r}" + (f", index={self.index})" if self.index is not None else ")")


CPU = device("cpu")
_cupy: Any = None


def cupy() -> Any:
    """The cupy module, with at least one usable GPU; RuntimeError says what is missing and the cure."""
    global _cupy
    if _cupy is not sys.modules.get("cupy") or _cupy is None:
        try:
            import cupy as module
        except ImportError as e:
            raise RuntimeError(
                "device 'cuda': CuPy is not installed; install minigrad[cuda12] or minigrad[cuda13], "
                "or use device 'cpu'"
            ) from e
        try:
            count = module.cuda.runtime.getDeviceCount()
        except Exception as e:  # no driver, or one too old: CUDARuntimeError, which only cupy can name
            raise RuntimeError(f"device 'cuda': no usable GPU ({e}); use device 'cpu'") from e
        if not count:
            raise RuntimeError("device 'cuda': the driver shows no GPU; use device 'cpu'")
        _cupy = module
    return _cupy


def cuda_is_available() -> bool:
    """True when CuPy is installed and shows a GPU. Imports CuPy."""
    try:
        return bool(cupy())
    except RuntimeError:
        return False


def on_device(array: Array) -> bool:
    """True for an array in GPU memory."""
    return type(array) is not np.ndarray and hasattr(type(array), "__cuda_array_interface__")


def xp_of(array: Array) -> Any:
    """The library whose functions take this array: numpy or cupy."""
    return np if type(array) is np.ndarray or not on_device(array) else cupy()


def device_of(array: Array) -> device:
    """The device that owns the array."""
    return device("cuda", array.device.id) if on_device(array) else CPU


def resolve_device(spec: Any) -> device:
    """None | str | device -> a device that exists, with its index. RuntimeError when there is no such GPU."""
    if spec is None:
        return CPU
    where = device(spec)
    if where.type == "cuda":
        module = cupy()
        index = module.cuda.Device().id if where.index is None else where.index
        count = module.cuda.runtime.getDeviceCount()
        if index >= count:
            raise RuntimeError(
                f"device 'cuda:{index}': there are {count} GPUs; use 'cuda:0' to 'cuda:{count - 1}'"
            )
        where = device("cuda", index)
    return where


def to_device(array: Array, where: device) -> Array:
    """The array on `where`; itself when it is there already."""
    if device_of(array) == where:
        return array
    if where.type == "cpu":
        return to_host(array)
    if not on_device(array):
        graph.refuse("an array of the host is uploaded")
    return uploaded(array, where)


def uploaded(array: Array, where: device) -> Array:
    """A copy of an array on a GPU."""
    module = cupy()
    with module.cuda.Device(where.index):
        return module.asarray(array)


def to_host(array: Array) -> np.ndarray:
    """The array as a numpy.ndarray. Waits for the GPU: never called on the training path."""
    if not on_device(array):
        return np.asarray(array)
    graph.refuse("a value of the device is read on the host")
    return cupy().asnumpy(array)


def empty(shape: tuple[int, ...], numpy_dtype: np.dtype, where: device = CPU) -> Array:
    """An uninitialised array on a device."""
    if where.type == "cpu":
        return np.empty(shape, numpy_dtype)
    module = cupy()
    with module.cuda.Device(where.index):
        return module.empty(shape, numpy_dtype)


def full(shape: tuple[int, ...], value: Any, numpy_dtype: np.dtype, where: device = CPU) -> Array:
    """An array of one value on a device."""
    a = empty(shape, numpy_dtype, where)
    a.fill(value)
    return a


def zeros_on_a_line(size: int, numpy_dtype: np.dtype, where: device = CPU) -> Array:
    """Zeros whose first element begins a cache line, as CuPy's arrays always do.

    NumPy's large arrays begin 16 bytes into one, so that every vector of 64 bytes would lie across two: what
    streams through whole buffers takes 1.4 to 1.6 times as long.
    """
    if where.type != "cpu":
        return full((size,), 0, numpy_dtype, where)
    room = np.zeros(size * numpy_dtype.itemsize + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    return room[start : start + size * numpy_dtype.itemsize].view(numpy_dtype)


_LINE = 64  # bytes


# Arithmetic follows IEEE 754 without warnings, as in PyTorch: `token = hush(SILENT)` ... `unhush(token)` is
# what `with np.errstate(all="ignore")` does, at a tenth of its cost, because every operation enters it.
SILENT: Any
try:
    from numpy._core.umath import _extobj_contextvar, _make_extobj

    SILENT = _make_extobj(all="ignore")
    hush, unhush = _extobj_contextvar.set, _extobj_contextvar.reset
except ImportError:  # another NumPy keeps this elsewhere
    SILENT = dict.fromkeys(("divide", "over", "under", "invalid"), "ignore")

    def hush(state: Any) -> Any:
        return np.seterr(**state)

    def unhush(token: Any) -> None:
        np.seterr(**token)


class Destination:
    """Memory that the gradient engine offers to the last product of a vjp: the leaf's own slot in the arena.

    An operation that can write into given memory asks `take(shape, dtype)`; it gets the slot once, if it
    fits. What it writes there is only ever read as that result, so taking it is always safe; the engine
    copies when nobody took it.
    """

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: Array = None

    def take(self, shape: tuple[int, ...], numpy_dtype: np.dtype) -> Array | None:
        a = self.array
        if a is None or a.shape != shape or a.dtype != numpy_dtype:
            return None
        self.array = None
        return a


destination = Destination()
