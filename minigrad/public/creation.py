"""New tensors, from data, from a shape, or from a rule."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from ..backend import as_dtype, device_of, dtype_of, get_default_dtype, int64, resolve_device, to_device
from ..tensor import Tensor
from .promote import dtype_of_number
from .register import method, public

# -------------------------------------------------------------------------------------------------- from data


def _finish(array: Any, requires_grad: bool) -> Tensor:
    out = Tensor(array)
    return out.requires_grad_() if requires_grad else out


def _host_array(data: Any, dtype: Any) -> np.ndarray:
    """Numbers, nested sequences of them, or an array, as a new array of the dtype torch gives them."""
    wanted = None if dtype is None else as_dtype(dtype).numpy
    if isinstance(data, (np.ndarray, np.generic)):
        as_dtype(data.dtype)  # refuses complex, objects and strings
        return np.array(data, dtype=wanted)
    kinds: set[type] = set()
    plain = _plain(data, kinds)
    try:
        if wanted is not None and wanted.kind in "biu":
            return np.array(plain).astype(wanted)
        if wanted is None and kinds:
            wanted = (
                get_default_dtype() if float in kinds else int64 if int in kinds else backend.bool_
            ).numpy
        return np.array(plain, dtype=wanted or get_default_dtype().numpy)
    except ValueError as error:
        raise ValueError(f"tensor: the nested sequences have different lengths ({error})") from error


def _plain(data: Any, kinds: set[type]) -> Any:
    """Nested lists of Python numbers; notes which kinds of number there are."""
    if isinstance(data, (list, tuple)):
        return [_plain(item, kinds) for item in data]
    if isinstance(data, Tensor):
        return _plain(data.tolist(), kinds)
    if isinstance(data, np.ndarray):
        return _plain(data.tolist(), kinds)
    if isinstance(data, (bool, np.bool_)):
        kinds.add(bool)
    elif isinstance(data, numbers.Integral):
        kinds.add(int)
    elif isinstance(data, numbers.Real):
        kinds.add(float)
    else:
        raise TypeError(
            f"tensor: cannot make a tensor of {type(data).__name__}; give numbers, sequences or arrays"
        )
    return data


@public
def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of data: a number, nested sequences of numbers, or an array.

    Without dtype: Python floats give the default dtype, ints int64, bools bool; an array keeps its own.
    """
    if isinstance(data, Tensor) or backend.on_device(data):
        source = data.array if isinstance(data, Tensor) else data
        array = source.astype(source.dtype if dtype is None else as_dtype(dtype).numpy)
        return _finish(array if device is None else to_device(array, resolve_device(device)), requires_grad)
    return _finish(to_device(_host_array(data, dtype), resolve_device(device)), requires_grad)


@public
def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor on the memory of a numpy.ndarray: what changes in one changes in the other."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy: {type(ndarray).__name__} is no numpy.ndarray; use minigrad.tensor(...)")
    dtype_of(ndarray)
    out = Tensor(ndarray)
    out.is_view = True
    return out


@public
def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """data as a tensor, on the same memory where dtype and device allow; a Tensor stays in its graph."""
    if isinstance(data, np.ndarray):
        data = from_numpy(data)
    if isinstance(data, Tensor):
        return data.to(device, dtype)
    return tensor(data, dtype=dtype, device=device)


# ----------------------------------------------------------------------------------------------- from a shape


def shape_of(name: str, size: tuple) -> tuple[int, ...]:
    """f(2, 3), f((2, 3)) or f([2, 3]) -> (2, 3)"""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = tuple(size[0])
    try:
        shape = tuple(n.__index__() for n in size)
    except (AttributeError, TypeError):
        raise TypeError(f"{name}: the size {size} is not made of integers") from None
    if any(n < 0 for n in shape):
        raise ValueError(f"{name}: negative dimension in the size {shape}")
    return shape


def filled(
    shape: tuple[int, ...], value: Any, dtype: Any, device: Any, requires_grad: bool = False
) -> Tensor:
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    return _finish(backend.full(shape, value, d.numpy, resolve_device(device)), requires_grad)


@public
def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of shape `size`: zeros(2, 3) or zeros((2, 3))."""
    return filled(shape_of("zeros", size), 0, dtype, device, requires_grad)


@public
def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of shape `size`: ones(2, 3) or ones((2, 3))."""
    return filled(shape_of("ones", size), 1, dtype, device, requires_grad)


@public
def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of shape `size` whose values are whatever lay in memory."""
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    return _finish(backend.empty(shape_of("empty", size), d.numpy, resolve_device(device)), requires_grad)


@public
def full(
    size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """fill_value everywhere; its kind of number decides the dtype when none is given."""
    d = dtype_of_number(fill_value) if dtype is None else dtype
    shape = shape_of("full", (size,))
    return filled(shape, fill_value, d, device, requires_grad)


@public
def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None,
           requires_grad: bool = False) -> Tensor:  # fmt: skip
    """start, start + step, ... below end: ceil((end - start) / step) values; arange(end) starts at 0."""
    if end is None:
        start, end = 0, start
    if step == 0 or (end - start) / step < 0:
        raise ValueError(f"arange: a step of {step} does not lead from {start} to {end}")
    whole = all(isinstance(v, numbers.Integral) for v in (start, end, step))
    d = (int64 if whole else get_default_dtype()) if dtype is None else as_dtype(dtype)
    count = -((start - end) // step)
    exact = np.arange(int(count), dtype=np.int64 if whole else np.float64) * step + start
    return _finish(to_device(exact.astype(d.numpy), resolve_device(device)), requires_grad)


def _like(name: str, make: Callable) -> Callable:
    """The _like and new_ forms of a creation function."""

    def like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        d = input.dtype if dtype is None else dtype
        where = input.device if device is None else device
        return make(tuple(input.shape), dtype=d, device=where, requires_grad=requires_grad)

    def new(
        self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Tensor:
        d = self.dtype if dtype is None else dtype
        where = self.device if device is None else device
        return make(shape_of(f"new_{name}", size), dtype=d, device=where, requires_grad=requires_grad)

    like.__name__, new.__name__ = f"{name}_like", f"new_{name}"
    like.__doc__ = f"`{name}` with the shape, dtype and device of input, unless told otherwise."
    new.__doc__ = f"`{name}` with this tensor's dtype and device, unless told otherwise."
    public(like)
    method(new)
    return like


zeros_like = _like("zeros", zeros)
ones_like = _like("ones", ones)
empty_like = _like("empty", empty)


@public
def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None,
              requires_grad: bool = False) -> Tensor:  # fmt: skip
    """fill_value with the shape, dtype and device of input, unless told otherwise."""
    where = device_of(input.array) if device is None else device
    return filled(input.array.shape, fill_value, dtype or input.dtype, where, requires_grad)


@method
def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:  # fmt: skip
    """`full` with this tensor's dtype and device, unless told otherwise."""
    where = device_of(self.array) if device is None else device
    return full(size, fill_value, dtype=dtype or self.dtype, device=where, requires_grad=requires_grad)


@method
def new_tensor(
    self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`tensor(data)` with this tensor's dtype and device, unless told otherwise."""
    where = device_of(self.array) if device is None else device
    return tensor(data, dtype=dtype or self.dtype, device=where, requires_grad=requires_grad)
