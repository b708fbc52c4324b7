"""Guard: steps whose gradient holds inf or nan are skipped, without waiting for the device at each step.

Whether a gradient is finite is known on the device. To ask at every step would make the host wait for it, so
the guard only collects the norms, there, and the loop asks when it looks at the loss anyway. Where one was
bad, everything goes back to the last look, kept in memory, and the steps since are made again, now asking at
each and leaving out the bad ones. A run can be continued to the bit (checkpoints.py), so what is made again
is what would have been made: the result does not depend on how often the loop looks.

    guard = Guard(parts)
    while run.step < steps:
        window, careful = next(batches), run.step < again
        with guard.step(careful):               # a bad step is left here when careful, and changes nothing
            optimizer.step(closure)             # closure calls guard.note(norm)
        run.step += 1
        if time to look:
            if not guard.sound():
                again, batches = run.step, iter(...)
                guard.rewind()
                continue
            guard.keep()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any

from .. import ops
from ..tensor import Tensor
from .checkpoints import restore, state_of


class NonFinite(ArithmeticError):
    """A gradient holds inf or nan."""


class Guard:
    """`parts` are the objects of a run, as `restore` takes them; `buffers` Tensors that a forward pass
    changes, as batch norm's statistics: a step that is skipped leaves them as they were."""

    def __init__(self, parts: Mapping[str, Any], buffers: Mapping[str, Tensor]):
        self.parts, self.buffers = parts, buffers
        self.keep()

    def keep(self) -> None:
        """This is sound: to be gone back to."""
        self.kept = state_of(self.parts)
        self.norms: list[Tensor] = []  # of the steps since then; they stay on the device

    @contextmanager
    def step(self, careful: bool) -> Iterator[None]:
        """A step; when careful, one with a bad gradient ends at `note` and leaves no trace."""
        self.careful, self.first, self.skipped = careful, True, False
        before = {name: b.array.copy() for name, b in self.buffers.items()} if careful else {}
        try:
            yield
        except NonFinite:
            self.skipped = True
            for name, array in before.items():
                self.buffers[name].array[...] = array
                self.buffers[name].touch()

    def note(self, norm: Tensor) -> None:
        """The norm of all gradients of the step. Rules that ask for several gradients judge later ones."""
        if not self.first:
            return
        self.first = False
        if not self.careful:
            self.norms.append(norm)
        elif not isfinite(float(norm)):
            raise NonFinite("a gradient holds inf or nan")

    def sound(self) -> bool:
        """Were all gradients since the last look finite? One read of the device."""
        return not self.norms or bool(ops.isfinite(ops.stack(0, *self.norms)).all())

    def rewind(self) -> None:
        """Back to the last look."""
        restore(self.parts, self.kept, "the state at the last look")
        self.keep()
