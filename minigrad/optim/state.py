"""An optimizer's state as a dictionary, in PyTorch's form, and back.

    {"state": {0: {"step": 7, "exp_avg": Tensor, ...}, ...},
     "param_groups": [{"lr": 1e-3, ..., "params": [0, 1], "param_names": ["weight", "bias"]}]}

Loading copies into the buffers that are there, after everything has been checked: either all of it goes in,
or an error lists what does not fit and nothing has changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import Array, to_device
from ..tensor import Tensor

if TYPE_CHECKING:
    from .optimizer import Optimizer

Group = dict[str, Any]


def current(optimizer: Optimizer) -> Mapping[Tensor, Mapping[str, Any]]:
    """What Optimizer.state shows."""
    if optimizer.kernel is None:
        return optimizer.own
    found: dict[Tensor, Mapping[str, Any]] = defaultdict(dict)
    for group in optimizer.param_groups:
        for p in group["params"]:
            if t := optimizer.steps.get(p, 0):
                slots = {n: Tensor(optimizer.place(p, n)) for n in optimizer.slots_of(p, group)}
                found[p] = MappingProxyType({"step": t} | optimizer.kept.get(p, {}) | slots)
    return MappingProxyType(found)


def save(optimizer: Optimizer) -> dict[str, Any]:
    """The work of Optimizer.state_dict."""
    index: dict[Tensor, int] = {}
    for k, p in enumerate(optimizer.parameters()):
        index.setdefault(p, k)
    state = {index[p]: {k: copied(v) for k, v in slots.items()} for p, slots in current(optimizer).items()}
    groups = []
    for group in optimizer.param_groups:
        options = {k: deepcopy(v) for k, v in group.items() if k != "params"}
        groups.append(options | {"params": [index[p] for p in group["params"]]})
    return {"state": state, "param_groups": groups}


def load(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> None:
    """The work of Optimizer.load_state_dict."""
    what = f"load_state_dict of {type(optimizer).__name__}"
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
        raise TypeError(
            f"{what}: expected what state_dict() gives, a dictionary with 'state' and 'param_groups'"
        )
    options: list[Group] = []
    entries: list[tuple[Tensor, int, dict[str, float], dict[str, Array]]] = []
    own: list[tuple[Tensor, Mapping[str, Any]]] = []
    for group, saved, members in matched(what, optimizer, list(state_dict["param_groups"])):
        given = {k: plain(v) for k, v in saved.items() if k not in ("params", "param_names")}
        options.append(group | optimizer.options(given))
        optimizer.check(options[-1])
        for p, label, index in members:
            names = optimizer.slots_of(p, options[-1])
            stored = state_dict["state"].get(index, state_dict["state"].get(str(index), {}))
            if optimizer.kernel is None:
                own.append((p, stored))
            else:
                entries.append((p, *entry(f"{what}: {label}", optimizer, p, names, stored)))
    for group, chosen in zip(optimizer.param_groups, options, strict=True):
        group.update(chosen)
    optimizer.own.clear()
    for p, stored in own:
        optimizer.own[p] = {k: copied(v, p) for k, v in stored.items()}
    for p, t, kept, values in entries:
        optimizer.steps[p] = t
        if t and optimizer.carries:
            optimizer.kept[p] = kept
        else:
            optimizer.kept.pop(p, None)
        for name, value in values.items():
            optimizer.place(p, name)[...] = to_device(value, p.device)


def matched(
    what: str, optimizer: Optimizer, saved: list[Group]
) -> Iterator[tuple[Group, Group, list[tuple[Tensor, str, Any]]]]:
    """For each group: it, the saved group, and (parameter, what to call it, index in the saved state)."""
    ours = optimizer.param_groups
    if len(ours) != len(saved):
        raise ValueError(f"{what}: the state has {len(saved)} parameter groups, this optimizer {len(ours)}")
    if not all("param_names" in g for g in (*ours, *saved)):
        for k, (group, other) in enumerate(zip(ours, saved, strict=True)):
            params, indices = group["params"], other["params"]
            if len(params) != len(indices):
                raise ValueError(
                    f"{what}: group {k} has {len(indices)} parameters in the state, here it has {len(params)}"
                )
            labels = [f"parameter {i} of group {k}" for i in range(len(params))]
            yield group, other, list(zip(params, labels, indices, strict=True))
        return
    by_names = {frozenset(g["param_names"]): g for g in saved}
    mine = [n for g in ours for n in g["param_names"]]
    theirs = [n for g in saved for n in g["param_names"]]
    for group in ours:
        names = group["param_names"]
        if frozenset(names) not in by_names:
            missing = ", ".join(n for n in mine if n not in theirs) or "none"
            extra = ", ".join(n for n in theirs if n not in mine) or "none"
            raise ValueError(
                f"{what}: the parameters differ, or are grouped otherwise; only here: {missing}; "
                f"only in the state: {extra}"
            )
        other = by_names[frozenset(names)]
        index = dict(zip(other["param_names"], other["params"], strict=True))
        yield group, other, [(p, repr(n), index[n]) for p, n in zip(group["params"], names, strict=True)]


def entry(
    label: str, optimizer: Optimizer, p: Tensor, names: tuple[str, ...], stored: Mapping[str, Any]
) -> tuple[int, dict[str, float], dict[str, Array]]:
    """t, carried numbers and slots of one parameter; zeros where nothing was stored: it had taken no step."""
    known, carries = {n: stored[n] for n in names if stored.get(n) is not None}, optimizer.carries
    if not known and "step" not in stored:
        return 0, {}, dict.fromkeys(names, np.zeros(()))
    missing = [n for n in (*names, *carries) if stored.get(n) is None]
    if missing:
        raise ValueError(f"{label} has no {missing[0]!r} but {list(stored)}; is it another rule's state?")
    arrays = {n: array_of(v) for n, v in known.items()}
    for name, array in arrays.items():
        if array.shape != (wanted := optimizer.shape_of(p, name)):
            whose = "the parameter" if wanted == p.array.shape else "here it has"
            raise ValueError(f"{label}: {name!r} has shape {list(array.shape)}, {whose} {list(wanted)}")
    kept = {n: float(stored[n]) for n in carries}
    return int(stored.get("step", 1)), kept, arrays  # PyTorch's SGD counts no steps


def array_of(value: Any) -> Array:
    """The array of a stored slot, which may be a Tensor, an array, or another framework's tensor."""
    if isinstance(value, Tensor):
        return value.array
    if hasattr(value, "detach"):  # PyTorch's, perhaps on a GPU, perhaps of a type that NumPy does not know
        value = value.detach().cpu()
        value = value if value.itemsize > 2 else value.float()
    return value if hasattr(value, "__cuda_array_interface__") else np.asarray(value)


def copied(value: Any, like: Tensor | None = None) -> Any:
    """A copy of what a state holds, a Tensor without its graph; on the device of `like`, if that is given."""
    if not isinstance(value, Tensor):
        return deepcopy(value)
    return Tensor(to_device(value.array, (value if like is None else like).device).copy())


def plain(option: Any) -> Any:
    """A copy of an option; another framework's 0-d tensor as a number."""
    if isinstance(option, (tuple, list)):
        return type(option)(map(plain, option))
    foreign = hasattr(option, "item") and not isinstance(option, Tensor)
    return option.item() if foreign else deepcopy(option)
