"""From a list of items to a batch, and a batch to its device; what items are made of is gone through."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tensor import Tensor


def collate(items: list[Any]) -> Any:
    """A batch of items: Tensors, arrays and numbers are stacked; tuples, lists and dicts are gone through.

    Types are PyTorch's: Python's int becomes int64, float float64, NumPy's numbers and arrays keep theirs.
    """
    first = items[0]
    if isinstance(first, (Tensor, np.ndarray)):
        shapes = [list(getattr(item, "shape", ())) for item in items]
        if any(shape != shapes[0] for shape in shapes):
            differ = ", ".join(map(str, dict.fromkeys(map(tuple, shapes))))
            raise ValueError(
                f"DataLoader: items of the shapes {differ} cannot be stacked; pad them, or pass collate_fn"
            )
    if isinstance(first, Tensor):
        from ..ops import stack

        return stack(0, *items)
    if isinstance(first, np.ndarray):
        return Tensor(np.stack(items))
    if isinstance(first, (bool, int, float, np.generic)) and not isinstance(first, (str, bytes)):
        return Tensor(np.array(items, _TYPES.get(type(first))))
    if isinstance(first, dict):
        return {k: collate([item[k] for item in items]) for k in first}
    if isinstance(first, (tuple, list)):
        columns = [collate(list(column)) for column in zip(*items, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns  # a named tuple stays one
    if isinstance(first, (str, bytes)):
        return items
    raise TypeError(f"DataLoader: items of type {type(first).__name__} cannot be stacked; pass collate_fn")


_TYPES = {bool: np.bool_, int: np.int64, float: np.float64}


def place(batch: Any, device: Any) -> Any:
    """The batch with its Tensors on a device; None leaves everything where it is."""
    if device is None:
        return batch
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {k: place(v, device) for k, v in batch.items()}
    if isinstance(batch, (list, tuple)):
        parts = [place(b, device) for b in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch
