"""One captured step: its graph, what it needs before a replay, and what it leaves on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.cuda import blas, graph

from .. import random
from ..backend import empty, on_device
from ..ops import attention, constants
from ..optim.optimizer import Optimizer
from ..tensor import Tensor
from .calls import Call, copies
from .clock import Clock
from .recorder import Recorder, Refused, asking, fixed
from .rows import Rows


class Graph:
    """The step for one key: warm-ups so far, then the graph and what a replay has to do on the host."""

    def __init__(self) -> None:
        self.runs, self.pool = 0, graph.pool()
        self.watched: Recorder | None = None
        self.made: Any = None

    # capturing

    def record(self, function: Callable[..., Any], call: Call) -> None:
        """Capture the step. What raises leaves the host as it was, and nothing has run on the device."""
        seen, on = self.watched, graph.stream()
        assert seen is not None
        before = Host(seen)
        try:
            # not from the pool: what it has free is what the capture will need
            self.statics = [Tensor(empty(t.array.shape, t.array.dtype, t.device)) for t in call.tensors]
            where = next(iter(seen.leaves or call.tensors)).device
            self.clock = Clock(seen.columns, seen.draws, len(seen.scaled), seen.kind, where)
            self.clock.tick()  # so that it is compiled
            self.clock.restart()
            self.table = empty((max(seen.addresses, 1),), np.dtype(np.int64), where)
            for static, t in zip(self.statics, call.tensors, strict=True):
                static.array[...] = t.array
            recorder = Recorder(self.clock, self.table)

            def body() -> Any:
                if seen.columns or seen.draws:
                    self.clock.tick()
                return call.run(function, self.statics)

            with asking(recorder), graph.allocating(self.pool):
                made, out = graph.captured(body, on)
            counts = [(r.columns, r.draws, len(r.scaled)) for r in (recorder, seen)]
            if counts[0] != counts[1]:
                raise Refused(f"the step takes other numbers than at warm-up: {counts[0]}, {counts[1]}")
            self.found = recorder
            self.rows = Rows(self.clock, recorder)
            self.scalers = [(s, s.saying(), s.options()) for s in recorder.scalers]
            self.after = [(leaf, state_of(leaf), _marked(leaf)) for leaf in recorder.leaves | seen.leaves]
            self.grads = [leaf.grad if kind == "elsewhere" else None for leaf, kind, _ in self.after]
            self.numbers = [on_devices(launch.group) for launch in recorder.launches]
            self.place = [(leaf, leaf.array) for leaf, *_ in self.after]
            self.place += [(v, v.array) for found in self.numbers for v in found]
            self.out = out
            if recorder.keys:
                self.table.set(np.concatenate([blas.table_of(key) for key in recorder.keys]))
            self.held = [*constants.held.values(), *attention._held.values()]  # the graph reads them
        finally:
            before.restore()
        self.drawn: Any = None
        self.copied: list[Any] = [None] * len(self.statics)
        self.made = made

    # replaying

    def fits(self) -> bool:
        """Whether parameters still lie, and optimizers still work, where the graph has them."""
        for leaf, array in self.place:
            if leaf.array is not array:
                return False
        self.rows.settled()
        for optimizer in self.found.steps:
            optimizer.allowed()
        for launch, numbers in zip(self.found.launches, self.numbers, strict=True):
            rule = launch.optimizer
            if launch.flags != rule.flags(launch.group) or launch.fixed != fixed(rule, launch.group):
                return False
            t = rule.counted.get(launch.params[0])
            if t == 0 and type(rule).begin is not Optimizer.begin:
                return False
            if not all(rule.counted.get(p) == t for p in launch.params):
                return False
            if on_devices(launch.group) != numbers:
                return False
        return all(scaler.options() == options for scaler, _, options in self.scalers)

    def replay(self, call: Call, schedule: Any) -> Any:
        on = graph.stream()
        if call.tensors:
            graph.after_default(on)
        for k, (static, t) in enumerate(zip(self.statics, call.tensors, strict=True)):
            version = (t.array, t.version[0])
            known = self.copied[k]
            if known is None or known[0] is not t.array or known[1] != version[1] or t.version[0] == 0:
                static.array[...] = t.array
                self.copied[k] = version
        if self.found.columns:
            self.rows.prepare(on, schedule)
        if self.clock.draws:
            state = random.philox_state()
            if state != self.drawn:
                self.clock.draw_from(*state, on)
        self.made.launch(on)
        self._left()
        return copies(self.out)

    def _left(self) -> None:
        """What the step leaves on the host."""
        self.rows.step()
        for wrapper in self.found.wrappers:
            wrapper.count_on(1)
        for scaler, said, _ in self.scalers:
            scaler.said(said)
        for arena, times in self.found.updates.items():
            arena.version[0] += times
        for (leaf, kind, scaled), elsewhere in zip(self.after, self.grads):
            if kind == "none":
                leaf.grad = None
                continue
            grad = leaf.grad = leaf.slot if kind == "slot" else elsewhere
            assert grad is not None
            grad.touch()
            if grad.scaled is not scaled:
                grad.scaled = scaled
            if leaf.arena is not None:
                stale(leaf.arena)
        if self.clock.draws:
            random.next_offset(self.clock.draws)
            self.drawn = random.philox_state()


def state_of(leaf: Tensor) -> str:
    """Where a leaf's gradient is."""
    return "none" if leaf.grad is None else "slot" if leaf.grad is leaf.slot else "elsewhere"


def on_devices(group: dict[str, Any]) -> set[Tensor]:
    """The options of a group that are numbers on a device: the graph reads them where they are."""
    return {v for v in group.values() if isinstance(v, Tensor) and on_device(v.array)}


def _marked(leaf: Tensor) -> bool:
    return leaf.grad is not None and leaf.grad.scaled


def stale(arena: Any) -> None:
    """The next step under autocast casts the parameters again, as every captured step does."""
    for shadow in arena.shadows.values():
        shadow.seen = -1


class Host:
    """What a step changes on the host, to be put back after a capture: that ran nothing."""

    def __init__(self, seen: Recorder):
        self.optimizers = [(o, dict(o.steps), dict(o.kept)) for o in seen.steps]
        self.leaves = [
            (leaf, kind := state_of(leaf), leaf.grad if kind == "elsewhere" else None, _marked(leaf))
            for leaf in seen.leaves
        ]
        self.generator, self.offset = random.default_generator, random.default_generator.offset
        self.scalers = [(scaler, scaler.saying()) for scaler in seen.scalers]
        self.wrappers = [(w, {n: getattr(w, n) for n in w.numbers}) for w in seen.wrappers]

    def restore(self) -> None:
        for optimizer, steps, kept in self.optimizers:
            optimizer.steps.update(steps)
            optimizer.kept.clear()
            optimizer.kept.update(kept)
        for leaf, kind, elsewhere, scaled in self.leaves:
            leaf.grad = None if kind == "none" else leaf.slot if kind == "slot" else elsewhere
            if leaf.grad is not None and leaf.grad.scaled is not scaled:
                leaf.grad.scaled = scaled
            if leaf.arena is not None:
                stale(leaf.arena)
        self.generator.offset = self.offset
        for scaler, said in self.scalers:
            scaler.said(said)
        for wrapper, numbers in self.wrappers:
            vars(wrapper).update(numbers)
