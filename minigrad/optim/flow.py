"""Descent as a differential equation: the path of gradient descent, or Nesterov's method, with tiny steps.

    dx/dt = -grad f(x)                      the gradient flow; Euler's step of length lr is gradient descent
    x'' + (r / t) x' + grad f(x) = 0        Nesterov's method, whose momentum is a friction that fades

A step of the optimizer is a time lr on such a path, by a Runge-Kutta method: slopes k_1 ... k_s, each taken
where the ones before it lead,

    k_i = F(t + c_i h, z + h sum_j a_ij k_j),       z <- z + h sum_i b_i k_i

Euler's error after a fixed time is O(h), that of the classical method O(h^4). The pair of Dormand and Prince
has two sets b, of orders 5 and 4; their difference measures the error, and h is chosen by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import Array, to_host, xp_of
from ..tensor import Tensor
from .flat import finite, times
from .groups import Range
from .record import Record
from .whole import Objective, WholeVector

Slope = Callable[[float, Array], Array]  # F(t, z)


@dataclass(frozen=True)
class Tableau:
    """A Runge-Kutta method: row i of `a` has one entry for each slope before it; `error` is b - b*."""

    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    error: tuple[float, ...] = ()

    def times(self) -> list[float]:
        """c_i, where in the step a slope is taken: the sums of the rows."""
        return [math.fsum(row) for row in self.a]


METHODS = {
    "euler": Tableau(1, ((),), (1.0,)),
    "midpoint": Tableau(2, ((), (1 / 2,)), (0.0, 1.0)),
    "rk4": Tableau(4, ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
    "rk45": Tableau(  # [Dormand & Prince 1980]; the last slope is the first of the next step
        5,
        (
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
        (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    ),
}


def stages(method: Tableau, slope: Slope, t: float, z: Array, h: float, first: Array) -> list[Array]:
    """The slopes k_1 ... k_s of a step from (t, z); k_1 is known."""
    found = [first]
    for row, c in list(zip(method.a, method.times(), strict=True))[1:]:
        found.append(slope(t + c * h, moved(z, h, row, found)))
    return found


def moved(z: Array, h: float, weights: tuple[float, ...], slopes: list[Array]) -> Array:
    """z + h sum_i w_i k_i, in the order of i, in z's type."""
    for w, k in zip(weights, slopes, strict=True):
        if w:
            z = z + times(h * w, k)
    return z


class Flow(WholeVector):
    """What both flows share: a step goes a time lr along z' = F(t, z).

    rk45 takes as many steps h inside as its tolerances ask for, and begins the next one with the h that it
    found. Where loss or gradient is not finite it takes a shorter h; the other methods raise RuntimeError,
    and the parameters are those before the step. So does rk45 after max_evaluations calls of the closure.
    """

    ranges = {
        "rtol": Range("rtol value", above=True),
        "atol": Range("atol value", above=True),
        "max_evaluations": Range("max_evaluations", 7),
    }

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["method"] not in METHODS:
            known = ", ".join(METHODS)
            raise ValueError(
                f"{type(self).__name__}: Invalid method: {group['method']!r}; it is one of {known}"
            )

    def first(self, x: Array, memory: dict[str, Any], objective: Objective) -> Array:
        """z at the beginning of a step."""
        return x

    def slope(self, t: float, z: Array, g: Array, group: dict[str, Any]) -> Array:
        """F(t, z), with the gradient g at the position in z."""
        raise TypeError(f"{type(self).__name__} defines no slope")

    def keep(self, z: Array, memory: dict[str, Any]) -> None:
        """Put aside what z has besides the position."""

    def minimize(self, objective: Objective, group: dict[str, Any], memory: dict[str, Any]) -> None:
        flat, lr, n = objective.flat, float(group["lr"]), objective.flat.size
        loss, gradient = self.ask(objective)
        x = flat.read()
        if not (math.isfinite(loss) and finite(gradient)):
            raise RuntimeError(f"{type(self).__name__}: loss {loss} or its gradient is not finite")
        if lr == 0:
            return
        t, z = memory.get("time", 0.0), self.first(x, memory, objective)

        def slope(at: float, there: Array) -> Array:
            f, g = objective.at(there[:n])
            return self.slope(at, there, g if math.isfinite(f) else g + g.dtype.type(math.nan), group)

        k = self.slope(t, z, gradient, group)
        method = METHODS[group["method"]]
        if method.error:
            z, memory["h"] = self.adaptive(method, slope, t, z, k, group, objective, memory.get("h", lr))
        else:
            z = moved(z, lr, method.b, stages(method, slope, t, z, lr, k))
        if not finite(z):
            raise RuntimeError(
                f"{type(self).__name__}: loss or gradient is not finite between t = {t:g} and "
                f"{t + lr:g}; take a smaller lr, or method='rk45', which shortens its steps there"
            )
        flat.write(z[:n])
        self.keep(z, memory)
        memory["step"], memory["time"] = memory.get("step", 0) + 1, t + lr

    def adaptive(
        self,
        method: Tableau,
        slope: Slope,
        t: float,
        z: Array,
        k: Array,
        group: dict[str, Any],
        objective: Objective,
        h: float,
    ) -> tuple[Array, float]:
        """From t to t + lr with steps whose error is within the tolerances; (z, the next h).

        The error is the root mean square of e / (atol + rtol max(|z|, |z'|)); a step is accepted up to 1, and
        h changes by 0.9 error^(-1/5), at most tenfold up and fivefold down. [Hairer, Norsett & Wanner 1993,
        II.4]
        """
        lr, limit = float(group["lr"]), int(group["max_evaluations"])
        gone = 0.0
        while gone < lr:
            step = min(h, lr - gone)
            if objective.evaluations + len(method.b) - 1 > limit or t + gone + step == t + gone:
                raise RuntimeError(
                    f"{type(self).__name__}: {objective.evaluations} evaluations came to t = {t + gone:.6g} "
                    f"of {t + lr:.6g}, the next step is {step:.2g}; take a smaller lr, larger rtol and atol, "
                    f"or more max_evaluations than {limit}"
                )
            slopes = stages(method, slope, t + gone, z, step, k)
            after = moved(z, step, method.b, slopes)
            off = moved(z - z, step, method.error, slopes)
            error = self.error(off, z, after, group)
            if error <= 1:
                gone = lr if step == lr - gone else gone + step
                z, k = after, slopes[-1]
            grow = 10.0 if error == 0 else 0.9 * error ** (-1 / method.order) if error < math.inf else 0.0
            new = step * min(10.0, max(0.2, grow))
            h = max(h, new) if error <= 1 and step < h else new  # a last, short step says little about h
        return z, h

    @staticmethod
    def error(off: Array, z: Array, after: Array, group: dict[str, Any]) -> float:
        """The error of a step in units of its tolerance; inf where something is not finite."""
        xp = xp_of(z)
        scale = xp.maximum(xp.abs(z), xp.abs(after)) * z.dtype.type(group["rtol"]) + z.dtype.type(
            group["atol"]
        )
        found = float(to_host(xp.mean((off / scale) ** 2, dtype=np.float64))) ** 0.5 if z.size else 0.0
        return found if math.isfinite(found) else math.inf


class GradientFlow(Flow):
    """dx/dt = -grad f(x): a step goes a time lr along the flow of steepest descent.

        optimizer.step(closure)      # closure: zero_grad, forward, backward, return the loss

    method: "euler" (one evaluation a step; gradient descent bit for bit, order 1), "midpoint" (two, order 2),
    "rk4" (four, order 4) or "rk45" (six for each step inside, order 5, error control by rtol > 0 and
    atol > 0; at most max_evaluations >= 7 a step, else RuntimeError). lr >= 0 is the time of a step. On a
    quadratic whose largest curvature is L, steps are stable up to lr L = 2 with Euler and the midpoint, up to
    2.78 with rk4.

    f never rises along the exact flow: df/dt = -|grad f|^2. All evaluations of a step are of one function:
    same data, same dropout masks. state: step, time, and h of rk45.
    [Cauchy 1847; Runge 1895, Kutta 1901; Dormand & Prince 1980]
    """

    record = Record(
        year=1980,
        paper="Dormand & Prince, A family of embedded Runge-Kutta formulae, J. Comp. Appl. Math. 6, 1980; "
        "the flow is Cauchy's, Méthode générale pour la résolution des systèmes d'équations, 1847",
        latex=r"\dot\theta = -\nabla L(\theta)",
        oracles=("scipy",),
        kind="global",
        needs=("closure",),
        launches="array code",
        proof="tests/test_flow.py",
        presets={"S3": dict(method="euler")},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        method: str = "rk4",
        rtol: float = 1e-3,
        atol: float = 1e-6,
        max_evaluations: int = 1000,
    ):
        options = dict(lr=lr, method=method, rtol=rtol, atol=atol, max_evaluations=max_evaluations)
        super().__init__(params, options)

    def slope(self, t: float, z: Array, g: Array, group: dict[str, Any]) -> Array:
        return -g


class NesterovFlow(Flow):
    """x'' + (friction / t) x' + grad f(x) = 0,  x'(0) = 0: a step goes a time lr along Nesterov's flow.

    With friction = 3 it is the limit of Nesterov's accelerated gradient for small steps s, where k steps are
    the time k sqrt(s): so lr is about the square root of a learning rate. For convex f and friction >= 3

        f(x(t)) - f* <= (friction - 1)^2 |x(0) - x*|^2 / (2 t^2)

    f itself goes up and down on the way; what never rises for friction = 3 is the energy
    t^2 (f - f*) + 2 |x + (t / 2) x' - x*|^2. At t = 0 the friction is infinite and the velocity zero; their
    product is such that x''(0) = -grad f / (1 + friction).

    method, rtol, atol, max_evaluations as in GradientFlow. friction > 0. state: step, time, velocity, h.
    [Su, Boyd & Candès 2014, eq. 3 and theorems 3 and 5]
    """

    vectors = ("velocity",)
    ranges = Flow.ranges | {"friction": Range("friction value", above=True)}
    record = Record(
        year=2014,
        paper="Su, Boyd & Candès, A differential equation for modeling Nesterov's accelerated gradient "
        "method, NeurIPS 2014, arXiv:1503.01243, eq. 3",
        latex=r"\ddot\theta + \frac{3}{t}\dot\theta + \nabla L(\theta) = 0",
        oracles=("scipy",),
        kind="global",
        needs=("closure",),
        launches="array code",
        proof="tests/test_flow.py",
        presets={"paper": {}},
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.1,
        friction: float = 3.0,
        method: str = "rk4",
        rtol: float = 1e-3,
        atol: float = 1e-6,
        max_evaluations: int = 1000,
    ):
        options = dict(lr=lr, friction=friction, method=method, rtol=rtol, atol=atol)
        super().__init__(params, options | dict(max_evaluations=max_evaluations))

    def first(self, x: Array, memory: dict[str, Any], objective: Objective) -> Array:
        flat = objective.flat
        v = flat.here(memory["velocity"]) if "velocity" in memory else flat.zeros()
        return xp_of(x).concatenate((x, v))

    def slope(self, t: float, z: Array, g: Array, group: dict[str, Any]) -> Array:
        v, friction = z[g.size :], float(group["friction"])
        slowed = times(-1 / (1 + friction), g) if t == 0 else -g - times(friction / t, v)
        return xp_of(z).concatenate((v, slowed))

    def keep(self, z: Array, memory: dict[str, Any]) -> None:
        memory["velocity"] = Tensor(z[z.size // 2 :].copy())
