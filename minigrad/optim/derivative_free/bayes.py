"""Bayesian optimisation: a model of the loss says where the next evaluation is worth most.

The model is a Gaussian process on the unit cube: losses at near places are alike, by Matern's kernel of 5/2,

    k(r) = s^2 (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r),     r^2 = sum_j (a_j - b_j)^2 / l_j^2

    mean(x) = k(x)' (K + e I)^-1 y,    var(x) = s^2 - k(x)' (K + e I)^-1 k(x)

with a length l_j for each dimension, found where the losses seen so far are most likely. The next place is
where the loss is expected to fall furthest below the lowest, f*: with z = (f* - mean) / sd

    EI(x) = E max(f* - f(x), 0) = sd (z Phi(z) + phi(z))

which is large where the mean is low and where little is known. For losses that take minutes: the model costs
O(m^3) after m evaluations.
[Mockus 1978; Jones, Schonlau & Welch 1998; Rasmussen & Williams 2006, chapters 2 and 5]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...tensor import Tensor
from ..groups import Range
from ..record import Record
from .search import Search, Trial, host

LENGTHS = np.exp(np.linspace(math.log(0.05), math.log(10.0), 12))  # in units of the cube's edge
NOISES = (1e-8, 1e-6, 1e-4, 1e-2, 1e-1)  # the noise's variance in units of s^2


class GaussianProcess:
    """A Gaussian process with Matern's kernel of 5/2 through (x, y): x (m, n), y (m,).

    lengths: one for each dimension. noise: its variance in units of the process's, s^2, which is the most
    likely one for the data: s^2 = y' (K + noise I)^-1 y / m. The mean of y is taken out.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, lengths: np.ndarray, noise: float):
        self.x, self.lengths, self.center = x, np.broadcast_to(lengths, x.shape[1:]), y.mean()
        m = len(y)
        self.root = np.linalg.cholesky(matern(x, x, self.lengths) + (noise + 1e-12) * np.eye(m))
        half = np.linalg.solve(self.root, y - self.center)
        self.variance = max(float(half @ half) / m, 1e-300)
        self.weights = np.linalg.solve(self.root.T, half)
        # log p(y) with the best s^2 put in, up to a constant
        self.likelihood = -0.5 * m * math.log(self.variance) - float(np.log(np.diag(self.root)).sum())

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mean, standard deviation) of the function at the rows of x."""
        k = matern(x, self.x, self.lengths)
        half = np.linalg.solve(self.root, k.T)
        left = np.maximum(1 - (half**2).sum(0), 0.0)
        return self.center + k @ self.weights, np.sqrt(self.variance * left)

    @classmethod
    def fitted(cls, x: np.ndarray, y: np.ndarray, rounds: int = 2) -> GaussianProcess:
        """The process with the most likely lengths and noise on a grid, in turn, `rounds` times."""
        lengths, noise = np.full(x.shape[1], 0.5), 1e-6
        best = cls(x, y, lengths, noise)

        def better(some: np.ndarray, of: float) -> bool:
            nonlocal best
            found = cls(x, y, some, of)
            won = found.likelihood > best.likelihood + 1e-9
            best = found if won else best
            return won

        for l in LENGTHS:  # all alike first
            if better(np.full(x.shape[1], l), noise):
                lengths = np.full(x.shape[1], l)
        for _ in range(rounds):
            for e in NOISES:
                if better(lengths, e):
                    noise = e
            for j in range(x.shape[1] if 1 < x.shape[1] <= 20 else 0):
                for l in LENGTHS:
                    tried = np.where(np.arange(x.shape[1]) == j, l, lengths)
                    if better(tried, noise):
                        lengths = tried
        return best


def matern(a: np.ndarray, b: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r) of the distances of rows: (ma, n), (mb, n) -> (ma, mb)."""
    a, b = a / lengths, b / lengths
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    r = np.sqrt(5 * np.maximum(squares, 0.0))
    return (1 + r + r * r / 3) * np.exp(-r)


def expected_improvement(lowest: float, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """E max(lowest - f, 0) for f ~ N(mean, sd^2)."""
    z = (lowest - mean) / np.maximum(sd, 1e-300)
    z = np.clip(z, -1e6, 1e6)
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z])
    density = np.exp(-0.5 * np.minimum(z * z, 1400.0)) / math.sqrt(2 * math.pi)
    return np.where(sd > 0, sd * (z * below + density), np.maximum(lowest - mean, 0.0))


class BayesianOptimization(Search):
    """The next x is where a Gaussian process expects the largest improvement; the parameters are the best x

        optimizer.step(closure)      # closure: forward, return the loss; once a step

    bounds = (low, high), numbers for all parameters, or a list of such pairs, one for each element in order:
    the box that is searched. Parameters outside are moved to its edge. The first `initial` >= 1 evaluations
    (None: 2 n + 1, at most 10) are the parameters as they are and a Latin hypercube around them; the model
    sees losses that are not finite as the highest finite one. candidates >= 1 places are looked at for the
    next evaluation, at random in the box and about the best, then refined. seed >= 0 as in other searches.

    For a few parameters, at most some twenty, and some hundred evaluations; `points` keeps them, in state.
    More than 1,000 evaluations raise RuntimeError with the bytes that the model would take.
    [Mockus 1978; Jones, Schonlau & Welch 1998; Snoek, Larochelle & Adams 2012 for Matern's kernel]
    """

    vectors = ("best", "points")
    most = 1000  # evaluations
    ranges = {"candidates": Range("candidates", 1)}
    record = Record(
        year=1978,
        paper="Mockus, Tiesis & Zilinskas, Bayesian methods for seeking the extremum, 1978; "
        "Jones, Schonlau & Welch, Efficient global optimization of expensive black-box functions, 1998",
        latex=r"\theta_{t+1} = \arg\max_\theta E\max\big(L^* - L(\theta), 0\big), \quad L \sim GP(\mu, k)",
        oracles=("sklearn",),
        kind="global",
        needs=("closure", "no gradient", "few parameters"),
        state="8 and 8 an evaluation",
        launches="array code on the host",
        proof="tests/test_derivative_free.py",
        presets={"S3": {}},
    )

    def __init__(
        self,
        params: Any,
        bounds: Any = (-1.0, 1.0),
        initial: int | None = None,
        candidates: int = 1000,
        seed: int = 0,
    ):
        super().__init__(params, dict(bounds=bounds, initial=initial, candidates=candidates, seed=seed))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["initial"] is not None:
            self.whole("initial", group["initial"], 1)
        n = sum(p.array.size for p in group["params"]) if "params" in group else None
        try:
            box = np.array(group["bounds"], np.float64)
        except (TypeError, ValueError):
            box = np.zeros(0)
        fits = box.shape == (2,) or (box.ndim == 2 and box.shape[1] == 2 and n in (None, len(box)))
        if not fits or not np.isfinite(box).all() or not (box[..., 0] < box[..., 1]).all():
            raise ValueError(
                f"BayesianOptimization: Invalid bounds: {group['bounds']!r}; they are (low, high), "
                f"low < high, or one such pair for each of the {'' if n is None else f'{n} '}elements"
            )

    def search(
        self, f: Trial, x: np.ndarray, group: dict[str, Any], memory: dict[str, Any], random: Any
    ) -> np.ndarray:
        free = f.free
        box = np.broadcast_to(np.array(group["bounds"], np.float64), (x.size, 2))[free]
        n = len(box)
        low, wide = box[:, 0], box[:, 1] - box[:, 0]
        seen, losses = list(memory.get("points", [])), list(memory.get("losses", []))
        if len(seen) >= self.most:
            raise RuntimeError(
                f"BayesianOptimization: {len(seen)} evaluations are behind it, whose model takes "
                f"{3 * 8 * len(seen) ** 2:,} bytes; it goes no further: take CMAES from the best point"
            )
        initial = int(group["initial"] or min(2 * n + 1, 10))
        if not seen:
            u = np.clip((x[free] - low) / wide, 0.0, 1.0)
        elif len(seen) < initial:  # the same hypercube at every step: a function of the seed alone
            u = latin(np.random.default_rng([int(group["seed"]), 0]), initial - 1, n)[len(seen) - 1]
        else:
            u = self.next((np.stack([host(p)[free] for p in seen]) - low) / wide, losses, group, random)
        new = x.copy()
        new[free] = np.clip(low + u * wide, box[:, 0], box[:, 1])
        losses.append(f(new))
        memory["points"], memory["losses"] = [*seen, Tensor(new)], losses
        lowest = int(np.argmin(losses))
        return new if lowest == len(losses) - 1 else host(memory["points"][lowest])

    def next(self, u: np.ndarray, losses: list[float], group: dict[str, Any], random: Any) -> np.ndarray:
        """The place in the unit cube where the expected improvement is largest, after losses at u (m, n)."""
        y = np.array(losses)
        finite = y[np.isfinite(y)]
        if not finite.size or finite.max() == finite.min() == y.max():  # nothing to learn from yet
            return random.random(u.shape[1])
        y = np.where(np.isfinite(y), y, finite.max())
        model, count = GaussianProcess.fitted(u, (y - y.mean()) / y.std()), int(group["candidates"])
        best = u[int(np.argmin(y))]
        lowest = float(model(u)[0].min())  # of the model: a lucky noisy loss is no promise
        spread = 10 ** random.uniform(-4, -0.5, (count, 1))
        near = np.clip(best + spread * random.standard_normal((count, u.shape[1])), 0, 1)
        places = np.concatenate((random.random((count, u.shape[1])), near))
        value = expected_improvement(lowest, *model(places))
        chosen, width = places[int(np.argmax(value))], 0.1
        for _ in range(6):  # a walk uphill on EI that becomes finer
            around = np.clip(chosen + width * random.standard_normal((50, u.shape[1])), 0, 1)
            found = expected_improvement(lowest, *model(around))
            if found.max() > value.max():
                chosen, value = around[int(np.argmax(found))], found
            width /= 3
        if value.max() <= 0:  # the model is sure everywhere: look where it knows least
            chosen = places[int(np.argmax(model(places)[1]))]
        return chosen


def latin(random: Any, m: int, n: int) -> np.ndarray:
    """m points in the unit cube, in each dimension one in every m-th part of it. [McKay et al. 1979]"""
    return (np.stack([random.permutation(m) for _ in range(n)], 1) + random.random((m, n))) / max(m, 1)
