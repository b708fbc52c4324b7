"""Indexing: `x[...]` and `x[...] = value` as PyTorch has them, and the named ways to gather and scatter.

A key is brought to one form. Ints, slices, None, Ellipsis come first and make a view; what is left are
whole-number tensors at some dims (a mask is the tensors of its true positions), and they are one `take`, or
one `put`, along those dims taken together. Out-of-range indices raise IndexError on the CPU; on a device
nothing is read back to check them: there an index counts modulo the size of its dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from operator import index as as_int
from typing import Any

import numpy as np

from .. import ops
from ..backend import Array, device, device_of, on_device, to_device, xp_of
from ..grad_mode import mode
from ..tensor import Tensor
from .dims import check_tensor
from .promote import check_operand, same_device, scalar
from .register import alias_of, in_place, method, public

# --------------------------------------------------------------------------------------------- keys of x[...]

Place = tuple[int, Tensor]  # a dim, and the whole numbers that index it


class Mask:
    """A boolean index: the positions where it is true, one vector for each of its dims."""

    def __init__(self, array: Array, where: device):
        self.shape, self.ndim = array.shape, array.ndim
        found = xp_of(array).nonzero(array if array.ndim else array.reshape(1))
        self.positions = [Tensor(to_device(p, where)) for p in found]


def key_of(x: Tensor, key: Any, name: str = "indexing") -> tuple[tuple | None, list[Place]]:
    """(basic, places) of a key: x[basic] is a view (None for x itself), which `places` index further.

    IndexError for what does not fit the tensor.
    """
    if isinstance(key, Tensor) and key.array.dtype.kind == "i" and key.array.ndim and x.array.ndim:
        return None, [(0, in_range(name, _beside(x, key), 0, x.array.shape[0]))]  # by far the most common
    items = [_item(x, k) for k in (key if isinstance(key, tuple) else (key,))]
    dots = [n for n, k in enumerate(items) if k is Ellipsis]
    if len(dots) > 1:
        raise IndexError("indexing: more than one Ellipsis (...) in an index")
    used = sum([k.ndim if isinstance(k, Mask) else k is not None and k is not Ellipsis for k in items])
    if used > x.array.ndim:
        raise IndexError(f"indexing: {used} indices for a tensor of shape {tuple(x.array.shape)}")
    at = dots[0] if dots else len(items)
    items[at : at + 1] = [slice(None)] * (x.array.ndim - used)
    if sum([isinstance(k, (Tensor, Mask)) for k in items]) > 1:  # on a device: PyTorch takes these for ints
        items = [k.item() if isinstance(k, Tensor) and not k.array.ndim else k for k in items]
    basic: list[Any] = []
    places: list[Place] = []
    dim = out = 0  # counts the dims of x, and of the view
    for k in items:
        new = k is None or (isinstance(k, Mask) and not k.ndim)  # a dim that x does not have
        size = 1 if new else x.array.shape[dim]
        if isinstance(k, Mask):
            if k.shape != x.array.shape[dim : dim + k.ndim]:
                raise IndexError(
                    f"indexing: a mask of shape {k.shape} at dim {dim} of a tensor of shape "
                    f"{tuple(x.array.shape)}; its sizes must be those of the dims that it indexes"
                )
            places += [(out + n, p) for n, p in enumerate(k.positions)]
            basic += [slice(None)] * k.ndim if k.ndim else [None]
            dim, out = dim + k.ndim, out + max(k.ndim, 1)
            continue
        if isinstance(k, int) and not -size <= k < size:
            raise _out_of_range(name, k, dim, size)
        if isinstance(k, Tensor):
            places.append((out, in_range(name, k, dim, size)))
        basic.append(slice(None) if isinstance(k, Tensor) else k)
        dim, out = dim + (not new), out + (not isinstance(k, int))
    whole = all(isinstance(k, slice) and k == slice(None) for k in basic)
    return (None if whole else (*basic, Ellipsis)), places


def _item(x: Tensor, k: Any) -> Any:
    """One item of a key: an int, slice, None, Ellipsis, Mask, or a Tensor of whole numbers on x's device."""
    if k is None or k is Ellipsis:
        return k
    if isinstance(k, slice):
        if k.step is not None and as_int(k.step) <= 0:
            raise ValueError(
                f"indexing: slice step {k.step}; steps must be positive, flip() turns a dim round"
            )
        return slice(*[None if e is None else as_int(e) for e in (k.start, k.stop, k.step)])
    if isinstance(k, (list, tuple, range, np.ndarray, bool, np.bool_)):
        k = Tensor(_listed(k))
    if not isinstance(k, Tensor):
        try:
            return as_int(k)
        except TypeError:
            raise IndexError(
                f"indexing: {type(k).__name__} is no index; use ints, slices, None, ..., and tensors or "
                "lists of ints or bools"
            ) from None
    kind = k.array.dtype.kind
    if kind not in "bi":
        raise IndexError(
            f"indexing: a {k.dtype.name} index; use whole numbers (.long()) or a mask of bools (.bool())"
        )
    if kind == "b":
        return Mask(k.array, device_of(x.array))
    k = _beside(x, k)
    return k if k.array.ndim or on_device(k.array) else int(k.array)


def _beside(x: Tensor, k: Tensor) -> Tensor:
    """The index on the device of x; itself if it is there, so that its changes are seen."""
    if type(k.array) is type(x.array):
        return k
    return Tensor(to_device(k.array, device_of(x.array)))


def _listed(k: Any) -> np.ndarray:
    """A list or an array as numbers. IndexError where it holds anything else, or lists of several lengths."""
    try:
        found = _numbers(k)
    except ValueError:
        raise IndexError(f"indexing: a list with parts of different lengths: {k!r}") from None
    if found.dtype.kind not in "biuf":
        raise IndexError(f"indexing: a list of numbers or bools is needed, not {k!r}")
    return found


def _numbers(k: Any) -> np.ndarray:
    """A (nested) list of numbers and tensors, or an array, as a new array; an empty one has whole numbers."""
    plain = np.array([_numbers(v) for v in k] if isinstance(k, (list, tuple, range)) else _host(k))
    return plain if plain.size else plain.astype(np.int64)


def _host(k: Any) -> Any:
    return k.tolist() if isinstance(k, Tensor) else k


_MIN, _MAX = np.minimum.reduce, np.maximum.reduce


def in_range(name: str, index: Tensor, dim: int, size: int, negative: bool = True) -> Tensor:
    """The index counted from 0. IndexError for one out of range; on a device it counts modulo the size."""
    array = index.array
    if not array.size:
        return index
    if on_device(array):
        return Tensor(array % array.dtype.type(max(size, 1))) if negative else index
    low, high = _MIN(array, None), _MAX(array, None)
    if high >= size or low < (-size if negative else 0):
        raise _out_of_range(name, high if high >= size else low, dim, size)
    return Tensor(np.where(array < 0, array + size, array)) if low < 0 else index


def _out_of_range(name: str, index: Any, dim: int, size: int) -> IndexError:
    return IndexError(f"{name}: index {index} is out of range for dim {dim} of size {size}")


def _one_axis(x: Tensor, places: list[Place]) -> tuple[Tensor, int, Tensor, tuple[int, ...] | None]:
    """(y, axis, index): the indexed dims of x as one axis of y. And the order of dims that y was made from,
    if not x's.

    Neighbours stay where they are; dims apart from each other come first, as in NumPy.
    """
    if len(places) == 1:
        return x, places[0][0], places[0][1], None
    dims = [d for d, _ in places]
    axis, order = dims[0], None
    if dims[-1] - axis != len(dims) - 1:
        axis, order = 0, (*dims, *[d for d in range(x.array.ndim) if d not in dims])
        x = ops.permute(x, order)
    shape = x.array.shape
    arrays = [t.array for _, t in places]
    try:
        flat = arrays[0]
        for n, array in enumerate(arrays[1:], axis + 1):
            flat = flat * flat.dtype.type(shape[n]) + array
    except ValueError:
        shapes = " and ".join([str(a.shape) for a in arrays])
        raise IndexError(f"indexing: indices of shapes {shapes} cannot be broadcast together") from None
    end = axis + len(dims)
    return ops.reshape(x, (*shape[:axis], prod(shape[axis:end]), *shape[end:])), axis, Tensor(flat), order


# -------------------------------------------------------------------------------------- x[...] and x[...] = v

_PLAIN = {int, slice, type(None), type(Ellipsis)}


def _plain(key: Any) -> tuple | None:
    """A key of ints, slices, None and an Ellipsis as NumPy takes it, for a view; None for any other."""
    items = key if type(key) is tuple else (key,)
    for k in items:
        if type(k) not in _PLAIN or (type(k) is slice and k.step is not None):
            return None
    dots = items.count(Ellipsis)
    return (*items, Ellipsis) if not dots else items if dots == 1 else None


@method
def __getitem__(self: Tensor, key: Any) -> Tensor:
    """self[key]: a view for ints, slices, None and Ellipsis; a copy where tensors, lists, masks take part."""
    plain = _plain(key)
    if plain is not None:
        return ops.getitem(self, plain)
    basic, places = key_of(self, key)
    if not places:
        return ops.getitem(self, basic or (Ellipsis,))
    x, axis, index, _ = _one_axis(self if basic is None else ops.getitem(self, basic), places)
    return ops.take(x, index, axis)


@method
def __iter__(self: Tensor) -> Iterator[Tensor]:
    """The slices of the first dim, one after the other."""
    if not self.array.ndim:
        raise TypeError("iteration: a 0-d tensor has no dim to go through; use item()")
    return (ops.getitem(self, (k, Ellipsis)) for k in range(self.array.shape[0]))


@method
def __setitem__(self: Tensor, key: Any, value: Any) -> None:
    """self[key] = value, in place, with broadcasting; the rules of `Tensor.changed` hold.

    Where self or the value is in a graph, self is rebound to the differentiable result: refused for leaves
    that require gradients and for views. Of doubles in an index the last one counts (on a device: any one).
    """
    value = value_for(self, value)
    mask = _mask(self, key) if not value.ndim else None  # then nothing is counted, and no device read back
    if mode.enabled and (self.requires_grad or (isinstance(value, Tensor) and value.requires_grad)):
        x = alias_of(self)
        result = _written(x, key, value) if mask is None else ops.select(Tensor(mask), value, x)
        self.changed(result, "__setitem__")
        return
    x, array = self.array, value.array if isinstance(value, Tensor) else value
    if x.size and any(step == 0 and size > 1 for step, size in zip(x.strides, x.shape)):
        raise ValueError(
            "indexing: this tensor was expanded, so that elements share memory; clone() it first"
        )
    if mask is not None:
        xp_of(x).copyto(x, array, where=mask)
        self.touch()
        return
    where = _plain(key)
    if where is None:
        basic, places = key_of(self, key)
        x = x[basic or (Ellipsis,)]
        inside: list[Any] = [slice(None)] * x.ndim
        for dim, index in places:
            inside[dim] = index.array
        where = tuple(inside) or (Ellipsis,)
    try:
        x[where] = array
    except ValueError as error:
        raise ValueError(
            f"indexing: a value of shape {array.shape} for a part of shape {x[where].shape}: {error}"
        ) from None
    self.touch()


def _mask(x: Tensor, key: Any) -> Array | None:
    """The mask that a key is, with as many dims as x; None for any other key."""
    if (
        not isinstance(key, Tensor)
        or key.array.dtype.kind != "b"
        or on_device(key.array) != on_device(x.array)
    ):
        return None
    shape = key.array.shape
    if shape != x.array.shape[: len(shape)]:
        return None
    return key.array.reshape(shape + (1,) * (x.array.ndim - len(shape)))


def value_for(x: Tensor, value: Any) -> Any:
    """What is to be written into x: a Tensor of its dtype, on its device, or a scalar of its dtype."""
    if not isinstance(value, Tensor):
        check_operand("indexing", value)
        return scalar(value, x.dtype)
    if not value.array.ndim:
        return value.to(x.device).to(x.dtype)
    same_device("indexing", x, value)
    return value.to(x.dtype)


def one_value(name: str, x: Tensor, value: Any) -> Any:
    if isinstance(value, Tensor) and value.array.ndim:
        raise ValueError(f"{name}: value has shape {tuple(value.shape)}; it must be a number or a 0-d tensor")
    return value_for(x, value)


def _written(x: Tensor, key: Any, value: Any, accumulate: bool = False, name: str = "indexing") -> Tensor:
    """A copy of x with x[key] = value (or += value), differentiable in both."""
    basic, places = key_of(x, key, name)
    part = x if basic is None else ops.getitem(x, basic)
    if not places:
        value = _trimmed(value, part.array.ndim)
        return ops.setitem(x, part + value if accumulate else value, basic or (Ellipsis,))
    y, axis, index, order = _one_axis(part, places)
    shape = y.array.shape[:axis] + index.array.shape + y.array.shape[axis + 1 :]
    value = _trimmed(value, len(shape))
    if accumulate:
        value = (
            value if isinstance(value, Tensor) else Tensor(xp_of(y.array).full(shape, value, y.array.dtype))
        )
        y = y + ops.sum_at(ops.expand(value, shape), index, axis, y.array.shape[axis])
    else:
        y = ops.put(y, value, index, axis)
    if order is None:
        y = ops.reshape(y, part.array.shape)
    else:
        y = ops.reshape(y, tuple([part.array.shape[d] for d in order]))
        y = ops.permute(y, tuple(sorted(range(len(order)), key=order.__getitem__)))
    return y if basic is None else ops.setitem(x, y, basic)


def _trimmed(value: Any, ndim: int) -> Any:
    """The value without leading dims of size 1 that its destination does not have."""
    extra = value.ndim - ndim
    if extra <= 0 or any(n != 1 for n in value.shape[:extra]):
        return value
    return ops.reshape(value, value.array.shape[extra:])


@public
@method
def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of input with input[indices] = values, or += values if accumulate (doubles then add up).

    indices is a tuple of whole-number or bool tensors; None stands for a whole dim.
    """
    check_tensor("index_put", input, values)
    same_dtype("index_put", input, values)
    key = tuple([slice(None) if k is None else k for k in indices])
    return _written(input, key, values, accumulate, "index_put")


def same_dtype(name: str, a: Tensor, b: Tensor) -> None:
    if a.array.dtype != b.array.dtype:
        raise TypeError(
            f"{name}: {b.dtype.name} values for a {a.dtype.name} tensor; convert them with "
            f".to(minigrad.{a.dtype.name})"
        )


in_place(index_put)
