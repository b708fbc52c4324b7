"""Optimizer: what all update rules share. The arithmetic is in the kernel; this decides what it runs on.

A rule is a class with

    kernel      the text of the update, from the rule book (kernels/rules.py)
    defaults    the hyper-parameters, as the constructor takes them
    flags       which `#if` lines of the text a group wants
    scalars     what the text calls lr, beta1, ...: derived from the group and the step t in double precision

State slots are the kernel's outputs after the parameter; each is one buffer as long as the arena. A step runs
the kernel once a group, over the group's slice of the arena. `t` counts the steps of each parameter (from 1),
as in PyTorch: a parameter without a gradient is left out and keeps its t; then the slice falls into
contiguous runs of equal t.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from .. import backend
from ..arena import Arena, house
from ..backend import Array
from ..grad_mode import enable_grad
from ..hooks import Handle
from ..tensor import Tensor


class Run:
    """A contiguous piece of an arena that one launch updates: parameters side by side, with the same t."""

    def __init__(self, arena: Arena, start: int, stop: int, t: int):
        self.arena, self.start, self.stop, self.t = arena, start, stop, t


class Optimizer:
    """Base of all optimizers. params: Tensors, (name, Tensor) pairs, or dicts with own options."""

    kernel: ClassVar[Any]
    ignored: ClassVar[tuple[str, ...]] = (
        "foreach",
        "fused",
        "capturable",
    )  # accepted, without effect: always fused

    def __init__(self, params: Any, defaults: dict[str, Any]):
        if isinstance(params, (Tensor, str)) or not isinstance(params, Iterable):
            raise TypeError(
                f"{type(self).__name__}: params is a {type(params).__name__}; "
                "pass a list, as model.parameters() gives"
            )
        if isinstance(params, (set, frozenset)):
            raise TypeError(
                f"{type(self).__name__}: params is a set, whose order changes from run to run; use a list"
            )
        if defaults.pop("differentiable", False):
            raise ValueError(
                f"{type(self).__name__}: differentiable=True is not supported; use mg.grad and own updates"
            )
        self.defaults = {k: v for k, v in defaults.items() if k not in self.ignored}
        self.param_groups: list[dict[str, Any]] = []
        self.steps: dict[Tensor, int] = {}  # t of each parameter: how many steps it has taken
        self.buffers: dict[tuple[Arena, str], Array] = {}  # state slots, as long as their arena
        self.views: dict[tuple, list[Array]] = {}  # slices of the buffers, by run
        self.before: dict[object, Callable] = {}
        self.after: dict[object, Callable] = {}
        params = list(params)
        if not params:
            raise ValueError(f"{type(self).__name__}: params is empty; does the model have parameters?")
        groups = params if isinstance(params[0], dict) else [{"params": params}]
        for group in groups:
            self._check_group(group)
        for group in groups:
            self._append(group)
        house([p for group in self.param_groups for p in group["params"]])

    # ----------------------------------------------------------------------------------------- for subclasses

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The flags of the kernel that this group's options ask for."""
        return ()

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        """The kernel's scalars for step t (from 1), in double precision."""
        raise TypeError(f"{type(self).__name__} defines no scalars")

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError, naming option, value and range, for options outside their range."""

    # ------------------------------------------------------------------------------------------------- groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group with its own options; it is checked before anything changes."""
        self._check_group(param_group)
        self._append(param_group)
        house(self.param_groups[-1]["params"])

    def _check_group(self, group: dict[str, Any]) -> None:
        name = type(self).__name__
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f"{name}: a parameter group is a dict with 'params', not {group!r}")
        if isinstance(group["params"], (set, frozenset)):
            raise TypeError(
                f"{name}: a group's params is a set, whose order changes from run to run; use a list"
            )
        group["params"] = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        taken = {p for g in self.param_groups for p in g["params"]}
        for entry in group["params"]:
            p = entry[1] if isinstance(entry, tuple) else entry
            if not isinstance(p, Tensor):
                raise TypeError(f"{name}: {type(p).__name__} among the parameters; all must be Tensors")
            if not p.is_leaf:
                raise ValueError(
                    f"{name}: a computed tensor among the parameters; only leaves can be optimized"
                )
            if p in taken:
                raise ValueError(f"{name}: a parameter appears in more than one group")
        unknown = set(group) - set(self.defaults) - {"params", "param_names", "initial_lr", *self.ignored}
        if unknown:
            raise ValueError(
                f"{name}: unknown option {sorted(unknown)[0]!r}; known: {', '.join(self.defaults)}"
            )
        self.check({**self.defaults, **group})

    def _append(self, group: dict[str, Any]) -> None:
        entries = group["params"]
        named = {
            (e[1] if isinstance(e, tuple) else e): (e[0] if isinstance(e, tuple) else None) for e in entries
        }
        if len(named) < len(
            entries
        ):  # a tied parameter is one slot, and its gradients are summed by backward
            warnings.warn(
                "a parameter stands twice in one group; it is updated once", UserWarning, stacklevel=4
            )
        whole = {
            **self.defaults,
            **{k: v for k, v in group.items() if k not in self.ignored},
            "params": list(named),
        }
        if all(n is not None for n in named.values()) and named:
            whole["param_names"] = list(named.values())
        self.param_groups.append(whole)
        for p in named:
            self.steps[p] = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; with set_to_none=False, fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p.grad is None:
                    p.grad = None
                else:
                    p.grad = p.grad.detach()
                    p.grad.array.fill(0)
                    p.grad.touch()

    # ------------------------------------------------------------------------------------------------- a step

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient. closure() computes the loss, returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for hook in self.before.values():
            hook(self, (closure,), {})
        touched = []
        for group in self.param_groups:
            flags = self.flags(group)
            for run in self.runs(group["params"]):
                param, gradient, state = self.slices(run, flags)
                self.kernel(gradient, param, *state, scalars=self.scalars(group, run.t), flags=flags)
                touched.append(run.arena)
        for arena in dict.fromkeys(touched):
            arena.version[0] += 1
        for hook in self.after.values():
            hook(self, (closure,), {})
        return loss

    def runs(self, params: Sequence[Tensor]) -> list[Run]:
        """The contiguous pieces to update, their t counted up: one when all have gradients and the same t."""
        steps, found, last = self.steps, [], None
        for p in params:
            grad = p.grad
            if grad is None:
                last = None
                continue
            if grad is not p.slot:
                p.arena.collect(p)
            t = steps[p] = steps[p] + 1
            if last is not None and last.stop == p.offset and last.t == t and last.arena is p.arena:
                last.stop = p.stop
            else:
                last = Run(p.arena, p.offset, p.stop, t)
                found.append(last)
        return found

    def slices(self, run: Run, flags: tuple[str, ...]) -> tuple[Array, Array, list[Array]]:
        """Parameter, gradient and state of a run, as flat arrays."""
        key = (run.arena, run.start, run.stop, flags)
        arrays = self.views.get(key)
        if arrays is None:
            arena, piece = run.arena, slice(run.start, run.stop)
            slots = [self.buffer(arena, name) for name in self.slots(flags)]
            arrays = self.views[key] = [b[piece] for b in (arena.array, arena.gradient, *slots)]
        return arrays[0], arrays[1], arrays[2:]

    def slots(self, flags: tuple[str, ...]) -> list[str]:
        """The names of the state that the rule keeps under these flags."""
        return [p.name for p in self.kernel.variant(flags).outputs[1:]]

    def buffer(self, arena: Arena, name: str) -> Array:
        """A state slot, zeros at first; in the compute type, which is float32 for float16."""
        if (arena, name) not in self.buffers:
            kind = np.float64 if arena.array.dtype == np.float64 else np.float32
            self.buffers[arena, name] = backend.full((arena.size,), 0, np.dtype(kind), arena.device)
        return self.buffers[arena, name]

    # -------------------------------------------------------------------------------------------------- state

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """{parameter: {"step": t, slot: Tensor}}, for those that took a step; the Tensors are views."""
        found: dict[Tensor, dict[str, Any]] = {}
        for group in self.param_groups:
            names = self.slots(self.flags(group))
            for p in group["params"]:
                if self.steps[p]:
                    found[p] = {"step": self.steps[p]} | {
                        n: Tensor(Arena.view(self.buffer(p.arena, n), p, p.offset)) for n in names
                    }
        return found

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's form: state by index, groups with indices and, where known, `param_names`."""
        index = {p: k for k, p in enumerate(p for g in self.param_groups for p in g["params"])}
        state = {}
        for p, slots in self.state.items():
            state[index[p]] = {k: v if k == "step" else Tensor(v.array.copy()) for k, v in slots.items()}
        groups = []
        for g in self.param_groups:
            names = g.get("param_names") or [getattr(p, "name", None) for p in g["params"]]
            packed = {k: v for k, v in g.items() if k not in ("params", "param_names")}
            if all(names):
                packed["param_names"] = list(names)
            groups.append(packed | {"params": [index[p] for p in g["params"]]})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over state and options. Parameters match by name where both sides have names, else by order.

        Raises ValueError naming what does not fit; then nothing has changed.
        """
        ours, theirs = self.param_groups, state_dict["param_groups"]
        if len(ours) != len(theirs):
            raise ValueError(
                f"load_state_dict: {len(theirs)} parameter groups, this optimizer has {len(ours)}"
            )
        plan: list[tuple[Tensor, int, dict[str, Array]]] = []
        for k, (group, saved) in enumerate(zip(ours, theirs, strict=True)):
            for p, label, index in self._matched(k, group, saved):
                entry = state_dict["state"].get(index, state_dict["state"].get(str(index)))
                if entry is None:
                    plan.append((p, 0, {}))
                    continue
                slots = {n: v for n, v in entry.items() if n != "step" and v is not None}
                known = self.slots(self.flags({**group, **saved}))
                for name in known:
                    if name not in slots:
                        raise ValueError(
                            f"load_state_dict: {label} has no {name!r}; is it another optimizer's state?"
                        )
                    shape = tuple(slots[name].shape)
                    if shape != tuple(p.shape):
                        raise ValueError(
                            f"load_state_dict: {name!r} of {label} is {shape}, it is {tuple(p.shape)}"
                        )
                arrays = {n: getattr(slots[n], "array", slots[n]) for n in known}
                plan.append((p, int(entry.get("step", 1)), arrays))
        for group, saved in zip(ours, theirs, strict=True):
            kept = {"params": group["params"]} | {k: group[k] for k in ("param_names",) if k in group}
            options = {k: v for k, v in saved.items() if k not in ("params", "param_names", *self.ignored)}
            group.update(options | kept)
        for p, t, arrays in plan:
            self.steps[p] = t
            for name, value in arrays.items():
                place = Arena.view(self.buffer(p.arena, name), p, p.offset)
                host = value if backend.on_device(value) else np.asarray(value)
                place[...] = backend.to_device(host, p.arena.device)

    def _matched(self, k: int, group: dict[str, Any], saved: dict[str, Any]) -> list[tuple[Tensor, str, int]]:
        """(parameter, what to call it, index in the saved state) for each parameter of group k."""
        params, indices = group["params"], saved["params"]
        if len(params) != len(indices):
            raise ValueError(
                f"load_state_dict: group {k} has {len(indices)} parameters, "
                f"this optimizer's has {len(params)}"
            )
        names = group.get("param_names") or [getattr(p, "name", None) for p in params]
        theirs = saved.get("param_names")
        if theirs is None or not all(names):
            return [(p, f"parameter {i} of group {k}", i) for p, i in zip(params, indices, strict=True)]
        lookup = dict(zip(theirs, indices, strict=True))
        missing = [n for n in names if n not in lookup]
        if missing:
            raise ValueError(
                f"load_state_dict: group {k} has no parameter named {missing[0]!r}; it has {theirs}"
            )
        return [(p, f"parameter {n!r}", lookup[n]) for p, n in zip(params, names, strict=True)]

    # -------------------------------------------------------------------------------------------------- hooks

    def register_step_pre_hook(self, hook: Callable) -> Handle:
        """Call hook(optimizer, args, kwargs) before each step."""
        return Handle(self.before, hook)

    def register_step_post_hook(self, hook: Callable) -> Handle:
        """Call hook(optimizer, args, kwargs) after each step."""
        return Handle(self.after, hook)

    def __repr__(self) -> str:
        lines = []
        for k, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {k}")
            lines += [f"    {n}: {group[n]}" for n in sorted(group) if n not in ("params", "param_names")]
        return f"{type(self).__name__} (\n" + "\n".join(lines) + "\n)"


def in_range(rule: str, name: str, value: Any, low: float, high: float | None = None) -> float:
    """The value as a float; ValueError naming rule, option, value and range unless low <= value (< high)."""
    number = float(value)
    if not (low <= number and (high is None or number < high)):
        bounds = f"at least {low}" if high is None else f"in [{low}, {high})"
        raise ValueError(f"{rule}: Invalid {name}: {value}; it must be {bounds}")
    return number
