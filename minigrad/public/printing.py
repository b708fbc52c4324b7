"""How a Tensor prints, as in PyTorch: its values, then what cannot be seen from them.

Numbers of one tensor have one form: whole ones as `1.`, else four digits behind the point, and in the
notation with an exponent where they differ by more than a factor of 1000, or are very large or small. Of more
than 1000 values only three at each end of a dim are shown, and only those are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from ..backend import CPU
from ..tensor import Tensor
from .register import public

_options: dict[str, Any] = dict(precision=4, threshold=1000, edgeitems=3, linewidth=80, sci_mode=None)


@public
def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Digits behind the point, size from which on values are left out, how many are shown at each end of a
    dim, characters in a line, and whether to write exponents (None: as the values require)."""
    given = dict(precision=precision, threshold=threshold, edgeitems=edgeitems, linewidth=linewidth)
    _options.update({k: v for k, v in given.items() if v is not None})
    _options["sci_mode"] = sci_mode


def _shown(array: Any) -> Any:
    """The values that are printed: all, or the ends of every dim."""
    if array.size > _options["threshold"]:
        edge = _options["edgeitems"]
        for axis, n in enumerate(array.shape):
            if n > 2 * edge:
                ends = [array[(slice(None),) * axis + (s,)] for s in (slice(None, edge), slice(-edge, None))]
                array = backend.xp_of(array).concatenate(ends, axis=axis)
    return backend.to_host(array)


def _number_format(values: np.ndarray) -> Callable[[Any], str]:
    """One form for all values, and one width."""
    if values.dtype.kind == "f":
        size = np.abs(values[np.isfinite(values) & (values != 0)])
        whole = bool((size == np.ceil(size)).all())
        wide = size.size > 0 and bool(size.max() / size.min() > 1000 or size.max() > 1e8)
        exponent = wide or (size.size > 0 and not whole and size.min() < 1e-4)
        if exponent if _options["sci_mode"] is None else _options["sci_mode"]:
            form = f".{_options['precision']}e"
        else:
            form = ".0f" if whole else f".{_options['precision']}f"
    else:
        form = ""

    def text(value: Any) -> str:
        return f"{value:{form}}" + ("." if form == ".0f" and np.isfinite(value) else "")

    width = max(map(len, map(text, values.reshape(-1))), default=0)
    return lambda value: text(value).rjust(width)


def _nested(values: np.ndarray, shape: tuple[int, ...], text: Callable[[Any], str], indent: int) -> str:
    """Brackets within brackets; `shape` is the tensor's own, so that it shows where values are left out."""
    if not shape:
        return text(values[()])
    edge = values.shape[0] // 2 if values.shape[0] < shape[0] else None
    newline = "\n" + " " * (indent + 1)
    if len(shape) > 1:
        rows = [_nested(row, shape[1:], text, indent + 1) for row in values]
        if edge is not None:
            rows.insert(edge, "...")
        return "[" + ("," + "\n" * (len(shape) - 2) + newline).join(rows) + "]"
    items = [text(value) for value in values]
    a_line = max(1, (_options["linewidth"] - indent) // (len(items[0]) + 2)) if items else 1
    if edge is not None:
        items.insert(edge, " ...")
    lines = [", ".join(items[k : k + a_line]) for k in range(0, len(items), a_line)]
    return "[" + ("," + newline).join(lines) + "]"


def _repr(self: Tensor) -> str:
    """tensor([1., 2.], dtype=minigrad.float64, requires_grad=True)"""
    array = self.array
    notes = []
    if self.device != CPU:
        notes.append(f"device='{self.device}'")
    if array.size == 0 and array.ndim != 1:
        notes.append(f"size={tuple(self.shape)}")
    seen = () if array.size == 0 else (backend.int64, backend.bool_)  # values tell these types apart
    if self.dtype not in (backend.get_default_dtype(), *seen):
        notes.append(f"dtype={self.dtype}")
    if self.node is not None:
        notes.append(f"grad_fn={self.node}")
    elif self.requires_grad:
        notes.append("requires_grad=True")
    values = _shown(array)
    if values.dtype.kind not in "biu":
        values = values.astype(np.float64)
    numbers = (
        "[]" if array.size == 0 else _nested(values, array.shape, _number_format(values), len("tensor("))
    )
    text = "tensor(" + numbers
    for note in notes:
        last = len(text) - text.rfind("\n") - 1
        text += ", " + note if last + len(note) + 3 <= _options["linewidth"] else ",\n       " + note
    return text + ")"


def _format(self: Tensor, spec: str) -> str:
    return format(self.item(), spec) if self.array.ndim == 0 and spec else format(str(self), spec)


Tensor.__repr__ = _repr  # type: ignore[method-assign, assignment]
Tensor.__format__ = _format  # type: ignore[method-assign, assignment]
