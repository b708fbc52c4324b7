"""Shapes: the same elements under other sizes, or in another order of dims. Views where the layout allows."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

from .. import ops
from ..tensor import Tensor
from .dims import all_dims, check_tensor, in_order, one_dim, sizes_of
from .register import alias, alias_of, method, public


@lru_cache(4096)
def _filled_in(name: str, sizes: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Sizes with their one -1 replaced, for `count` elements. ValueError when they do not fit."""
    if min(sizes, default=0) >= 0:
        if prod(sizes) != count:
            raise ValueError(f"{name}: {count} elements do not fit into shape {sizes}")
        return sizes
    if min(sizes) < -1 or sizes.count(-1) > 1:
        raise ValueError(f"{name}: {sizes} is no shape; sizes are 0 or more, and one of them may be -1")
    known = prod([n for n in sizes if n != -1])
    if not known or count % known:
        raise ValueError(f"{name}: {count} elements do not fit into shape {sizes}")
    return tuple([count // known if n == -1 else n for n in sizes])


@public
@method
def reshape(input: Tensor, *sizes: Any, shape: Any = ()) -> Tensor:
    """The same elements in another shape; one size may be -1. A view where the layout allows, else a copy."""
    return ops.reshape(input, _filled_in("reshape", sizes_of("reshape", sizes or shape), input.array.size))


@method
def view(self: Tensor, *sizes: Any, size: Any = ()) -> Tensor:
    """The same memory in another shape; one size may be -1. ValueError where the layout does not allow it."""
    shape = _filled_in("view", sizes_of("view", sizes or size), self.array.size)
    y = ops.reshape(self, shape)
    if not y.is_view and self.array.size:
        raise ValueError(
            f"view: shape {shape} does not fit the layout of this tensor (shape {tuple(self.shape)}, strides "
            f"{self.stride()}); use reshape(), which copies"
        )
    return y


@public
@method
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dims start_dim to end_dim as one."""
    shape = input.array.shape
    if not shape:
        one_dim("flatten", start_dim, 0), one_dim("flatten", end_dim, 0)
        return ops.reshape(input, (1,))
    first, last = one_dim("flatten", start_dim, len(shape)), one_dim("flatten", end_dim, len(shape))
    if first > last:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    if first == last:
        return input
    return ops.reshape(input, (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :]))


@lru_cache(4096)
def _order(n: int, dims: tuple[int, ...]) -> tuple[int, ...]:
    order = tuple([one_dim("permute", d, n) for d in dims])
    if len(order) != n or len(set(order)) != n:
        raise ValueError(f"permute: dims {dims} must name each of the {n} dims of the tensor once")
    return order


@public
@method
def permute(input: Tensor, *axes: Any, dims: Any = ()) -> Tensor:
    """The dims in another order: y.shape[k] = x.shape[dims[k]]. A view."""
    return ops.permute(input, _order(input.array.ndim, sizes_of("permute", axes or dims)))


@lru_cache(4096, typed=True)
def _exchanged(n: int, dim0: int, dim1: int) -> tuple[int, ...]:
    a, b = one_dim("transpose", dim0, n), one_dim("transpose", dim1, n)
    order = list(range(n))
    if n:
        order[a], order[b] = b, a
    return tuple(order)


@public
@method
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dims exchanged. A view."""
    return ops.permute(input, _exchanged(input.array.ndim, dim0, dim1))


alias(transpose, "swapaxes", "swapdims")


@public
@method
def t(input: Tensor) -> Tensor:
    """The transposed matrix; vectors and numbers stay as they are. A view."""
    if input.array.ndim > 2:
        raise ValueError(
            f"t: at most 2 dims, this tensor has shape {tuple(input.shape)}; use transpose(), .mT"
        )
    return (
        ops.matrix_transpose(input) if input.array.ndim == 2 else ops.permute(input, tuple(range(input.ndim)))
    )


def _mT(self: Tensor) -> Tensor:
    """The last two dims exchanged. A view."""
    if self.array.ndim < 2:
        raise ValueError(f"mT: at least 2 dims, this tensor has shape {tuple(self.shape)}")
    return ops.matrix_transpose(self)


def _T(self: Tensor) -> Tensor:
    """The dims in reverse order. A view."""
    if self.array.ndim == 2:
        return ops.matrix_transpose(self)
    return ops.permute(self, tuple(range(self.array.ndim))[::-1])


Tensor.T, Tensor.mT = property(_T), property(_mT)  # type: ignore[attr-defined]
Tensor.H = property(t)  # type: ignore[attr-defined]
Tensor.mH = property(_mT)  # type: ignore[attr-defined]


@lru_cache(4096, typed=True)
def _squeezed(shape: tuple[int, ...], dim: Any) -> tuple[int, ...]:
    chosen = range(len(shape)) if dim is None else all_dims("squeeze", dim, len(shape)) if dim != () else ()
    return tuple([n for k, n in enumerate(shape) if n != 1 or k not in chosen])


@public
@method
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without the dims of size 1: all of them, or those of `dim` (an int or a tuple) that have it. A view."""
    return ops.reshape(input, _squeezed(input.array.shape, tuple(dim) if dim.__class__ is list else dim))


@lru_cache(4096, typed=True)
def _unsqueezed(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    k = one_dim("unsqueeze", dim, len(shape) + 1)
    return (*shape[:k], 1, *shape[k:])


@public
@method
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A new dim of size 1 at position dim. A view."""
    return ops.reshape(input, _unsqueezed(input.array.shape, dim))


@public
@method
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """The dims `source` moved to the positions `destination`; the others keep their order. A view."""
    n = input.array.ndim
    a, b = in_order("movedim", source, n), in_order("movedim", destination, n)
    if len(a) != len(b):
        raise ValueError(f"movedim: {len(a)} dims to {len(b)} positions")
    order = [k for k in range(n) if k not in a]
    for to, k in sorted(zip(b, a, strict=True)):
        order.insert(to, k)
    return ops.permute(input, tuple(order))


alias(movedim, "moveaxis")


@public
@method
def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """One dim as several, of the given sizes; one of them may be -1."""
    shape = input.array.shape
    k = one_dim("unflatten", dim, len(shape))
    parts = _filled_in("unflatten", sizes_of("unflatten", (sizes,)), shape[k])
    return ops.reshape(input, (*shape[:k], *parts, *shape[k + 1 :]))


@public
@method
def ravel(input: Tensor) -> Tensor:
    """All dims as one."""
    return ops.reshape(input, (input.array.size,))


@method
def view_as(self: Tensor, other: Tensor) -> Tensor:
    """The same memory in the shape of other."""
    return view(self, other.array.shape)


@method
def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """The same elements in the shape of other."""
    return reshape(self, other.array.shape)


def _at_least(name: str, tensors: tuple, shape_for: Any) -> Any:
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        return tuple([_at_least(name, (t,), shape_for) for t in tensors[0]])
    check_tensor(name, *tensors)
    found = tuple([ops.reshape(t, shape_for(t.array.shape)) for t in tensors])
    return found[0] if len(found) == 1 else found


@public
def atleast_1d(*tensors: Any) -> Any:
    """The tensor (or tensors, as a tuple) with at least 1 dim."""
    return _at_least("atleast_1d", tensors, lambda shape: shape or (1,))


@public
def atleast_2d(*tensors: Any) -> Any:
    """The tensor (or tensors, as a tuple) with at least 2 dims; a vector becomes a row."""
    return _at_least("atleast_2d", tensors, lambda shape: (1,) * (2 - len(shape)) + shape)


@public
def atleast_3d(*tensors: Any) -> Any:
    """The tensor (or tensors, as a tuple) with at least 3 dims: (n,) becomes (1, n, 1), (m, n) (m, n, 1)."""
    return _at_least(
        "atleast_3d",
        tensors,
        lambda shape: shape if len(shape) > 2 else (*((1,) * (2 - len(shape)) + shape), 1),
    )


@method
def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` elements of a dim, `step` apart, along a new last dim. A read-only view."""
    k = one_dim("unfold", dimension, self.array.ndim)
    x = self if self.array.ndim else ops.reshape(self, (1,))
    if step <= 0 or not 0 <= size <= x.array.shape[k]:
        raise ValueError(
            f"unfold: windows of size {size}, step {step} over dim {dimension} of size {x.array.shape[k]}; "
            "the size must fit and the step be positive"
        )
    return ops.unfold(x, k, size, step) if self.array.ndim else ops.getitem(x, (slice(0, size), ...))


# ------------------------------------------------------------------------- another shape, in place


def _reshaping(function: Any) -> None:
    """Give Tensor the method `name_`: the same memory, seen in the shape that function(self, ...) gives."""
    name = f"{function.__name__}_"

    def reshaping(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if (self.requires_grad and self.node is None) or self.arena is not None:
            raise RuntimeError(f"{name}: a leaf that requires gradients keeps its shape; use {name[:-1]}")
        seen = function(alias_of(self), *args, **kwargs)
        self.touch()  # what a graph has kept of self has its old shape
        self.array, self.node = seen.array, seen.node
        return self

    reshaping.__name__, reshaping.__doc__ = name, f"In-place version of `{name[:-1]}`."
    method(reshaping)


for _function in (squeeze, unsqueeze, transpose, t):
    _reshaping(_function)
Tensor.swapaxes_ = Tensor.swapdims_ = Tensor.transpose_  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------- the layout


@method
def size(self: Tensor, dim: int | None = None) -> Any:
    """The shape, or the size of one dim."""
    return self.shape if dim is None else self.array.shape[one_dim("size", dim, self.array.ndim)]


@method
def stride(self: Tensor, dim: int | None = None) -> Any:
    """Elements between neighbours along each dim, or one dim."""
    steps = tuple([s // self.array.itemsize for s in self.array.strides])
    return steps if dim is None else steps[one_dim("stride", dim, self.array.ndim)]


@method
def dim(self: Tensor) -> int:
    """The number of dims."""
    return self.array.ndim


@public
@method
def numel(input: Tensor) -> int:
    """The number of elements."""
    return input.array.size


Tensor.ndimension, Tensor.nelement = dim, numel  # type: ignore[attr-defined]


@method
def element_size(self: Tensor) -> int:
    """Bytes of one element."""
    return self.array.itemsize


Tensor.itemsize = property(element_size)  # type: ignore[attr-defined]
Tensor.nbytes = property(lambda self: self.array.nbytes)  # type: ignore[attr-defined]


@method
def is_contiguous(self: Tensor) -> bool:
    """Whether the elements lie in memory in C order, without gaps."""
    return bool(self.array.flags.c_contiguous)


@method
def contiguous(self: Tensor) -> Tensor:
    """The tensor itself if it is contiguous, else a copy that is."""
    return self if self.array.flags.c_contiguous else ops.clone(self)
