"""Gradients that share no memory.

A rule may hand on the gradient that it was given (`a + b` gives it to both), or a view of it; inside a
backward pass that is right, because nothing there is changed in place. What the user gets, he may change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def own(g: Any) -> Any:
    """The gradient in memory of its own; part of the graph where it was."""
    from .ops import clone

    return clone(g)


def separate(gradients: Sequence[Any], seeds: Sequence[Any]) -> list[Any]:
    """The gradients, with copies where one would share memory with another or with a seed."""
    held = {id(s.array) for s in seeds}
    separated = []
    for g in gradients:
        if g is not None and (id(g.array) in held or g.array.base is not None):
            g = own(g)
        if g is not None:
            held.add(id(g.array))
        separated.append(g)
    return separated
