"""Wrapper: an optimizer around another one, and an optimizer to all that takes one.

    optimizer = optim.SAM(optim.Lookahead(optim.AdamW(model.parameters())))

Its param_groups, defaults, step counts and state are those of the rule inside, the very objects, so that a
learning rate that a scheduler writes is the one that the inner step reads, after a load_state_dict too. What
it does not know itself (train() and eval() of Schedule-Free, say) it asks of the rule inside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from kernels.cuda import graph

from ..arena import house
from ..backend import to_device
from ..hooks import Handle
from ..tensor import Tensor
from . import state as states
from .optimizer import Optimizer


class Wrapper(Optimizer):
    """Base of the optimizers around another one. A subclass defines

    advance    a step: it calls self.optimizer.step(...) and returns the loss
    numbers    the names of its attributes that are saved, and that load_state_dict takes over
    buffers    the names of its own state slots: each as long as the arena, in the type computed in
    """

    eager = "it does more than the rule inside"
    numbers: ClassVar[tuple[str, ...]] = ()
    buffers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, optimizer: Any):
        if not isinstance(optimizer, Optimizer):
            name = type(self).__name__
            raise TypeError(
                f"{name}: wraps an optimizer, not a {type(optimizer).__name__}; as "
                f"{name}(optim.SGD(params, lr))"
            )
        self.optimizer: Optimizer = optimizer
        self.unhook()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "optimizer" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.optimizer, name)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of the rule inside."""
        return self.optimizer.param_groups

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The defaults of the rule inside."""
        return self.optimizer.defaults

    @property
    def steps(self) -> dict[Tensor, int]:
        """t of each parameter, as the rule inside counts."""
        return self.optimizer.steps

    @property
    def kept(self) -> dict[Tensor, dict[str, float]]:
        """The further numbers of the rule inside."""
        return self.optimizer.kept

    def settle(self) -> None:
        self.optimizer.settle()

    @property
    def innermost(self) -> Optimizer:
        """The rule inside all wrappers."""
        inner = self.optimizer
        return inner.innermost if isinstance(inner, Wrapper) else inner

    def check(self, group: dict[str, Any]) -> None:
        self.optimizer.check(group)

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ()

    def slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        return self.buffers

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to the rule inside."""
        self.optimizer.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; with set_to_none=False, fill them with zeros."""
        self.optimizer.zero_grad(set_to_none)

    def register_update_pre_hook(self, hook: Callable) -> Handle:
        """Call hook(the rule inside) when the gradients of its step are there."""
        return self.optimizer.register_update_pre_hook(hook)

    # ------------------------------------------------------------------------------------------------- a step

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the whole; the hooks of the rule inside run at its own steps."""
        if (recorder := graph.current()) is not None:
            recorder.wrapping(self)
        args, kwargs, closure = self.entering(closure)
        loss = self.advance(closure)
        self.leaving(args, kwargs)
        return loss

    def count_on(self, n: int) -> None:
        """What n plain steps leave here, besides those of the rule inside: for a `steady` wrapper."""

    def advance(self, closure: Callable[[], Any] | None) -> Any:
        """The step between the hooks."""
        raise TypeError(f"{type(self).__name__} defines no advance")

    def moved(self) -> list[Tensor]:
        """The parameters that have taken a step."""
        known, own = self.innermost.steps, self.innermost.own
        return [p for p in self.parameters() if known.get(p, 0) or p in own]

    # -------------------------------------------------------------------------------------------------- state

    @property
    def state(self) -> Mapping[Tensor, Mapping[str, Any]]:
        """The state of the rule inside, each parameter's with this wrapper's own slots."""
        inner = self.optimizer.state
        if not self.buffers:
            return inner
        found: dict[Tensor, Mapping[str, Any]] = {}
        for p in self.moved():
            own = {name: Tensor(self.place(p, name)) for name in self.buffers}
            found[p] = MappingProxyType(dict(inner.get(p, {})) | own)
        return MappingProxyType(defaultdict(dict, found))

    def state_dict(self) -> dict[str, Any]:
        """{"state": own slots by index, "param_groups": those inside, "wrapper": name and numbers,
        "optimizer": the state_dict() of the rule inside}: nested as the optimizers are."""
        self.telling("saving")
        return self.passing("saved", self.around(self.optimizer.state_dict()))

    def bare(self) -> dict[str, Any]:
        return self.around(self.optimizer.bare())

    def around(self, inner: dict[str, Any]) -> dict[str, Any]:
        """The state of the whole, from that of the rule inside."""
        index = {p: k for k, p in enumerate(self.parameters())}
        own = {
            index[p]: {n: states.copied(Tensor(self.place(p, n))) for n in self.buffers}
            for p in (self.moved() if self.buffers else ())
        }
        about = {"name": type(self).__name__} | {n: getattr(self, n) for n in self.numbers}
        return {"state": own, "param_groups": inner["param_groups"], "wrapper": about, "optimizer": inner}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state_dict() of the same wrappers and rule; or an error, and no change."""
        name = type(self).__name__
        what = f"load_state_dict of {name}"
        keys = {"state", "param_groups", "wrapper", "optimizer"}
        if self.hooks["loading"] and isinstance(state_dict, Mapping):
            state_dict = self.passing("loading", dict(state_dict))
        if not isinstance(state_dict, Mapping) or not keys <= set(state_dict):
            raise TypeError(
                f"{what}: expected what its state_dict() gives, a dictionary with {', '.join(sorted(keys))}; "
                f"the state of the rule inside goes into .optimizer.load_state_dict"
            )
        about = state_dict["wrapper"]
        if about.get("name") != name or any(n not in about for n in self.numbers):
            raise ValueError(f"{what}: this is the state of {about.get('name')}, with {sorted(about)}")
        entries = []
        for _, _, members in states.matched(what, self.optimizer, list(state_dict["param_groups"])):
            for p, label, index in members:
                stored = state_dict["state"].get(index, state_dict["state"].get(str(index)))
                if stored is not None:
                    arrays = states.entry(f"{what}: {label}", self, p, self.buffers, stored)[2]
                    entries.append((p, arrays))
        self.optimizer.load_state_dict(state_dict["optimizer"])
        for n in self.numbers:
            setattr(self, n, about[n])
        for p, arrays in entries:
            for n, value in arrays.items():
                self.place(p, n)[...] = to_device(value, p.device)
        self.restored([p for p, _ in entries])
        self.telling("loaded")

    def restored(self, params: list[Tensor]) -> None:
        """Called after a load, with the parameters whose slots came with it."""

    def __getstate__(self) -> dict[str, Any]:
        kept = {k: v for k, v in self.__dict__.items() if k in ("optimizer", *self.numbers)}
        return kept | {"saved": self.bare()}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        saved = kept.pop("saved")
        self.__dict__.update(kept)
        self.unhook()
        house(self.parameters())
        self.unsaved()
        self.load_state_dict(saved)

    def unsaved(self) -> None:
        """The attributes of a wrapper that are not saved."""

    def __repr__(self) -> str:
        told = "".join(f"{n}={getattr(self, n)!r}, " for n in self.numbers)
        return f"{type(self).__name__}({told}{self.optimizer!r})"
