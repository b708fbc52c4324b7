"""How a function becomes `minigrad.name` and `Tensor.name`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..tensor import Tensor
from .autocast import where_listed, without

EXPORTS: dict[str, Any] = {}


def public(function: Callable) -> Callable:
    """Show the function as `minigrad.<its name>`; autocast may cast what it is given."""
    function = where_listed(function)
    EXPORTS[function.__name__] = named(function)
    return function


def named(function: Callable) -> Callable:
    """Let Python's own messages call the function what the user calls it."""
    function.__qualname__ = function.__name__
    return function


def method(function: Callable) -> Callable:
    """Make the function, whose first parameter is the tensor, a method of Tensor under its own name."""
    function = where_listed(function)
    setattr(Tensor, function.__name__, named(function))
    return function


def alias(function: Callable, *names: str, methods: bool = True) -> None:
    """Further names of a function, as methods and in place too: `alias(div, "divide", "true_divide")`."""
    changing = getattr(Tensor, f"{function.__name__}_", None)
    for name in names:
        EXPORTS[name] = function
        if methods:
            setattr(Tensor, name, function)
            if changing is not None:
                setattr(Tensor, f"{name}_", changing)


def alias_of(x: Tensor) -> Tensor:
    """x as another Tensor, for a result that x will take over: views made on the way are not views of x."""
    y = Tensor(x.array)
    y.node, y.requires_grad = x.node, x.requires_grad
    if len(x.version) > 1:  # x shares its memory already
        y.version = x.version
    return y


def in_place(function: Callable, name: str | None = None) -> None:
    """Give Tensor the method `name_`, which computes function(self, ...) and takes the result over."""
    name, function = name or function.__name__, without(function)

    def changing(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.changed(function(alias_of(self), *args, **kwargs), f"{name}_")

    changing.__name__ = f"{name}_"
    changing.__doc__ = f"In-place version of `{name}`."
    setattr(Tensor, f"{name}_", named(changing))
