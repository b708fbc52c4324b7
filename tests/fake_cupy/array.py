"""The device array: a wrapper that keeps its NumPy array to itself.

It is no subclass of numpy.ndarray, because then `np.asarray`, `out[...] = a` and every NumPy function would
quietly work, and finding those is what it is for. It is stricter than CuPy in four places, each a trap there:

- `np.add(a, b)`, `np.sum(a)` dispatch to CuPy there; here they raise, so that no host library sees a device
  array.
- a NumPy array as index is uploaded silently there; here it raises.
- an index out of range wraps round there; here it raises.
- writing twice to one place by `a[index] = values` leaves either value there; here it raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .device import Block, current, garbage
from .elementwise import arguments, registered
from .host import HostDoors

_SCALARS = (bool, int, float, complex, np.generic)


class Flags(dict):
    """CuPy's three flags, as attributes and as items. There is no `writeable`, as in CuPy."""

    def __init__(self, host: np.ndarray, owns: bool):
        super().__init__(
            C_CONTIGUOUS=host.flags.c_contiguous, F_CONTIGUOUS=host.flags.f_contiguous, OWNDATA=owns
        )
        self.c_contiguous, self.f_contiguous, self.owndata = self.values()


class MemoryPointer:
    """`a.data`: where the array begins. `ptr` is an address in the block's memory."""

    def __init__(self, array: ndarray):
        self.ptr: int = array._host.__array_interface__["data"][0]
        self.mem, self.device_id, self.device = array._block, 0, array.device


class ndarray(HostDoors):
    """cupy.ndarray, as far as minigrad may use it. `ndarray(shape, dtype)` is full of garbage."""

    __slots__ = ("__weakref__", "_block", "_host", "base")
    __array_priority__ = 100
    _host: np.ndarray
    _block: Block
    base: ndarray | None

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"
    ):
        if memptr is not None or strides is not None:
            raise TypeError(
                "cupy.ndarray: the fake takes no memptr and no strides; slice and reshape an array"
            )
        self._own(current().settle(garbage_array(shape, dtype, order)))

    def _own(self, host: np.ndarray) -> None:
        """Become the array of values that were settled on the device."""
        if host.dtype.kind in "OSUMm":
            raise ValueError(f"Unsupported dtype {host.dtype}: the device holds numbers only")
        self._host, self._block, self.base = host, current().block_of(host), None

    def _view(self, function: Callable[[np.ndarray], np.ndarray]) -> ndarray:
        """function(array) as a view, which costs nothing; where it cannot be one, a copy, one launch."""
        host = function(self._host)
        if host.size and not np.may_share_memory(host, self._host):
            return launch("copy", function, (self,))
        view = ndarray.__new__(type(self))
        view._host, view._block, view.base = host, self._block, self if self.base is None else self.base
        return view

    # shape, type, place

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: Flags(self._host, self.base is None))
    data = property(MemoryPointer)
    T = property(lambda self: self._view(np.transpose))
    mT = property(lambda self: self._view(np.matrix_transpose))
    real = property(lambda self: self._view(lambda h: h.real))

    @property
    def device(self) -> Any:
        from .cuda import Device

        return Device(0)

    @property
    def __cuda_array_interface__(self) -> dict:
        return dict(self._host.__array_interface__, version=3, stream=1)

    # views and copies

    def reshape(self, *shape: Any, order: Any = "C", copy: bool | None = None) -> ndarray:
        shape = shape[0] if len(shape) == 1 else shape
        if copy:
            return launch("copy", lambda h: h.reshape(shape, order=order).copy(), (self,))
        return self._view(lambda h: h.reshape(shape, order=order))

    def transpose(self, *axes: Any) -> ndarray:
        return self._view(lambda h: h.transpose(*axes))

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        return self._view(lambda h: h.view() if dtype is None else h.view(dtype))

    def flatten(self, order: str = "C") -> ndarray:
        return launch("copy", lambda h: h.flatten(order), (self,))

    def copy(self, order: str = "C") -> ndarray:
        return launch("copy", lambda h: h.copy(order), (self,))

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> ndarray:
        if not copy and self.dtype == np.dtype(dtype):
            return self
        casting = "unsafe" if casting is None else casting
        convert = lambda h: h.astype(dtype, order=order, casting=casting)  # noqa: E731
        return launch("astype", convert, (self,), key=str(np.dtype(dtype)))

    def clip(self, min: Any = None, max: Any = None, out: ndarray | None = None) -> ndarray:
        count_floats("clip", (min, max))
        return launch("clip", np.clip, (self, min, max), out=out)

    def dot(self, b: ndarray, out: ndarray | None = None) -> ndarray:
        from .functions import FUNCTIONS

        return FUNCTIONS["dot"](self, b, out)

    def fill(self, value: Any) -> None:
        self[...] = value

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        launch("sort", lambda h: h.sort(axis), (self,), in_place=True)

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()

    # items

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, item: Any) -> ndarray:
        kind, index = _index(item)
        if kind == "view":
            if not any(i is Ellipsis for i in index):
                index += (Ellipsis,)  # a[0, 0] stays a 0-d array on the device
            return self._view(lambda h: h[index])
        if kind == "mask":
            current().host_read("boolean mask")
        return launch("take", lambda h, *i: h[i], (self, *index))

    def __setitem__(self, item: Any, value: Any) -> None:
        if not isinstance(value, (ndarray, *_SCALARS)):
            raise TypeError(f"cupy setitem: Unsupported type {type(value)}; move it with cupy.asarray first")
        kind, index = _index(item)
        scalar = not isinstance(value, ndarray)
        if kind == "view" and isinstance(value, ndarray):
            target = self._host[(*index, Ellipsis) if not any(i is Ellipsis for i in index) else index]
            if target.__array_interface__ == value._host.__array_interface__:
                return  # `a[i] += b` ends with a[i] = a[i]: CuPy sees it, too
        if kind == "mask" and not scalar:
            current().host_read("boolean mask")
        name = {"view": "fill" if scalar else "copy", "take": "scatter", "mask": "putmask"}[kind]
        launch(name, _scatter if kind == "take" else _assign, (self, value, *index), in_place=True)

    # minigrad's doors: kernels and libraries that a real device array would hand to CUDA

    @staticmethod
    def __minigrad_launch__(
        kernel: Any, args: Any, scalars: Any = None, flags: Any = (), unless: Any = None
    ) -> Any:
        """Run an Elementwise or Rows kernel: one launch by its name, executed by its host machine."""
        return launch_kernel(kernel, args, scalars, flags, unless)

    @staticmethod
    def __minigrad_cublas__() -> Any:
        """The library that multiplies these arrays; `installed(cublas=False)` is a machine without it."""
        return current().cublas

    @staticmethod
    def __minigrad_cudnn__() -> Any:
        """The library that convolves these arrays where it is switched on; `installed(cudnn=False)`: none."""
        return current().cudnn

    @staticmethod
    def __minigrad_host__(name: str, function: Callable, *args: Any, **kwargs: Any) -> Any:
        """Run a library call (cuBLAS by ctypes) as `function` on the host; in place when it returns None."""

        def run(*hosts: Any, **named: Any) -> tuple:
            result = function(*hosts, **named)
            return () if result is None else result if isinstance(result, tuple) else (result,)

        results = launch(name, run, args, kwargs)
        return None if not results else results[0] if len(results) == 1 else results

    def __cupy_override_elementwise_kernel__(self, kernel: Any, *args: Any, **kwargs: Any) -> Any:
        """CuPy's ElementwiseKernel asks its arguments for this before it touches a device."""
        found, flags = registered(kernel)
        arrays, scalars, unless = arguments(kernel, found, args)
        return launch_kernel(found, arrays, scalars, flags, unless)


def garbage_array(shape: Any, dtype: Any = float, order: Any = "C") -> np.ndarray:
    """New memory that nobody has written."""
    return garbage(np.empty(shape, dtype, order=order))


def _assign(target: np.ndarray, value: Any, *index: Any) -> None:
    target[index] = value


def _scatter(target: np.ndarray, value: Any, *index: Any) -> None:
    places = np.arange(target.size).reshape(target.shape)[index]
    if np.ndim(value) and np.unique(places).size != places.size:
        raise ValueError(
            "cupy setitem: an index names a place twice; which value stays is undefined on a GPU"
        )
    target[index] = value


def _index(item: Any) -> tuple[str, tuple]:
    """("view" | "take" | "mask", index tuple). Raises for NumPy arrays; a list is uploaded, as CuPy does."""
    index, kind = item if isinstance(item, tuple) else (item,), "view"
    for i in index:
        if isinstance(i, np.ndarray):
            raise TypeError(
                f"cupy getitem: Unsupported type {type(i)} as index; move it with cupy.asarray first"
            )
        if isinstance(i, list):
            current().upload("index list")
        if isinstance(i, ndarray) and i.dtype.kind not in "biu":
            raise IndexError("arrays used as indices must be of integer (or boolean) type")
        if isinstance(i, (list, bool)) or (isinstance(i, ndarray) and kind == "view"):
            kind = "take"
        if isinstance(i, ndarray) and i.dtype.kind == "b":
            kind = "mask"
    return kind, index


def unwrap(name: str, value: Any, argument: str = "") -> Any:
    """The host array of a fake, also inside lists, tuples and dicts; a NumPy array raises as CuPy does."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        at = f" for argument {argument}" if argument else ""
        raise TypeError(
            f"cupy.{name}: Unsupported type {type(value)}{at}; "
            "NumPy and CuPy arrays do not mix, use cupy.asarray"
        )
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(unwrap(name, v, argument) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(unwrap(name, v, argument) for v in value)
    if isinstance(value, dict):
        return {k: unwrap(name, v, k) for k, v in value.items()}
    return value


def wrap(result: Any) -> Any:
    """Fresh host arrays as device arrays."""
    if isinstance(result, tuple):
        return tuple(wrap(r) for r in result)
    array = ndarray.__new__(ndarray)
    array._own(result)
    return array


def launch(
    name: str,
    function: Callable,
    args: Any,
    kwargs: dict | None = None,
    out: ndarray | None = None,
    in_place: bool = False,
    key: Any = (),
) -> Any:
    """One counted launch of a NumPy function on the wrapped arrays.

    Its results come back as new device arrays; with `out` they go there, with `in_place` the function
    changes an operand and returns nothing.
    """
    hosts = tuple(unwrap(name, a, str(i)) for i, a in enumerate(args))
    named = {k: unwrap(name, v, k) for k, v in (kwargs or {}).items()}
    if out is not None:
        if not isinstance(out, ndarray):
            raise TypeError(f"cupy.{name}: output arguments must be cupy.ndarray, got {type(out)}")
        named["out"], in_place = out._host, True
    result = current().execute(name, function, hosts, named, in_place, key)
    return out if in_place else wrap(result)


def launch_kernel(kernel: Any, args: Any, scalars: Any, flags: Any, unless: Any = None) -> Any:
    """Run a kernel's host machine on the wrapped arrays; outputs that were given come back as they are."""
    pattern: list[int | None] = []

    def run(*hosts: Any, **named: Any) -> tuple:
        results = kernel(*hosts, flags=flags, **named)
        results = results if isinstance(results, tuple) else (results,)
        pattern[:] = [next((i for i, h in enumerate(hosts) if r is h), None) for r in results]
        return tuple(r for r, given in zip(results, pattern, strict=True) if given is None)

    named = {"scalars": scalars} if unless is None else {"scalars": scalars, "unless": unless}
    fresh = iter(launch(kernel.name, run, args, named, key=(*flags, *sorted(named))))
    outputs = tuple(next(fresh) if given is None else args[given] for given in pattern)
    return outputs[0] if len(outputs) == 1 else outputs


def count_floats(name: str, operands: Any) -> None:
    """Note Python floats among the operands: slow in CuPy, and frozen for ever in a captured graph."""
    for o in operands:
        if type(o) in (float, complex):
            current().note("python_scalars", name)
