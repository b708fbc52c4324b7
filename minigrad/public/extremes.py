"""Extremes: the largest and the smallest element, and where it is.

float16 and bfloat16 are compared in float32. Here `max` and `min` are not Python's own.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

from .. import ops
from ..backend import float32
from ..ops.sums import is_half
from ..tensor import Tensor
from .dims import all_dims, check_tensor, one_dim
from .register import method, public


def not_empty(name: str, input: Tensor, axes: tuple[int, ...]) -> None:
    """ValueError when there is nothing along axes to choose an element from."""
    if 0 in [input.array.shape[k] for k in axes]:
        raise ValueError(f"{name}: no element to choose, the input has shape {tuple(input.shape)}")


def _extreme(name: str, operation: Callable, input: Any, dim: Any, keepdim: bool) -> Tensor:
    check_tensor(name, input)
    axes = all_dims(name, dim, input.array.ndim)
    not_empty(name, input, axes)
    return operation(input, axes, keepdim)


@public
@method
def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The largest element over dim; those that tie share the gradient equally."""
    return _extreme("amax", ops.amax, input, dim, keepdim)


@public
@method
def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The smallest element over dim; those that tie share the gradient equally."""
    return _extreme("amin", ops.amin, input, dim, keepdim)


AminmaxResult = namedtuple("AminmaxResult", "min max")
MaxResult = namedtuple("MaxResult", "values indices")
MinResult = namedtuple("MinResult", "values indices")


@public
@method
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> AminmaxResult:
    """(min, max) over one dim, or all."""
    check_tensor("aminmax", input)
    not_empty("aminmax", input, all_dims("aminmax", dim, input.array.ndim))
    return AminmaxResult(amin(input, dim, keepdim), amax(input, dim, keepdim))


def chosen(input: Tensor, axis: int, keepdim: bool, index: Callable) -> tuple[Tensor, Tensor]:
    """(values, indices) of one element along an axis: that at index(x, axis), which keeps the dim."""
    x = input if input.array.ndim else ops.reshape(input, (1,))
    places = index(x, axis)
    values = ops.take_along(x, places, axis)
    if not keepdim or not input.array.ndim:
        shape = x.array.shape[:axis] + x.array.shape[axis + 1 :]
        values, places = ops.reshape(values, shape), ops.reshape(places, shape)
    return values, places


def _best(
    name: str,
    whole: Callable,
    index: Callable,
    other: str,
    result: Any,
    input: Any,
    args: tuple,
    kwargs: dict,
) -> Any:
    """The three forms of max and min."""
    check_tensor(name, input)
    if not args and not kwargs:
        not_empty(name, input, tuple(range(input.array.ndim)))
        return whole(ops.reshape(input, (input.array.size,)))
    if "other" in kwargs or (args and isinstance(args[0], Tensor)):
        return getattr(input, other)(*args, **kwargs)

    def along(dim: int, keepdim: bool = False) -> Any:
        axis = one_dim(name, dim, input.array.ndim)
        if input.array.ndim:
            not_empty(name, input, (axis,))
        return result(*chosen(input, axis, keepdim, lambda x, axis: index(_comparable(x), axis, True)))

    return along(*args, **kwargs)


@public
@method
def max(input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """max(input): the largest element. max(input, dim, keepdim=False): (values, indices), with the
    gradient at the index. max(input, other): elementwise, as `maximum`."""
    return _best("max", ops.largest, ops.argmax, "maximum", MaxResult, input, args, kwargs)


@public
@method
def min(input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """min(input): the smallest element. min(input, dim, keepdim=False): (values, indices), with the
    gradient at the index. min(input, other): elementwise, as `minimum`."""
    return _best("min", ops.smallest, ops.argmin, "minimum", MinResult, input, args, kwargs)


def _comparable(x: Tensor) -> Tensor:
    return x.detach().to(float32) if is_half(x.array) else x


def _arg(name: str, operation: Callable, input: Any, dim: Any, keepdim: bool) -> Tensor:
    check_tensor(name, input)
    x, ndim = _comparable(input), input.array.ndim
    axis = 0 if dim is None else one_dim(name, dim, ndim)
    if dim is None or not ndim:
        x = ops.reshape(x, (x.array.size,))
    not_empty(name, x, (axis,))
    y = operation(x, axis, keepdim and dim is not None and ndim > 0)
    return ops.reshape(y, (1,) * ndim) if keepdim and dim is None else y


@public
@method
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the largest element (the first of several) along dim; by default in the flat tensor."""
    return _arg("argmax", ops.argmax, input, dim, keepdim)


@public
@method
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the smallest element (the first of several) along dim; by default in the flat tensor."""
    return _arg("argmin", ops.argmin, input, dim, keepdim)
