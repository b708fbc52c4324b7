"""The arguments of a captured step, and its results: Tensors in whatever form they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import on_device, xp_of
from ..tensor import Tensor


class Call:
    """The arguments of a call: their Tensors, and the form they stand in."""

    def __init__(self, args: tuple, kwargs: dict):
        self.given = (args, kwargs)
        self.tensors: list[Tensor] = []
        self.form = self._form(self.given)

    def _form(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            self.tensors.append(value)
            a = value.array
            return (Tensor, a.shape, a.dtype)
        if isinstance(value, (list, tuple)):
            return (type(value), *[self._form(v) for v in value])
        if isinstance(value, dict):
            return (dict, *[(k, self._form(v)) for k, v in value.items()])
        return (type(value), value)

    def run(self, function: Callable[..., Any], tensors: list[Tensor]) -> Any:
        """Call the function with other Tensors in the same places."""
        others = iter(tensors)
        args, kwargs = mapped(self.given, lambda _: next(others))
        return function(*args, **kwargs)

    def problem(self) -> str | None:
        """What about the arguments cannot be captured."""
        try:
            hash(self.form)
        except TypeError:
            return "an argument that cannot be compared; pass Tensors and numbers"
        for k, t in enumerate(self.tensors):
            if not on_device(t.array):
                return f"Tensor {k} of the arguments is on the CPU; give the loader device='cuda'"
            if t.requires_grad:
                return f"Tensor {k} of the arguments requires gradients; detach it"
        return None

    def smaller_than(self, form: Any) -> bool:
        """Whether this is the same batch with fewer examples."""
        return _fewer(self.form, form) == "fewer"


def _fewer(a: Any, b: Any) -> str:
    """'same', 'fewer' (only a leading size is smaller), or 'other'."""
    if type(a) is not tuple or type(b) is not tuple or len(a) != len(b):
        return "same" if a == b else "other"
    if a and a[0] is Tensor and b[0] is Tensor:
        (_, x, kind), (_, y, other) = a, b
        if kind != other or len(x) != len(y) or x[1:] != y[1:]:
            return "other"
        return "same" if x == y else "fewer" if x[0] < y[0] else "other"
    found = {_fewer(x, y) for x, y in zip(a, b)}
    return "other" if "other" in found else "fewer" if "fewer" in found else "same"


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same form with other Tensors."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        parts = [mapped(v, change) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {k: mapped(v, change) for k, v in value.items()}
    return value


def copies(value: Any) -> Any:
    """Results that the next replay does not overwrite."""
    return mapped(value, lambda t: Tensor(xp_of(t.array).array(t.array)))
