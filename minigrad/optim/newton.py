"""Newton's method: the minimum of the parabola that has the loss's gradient and Hessian here.

    p = -(H + damping I)^-1 g,     x <- x + t p

On a quadratic one step is the solution; near a minimum with a definite Hessian each step squares the error.
Far from one H may be singular or indefinite, and p go up: then the eigenvalues are changed.

H is built from n Hessian-vector products and takes n^2 numbers: it is for small problems. `NewtonCG`
(newton_cg.py) needs products only, `SecondOrder` is what both share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Array, to_device, to_host, xp_of
from ..tensor import Tensor
from .flat import Flat, dot, largest, moved
from .groups import Range
from .line_search import Point, backtracking
from .record import Record
from .whole import Hessian, Objective, WholeVector


@dataclass(frozen=True)
class Place:
    """Parameters as a vector x (n,), the loss f there, its gradient g (n,) and products with its Hessian.

    graph: whether the next place has to keep its graph, so that products can follow there.
    """

    x: Array
    f: float
    g: Array
    product: Hessian
    graph: bool


class SecondOrder(WholeVector):
    """What both share: iterations, each with Hessian-vector products where the last one ended."""

    def minimize(self, objective: Objective, group: dict[str, Any], memory: dict[str, Any]) -> None:
        f, g = self.ask(objective, graph=True)
        for k in range(group["max_iter"]):
            with objective.hessian() as product:
                peak = largest(g)
                if not math.isfinite(f + peak) or peak <= group["tolerance_grad"] or not float(group["lr"]):
                    return
                memory["n_iter"] = memory.get("n_iter", 0) + 1
                x, more = objective.flat.read(), k + 1 < group["max_iter"]
                reached = self.iterate(objective, group, memory, Place(x, f, g, product, more))
                memory["products"] = memory.get("products", 0) + product.products
            if reached is None:
                objective.flat.write(x)
                return
            f, g = reached

    def iterate(
        self, objective: Objective, group: dict[str, Any], memory: dict[str, Any], here: Place
    ) -> tuple[float, Array] | None:
        """One step; (f, g) of the place, where the objective was asked last, or None: x stays."""
        raise TypeError(f"{type(self).__name__} defines no iterate")


class Newton(SecondOrder):
    """x <- x + t p,   p = -(H + damping I)^-1 g, H the Hessian of all parameters

        optimizer.step(closure)      # zero_grad, forward, backward, return the loss with its graph

    An iteration builds H by n Hessian-vector products and takes its eigenvalues. Those below zero are
    replaced by their absolute values, so that p goes down also at a saddle [Gill, Murray & Wright 1981,
    4.4.2; Dauphin et al. 2014]; modification="shift" adds to all what makes the smallest positive instead
    [Nocedal & Wright 2006, 3.4]. Directions without curvature (|eigenvalue| within the rounding of the
    largest) get the largest: a cautious step of descent; a linear loss takes -g.

    line_search_fn "armijo" halves t, from lr, until the loss has come down enough; None goes t = lr, but not
    where the loss is not finite, which it looks at. adapt_damping is Levenberg and Marquardt's: with the
    ratio of the loss's decrease to the parabola's above 3/4 damping becomes a third, below 1/4 twice as
    large (at least 1e-3 of the largest curvature at first), and a step that does not come down is tried
    again with more, without a new Hessian, 30 times at most. From a loss or gradient that is not finite no
    step is made. A step is max_iter iterations of one function, fewer where no |g| is above tolerance_grad.

    lr >= 0, damping >= 0, max_iter at least 1. ValueError above max_parameters (2,048), saying what H would
    take; NewtonCG needs no H. One group.
    [Nocedal & Wright 2006, 3.3 and 3.4; Levenberg 1944, Marquardt 1963 for adapt_damping]
    """

    ranges = {
        "damping": Range("damping value"),
        "max_iter": Range("max_iter", 1),
        "tolerance_grad": Range("tolerance_grad"),
        "max_parameters": Range("max_parameters", 1),
    }
    record = Record(
        year=1685,
        paper="Newton; Wallis, A treatise of algebra; for minimization Simpson 1740; Nocedal & Wright, "
        "Numerical optimization, 2006, 3.3",
        latex=r"\theta \leftarrow \theta - \eta\, (\nabla^2 L + \gamma I)^{-1} \nabla L",
        oracles=(),
        kind="global",
        needs=("closure", "Hessian-vector product"),
        launches="two backward passes a parameter",
        proof="tests/test_newton.py",
        presets={"paper": dict(line_search_fn=None), "levenberg": dict(adapt_damping=True)},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1,
        damping: float = 0.0,
        line_search_fn: str | None = "armijo",
        *,
        modification: str = "absolute",
        adapt_damping: bool = False,
        max_iter: int = 1,
        tolerance_grad: float = 1e-7,
        max_parameters: int = 2048,
    ):
        options: dict[str, Any] = dict(lr=lr, damping=damping, line_search_fn=line_search_fn)
        options |= dict(modification=modification, adapt_damping=adapt_damping, max_iter=max_iter)
        super().__init__(params, options | dict(tolerance_grad=tolerance_grad, max_parameters=max_parameters))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        one_of("Newton", group, "line_search_fn", (None, "armijo"))
        one_of("Newton", group, "modification", ("absolute", "shift"))
        n = sum(p.array.size for p in group.get("params", ()))
        if n > group["max_parameters"]:
            raise ValueError(
                f"Newton: the Hessian of {n:,} parameters would take {8 * n * n:,} bytes and {n:,} "
                f"products; it is built up to max_parameters = {group['max_parameters']:,}. NewtonCG needs "
                "products only"
            )

    def iterate(
        self, objective: Objective, group: dict[str, Any], memory: dict[str, Any], here: Place
    ) -> tuple[float, Array] | None:
        flat, lr = objective.flat, float(group["lr"])
        h = hessian_of(flat, here.product)
        if not np.isfinite(h).all():
            return None
        values, vectors = np.linalg.eigh(h)
        along = vectors.T @ to_host(here.g).astype(np.float64)
        rounding = flat.eps * len(values) * np.abs(values).max()
        curved = positive(values, rounding, group["modification"])

        def parabola(damping: float) -> tuple[Array, float]:
            """The step to its minimum, and its decrease."""
            step = -along / (curved + damping)
            p = to_device((vectors @ step).astype(flat.kind), flat.device)
            return p, -float(along @ step + 0.5 * step @ (values * step))

        if group["adapt_damping"]:
            return self.levenberg(objective, group, memory, here, parabola, float(curved.max()))
        p, _ = parabola(float(group["damping"]))
        if group["line_search_fn"] is not None:
            return walk(objective, here, p, float(dot(here.g, p)), lr)
        f, g = objective.at(moved(here.x, lr, p), here.graph)
        return None if math.isinf(f) else (f, g)

    def levenberg(
        self,
        objective: Objective,
        group: dict[str, Any],
        memory: dict[str, Any],
        here: Place,
        parabola: Callable[[float], tuple[Array, float]],
        top: float,
    ) -> tuple[float, Array] | None:
        """Steps with more and more damping until one comes down; with less at the next, if it was good."""
        damping = memory.get("damping", float(group["damping"]))
        for _ in range(30):
            p, promised = parabola(damping)
            f, g = objective.at(moved(here.x, float(group["lr"]), p), here.graph)
            ratio = (here.f - f) / promised if promised > 0 else -math.inf
            if ratio > 0.75:
                damping /= 3
            elif ratio < 0.25:
                damping = max(2 * damping, 1e-3 * top)
            if f < here.f:
                memory["damping"] = damping
                return f, g
            if abs(promised) <= objective.eps * abs(here.f):  # nothing is left to gain
                break
        return None


def hessian_of(flat: Flat, product: Callable[[Array], Array]) -> np.ndarray:
    """H (n, n) in double on the host, symmetric to the bit, from n products."""
    rows = []
    for k in range(flat.size):
        unit = flat.zeros()
        unit[k] = 1
        rows.append(product(unit))
    h = to_host(xp_of(rows[0]).stack(rows)).astype(np.float64)
    return (h + h.T) / 2


def positive(values: np.ndarray, rounding: float, modification: str) -> np.ndarray:
    """Eigenvalues (n,), ascending, made positive; all 1 where all are zero."""
    top = np.abs(values).max()
    if not top:
        return np.ones_like(values)
    if modification == "shift" and values[0] < -rounding:
        values = values + (1e-3 * top - values[0])
    sizes = np.abs(values)
    return np.where(sizes > rounding, sizes, top)


def walk(objective: Objective, here: Place, p: Array, slope: float, t: float) -> tuple[float, Array] | None:
    """Along p as far as Armijo's condition lets; nowhere, if p does not go down or no t is better."""
    if not (slope < 0 and math.isfinite(slope)):
        return None
    phi, start = objective.along(here.x, p, here.graph), Point(0.0, here.f, slope, here.g)
    found = backtracking(phi, start, t, max_evals=40, eps=objective.eps)
    if found.why == "armijo" or not found.moved:  # what was asked last is what was found
        return (found.point.f, found.point.held) if found.moved else None
    return objective.at(moved(here.x, found.point.t, p), here.graph)


def one_of(rule: str, group: dict[str, Any], name: str, known: tuple[Any, ...]) -> None:
    """ValueError for an option that is none of those known."""
    if group[name] not in known:
        listed = " or ".join(repr(k) for k in known)
        raise ValueError(f"{rule}: Invalid {name}: {group[name]!r}; it is {listed}")
