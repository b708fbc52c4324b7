"""The numbers that change from step to step, on the device, where a graph reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cuda import graph
from kernels.tick import ROWS, TICK

from ..backend import empty


class Clock:
    """What a graph reads that changes from step to step: a row of scalars, and the words of the draws.

    row     scalars, of the type `kind`; the n-th tick copies row n mod ROWS of `table` there
    word    seed and offset of each draw, the offsets ahead by the number of draws at each tick
    taken   how many steps each of `scaled` optimizers took: those that its GradScaler left out are not
            counted, and the columns of such an optimizer (`whose`) stay at their row
    """

    def __init__(self, columns: int, draws: int, scaled: int, kind: str | None, where: Any):
        self.columns, self.draws, self.scaled = columns, draws, scaled
        self.size = size = max(columns, 2 * draws, 1)
        self.kind = np.dtype(kind or "float32")
        self.count = empty((size,), np.dtype(np.int64), where)
        self.row = empty((size,), self.kind, where)
        self.word = empty((size,), np.dtype(np.uint64), where)
        self.stride = empty((size,), np.dtype(np.uint64), where)
        self.table = empty((ROWS, size), self.kind, where)
        self.taken = empty((max(scaled, 1),), np.dtype(np.int64), where)
        self.whose = empty((size,), np.dtype(np.int64), where)
        by = np.zeros(size, np.uint64)
        by[1 : 2 * draws : 2] = draws
        self.stride.set(by)
        self.word.set(np.zeros(size, np.uint64))
        self.table.set(np.zeros((ROWS, size), self.kind))
        self.whose.set(np.full(size, -1, np.int64))
        self.restart()

    def restart(self) -> None:
        self.count.set(np.zeros(self.size, np.int64))
        self.taken.set(np.zeros(max(self.scaled, 1), np.int64))

    def tick(self) -> None:
        of, flags = ((self.taken, self.whose), ("unless",)) if self.scaled else ((None, None), ())
        TICK(self.table.reshape(-1), self.stride, *of, self.count, self.row, self.word, flags=flags)

    def words(self, k: int) -> Any:
        if k >= self.draws:
            graph.refuse("more random draws than at warm-up")
        return self.word[2 * k : 2 * k + 2]

    def draw_from(self, seed: int, offset: int, on: Any) -> None:
        """The next tick's draws have these words."""
        words = np.zeros(self.size, np.uint64)
        words[: 2 * self.draws : 2] = seed
        for k in range(self.draws):
            words[2 * k + 1] = (offset + k - self.draws) % (1 << 64)
        self.word.set(words, stream=on)
