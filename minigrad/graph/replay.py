"""One captured step: its graph, what it needs before a replay, and what it leaves on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.cuda import blas, graph
from kernels.tick import ROWS

from .. import random
from ..backend import empty, on_device
from ..ops import attention, constants
from ..tensor import Tensor
from .calls import Call, copies
from .clock import Clock
from .recorder import Recorder, Refused, asking


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
            self.clock = Clock(seen.columns, seen.draws, seen.kind, where)
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
            counts = [(r.columns, r.draws) for r in (recorder, seen)]
            if counts[0] != counts[1]:
                raise Refused(f"the step takes other numbers than at warm-up: {counts[0]}, {counts[1]}")
            self.found = recorder
            self.after = [(leaf, state_of(leaf), _marked(leaf)) for leaf in recorder.leaves | seen.leaves]
            self.grads = [leaf.grad if kind == "elsewhere" else None for leaf, kind, _ in self.after]
            self.place = [(leaf, leaf.array) for leaf, *_ in self.after]
            self.out = out
            if recorder.keys:
                self.table.set(np.concatenate([blas.table_of(key) for key in recorder.keys]))
            self.held = [*constants.held.values(), *attention._held.values()]  # the graph reads them
        finally:
            before.restore()
        self.ticks, self.end, self.late = 0, 0, False
        self.expected: list[Any] = [None] * ROWS
        self.drawn: Any = None
        self.copied: list[Any] = [None] * len(self.statics)
        self.made = made

    # replaying

    def fits(self) -> bool:
        """Whether parameters still lie, and optimizers still work, where the graph has them."""
        for leaf, array in self.place:
            if leaf.array is not array:
                return False
        for launch in self.found.launches:
            if launch.flags != launch.optimizer.flags(launch.group):
                return False
            steps = launch.optimizer.steps
            t = steps.get(launch.params[0])
            if not all(steps.get(p) == t for p in launch.params):
                return False
        return True

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
            self._numbers(on, schedule)
        if self.clock.draws:
            state = random.philox_state()
            if state != self.drawn:
                self.clock.draw_from(*state, on)
        self.made.launch(on)
        self._left()
        return copies(self.out)

    def _base(self) -> list[int]:
        return [launch.optimizer.steps[launch.params[0]] for launch in self.found.launches]

    def _options(self) -> list[tuple]:
        """The options of all groups, to be compared; a Tensor on the host counts as its number."""
        found = []
        for launch in self.found.launches:
            options = [v for k, v in launch.group.items() if k not in ("params", "param_names")]
            found.append(
                tuple(
                    [
                        v if not isinstance(v, Tensor) or on_device(v.array) else float(v.array)
                        for v in options
                    ]
                )
            )
        return found

    def _numbers(self, on: Any, schedule: Any) -> None:
        """See to it that the table has the row of this step."""
        kept = [launch.optimizer.kept.get(launch.params[0]) for launch in self.found.launches]
        now = (self._base(), self._options())
        if self.ticks < self.end:
            expected = self.expected[self.ticks % ROWS]
            same = expected[0] == now[0] and expected[1] == now[1]
            if same and all(a is b or a == b for a, b in zip(expected[2], kept)):
                self.late = False
                return
            changed = True
        else:
            changed = False
        # somebody who writes at every step gets one row a step, everybody else all that the table holds
        ahead = 1 if changed and self.late else ROWS
        self.late = changed
        self._upload(ahead, kept, on, schedule)

    def _upload(self, ahead: int, kept: list, on: Any, schedule: Any) -> None:
        values = np.zeros((ahead, self.clock.size))
        launches, base = self.found.launches, self._base()
        carried = [dict(k or {}) for k in kept]
        for n in range(ahead):
            if schedule is not None:
                schedule(n)
            at = [t + n * self.found.steps[x.optimizer] for t, x in zip(base, launches)]
            self.expected[(self.ticks + n) % ROWS] = (at, self._options(), [dict(k) for k in carried])
            for k, launch in enumerate(launches):
                t = at[k] + launch.lag + 1
                rule: Any = launch.optimizer
                given = (launch.group, t, carried[k]) if rule.carries else (launch.group, t)
                scalars = rule.scalars(*given)
                for column, name in launch.columns:
                    values[n, column] = scalars[name]
            if not any(x.optimizer.carries for x in launches):
                self.expected[(self.ticks + n) % ROWS] = (at, self._options(), kept)
            self.carried = carried
        if schedule is not None:
            schedule(0)
        with np.errstate(over="ignore"):
            rows = values.astype(self.clock.kind)
        first = self.ticks % ROWS
        if first + ahead <= ROWS:
            self.clock.table[first : first + ahead].set(rows, stream=on)
        else:
            self.clock.table[first:].set(rows[: ROWS - first], stream=on)
            self.clock.table[: first + ahead - ROWS].set(rows[ROWS - first :], stream=on)
        self.end = self.ticks + ahead

    def _left(self) -> None:
        """What the step leaves on the host."""
        for launch in self.found.launches:
            rule = launch.optimizer
            t = rule.steps[launch.params[0]] + 1
            rule.steps.update(dict.fromkeys(launch.params, t))
            if rule.carries:
                new = dict(rule.kept.get(launch.params[0], {}))
                rule.scalars(launch.group, t, new)  # type: ignore[call-arg]
                rule.kept.update(dict.fromkeys(launch.params, new))
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
        self.ticks += 1
        if self.clock.draws:
            random.next_offset(self.clock.draws)
            self.drawn = random.philox_state()


def state_of(leaf: Tensor) -> str:
    """Where a leaf's gradient is."""
    return "none" if leaf.grad is None else "slot" if leaf.grad is leaf.slot else "elsewhere"


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
