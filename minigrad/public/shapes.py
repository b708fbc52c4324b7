"""Shapes: the same elements under other sizes, or in another order of dims. Views where the layout allows."""

from __future__ import annotations

from math import prod
from typing import Any

from .. import ops
from ..tensor import Tensor
from .dims import all_dims, one_dim, sizes_of
from .register import alias, method, public


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


@public
@method
def permute(input: Tensor, *axes: Any, dims: Any = ()) -> Tensor:
    """The dims in another order: y.shape[k] = x.shape[dims[k]]. A view."""
    n = input.array.ndim
    order = tuple([one_dim("permute", d, n) for d in sizes_of("permute", axes or dims)])
    if len(order) != n or len(set(order)) != n:
        raise ValueError(f"permute: dims {order} must name each of the {n} dims of the tensor once")
    return ops.permute(input, order)


@public
@method
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dims exchanged. A view."""
    n = input.array.ndim
    a, b = one_dim("transpose", dim0, n), one_dim("transpose", dim1, n)
    if a == b:
        return ops.permute(input, tuple(range(n)))
    if n - a + n - b == 3:
        return ops.matrix_transpose(input)
    order = list(range(n))
    order[a], order[b] = b, a
    return ops.permute(input, tuple(order))


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


@public
@method
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without the dims of size 1: all of them, or those of `dim` (an int or a tuple) that have it."""
    shape = input.array.shape
    chosen = range(len(shape)) if dim is None else all_dims("squeeze", dim, len(shape)) if dim != () else ()
    return ops.reshape(input, tuple([n for k, n in enumerate(shape) if n != 1 or k not in chosen]))


@public
@method
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A new dim of size 1 at position dim."""
    shape = input.array.shape
    k = one_dim("unsqueeze", dim, len(shape) + 1)
    return ops.reshape(input, (*shape[:k], 1, *shape[k:]))


@method
def expand(self: Tensor, *sizes: Any, size: Any = ()) -> Tensor:
    """Dims of size 1 repeated, and new dims in front, without memory: a read-only view. -1 keeps a size."""
    wanted, shape = sizes_of("expand", sizes or size), self.array.shape
    new = len(wanted) - len(shape)
    if new < 0:
        raise ValueError(
            f"expand: sizes {wanted} for a tensor of shape {shape}; each of its dims needs a size"
        )
    old = (None,) * new + shape
    full = tuple([h if n == -1 and h is not None else n for n, h in zip(wanted, old, strict=True)])
    for n, h in zip(full, old, strict=True):
        if n < 0 or (h is not None and n != h and h != 1):
            raise ValueError(
                f"expand: shape {shape} does not expand to {wanted}; only dims of size 1 are repeated"
            )
    return ops.expand(self, full)


@method
def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """self expanded to the shape of other."""
    return expand(self, tuple(other.shape))


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
