"""Modules that are a function and its options: the activations and the losses.

    class LeakyReLU(OfFunction):
        function = F.leaky_relu          # (input, negative_slope=0.01, inplace=False)

The constructor takes the function's arguments after the tensors, in the same order and with the same
defaults; they become attributes, and forward(*tensors) is function(*tensors, **those attributes).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from .module import Module

TENSORS = ("weight", "pos_weight")  # options that are buffers: they move and are saved with the module


class OfFunction(Module):
    """See the module's docstring. `inputs` counts the tensors that forward takes, `without` leaves out
    options."""

    function: ClassVar[Callable]
    inputs: ClassVar[int] = 1
    without: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[inspect.Signature]
    names: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        function = cls.__dict__.get("function")
        if function is None:
            return
        found = list(inspect.signature(function).parameters.values())
        kept = [p for p in found[cls.inputs :] if not p.name.startswith("_") and p.name not in cls.without]
        cls.options = cls.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
        cls.names = tuple(p.name for p in kept)
        cls.function = staticmethod(function)
        cls.__doc__ = cls.__doc__ or function.__doc__

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        try:
            bound = self.options.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}{self.options}: {error}") from None
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if name in TENSORS:
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, *inputs: Any) -> Any:
        members = self.__dict__
        return self.function(*inputs, **{name: members[name] for name in self.names})


class Activation(OfFunction):
    """A function of one tensor; printed with its options."""

    def extra_repr(self) -> str:
        shown = [(name, getattr(self, name)) for name in self.names]
        return ", ".join(f"{name}={value!r}" for name, value in shown if name != "inplace" or value)
