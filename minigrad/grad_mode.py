"""Recording or not: `no_grad`, `enable_grad`, `set_grad_enabled`, as in PyTorch; one switch a thread.

Beside it stand the thread's other modes: what autocast has set (public/autocast.py), and whether the backward
pass that is going on started from a loss that a GradScaler scaled.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _Mode(threading.local):
    enabled = True
    casting: Any = None  # an autocast.Casting, where autocast is on
    retained = False  # backward() keeps the graph unless it is told otherwise
    scaled = False  # the gradients that this pass gives are those of a scaled loss

    def begin_backward(self, create_graph: bool) -> tuple:
        """The modes of a backward pass: recorded only with create_graph, never cast. Returns those before."""
        before = self.enabled, self.casting, self.scaled
        self.enabled, self.casting = create_graph, None
        return before

    def restore(self, before: tuple) -> None:
        self.enabled, self.casting, self.scaled = before


mode = _Mode()


def is_grad_enabled() -> bool:
    """True where operations are recorded."""
    return mode.enabled


class _Switch:
    """A context manager and decorator that sets the mode and restores it, after an exception too."""

    enabled = True

    def __init__(self) -> None:
        self.previous: list[bool] = []  # a stack: one object may be entered again inside itself

    def __enter__(self) -> None:
        self.previous.append(mode.enabled)
        mode.enabled = self.enabled

    def __exit__(self, *exc: Any) -> None:
        mode.enabled = self.previous.pop()

    def __call__(self, function: Callable) -> Callable:
        enabled = self.enabled
        if inspect.isgeneratorfunction(function):
            return _stepwise(function, enabled)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            before, mode.enabled = mode.enabled, enabled
            try:
                return function(*args, **kwargs)
            finally:
                mode.enabled = before

        return wrapped


def _stepwise(function: Callable, enabled: bool) -> Callable:
    """A generator function whose body runs in a mode, while between its steps the caller's mode holds."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        resume, argument = generator.send, None
        while True:
            before, mode.enabled = mode.enabled, enabled
            try:
                item = resume(argument)
            except StopIteration as end:
                return end.value
            finally:
                mode.enabled = before
            try:
                resume, argument = generator.send, (yield item)
            except BaseException as error:  # GeneratorExit too: the body hears of it
                resume, argument = generator.throw, error

    return wrapped


class no_grad(_Switch):
    """Nothing is recorded: `with no_grad():`, `@no_grad()` or `@no_grad`."""

    enabled = False

    def __new__(cls, function: Callable | None = None) -> Any:
        self = super().__new__(cls)
        if function is None:
            return self
        self.__init__()  # type: ignore[misc]
        return self(function)

    def __init__(self, function: Callable | None = None) -> None:
        super().__init__()


class enable_grad(no_grad):
    """Operations are recorded, inside `no_grad` too."""

    enabled = True


class inference_mode(no_grad):
    """As `no_grad`; `inference_mode(False)` changes nothing."""

    def __new__(cls, mode: Any = True) -> Any:
        return super().__new__(cls, mode if callable(mode) else None)

    def __init__(self, on: Any = True) -> None:
        super().__init__()
        self.enabled = mode.enabled and not on


class set_grad_enabled(_Switch):
    """Switch recording on or off at once; as a context manager, until its end."""

    def __init__(self, enabled: bool) -> None:
        super().__init__()
        self.enabled = bool(enabled)
        self.before, mode.enabled = mode.enabled, self.enabled

    def __enter__(self) -> None:
        self.previous.append(self.before)
        mode.enabled = self.enabled


@contextmanager
def graphs_retained() -> Iterator[None]:
    """backward() keeps the graph inside, unless its retain_graph says False: for who goes through it again.

    Optimizers that need curvature (SophiaH) call the closure so; its backward() is written as always.
    """
    before, mode.retained = mode.retained, True
    try:
        yield
    finally:
        mode.retained = before
