"""A leaf's place in the arena, when a new gradient comes.

After `p.grad = None` the slot still holds the last gradient, and so may the user: `before = p.grad` is to
mean the same after the next backward. So a slot that somebody holds is handed over to them with a copy of its
values, and the leaf goes on with a new Tensor over the same memory. Nobody else holds it in plain training;
then all this costs a look at its reference count.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import getrefcount
from typing import Any

from kernels.cuda import graph

from .backend import destination
from .tensor import UNCHANGED, Tensor

OURS = 3  # references: the leaf's, the variable below, getrefcount's argument


def vacant(leaf: Tensor) -> Tensor:
    """The slot, to be written to."""
    slot: Any = leaf.slot
    if getrefcount(slot) > OURS:
        fresh = Tensor(slot.array)
        fresh.version = slot.shared_version()  # graphs that hold a view of the last gradient see it change
        slot.array, slot.version = slot.array.copy(), [slot.version[0]]
        leaf.slot = slot = fresh
    return slot


def noted(leaf: Tensor) -> None:
    """The leaf gets a gradient: who watches or captures the step is told."""
    recorder = graph.current()
    if recorder is not None:
        recorder.leaf(leaf)


def place(edge: Any, wanted: set | None, create_graph: bool) -> Any:
    """False: no gradient wanted. An array: a leaf's first contribution may be written there. Else True."""
    if edge is None:
        return False
    if wanted is not None:
        return edge in wanted
    if (
        not isinstance(edge, Tensor)
        or edge.slot is None
        or edge.grad is not None
        or edge.hooks
        or create_graph
    ):
        return True
    return vacant(edge).array


def into(where: Any, pullback: Callable, g: Tensor, saved: tuple) -> Tensor:
    """A vjp whose product may be written straight into a leaf's place (place())."""
    if where is True:
        return pullback(g, saved)
    destination.array = where
    try:
        d = pullback(g, saved)
        if destination.array is None and d.array is not where:
            d = Tensor(d.array.copy())  # it was computed from what now lies in the leaf's place
    finally:
        destination.array = None
    return d


def filled(leaf: Tensor, g: Tensor) -> Tensor:
    """The slot with the gradient g in it, which may have been written there already; without one, a copy."""
    noted(leaf)
    if leaf.slot is None:
        return Tensor(g.array.copy())  # g may be held by others too
    if g.array is not leaf.slot.array:
        vacant(leaf).array[...] = g.array
    slot = leaf.slot
    slot.touch()
    if slot.scaled:  # what lay here before was
        slot.scaled = False
    return slot


def added(grad: Tensor, g: Tensor) -> None:
    """The gradient g on top of the one that is there."""
    array = grad.array
    array += g.array
    if grad.version is UNCHANGED:
        grad.touch()
    else:
        grad.version[0] += 1


def once(edges: tuple, places: list) -> list:
    """Places for gradients that one vjp makes together, each offered once: linear(w, w, b) has two for w."""
    if len(set(edges)) == len(edges):
        return places
    first = {edge: k for k, edge in reversed(list(enumerate(edges)))}
    return [p if p is False or first[e] == k else True for k, (e, p) in enumerate(zip(edges, places))]
