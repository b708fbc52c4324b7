"""When to stop: no better score for a while, or hardly any gradient left.

    stop = EarlyStopping(patience=5, better=min)
    while not stop(validation_loss()):
        ...

Both are called with a number and answer whether to stop; both can be saved with a checkpoint, so a resumed
run stops where the uninterrupted one would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite, isnan
from typing import Any

from ..nn.utils import get_total_norm
from ..tensor import Tensor


class EarlyStopping:
    """Stop after `patience` scores in a row that are no improvement on the best  [Prechelt 1998].

    patience    how many scores in a row without improvement end the run, at least 1: with patience 1 the
                first one does
    better      min or max: which of two scores is better (or the strings "min", "max")
    min_delta   an improvement is one by more than this, >= 0

    Called with a score (a number, or a Tensor of one element) it returns whether to stop, and goes on saying
    so. The first score that is not nan is an improvement; nan never is one. inf is a number like others: as a
    first loss it is an improvement, and any finite loss improves on it.

    best, best_at   the best score and when it came, counting scores from 0; None before there is one
    bad             how many scores have come since

    >>> stop = EarlyStopping(patience=2)
    >>> [stop(loss) for loss in (1.0, 0.5, 0.6, 0.5)]
    [False, False, False, True]
    """

    def __init__(self, patience: int, better: Callable | str = min, min_delta: float = 0.0):
        known = {"min": min, "max": max}
        chosen = known.get(better, better) if isinstance(better, str) else better
        if chosen not in (min, max):
            raise ValueError(f"EarlyStopping: better={better!r}; it is min or max")
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ValueError(f"EarlyStopping: patience={patience!r}; it must be a whole number of at least 1")
        if not (isfinite(min_delta) and min_delta >= 0):
            raise ValueError(f"EarlyStopping: min_delta={min_delta}; it must be a finite number, at least 0")
        self.patience, self.better, self.min_delta = patience, chosen, float(min_delta)
        self.best: float | None = None
        self.best_at: int | None = None
        self.seen = self.bad = 0
        self.improved = False

    def __call__(self, score: Any) -> bool:
        """Take a score in; True: it is time to stop. `improved` tells whether it was the best so far."""
        score = float(score)
        self.improved = self._improves(score)
        if self.improved:
            self.best, self.best_at, self.bad = score, self.seen, 0
        else:
            self.bad += 1
        self.seen += 1
        return self.should_stop

    def _improves(self, score: float) -> bool:
        if isnan(score):
            return False
        if self.best is None:
            return True
        if self.better is min:
            return score < self.best - self.min_delta
        return score > self.best + self.min_delta

    @property
    def should_stop(self) -> bool:
        """Whether patience has run out."""
        return self.bad >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: numbers and None alone, fit for JSON."""
        return dict(best=self.best, best_at=self.best_at, seen=self.seen, bad=self.bad)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state_dict(); patience, better and min_delta stay as they were given here."""
        _take(self, state, ("best", "best_at", "seen", "bad"))

    def __repr__(self) -> str:
        return (
            f"EarlyStopping(patience={self.patience}, better={self.better.__name__}, "
            f"min_delta={self.min_delta}; best={self.best} at {self.best_at}, {self.bad} since)"
        )


class GradientNormStop:
    """Stop when ||gradient|| < tolerance: a stationary point, as near as asked  [Nocedal & Wright 2006].

    Made for full-batch gradients: a minibatch's gradient does not vanish at the minimum, its noise stays. So
    with minibatches ask for several small ones `in_a_row`. A norm that is nan or inf is not small.

    Called with the norm, for instance what clip_grad_norm_ returned, it returns whether to stop. That reads
    the device, so ask every so many steps. gradient_norm(parameters) is the norm where nothing is clipped.
    """

    def __init__(self, tolerance: float, in_a_row: int = 1):
        if not (isfinite(tolerance) and tolerance > 0):
            raise ValueError(f"GradientNormStop: tolerance={tolerance}; it must be a positive number")
        if isinstance(in_a_row, bool) or not isinstance(in_a_row, int) or in_a_row < 1:
            raise ValueError(
                f"GradientNormStop: in_a_row={in_a_row!r}; it must be a whole number, at least 1"
            )
        self.tolerance, self.in_a_row = float(tolerance), in_a_row
        self.small = 0
        self.norm: float | None = None

    def __call__(self, norm: Any) -> bool:
        """Take a norm in; True: it is time to stop."""
        self.norm = float(norm)
        self.small = self.small + 1 if self.norm < self.tolerance else 0
        return self.should_stop

    @property
    def should_stop(self) -> bool:
        """Whether the last norms were small."""
        return self.small >= self.in_a_row

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return dict(small=self.small, norm=self.norm)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state_dict(); the tolerance stays as it was given here."""
        _take(self, state, ("small", "norm"))

    def __repr__(self) -> str:
        return f"GradientNormStop(tolerance={self.tolerance}, in_a_row={self.in_a_row}; norm={self.norm})"


def gradient_norm(parameters: Tensor | Iterable[Tensor]) -> Tensor:
    """||g||, all gradients as one vector: a 0-d Tensor on the device. Zero where there are none."""
    params = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return get_total_norm([p.grad for p in params if p.grad is not None])


def _take(holder: Any, state: Mapping[str, Any], names: tuple[str, ...]) -> None:
    missing = [n for n in names if n not in state]
    if missing:
        raise ValueError(
            f"load_state_dict of {type(holder).__name__}: {missing[0]!r} is missing; there is {sorted(state)}"
        )
    vars(holder).update({n: state[n] for n in names})
