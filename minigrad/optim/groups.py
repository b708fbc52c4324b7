"""What an optimizer takes: parameters, alone or named, in groups, and numbers in their ranges."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..tensor import Tensor


def listed(rule: str, params: Any) -> list[Any]:
    """params as a list. TypeError for what has no order, or is no collection of parameters at all."""
    if isinstance(params, (set, frozenset)):
        raise TypeError(f"{rule}: params is a set, whose order changes from run to run; use a list")
    if isinstance(params, (Tensor, str, dict)) or not isinstance(params, Iterable):
        raise TypeError(
            f"{rule}: params argument given to the optimizer should be an iterable of Tensors or dicts, as "
            f"model.parameters() gives, not a {type(params).__name__}"
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
        raise ValueError(
            f"{rule}: all optimizer params should be with/without names. Some param names are missing"
        )
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
                f"{rule}: all optimizer param groups should be with/without names. cannot add param group "
                f"{'with' if 'param_names' in group else 'without'} names to the optimizer"
            )
        if not set(group["params"]).isdisjoint(other["params"]):
            raise ValueError(f"{rule}: some parameters appear in more than one parameter group")
    names = [n for g in (*others, group) for n in g.get("param_names", ())]
    if len(set(names)) < len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise ValueError(f"{rule}: several parameters are called {', '.join(twice)}; names must be unique")


def averages(*betas: float) -> dict[str, float]:
    """beta1, one_minus_beta1, beta2, ... of a rule's running averages: 1 - beta is taken here, in double."""
    found = {}
    for beta, (decay, rest) in zip(betas, _BETAS):
        found[decay], found[rest] = beta, 1 - beta
    return found


_BETAS = [(f"beta{k}", f"one_minus_beta{k}") for k in (1, 2, 3)]


def number(
    rule: str, name: str, value: Any, low: float, high: float | None = None, above: bool = False
) -> float:
    """The value, a number or a Tensor of one element, as a float.

    ValueError, naming rule, option, value and range, unless low <= value (< high); with `above`, low < value.
    """
    if isinstance(value, Tensor) and value.array.size != 1:
        raise ValueError(
            f"{rule}: Tensor {'lr' if name == 'learning rate' else name} must be 1-element, not of shape "
            f"{list(value.shape)}"
        )
    try:
        found = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    enough = low < found if above else low <= found
    if not (enough and found < (math.inf if high is None else high)):
        bounds = f"a number in {'(' if above else '['}{low:g}, {high})"
        if high is None:
            bounds = f"a number greater than {low:g}" if above else f"a number of at least {low:g}"
        raise ValueError(f"{rule}: Invalid {name}: {value}; it must be {bounds}")
    return found


def param_groups(model: Any, weight_decay: float, **options: Any) -> list[dict[str, Any]]:
    """Two groups of a model's parameters that require gradients: those that decay, and those that do not.

    No norm, bias or parameter of fewer than two dimensions decays: a module whose class says `decays = False`
    (all norms do) keeps its own parameters out, whatever their shape. A tied parameter that any of its owners
    keeps out stays out. Both groups carry the names and `options`; a group without parameters is left out.
    ValueError for a negative weight_decay. [as nanoGPT and most recipes; the bias has nothing to shrink for]
    """
    number("param_groups", "weight_decay value", weight_decay, 0)
    names = {p: name for name, p in reversed(list(model.named_parameters())) if p.requires_grad}
    kept_out = {p for p in names if p.ndim < 2}
    for module in model.modules():
        if not getattr(module, "decays", True):
            kept_out.update(p for p in module.parameters(recurse=False))
        bias = getattr(module, "bias", None)
        kept_out.update([bias] if isinstance(bias, Tensor) else [])
    ordered = [(name, p) for name, p in model.named_parameters() if p in names]
    groups = [
        {"params": [e for e in ordered if (e[1] in kept_out) == out], "weight_decay": decay} | options
        for out, decay in ((False, weight_decay), (True, 0.0))
    ]
    return [group for group in groups if group["params"]]


@dataclass(frozen=True)
class Range:
    """What an option may be: low <= value (< high); `above`: low < value; `count`: so many such numbers."""

    name: str  # what messages call it, in PyTorch's words
    low: float = 0.0
    high: float | None = None
    above: bool = False
    count: int = 0

    def check(self, rule: str, value: Any) -> None:
        """ValueError, naming rule, option, value and range."""
        if not self.count:
            number(rule, self.name, value, self.low, self.high, self.above)
            return
        if not isinstance(value, (tuple, list)) or len(value) != self.count:
            amount = {2: "two", 3: "three"}[self.count]
            raise ValueError(f"{rule}: {self.name} are {value!r}; they are {amount} numbers, as (0.9, 0.999)")
        for k, each in enumerate(value):
            label = f"beta parameter at index {k}" if self.name == "betas" else f"{self.name} at index {k}"
            number(rule, label, each, self.low, self.high, self.above)


# what options may be under every rule; a rule's own `ranges` come first
RANGES = {
    "lr": Range("learning rate"),
    "betas": Range("betas", high=1, count=2),
    "eps": Range("epsilon value", above=True),
    "weight_decay": Range("weight_decay value"),
    "momentum": Range("momentum value"),
    "rho": Range("rho value", high=1),
    "alpha": Range("alpha value", high=1),
    "lr_decay": Range("lr_decay value"),
}
