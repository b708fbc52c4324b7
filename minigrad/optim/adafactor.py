"""Adafactor: second moments of a matrix as a row times a column, and steps relative to the parameters.

The state of one arena is one buffer, `second`, far smaller than the parameters:

    | 1 | variance of vectors | row_var of matrix 0 | col_var | scaled | row_var of matrix 1 | ...

scaled = col_var / mean(row_var), so that v = row_var scaled. Tables of a few numbers a chunk tell the two
texts that go through the run's chunks where a chunk's rows and columns are; a vector is a matrix of one
column, and its factor is the 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from kernels.rules import (
    ADAFACTOR,
    ADAFACTOR_COLUMNS,
    ADAFACTOR_COLUMNS_OF_MANY,
    ADAFACTOR_NORMS,
    ADAFACTOR_ROWS,
    ADAFACTOR_STEP,
    ADAFACTOR_VECTORS,
)

from ..arena import CHUNK, Arena, cut
from ..backend import Array, full, to_device
from ..tensor import Tensor
from .groups import Range, number
from .lars import call
from .optimizer import Optimizer, Run
from .record import Record
from .segments import Segments, chunks, segments


@dataclass(frozen=True)
class AtLeast(Range):
    """value >= low, in the words that PyTorch has for this rule."""

    def check(self, rule: str, value: Any) -> None:
        at_least(rule, self.name, value, self.low)


def at_least(rule: str, name: str, value: Any, low: float) -> None:
    """ValueError, naming rule, option, value and bound, unless a number is finite and at least low."""
    try:
        number(rule, name, value, low)
    except ValueError as e:
        if "1-element" in str(e):
            raise
        raise ValueError(f"{rule}: {name} should be >= {low:g} but is: {value}") from None


@dataclass(frozen=True)
class Epsilons(Range):
    """(eps1 or None, eps2), both at least 0."""

    def check(self, rule: str, value: Any) -> None:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise ValueError(f"{rule}: eps is {value!r}; it is two numbers, as (None, 1e-3)")
        for k, each in enumerate(value):
            if each is not None or k:
                at_least(rule, f"epsilon{k + 1}", each, 0)


class Second:
    """The second moments of the parameters in one arena; see the module."""

    def __init__(self, arena: Arena, params: dict[Tensor, bool]):
        self.factored = params
        self.kind = np.dtype(np.float64 if arena.dtype == np.float64 else np.float32)
        self.at: dict[tuple[Tensor, str], int] = {}
        size = 1
        for p, factored in sorted(params.items(), key=lambda item: (item[1], item[0].offset)):
            for name in ("row_var", "col_var", "scaled") if factored else ("variance",):
                self.at[p, name] = size
                size += int(np.prod(slot_shape(p, name), dtype=np.int64))
        self.array = full((size,), 0, self.kind, arena.device)
        self.array[:1] = 1
        self.tables: dict[tuple[int, int], Tables] = {}

    def place(self, p: Tensor, name: str) -> Array:
        """The part that is a parameter's, in the shape of PyTorch's state."""
        return cut(self.array, self.at[p, name], slot_shape(p, name))


def slot_shape(p: Tensor, name: str) -> tuple[int, ...]:
    """(..., R, 1) of row_var, (..., 1, C) of col_var for a parameter (..., R, C); its own of variance."""
    shape = p.array.shape
    if name == "row_var":
        return (*shape[:-1], 1)
    return (*shape[:-2], 1, shape[-1]) if name in ("col_var", "scaled") else shape


class Tables:
    """Where the chunks of a run find their second moments, on the device."""

    def __init__(self, second: Second, run: Run, at: Segments):
        params = [p for p in run.params if p.stop > p.offset]
        columns: list[list[np.ndarray]] = []
        vectors, self.span = [np.zeros(0, np.int64)], (0, 0)
        for p in params:
            k = np.arange(0, p.array.size, CHUNK)
            last = np.minimum(p.array.size - k, CHUNK) - 1
            height, width = p.array.shape[-2:] if second.factored[p] else (p.array.size, 1)
            row = k // width
            if second.factored[p]:
                rows_at, columns_at = second.at[p, "row_var"], second.at[p, "scaled"]
            else:
                rows_at, columns_at = second.at[p, "variance"], 0
                vectors.append(p.offset - run.start + np.arange(p.array.size))
                first = self.span[0] or rows_at
                self.span = (first, rows_at + p.array.size)
            batch = row // height
            column_at = columns_at + batch * width
            columns.append(
                [rows_at + row, column_at, row % height, k % width, last]
                + [np.full(len(k), width), np.full(len(k), height)]
            )
        joined = [np.concatenate(c) for c in zip(*columns, strict=True)]
        kinds = [np.int32] * 5 + [np.float64] * 2
        self.places = [at.upload(c, kind) for c, kind in zip(joined, kinds, strict=True)]
        self.vectors = at.upload(np.concatenate(vectors))
        self.size = at.upload([p.array.size for p in params], np.float64)
        self.matrices = [p for p in params if second.factored[p]]
        self.widths = {p: at.upload([p.array.shape[-1]], np.float64) for p in self.matrices if p.ndim > 2}


class Adafactor(Optimizer):
    """p <- (1 - lr weight_decay) p - alpha u / max(1, rms(u) / d),   u = g / sqrt(v),

    alpha = max(eps2, rms(p)) min(lr, 1/sqrt(t)). For matrices (the last two dimensions) v = row_var col_var /
    mean(row_var), averages of g^2 along rows and columns; for the rest v averages g^2 itself; all with
    beta2 = 1 - t^beta2_decay.

    Arguments and defaults are torch.optim.Adafactor's: lr >= 0 bounds the relative step and scales the decay;
    beta2_decay <= 0; eps = (eps1, eps2), at least 0, eps1=None the machine epsilon of the type computed in;
    d >= 1; weight_decay >= 0; maximize climbs. As PyTorch, and unlike the paper, eps1 is a floor: of
    mean(row_var), and of sqrt(v).

    eps_inside              eps1 is added to every g^2 instead, and there is no floor: the paper, optax
    min_dim_size_to_factor  matrices with a smaller last dimension, or last but one, are not factored (optax
                            asks it of the two largest dimensions, which for convolutions are others)

    Launches: 4 a run and 2 a matrix; nothing is read back.
    [Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 4 to 6]
    """

    kernel = ADAFACTOR
    steady = True
    ranges = {
        "lr": AtLeast("Learning rate"),
        "weight_decay": AtLeast("weight_decay"),
        "eps": Epsilons("eps"),
        "d": AtLeast("Clipping threshold d", low=1),
        "min_dim_size_to_factor": Range("min_dim_size_to_factor", low=1),
    }
    record = Record(
        year=2018,
        paper="Shazeer & Stern, Adafactor: adaptive learning rates with sublinear memory cost, ICML 2018, "
        "arXiv:1804.04235, Algorithms 4 to 6",
        latex=r"\theta \leftarrow \theta - \alpha\, u / \max(1, \mathrm{rms}(u)/d), \quad"
        r" u = g / \sqrt{\hat v}, \quad \hat v = r c^\top / \bar r, \quad"
        r" \alpha = \max(\epsilon_2, \mathrm{rms}(\theta))\,\rho",
        oracles=("torch", "optax"),
        kind="layer-wise",
        launches="4, and 2 a matrix",
        texts=(
            ADAFACTOR_VECTORS,
            ADAFACTOR_ROWS,
            ADAFACTOR_COLUMNS,
            ADAFACTOR_COLUMNS_OF_MANY,
            ADAFACTOR_NORMS,
            ADAFACTOR_STEP,
            ADAFACTOR,
        ),
        presets={
            "torch": {},
            "paper": dict(eps=(1e-30, 1e-3), eps_inside=True),
            "optax": dict(eps=(1e-30, 1e-3), eps_inside=True, min_dim_size_to_factor=128),
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        eps_inside: bool = False,
        min_dim_size_to_factor: int = 1,
    ):
        options = dict(lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay)
        options |= dict(maximize=maximize, eps_inside=eps_inside)
        super().__init__(params, options | dict(min_dim_size_to_factor=min_dim_size_to_factor))

    def prepare(self, defaults: dict[str, Any]) -> None:
        super().prepare(defaults)
        self.seconds: WeakKeyDictionary[Arena, Second] = WeakKeyDictionary()
        self.homes: dict[Tensor, Second] = {}  # where a parameter's second moments are

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if not float(group["beta2_decay"]) <= 0:
            value = group["beta2_decay"]
            raise ValueError(f"Adafactor: beta2_decay should be <= 0 but is: {value}")

    # -------------------------------------------------------------------------------------------------- state

    def slots_of(self, p: Tensor, group: dict[str, Any]) -> tuple[str, ...]:
        shape = p.array.shape
        least = group["min_dim_size_to_factor"]
        factored = len(shape) > 1 and (least == 1 or min(shape[-2:]) >= least)
        return ("row_var", "col_var") if factored else ("variance",)

    def shape_of(self, p: Tensor, name: str) -> tuple[int, ...]:
        return slot_shape(p, name)

    def place(self, p: Tensor, name: str) -> Array:
        return self.second(p.arena).place(p, name)

    def second(self, arena: Arena) -> Second:
        """The second moments in an arena, laid out anew where its parameters are others than before."""
        wanted = {
            p: len(self.slots_of(p, group)) == 2
            for group in self.param_groups
            for p in group["params"]
            if p.arena is arena
        }
        found = self.seconds.get(arena)
        if found is None or found.factored != wanted:
            found = self.seconds[arena] = Second(arena, wanted)
            for p, factored in wanted.items():
                old = self.homes.get(p)
                if old is not None and old.factored[p] == factored:
                    for name in ("row_var", "col_var") if factored else ("variance",):
                        found.place(p, name)[...] = to_device(old.place(p, name), arena.device)
                self.homes[p] = found
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k not in ("seconds", "homes")}

    # ------------------------------------------------------------------------------------------------- a step

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        lr, (eps1, eps2) = float(group["lr"]), group["eps"]
        double = any(p.array.dtype == np.float64 for p in group["params"])
        least = float(np.finfo(np.float64 if double else np.float32).eps) if eps1 is None else float(eps1)
        inside = group["eps_inside"]
        one_minus_beta2 = t ** float(group["beta2_decay"])
        rho = min(lr, 1 / sqrt(t))
        return dict(
            beta2=1 - one_minus_beta2,
            one_minus_beta2=one_minus_beta2,
            added=least if inside else 0.0,
            least=0.0 if inside else least,
            rho=-rho if group["maximize"] else rho,
            eps2=float(eps2),
            d=float(group["d"]),
            keep=1 - lr * float(group["weight_decay"]),
        )

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        if run.start == run.stop:
            return
        at, second = segments(run), self.second(run.arena)
        if (run.start, run.stop) not in second.tables:
            second.tables[run.start, run.stop] = Tables(second, run, at)
        tables, values = second.tables[run.start, run.stop], scalars
        if group["eps"][0] is None and len({p.array.dtype == np.float64 for p in group["params"]}) > 1:
            machine = float(np.finfo(np.float64 if second.kind == np.float64 else np.float32).eps)
            values = values | {("added" if group["eps_inside"] else "least"): machine}
        gradient, parameters = run.piece(run.arena.gradient), run.piece(run.arena.array)
        if tables.span[1]:
            variance = second.array[tables.span[0] : tables.span[1]]
            call(ADAFACTOR_VECTORS, (), values, gradient, tables.vectors, variance)
        for p in tables.matrices:
            self.factors(second, tables, p, values)
        pp, uu, step = at.of_chunks(), at.of_chunks(), at.of_tensors()
        g, x, where = chunks(gradient), chunks(parameters), (second.array, *tables.places)
        call(ADAFACTOR_NORMS, (), values, g, x, *where, pp, uu)
        call(ADAFACTOR_STEP, (), values, at.used, at.first, tables.size, pp, uu, step)
        call(ADAFACTOR, (), values, g, *where, at.seg, step, x)

    def factors(self, second: Second, tables: Tables, p: Tensor, values: dict[str, float]) -> None:
        """The rows and columns of one matrix, or of a stack of them."""
        height, width = p.array.shape[-2:]
        g = cut(p.arena.gradient, p.offset, p.array.shape).reshape(-1, height, width)
        row, col, scaled = (second.place(p, n) for n in ("row_var", "col_var", "scaled"))
        call(ADAFACTOR_ROWS, (), values, g, row.reshape(g.shape[:2]))
        if len(g) == 1:
            made = [a.reshape(width) for a in (col, scaled)]
            call(ADAFACTOR_COLUMNS, (), values, g[0], row.reshape(height), *made)
            return
        made = [a.reshape(len(g), width) for a in (col, scaled)]
        call(
            ADAFACTOR_COLUMNS_OF_MANY, (), values, g.swapaxes(1, 2), row.reshape(-1), tables.widths[p], *made
        )
