"""Hooks: functions that are called on the way, and the handle that takes one out again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels.cuda import graph

from .separate import own


class Handle:
    """What register_hook returns: `remove()` takes the hook out again. A context manager too."""

    def __init__(self, hooks: dict, hook: Callable):
        self.hooks, self.key = hooks, object()
        hooks[self.key] = hook

    def remove(self) -> None:
        self.hooks.pop(self.key, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()


def hooked(hooks: dict, g: Any) -> Any:
    """The gradient after all hooks have seen it: what one returns replaces it."""
    graph.refuse("a hook of a gradient")
    g = own(g)
    for hook in list(hooks.values()):
        replaced = hook(g)
        if replaced is not None and replaced is not g:
            g = own(replaced)  # it may be a leaf's .grad, to which this pass adds in place
    return g
