"""L-BFGS: Newton's direction from the last few changes of parameters and gradient.

    s = x' - x,   y = g' - g      pairs of the last history_size iterations; B s = y is asked of the Hessian
    d = -H g                      H from H0 = (s.y / y.y) I by one rank-two correction a pair, never built:

    q = g;   for pairs from the latest:   a = s.q / s.y,  q -= a y
    r = H0 q;  for pairs from the oldest: b = y.r / s.y,  r += (a - b) s;      d = -r

Each correction keeps H positive definite if s.y > 0, which Wolfe's conditions ensure; a pair without is left
out. [Nocedal 1980; Liu & Nocedal 1989; Nocedal & Wright 2006, algorithms 7.4 and 7.5]
"""

from __future__ import annotations

import math
from typing import Any

from ..backend import Array, xp_of
from ..tensor import Tensor
from .flat import Flat, dot, largest, moved, shift, times
from .groups import Range
from .line_search import Found, Point, strong_wolfe
from .record import Record
from .whole import Objective, WholeVector


class LBFGS(WholeVector):
    """x <- x + t d,   d = -H g, H of the last history_size pairs (s, y)

        optimizer.step(closure)      # closure: zero_grad, forward, backward, return the loss

    A step is max_iter iterations or max_eval evaluations (default 5/4 max_iter) of one and the same function,
    so all data belong to it, or a batch that stays for the step. It ends earlier when no |g| is above
    tolerance_grad, no parameter moved further than tolerance_change, or the loss changed by less; the history
    goes on in the next step.

    line_search_fn None goes t = lr, in the first iteration lr min(1, 1 / |g|_1). "strong_wolfe" begins there
    and searches (line_search.py; c1 = 1e-4, c2 = 0.9): the loss never rises, also where it is inf or nan
    beside the path. Without search it may; where it is no longer finite, the step ends at the place before,
    and the history is forgotten. From a loss or gradient that is not finite no step is made.

    lr >= 0 (a number or a 0-d Tensor), max_iter, max_eval, history_size at least 1, tolerances >= 0. One
    group: ValueError for several. It takes 2 history_size + 4 vectors. Arguments, defaults and state are
    PyTorch's. A pair counts if s.y > 1e-10, as there; with search, where Wolfe's conditions see to its sign,
    if s.y exceeds the rounding of |s| |y|: an absolute threshold ends the superlinear convergence when
    steps become small. [Liu & Nocedal 1989, algorithm 2.1]
    """

    vectors = ("d", "prev_flat_grad", "old_dirs", "old_stps")
    ranges = {
        "max_iter": Range("max_iter", 1),
        "max_eval": Range("max_eval", 1),
        "history_size": Range("history_size", 1),
        "tolerance_grad": Range("tolerance_grad"),
        "tolerance_change": Range("tolerance_change"),
    }
    record = Record(
        year=1980,
        paper="Nocedal, Updating quasi-Newton matrices with limited storage; Liu & Nocedal, On the limited "
        "memory BFGS method for large scale optimization, 1989, algorithm 2.1",
        latex=r"\theta \leftarrow \theta - t H g, \quad H \leftarrow V^\top H V + \rho s s^\top, \quad"
        r" V = I - \rho y s^\top, \quad \rho = 1/y^\top s",
        oracles=("torch",),
        kind="global",
        needs=("closure",),
        state="8 and 8 a pair, of at most history_size",
        launches="10 an iteration and pair",
        proof="tests/test_lbfgs.py",
        presets={
            "torch": {},
            "paper": dict(history_size=5, line_search_fn="strong_wolfe"),
            "optax": dict(history_size=10, line_search_fn="strong_wolfe"),
        },
    )

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ):
        if max_eval is None:
            max_eval = max(max_iter * 5 // 4, 1)
        options = dict(lr=lr, max_iter=max_iter, max_eval=max_eval, tolerance_grad=tolerance_grad)
        options |= dict(tolerance_change=tolerance_change, history_size=history_size)
        super().__init__(params, options | dict(line_search_fn=line_search_fn))

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(
                f"LBFGS: Invalid line_search_fn: {group['line_search_fn']!r}; only 'strong_wolfe' is "
                "supported, or None for none"
            )

    def minimize(self, objective: Objective, group: dict[str, Any], memory: dict[str, Any]) -> None:
        flat, tolerance = objective.flat, group["tolerance_change"]
        taken, lr = memory.setdefault("func_evals", 0), float(group["lr"])
        memory.setdefault("n_iter", 0)
        f, g = self.ask(objective)
        memory["func_evals"] = taken + 1
        peak = largest(g)
        if not math.isfinite(f + peak) or peak <= group["tolerance_grad"]:
            return
        x = flat.read()
        for k in range(group["max_iter"]):
            memory["n_iter"] += 1
            first = "d" not in memory
            d = self.direction(flat, memory, g)
            slope = float(dot(g, d))
            if not slope < 0 and not first:  # only rounding can do that
                first, d = True, self.restart(memory, g)
                slope = float(dot(g, d))
            t = lr * min(1.0, 1 / float(xp_of(g).abs(g).sum())) if first else lr
            before = f
            memory |= dict(d=Tensor(d), t=t, prev_flat_grad=Tensor(g), prev_loss=f)
            if slope > -tolerance or not t:
                break
            old = x
            if group["line_search_fn"] is None:
                x = moved(x, t, d)
                flat.write(x)
                if k + 1 < group["max_iter"]:  # whatever comes next begins with an evaluation of its own
                    f, g = objective.at(x)
                    if math.isinf(f):
                        flat.write(old)
                        self.forget(memory)
                        break
            else:
                found = self.search(objective, group, x, d, Point(0.0, f, slope, g), t)
                if not found.moved:  # nothing better that way
                    flat.write(old)
                    self.forget(memory)
                    if first or objective.evaluations >= group["max_eval"]:
                        break
                    continue
                memory["t"] = t = found.point.t
                f, g = found.point.f, found.point.held
                x = moved(x, t, d)
                flat.write(x)
            last = k + 1 == group["max_iter"]
            if last or self.settled(objective, group, g, t * largest(d), f - before):
                break
        memory["func_evals"] = taken + objective.evaluations

    def search(
        self, objective: Objective, group: dict[str, Any], x: Array, d: Array, start: Point, t: float
    ) -> Found:
        """Along d from x, with what is left of max_eval."""
        left = group["max_eval"] - objective.evaluations
        narrow = group["tolerance_change"] / largest(d)
        return strong_wolfe(objective.along(x, d), start, t, 1e-4, 0.9, left, objective.eps, narrow)

    def direction(self, flat: Flat, memory: dict[str, Any], g: Array) -> Array:
        """-H g, the latest pair taken into the history."""
        if "d" not in memory:
            return self.restart(memory, g)
        y = g - flat.here(memory["prev_flat_grad"])
        s = times(float(memory["t"]), flat.here(memory["d"]))
        ys, yy = dot(y, s), dot(y, y)
        group = self.param_groups[0]
        least = 1e-10
        if group["line_search_fn"] is not None:
            least = flat.eps * math.sqrt(float(yy)) * math.sqrt(float(dot(s, s)))
        if float(ys) > least:
            kept = (memory["old_dirs"], memory["old_stps"], memory["ro"])
            if len(kept[0]) >= group["history_size"]:
                for pairs in kept:
                    del pairs[0]
            for pairs, value in zip(kept, (y, s, 1 / ys), strict=True):
                pairs.append(held(value))
            memory["H_diag"] = held(ys / yy)
        ys_, ss = ([flat.here(v) for v in memory[name]] for name in ("old_dirs", "old_stps"))
        inverse = [number(v) for v in memory["ro"]]
        a = []
        q = -g
        for y, s, rho in zip(reversed(ys_), reversed(ss), reversed(inverse), strict=True):
            a.append(dot(s, q) * rho)
            shift(q, -a[-1], y)
        r = times(number(memory["H_diag"]), q)
        for y, s, rho in zip(ys_, ss, inverse, strict=True):
            shift(r, a.pop() - dot(y, r) * rho, s)
        return r

    def restart(self, memory: dict[str, Any], g: Array) -> Array:
        """-g, with an empty history."""
        memory |= dict(old_dirs=[], old_stps=[], ro=[], H_diag=1)
        return -g

    def forget(self, memory: dict[str, Any]) -> None:
        """The next direction is the steepest."""
        for name in ("d", "t", "old_dirs", "old_stps", "ro", "H_diag", "prev_flat_grad", "prev_loss"):
            memory.pop(name, None)


def held(value: Array) -> Tensor:
    """A vector or number as a state keeps it."""
    return Tensor(xp_of(value).asarray(value))


def number(value: Any) -> Any:
    """A number of a state as arithmetic takes it: a 0-d array, where it is one."""
    return value.array if isinstance(value, Tensor) else value
