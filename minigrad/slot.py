"""A leaf's place in the arena, when a new gradient comes.

After `p.grad = None` the slot still holds the last gradient, and so may the user: `before = p.grad` is to
mean the same after the next backward. So a slot that somebody holds is handed over to them with a copy of its
values, and the leaf goes on with a new Tensor over the same memory. Nobody else holds it in plain training;
then all this costs a look at its reference count.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Any

from kernels.cuda import graph

from .tensor import Tensor

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


def filled(leaf: Tensor, g: Tensor) -> Tensor:
    """The slot with the gradient g in it, which may have been written there already; without one, a copy."""
    recorder = graph.current()
    if recorder is not None:
        recorder.leaf(leaf)
    if leaf.slot is None:
        return Tensor(g.array.copy())  # g may be held by others too
    if g.array is not leaf.slot.array:
        vacant(leaf).array[...] = g.array
    slot = leaf.slot
    slot.touch()
    if slot.scaled:  # what lay here before was
        slot.scaled = False
    return slot


def added(leaf: Tensor, g: Tensor) -> None:
    """The gradient g on top of the one that is there."""
    recorder, grad = graph.current(), leaf.grad
    if recorder is not None:
        recorder.leaf(leaf)
    assert grad is not None
    grad.array += g.array
    if grad.version.__class__ is tuple:
        grad.touch()
    else:
        grad.version[0] += 1


def once(edges: tuple, places: list) -> list:
    """Places for gradients that one vjp makes together, each offered once: linear(w, w, b) has two for w."""
    if len(set(edges)) == len(edges):
        return places
    first = {edge: k for k, edge in reversed(list(enumerate(edges)))}
    return [p if p is False or first[e] == k else True for k, (e, p) in enumerate(zip(edges, places))]
