"""Optimizers that see all parameters as one vector: f(x), its gradient, products with its Hessian.

`Objective` is the closure as a function of x, and counts its calls; `Hessian` multiplies by the graph of its
last loss; `WholeVector` is the base of the optimizers, whose subclasses write minimize(objective, ...).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from .. import random
from ..autograd import Node, grad
from ..backend import SILENT, Array, hush, unhush, xp_of
from ..grad_mode import enable_grad, graphs_retained
from ..statistics import hold
from ..tensor import Tensor
from . import state as states
from .excursion import remembered
from .flat import Flat, dot, finite, largest, moved
from .line_search import Point
from .optimizer import Optimizer


class Objective:
    """closure as f: R^n -> R with its gradient. `evaluations` counts the calls.

    The first call is the step's own. Every later one is a trial: running statistics hold still
    (minigrad.statistics) and dropout draws the masks of the first, so that all values are of one function.
    """

    def __init__(self, flat: Flat, closure: Callable[[], Any]):
        self.flat, self.closure = flat, closure
        self.evaluations = 0
        self.draws = random.default_generator.offset
        self.loss: Any = None  # what the first call returned
        self.eps = float(np.finfo(np.float64).eps)  # rounding of a loss, relative to it

    def here(self, graph: bool = False) -> tuple[float, Array]:
        """(f, g) where the parameters are. With graph the loss's graph is kept, for `hessian`."""
        trial = self.evaluations > 0
        if trial:
            random.default_generator.offset = self.draws
        self.evaluations += 1
        with enable_grad(), hold() if trial else nullcontext(), graphs_retained() if graph else nullcontext():
            self.last = self.closure()
        if not trial:
            self.loss = self.last
        if isinstance(self.last, Tensor):
            if self.last.array.size != 1:
                raise ValueError(
                    f"the closure returned a Tensor of shape {list(self.last.shape)}; it must return the "
                    "loss, a single number"
                )
            if self.last.dtype.is_floating_point:
                self.eps = {2: 1e-3, 4: 1.2e-7}.get(self.last.dtype.itemsize, 2.3e-16)
        elif self.last is None:
            raise TypeError("the closure returned None; it must call backward() and return the loss")
        return float(self.last), self.flat.gradient()

    def at(self, x: Array, graph: bool = False) -> tuple[float, Array]:
        """(f, g) at x; the parameters stay there. f is +inf where loss or gradient is not finite."""
        self.flat.write(x)
        f, g = self.here(graph)
        return (f, g) if math.isfinite(f) and finite(g) else (math.inf, g)

    def along(self, x: Array, d: Array, graph: bool = False) -> Callable[[float], Point]:
        """t -> the loss at x + t d and its slope there, with the gradient in `held`."""

        def phi(t: float) -> Point:
            f, g = self.at(moved(x, t, d), graph)
            return Point(t, f, float(dot(g, d)), g)

        return phi

    def hessian(self) -> Hessian:
        """The Hessian where the last call with graph=True was."""
        return Hessian(self.flat, self.last)


class Hessian:
    """v -> H v of a loss by its graph: the gradient of <g, v>, H is never built. `products` counts.

        with Hessian(flat, loss) as H: ... H(v)

    The graph is freed at the end. TypeError for a loss without a graph.
    """

    def __init__(self, flat: Flat, loss: Any):
        if not isinstance(loss, Tensor) or not loss.requires_grad or loss.array.size != 1:
            raise TypeError(
                f"Hessian-vector products need the loss with its graph, the closure gave a "
                f"{type(loss).__name__} without one: return the loss as it is, without .item() or .detach()"
            )
        self.flat, self.loss, self.products = flat, loss, 0
        asked = [p for p in flat.params if p.requires_grad]
        with enable_grad():
            found = dict(zip(asked, grad(loss, asked, create_graph=True, allow_unused=True), strict=True))
        self.firsts = [found.get(p) for p in flat.params]

    def __enter__(self) -> Hessian:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.firsts = []
        release(self.loss)

    def __call__(self, v: Array) -> Array:
        """H v; parts that the loss is linear in are zero."""
        self.products += 1
        along = self.flat.tensors(v)
        pairs = [(g, d) for g, d in zip(self.firsts, along, strict=True) if g is not None and g.requires_grad]
        if not pairs:
            return self.flat.zeros()
        asked = [p for p in self.flat.params if p.requires_grad]
        firsts, seeds = zip(*pairs, strict=True)
        products = grad(list(firsts), asked, list(seeds), retain_graph=True, allow_unused=True)
        found = dict(zip(asked, products, strict=True))
        return self.flat.gather([found.get(p) for p in self.flat.params])


def release(loss: Tensor) -> None:
    """Drop what the graph of a loss holds, as a backward pass without retain_graph does."""
    stack: list[Any] = [loss.node]
    while stack:
        node = stack.pop()
        if type(node) is Node and node.saved is not None:
            stack += node.edges
            node.saved, node.edges = None, ()


class WholeVector(Optimizer):
    """Base of optimizers that see all parameters as one vector and call the closure several times a step.

    A subclass writes minimize(); its state, of the whole vector, stands under the first parameter, as
    PyTorch's L-BFGS has it: `vectors` name the entries that are vectors, or lists of them. They are saved in
    the order of the parameters, and loaded by name where both sides have names. There is one group.

    A step that raises, in the closure at whichever call or by itself, has not happened: parameters and state
    are those before it, to the bit. For that minimize() replaces what the state holds, or changes its lists.
    """

    vectors: tuple[str, ...] = ()

    def minimize(self, objective: Objective, group: dict[str, Any], memory: dict[str, Any]) -> None:
        """One step, from where the parameters are; `memory` is the state, {} at first."""
        raise TypeError(f"{type(self).__name__} defines no minimize")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; closure() computes loss and gradients, and is called several times. Returns its first
        loss, that of the parameters before the step."""
        args, kwargs, closure = self.entering(closure)
        if closure is None:
            raise TypeError(
                f"{type(self).__name__}: step() takes a closure that computes loss and gradients, and is "
                "called several times: step(closure)"
            )
        group = self.param_groups[0]
        objective = Objective(Flat(group["params"], self.label), closure)
        token = hush(SILENT)
        try:
            with self.undivided(group["params"]):
                self.minimize(objective, group, self.own[group["params"][0]])
        finally:
            unhush(token)
        self.leaving(args, kwargs)
        return objective.loss

    @contextmanager
    def undivided(self, params: Sequence[Tensor]) -> Iterator[None]:
        """All that happens inside to parameters and state, or, if it raises, nothing."""
        back, state = remembered(params), {}
        for p, memory in self.own.items():
            state[p] = {k: list(v) if isinstance(v, list) else v for k, v in memory.items()}
        try:
            yield
        except BaseException:
            back()
            self.own.clear()
            self.own.update(state)
            raise

    def ask(self, objective: Objective, graph: bool = False) -> tuple[float, Array]:
        """(f, g) at the beginning of a step; hooks that change gradients have changed them."""
        f, g = objective.here(graph)
        if self.ready:
            self.telling("ready")
            g = objective.flat.gradient()
        return f, g

    def settled(
        self, objective: Objective, group: dict[str, Any], g: Array, moved: float, change: float
    ) -> bool:
        """Is this step done: no evaluations left, no gradient, or neither parameters nor loss moved?"""
        return (
            objective.evaluations >= group["max_eval"]
            or largest(g) <= group["tolerance_grad"]
            or moved <= group["tolerance_change"]
            or abs(change) < group["tolerance_change"]
        )

    def group(self, given: dict[str, Any]) -> dict[str, Any]:
        if self.param_groups:
            raise ValueError(
                f"{type(self).__name__} doesn't support per-parameter options (parameter groups): it sees "
                "all parameters as one vector; give it one list of parameters"
            )
        return super().group(given)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            super().load_state_dict(state_dict)  # says what is wrong
        what = f"load_state_dict of {type(self).__name__}"
        ((_, saved, members),) = states.matched(what, self, list(state_dict["param_groups"]))
        kept, sizes = state_dict["state"], {index: p.array.size for p, _, index in members}
        order = [index for _, _, index in members]
        first = saved["params"][0]
        stored = dict(kept.get(first, kept.get(str(first), {})))
        stops = np.cumsum([sizes[k] for k in saved["params"]]).tolist()
        parts = {k: slice(a, b) for k, a, b in zip(saved["params"], [0, *stops], stops, strict=False)}

        def ordered(name: str, v: Any) -> Tensor:
            a = states.array_of(v).reshape(-1)
            if a.size != stops[-1]:
                raise ValueError(f"{what}: {name!r} has {a.size} elements, the parameters {stops[-1]}")
            return Tensor(xp_of(a).concatenate([a[parts[k]] for k in order]))

        for name, value in stored.items():
            if name not in self.vectors or value is None:
                stored[name] = plain(value)
            elif isinstance(value, (list, tuple)):
                stored[name] = [ordered(name, v) for v in value]
            else:
                stored[name] = ordered(name, value)
        super().load_state_dict({**state_dict, "state": {order[0]: stored} if stored else {}})
        for p in [p for p, held in self.own.items() if not held]:
            del self.own[p]


def plain(value: Any) -> Any:
    """A number of a state, or a list of them, as we keep it: 0-d Tensors for another framework's."""
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    foreign = hasattr(value, "detach") and not isinstance(value, Tensor)
    return Tensor(np.array(states.array_of(value), np.float64)) if foreign else value
