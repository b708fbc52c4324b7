"""The rows of scalars: computed ahead in double, uploaded, and used up one a step.

Each optimizer goes through the rows by itself (a Lane). Where a GradScaler may leave out its steps, how far
it is only the device knows: the host counts every step as taken, and corrects itself when somebody asks for
step counts (Optimizer.settle), which is one read. Until then the device takes each row in its turn all the
same, because it counts itself (kernels/tick.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.tick import ROWS

from ..backend import on_device
from ..tensor import Tensor
from .clock import Clock
from .recorder import Launch, Recorder

BACK = ROWS // 2  # so many steps may be unsettled while rows are written one by one


class Lane:
    """One optimizer's way through the rows.

    at    the rows that it used, as if every step were taken
    sure  those that it is known to have used: at, but for steps that a scaler may have left out
    end   rows are there up to this one; `expected`: what each was made for
    """

    def __init__(
        self, optimizer: Any, launches: list[Launch], each: int, scaler: Any, slot: int, clock: Clock
    ):
        self.optimizer, self.launches, self.each = optimizer, launches, each
        self.steps = [launch for launch in launches if launch.counts]
        self.scaler, self.slot, self.clock = scaler, slot, clock
        self.at = self.sure = self.end = 0
        self.expected: list[Any] = [None] * ROWS
        self.kept: list[Any] = []  # what a rule with `carries` kept after each step since `sure`

    def base(self) -> list[int]:
        """The step that each launch is at."""
        return [self.optimizer.counted[launch.params[0]] for launch in self.launches]

    def numbers(self) -> list[Any]:
        return [self.optimizer.carried.get(launch.params[0]) for launch in self.launches]

    def ready(self) -> bool:
        """Whether the next row was made for the options and counts of now."""
        made = self.expected[self.at % ROWS]
        if self.at >= self.end or made[:2] != (self.base(), options(self.launches)):
            return False
        return all(a is b or a == b for a, b in zip(made[2], self.numbers(), strict=True))

    def step(self) -> None:
        """The host's counts after a step, if it was taken."""
        rule = self.optimizer
        if self.scaler is not None and rule.unsettled is None:
            self.kept = [dict(rule.carried)]
            rule.unsettled = self.settle
        for launch in self.steps:
            t = rule.counted[launch.params[0]] + 1
            rule.counted.update(dict.fromkeys(launch.params, t))
            if rule.carries:
                new = dict(rule.carried.get(launch.params[0], {}))
                rule.scalars(launch.group, t, new)
                rule.carried.update(dict.fromkeys(launch.params, new))
        if self.scaler is None:
            self.sure += 1
        elif rule.carries:
            self.kept.append(dict(rule.carried))
        self.at += 1

    def settle(self) -> None:
        """Take back what the host counted of steps that were left out. Reads the device."""
        taken = int(self.clock.taken.get()[self.slot])
        left_out, rule = self.at - taken, self.optimizer
        for launch in self.steps if left_out else ():
            t = rule.counted[launch.params[0]] - left_out
            rule.counted.update(dict.fromkeys(launch.params, t))
        if rule.carries and left_out:
            rule.carried.clear()
            rule.carried.update(self.kept[taken - self.sure])
        self.scaler.skips += left_out
        self.at = self.sure = taken
        self.kept = []


def options(launches: list[Launch]) -> list[tuple]:
    """The options of their groups, to be compared; a Tensor on the host counts as its number."""
    found = []
    for launch in launches:
        given = [v for k, v in launch.group.items() if k not in ("params", "param_names")]
        plain = [v if not isinstance(v, Tensor) or on_device(v.array) else float(v.array) for v in given]
        found.append(tuple(plain))
    return found


class Rows:
    """The table of a graph, and the lanes of all optimizers that read it."""

    def __init__(self, clock: Clock, found: Recorder):
        self.clock = clock
        self.ahead, self.used = ROWS, 0  # rows of the last upload, and how many of them were used
        self.values = np.zeros((ROWS, clock.size))
        whose = np.full(clock.size, -1, np.int64)
        self.lanes = []
        for optimizer, each in found.steps.items():
            launches = [x for x in found.launches if x.optimizer is optimizer]
            scaler, slot = found.scaled.get(optimizer, (None, -1))
            self.lanes.append(Lane(optimizer, launches, each, scaler, slot, clock))
            for launch in launches:
                whose[[column for column, _ in launch.columns]] = slot
        clock.whose.set(whose)

    def settled(self) -> None:
        """Settle optimizers whose last steps were another graph's."""
        for lane in self.lanes:
            if lane.optimizer.unsettled not in (None, lane.settle):
                lane.optimizer.settle()

    def prepare(self, on: Any, schedule: Any) -> None:
        """See to it that the table has the row of this step.

        Who writes to param_groups at every step gets one row a step, who never does all that the table holds.
        """
        if all(lane.ready() for lane in self.lanes):
            return
        changed = all(lane.at < lane.end for lane in self.lanes)
        self.ahead = max(self.used, 1) if changed else min(2 * self.ahead, ROWS)
        for lane in self.lanes:
            known = lane.at == lane.sure
            if not known and (self.ahead > 1 or lane.optimizer.carries or lane.at > lane.sure + BACK):
                lane.optimizer.settle()
        self._make(self.ahead, schedule)
        self._upload(self.ahead, on)
        self.used = 0

    def _make(self, ahead: int, schedule: Any) -> None:
        """Compute rows for as many steps ahead, and for those where an unsettled lane may really be."""
        state = [(lane, lane.base(), lane.numbers()) for lane in self.lanes]
        carried = {id(lane): [dict(k or {}) for k in kept] for lane, _, kept in state}
        for n in range(-max(lane.at - lane.sure for lane in self.lanes), ahead):
            if schedule is not None:
                schedule(max(n, 0))
            for lane, base, kept in state:
                if n < lane.sure - lane.at:
                    continue
                row, mine = (lane.at + n) % ROWS, carried[id(lane)]
                counts = [t + n * lane.each for t in base]
                known = [dict(k) for k in mine] if lane.optimizer.carries else kept
                lane.expected[row] = (counts, options(lane.launches), known)
                for k, launch in enumerate(lane.launches):
                    t = counts[k] + launch.lag + 1
                    rule: Any = lane.optimizer
                    given = (launch.group, t, mine[k]) if rule.carries else (launch.group, t)
                    scalars = rule.scalars(*given)
                    for column, name in launch.columns:
                        self.values[row, column] = scalars[name]
        if schedule is not None:
            schedule(0)
        for lane in self.lanes:
            lane.end = max(lane.end, lane.at + ahead)

    def _upload(self, ahead: int, on: Any) -> None:
        with np.errstate(over="ignore"):
            rows = self.values.astype(self.clock.kind)
        first, last = min(lane.sure for lane in self.lanes), max(lane.at for lane in self.lanes)
        count = min(last + ahead - first, ROWS)
        first %= ROWS
        for start, stop in ((first, min(first + count, ROWS)), (0, first + count - ROWS)):
            if stop > start:
                self.clock.table[start:stop].set(rows[start:stop], stream=on)

    def step(self) -> None:
        """What the step leaves of counts on the host."""
        self.used += 1
        for lane in self.lanes:
            lane.step()
