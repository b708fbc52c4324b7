"""New tensors, from data, from a shape, or from a rule."""

from __future__ import annotations

import functools
import math
import numbers
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend, ops
from ..backend import (
    as_dtype,
    device_of,
    dtype,
    dtype_of,
    get_default_dtype,
    int64,
    promote,
    resolve_device,
    to_device,
)
from ..tensor import Tensor
from .promote import check_operand, dtype_of_number, scalar
from .register import method, public

# -------------------------------------------------------------------------------------------------- from data


def _finish(array: Any, requires_grad: bool) -> Tensor:
    out = Tensor(array)
    return out.requires_grad_() if requires_grad else out


def _host_array(data: Any, wanted: Any) -> np.ndarray:
    """Numbers, nested sequences of them, or an array, as a new array of the dtype torch gives them."""
    if isinstance(data, np.ndarray):
        d = as_dtype(data.dtype) if wanted is None else as_dtype(wanted)
        return np.array(data, dtype=d.numpy)
    found: set[dtype] = set()
    plain = _plain(data, found)
    if wanted is not None:
        d = as_dtype(wanted)
    else:
        d = functools.reduce(promote, found) if found else get_default_dtype()
    try:
        array = np.array(plain, dtype=None if found else d.numpy)
        if array.dtype == object:
            raise OverflowError("an int of more than 64 bits")
    except OverflowError as error:
        raise ValueError(f"tensor: the data do not fit into {d.name} ({error})") from None
    except ValueError as error:
        raise ValueError(f"tensor: nested sequences of different lengths ({error})") from None
    if array.dtype.kind in "iu" and d.numpy.kind in "iu" and array.size:
        info = np.iinfo(d.numpy)
        low, high = array.min(), array.max()
        if low < info.min or high > info.max:
            raise ValueError(f"tensor: data from {low} to {high} do not fit into {d.name}")
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is inf
        return array.astype(d.numpy)


def _plain(data: Any, found: set[dtype]) -> Any:
    """Nested lists of Python numbers; notes the dtypes that the numbers stand for."""
    if isinstance(data, (list, tuple, range)):
        return [_plain(item, found) for item in data]
    if isinstance(data, Tensor):
        found.add(data.dtype)
        return data.tolist()
    if isinstance(data, (np.ndarray, np.generic)):
        found.add(as_dtype(data.dtype))
        return data.tolist()
    if not isinstance(data, (numbers.Real, numbers.Integral)):
        raise TypeError(
            f"tensor: no tensor is made of a {type(data).__name__}; give numbers, sequences or arrays"
        )
    found.add(dtype_of_number(data))
    return data


@public
def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of data: a number, nested sequences of numbers, or an array.

    Without dtype: Python floats give the default dtype, ints int64, bools bool; an array keeps its own. A
    Tensor or an array of a GPU stays on its device, unless `device` says another.
    """
    if isinstance(data, Tensor) or backend.on_device(data):
        source = data.array if isinstance(data, Tensor) else data
        array = source.astype((dtype_of(source) if dtype is None else as_dtype(dtype)).numpy)
        return _finish(array if device is None else to_device(array, resolve_device(device)), requires_grad)
    return _finish(to_device(_host_array(data, dtype), resolve_device(device)), requires_grad)


@public
def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A 0-d tensor of one number, in the default dtype."""
    return filled((), s, dtype, device, requires_grad)


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


@public
def asarray(obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None,
            requires_grad: bool = False) -> Tensor:  # fmt: skip
    """obj as a tensor: copied always (copy=True), where needed (None), or never, which may raise (False)."""
    if copy:
        out = tensor(obj, dtype=dtype, device=device)
    else:
        out = as_tensor(obj, dtype, device)
        source = obj.array if isinstance(obj, Tensor) else obj
        if copy is False and out.array is not source:
            raise ValueError(
                f"asarray: a {type(obj).__name__} becomes this tensor by copying only; leave copy out"
            )
    return out.requires_grad_() if requires_grad else out


# ----------------------------------------------------------------------------------------------- from a shape


def shape_of(name: str, sizes: tuple, size: Any = None) -> tuple[int, ...]:
    """f(2, 3), f((2, 3)) or f(size=(2, 3)) -> (2, 3)"""
    if size is not None:
        if sizes:
            raise TypeError(f"{name}: the size is given twice")
        sizes = (size,)
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    try:
        shape = tuple(n.__index__() for n in sizes)
    except (AttributeError, TypeError):
        raise TypeError(f"{name}: the size {sizes} is not made of integers") from None
    if any(n < 0 for n in shape):
        raise ValueError(f"{name}: negative dimension in the size {shape}")
    return shape


def filled(
    shape: tuple[int, ...], value: Any, dtype: Any, device: Any, requires_grad: bool = False
) -> Tensor:
    check_operand("full", value)
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    number = scalar(value.item() if isinstance(value, Tensor) else value, d)
    return _finish(backend.full(shape, number, d.numpy, resolve_device(device)), requires_grad)


@public
def zeros(*shape: Any, size: Any = None, dtype: Any = None, device: Any = None,
          requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Zeros of a shape: zeros(2, 3), zeros((2, 3)) or zeros(size=(2, 3))."""
    return filled(shape_of("zeros", shape, size), 0, dtype, device, requires_grad)


@public
def ones(*shape: Any, size: Any = None, dtype: Any = None, device: Any = None,
         requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Ones of a shape: ones(2, 3), ones((2, 3)) or ones(size=(2, 3))."""
    return filled(shape_of("ones", shape, size), 1, dtype, device, requires_grad)


@public
def empty(*shape: Any, size: Any = None, dtype: Any = None, device: Any = None,
          requires_grad: bool = False) -> Tensor:  # fmt: skip
    """A tensor of a shape, whose values are whatever lay in memory."""
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    return _finish(
        backend.empty(shape_of("empty", shape, size), d.numpy, resolve_device(device)), requires_grad
    )


@public
def full(
    size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """fill_value everywhere; its kind of number decides the dtype when none is given."""
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, Tensor) else dtype_of_number(fill_value)
    shape = shape_of("full", (size,))
    return filled(shape, fill_value, dtype, device, requires_grad)


@public
def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None,
        requires_grad: bool = False) -> Tensor:  # fmt: skip
    """The n x m matrix (n x n by default) with ones on the diagonal."""
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    shape = shape_of("eye", (n, n if m is None else m))
    return _finish(to_device(np.eye(*shape, dtype=d.numpy), resolve_device(device)), requires_grad)


# ------------------------------------------------------------------------------------------------ from a rule


@public
def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None,
           requires_grad: bool = False) -> Tensor:  # fmt: skip
    """start, start + step, ... before end: ceil((end - start) / step) values; arange(end) starts at 0."""
    if end is None:
        start, end = 0, start
    start, end, step = [v.item() if isinstance(v, Tensor) else v for v in (start, end, step)]
    whole = all(isinstance(v, numbers.Integral) for v in (start, end, step))
    d = (int64 if whole else get_default_dtype()) if dtype is None else as_dtype(dtype)
    if not whole and not d.is_floating_point:
        start, end, step = int(start), int(end), int(step)
    if not math.isfinite(start) or not math.isfinite(end) or step == 0 or (end - start) / step < 0:
        raise ValueError(f"arange: steps of {step} do not lead from {start} to {end}")
    count = -((start - end) // step) if whole or not d.is_floating_point else math.ceil((end - start) / step)
    counted = np.arange(count, dtype=np.float64 if d.is_floating_point else np.int64)
    return _finish(to_device((counted * step + start).astype(d.numpy), resolve_device(device)), requires_grad)


def _spaced(start: Any, end: Any, steps: int, d: dtype, name: str) -> np.ndarray:
    """`steps` float64 numbers from start to end, each counted from the nearer one: both are met exactly.

    Of integers, start and end are cut to whole numbers first.
    """
    try:
        steps = operator.index(steps)
    except TypeError:
        raise TypeError(f"{name}: steps = {steps!r}; it must be a whole number") from None
    if steps < 0:
        raise ValueError(f"{name}: {steps} steps; there must be 0 or more")
    for v in (start, end):
        if isinstance(v, Tensor) and v.array.ndim:
            raise ValueError(
                f"{name}: start and end are numbers or 0-d tensors, not of shape {list(v.shape)}"
            )
    start, end = (float(v) for v in (start, end))
    if not d.is_floating_point:
        start, end = float(int(start)), float(int(end))
    k, width = np.arange(steps), (end - start) / max(steps - 1, 1)
    return np.where(k < (steps + 1) // 2, start + k * width, end - (steps - 1 - k) * width)


@public
def linspace(start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:  # fmt: skip
    """`steps` numbers at equal distances from start to end, both included."""
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    values = _spaced(start, end, steps, d, "linspace").astype(d.numpy)
    return _finish(to_device(values, resolve_device(device)), requires_grad)


@public
def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:  # fmt: skip
    """base^x for `steps` numbers x at equal distances from start to end."""
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    values = (base ** _spaced(start, end, steps, d, "logspace")).astype(d.numpy)
    return _finish(to_device(values, resolve_device(device)), requires_grad)


@public
def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid: y_k[i_1, ..., i_n] = x_k[i_k] for tensors x_1 ... x_n of one dim.

    indexing="xy" puts the second tensor's dim first, as for pictures.
    """
    listed = (
        list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    )
    if indexing not in ("ij", "xy"):
        raise ValueError(f"meshgrid: indexing is 'ij' or 'xy', not {indexing!r}")
    if not listed or any(t.array.ndim > 1 for t in listed):
        raise ValueError("meshgrid: give tensors of one dim (or none)")
    places = list(range(len(listed)))
    if indexing == "xy" and len(listed) > 1:
        places[:2] = [1, 0]
    shape = [0] * len(listed)
    for t, k in zip(listed, places):
        shape[k] = t.array.size
    return tuple(
        ops.expand(
            ops.reshape(t, tuple(t.array.size if j == k else 1 for j in range(len(shape)))), tuple(shape)
        )
        for t, k in zip(listed, places)
    )


# ----------------------------------------------------------------------------------------- like other tensors


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
