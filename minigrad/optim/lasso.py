"""Coordinate descent: one number at a time, each to where the loss is lowest along it.

For least squares with the penalties of the Lasso and the ridge,

    F(w) = |y - X w|^2 / (2 n) + l1 |w|_1 + l2 |w|^2 / 2          X (n, d), y (n,), w (d,)

the minimum along w_j has a closed form; r = y - X w is the residual,

    w_j <- S(x_j' r / n + (|x_j|^2 / n) w_j, l1) / (|x_j|^2 / n + l2),       S(z, a) = sign(z) max(|z| - a, 0)

which sets most w_j to exactly zero where l1 is large. F is convex and what is not smooth in it is a sum over
coordinates, so that going along them ends at the minimum [Tseng 2001]; at it (Karush, Kuhn, Tucker)

    x_j' r / n - l2 w_j = l1 sign(w_j)  where w_j != 0,      |x_j' r / n| <= l1  where w_j = 0

The sweeps go over the *active* coordinates, those that are not zero or violate this; between them one product
X' r looks at all. They update X' r of the active ones by their Gram matrix, not r, so that a coordinate costs
as many products as there are active ones, however long X is [Friedman, Hastie & Tibshirani 2010].
`CoordinateDescent` (coordinate.py) is the same for any smooth loss, whose curvature it measures.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import to_host
from ..tensor import Tensor
from .groups import number

Slope = Callable[[int, float], float]
Follow = Callable[[int, float], None]


@dataclass(frozen=True)
class Solution:
    """w (d,), the duality gap, which F(w) is above the minimum at most, and the sweeps it took."""

    w: np.ndarray
    gap: float
    sweeps: int
    converged: bool


def coordinate_descent(
    X: Any,
    y: Any,
    l1: float,
    l2: float = 0.0,
    *,
    start: Any = None,
    tol: float = 1e-4,
    max_iter: int = 1000,
    positive: bool = False,
    selection: str = "cyclic",
    seed: int = 0,
) -> Solution:
    """The w (d,) that minimises |y - X w|^2 / (2 n) + l1 |w|_1 + l2 |w|^2 / 2, for X (n, d) and y (n,).

    In float64 on the host, for Tensors and arrays. l1 >= 0, l2 >= 0, not both 0. It ends when the
    duality gap is at most tol |y|^2 / n, or after max_iter >= 1 sweeps; converged says which. positive
    asks for w >= 0. selection is the order of a sweep, "cyclic" or "random" (drawn anew each sweep, from the
    seed). start (d,) is where it begins, zeros by default. ValueError for shapes that do not fit and
    for numbers that are not finite.
    [Tseng 2001; Friedman, Hastie & Tibshirani 2010]
    """
    X, y = _matrix(X), _host(y)
    n, d = X.shape
    if y.shape != (n,):
        raise ValueError(f"coordinate_descent: X is {n} x {d}, y has shape {y.shape}; it must be ({n},)")
    w = np.zeros(d) if start is None else _host(start).copy()
    if w.shape != (d,):
        raise ValueError(f"coordinate_descent: X is {n} x {d}, start has shape {w.shape}; it must be ({d},)")
    for name, a in (("X", X), ("y", y), ("start", w)):
        if not np.isfinite(a).all():
            raise ValueError(f"coordinate_descent: {name} has elements that are not finite")
    number("coordinate_descent", "l1", l1, 0)
    number("coordinate_descent", "l2", l2, 0)
    number("coordinate_descent", "tol", tol, 0)
    if l1 == 0 and l2 == 0:
        raise ValueError(
            "coordinate_descent: l1 and l2 are both 0; that is least squares without a penalty, for which no "
            "duality gap proves the end: solve it by minigrad.linalg.lstsq"
        )
    if selection not in ("cyclic", "random"):
        raise ValueError(f"coordinate_descent: Invalid selection: {selection!r}; it is 'cyclic' or 'random'")
    if isinstance(max_iter, bool) or not isinstance(max_iter, (int, np.integer)) or max_iter < 1:
        raise ValueError(f"coordinate_descent: Invalid max_iter: {max_iter!r}; it must be at least 1")
    if positive:
        w = np.maximum(w, 0.0)
    return _Descent(X, y, float(l1), float(l2), positive, selection, seed).run(w, float(tol), int(max_iter))


class _Descent:
    """One problem: what is computed once, and the sweeps."""

    def __init__(
        self, X: np.ndarray, y: np.ndarray, l1: float, l2: float, positive: bool, selection: str, seed: int
    ):
        self.X, self.y, self.l1, self.l2, self.positive = X, y, l1, l2, positive
        self.n = max(len(y), 1)
        self.squares = np.einsum("ij,ij->j", X, X) / self.n
        self.random = np.random.default_rng(seed) if selection == "random" else None

    def run(self, w: np.ndarray, tol: float, most: int) -> Solution:
        """Sweeps over the active set, and looks at all coordinates, in turn."""
        w[self.squares == 0] = 0.0  # a column of zeros: only the penalty speaks
        enough = tol * float(self.y @ self.y) / self.n
        sweeps, within = 0, 0.1
        while True:
            gap, slopes = self.gap(w)
            if gap <= enough or sweeps >= most:
                return Solution(w, gap, sweeps, gap <= enough)
            inside = slopes if self.positive else np.abs(slopes)
            active = np.flatnonzero(((w != 0) | (inside > self.l1)) & (self.squares > 0))
            made = self.sweeps(w, active, slopes, within, most - sweeps)
            sweeps += made
            within = max(within * 0.1, 1e-14)  # a set that changes still need not be solved to the end

    def sweeps(self, w: np.ndarray, active: np.ndarray, slopes: np.ndarray, within: float, most: int) -> int:
        """Change w on the active set until a sweep changes its slopes by less than `within` times their
        largest; how many sweeps."""
        if not len(active):
            return 1
        A, v, made = self.X[:, active], w[active], 0
        curvatures = (self.squares[active] + self.l2).tolist()
        target = within * max(float(np.abs(slopes[active]).max()), self.l1)
        slope, follow = (
            self.by_gram(A, slopes[active]) if A.shape[1] <= 4 * self.n else self.by_residual(A, v)
        )
        while made < most:
            made += 1
            largest = 0.0
            for j in range(len(active)) if self.random is None else self.random.permutation(len(active)):
                old = float(v[j])
                new = self.soft(slope(j, old) + curvatures[j] * old) / curvatures[j]
                if new != old:
                    follow(j, new - old)
                    v[j] = new
                    largest = max(largest, abs(new - old) * curvatures[j])
            if largest <= target:
                break
        w[active] = v
        return made

    def by_gram(self, A: np.ndarray, q: np.ndarray) -> tuple[Slope, Follow]:
        """slope(j, w_j) = x_j' r / n - l2 w_j of the columns of A, kept for all of them in q."""
        gram = A.T @ A / self.n
        gram[np.diag_indices(len(gram))] += self.l2
        rows, q = list(gram), q.copy()

        def follow(j: int, change: float) -> None:
            nonlocal q
            q -= rows[j] * change

        return lambda j, value: float(q[j]), follow

    def by_residual(self, A: np.ndarray, v: np.ndarray) -> tuple[Slope, Follow]:
        """The same by r itself, where there are so many columns that their Gram matrix would be huge."""
        columns, r = list(np.ascontiguousarray(A.T)), self.y - A @ v

        def follow(j: int, change: float) -> None:
            nonlocal r
            r -= columns[j] * change

        return lambda j, value: float(columns[j] @ r) / self.n - self.l2 * value, follow

    def soft(self, z: float) -> float:
        """S(z, l1); 0 below it, where weights are positive."""
        if z > self.l1:
            return z - self.l1
        return z + self.l1 if z < -self.l1 and not self.positive else 0.0

    def gap(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """(F(w) - D(r), X' r / n - l2 w): how far F(w) is from the minimum at most, and the slopes.

        The dual's point is r, made short enough to be allowed: |X' s r / n - l2 w| <= l1.
        """
        X, y, n, l1, l2 = self.X, self.y, self.n, self.l1, self.l2
        r = y - X @ w
        slopes = X.T @ r / n - l2 * w
        steepest = float((slopes if self.positive else np.abs(slopes)).max(initial=0.0))
        rr, ww = float(r @ r) / n, float(w @ w)
        if l1 == 0:  # ridge, strongly convex: F - min <= |slope|^2 / (2 l2)
            return float(slopes @ slopes) / (2 * l2), slopes
        whole = rr + l2 * ww
        s = max(0.0, float(r @ y) / self.n / whole) if whole > 0 else 1.0  # the best of all lengths
        s = min(s, l1 / steepest) if steepest > 0 else s
        primal = 0.5 * rr + l1 * float(np.abs(w).sum()) + 0.5 * l2 * ww
        dual = s * float(r @ y) / n - 0.5 * s * s * whole
        return max(primal - dual, 0.0), slopes


class ElasticNet:
    """min |y - X w - b|^2 / (2 n) + alpha l1_ratio |w|_1 + alpha (1 - l1_ratio) |w|^2 / 2, as scikit-learn's

        model = optim.ElasticNet(alpha=0.1, l1_ratio=0.5).fit(X, y);  model.predict(X)

    X (n, d), y (n,) or (n, k), Tensors or arrays; computed on the host in float64. After fit: coef_ (d,) or
    (k, d), intercept_, n_iter_ (sweeps), dual_gap_ (in this objective's unit; scikit-learn's older versions
    give n times as much). alpha >= 0, l1_ratio in [0, 1]. tol: the gap is at most tol |y|^2 / n, y centred;
    where max_iter sweeps do not reach it, fit warns. warm_start begins at the coef_ of the fit before.
    [Zou & Hastie 2005; Friedman, Hastie & Tibshirani 2010]
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l1_ratio: float = 0.5,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-4,
        warm_start: bool = False,
        positive: bool = False,
        random_state: int = 0,
        selection: str = "cyclic",
    ):
        rule = type(self).__name__
        self.alpha, self.tol = number(rule, "alpha", alpha, 0), number(rule, "tol", tol, 0)
        self.l1_ratio = number(rule, "l1_ratio", l1_ratio, 0)
        if self.l1_ratio > 1:
            raise ValueError(f"{rule}: Invalid l1_ratio: {l1_ratio}; it must be a number in [0, 1]")
        self.fit_intercept, self.warm_start, self.positive = fit_intercept, warm_start, positive
        self.max_iter, self.random_state, self.selection = max_iter, random_state, selection
        self.coef_: Any = None
        self.intercept_: Any = 0.0

    def fit(self, X: Any, y: Any) -> ElasticNet:
        """Find coef_ and intercept_; returns self. A RuntimeWarning says if it did not come to an end."""
        X, y = _matrix(X), _host(y)
        if y.ndim not in (1, 2) or len(y) != len(X) or not len(X):
            raise ValueError(
                f"{type(self).__name__}: X has shape {X.shape}, y {y.shape}; y must be ({len(X)},) or "
                f"({len(X)}, k), and n at least 1"
            )
        columns = y.reshape(len(y), -1)
        means, heights = X.mean(0), columns.mean(0)
        if not self.fit_intercept:
            means, heights = np.zeros_like(means), np.zeros_like(heights)
        before = None
        if self.warm_start and self.coef_ is not None:
            before = np.atleast_2d(self.coef_)
        found = [
            coordinate_descent(
                X - means,
                columns[:, k] - heights[k],
                self.alpha * self.l1_ratio,
                self.alpha * (1 - self.l1_ratio),
                start=None if before is None else before[k],
                tol=self.tol,
                max_iter=self.max_iter,
                positive=self.positive,
                selection=self.selection,
                seed=self.random_state,
            )
            for k in range(columns.shape[1])
        ]
        for s in found:
            if not s.converged:
                warnings.warn(
                    f"{type(self).__name__}: the duality gap is {s.gap:.3g} after {s.sweeps} sweeps; take "
                    "more max_iter, a larger tol or alpha, or columns of one scale",
                    RuntimeWarning,
                    stacklevel=2,
                )
        self.coef_ = np.stack([s.w for s in found])
        self.intercept_ = heights - self.coef_ @ means
        self.n_iter_: Any = [s.sweeps for s in found]
        self.dual_gap_: Any = np.array([s.gap for s in found])
        if y.ndim == 1:
            self.coef_, self.intercept_ = self.coef_[0], float(self.intercept_[0])
            self.n_iter_, self.dual_gap_ = self.n_iter_[0], float(self.dual_gap_[0])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """X w + b, (n,) or (n, k)."""
        if self.coef_ is None:
            raise RuntimeError(f"{type(self).__name__} is not fitted yet; call fit(X, y)")
        return _matrix(X) @ np.asarray(self.coef_).T + self.intercept_

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha}, l1_ratio={self.l1_ratio})"


class Lasso(ElasticNet):
    """min |y - X w - b|^2 / (2 n) + alpha |w|_1: ElasticNet with l1_ratio = 1. [Tibshirani 1996]"""

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-4,
        warm_start: bool = False,
        positive: bool = False,
        random_state: int = 0,
        selection: str = "cyclic",
    ):
        options: dict[str, Any] = dict(max_iter=max_iter, tol=tol, warm_start=warm_start, positive=positive)
        options |= dict(random_state=random_state, selection=selection, fit_intercept=fit_intercept)
        super().__init__(alpha, l1_ratio=1.0, **options)


def lasso_path(
    X: Any,
    y: Any,
    *,
    l1_ratio: float = 1.0,
    eps: float = 1e-3,
    n_alphas: int = 100,
    alphas: Any = None,
    **options: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(alphas (k,), coefs (d, k), gaps (k,)): the solutions from the smallest alpha that sets all w to zero
    down to eps times it, evenly in logarithms, each begun at the one before.

    X and y as they are: centre them where there is to be an intercept. l1_ratio in (0, 1] as in ElasticNet;
    alphas, in any order, take the place of eps in (0, 1) and n_alphas; options are coordinate_descent's.
    [Friedman, Hastie & Tibshirani 2010]
    """
    X, y = _matrix(X), _host(y)
    if not 0 < l1_ratio <= 1:
        raise ValueError(f"lasso_path: Invalid l1_ratio: {l1_ratio}; it must be a number in (0, 1]")
    if alphas is None:
        if not 0 < eps < 1 or n_alphas < 1:
            raise ValueError(
                f"lasso_path: eps={eps}, n_alphas={n_alphas}; eps is in (0, 1), n_alphas at least 1"
            )
        slopes = X.T @ y / len(y)
        top = float((slopes if options.get("positive") else np.abs(slopes)).max(initial=0.0)) / l1_ratio
        alphas = np.full(n_alphas, 1e-300) if top <= 0 else top * np.logspace(0, np.log10(eps), n_alphas)
    alphas = np.sort(_host(alphas))[::-1]
    found: list[Solution] = []
    for alpha in alphas:
        start = found[-1].w if found else options.pop("start", None)
        l1, l2 = float(alpha) * l1_ratio, float(alpha) * (1 - l1_ratio)
        found.append(coordinate_descent(X, y, l1, l2, start=start, **options))
    return alphas, np.stack([s.w for s in found], 1), np.array([s.gap for s in found])


def _host(a: Any) -> np.ndarray:
    """A Tensor or an array as float64 here."""
    return np.asarray(to_host(a.array) if isinstance(a, Tensor) else a, np.float64)


def _matrix(X: Any) -> np.ndarray:
    X = _host(X)
    if X.ndim != 2:
        raise ValueError(f"coordinate descent: X has shape {X.shape}; it must be a matrix (n, d)")
    return X
