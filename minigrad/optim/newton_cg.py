"""Newton's method by products alone: the system for the step is solved only as far as it pays.

    |(H + damping I) p + g| <= min(1/2, sqrt |g|) |g|,     x <- x + t p

Conjugate gradients solve it with products H v, two backward passes each, so precisely that convergence stays
superlinear and no more [Dembo, Eisenstat & Steihaug 1982]. Where a direction shows that H is not definite the
solution so far is the step, or the path goes to the edge of a ball in which the parabola is trusted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..backend import Array, xp_of
from ..tensor import Tensor
from .conjugate_gradient import conjugate_gradient
from .flat import dot, moved
from .groups import Range
from .newton import Place, SecondOrder, one_of, walk
from .record import Record
from .whole import Objective


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
        self, objective: Objective, group: dict[str, Any], memory: dict[str, Any], here: Place
    ) -> tuple[float, Array] | None:
        g, product, damping = here.g, here.product, float(group["damping"])
        size = math.sqrt(float(dot(g, g)))
        enough = min(0.5, math.sqrt(size)) * size
        most = min(2 * objective.flat.size, 200) if group["max_cg"] is None else group["max_cg"]

        def damped(v: Array) -> Array:
            return moved(product(v), damping, v) if damping else product(v)

        if group["method"] == "trust":
            return self.trust(objective, group, memory, here, damped, enough, most)
        p = conjugate_gradient(damped, -g, rtol=0, atol=enough, maxiter=most, replace=0).x
        slope = float(dot(g, p))
        if not slope < 0:  # the first product already showed no curvature
            p, slope = -g, -size * size
        return walk(objective, here, p, slope, float(group["lr"]))

    def trust(
        self,
        objective: Objective,
        group: dict[str, Any],
        memory: dict[str, Any],
        here: Place,
        product: Callable[[Array], Array],
        enough: float,
        most: int,
    ) -> tuple[float, Array] | None:
        """One step within the radius, which follows from how good the parabola was."""
        radius, reached = memory.get("radius", float(group["radius"])), None
        path = Path(product, here.g, radius, enough, most)
        for _ in range(10):
            p, promised, edge = path.within(radius)
            f, g = objective.at(here.x + p, here.graph)
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
