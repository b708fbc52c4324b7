"""Numbers of a group that live on the device: 0-d Tensors in param_groups, written by kernels, never read.

A learned learning rate is one. It is made when the group is, saved and loaded with it, may be set by hand as
a number, and follows the parameters when they move.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array, device, full
from ..tensor import Tensor


def compute_type(p: Tensor) -> np.dtype:
    """The type in which the rule of a parameter computes, and keeps its state."""
    return np.dtype(np.float64 if p.array.dtype == np.float64 else np.float32)


def home(rule: str, params: list[Tensor]) -> tuple[device, np.dtype] | None:
    """Device and compute type that the parameters share; None without any. ValueError where they differ."""
    places = {(p.device, compute_type(p)) for p in params}
    if len(places) > 1:
        found = " and ".join(sorted(f"{kind.name} on {where}" for where, kind in places))
        raise ValueError(
            f"{rule}: the parameters of a group share one number on the device, so they must share device "
            f"and type: {found}; make several groups"
        )
    return places.pop() if places else None


def scalar(rule: str, group: dict[str, Any], name: str, value: Any) -> None:
    """Make group[name] a 0-d Tensor of its own, of this value, where the group's parameters are."""
    place = home(rule, group["params"])
    if place is not None:
        group[name] = Tensor(full((), float(value), place[1], place[0]))


def place(rule: str, group: dict[str, Any], name: str) -> Array:
    """The array of group[name], of shape (1,), where the group's parameters are now."""
    where, kind = home(rule, group["params"]) or (None, None)
    held = group[name]
    if not isinstance(held, Tensor) or held.array.dtype != kind or held.device != where:
        scalar(rule, group, name, held)  # somebody set it, or moved the parameters
    return group[name].array.reshape(1)
