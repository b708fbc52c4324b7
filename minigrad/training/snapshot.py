"""A snapshot of all that training changes: try something, and go back to the bit.

    keep = Snapshot(model, optimizer, loader)
    ...                                          train for a while
    keep.restore()

It stays in memory; a checkpoint (checkpoints.py) is a file.
"""

from __future__ import annotations

from typing import Any

from ..random import default_generator
from ..tensor import Tensor
from .checkpoints import at_rest


class Snapshot:
    """All that training changes: weights, buffers, gradients and modes of the model, the optimizer's state
    and options, the random generators.

    `restore()` puts it back, to the bit, as often as asked; `with Snapshot(model, optimizer):` does at the
    end, after an error too. More things to keep are given with `more`: what has state_dict() and
    load_state_dict() (a schedule, a scaler), or get_state() and set_state() (a loader's generator); the
    default generator is always kept. It holds a copy of everything, on the device where that is.
    """

    def __init__(self, model: Any, optimizer: Any = None, *more: Any):
        self.generators = [(g, g.get_state()) for g in (default_generator, *more) if hasattr(g, "set_state")]
        self.stateful = [x for x in (optimizer, *more) if x is not None and not hasattr(x, "set_state")]
        for x in self.stateful:
            if not hasattr(x, "load_state_dict"):
                raise TypeError(f"Snapshot: {type(x).__name__} has neither load_state_dict() nor set_state()")
        self.modes = [(module, module.training) for module in model.modules()]
        self.gradients = [(p, None if p.grad is None else p.grad.array.copy()) for p in model.parameters()]
        with at_rest(*self._away()):
            self.tensors = [(t, t.array.copy()) for t in (*model.parameters(), *model.buffers())]
            self.states = [x.state_dict() for x in self.stateful]

    def _away(self) -> list[Any]:
        """The optimizers whose parameters are elsewhere while they train (Schedule-Free)."""
        groups = [(x, getattr(x, "param_groups", ())) for x in self.stateful]
        return [x for x, some in groups if any(group.get("train_mode") for group in some)]

    def restore(self) -> None:
        """Everything as it was."""
        with at_rest(*self._away()):
            for t, values in self.tensors:
                t.array[...] = values
                t.touch()
            for x, state in zip(self.stateful, self.states):
                x.load_state_dict(state)
        for p, values in self.gradients:
            if values is None:
                p.grad = None
            elif p.slot is not None:
                p.slot.array[...] = values
                p.slot.touch()
                p.grad = p.slot
            else:
                p.grad = Tensor(values.copy())
        for module, training in self.modes:
            module.training = training
        for generator, state in self.generators:
            generator.set_state(state)

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.restore()
