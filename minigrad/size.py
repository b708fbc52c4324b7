"""Shapes."""

from __future__ import annotations


class Size(tuple):
    """A shape: a tuple with PyTorch's name and `numel()`."""

    def numel(self) -> int:
        n = 1
        for d in self:
            n *= d
        return n

    def __repr__(self) -> str:
        return f"minigrad.Size({list(self)})"
