"""What a function says when it is given an array or a list where it takes a Tensor.

Functions read `x.array` without asking first, which costs nothing; only when that fails are the arguments
looked at, against the annotations of the function's parameters.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from ..tensor import Tensor

F = TypeVar("F", bound=Callable)
REQUIRED, OPTIONAL = ("Tensor", Tensor), ("Tensor | None", Tensor | None)


def refusal(name: str, function: Callable, args: tuple, kwargs: dict) -> TypeError | None:
    """The error that names the argument which is no Tensor, if there is one."""
    try:
        signature = inspect.signature(function)
        given = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return None
    for word, value in given.items():
        kind = signature.parameters[word].annotation
        fits = isinstance(value, Tensor) or (value is None and kind not in REQUIRED)
        if not fits and (kind in REQUIRED or kind in OPTIONAL):
            found = type(value).__name__
            return TypeError(f"{name}: {word} is a {found}, no Tensor; make it one with minigrad.tensor(...)")
    return None


def of_tensors(function: F) -> F:
    """The function, which names an argument that is no Tensor; those of autocast's lists do so anyway."""

    @functools.wraps(function)
    def asked(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except AttributeError:
            if (error := refusal(function.__name__, function, args, kwargs)) is not None:
                raise error from None
            raise

    return asked  # type: ignore[return-value]
