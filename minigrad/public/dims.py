"""Dims as PyTorch takes them: one int or several, negative from the end, None for all."""

from __future__ import annotations

from functools import lru_cache
from operator import index
from typing import Any

from ..tensor import Tensor


def one_dim(name: str, dim: Any, ndim: int) -> int:
    """A dim counted from 0. IndexError when there is no such dim; a 0-d tensor is taken as having one."""
    try:
        k = index(dim)
    except TypeError:
        raise TypeError(f"{name}: dim must be an int, not {dim!r}") from None
    n = ndim or 1
    if not -n <= k < n:
        raise IndexError(f"{name}: dim {k} is out of range for a {ndim}-d tensor; use {-n} to {n - 1}")
    return k % n


def all_dims(name: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """None, an int, a tuple or a list -> sorted dims; None and () mean all. ValueError for doubles."""
    return _all_dims(name, tuple(dim) if dim.__class__ is list else dim, ndim)


@lru_cache(4096, typed=True)
def _all_dims(name: str, dim: Any, ndim: int) -> tuple[int, ...]:
    if dim is None or dim == ():
        return tuple(range(ndim))
    given = dim if isinstance(dim, tuple) else (dim,)
    dims = sorted([one_dim(name, d, ndim) for d in given])
    for k, d in enumerate(dims[1:]):
        if d == dims[k]:
            raise ValueError(f"{name}: dim {d} appears more than once in dim={given}")
    return tuple(dims) if ndim else ()


def in_order(name: str, dims: Any, ndim: int) -> tuple[int, ...]:
    """Dims counted from 0, in the order given. ValueError for doubles."""
    found = tuple([one_dim(name, d, ndim) for d in ((dims,) if isinstance(dims, int) else dims)])
    if len(set(found)) != len(found):
        raise ValueError(f"{name}: a dim appears more than once in {tuple(dims)}")
    return found


def sizes_of(name: str, sizes: tuple) -> tuple[int, ...]:
    """The sizes of f(2, 3), f((2, 3)) or f([2, 3]) as a tuple of ints. TypeError for anything else."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    try:
        return tuple([index(n) for n in sizes])
    except TypeError:
        raise TypeError(f"{name}: sizes must be ints, not {tuple(sizes)!r}") from None


def check_tensor(name: str, *values: Any) -> None:
    """TypeError for what is no Tensor, with the cure."""
    for value in values:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name}: {type(value).__name__} is no Tensor; make it one with minigrad.tensor(...)"
            )
