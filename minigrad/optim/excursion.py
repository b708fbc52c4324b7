"""Excursion: parameters go elsewhere for a while, and come back to the very bits they had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ..arena import Arena
from ..backend import Array
from ..tensor import Tensor


def pieces(params: Iterable[Tensor]) -> list[tuple[Arena, int, int]]:
    """The contiguous pieces (arena, start, stop) in which these parameters lie, as few as can be."""
    found: list[tuple[Arena, int, int]] = []
    for p in sorted(params, key=lambda p: (id(p.arena), p.offset, p.stop)):
        if found and found[-1][0] is p.arena and found[-1][2] == p.offset:
            found[-1] = (p.arena, found[-1][1], p.stop)
        else:
            found.append((p.arena, p.offset, p.stop))
    return found


def remembered(params: Iterable[Tensor]) -> Callable[[], None]:
    """What sets the parameters to the bits that they have now."""
    places = pieces(params)
    kept: list[Array] = [arena.array[start:stop].copy() for arena, start, stop in places]

    def back() -> None:
        for (arena, start, stop), values in zip(places, kept, strict=True):
            arena.array[start:stop] = values
            arena.version[0] += 1

    return back


@contextmanager
def excursion(params: Iterable[Tensor]) -> Iterator[None]:
    """Whatever is written into the parameters inside is undone at the end, also after an error.

    Graphs recorded inside need the values of inside: take gradients before it ends.
    """
    back = remembered(params)
    try:
        yield
    finally:
        back()
