"""Hooks of a module: functions that see, and may replace, what goes in and comes out, forward and backward.

    forward pre-hook     hook(module, args) -> None or new args
    forward hook         hook(module, args, output) -> None or a new output
    backward pre-hook    hook(module, grad_output) -> None or new gradients of the output
    backward hook        hook(module, grad_input, grad_output) -> None or new gradients of the inputs

A module without hooks pays one look-up a call. Backward hooks see gradients at two gates: identity operations
that the positional inputs pass through on their way in, and the output on its way out. Several tensors pass a
gate joined into one vector, so that all their gradients are there when the hook is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import ops
from ..grad_mode import is_grad_enabled
from ..public.arguments import refusal
from ..tensor import Handle, Tensor

KINDS = ("forward_pre", "forward", "backward_pre", "backward")
Gradients = tuple[Tensor | None, ...]


class Hooks:
    """The calling side of Module."""

    forward: Callable
    _hooks: dict[str, dict] | None = (
        None  # kind -> {key: (hook, with_kwargs)}, from the first registration on
    )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if self._hooks is None:
                return self.forward(*args, **kwargs)
            return self._call_with_hooks(args, kwargs)
        except AttributeError:
            if (error := refusal(type(self).__name__, self.forward, args, kwargs)) is not None:
                raise error from None
            raise

    def _hook(self, kind: str, hook: Callable, prepend: bool, with_kwargs: bool = False) -> Handle:
        if self._hooks is None:
            self._hooks = {k: {} for k in KINDS}
        hooks = self._hooks[kind]
        handle = Handle(hooks, (hook, with_kwargs))  # type: ignore[arg-type]
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

    def register_full_backward_pre_hook(self, hook: Callable, prepend: bool = False) -> Handle:
        """When the gradient of the output is known: hook(module, grad_output) -> None or a tuple that
        replaces it."""
        return self._hook("backward_pre", hook, prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> Handle:
        """When the inputs' gradients are known: hook(module, grad_input, grad_output) -> None or a tuple that
        replaces grad_input. Both are tuples, with None for what has no gradient."""
        return self._hook("backward", hook, prepend)

    # -------------------------------------------------------------------------------------------- the call

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
                    f"forward pre-hook: with_kwargs it returns None or (args, kwargs), not {result!r}"
                )
        backward = (hooks["backward_pre"] or hooks["backward"]) and is_grad_enabled()
        arrived: list[Gradients] = []  # the gradients of the output, when they have come
        if backward:
            args, gated = _gate(args, lambda grads: self._run_backward(grads, arrived[0]))
        output = self.forward(*args, **kwargs)
        for hook, with_kwargs in list(hooks["forward"].values()):
            result = hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
            output = output if result is None else result
        if not backward:
            return output

        def at_output(grads: Gradients) -> Gradients:
            for hook, _ in list(hooks["backward_pre"].values()):
                grads = _replaced("backward pre-hook", grads, hook(self, grads))
            if gated:
                arrived[:] = [grads]
            else:  # nothing before this module has a gradient
                self._run_backward((None,) * len(args), grads)
            return grads

        if isinstance(output, Tensor):
            return _gate((output,), at_output)[0][0]
        if isinstance(output, tuple):
            return _gate(output, at_output)[0]
        raise TypeError(f"backward hooks need a Tensor or a tuple as output, not {type(output).__name__}")

    def _run_backward(self, grad_input: Gradients, grad_output: Gradients) -> Gradients:
        for hook, _ in list((self._hooks or {})["backward"].values()):
            grad_input = _replaced("backward hook", grad_input, hook(self, grad_input, grad_output))
        return grad_input


def _replaced(what: str, grads: Gradients, result: Any) -> Gradients:
    """What a hook returned in place of gradients, or these."""
    if result is None:
        return grads
    result = result if isinstance(result, tuple) else (result,)
    if len(result) != len(grads):
        raise ValueError(f"{what}: it returned {len(result)} gradients for {len(grads)}")
    return result


def _gate(values: tuple, at: Callable[[Gradients], Gradients]) -> tuple[tuple, bool]:
    """The values, those with gradients passed through an identity where `at` may replace their gradients; and
    whether there are any."""
    places = [k for k, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
    if not places:
        return values, False
    tensors = [values[k] for k in places]
    if len({t.array.dtype for t in tensors}) > 1:
        kinds = ", ".join(t.dtype.name for t in tensors)
        raise TypeError(f"backward hooks need tensors of one dtype, these are {kinds}")
    stops = [0]
    for t in tensors:
        stops.append(stops[-1] + t.array.size)

    def split(joined: Tensor) -> list[Tensor]:
        if len(tensors) == 1:
            return [joined]
        return [joined[a:b].reshape(t) for a, b, t in zip(stops, stops[1:], shapes, strict=False)]

    def join(parts: list[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else ops.cat(0, *[t.reshape(-1) for t in parts])

    def hook(g: Tensor) -> Tensor:
        grads: list[Tensor | None] = [None] * len(values)
        for k, part in zip(places, split(g), strict=True):
            grads[k] = part
        found = at(tuple(grads))
        return join([found[k] for k in places])  # type: ignore[misc]

    shapes = [t.array.shape for t in tensors]
    joined = join(tensors)
    joined = ops.reshape(joined, joined.array.shape)  # a node of our own
    joined.register_hook(hook)
    through = list(values)
    for k, t in zip(places, split(joined), strict=True):
        through[k] = t
    return tuple(through), True
