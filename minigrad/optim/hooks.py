"""Hooks of an optimizer: functions that are called around its steps, around saving and around loading.

    before a step    hook(optimizer, args, kwargs), may return new (args, kwargs)
    before an update hook(optimizer): the gradients are there, the closure has run
    after a step     hook(optimizer, args, kwargs)
    before saving    hook(optimizer); after it hook(optimizer, state_dict), may return another state_dict
    before loading   hook(optimizer, state_dict), may return another; after it hook(optimizer)

Names and order are PyTorch's. Those of a step can also be registered for every optimizer, with
register_optimizer_step_pre_hook and register_optimizer_step_post_hook: they run as the outermost.
A copy of an optimizer, by copy or pickle, has no hooks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from ..hooks import Handle

MOMENTS = ("before", "ready", "after", "saving", "saved", "loading", "loaded")
EVERYWHERE: dict[str, OrderedDict[object, Callable]] = {"before": OrderedDict(), "after": OrderedDict()}


def register_optimizer_step_pre_hook(hook: Callable) -> Handle:
    """Call hook(optimizer, args, kwargs) before each step of every optimizer."""
    return Handle(EVERYWHERE["before"], hook)


def register_optimizer_step_post_hook(hook: Callable) -> Handle:
    """Call hook(optimizer, args, kwargs) after each step of every optimizer."""
    return Handle(EVERYWHERE["after"], hook)


class Hooked:
    """What registers hooks, and calls them."""

    def unhook(self) -> None:
        """No hooks, as at the beginning."""
        self.hooks: dict[str, OrderedDict[object, Callable]] = {name: OrderedDict() for name in MOMENTS}

    @property
    def before(self) -> Mapping[object, Callable]:
        """The hooks before a step, in the order in which they run."""
        return (
            {**EVERYWHERE["before"], **self.hooks["before"]} if EVERYWHERE["before"] else self.hooks["before"]
        )

    @property
    def ready(self) -> Mapping[object, Callable]:
        """The hooks before an update."""
        return self.hooks["ready"]

    @property
    def after(self) -> Mapping[object, Callable]:
        """The hooks after a step, in the order in which they run."""
        return {**self.hooks["after"], **EVERYWHERE["after"]} if EVERYWHERE["after"] else self.hooks["after"]

    # -------------------------------------------------------------------------------------------- registering

    def register_step_pre_hook(self, hook: Callable) -> Handle:
        """Call hook(optimizer, args, kwargs) before each step; it may return new (args, kwargs)."""
        return Handle(self.hooks["before"], hook)

    def register_update_pre_hook(self, hook: Callable) -> Handle:
        """Call hook(optimizer) before each update, when the gradients are there: after the closure."""
        return Handle(self.hooks["ready"], hook)

    def register_step_post_hook(self, hook: Callable) -> Handle:
        """Call hook(optimizer, args, kwargs) after each step."""
        return Handle(self.hooks["after"], hook)

    def register_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> Handle:
        """Call hook(optimizer) before each state_dict(); with `prepend`, before those that are there."""
        return self._register("saving", hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> Handle:
        """Call hook(optimizer, state_dict) on what state_dict() made; it may change it, or return another."""
        return self._register("saved", hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> Handle:
        """Call hook(optimizer, state_dict) before each load, with a shallow copy; it may return another."""
        return self._register("loading", hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> Handle:
        """Call hook(optimizer) after each load."""
        return self._register("loaded", hook, prepend)

    def _register(self, moment: str, hook: Callable, prepend: bool) -> Handle:
        handle = Handle(self.hooks[moment], hook)
        if prepend:
            self.hooks[moment].move_to_end(handle.key, last=False)
        return handle

    # ------------------------------------------------------------------------------------------------ calling

    def entering(self, closure: Callable[[], Any] | None) -> tuple[tuple, dict, Callable[[], Any] | None]:
        """Call the hooks before a step: its args, its kwargs and its closure after them."""
        args: tuple = (self,) if closure is None else (self, closure)
        kwargs: dict = {}
        for hook in list(self.before.values()):
            changed = hook(self, args, kwargs)
            if changed is None:
                continue
            if not isinstance(changed, tuple) or len(changed) != 2:
                raise RuntimeError(
                    f"{type(self).__name__}: the step pre-hook {hook} must return None or a tuple of "
                    f"(new_args, new_kwargs), but got {changed!r}"
                )
            args, kwargs = changed
            closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        return args, kwargs, closure

    def leaving(self, args: tuple, kwargs: dict) -> None:
        """Call the hooks after a step."""
        for hook in list(self.after.values()):
            hook(self, args, kwargs)

    def passing(self, moment: str, state_dict: Any) -> Any:
        """What the hooks of a moment, "saved" or "loading", make of a state_dict."""
        for hook in list(self.hooks[moment].values()):
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        return state_dict

    def telling(self, moment: str) -> None:
        """Call the hooks of a moment, "ready", "saving" or "loaded", with the optimizer."""
        for hook in list(self.hooks[moment].values()):
            hook(self)
