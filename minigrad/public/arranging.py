"""Elements in another arrangement: turned round, shifted, in triangles and on diagonals, repeated."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend, ops
from ..tensor import Tensor
from .dims import check_tensor, in_order, one_dim, sizes_of
from .register import in_place, method, public
from .shapes import flatten, transpose

# ----------------------------------------------------------------------------- turned round, shifted


@public
@method
def flip(input: Tensor, *axes: Any, dims: Any = ()) -> Tensor:
    """The order of elements reversed along dims. A copy."""
    chosen = in_order("flip", sizes_of("flip", axes or (dims,)), input.array.ndim)
    return ops.flip(input, chosen if input.array.ndim else ())


@public
@method
def fliplr(input: Tensor) -> Tensor:
    """Columns in reverse order (dim 1)."""
    if input.array.ndim < 2:
        raise ValueError(f"fliplr: at least 2 dims are needed, this tensor has shape {tuple(input.shape)}")
    return ops.flip(input, (1,))


@public
@method
def flipud(input: Tensor) -> Tensor:
    """Rows in reverse order (dim 0)."""
    if input.array.ndim < 1:
        raise ValueError("flipud: at least 1 dim is needed, this tensor has none")
    return ops.flip(input, (0,))


@public
@method
def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """Turned by k quarters from dims[0] towards dims[1]."""
    turned = in_order("rot90", dims, input.array.ndim)
    if len(turned) != 2:
        raise ValueError(f"rot90: dims={dims}; a turn takes two dims")
    a, b = turned
    if k % 4 == 2:
        return ops.flip(input, (a, b))
    if k % 4 == 0:
        return ops.clone(input)
    return transpose(ops.flip(input, (b,)), a, b) if k % 4 == 1 else ops.flip(transpose(input, a, b), (b,))


@public
@method
def roll(input: Tensor, shifts: Any, dims: Any = ()) -> Tensor:
    """Shifted along dims (of the flat tensor by default); what leaves at the end comes back at the start."""
    moves = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    if dims is None or (isinstance(dims, (tuple, list)) and not dims):
        if len(moves) != 1:
            raise ValueError(f"roll: shifts {moves} need as many dims; without dims, give one shift")
        return ops.roll(input, moves, None)
    places = tuple(
        [one_dim("roll", d, input.array.ndim) for d in ((dims,) if isinstance(dims, int) else dims)]
    )
    if len(places) != len(moves):
        raise ValueError(f"roll: {len(moves)} shifts for {len(places)} dims")
    return ops.roll(input, moves, places)


# ------------------------------------------------------------------------------ triangles, diagonals


def _matrices(name: str, input: Any) -> Tensor:
    check_tensor(name, input)
    if input.array.ndim < 2:
        raise ValueError(f"{name}: at least 2 dims are needed, this tensor has shape {tuple(input.shape)}")
    return input


@public
@method
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangles of matrices in the last two dims: what lies above the given diagonal becomes 0."""
    return ops.tril(_matrices("tril", input), diagonal)


@public
@method
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangles of matrices in the last two dims: what lies below the given diagonal becomes 0."""
    return ops.triu(_matrices("triu", input), diagonal)


in_place(tril)
in_place(triu)


@public
@method
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two dims as the last dim; offset > 0 lies above the main one, < 0 below. A view."""
    a, b = in_order("diagonal", (dim1, dim2), _matrices("diagonal", input).array.ndim)
    return ops.diagonal(input, offset, a, b)


@public
@method
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The last dim of the input on a diagonal of matrices, which are dims dim1 and dim2 of the result."""
    ndim = input.array.ndim
    if not ndim:
        raise ValueError("diag_embed: a 0-d tensor has no dim to put on a diagonal")
    a, b = in_order("diag_embed", (dim1, dim2), ndim + 1)
    side = input.array.shape[-1] + abs(offset)
    shape = list(input.array.shape[:-1])
    for k in sorted((a, b)):
        shape.insert(k, side)
    return ops.on_diagonal(input, offset, a, b, tuple(shape))


@public
@method
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The square matrix with a vector on a diagonal, or a diagonal of a matrix."""
    if input.array.ndim not in (1, 2):
        raise ValueError(f"diag: 1 or 2 dims are needed, this tensor has shape {tuple(input.shape)}")
    return (
        diag_embed(input, diagonal)
        if input.array.ndim == 1
        else ops.clone(ops.diagonal(input, diagonal, 0, 1))
    )


@public
@method
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The square matrix with all elements on a diagonal."""
    return diag_embed(flatten(input), offset)


# ----------------------------------------------------------------------------------------- repeating


@method
def repeat(self: Tensor, *sizes: Any, repeats: Any = ()) -> Tensor:
    """The tensor repeated sizes[k] times along dim k; more sizes than dims put new dims in front. A copy."""
    times = sizes_of("repeat", sizes or repeats)
    new = len(times) - self.array.ndim
    if new < 0 or min(times, default=0) < 0:
        raise ValueError(
            f"repeat: times {times} for a tensor of shape {tuple(self.shape)}; each dim needs one >= 0"
        )
    return _repeated(self, times, (1,) * new + self.array.shape)


@public
@method
def tile(input: Tensor, *times: Any, dims: Any = ()) -> Tensor:
    """As `repeat`; with fewer numbers than dims, the first dims are not repeated."""
    given = sizes_of("tile", times or dims)
    given = (1,) * (input.array.ndim - len(given)) + given
    return repeat(input, given)


def _repeated(x: Tensor, times: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """x, in this shape, repeated times[k] along dim k: stretched along a new dim before each one."""
    apart = ops.reshape(x, tuple([n for k in shape for n in (1, k)]))
    pairs = ops.expand(apart, tuple([n for pair in zip(times, shape) for n in pair]))
    return _copied(ops.reshape(pairs, tuple([t * n for t, n in zip(times, shape)])))


def _copied(y: Tensor) -> Tensor:
    return ops.clone(y) if y.is_view else y


@public
@method
def repeat_interleave(
    input: Tensor, repeats: Any, dim: int | None = None, *, output_size: Any = None
) -> Tensor:
    """Each element along dim (of the flat tensor by default) repeated in place, `repeats` times or as listed.

    A tensor of repeats is read by the host, for the size of the result.
    """
    check_tensor("repeat_interleave", input)
    x = flatten(input) if dim is None else input
    axis = 0 if dim is None else one_dim("repeat_interleave", dim, input.array.ndim)
    n = x.array.shape[axis]
    if isinstance(repeats, Tensor) and repeats.array.size != 1:
        counts = repeats.tolist()
        if repeats.array.ndim != 1 or len(counts) != n or min(counts, default=0) < 0:
            raise ValueError(
                f"repeat_interleave: {repeats.array.shape} repeats for {n} elements; each needs one >= 0"
            )
        places = [k for k, count in enumerate(counts) for _ in range(count)]
        return ops.take(x, Tensor(backend.to_device(np.array(places, np.int64), x.device)), axis)
    times = int(repeats)
    if times < 0:
        raise ValueError(f"repeat_interleave: {times} repeats; there must be 0 or more")
    shape = x.array.shape
    apart = ops.reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    pairs = ops.expand(apart, (*shape[: axis + 1], times, *shape[axis + 1 :]))
    return _copied(ops.reshape(pairs, (*shape[:axis], n * times, *shape[axis + 1 :])))
