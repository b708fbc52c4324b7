"""Which learning rate: the range test, and the sweep over decades.

    keep = Snapshot(model, optimizer)
    found = lr_find(step, keep=keep)            step(lr) trains one batch at lr and returns its loss
    print(found)                                a table and two suggestions;  found.plot("lr.png")

    swept = sweep(run, keep=keep)               run(lr) trains for a while at lr and returns its losses
    print(swept)

The *range test* raises the learning rate exponentially, a step each, until the loss blows up  [Smith 2017]:
hundreds of steps in all. It finds where training begins to go fast; how far it gets it does not see. The
*sweep* trains from the same start at each of some rates, on a subset of the data, six decades by default: it
costs as many short runs, and it answers the question itself. Both leave model, optimizer and generators as
they were, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from .snapshot import Snapshot

# -------------------------------------------------------------------------------------------- the range test


@dataclass
class Finding:
    """What a range test saw.

    rates, losses, smooth   a learning rate a step, the loss there, and its smoothed course
    steepest                where the smoothed loss falls fastest over log lr: a rate to train with
    tenth                   a tenth of where it is lowest: the careful choice
    diverged                whether it blew up before the highest rate
    Both suggestions are None where the loss never fell.
    """

    rates: list[float]
    losses: list[float]
    smooth: list[float]
    steepest: float | None
    tenth: float | None
    diverged: bool

    @property
    def suggestion(self) -> float | None:
        """The steepest point."""
        return self.steepest

    def __str__(self) -> str:
        every = max(len(self.rates) // 20, 1)
        rows = [
            (f"{r:.2e}", f"{l:.4f}", f"{s:.4f}", s)
            for r, l, s in list(zip(self.rates, self.losses, self.smooth))[::every]
        ]
        lines = _table(("lr", "loss", "smoothed"), rows)
        if self.steepest is None or self.tenth is None:
            lines.append("The loss never fell: look at the model and the data, or start lower.")
        else:
            lines.append(f"steepest descent at lr = {self.steepest:.2e}")
            lines.append(f"a tenth of the lowest loss's lr = {self.tenth:.2e}")
        if not self.diverged:
            lines.append(f"It never blew up: the range may end higher than {self.rates[-1]:.2e}.")
        return "\n".join(lines)

    def plot(self, path: Any) -> None:
        """Draw the losses over the learning rate, as PNG."""
        with _Drawing(path, "learning-rate range test") as axes:
            axes.plot(self.rates, self.losses, alpha=0.3, label="loss")
            axes.plot(self.rates, self.smooth, label="smoothed")
            for name, rate in (("steepest", self.steepest), ("lowest / 10", self.tenth)):
                if rate is not None:
                    axes.axvline(rate, linestyle="--", color="gray")
                    axes.annotate(f"{name} {rate:.1e}", (rate, 0.98), xycoords=("data", "axes fraction"),
                                  rotation=90, va="top", ha="right", fontsize=8)  # fmt: skip
            shown = [s for s in self.smooth if s < 4 * abs(self.smooth[0]) + 1e-12] or self.smooth
            axes.set_ylim(min(shown) - 0.05 * abs(min(shown)), 1.1 * max(shown))
            axes.legend(loc="lower left")


def lr_find(
    step: Callable[[float], Any],
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    *,
    smoothing: float = 0.9,
    divergence: float = 4.0,
    keep: Snapshot | None = None,
) -> Finding:
    """Train `steps` steps at lr = low (high / low)^(k / (steps - 1)) and watch the loss. [Smith 2017, 3.3]

    step        step(lr) sets that learning rate, trains one batch, and returns the loss that the batch had, a
                number or a Tensor (read each time)
    smoothing   beta in [0, 1) of the loss's exponential mean, its bias corrected
    divergence  it ends when the smoothed loss exceeds its lowest value by this factor (by so many times its
                size, where it is negative), or is not finite
    keep        what is restored at the end, after an error too
    """
    if not 0 < low < high < inf:
        raise ValueError(f"lr_find: from {low} to {high}; both must be positive, the first one less")
    if steps < 2:
        raise ValueError(f"lr_find: steps={steps}; a range has two ends at least")
    if not 0 <= smoothing < 1:
        raise ValueError(f"lr_find: smoothing={smoothing}; it must be in [0, 1)")
    if not divergence > 1:
        raise ValueError(f"lr_find: divergence={divergence}; it must be more than 1")
    rates: list[float] = []
    losses: list[float] = []
    smooth: list[float] = []
    mean, lowest, diverged = 0.0, inf, False
    try:
        for k in range(steps):
            rate = low * (high / low) ** (k / (steps - 1))
            loss = float(step(rate))
            if not isfinite(loss):
                diverged = True
                break
            mean = smoothing * mean + (1 - smoothing) * loss
            value = mean / (1 - smoothing ** (k + 1))
            rates.append(rate)
            losses.append(loss)
            smooth.append(value)
            lowest = min(lowest, value)
            if value - lowest > (divergence - 1) * abs(lowest):
                diverged = True
                break
    finally:
        if keep is not None:
            keep.restore()
    return Finding(rates, losses, smooth, *_suggestions(rates, smooth), diverged)


def _suggestions(rates: list[float], smooth: list[float]) -> tuple[float | None, float | None]:
    """(steepest, tenth): before the lowest point, the largest fall over a step to each side."""
    if len(smooth) < 3:
        return None, None
    bottom = min(range(len(smooth)), key=smooth.__getitem__)
    falls = {k: smooth[k - 1] - smooth[k + 1] for k in range(1, bottom)}
    if not falls or max(falls.values()) <= 0:
        return None, None
    return rates[max(falls, key=falls.__getitem__)], rates[bottom] / 10


# -------------------------------------------------------------------------------------------------- the sweep


@dataclass
class Sweep:
    """What a sweep saw: for each learning rate its losses, and the score it is judged by (nan: it diverged).

    best    the rate of the best score; None where all diverged
    """

    rates: list[float]
    losses: list[list[float]]
    scores: list[float]
    best: float | None

    def __str__(self) -> str:
        rows = []
        for rate, losses, score in zip(self.rates, self.losses, self.scores):
            mark = "  <- best" if rate == self.best else ""
            shown = f"{score:.4f}{mark}" if isfinite(score) else "diverged"
            rows.append((f"{rate:.2e}", f"{losses[0]:.4f}", shown, score))
        lines = _table(("lr", "first loss", "score"), rows)
        edge = self.best in (self.rates[0], self.rates[-1])
        if self.best is None:
            lines.append("Every rate diverged: start lower.")
        elif edge and len(self.rates) > 1:
            lines.append(f"best lr = {self.best:.2e}, at the end of the range: look beyond it.")
        else:
            lines.append(f"best lr = {self.best:.2e}")
        return "\n".join(lines)

    def plot(self, path: Any) -> None:
        """Draw the score over the learning rate, as PNG."""
        with _Drawing(path, "learning-rate sweep") as axes:
            points = [(r, s) for r, s in zip(self.rates, self.scores) if isfinite(s)]
            if points:
                axes.plot(*zip(*points), marker="o")
            for rate, score in zip(self.rates, self.scores):
                if not isfinite(score):
                    axes.axvline(rate, color="tab:red", linestyle=":", label="diverged")
            if self.best is not None:
                axes.axvline(self.best, color="gray", linestyle="--")
            axes.set_ylabel("score")


def sweep(
    run: Callable[[float], Any],
    low: float = 1e-6,
    high: float = 1.0,
    points: int = 7,
    *,
    rates: Iterable[float] | None = None,
    better: Callable = min,
    keep: Snapshot | None = None,
) -> Sweep:
    """A short training at each of `points` rates from low to high (a decade apart by default), judged.

    run     run(lr) trains at lr and returns its losses in order, of which the mean of the last fifth is the
            score; or one number, which is the score itself
    rates   instead of low, high and points
    better  min or max: which score is better
    keep    restored before each run and at the end, so all start alike and nothing stays
    """
    if rates is None:
        if not 0 < low < high < inf or points < 2:
            raise ValueError(f"sweep: {points} rates from {low} to {high}; two at least, positive and rising")
        rates = [low * (high / low) ** (k / (points - 1)) for k in range(points)]
    chosen = list(rates)
    if not chosen or not all(0 < r < inf for r in chosen):
        raise ValueError(f"sweep: rates {chosen}; they must be positive numbers")
    losses: list[list[float]] = []
    try:
        for rate in chosen:
            if keep is not None:
                keep.restore()
            losses.append(_numbers(run(rate)))
    finally:
        if keep is not None:
            keep.restore()
    scores = [_score(course) for course in losses]
    finite = [k for k, s in enumerate(scores) if isfinite(s)]
    best = better(finite, key=scores.__getitem__) if finite else None
    return Sweep(chosen, losses, scores, None if best is None else chosen[best])


def _numbers(losses: Any) -> list[float]:
    course = losses if isinstance(losses, Sequence) else [losses]
    if not course:
        raise ValueError("sweep: the run gave no loss")
    return [float(loss) for loss in course]


def _score(course: list[float]) -> float:
    """The mean of the last fifth; nan where any of it is not finite."""
    last = course[-max(len(course) // 5, 1) :]
    return sum(last) / len(last) if all(map(isfinite, course)) else float("nan")


# --------------------------------------------------------------------------------------- text and pictures


def _table(head: tuple[str, ...], rows: list[tuple]) -> list[str]:
    """Lines of columns, the last field of a row as a bar: long is low, as deep as the loss went."""
    finite = [row[-1] for row in rows if isfinite(row[-1])]
    top, bottom = (max(finite), min(finite)) if finite else (0.0, 0.0)
    width = [max(len(str(x)) for x in column) for column in zip(head, *[row[:-1] for row in rows])]
    lines = ["  ".join(h.rjust(w) for h, w in zip(head, width))]
    for row in rows:
        share = (top - row[-1]) / (top - bottom) if isfinite(row[-1]) and top > bottom else 0.0
        cells = "  ".join(str(x).rjust(w) for x, w in zip(row, width))
        lines.append(f"{cells}  {'#' * round(30 * share)}".rstrip())
    return lines


class _Drawing:
    """A picture over log lr: `with _Drawing(path, title) as axes:` draws, and writes the file at the end."""

    def __init__(self, path: Any, title: str):
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                f"{title}: a picture needs matplotlib; install minigrad[plots], or print the table instead"
            ) from error
        self.path, self.figure = path, Figure(figsize=(5.5, 3.6), layout="constrained")
        self.axes = self.figure.subplots()
        self.axes.set(xscale="log", xlabel="learning rate", ylabel="loss", title=title)
        self.axes.grid(alpha=0.3)

    def __enter__(self) -> Any:
        return self.axes

    def __exit__(self, kind: Any, *exc: Any) -> None:
        if kind is None:
            self.figure.savefig(self.path, dpi=120, format="png")
