"""Newton's method: the minimum of the parabola that has the loss's gradient and Hessian here.

    p = -(H + damping I)^-1 g,     x <- x + t p

On a quadratic one step is the solution; near a minimum with a definite Hessian each step squares the error.
Far from one H may be singular or indefinite, and p go up: then the system is changed (`Newton`), or solved
only as far as it is definite (`NewtonCG`).

Newton builds H, n products and n^2 numbers, for small problems. NewtonCG solves the system by conjugate
gradients with products H v, two backward passes each, just as precisely as it pays: to
|r| <= min(1/2, sqrt |g|) |g|, which keeps the convergence superlinear [Dembo, Eisenstat & Steihaug 1982].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Array, to_device, to_host, xp_of
from ..tensor import Tensor
from .conjugate_gradient import conjugate_gradient
from .flat import Flat, Hessian, Objective, WholeVector, dot, largest, moved
from .groups import Range
from .line_search import Point, backtracking
from .record import Record


@dataclass(frozen=True)
class Place:
    """Parameters as a vector x (n,), the loss f there and its gradient g (n,)."""

    x: Array
    f: float
    g: Array


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
                reached = self.iterate(objective, group, memory, Place(x, f, g), product, more)
                memory["products"] = memory.get("products", 0) + product.products
            if reached is None:
                objective.flat.write(x)
                return
            f, g = reached

    def iterate(
        self,
        objective: Objective,
        group: dict[str, Any],
        memory: dict[str, Any],
        here: Place,
        product: Hessian,
        graph: bool,
    ) -> tuple[float, Array] | None:
        """One step; (f, g) of the place, where the objective was asked last, or None: x stays.

        With `graph` it was asked so that products can follow.
        """
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
        self,
        objective: Objective,
        group: dict[str, Any],
        memory: dict[str, Any],
        here: Place,
        product: Hessian,
        graph: bool,
    ) -> tuple[float, Array] | None:
        flat, lr = objective.flat, float(group["lr"])
        h = hessian_of(flat, product)
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
            return self.levenberg(objective, group, memory, here, parabola, float(curved.max()), graph)
        p, _ = parabola(float(group["damping"]))
        if group["line_search_fn"] is not None:
            return walk(objective, here, p, float(dot(here.g, p)), lr, graph)
        f, g = objective.at(moved(here.x, lr, p), graph)
        return None if math.isinf(f) else (f, g)

    def levenberg(
        self,
        objective: Objective,
        group: dict[str, Any],
        memory: dict[str, Any],
        here: Place,
        parabola: Callable[[float], tuple[Array, float]],
        top: float,
        graph: bool,
    ) -> tuple[float, Array] | None:
        """Steps with more and more damping until one comes down; with less at the next, if it was good."""
        damping = memory.get("damping", float(group["damping"]))
        for _ in range(30):
            p, promised = parabola(damping)
            f, g = objective.at(moved(here.x, float(group["lr"]), p), graph)
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


class NewtonCG(SecondOrder):
    """x <- x + t p,   (H + damping I) p = -g solved by conjugate gradients, with products H v

        optimizer.step(closure)      # zero_grad, forward, backward, return the loss with its graph

    method "armijo": where a direction d has d.H d <= 0 the solution so far is p (-g, if it is the first), and
    t is halved from lr until the loss has come down enough [Nocedal & Wright 2006, algorithm 7.1].
    method "trust": p is the minimum of the parabola along the path of conjugate gradients within |p| <=
    radius, going to the edge along a d of negative curvature [Steihaug 1983; algorithm 7.2]. radius begins
    at `radius`, is a quarter after steps that bring less than 1/4 of what the parabola promised, and
    doubles, up to max_radius, at the edge after more than 3/4; a step of less than 0.15 is not made
    [algorithm 4.1]. A step that is not made is tried again with less, up to 10 times, without a new gradient.

    A step is max_iter iterations of one function, fewer where no |g| is above tolerance_grad; each has at
    most max_cg products (default: twice the number of elements, at most 200), and its trials. The loss never
    rises; from one that is not finite no step is made.

    lr >= 0 (armijo's first t), damping >= 0, 0 < radius <= max_radius, max_iter and max_cg at least 1. One
    group. [Dembo & Steihaug 1983; Nocedal & Wright 2006, 7.1]
    """

    ranges = {
        "damping": Range("damping value"),
        "max_iter": Range("max_iter", 1),
        "tolerance_grad": Range("tolerance_grad"),
        "radius": Range("radius", above=True),
        "max_radius": Range("max_radius", above=True),
    }
    record = Record(
        year=1983,
        paper="Dembo & Steihaug, Truncated-Newton algorithms for large-scale unconstrained optimization; "
        "Nocedal & Wright 2006, algorithms 7.1 and 7.2",
        latex=r"\theta \leftarrow \theta + t p, \quad \|(\nabla^2 L + \gamma I) p + g\| \le \min(1/2,"
        r" \sqrt{\|g\|})\, \|g\|",
        oracles=(),
        kind="global",
        needs=("closure", "Hessian-vector product"),
        launches="two backward passes a product",
        proof="tests/test_newton.py",
        presets={"paper": {}, "steihaug": dict(method="trust")},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1,
        damping: float = 0.0,
        method: str = "armijo",
        max_cg: int | None = None,
        *,
        max_iter: int = 1,
        tolerance_grad: float = 1e-7,
        radius: float = 1.0,
        max_radius: float = 1000.0,
    ):
        options: dict[str, Any] = dict(lr=lr, damping=damping, method=method, max_cg=max_cg)
        options |= dict(max_iter=max_iter, tolerance_grad=tolerance_grad, radius=radius)
        super().__init__(params, options | dict(max_radius=max_radius))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        one_of("NewtonCG", group, "method", ("armijo", "trust"))
        if group["max_cg"] is not None and not group["max_cg"] >= 1:
            raise ValueError(f"NewtonCG: Invalid max_cg: {group['max_cg']}; it must be at least 1 product")
        if group["radius"] > group["max_radius"]:
            raise ValueError(
                f"NewtonCG: Invalid radius: {group['radius']}; it must be at most max_radius = "
                f"{group['max_radius']}"
            )

    def iterate(
        self,
        objective: Objective,
        group: dict[str, Any],
        memory: dict[str, Any],
        here: Place,
        product: Hessian,
        graph: bool,
    ) -> tuple[float, Array] | None:
        g, damping = here.g, float(group["damping"])
        size = math.sqrt(float(dot(g, g)))
        enough = min(0.5, math.sqrt(size)) * size
        most = min(2 * objective.flat.size, 200) if group["max_cg"] is None else group["max_cg"]

        def damped(v: Array) -> Array:
            return moved(product(v), damping, v) if damping else product(v)

        if group["method"] == "trust":
            return self.trust(objective, group, memory, here, damped, enough, most, graph)
        p = conjugate_gradient(damped, -g, rtol=0, atol=enough, maxiter=most, replace=0).x
        slope = float(dot(g, p))
        if not slope < 0:  # the first product already showed no curvature
            p, slope = -g, -size * size
        return walk(objective, here, p, slope, float(group["lr"]), graph)

    def trust(
        self,
        objective: Objective,
        group: dict[str, Any],
        memory: dict[str, Any],
        here: Place,
        product: Callable[[Array], Array],
        enough: float,
        most: int,
        graph: bool,
    ) -> tuple[float, Array] | None:
        """One step within the radius, which follows from how good the parabola was."""
        radius, reached = memory.get("radius", float(group["radius"])), None
        path = Path(product, here.g, radius, enough, most)
        for _ in range(10):
            p, promised, edge = path.within(radius)
            f, g = objective.at(here.x + p, graph)
            gained = here.f - f
            level = max(abs(gained), promised) <= objective.eps * abs(here.f)  # both are rounding
            ratio = 1.0 if level and gained >= 0 else gained / promised if promised > 0 else -math.inf
            if ratio < 0.25:
                radius = 0.25 * min(radius, math.sqrt(float(dot(p, p))))
            elif ratio > 0.75 and edge:
                radius = min(2 * radius, float(group["max_radius"]))
            if ratio > 0.15 and gained >= 0:
                reached = f, g
                break
        memory["radius"] = max(radius, 1e-12 * float(group["radius"]))
        return reached


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


class Path:
    """The path of conjugate gradients to the minimum of m(p) = g.p + p.Hp / 2, as far as |p| <= radius.

    By at most `most` products, to a residual of `enough`; it ends where a direction has no curvature. On it
    |p| only grows, so the best p within a smaller radius lies on it too: no product is asked again.
    [Steihaug 1983, theorem 2.1]
    """

    def __init__(self, product: Callable[[Array], Array], g: Array, radius: float, enough: float, most: int):
        self.zero, self.legs = xp_of(g).zeros_like(g), []  # (d, d.Hd, r.r) of each
        r, d = g, -g
        rr = float(dot(r, r))
        p = self.zero
        for _ in range(most):
            hd = product(d)
            curvature = float(dot(d, hd))
            if not math.isfinite(curvature):
                break
            self.legs.append((d, curvature, rr))
            if curvature <= 0:
                break
            a = rr / curvature
            p, r = moved(p, a, d), moved(r, a, hd)
            if float(dot(p, p)) >= radius * radius:
                break
            before, rr = rr, float(dot(r, r))
            if math.sqrt(rr) <= enough:
                break
            d = moved(-r, rr / before, d)

    def within(self, radius: float) -> tuple[Array, float, bool]:
        """p, the decrease -m(p), and whether p lies on the edge."""
        p, promised = self.zero, 0.0
        for d, curvature, rr in self.legs:
            a = rr / curvature if curvature > 0 else math.inf
            pp, pd, dd = float(dot(p, p)), float(dot(p, d)), float(dot(d, d))
            edge = math.isinf(a) or pp + 2 * a * pd + a * a * dd >= radius * radius
            if edge:  # the positive root of |p + a d| = radius
                inside = max(radius * radius - pp, 0.0)
                a = inside / (pd + math.sqrt(pd * pd + dd * inside))
            p, promised = moved(p, a, d), promised + a * rr - a * a * curvature / 2
            if edge:
                return p, promised, True
        return p, promised, False


def walk(
    objective: Objective, here: Place, p: Array, slope: float, t: float, graph: bool
) -> tuple[float, Array] | None:
    """Along p as far as Armijo's condition lets; nowhere, if p does not go down or no t is better."""
    if not (slope < 0 and math.isfinite(slope)):
        return None
    phi, start = objective.along(here.x, p, graph), Point(0.0, here.f, slope, here.g)
    found = backtracking(phi, start, t, max_evals=40, eps=objective.eps)
    if found.why == "armijo" or not found.moved:  # what was asked last is what was found
        return (found.point.f, found.point.held) if found.moved else None
    return objective.at(moved(here.x, found.point.t, p), graph)


def one_of(rule: str, group: dict[str, Any], name: str, known: tuple[Any, ...]) -> None:
    """ValueError for an option that is none of those known."""
    if group[name] not in known:
        listed = " or ".join(repr(k) for k in known)
        raise ValueError(f"{rule}: Invalid {name}: {group[name]!r}; it is {listed}")
