"""Conjugate gradients: linear, for A x = b with products A v alone, and nonlinear, for any smooth loss.

Linear [Hestenes & Stiefel 1952]: directions with d_i.A d_j = 0, each the last residual made conjugate to the
one before; the error in the norm of A is the least over all polynomials in A, so n steps end it, and
k distinct eigenvalues k steps.

    a = r.z / d.A d;   x += a d;   r -= a A d;   z = M r;   d <- z + (new r.z / old r.z) d

Nonlinear [Fletcher & Reeves 1964; Polak & Ribiere 1969]: the residual is -g and a line search finds a.

    d <- -g + beta d,    beta_FR = g.g / g'.g',    beta_PR+ = max(0, g.(g - g') / g'.g')       g' the last g

On a quadratic with exact searches both are the linear method.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Array, xp_of
from ..tensor import Tensor
from .flat import dot, largest, moved
from .groups import Range
from .line_search import Point, strong_wolfe
from .record import Record
from .whole import Objective, WholeVector


@dataclass(frozen=True)
class Solution:
    """x of A x = b, after how many products A v, with |b - A x| as the recurrence has it.

    why: "converged"; "iterations"; "negative curvature": d.A d <= 0 for the direction `d`, so A is not
    positive definite and x the last iterate before; "not finite": a product was, x is the last iterate.
    """

    x: Any
    iterations: int
    residual: float
    why: str
    d: Any = None


def conjugate_gradient(
    matvec: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    replace: int = 50,
    callback: Callable[[Any], Any] | None = None,
) -> Solution:
    """x with |b - A x| <= max(rtol |b|, atol), for a symmetric positive definite A.

    matvec: v -> A v, or the matrix; b (n,) an array or a Tensor, which matvec is given too. x0: where to
    begin (0). M: v -> M v with M near the inverse of A, symmetric positive definite, or that matrix.
    maxiter (10 n) bounds the products. Every `replace` steps r is b - A x itself instead of the recurrence's,
    whose rounding adds up (0: never; it costs a product more); where they differ by a tenth directions
    begin again. callback(x) after each step.
    ValueError for a b that is no vector, or sizes that differ. [Hestenes & Stiefel 1952]
    """
    wrap = Tensor if isinstance(b, Tensor) else (lambda v: v)

    def applied(product: Any, v: Array) -> Array:
        found = _array(product(wrap(v)) if callable(product) else _array(product) @ v)
        return xp_of(found).ascontiguousarray(found.astype(v.dtype, copy=False))

    b = _array(b)
    if b.dtype not in (np.float32, np.float64):
        b = b.astype(np.float32 if b.dtype.itemsize == 2 and b.dtype.kind not in "iu" else np.float64)
    if b.ndim != 1 or (x0 is not None and _array(x0).shape != b.shape):
        shapes = f"b {list(b.shape)}" + ("" if x0 is None else f", x0 {list(_array(x0).shape)}")
        raise ValueError(f"conjugate_gradient: {shapes}; both are vectors (n,) of one length")
    x = xp_of(b).zeros_like(b) if x0 is None else _array(x0).astype(b.dtype)  # a copy
    r = b.copy() if x0 is None else b - applied(matvec, x)
    if r.shape != b.shape:
        raise ValueError(f"conjugate_gradient: A v has shape {list(r.shape)}, b {list(b.shape)}")
    enough = max(rtol * _norm(b), atol)
    most, k, d, before = 10 * b.size if maxiter is None else maxiter, 0, None, None
    size = _norm(r)
    while size > enough and k < most:
        z = r if M is None else applied(M, r)
        rz = dot(r, z)
        d = z.copy() if d is None else moved(z, rz / before, d)
        ad = applied(matvec, d)
        if ad.shape != b.shape:
            raise ValueError(f"conjugate_gradient: A v has shape {list(ad.shape)}, b {list(b.shape)}")
        k += 1
        curvature = dot(d, ad)
        if not math.isfinite(bent := float(curvature)):
            return Solution(wrap(x), k, size, "not finite", wrap(d))
        if bent <= 0:
            return Solution(wrap(x), k, size, "negative curvature", wrap(d))
        a = rz / curvature
        x, r, before = moved(x, a, d), moved(r, -a, ad), rz
        if replace and k % replace == 0:
            true = b - applied(matvec, x)
            if _norm(true - r) > 0.1 * _norm(r):
                d = None  # conjugate to directions that no longer fit
            r = true
        size = _norm(r)
        if callback is not None:
            callback(wrap(x))
    return Solution(wrap(x), k, size, "converged" if size <= enough else "iterations")


def _array(v: Any) -> Array:
    return v.array if isinstance(v, Tensor) else v


def _norm(v: Array) -> float:
    return math.sqrt(float(dot(v, v)))


class NonlinearCG(WholeVector):
    """x <- x + t d,   d = -g + beta d, t from a search with strong Wolfe conditions

        optimizer.step(closure)      # closure: zero_grad, forward, backward, return the loss

    beta "PR+", max(0, g.(g - g') / g'.g'), or "FR", g.g / g'.g'. d begins again as -g every `restart`
    iterations (default: the number of elements), and where it no longer goes down. A step is max_iter
    iterations or max_eval evaluations (default 5/2 max_iter) of one and the same function; it ends earlier
    as LBFGS does. The first t is lr min(1, 1 / |g|_1), later ones what would repeat the last decrease,
    t' s' / s with s the slopes [Nocedal & Wright 2006, p. 59]. The search's c2 is 0.1: conjugacy wants nearly
    exact searches, and FR goes down for sure only below 1/2. The loss never rises; from one that is not
    finite no step is made. It takes 2 vectors of state, L-BFGS 200.

    lr >= 0, max_iter, max_eval, restart at least 1, tolerances >= 0, 0 < c1 < c2 < 1. One group: ValueError
    for several. [Nocedal & Wright 2006, algorithm 5.4, eq. 5.44, 5.45]
    """

    vectors = ("d", "prev_flat_grad")
    ranges = {
        "max_iter": Range("max_iter", 1),
        "max_eval": Range("max_eval", 1),
        "tolerance_grad": Range("tolerance_grad"),
        "tolerance_change": Range("tolerance_change"),
    }
    record = Record(
        year=1964,
        paper="Fletcher & Reeves, Function minimization by conjugate gradients; Polak & Ribière 1969; "
        "Nocedal & Wright 2006, algorithm 5.4",
        latex=r"\theta \leftarrow \theta + t d, \quad d \leftarrow -g + \beta d, \quad \beta = \max(0,"
        r" g^\top (g - g') / \|g'\|^2)",
        oracles=(),
        kind="global",
        needs=("closure",),
        launches="20 an iteration",
        proof="tests/test_conjugate_gradient.py",
        presets={"paper": dict(beta="FR"), "scipy": dict(beta="PR+", c2=0.4)},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        beta: str = "PR+",
        restart: int | None = None,
        c1: float = 1e-4,
        c2: float = 0.1,
    ):
        if max_eval is None:
            max_eval = max(max_iter * 5 // 2, 1)
        options: dict[str, Any] = dict(
            lr=lr, max_iter=max_iter, max_eval=max_eval, tolerance_grad=tolerance_grad
        )
        options |= dict(tolerance_change=tolerance_change, beta=beta, restart=restart, c1=c1, c2=c2)
        super().__init__(params, options)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["beta"] not in ("PR+", "FR"):
            raise ValueError(f"NonlinearCG: Invalid beta: {group['beta']!r}; it is 'PR+' or 'FR'")
        if group["restart"] is not None and not group["restart"] >= 1:
            raise ValueError(
                f"NonlinearCG: Invalid restart: {group['restart']}; it must be at least 1 iteration"
            )
        if not 0 < group["c1"] < group["c2"] < 1:
            raise ValueError(
                f"NonlinearCG: Invalid c1, c2: {group['c1']}, {group['c2']}; they must be 0 < c1 < c2 < 1"
            )

    def minimize(self, objective: Objective, group: dict[str, Any], memory: dict[str, Any]) -> None:
        flat, lr = objective.flat, float(group["lr"])
        taken = memory.setdefault("func_evals", 0)
        memory.setdefault("n_iter", 0)
        f, g = self.ask(objective)
        memory["func_evals"] = taken + 1
        peak = largest(g)
        if not math.isfinite(f + peak) or peak <= group["tolerance_grad"] or not lr:
            return
        x, every = flat.read(), group["restart"] or flat.size
        for _ in range(group["max_iter"]):
            memory["n_iter"] += 1
            first = "d" not in memory
            if first or memory["since"] >= every:
                d = self.restart(memory, g)
            else:
                old = flat.here(memory["prev_flat_grad"])
                share = dot(g, g if group["beta"] == "FR" else g - old) / dot(old, old)
                d = moved(-g, max(float(share), 0.0), flat.here(memory["d"]))
            slope = float(dot(g, d))
            if not slope < -1e-10 * float(dot(g, g)):  # across the slope, or up
                d = self.restart(memory, g)
                slope = float(dot(g, d))
            if first:
                t = lr * min(1.0, 1 / float(xp_of(g).abs(g).sum()))
            else:
                t = memory["t"] * min(max(memory["slope"] / slope, 0.01), 100.0)
            left, narrow = (
                group["max_eval"] - objective.evaluations,
                group["tolerance_change"] / largest(d),
            )
            start, search = Point(0.0, f, slope, g), (group["c1"], group["c2"], left, objective.eps, narrow)
            found = strong_wolfe(objective.along(x, d), start, t, *search)
            if not found.moved:
                flat.write(x)
                steepest = not memory["since"]
                for name in ("d", "t", "slope", "since", "prev_flat_grad"):
                    memory.pop(name, None)
                if steepest or objective.evaluations >= group["max_eval"]:
                    break
                continue
            t, before = found.point.t, f
            memory |= dict(d=Tensor(d), t=t, slope=slope, prev_flat_grad=Tensor(g))
            memory["since"] += 1
            f, g = found.point.f, found.point.held
            x = moved(x, t, d)
            flat.write(x)
            if self.settled(objective, group, g, t * largest(d), f - before):
                break
        memory["func_evals"] = taken + objective.evaluations

    def restart(self, memory: dict[str, Any], g: Array) -> Array:
        """-g, the first of a series."""
        memory["since"] = 0
        return -g
