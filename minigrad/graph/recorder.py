"""The recorder: what a step does that a graph cannot simply repeat.

Backends and optimizers ask it (kernels/cuda/graph.py: `current`, `refuse`). While a step is watched, at
warm-up, it counts and notes; while one is captured, it hands out places on the device.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kernels.cuda import graph
from kernels.tick import ONE_MORE

from ..backend import device_of, empty, to_host
from ..nn.hooks import Hooks
from ..optim.optimizer import Optimizer
from ..tensor import Tensor
from .clock import Clock

OURS = tuple(str(Path(__file__).resolve().parents[2] / name) for name in ("minigrad", "kernels"))


class Refused(RuntimeError):
    """The step does what a graph cannot hold."""


def _place() -> str:
    """The line of the user's that is being executed."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((*OURS, "<")):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}, in {frame.f_code.co_name}"


def fixed(optimizer: Optimizer, group: dict) -> Any:
    """The options that a graph holds as they are: those of a rule that do not go through kernels."""
    if optimizer.by_kernels:
        return {k: group[k] for k in optimizer.held}
    return {k: v for k, v in group.items() if k not in ("params", "param_names", "lr", "weight_decay")}


class Launch:
    """A launch of an optimizer's: where the scalars of its step go in the row."""

    def __init__(self, optimizer: Optimizer, group: dict, flags: tuple, run: Any, scalars: dict, lag: int):
        self.counts = True  # as a step of its parameters
        self.fixed = fixed(optimizer, group)
        self.optimizer, self.group, self.flags, self.scalars = optimizer, group, flags, scalars
        self.params, self.arena, self.lag = list(run.params), run.arena, lag
        self.columns: list[tuple[int, str]] = []


class Undo:
    """The counts of an optimizer before a step that its GradScaler may leave out, and the flag that tells."""

    def __init__(self, optimizer: Optimizer, found: Any):
        self.optimizer, self.found = optimizer, found
        self.steps, self.kept = dict(optimizer.steps), dict(optimizer.kept)

    def settle(self) -> bool:
        """Take the counts back if the step was left out, and say whether it was. Reads the device."""
        left_out = bool(to_host(self.found)[0] != 0)
        if left_out:
            self.optimizer.counted.update(self.steps)
            self.optimizer.carried.clear()
            self.optimizer.carried.update(self.kept)
        return left_out


class Recorder:
    """Asked by whatever a graph cannot simply repeat, while a step is watched or captured.

    Watching it only counts, and notes what cannot be captured; capturing (with a clock) it hands out places
    on the device.
    """

    def __init__(self, clock: Clock | None = None, table: Any = None):
        self.clock, self.table = clock, table
        self.reasons: list[str] = []
        self.leaves: dict[Tensor, None] = {}
        self.modules: dict[Any, None] = {}
        self.launches: list[Launch] = []
        self.updates: Counter[Any] = Counter()  # arena -> how often the step bumps its version
        self.steps: Counter[Optimizer] = Counter()
        self.launch: Launch | None = None
        self.unless: Any = None  # where that is not 0, launches that are given their outputs write nothing
        self.columns = self.draws = self.addresses = 0
        self.kind: str | None = None  # the type of the scalars
        self.keys: list[tuple] = []  # of the batches whose addresses the table is to hold
        self.scalers: dict[Any, None] = {}  # the GradScalers that step or update in it
        self.scaled: dict[
            Optimizer, tuple[Any, int]
        ] = {}  # stepped by a scaler -> it, the place of the count
        self.found: dict[Optimizer, Undo] = {}
        self.wrappers: dict[Any, None] = {}
        self.plain = True  # no optimizer does more than it mostly does

    @property
    def capturing(self) -> bool:
        return self.clock is not None

    def refuse(self, what: str) -> None:
        self.reasons.append(f"{what} ({_place()})")
        if self.capturing:
            raise Refused(self.reasons[-1])

    def leaf(self, leaf: Tensor) -> None:
        """It gets a gradient."""
        self.leaves[leaf] = None

    def module(self, module: Any) -> None:
        """It is called."""
        self.modules[module] = None
        if module._hooks is not None and any(module._hooks.values()):
            self.refuse(f"a hook of {type(module).__name__}")

    def draw(self) -> Any:
        """The words of the next draw; None where they are still to be uploaded."""
        self.draws += 1
        return None if self.clock is None else self.clock.words(self.draws - 1)

    def pointers(self, key: tuple) -> int:
        """Where the addresses of a batch will lie; 0 where they are still to be uploaded."""
        count = int(np.prod(key[1]))
        first, self.addresses = self.addresses, self.addresses + count
        if not self.capturing:
            return 0
        if self.addresses > self.table.size:
            self.refuse("more products of batches than at warm-up")
        self.keys.append(key)
        return self.table.data.ptr + 8 * first

    def wrapping(self, wrapper: Any) -> None:
        """The step of an optimizer around another one begins."""
        name = type(wrapper).__name__
        if not wrapper.steady:
            self.refuse(f"{name} has a step of its own kind: {wrapper.eager}")
        if wrapper.before or wrapper.ready or wrapper.after:
            self.refuse(f"a hook of {name}")
        if self.unless is not None:
            self.refuse(f"{name} cannot be left out on the device by a GradScaler")
        self.wrappers[wrapper] = None
        self.plain = self.plain and wrapper.plain()

    def stepping(self, optimizer: Optimizer, closure: Any) -> None:
        """An optimizer's step begins."""
        self.plain = self.plain and optimizer.plain()
        name, kind = type(optimizer).__name__, type(optimizer)
        if closure is not None:
            self.refuse(f"{name}.step is given a closure")
        if optimizer.before or optimizer.ready or optimizer.after:
            self.refuse(f"a hook of {name}")
        if self.unless is not None and not optimizer.by_kernels:
            self.refuse(f"{name} cannot be left out on the device by a GradScaler")
        usual = all(getattr(kind, n) is getattr(Optimizer, n) for n in ("step", "update", "launch"))
        if not (usual or optimizer.steady):
            self.refuse(f"{name} has a step of its own kind: {optimizer.eager}")

    @contextlib.contextmanager
    def leaving_out(self, scaler: Any, optimizer: Optimizer, found: Any) -> Iterator[None]:
        """In the block an optimizer steps, but nothing is written where found is not 0."""
        if optimizer in self.scaled:
            self.refuse(f"{type(optimizer).__name__} is stepped twice by a GradScaler")
        slot = len(self.scaled)
        self.scaled[optimizer] = (scaler, slot)
        self.found[optimizer] = Undo(optimizer, found)
        counter = empty((1,), np.dtype(np.int64), device_of(found))
        if self.clock is not None:
            counter = self.clock.taken[slot : slot + 1]
        self.unless = found
        try:
            yield
            ONE_MORE(counter)
        finally:
            self.unless = None

    def launching(
        self, optimizer: Optimizer, group: dict, flags: tuple, run: Any, scalars: dict, counts: bool = True
    ) -> None:
        """What the kernels take from `scalars` until the next call of this or of `updated` is this run's.

        counts: these launches are the run's step; not so what a rule does before or after them.
        """
        self.launch = Launch(optimizer, group, flags, run, scalars, self.steps[optimizer])
        self.launch.counts = counts
        self.launches.append(self.launch)
        self.leaves.update(dict.fromkeys(run.params))

    def updated(self, optimizer: Optimizer, arenas: Any) -> None:
        """An optimizer's launches have been made."""
        self.launch = None
        self.steps[optimizer] += 1
        self.updates.update(list(arenas))

    def scalars(self, kernel: Any, given: Any, kind: str) -> Any:
        """The numbers of a launch: themselves, or their place in the row."""
        if hasattr(given, "dtype"):
            return given
        if self.launch is None or not isinstance(given, dict):
            self.refuse(f"kernel {kernel.name!r} is given numbers by the host")
            return given
        own, names = self.launch.scalars, kernel.scalars
        if strange := [n for n in names if n not in own or own[n] != given[n]]:
            self.refuse(f"kernel {kernel.name!r} is given {', '.join(strange)} beside its rule's scalars")
            return given
        if self.kind not in (None, kind):
            self.refuse("parameters of float32 and of float64 in one step")
            return given
        self.kind = kind
        first, self.columns = self.columns, self.columns + len(names)
        if self.clock is None:
            return given
        self.launch.columns += [(first + k, name) for k, name in enumerate(names)]
        return self.clock.row[first : self.columns]


@contextlib.contextmanager
def asking(recorder: Recorder) -> Iterator[None]:
    """Within the block the recorder is asked, and hears of the modules that are called."""
    plain = Hooks.__call__

    @functools.wraps(plain)
    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if graph.current() is recorder:  # another thread's modules are not this step's
            recorder.module(self)
        return plain(self, *args, **kwargs)

    Hooks.__call__ = noted  # type: ignore[method-assign]
    try:
        with graph.recorded_by(recorder):
            yield
    finally:
        Hooks.__call__ = plain  # type: ignore[method-assign]
