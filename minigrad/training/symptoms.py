"""What ails a run: the troubleshooting table, as data and as rules that measure.

    symptom               what is measured                                            limit
    non-finite            a loss, parameter or gradient that is nan or inf            any
    dead ReLUs            units whose gradient is zero in every look                  half of a layer
    exploding gradients   |g| / |w| of all weights, or the first layer's |g| against  100, or 1000 times
                          the last one's
    vanishing gradients   the first layer's |g| against the last one's                1/1000
    learning rate high    |update| / |w| of the median layer (healthy: about 1e-3)    0.1
    learning rate low     the same, and the loss has hardly fallen                    1e-5
    weight decay          |w| of the median layer against the first look's            1/2, and a stall
    divergence            the loss of late against that of the beginning              1.5 times
    oscillation           step-to-step spread of the loss against its mean            0.4
    stall                 the loss of late against that of the beginning              it fell by less than 2 %
    overfitting           held-out loss against its best, the training loss falling   10 % above
    memory                resident memory against what the machine has                0.9

Causes come before the signs that follow from them: a run whose ReLUs are dead stalls, and is told why. The
cures are the articles'; where a cure is ours it says so in brackets. |x| is the root mean square.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite, nan, sqrt
from statistics import fmean, median
from typing import Any

LIMITS = dict(
    dead=0.5, exploding=100.0, spread_of_layers=1e3, high=0.1, low=1e-5, decay=0.5, divergence=1.5,
    oscillation=0.4, stall=0.02, overfitting=0.1, memory=0.9,
)  # fmt: skip

# name: (likely cause, cure)
TABLE: dict[str, tuple[str, str]] = {
    "non-finite": (
        "exploding gradients, a learning rate too high, or numerical issues in the data",
        "clip gradients; reduce the learning rate; check the data; [run with detect_anomaly to see where]",
    ),
    "dead ReLUs": (
        "a learning rate too high or biases far below zero",
        "reduce the learning rate; initialise weights and biases properly; batch normalisation; [leaky ReLU]",
    ),
    "exploding gradients": (
        "recurrent or deep products of weights beyond 1",
        "clip gradients (to norm 1.0); reduce the learning rate; check the data for numerical issues",
    ),
    "vanishing gradients": (
        "saturating activations, or weights too small, over many layers",
        "ReLU; proper weight initialisation; batch normalisation; LSTM or GRU in place of a plain RNN",
    ),
    "learning rate high": (
        "the learning rate is too high",
        "reduce the learning rate; use the learning-rate finder; clip gradients",
    ),
    "learning rate low": (
        "the learning rate is too small",
        "AdamW with a higher base rate; learning-rate warm-up; [the learning-rate finder]",
    ),
    "weight decay": ("the weight decay is too aggressive", "lower the weight decay"),
    "divergence": (
        "a learning rate too high",
        "reduce the learning rate; use the learning-rate finder; clip gradients",
    ),
    "oscillation": (
        "high variance of the gradients: the batch is small",
        "increase the batch size, or accumulate; add momentum; [lower the learning rate]",
    ),
    "stall": (
        "a learning rate too high or too low, too aggressive a weight decay",
        "sweep the learning rate over decades; lower the weight decay",
    ),
    "overfitting": (
        "lack of regularisation",
        "dropout, weight decay, or early stopping",
    ),
    "memory": (
        "batches too big",
        "smaller mini-batches; consider gradient accumulation",
    ),
}  # fmt: skip


@dataclass
class Symptom:
    """One finding: its name in TABLE, the evidence in numbers; cause and cure from TABLE."""

    name: str
    evidence: str
    cause: str = ""
    cure: str = ""

    def __post_init__(self) -> None:
        self.cause, self.cure = TABLE[self.name]

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}\n    likely cause  {self.cause}\n    cure          {self.cure}"


@dataclass
class Look:
    """What one look measured; dictionaries go by parameter name, in the model's order.

    weights, gradients, updates   norms of w, g and of the step's change of w, gradients before the update
    sizes       elements;  loss   mean of the losses since the last look;  norm   of all gradients, if given
    """

    step: int
    loss: float
    weights: dict[str, float]
    gradients: dict[str, float]
    updates: dict[str, float]
    norm: float = nan


@dataclass
class Record:
    """A run as far as it was watched."""

    losses: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)  # (step, loss)
    looks: list[Look] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # of the weights with 2 or more dims, in order
    dead: dict[str, float] = field(default_factory=dict)  # share of a layer's units, over the last looks
    saturated: dict[str, float] = field(default_factory=dict)  # share of an activation's outputs
    not_finite: str | None = None  # the first parameter or gradient found so
    memory: tuple[float, float] = (0.0, nan)  # bytes resident, bytes there are


# ------------------------------------------------------------------------------------------------- judgement


def symptoms(run: Record) -> list[Symptom]:
    """What is wrong, causes first. Empty for a run that is well."""
    causes = [s for rule in CAUSES for s in rule(run)]
    if causes and causes[0].name in ("dead ReLUs", "exploding gradients", "vanishing gradients"):
        causes = [s for s in causes if not s.name.startswith("learning rate") and s.name != "weight decay"]
    signs = [s for rule in (_divergence, _oscillation, _stall) for s in rule(run)]
    if causes:  # a sign that a cause explains is no finding of its own
        signs = [s for s in signs if s.name == "oscillation" and causes[0].name == "overfitting"]
    return causes + signs + list(_overfitting(run)) + list(_memory(run))


def sound(run: Record) -> list[Look]:
    """The looks before the loss went out of hand: what was measured there caused it."""
    if not run.losses:
        return []
    start = beginning(run)
    good: list[Look] = []
    for look in run.looks:
        if good and not (isfinite(look.loss) and look.loss <= start + 0.5 * abs(start)):
            break
        good.append(look)
    return good


def beginning(run: Record) -> float:
    """The mean of the first losses, a twentieth of all, ten at most."""
    return fmean(run.losses[: min(max(len(run.losses) // 20, 1), 10)])


def late(run: Record) -> float:
    """The mean of the last tenth."""
    return fmean(run.losses[-max(len(run.losses) // 10, 1) :])


def _layers(run: Record, look: Look) -> list[tuple[str, float]]:
    """(name, root mean square of the gradient) of the weights, first layer first."""
    return [(n, look.gradients[n] / sqrt(size)) for n, size in run.sizes.items() if n in look.gradients]


def ratios(run: Record, look: Look) -> list[float]:
    """|update| / |w| of the weights."""
    pairs = [(look.updates.get(n, nan), look.weights.get(n, nan)) for n in run.sizes]
    return [u / w for u, w in pairs if isfinite(u) and isfinite(w) and w > 0]


def _over(looks: Iterable[Look], measure: Any) -> float:
    """The median of a measure over looks, nan where there is none."""
    values = [v for v in map(measure, looks) if isfinite(v)]
    return median(values) if values else nan


def _non_finite(run: Record) -> Iterable[Symptom]:
    bad = [k for k, loss in enumerate(run.losses, 1) if not isfinite(loss)]
    if bad:
        evidence = f"the loss of step {bad[0]} is {run.losses[bad[0] - 1]}"
        yield Symptom("non-finite", evidence + (f"; {run.not_finite}" if run.not_finite else ""))
    elif run.not_finite:
        yield Symptom("non-finite", run.not_finite)


def _dead(run: Record) -> Iterable[Symptom]:
    worst = {name: share for name, share in run.dead.items() if share > LIMITS["dead"]}
    if worst:
        told = ", ".join(f"{share:.0%} of the units of {name}" for name, share in worst.items())
        yield Symptom("dead ReLUs", f"{told} had no gradient in any of the last looks")


def _exploding(run: Record) -> Iterable[Symptom]:
    looks = sound(run)

    def relative(look: Look) -> float:
        g, w = _total(look.gradients.values()), _total(look.weights.values())
        g = max(g, look.norm) if isfinite(look.norm) else g  # the norm before clipping, if it was given
        return g / w if w > 0 else nan

    size, between = _over(looks, relative), _first_to_last(run, looks)
    if size > LIMITS["exploding"]:
        yield Symptom("exploding gradients", f"the gradient's norm is {size:.3g} times that of the weights")
    elif between > LIMITS["spread_of_layers"]:
        yield Symptom("exploding gradients", f"{_ends(run)}: {between:.3g} times")


def _vanishing(run: Record) -> Iterable[Symptom]:
    between = _first_to_last(run, sound(run))
    if between < 1 / LIMITS["spread_of_layers"] and not any(
        run.dead.get(n, 0) > LIMITS["dead"] for n in run.dead
    ):
        full = {n: s for n, s in run.saturated.items() if s > 0.5}
        also = f"; {len(full)} activations are saturated" if full else ""
        yield Symptom("vanishing gradients", f"{_ends(run)}: {between:.3g} times{also}")


def _ends(run: Record) -> str:
    names = list(run.sizes)
    return f"the gradient of {names[0]} against that of {names[-1]}"


def _first_to_last(run: Record, looks: Sequence[Look]) -> float:
    """|g| of the first layer over |g| of the last one, for three layers or more."""

    def between(look: Look) -> float:
        layers = _layers(run, look)
        return layers[0][1] / layers[-1][1] if len(layers) > 2 and layers[-1][1] > 0 else nan

    return _over(looks, between)


def _rate(run: Record) -> Iterable[Symptom]:
    looks = sound(run)
    ratio = _over(looks, lambda look: median(ratios(run, look) or [nan]))
    evidence = f"a step changes the median layer by {ratio:.2g} of its size; about 1e-3 is healthy"
    if ratio > LIMITS["high"]:
        yield Symptom("learning rate high", evidence)
    elif ratio < LIMITS["low"] and _fell(run) < 0.1:
        yield Symptom("learning rate low", f"{evidence}; the loss fell by {_fell(run):.1%}")


def _decay(run: Record) -> Iterable[Symptom]:
    if len(run.looks) < 2 or _fell(run) >= LIMITS["stall"]:
        return
    first, last = run.looks[0].weights, run.looks[-1].weights
    kept = [last[n] / first[n] for n in run.sizes if first.get(n) and isfinite(last.get(n, nan))]
    if kept and median(kept) < LIMITS["decay"]:
        yield Symptom("weight decay", f"the median layer shrank to {median(kept):.0%}, the loss did not fall")


def _fell(run: Record) -> float:
    """By how much of its size the loss fell; nan losses count as no fall."""
    if not run.losses:
        return 0.0
    start, end = beginning(run), late(run)
    return (start - end) / abs(start) if isfinite(start) and isfinite(end) and start else 0.0


def _divergence(run: Record) -> Iterable[Symptom]:
    if len(run.losses) < 5:
        return
    start, end = beginning(run), late(run)
    if end > start + (LIMITS["divergence"] - 1) * abs(start):
        yield Symptom("divergence", f"the loss went from {start:.4g} to {end:.4g}")


def _oscillation(run: Record) -> Iterable[Symptom]:
    tail = run.losses[-max(len(run.losses) // 2, 20) :]
    if len(tail) < 20 or not all(map(isfinite, tail)):
        return
    steps = [(b - a) ** 2 / 2 for a, b in pairwise(tail)]  # a slow fall does not count
    spread, mean = sqrt(fmean(steps)), abs(fmean(tail))
    if spread > LIMITS["oscillation"] * mean and spread > 0.1 * abs(beginning(run)):
        yield Symptom(
            "oscillation", f"from step to step the loss changes by {spread:.3g}, its mean is {mean:.3g}"
        )


def _stall(run: Record) -> Iterable[Symptom]:
    if len(run.losses) >= 20 and _fell(run) < LIMITS["stall"] and not list(_divergence(run)):
        yield Symptom("stall", f"in {len(run.losses)} steps the loss fell by {_fell(run):.1%}")


def _overfitting(run: Record) -> Iterable[Symptom]:
    if len(run.held_out) < 2:
        return
    best_at, best = min(run.held_out, key=lambda entry: entry[1])
    last_at, last = run.held_out[-1]
    if last <= best + LIMITS["overfitting"] * abs(best) or last_at == best_at:
        return
    since = run.losses[best_at:]
    before, after = run.losses[max(best_at - len(since), 0) : best_at] or run.losses[:1], since or [nan]
    if fmean(after) < fmean(before):
        evidence = f"held-out loss {best:.4g} at step {best_at}, {last:.4g} at step {last_at}"
        yield Symptom("overfitting", f"{evidence}, while the training loss went on to fall")


def _memory(run: Record) -> Iterable[Symptom]:
    used, there = run.memory
    if used > LIMITS["memory"] * there:
        yield Symptom("memory", f"{used / 2**30:.1f} of {there / 2**30:.1f} GiB are in use")


def _total(norms: Iterable[float]) -> float:
    return sqrt(sum(n * n for n in norms))


CAUSES = (_dead, _exploding, _vanishing, _rate, _decay, _non_finite)
