"""Masks, and the search for elements: by mask, by being non-zero, by order."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..backend import int32, int64, xp_of
from ..tensor import Tensor
from .dims import check_tensor
from .gathering import flattened, take_along_dim
from .indexing import one_value, same_dtype
from .promote import same_device
from .register import in_place, method, public


def _mask(name: str, input: Tensor, mask: Any) -> Tensor:
    """The mask. TypeError if it is not one of bools on the input's device."""
    check_tensor(name, input, mask)
    if mask.array.dtype.kind != "b":
        raise TypeError(f"{name}: the mask is {mask.dtype.name}; make it one of bools with .bool()")
    same_device(name, input, mask)
    return mask


def _common_shape(name: str, input: Tensor, mask: Tensor) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(input.array.shape, mask.array.shape)
    except ValueError:
        raise ValueError(
            f"{name}: an input of shape {tuple(input.shape)} and a mask of shape {tuple(mask.shape)} "
            "cannot be broadcast together"
        ) from None


@public
@method
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """value (a number or 0-d tensor) where the mask is true, else input; both broadcast."""
    _common_shape("masked_fill", input, _mask("masked_fill", input, mask))
    return ops.select(mask, one_value("masked_fill", input, value), input)


@public
@method
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements of input where the mask is true, as a vector. A device is asked how many there are."""
    shape = _common_shape("masked_select", input, _mask("masked_select", input, mask))
    places = xp_of(mask.array).flatnonzero(xp_of(mask.array).broadcast_to(mask.array, shape))
    return ops.take(
        flattened(input if input.array.shape == shape else ops.expand(input, shape)), Tensor(places), 0
    )


@public
@method
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy of input with the elements of source, one after the other, where the mask is true."""
    check_tensor("masked_scatter", source)
    same_dtype("masked_scatter", input, source)
    shape = _common_shape("masked_scatter", input, _mask("masked_scatter", input, mask))
    places = xp_of(mask.array).flatnonzero(xp_of(mask.array).broadcast_to(mask.array, shape))
    if source.array.size < len(places):
        raise ValueError(
            f"masked_scatter: {len(places)} places to fill, but source has {source.array.size} elements"
        )
    x = input if input.array.shape == shape else ops.expand(input, shape)
    values = ops.getitem(flattened(source), (slice(0, len(places)), Ellipsis))
    return ops.reshape(ops.put(flattened(x), values, Tensor(places), 0), shape)


in_place(masked_fill)
in_place(masked_scatter)

# ----------------------------------------------------------------------------------- where, and in what order


@public
@method
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of the elements that are not zero: (n, ndim), or a vector a dim. Reads a device back."""
    check_tensor("nonzero", input)
    array = input.array
    xp = xp_of(array)
    found = (
        xp.nonzero(array if array.ndim or not as_tuple else array.reshape(1))
        if array.ndim or as_tuple
        else ()
    )
    if as_tuple:
        return tuple([Tensor(p) for p in found])
    if not array.ndim:
        return Tensor(xp.zeros((len(xp.flatnonzero(array.reshape(1))), 0), np.int64))
    return Tensor(xp.stack(found, axis=1))


@public
@method
def argwhere(input: Tensor) -> Tensor:
    """The indices of the elements that are not zero, one a row."""
    return nonzero(input)


@public
def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where the values of input would be inserted to keep the last dim of sorted_sequence in order.

    Before equal ones, or behind them if right (side='right'). The sequence is a vector, or has the leading
    dims of input.
    """
    check_tensor("searchsorted", sorted_sequence)
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ValueError(
            f"searchsorted: side={side!r} with right={right}; use side='left' or side='right' alone"
        )
    sequence = sorted_sequence.array
    xp = xp_of(sequence)
    if sorter is not None:
        sequence = take_along_dim(sorted_sequence, sorter, -1).array
    where = "right" if right or side == "right" else "left"
    values = input.array if isinstance(input, Tensor) else xp.asarray(input)
    if sequence.ndim == 1:
        found = xp.searchsorted(sequence, values, side=where)
    elif sequence.shape[:-1] != values.shape[:-1]:
        raise ValueError(
            f"searchsorted: a sequence of shape {sequence.shape} for an input of shape {values.shape}; all "
            "dims but the last must be equal, or the sequence a vector"
        )
    else:
        rows, wanted = sequence.reshape(-1, sequence.shape[-1]), values.reshape(-1, values.shape[-1])
        each = [xp.searchsorted(s, v, side=where) for s, v in zip(rows, wanted)]
        found = (xp.stack(each) if each else xp.zeros(values.shape, np.int64)).reshape(values.shape)
    return Tensor(xp.asarray(found)).to(int32 if out_int32 else int64)


@public
@method
def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """How many boundaries are below each value (or at most it, if right): searchsorted(boundaries, input)."""
    if boundaries.array.ndim != 1:
        raise ValueError(f"bucketize: boundaries have shape {tuple(boundaries.shape)}; they must be a vector")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)
