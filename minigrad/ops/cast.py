"""Changes of type and place: an element type, a device, other memory. Gradients take the way back."""

from __future__ import annotations

from ..autograd import op
from ..backend import destination, device_of, to_device


@op(aux=True)
def cast(x, numpy_dtype):
    """x in another element type; between floating types differentiable."""
    place = None if destination.array is None else destination.take(x.shape, numpy_dtype)
    if place is None:
        return x.astype(numpy_dtype), x.dtype
    place[...] = x
    return place, x.dtype


cast.vjp(x=lambda g, aux: cast(g, aux))


@op(aux=True)
def stand_in(x, values):
    """values: those of x in another floating type, kept from an earlier cast"""
    return values, x.dtype


stand_in.vjp(x=lambda g, aux: cast(g, aux))


@op(aux=True)
def move(x, device):
    """x on another device."""
    return to_device(x, device), device_of(x)


move.vjp(x=lambda g, aux: move(g, aux))


@op
def clone(x):
    """x in memory of its own, contiguous."""
    return x.copy()


clone.vjp(x=lambda g: g)
