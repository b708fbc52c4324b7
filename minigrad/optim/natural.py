"""Natural gradient: steepest descent where distance is how much the model's distribution changes.

    p <- p - lr (F + damping I)^-1 g        F = E[score score^T], the labels drawn from the model itself

KL(p || p + d) = 1/2 d^T F d + ..., so F^-1 g is the steepest direction in that metric: it does not depend on
how the model is written down. With theta = A phi in place of theta the steps are the same functions; with
damping that is lost, by as much as the damping counts. [Amari 1998]

F is never needed as a matrix: v -> F v is two backward passes for J v and one for J^T (curvature.py), and
linear conjugate gradients do the rest, from where the last step's solution was [Martens 2010]. For that the
optimizer asks for the outputs of the model on the present batch, by a function without arguments:

    optimizer = optim.NaturalGradient(model.parameters())
    optimizer.outputs = lambda: model(x)                    # or (model(x), y), for the empirical Fisher
    optimizer.step(closure)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import random
from ..backend import Array, xp_of
from ..curvature import LIMIT, Fisher, known, refuse
from ..grad_mode import enable_grad
from ..statistics import hold
from ..tensor import Tensor
from .conjugate_gradient import conjugate_gradient
from .flat import Flat, dot, finite, times
from .groups import Range
from .matrix import check_count, eigh
from .record import Record
from .whole import Objective, WholeVector

SOLVERS = ("cg", "exact")
DAMPINGS = (1e-8, 1e8)  # where Levenberg and Marquardt's stays


class NaturalGradient(WholeVector):
    """p <- p - lr (F + damping I)^-1 g

    step(closure): the closure computes loss and gradients, as always; `outputs` returns the (..., C) outputs
    of the model on the same batch, with their graph, or them and the targets.

    lr >= 0; damping >= 0.
    loss               what the outputs are: "cross_entropy" (logits) or "mse"; the closure's is that mean
    fisher             "exact": the expectation over the model's labels, in closed form. "sampled": one draw
                       of labels. "empirical": of the targets, which is not the Fisher
    solver             "cg": conjugate gradients, at most cg_iterations products a step, until the residual is
                       cg_tolerance |g|; they start at warm_start times the last solution. "exact": F itself
                       by n products, and its eigenvalues: for small nets. ValueError, with the bytes, where
                       F would take more than max_bytes
    levenberg_marquardt  the damping follows how well the quadratic model foretold the loss of the batch:
                       r = (f(p') - f(p)) / (m(p') - m(p));  r > 3/4: damping / 1.5;  r < 1/4: damping 1.5;
                       a step to a larger loss, or none, is taken back, and damping 4. One more call of the
                       closure a step; the group's damping is the present one, in [1e-8, 1e8].
                       [Marquardt 1963]

    F is positive semidefinite, so with damping every solution descends. With damping = 0 "exact" leaves out
    the directions in which the model does not change. A loss or gradient that is not finite moves nothing.
    Everything is in float32, or wider where a parameter is; the "exact" solver in float64.
    [Amari 1998, Natural gradient works efficiently in learning; Martens 2020, section 9]
    """

    vectors = ("previous",)
    ranges = {
        "damping": Range("damping value"),
        "warm_start": Range("warm_start value"),
        "cg_tolerance": Range("cg_tolerance value"),
    }
    record = Record(
        year=1998,
        paper="Amari, Natural gradient works efficiently in learning, Neural Computation 10(2), 1998, eq. 3;"
        " by products and conjugate gradients as Martens 2010",
        latex=r"\theta \leftarrow \theta - \eta\, (F + \gamma I)^{-1} g, \quad"
        r" F = E_{y \sim p_\theta}[\nabla \log p_\theta(y)\, \nabla \log p_\theta(y)^\top]",
        oracles=(),
        kind="global",
        needs=("closure", "outputs"),
        launches="array code",
        proof="tests/test_natural.py",
        presets={"paper": dict(solver="exact", damping=0.0)},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.3,
        damping: float = 1e-1,
        *,
        loss: str = "cross_entropy",
        fisher: str = "exact",
        solver: str = "cg",
        cg_iterations: int = 10,
        cg_tolerance: float = 1e-3,
        warm_start: float = 0.0,
        levenberg_marquardt: bool = False,
        max_bytes: int = LIMIT,
        outputs: Callable[[], Any] | None = None,
    ):
        options: dict[str, Any] = dict(lr=lr, damping=damping, loss=loss, fisher=fisher, solver=solver)
        options |= dict(cg_iterations=cg_iterations, cg_tolerance=cg_tolerance, warm_start=warm_start)
        options |= dict(levenberg_marquardt=levenberg_marquardt, max_bytes=max_bytes)
        super().__init__(params, options)
        self.outputs = outputs

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"outputs": None}  # a function of the program, not of the state

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        rule = type(self).__name__
        known(rule, group["loss"], group["fisher"])
        if group["solver"] not in SOLVERS:
            names = ", ".join(map(repr, SOLVERS))
            raise ValueError(f"{rule}: Invalid solver: {group['solver']!r}; it is one of {names}")
        for name in ("cg_iterations", "max_bytes"):
            check_count(rule, f"{name} value", group[name])

    # ------------------------------------------------------------------------------------------------- a step

    def minimize(self, objective: Objective, group: dict[str, Any], memory: dict[str, Any]) -> None:
        flat = objective.flat
        if self.outputs is None:
            raise ValueError(
                "NaturalGradient: it needs the model's outputs: set optimizer.outputs to a function without "
                "arguments, as optimizer.outputs = lambda: model(x)"
            )
        if group["solver"] == "exact":
            refuse("NaturalGradient", flat.size, 8, group["max_bytes"])
        f, g = self.ask(objective)
        memory["step"] = memory.get("step", 0) + 1
        if not math.isfinite(f) or not finite(g):
            return
        product = self.products(objective, group)
        damping = float(group["damping"])

        def damped(v: Array) -> Array:
            return product(v) + times(damping, v)

        d = self.direction(flat, damped, product, g, group, memory)
        if not finite(d):
            return
        lr, x = float(group["lr"]), flat.read()
        after = x - times(lr, d)
        if not group["levenberg_marquardt"]:
            flat.write(after)
            return
        foretold = -lr * float(dot(g, d)) + lr * lr / 2 * float(dot(d, damped(d)))
        reached, _ = objective.at(after)
        ratio = (reached - f) / foretold if foretold < 0 else 0.0
        if not reached <= f:
            flat.write(x)
        change = 4 if not reached <= f else 1.5 if ratio < 0.25 else 1 / 1.5 if ratio > 0.75 else 1
        group["damping"] = min(max(damping * change, DAMPINGS[0]), DAMPINGS[1])

    def products(self, objective: Objective, group: dict[str, Any]) -> Callable[[Array], Array]:
        """v -> F v at the parameters, from one pass of `outputs`, with the closure's dropout."""
        flat, function = objective.flat, self.outputs
        assert function is not None
        draws, random.default_generator.offset = random.default_generator.offset, objective.draws
        try:
            with hold(), enable_grad():
                found = function()
        finally:
            random.default_generator.offset = max(draws, random.default_generator.offset)
        outputs, targets = found if isinstance(found, tuple) else (found, None)
        asked = [p for p in flat.params if p.requires_grad]
        fisher = Fisher(outputs, asked, group["loss"], kind=group["fisher"], targets=targets)

        def product(v: Array) -> Array:
            along = dict(zip(map(id, flat.params), flat.tensors(v), strict=True))
            found = dict(zip(map(id, asked), fisher([along[id(p)] for p in asked]), strict=True))
            return flat.gather([found.get(id(p)) for p in flat.params])

        return product

    def direction(
        self,
        flat: Flat,
        damped: Callable[[Array], Array],
        product: Callable[[Array], Array],
        g: Array,
        group: dict[str, Any],
        memory: dict[str, Any],
    ) -> Array:
        """(F + damping I)^-1 g"""
        if group["solver"] == "exact":
            return exactly(product, g, float(group["damping"]))
        first = None
        if group["warm_start"] and "previous" in memory:
            first = times(float(group["warm_start"]), flat.here(memory["previous"]))
        bounds = dict(rtol=float(group["cg_tolerance"]), maxiter=int(group["cg_iterations"]))
        d = conjugate_gradient(damped, g, first, **bounds).x  # type: ignore[arg-type]
        if group["warm_start"]:
            memory["previous"] = Tensor(d)
        return d


def exactly(product: Callable[[Array], Array], g: Array, damping: float) -> Array:
    """(F + damping I)^-1 g by F itself, in float64; no part where F + damping I vanishes to rounding."""
    xp, n = xp_of(g), g.size
    kind = np.dtype(np.float64)
    fisher = xp.zeros((n, n), kind)
    unit = xp.zeros((n,), g.dtype)
    for k in range(n):
        unit[k] = 1
        fisher[:, k] = product(unit)
        unit[k] = 0
    w, v = eigh((fisher + fisher.T) * 0.5)
    w = xp.maximum(w, 0) + damping
    floor = n * float(np.finfo(g.dtype).eps) * w.max()
    inverse = xp.where(w > floor, 1 / xp.maximum(w, 1e-300), 0)
    return (v @ (inverse * (v.T @ g.astype(kind)))).astype(g.dtype)
