"""Embeddings: rows of a table by their numbers."""

from __future__ import annotations

from typing import Any

from ... import taps
from ...backend import on_device
from ...ops import lookup
from ...public.promote import same_device
from ...tensor import Tensor
from .activation import floating


def refuse(name: str, max_norm: Any, scale_grad_by_freq: bool, sparse: bool) -> None:
    """ValueError for what is not supported."""
    if max_norm is not None:
        raise ValueError(f"{name}: max_norm={max_norm} is not supported; use max_norm=None")
    if scale_grad_by_freq:
        raise ValueError(f"{name}: scale_grad_by_freq=True is not supported; use False")
    if sparse:
        raise ValueError(f"{name}: sparse=True is not supported; gradients are dense, use sparse=False")


def padding_row(name: str, padding_idx: int | None, rows: int) -> int | None:
    """padding_idx counted from 0."""
    if padding_idx is None or 0 <= padding_idx < rows:
        return padding_idx
    if not -rows <= padding_idx < rows:
        raise ValueError(f"{name}: padding_idx={padding_idx} is no row of a table of {rows}")
    return padding_idx + rows


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """weight[input]: whole numbers (...), (V, E) -> (..., E)

    padding_idx names a row that gets no gradient. max_norm, scale_grad_by_freq and sparse are not supported.
    On a GPU, numbers out of range are not looked for.
    """
    refuse("embedding", max_norm, scale_grad_by_freq, sparse)
    w = floating("embedding", weight)
    if not isinstance(input, Tensor) or input.array.dtype.kind not in "iu":
        found = input.dtype.name if isinstance(input, Tensor) else type(input).__name__
        raise TypeError(f"embedding: the input holds row numbers, not {found}; cast with .long()")
    if w.array.ndim != 2:
        raise ValueError(f"embedding: weight {list(w.shape)}; it is (rows, features)")
    same_device("embedding", input, w)
    index, rows = input.array, w.array.shape[0]
    if not on_device(index) and index.size:
        low, high = index.min(), index.max()
        if low < 0 or high >= rows:
            raise IndexError(f"embedding: row {low if low < 0 else high} is not in [0, {rows})")
    skipped = padding_row("embedding", padding_idx, rows)
    y = lookup.embedding(w, index, skipped)
    if taps.wanted(weight):
        taps.leave(taps.Tap(weight, None, lambda: index.reshape(-1), y, lookup=True, skipped=skipped))
    return y
