"""What an optimizer takes: parameters, alone or named, in groups, and numbers in their ranges."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

from ..tensor import Tensor


def listed(rule: str, params: Any) -> list[Any]:
    """params as a list. TypeError for what has no order, or is no collection of parameters at all."""
    if isinstance(params, (set, frozenset)):
        raise TypeError(f"{rule}: params is a set, whose order changes from run to run; use a list")
    if isinstance(params, (Tensor, str, dict)) or not isinstance(params, Iterable):
        raise TypeError(
            f"{rule}: params is a {type(params).__name__}; pass a list of Tensors, as model.parameters() "
            "gives, or a list of dicts"
        )
    return list(params)


def members(rule: str, group: Any) -> tuple[list[Tensor], list[str]]:
    """The parameters of a group, each once, and their names: one for each, or none at all."""
    if not isinstance(group, dict) or "params" not in group:
        raise TypeError(f"{rule}: a parameter group is a dict with 'params', not {group!r}")
    entries = group["params"]
    entries = [entries] if isinstance(entries, Tensor) else listed(rule, entries)
    names = [e[0] for e in entries if isinstance(e, tuple)]
    params = [e[1] if isinstance(e, tuple) else e for e in entries]
    if names and len(names) < len(params):
        raise ValueError(f"{rule}: all parameters should be with or without names; some names are missing")
    for k, p in enumerate(params):
        _check(rule, repr(names[k]) if names else f"params[{k}]", p)
    once = dict(zip(params, names or params))
    if len(once) < len(params):  # its gradients are summed by backward already
        warnings.warn(
            f"{rule}: a parameter group with duplicate parameters; each is updated once",
            UserWarning,
            stacklevel=5,
        )
    return list(once), list(once.values()) if names else []


def _check(rule: str, label: str, p: Any) -> None:
    if not isinstance(p, Tensor):
        raise TypeError(f"{rule}: {label} is a {type(p).__name__}; only Tensors can be optimized")
    if not p.is_leaf:
        raise ValueError(f"{rule}: {label} was computed, can't optimize a non-leaf Tensor; detach it first")
    if not p.dtype.is_floating_point:
        raise TypeError(f"{rule}: {label} is {p.dtype.name}; only floating Tensors have gradients")


def disjoint(rule: str, group: dict[str, Any], others: list[dict[str, Any]]) -> None:
    """ValueError where a group shares a parameter or a name with others, or has no names where others do."""
    for other in others:
        if ("param_names" in group) != ("param_names" in other):
            raise ValueError(
                f"{rule}: all parameter groups should be with or without names; this one differs"
            )
        if not set(group["params"]).isdisjoint(other["params"]):
            raise ValueError(f"{rule}: some parameters appear in more than one parameter group")
    names = [n for g in (*others, group) for n in g.get("param_names", ())]
    if len(set(names)) < len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise ValueError(f"{rule}: several parameters are called {', '.join(twice)}; names must be unique")


def number(rule: str, name: str, value: Any, low: float, high: float | None = None) -> float:
    """The value, a number or a Tensor of one element, as a float.

    ValueError, naming rule, option, value and range, unless low <= value (< high).
    """
    if isinstance(value, Tensor) and value.array.size != 1:
        raise ValueError(f"{rule}: {name} has shape {list(value.shape)}; a Tensor {name} must be 1-element")
    try:
        found = math.nan if isinstance(value, str) else float(value)
    except TypeError:
        found = math.nan
    if not (low <= found and (high is None or found < high)):
        bounds = f"a number of at least {low}" if high is None else f"a number in [{low}, {high})"
        raise ValueError(f"{rule}: Invalid {name}: {value}; it must be {bounds}")
    return found
