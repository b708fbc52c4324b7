"""Hooks of a module: functions that see, and may replace, what goes in and what comes out.

    forward pre-hook     hook(module, args) -> None or new args
    forward hook         hook(module, args, output) -> None or a new output

A module without hooks pays one look-up a call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..hooks import Handle

KINDS = ("forward_pre", "forward")


class Hooks:
    """The calling side of Module."""

    forward: Callable
    _hooks: dict[str, dict] | None = (
        None  # kind -> {key: (hook, its options)}, from the first registration on
    )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._hooks is None:
            return self.forward(*args, **kwargs)
        return self._call_with_hooks(args, kwargs)

    def _hook(self, kind: str, hook: Callable, prepend: bool, with_kwargs: bool = False) -> Handle:
        if self._hooks is None:
            self._hooks = {k: {} for k in KINDS}
        hooks = self._hooks[kind]
        handle = Handle(hooks, (hook, with_kwargs))
        if prepend:
            for key in [k for k in hooks if k is not handle.key]:
                hooks[key] = hooks.pop(key)
        return handle

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> Handle:
        """Before forward: hook(module, args) -> None, new args as a tuple, or one new argument.
        with_kwargs: hook(module, args, kwargs) -> None or (args, kwargs)."""
        return self._hook("forward_pre", hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> Handle:
        """After forward: hook(module, args, output) -> None or what replaces the output.
        with_kwargs: hook(module, args, kwargs, output)."""
        return self._hook("forward", hook, prepend, with_kwargs)

    def _call_with_hooks(self, args: tuple, kwargs: dict) -> Any:
        hooks = self._hooks or {}
        for hook, with_kwargs in list(hooks["forward_pre"].values()):
            result = hook(self, args, kwargs) if with_kwargs else hook(self, args)
            if result is None:
                continue
            if not with_kwargs:
                args = result if isinstance(result, tuple) else (result,)
            elif isinstance(result, tuple) and len(result) == 2:
                args, kwargs = result
            else:
                raise TypeError(
                    f"forward pre-hook with_kwargs: it returns None or (args, kwargs), not {result!r}"
                )
        output = self.forward(*args, **kwargs)
        for hook, with_kwargs in list(hooks["forward"].values()):
            result = hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
            output = output if result is None else result
        return output
