"""Evolution strategies: a normal distribution that moves to where the losses are low.

    x_i = m + sigma y_i,   y_i ~ N(0, C)              i = 1 ... population
    m <- m + sigma sum_i w_i y_i                      ranked by loss, the better half with weights w_i > 0

Three things are learned. The step size sigma, by cumulation: the path of steps that followed one another

    p_s <- (1 - c_s) p_s + sqrt(c_s (2 - c_s) mu_eff) C^(-1/2) sum w_i y_i
    sigma <- sigma exp((c_s / d_s) (|p_s| / E|N(0, I)| - 1))

is longer than that of random ones where they all go one way, and shorter where they go to and fro. And the
covariance C, by its own path p_c (rank one) and by the steps of one generation (rank mu):

    C <- (1 - c_1 - c_mu sum w_j) C + c_1 p_c p_c' + c_mu sum_i w_i y_i y_i'

where bad steps, with w_i < 0, make C smaller in their direction. On a quadratic C becomes the inverse Hessian
up to a factor, so that what is ill conditioned becomes a sphere. Only the ranks of the losses count.
[Hansen & Ostermeier 2001; Hansen 2016, The CMA evolution strategy: a tutorial, arXiv:1604.00772]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...tensor import Tensor
from ..groups import Range
from ..record import Record
from .search import Search, Trial, host

LARGEST = 5000  # parameters with a full covariance: three matrices of 200 MB
COVARIANCES = ("full", "diagonal")


@dataclass(frozen=True)
class Constants:
    """The numbers of a strategy in n dimensions; the tutorial's table 1."""

    weights: np.ndarray  # of the ranked population, positive ones first, their sum 1
    mu_eff: float  # how many steps the positive ones are worth
    c_s: float
    d_s: float
    c_c: float
    c_1: float
    c_mu: float
    length: float  # E|N(0, I)|


def constants(n: int, population: int, covariance: str | None) -> Constants:
    """Table 1 of the tutorial; with a diagonal C it learns (n + 2) / 3 times faster, and from good steps only
    [Ros & Hansen 2008]."""
    raw = math.log((population + 1) / 2) - np.log(np.arange(1, population + 1))
    good, bad = raw[: population // 2], raw[population // 2 :]
    mu_eff = good.sum() ** 2 / (good**2).sum()
    c_s = (mu_eff + 2) / (n + mu_eff + 5)
    d_s = 1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (n + 1)) - 1) + c_s
    c_c = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)
    c_1 = 2 / ((n + 1.3) ** 2 + mu_eff)
    c_mu = min(1 - c_1, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((n + 2) ** 2 + mu_eff))
    negative = np.zeros(len(bad))
    if covariance == "diagonal":
        c_1, c_mu = (min(0.5, c * (n + 2) / 3) for c in (c_1, c_mu))
    elif bad.any():
        mu_bad = bad.sum() ** 2 / (bad**2).sum()
        sums = (1 + c_1 / c_mu, 1 + 2 * mu_bad / (mu_eff + 2), (1 - c_1 - c_mu) / (n * c_mu))
        negative = bad * min(sums) / np.abs(bad).sum()
    length = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
    weights = np.concatenate((good / good.sum(), negative))
    return Constants(weights, mu_eff, c_s, d_s, c_c, c_1, c_mu, length)


class EvolutionStrategy(Search):
    """x_i = m + sigma z_i,  m <- m + sigma sum w_i z_i,  z_i ~ N(0, I): C = I, sigma by cumulation

        optimizer.step(closure)      # closure: forward, return the loss; `population` times

    m are the parameters, sigma > 0 the first step size: about a third of the distance to the minimum, the
    same for all parameters. population >= 2, None is 4 + 3 ln n. A step is a generation. Where no loss of a
    generation is finite, m stays and sigma is halved. seed >= 0: the draws are a function of it and the step.

    The best that was ever tried is `optimizer.best`. On the sphere in 10 dimensions a decade of loss takes
    about 150 evaluations. Where curvatures differ much, it crawls along the flat directions: see CMAES.
    [Rechenberg 1973; Ostermeier, Gawelczyk & Hansen 1994 for cumulation; weights and constants as CMAES's]
    """

    covariance: str | None = None
    vectors: tuple[str, ...] = ("best", "path")
    ranges = {"sigma": Range("sigma value", above=True)}
    record = Record(
        year=1973,
        paper="Rechenberg, Evolutionsstrategie, 1973; Ostermeier, Gawelczyk & Hansen, Step-size adaptation "
        "based on non-local use of selection information, PPSN 1994",
        latex=r"\theta \leftarrow \theta + \sigma\sum_i w_i z_{i:\lambda}, \quad z_i \sim N(0, I)",
        oracles=(),
        kind="global",
        needs=("closure", "no gradient"),
        launches="array code on the host",
        proof="tests/test_derivative_free.py",
        presets={"S3": {}},
    )

    def __init__(self, params: Any, sigma: float = 0.3, population: int | None = None, seed: int = 0):
        super().__init__(params, dict(sigma=sigma, population=population, seed=seed))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["population"] is not None:
            self.whole("population", group["population"], 2)

    def search(
        self, f: Trial, x: np.ndarray, group: dict[str, Any], memory: dict[str, Any], random: Any
    ) -> np.ndarray:
        n = int(f.free.sum())
        if n == 0:
            f(x)
            return x
        population = int(group["population"] or 4 + math.floor(3 * math.log(n)))
        c = constants(n, population, self.covariance)
        sigma = float(memory.get("sigma", group["sigma"]))
        z = random.standard_normal((population, x.size))
        y = np.where(f.free, self.shaped(z, memory), 0.0)
        losses = f.all(x + sigma * y)
        if not np.isfinite(losses).any():
            memory["sigma"] = sigma / 2
            return x
        order = np.argsort(losses, kind="stable")  # inf comes last, equal ones in the order of their draw
        good = order[: population // 2]
        w = c.weights[: len(good)]
        path = host(memory["path"]) if "path" in memory else np.zeros(x.size)
        white = self.unshaped(w @ z[good], memory)
        path = (1 - c.c_s) * path + math.sqrt(c.c_s * (2 - c.c_s) * c.mu_eff) * white
        path = np.where(f.free, path, 0.0)
        step = w @ y[good]
        ratio = float(np.linalg.norm(path)) / c.length
        self.learn(y[order], step, ratio, c, memory, f.free)
        memory["path"] = Tensor(path)
        memory["sigma"] = sigma * math.exp(min(1.0, c.c_s / c.d_s * (ratio - 1)))
        return x + sigma * step

    def shaped(self, z: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
        """Rows y ~ N(0, C) from rows z ~ N(0, I)."""
        return z

    def unshaped(self, z: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
        """C^(-1/2) y for the y that was shaped from z."""
        return z

    def learn(
        self,
        y: np.ndarray,
        step: np.ndarray,
        ratio: float,
        c: Constants,
        memory: dict[str, Any],
        free: np.ndarray,
    ) -> None:
        """Change C: y in the order of their losses, step their weighted sum, ratio = |p_s| / E|N(0, I)|.

        Both are zero where an element is not free.
        """


class CMAES(EvolutionStrategy):
    """EvolutionStrategy with a covariance that is learned: N(m, sigma^2 C), C the inverse Hessian in the end

    covariance "full" holds three n x n matrices of float64 and refuses more than 5,000 parameters, naming the
    bytes; every few generations it is decomposed, O(n^3). "diagonal" learns a scale a parameter, O(n) [Ros &
    Hansen 2008]. The other arguments as in EvolutionStrategy. Ill conditioned functions take about as many
    evaluations as the sphere and, once, O(n^2) to learn C. [Hansen & Ostermeier 2001; Hansen 2016]
    """

    vectors = ("best", "path", "path_c", "place", "variances")
    record = Record(
        year=2001,
        paper="Hansen & Ostermeier, Completely derandomized self-adaptation in evolution strategies, Evol. "
        "Comp. 9, 2001; in the form of Hansen, The CMA evolution strategy: a tutorial, arXiv:1604.00772",
        latex=r"\theta \leftarrow \theta + \sigma\sum_i w_i y_{i:\lambda}, \quad y_i \sim N(0, C)",
        oracles=("cma",),
        kind="global",
        needs=("closure", "no gradient", "few parameters"),
        state="16 n and 40, n parameters",
        launches="array code on the host",
        proof="tests/test_derivative_free.py",
        presets={"paper": {}, "sep-CMA-ES": dict(covariance="diagonal")},
    )

    def __init__(
        self,
        params: Any,
        sigma: float = 0.3,
        population: int | None = None,
        covariance: str = "full",
        seed: int = 0,
    ):
        Search.__init__(
            self, params, dict(sigma=sigma, population=population, covariance=covariance, seed=seed)
        )

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["covariance"] not in COVARIANCES:
            raise ValueError(
                f"CMAES: Invalid covariance: {group['covariance']!r}; it is one of {', '.join(COVARIANCES)}"
            )

    def group(self, given: dict[str, Any]) -> dict[str, Any]:
        whole = super().group(given)
        n = sum(p.array.size for p in whole["params"])
        if whole["covariance"] == "full" and n > LARGEST:
            raise ValueError(
                f"CMAES: a full covariance of {n:,} parameters takes {3 * 8 * n * n:,} bytes, and it refuses "
                f"more than {LARGEST:,} parameters; take covariance='diagonal', or EvolutionStrategy"
            )
        return whole

    def search(
        self, f: Trial, x: np.ndarray, group: dict[str, Any], memory: dict[str, Any], random: Any
    ) -> np.ndarray:
        self.covariance = group["covariance"]
        n = x.size
        if "path_c" not in memory:
            memory["path_c"], memory["generation"] = Tensor(np.zeros(n)), 0
            if self.covariance == "diagonal":
                memory["variances"] = Tensor(np.ones(n))
            else:
                memory |= dict(place=Tensor(np.arange(float(n))), decomposed=0)
                memory |= dict(matrix=Tensor(np.eye(n)), axes=Tensor(np.eye(n)), lengths=Tensor(np.ones(n)))
        elif self.covariance == "full":
            self.reorder(memory)
        memory["generation"] += 1
        return super().search(f, x, group, memory, random)

    @staticmethod
    def reorder(memory: dict[str, Any]) -> None:
        """Bring rows and columns into the order of the parameters: loading by name may have changed it, and
        reorders vectors only. `place` is the vector 0, 1, ... that shows how."""
        place = host(memory["place"]).astype(np.int64)
        if (np.diff(place) == 1).all():
            return
        memory["matrix"] = Tensor(host(memory["matrix"])[place][:, place])
        memory["axes"] = Tensor(host(memory["axes"])[place])
        memory["place"] = Tensor(np.arange(float(place.size)))

    def shaped(self, z: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
        if self.covariance == "diagonal":
            return z * np.sqrt(host(memory["variances"]))
        return z * host(memory["lengths"]) @ host(memory["axes"]).T  # C = axes lengths^2 axes'

    def unshaped(self, z: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
        return z if self.covariance == "diagonal" else host(memory["axes"]) @ z

    def learn(
        self,
        y: np.ndarray,
        step: np.ndarray,
        ratio: float,
        c: Constants,
        memory: dict[str, Any],
        free: np.ndarray,
    ) -> None:
        n, g = int(free.sum()), memory["generation"]
        ahead = ratio / math.sqrt(1 - (1 - c.c_s) ** (2 * g)) < 1.4 + 2 / (n + 1)  # else sigma grows first
        path = (1 - c.c_c) * host(memory["path_c"])
        if ahead:
            path = path + math.sqrt(c.c_c * (2 - c.c_c) * c.mu_eff) * step
        path = np.where(free, path, 0.0)
        memory["path_c"] = Tensor(path)
        left = c.c_1 * (0.0 if ahead else c.c_c * (2 - c.c_c))  # the variance that the path did not get
        keep = 1 + left - c.c_1 - c.c_mu * c.weights.sum()
        if self.covariance == "diagonal":
            good = c.weights > 0
            old = host(memory["variances"])
            v = keep * old + c.c_1 * path**2 + c.c_mu * c.weights[good] @ y[good] ** 2
            memory["variances"] = Tensor(np.where(free, v, old))
            return
        axes, lengths, w = host(memory["axes"]), host(memory["lengths"]), c.weights.copy()
        bad = w < 0  # scaled to one length, so that C stays positive definite
        w[bad] *= n / np.maximum((((y[bad] @ axes) / lengths) ** 2).sum(1), 1e-300)
        old = host(memory["matrix"])
        matrix = keep * old + c.c_1 * np.outer(path, path) + c.c_mu * (y.T * w) @ y
        matrix = np.where(np.outer(free, free), matrix, np.diag(old.diagonal()))  # two blocks
        memory["matrix"] = Tensor(matrix)
        if (g - memory["decomposed"]) * 10 * n * (c.c_1 + c.c_mu) >= 1:  # O(n^2) a generation on average
            values, axes = np.linalg.eigh((matrix + matrix.T) / 2)
            values = np.maximum(values, 1e-14 * values[-1])  # a condition number that float64 can hold
            memory |= dict(axes=Tensor(axes), lengths=Tensor(np.sqrt(values)), decomposed=g)
