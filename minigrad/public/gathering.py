"""Gathering and scattering: along one dim by a vector of indices, or element by element.

All are `take` on the tensor or on its flattened elements, and the ways back: `sum_at`, which adds what
arrives at one place, and `put`, which replaces. Out-of-range indices raise IndexError on the CPU; a device
is not asked.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp_of
from ..ops.index import touched
from ..tensor import Tensor
from .dims import check_tensor, one_dim
from .indexing import in_range, one_value, same_dtype
from .promote import check_operand, same_device, scalar
from .register import EXPORTS, in_place, method, public

# ---------------------------------------------------------------------------------------------- along one dim


def _index(name: str, index: Any) -> Tensor:
    """The index as a Tensor of whole numbers. TypeError for anything else."""
    if not isinstance(index, Tensor) or index.array.dtype.kind != "i":
        found = index.dtype.name if isinstance(index, Tensor) else type(index).__name__
        raise TypeError(f"{name}: the index is {found}; it must be a tensor of whole numbers (.long())")
    return index


def _vector(name: str, input: Tensor, dim: Any, index: Any) -> tuple[Tensor, int, Tensor]:
    """input (a scalar as a vector), the dim counted from 0, and a 0-d or 1-d index, checked, as a vector."""
    check_tensor(name, input)
    dim = one_dim(name, dim, input.array.ndim)
    if not input.array.ndim:
        input = ops.reshape(input, (1,))
    index = _index(name, index)
    if index.array.ndim > 1:
        raise ValueError(f"{name}: the index has shape {tuple(index.shape)}; it must be a vector")
    same_device(name, input, index)
    index = in_range(name, index, dim, input.array.shape[dim], negative=name == "index_fill")
    return input, dim, index if index.array.ndim else ops.reshape(index, (1,))


@public
@method
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """y[..., i, ...] = input[..., index[i], ...] along dim, for a vector of indices."""
    x, dim, index = _vector("index_select", input, dim, index)
    y = ops.take(x, index, dim)
    return y if input.array.ndim else ops.reshape(y, ())


def _slices(name: str, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """source, as one slice of x an index. ValueError when the shapes do not fit."""
    check_tensor(name, source)
    same_dtype(name, x, source)
    shape = x.array.shape[:dim] + index.array.shape + x.array.shape[dim + 1 :]
    if source.array.shape != shape:
        if source.array.size == 1 == prod(shape):
            return ops.reshape(source, shape)
        raise ValueError(f"{name}: source has shape {tuple(source.shape)}; for this index it must be {shape}")
    return source


@public
@method
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """A copy of input with y[..., index[i], ...] += alpha source[..., i, ...]; doubles add up."""
    x, dim, index = _vector("index_add", input, dim, index)
    added = ops.sum_at(_slices("index_add", x, dim, index, source), index, dim, x.array.shape[dim])
    return input + ops.reshape(added if alpha == 1 else added * alpha, input.array.shape)


@public
@method
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy of input with y[..., index[i], ...] = source[..., i, ...]; each place named once."""
    x, dim, index = _vector("index_copy", input, dim, index)
    y = ops.put(x, _slices("index_copy", x, dim, index, source), index, dim)
    return ops.reshape(y, input.array.shape)


@public
@method
def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """A copy of input with y[..., index[i], ...] = value, a number or 0-d tensor."""
    x, dim, index = _vector("index_fill", input, dim, index)
    mask = touched(xp_of(x.array), index.array, x.array.shape[dim])
    mask = mask.reshape((-1,) + (1,) * (x.array.ndim - 1 - dim))
    return ops.reshape(ops.select(Tensor(mask), one_value("index_fill", x, value), x), input.array.shape)


# ----------------------------------------------------------------------------------------- element by element


def flattened(x: Tensor) -> Tensor:
    return x if x.array.ndim == 1 else ops.reshape(x, (x.array.size,))


def _elements(name: str, input: Tensor, dim: Any, index: Any, source: Tensor | None = None) -> Tensor:
    """For each element of the index its position in the flattened input. ValueError for shapes."""
    check_tensor(name, input)
    dim = one_dim(name, dim, input.array.ndim)
    index = _index(name, index)
    same_device(name, input, index)
    shape, places = input.array.shape or (1,), index.array.shape or (1,)
    bound = source.array.shape or (1,) if source is not None else places
    if index.array.size and (
        len(shape) != len(places)
        or len(bound) != len(places)
        or any(n > (m if k != dim else n) or n > b for k, (n, m, b) in enumerate(zip(places, shape, bound)))
    ):
        other = "" if source is None else f" nor the source's {tuple(source.shape)}"
        raise ValueError(
            f"{name}: index of shape {tuple(index.shape)}, input of shape {tuple(input.shape)}, dim={dim}; "
            f"it needs as many dims, and must not exceed the input's size in the others{other}"
        )
    index = in_range(name, index, dim, shape[dim], negative=False)
    if not index.array.size:
        return index
    flat, step, xp = index.array.reshape(places), 1, xp_of(index.array)
    total: Any = None
    for k in range(len(shape) - 1, -1, -1):
        if k == dim:
            part = flat if step == 1 else flat * flat.dtype.type(step)
        elif places[k] > 1:
            part = xp.arange(0, places[k] * step, step).reshape((places[k],) + (1,) * (len(shape) - 1 - k))
        else:
            part = None
        if part is not None:
            total = part if total is None else total + part
        step *= shape[k]
    return Tensor(total.reshape(index.array.shape))


@public
@method
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """y[i][j][k] = input[i][index[i][j][k]][k] for dim=1, and so for other dims; y is shaped as the index."""
    if sparse_grad:
        raise ValueError("gather: sparse_grad=True is not supported; gradients are dense")
    return ops.take(flattened(input), _elements("gather", input, dim, index), 0)


@public
@method
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """As gather, input and indices broadcast to each other in the other dims; dim=None: both flattened.

    Negative indices count back where a dim is given.
    """
    if dim is None:
        indices = flattened(_index("take_along_dim", indices))
        return ops.take(flattened(input), _elements("take_along_dim", flattened(input), 0, indices), 0)
    dim = one_dim("take_along_dim", dim, input.array.ndim)
    _index("take_along_dim", indices)
    same_device("take_along_dim", input, indices)
    if indices.array.ndim != input.array.ndim:
        raise ValueError(
            f"take_along_dim: indices of shape {tuple(indices.shape)} for an input of shape "
            f"{tuple(input.shape)}; both need as many dims"
        )
    common = []
    for k, (n, m) in enumerate(zip(input.array.shape, indices.array.shape)):
        if n != m and 1 not in (n, m) and k != dim:
            raise ValueError(f"take_along_dim: sizes {n} and {m} of dim {k} cannot be broadcast together")
        common.append(m if n == 1 else n)
    indices = in_range("take_along_dim", indices, dim, input.array.shape[dim] if common else 1)
    if not common:
        return ops.reshape(ops.take(flattened(input), flattened(indices), 0), ())
    shape, places = list(common), list(common)
    shape[dim], places[dim] = input.array.shape[dim], indices.array.shape[dim]
    input, indices = ops.expand(input, tuple(shape)), ops.expand(indices, tuple(places))
    return ops.take(flattened(input), _elements("take_along_dim", input, dim, indices), 0)


@public
@method
def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements of the flattened input at an index of any shape. Negative indices count back."""
    check_tensor("take", input)
    same_device("take", input, _index("take", index))
    return ops.take(flattened(input), in_range("take", index, 0, input.array.size), 0)


@method
def put(self: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy with source at an index of the flattened tensor, or added there if accumulate."""
    check_tensor("put", source)
    same_device("put", self, source, _index("put", index))
    same_dtype("put", self, source)
    if source.array.size != index.array.size:
        raise ValueError(f"put: {source.array.size} values for {index.array.size} indices; give one for each")
    places = flattened(in_range("put", index, 0, self.array.size))
    if accumulate:
        added = ops.sum_at(flattened(source), places, 0, self.array.size)
        return self + ops.reshape(added, self.array.shape)
    return ops.reshape(ops.put(flattened(self), flattened(source), places, 0), self.array.shape)


def _cropped(source: Tensor, index: Tensor) -> Tensor:
    """The part of source that the index speaks of, flattened."""
    if source.array.shape != index.array.shape and index.array.ndim:
        source = ops.getitem(source, (*[slice(0, n) for n in index.array.shape], Ellipsis))
    return flattened(source)


def _scattered(
    name: str, input: Tensor, dim: int, index: Tensor, source: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """(flattened input, flattened positions, flattened source) of a scatter."""
    check_tensor(name, source)
    same_dtype(name, input, source)
    same_device(name, input, source)
    places = _elements(name, input, dim, index, source)
    if not places.array.size:
        source = ops.getitem(flattened(source), (slice(0, 0), Ellipsis))
        return flattened(input), flattened(places), source
    return flattened(input), flattened(places), _cropped(source, index)


@public
@method
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy of input with y[i][index[i][j][k]][k] += src[i][j][k] for dim=1, and so for other dims."""
    x, places, source = _scattered("scatter_add", input, dim, index, src)
    return input + ops.reshape(ops.sum_at(source, places, 0, x.array.size), input.array.shape)


@public
@method
def scatter(
    input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Tensor:
    """A copy of input with y[i][index[i][j][k]][k] = src[i][j][k] for dim=1, and so for other dims.

    src may be a number. reduce 'add' or 'multiply' combines with what is there. Without it, of doubles in
    the index the last one counts (on a device: any one), and each of them gets the gradient, as in PyTorch.
    """
    if reduce not in (None, "add", "multiply"):
        raise ValueError(f"scatter: reduce={reduce!r}; use 'add' or 'multiply', or scatter_reduce()")
    src = value if src is None else src
    if not isinstance(src, Tensor):
        check_operand("scatter", src)
        places, xp = _elements("scatter", input, dim, index), xp_of(input.array)
        if reduce is None:
            mask = touched(xp, flattened(places).array, input.array.size).reshape(input.array.shape)
            return ops.select(Tensor(mask), scalar(src, input.dtype), input)
        src = Tensor(xp.full(index.array.shape, scalar(src, input.dtype)))
    if reduce is not None:
        return scatter_reduce(input, dim, index, src, {"add": "sum", "multiply": "prod"}[reduce])
    x, places, source = _scattered("scatter", input, dim, index, src)
    return ops.reshape(ops.put(x, source, places, 0), input.array.shape)


@public
@method
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """scatter_add with another reduction: 'sum', 'prod', 'mean', 'amax' or 'amin' of what arrives at each
    place.

    The input's own value takes part if include_self; a place that nothing arrives at keeps it in any case.
    'prod' takes a pass for each of the most sources that one place has, and reads that number back from a
    device.
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise ValueError(f"scatter_reduce: reduce={reduce!r}; use 'sum', 'prod', 'mean', 'amax' or 'amin'")
    x, places, source = _scattered("scatter_reduce", input, dim, index, src)
    if reduce in ("amax", "amin"):
        y = ops.extreme_at(x, source, places, reduce == "amax", include_self)
        return ops.reshape(y, input.array.shape)
    if not include_self:  # start from what changes nothing
        x = ops.put(x, x.array.dtype.type(reduce == "prod"), places, 0)
    if reduce == "prod":
        return ops.reshape(_multiplied(x, places, source), input.array.shape)
    y = x + ops.sum_at(source, places, 0, x.array.size)
    if reduce == "mean":
        xp = xp_of(x.array)
        counts = ops.sum_at(Tensor(xp.ones(places.array.shape, np.int64)), places, 0, x.array.size)
        n = xp.maximum(counts.array + include_self, 1)
        floats = x.array.dtype.kind not in "iu"
        n = n.astype(x.array.dtype)
        y = y / Tensor(n) if floats else Tensor(y.array // n)
    return ops.reshape(y, input.array.shape)


def _multiplied(x: Tensor, places: Tensor, source: Tensor) -> Tensor:
    """x times all that arrives at each place: the first arrival everywhere, then the second, and so on."""
    xp = xp_of(x.array)
    order = xp.argsort(places.array, kind="stable")
    ordered = places.array[order]
    rank = xp.arange(len(ordered)) - xp.searchsorted(ordered, ordered)
    for n in range(int(rank.max()) + 1 if rank.size else 0):
        arrivals = order[rank == n]
        to = Tensor(places.array[arrivals])
        x = ops.put(x, ops.take(x, to, 0) * ops.take(source, Tensor(arrivals), 0), to, 0)
    return x


for _function in (index_add, index_copy, index_fill, put, scatter, scatter_add, scatter_reduce):
    in_place(_function)
EXPORTS["put"] = put
