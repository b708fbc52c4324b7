"""Joining tensors, and taking them apart: cat, stack and their kin; split, chunk, unbind, narrow as views."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..backend import promote
from ..tensor import Tensor
from .dims import check_tensor, one_dim
from .promote import same_device
from .register import alias, method, public
from .shapes import atleast_1d, atleast_2d, atleast_3d

# ------------------------------------------------------------------------------------------- joining


def _listed(name: str, tensors: Any) -> list[Tensor]:
    """A sequence of tensors as a list in their common dtype. TypeError or ValueError for anything else."""
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"{name}: a list or tuple of tensors is needed, not {type(tensors).__name__}")
    if not tensors:
        raise ValueError(f"{name}: the list of tensors is empty")
    check_tensor(name, *tensors)
    first = tensors[0].array
    for t in tensors:
        if t.array.dtype is not first.dtype or type(t.array) is not type(first):
            break
    else:
        return list(tensors)
    same_device(name, *tensors)
    d = tensors[0].dtype
    for t in tensors:
        d = promote(d, t.dtype)
    return [t.to(d) for t in tensors]


@public
def cat(tensors: Any, dim: int = 0) -> Tensor:
    """The tensors one after the other along a dim, in their common dtype; the other sizes must agree.

    As in PyTorch, tensors of shape (0,) take no part beside tensors of more dims.
    """
    tensors = _listed("cat", tensors)
    parts = [t for t in tensors if t.array.shape != (0,)] or tensors[:1]
    if not parts[0].array.ndim:
        raise ValueError("cat: 0-d tensors cannot be joined; use stack()")
    return ops.cat(one_dim("cat", dim, parts[0].array.ndim), *parts)


alias(cat, "concat", "concatenate", methods=False)


@public
def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new dim, in their common dtype."""
    tensors = _listed("stack", tensors)
    shape = tensors[0].array.shape
    for k, t in enumerate(tensors):
        if t.array.shape != shape:
            raise ValueError(
                f"stack: tensor {k} has shape {t.array.shape}, the first {shape}; they must agree"
            )
    return ops.stack(one_dim("stack", dim, len(shape) + 1), *tensors)


@public
def hstack(tensors: Any) -> Tensor:
    """The tensors side by side: along dim 1, vectors along dim 0."""
    parts = [atleast_1d(t) for t in _listed("hstack", tensors)]
    return cat(parts, 0 if parts[0].array.ndim == 1 else 1)


@public
def vstack(tensors: Any) -> Tensor:
    """The tensors below each other: along dim 0, vectors as rows."""
    return cat([atleast_2d(t) for t in _listed("vstack", tensors)], 0)


alias(vstack, "row_stack", methods=False)


@public
def dstack(tensors: Any) -> Tensor:
    """The tensors behind each other: along dim 2."""
    return cat([atleast_3d(t) for t in _listed("dstack", tensors)], 2)


@public
def column_stack(tensors: Any) -> Tensor:
    """The tensors side by side, vectors and numbers as columns."""
    parts = _listed("column_stack", tensors)
    return hstack([t if t.array.ndim > 1 else ops.reshape(t, (t.array.size, 1)) for t in parts])


# -------------------------------------------------------------------------------------- taking apart


def _part(input: Tensor, axis: int, start: int, stop: int) -> Tensor:
    return ops.getitem(input, (slice(None),) * axis + (slice(start, stop), ...))


def _dim_to_split(name: str, input: Any, dim: int) -> int:
    check_tensor(name, input)
    if not input.array.ndim:
        raise ValueError(f"{name}: a 0-d tensor has no dim to go along")
    return one_dim(name, dim, input.array.ndim)


@public
@method
def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """`length` elements of a dim from `start` on. A view."""
    axis = _dim_to_split("narrow", input, dim)
    if isinstance(start, Tensor) and (start.array.ndim or start.array.dtype.kind not in "iu"):
        raise TypeError(
            f"narrow: start is {start.dtype.name}{list(start.shape)}; use a number, or a 0-d tensor of one"
        )
    n, first = input.array.shape[axis], int(start)
    if not -n <= first <= n:
        raise IndexError(f"narrow: start {first} is out of range for dim {dim} of size {n}")
    first += n if first < 0 else 0
    if length < 0 or first + length > n:
        raise ValueError(f"narrow: elements {first} to {first + length} of dim {dim}, which has size {n}")
    return _part(input, axis, first, first + length)


@public
@method
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One element of a dim, without the dim. A view."""
    axis = _dim_to_split("select", input, dim)
    n = input.array.shape[axis]
    if not -n <= index < n:
        raise IndexError(f"select: index {index} is out of range for dim {dim} of size {n}")
    return ops.getitem(input, (slice(None),) * axis + (int(index), ...))


@public
@method
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """All elements of a dim, each without the dim. Views."""
    axis = _dim_to_split("unbind", input, dim)
    lead = (slice(None),) * axis
    return tuple([ops.getitem(input, (*lead, k, ...)) for k in range(input.array.shape[axis])])


def _cut(input: Tensor, axis: int, ends: list[int]) -> tuple[Tensor, ...]:
    """The parts of an axis up to each of the ends. Views."""
    return tuple([_part(input, axis, a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)])


@public
@method
def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of one size along a dim (the last may be smaller), or of the sizes listed. Views."""
    axis = _dim_to_split("split", tensor, dim)
    n = tensor.array.shape[axis]
    if isinstance(split_size_or_sections, (list, tuple)):
        ends = [sum(split_size_or_sections[: k + 1]) for k in range(len(split_size_or_sections))]
        if min(split_size_or_sections, default=0) < 0 or (ends or [0])[-1] != n:
            raise ValueError(
                f"split: sizes {list(split_size_or_sections)} must add up to {n}, the size of dim {dim}"
            )
        return _cut(tensor, axis, ends)
    size = int(split_size_or_sections)
    if size < 0 or (size == 0 and n):
        raise ValueError(f"split: a part of size {size}; sizes are positive")
    return _cut(tensor, axis, [min(k + size, n) for k in range(0, n, size)] if n else [0])


@public
@method
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts of one size along a dim; the last may be smaller. Views."""
    axis = _dim_to_split("chunk", input, dim)
    if chunks <= 0:
        raise ValueError(f"chunk: {chunks} chunks; there must be at least one")
    n = input.array.shape[axis]
    return split(input, -(-n // chunks), axis) if n else _cut(input, axis, [0] * chunks)


@public
@method
def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """n parts whose sizes differ by at most one, or the parts between the indices listed. Views."""
    axis = _dim_to_split("tensor_split", input, dim)
    n = input.array.shape[axis]
    if isinstance(indices_or_sections, Tensor):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, (list, tuple)):
        stops = [min(max(k + n if k < 0 else k, 0), n) for k in indices_or_sections] + [n]
        starts = [0, *stops[:-1]]
        return tuple([_part(input, axis, a, max(a, b)) for a, b in zip(starts, stops, strict=True)])
    parts = int(indices_or_sections)
    if parts <= 0:
        raise ValueError(f"tensor_split: {parts} parts; there must be at least one")
    size, more = divmod(n, parts)
    return _cut(input, axis, [size * (k + 1) + min(k + 1, more) for k in range(parts)])


def _equal_parts(name: str, input: Tensor, indices_or_sections: Any, axis: int) -> tuple[Tensor, ...]:
    """tensor_split into parts that must be equal, or at indices."""
    n = input.array.shape[axis]
    if isinstance(indices_or_sections, int) and (indices_or_sections <= 0 or n % indices_or_sections):
        raise ValueError(
            f"{name}: dim {axis} of size {n} cannot be split into {indices_or_sections} equal parts"
        )
    return tensor_split(input, indices_or_sections, axis)


@public
@method
def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts, or those between indices, along dim 1 (of a vector: dim 0). Views."""
    axis = _dim_to_split("hsplit", input, 0) if input.array.ndim < 2 else 1
    return _equal_parts("hsplit", input, indices_or_sections, axis)


@public
@method
def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts, or those between indices, along dim 0 of a tensor of at least 2 dims. Views."""
    if input.array.ndim < 2:
        raise ValueError(f"vsplit: at least 2 dims are needed, this tensor has shape {tuple(input.shape)}")
    return _equal_parts("vsplit", input, indices_or_sections, 0)


@public
@method
def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts, or those between indices, along dim 2 of a tensor of at least 3 dims. Views."""
    if input.array.ndim < 3:
        raise ValueError(f"dsplit: at least 3 dims are needed, this tensor has shape {tuple(input.shape)}")
    return _equal_parts("dsplit", input, indices_or_sections, 2)
