"""Reverse-mode differentiation: the whole of backpropagation, in one sitting.

An *operation* is a function on arrays, and beside it, for each argument, its vector-Jacobian product
("vjp"): given g, the gradient of the loss with respect to the output, the gradient with respect to that
argument.

    @op
    def mul(a, b):
        return a * b

    mul.vjp(a=lambda g, b: g * b, b=lambda g, a: g * a)

A vjp names what it needs: an argument of the forward, `y` (the output), or `aux` (what the forward put
aside). Just that is kept alive until the backward pass. Calling an operation on Tensors that require
gradients records a `Node`: which operation, where its inputs came from (`edges`), and what was kept
(`saved`). Nodes point to older nodes only, so there are no reference cycles, and creation order is a
topological order.

Backward takes the youngest node that has a gradient, applies its vjps, hands the results along the edges, and
goes on until none is left: a loop over a heap, no recursion, so depth is bounded by memory alone. Vjps are
written on Tensors; with `create_graph=True` they are recorded like any other computation, and so gradients
have gradients, to any order.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from heapq import heappop, heappush, heappushpop
from typing import Any

import numpy as np

from kernels.cuda import graph

from .backend import SILENT, hush, unhush
from .grad_mode import mode
from .hooks import hooked
from .separate import own, separate
from .slot import added, filled, into, noted, once, place
from .tensor import UNCHANGED, Tensor
from .unrolled import explained, first_call, handed_on, parameters_of, pullback_of, versions_of

# --------------------------------------------------------------------------------------- operations and nodes

_clock = itertools.count()


class Node:
    """One recorded operation: the way from an output Tensor back to its inputs.

    op      which operation
    born    when: ages give the order of the backward pass
    edges   for each argument that has a vjp: the Node it came from, a leaf Tensor, or None: no gradient flows
    saved   what the vjps asked for (Op.kept); None once freed
    seen    the versions of the Tensors in saved, added up: they only grow, so an equal sum means unchanged
    shape   of the output
    hooks   of register_hook on the output;  out: after retain_grad(), a weak reference to the output
    """

    __slots__ = ("__weakref__", "born", "edges", "hooks", "op", "out", "saved", "seen", "shape")
    op: Any
    born: int
    edges: tuple
    saved: tuple | None
    seen: int
    shape: tuple[int, ...]
    hooks: dict | None
    out: Any

    def __repr__(self) -> str:
        return f"<{self.op.name}>"


class Op:
    """What is known of an operation: its forward, and how its gradients are made."""

    def __init__(self, forward: Callable, view: bool, aux: bool, adds: bool):
        self.name, self.view, self.aux, self.adds = forward.__name__.strip("_"), view, aux, adds
        self.names, self.variadic = parameters_of(forward)
        self.kept: list[str] = []  # the names that some vjp reads, in the order of `saved`
        self.has_y = False  # whether y is one of them
        self.functions: dict[str, Callable] = {}  # argument -> its vjp as given, in the order of `edges`
        self.vjps: dict[str, Callable] = {}  # argument -> the same as a function of (g, saved)
        self.pullbacks: tuple[Callable, ...] = ()  # the same functions,
        self.quick: tuple[Callable, ...] = ()  # and what a pass that records nothing calls in their place
        self.joint: Callable | None = None  # one function of (g, needed, saved) for all arguments
        self.scope: dict[str, Any] = {
            "Tensor": Tensor, "Node": Node, "mode": mode, "clock": _clock,
            "SILENT": SILENT, "hush": hush, "unhush": unhush, "forward": forward, "record": self,
            "explained": explained, "same": Tensor.detach, "new": Tensor.__new__, "generic": np.generic,
            "asarray": np.asarray, "UNCHANGED": UNCHANGED,
        }  # fmt: skip

    def versions(self, saved: tuple) -> int:
        """The versions of the Tensors in saved, added up."""
        self.versions = versions_of(self, self.scope)  # type: ignore[method-assign]
        return self.versions(saved)

    def pullback(self, function: Callable, skip: int) -> Callable:
        """Note what a vjp reads, beyond its first `skip` parameters; the vjp as a function of `saved`."""
        for name in parameters_of(function)[0][skip:]:
            if name in ("y", "aux") and name in self.names:
                raise TypeError(
                    f"{self.name}: an argument is called {name!r}, which a vjp takes for the output's"
                )
            if name not in ("y", "aux", *self.names):
                raise TypeError(f"{self.name}: a vjp asks for {name!r}, which the operation does not have")
            if name not in self.kept:
                self.kept.append(name)
        self.has_y = "y" in self.kept
        return pullback_of(self, function, skip)


def op(forward: Any = None, *, view: bool = False, aux: bool = False, adds: bool = False) -> Any:
    """Make an operation of a function on arrays. Tensors go in as arrays, other arguments as they are.

    view    the output may share memory with the first argument; then it shares its version
    aux     the forward returns (y, aux), and vjps may ask for aux
    adds    needed[0] may be a Tensor, what came to the first argument from elsewhere: add it to its gradient

    An operation takes all its arguments, positionally; what may be left out is the business of the public
    face. How the call is made fast is the business of unrolled.py.
    """
    if forward is None:
        return functools.partial(op, view=view, aux=aux, adds=adds)
    record = Op(forward, view, aux, adds)
    call = functools.wraps(forward)(first_call(record, record.scope))

    def vjp(**functions: Callable) -> None:
        """`mul.vjp(a=lambda g, b: g * b, ...)`: a function for each argument that has a gradient."""
        record.vjps = {name: record.pullback(f, 1) for name, f in functions.items()}
        record.functions, record.pullbacks = functions, tuple(record.vjps.values())

    def joint_vjp(function: Callable) -> Callable:
        """`@bias_relu.joint_vjp`: one function (g, needed, ...) for all arguments, that share their work.

        It returns a gradient for each argument. needed[k] is False when nobody asks for it, else True, or the
        array that the gradient may be written into.
        """
        record.joint = record.pullback(function, 2)
        return function

    call.op, call.vjp, call.joint_vjp = record, vjp, joint_vjp  # type: ignore[attr-defined]
    return call


# ------------------------------------------------------------------------------------------ the backward pass


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add d(sum of tensors)/d(leaf) to `.grad` of every leaf (or of `inputs` alone), as in PyTorch."""
    outputs, seeds = _roots("backward", tensors, grad_tensors, create_graph)
    retain = create_graph or mode.retained if retain_graph is None else retain_graph
    if inputs is None:
        _run(outputs, seeds, None, retain, create_graph)
        return
    targets = list(dict.fromkeys(_listed(inputs)))
    if not targets:
        raise ValueError("backward: inputs is empty; leave it out to reach every leaf")
    for target, g in zip(targets, _run(outputs, seeds, targets, retain, create_graph), strict=True):
        kept = None if target.node is None else target.node.out
        if g is not None and (kept is None or kept() is not target):  # retain_grad() has filled it
            _accumulate(target, g, create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of sum(outputs * grad_outputs) with respect to inputs, as a tuple; `.grad` is left alone.

    create_graph makes the gradients differentiable themselves. An input that the outputs do not depend on
    raises unless allow_unused (then None) or materialize_grads (then zeros), as torch.autograd.grad.
    """
    roots, seeds = _roots("grad", outputs, grad_outputs, create_graph)
    targets = _listed(inputs)
    for k, target in enumerate(targets):
        if not target.requires_grad:
            raise RuntimeError(
                f"grad: inputs[{k}] does not require gradients; call requires_grad_() before using it"
            )
    if materialize_grads and allow_unused is False:
        raise ValueError("grad: materialize_grads gives zeros for unused inputs; leave allow_unused out")
    results = _run(
        roots, seeds, targets, create_graph if retain_graph is None else retain_graph, create_graph
    )
    for k, g in enumerate(results):
        if g is None and materialize_grads:
            results[k] = targets[k].new_zeros(targets[k].shape)
        elif g is None and not allow_unused:
            raise RuntimeError(
                f"grad: inputs[{k}] was not used in computing outputs; allow_unused=True gives None"
            )
    return tuple(results)


def _listed(tensors: Any) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _roots(name: str, outputs: Any, grads: Any, create_graph: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs as a list, and the gradient to start from at each: what was given, else 1 for a scalar."""
    outputs = _listed(outputs)
    given = [grads] if grads is None or isinstance(grads, Tensor) else list(grads)
    if len(given) == 1 and given[0] is None:
        given *= len(outputs)
    if len(given) != len(outputs):
        raise ValueError(f"{name}: {len(outputs)} outputs but {len(given)} gradients; give one for each")
    seeds = []
    for y, g in zip(outputs, given, strict=True):
        if not y.requires_grad:
            raise RuntimeError(
                f"{name}: the output does not require gradients; no input of it does, or no_grad was on"
            )
        if g is None:
            if y.array.size != 1:
                raise RuntimeError(
                    f"{name}: gradients start from a scalar, the output has shape {tuple(y.shape)}; "
                    "reduce it (.sum(), .mean()) or pass the gradient"
                )
            g = y.unit_gradient()
        elif g.array.shape != y.array.shape or g.array.dtype != y.array.dtype:
            raise ValueError(
                f"{name}: a gradient {g.dtype.name}{list(g.shape)} "
                f"for an output {y.dtype.name}{list(y.shape)}"
            )
        elif not create_graph and name == "backward":
            g = own(g)  # it may be a leaf's .grad, to which this pass adds in place
        seeds.append(g if create_graph else g.detach())
    return outputs, seeds


def _run(
    outputs: list[Tensor], seeds: list[Tensor], targets: list[Tensor] | None, retain: bool, create_graph: bool
) -> list[Tensor | None]:
    """The loop. Gradients of leaves go to `.grad`, or with targets, theirs are returned in order."""
    from .ops import add, sum_to

    if not outputs:
        return [None] * len(targets or ())
    asked: dict | None = None if targets is None else {t.node or t: None for t in targets}
    wanted = None if asked is None else _leading_to(outputs, asked)
    pending: dict[Any, Tensor] = {}  # node, or leaf that has hooks or was asked for -> its gradient so far
    node: Any = Node()
    node.op, node.born, node.edges = _Start(seeds), next(_clock), tuple(y.node or y for y in outputs)
    node.saved, node.hooks, node.out = (), None, None
    pending[node] = seeds[0]
    plain = not create_graph and graph.current() is None  # more is to be done for a leaf otherwise
    heap: list = []  # (-born, node): youngest first; births are unique, so nodes are never compared
    token, before = hush(SILENT), mode.begin_backward(create_graph)
    try:
        while node is not None:
            g = pending.pop(node)
            record, edges, saved = node.op, node.edges, node.saved
            if saved is None or (saved and (record.has_y or record.versions(saved) != node.seen)):
                saved = _checked(node, create_graph)  # which says what is wrong
            if node.hooks is not None:
                g = hooked(node.hooks, g)
            if node.out is not None and (out := node.out()) is not None:
                _accumulate(out, g, create_graph)
            if asked is not None and node in asked:
                asked[node] = g
            joint, follow, sent = record.joint, None, None
            pullbacks = record.pullbacks if create_graph else record.quick
            if joint is not None:
                places = [place(edge, wanted, create_graph) for edge in edges]
                if record.adds and not create_graph and type(edges[0]) is Node and edges[0] in pending:
                    sent = places[0] = pending[edges[0]]
                pullbacks = joint(g, once(edges, places), saved)
            for edge, pullback in zip(edges, pullbacks):
                if edge is None or pullback is None or (wanted is not None and edge not in wanted):
                    continue
                if type(edge) is Node:
                    d = g if pullback is handed_on else pullback(g, saved) if joint is None else pullback
                    if d.array.shape != edge.shape:
                        d = sum_to(d, edge.shape)  # here, and for leaves below, broadcasting is undone
                    if edge in pending:  # never in place: others may hold it
                        pending[edge] = d if sent is not None else add(pending[edge], d)
                        sent = None  # it was for the first edge
                    else:
                        pending[edge] = d
                        if follow is None:
                            follow = edge  # a chain goes on without the heap
                        else:
                            heappush(heap, (-edge.born, edge))
                else:
                    if joint is not None:
                        d = pullback
                    elif edge.slot is None or edge.grad is not None:
                        d = g if pullback is handed_on else pullback(g, saved)
                    else:
                        d = into(place(edge, wanted, create_graph), pullback, g, saved)
                    if d.array.shape != edge.array.shape:
                        d = sum_to(d, edge.array.shape)
                    if asked is not None or edge.hooks is not None:
                        pending[edge] = add(pending[edge], d) if edge in pending else d
                    elif plain and (old := edge.grad) is not None and not (old.requires_grad or mode.scaled):
                        added(old, d)
                    else:
                        _accumulate(edge, d, create_graph)
            if not retain:
                node.saved, node.edges = None, ()
            if not heap:
                node = follow
            elif follow is None:
                node = heappop(heap)[1]
            else:
                node = heappushpop(heap, (-follow.born, follow))[1]
        for leaf, g in pending.items():
            g = g if leaf.hooks is None else hooked(leaf.hooks, g)
            if asked is None:
                _accumulate(leaf, g, create_graph)
            elif leaf in asked:
                asked[leaf] = g
        return [] if asked is None else separate([asked[t.node or t] for t in targets or ()], seeds)
    finally:
        mode.restore(before)
        unhush(token)


class _Start:
    """What stands in place of an operation above the outputs: it hands each its gradient."""

    name, kept, has_y, adds, pullbacks, quick = "backward", (), False, False, (), ()

    def __init__(self, seeds: list[Tensor]):
        self.joint = lambda g, needed, saved: seeds


def _checked(node: Node, create_graph: bool) -> tuple:
    """What a node's vjps asked for, if it is still there and unchanged; y as a Tensor of that node."""
    record, saved = node.op, node.saved
    if saved is None:
        raise RuntimeError(
            f"backward: the graph of {record.name} was freed by an earlier backward; "
            "pass retain_graph=True to that one to go through it twice"
        )
    if record.versions(saved) != node.seen:
        raise RuntimeError(
            f"backward: a tensor that {record.name} needs was modified in place after it was used; "
            "compute the backward first, or modify a clone"
        )
    if record.has_y:
        k = record.kept.index("y")
        y = saved[k].detach()
        y.node, y.requires_grad = node, create_graph
        saved = (*saved[:k], y, *saved[k + 1 :])
    return saved


def _leading_to(outputs: list[Tensor], asked: dict) -> set:
    """What was asked for and the nodes between it and the outputs: the only edges that need a gradient."""
    reached: set = {y.node or y for y in outputs}
    stack = [node for node in reached if type(node) is Node]
    while stack:
        for edge in stack.pop().edges:
            if edge is not None and edge not in reached:
                reached.add(edge)
                stack += [edge] if type(edge) is Node else []
    nodes = sorted([node for node in reached if type(node) is Node], key=lambda node: node.born)
    if not reached.issuperset(asked) and (freed := [node for node in nodes if node.saved is None]):
        _checked(freed[0], False)  # what was asked for may lie behind it: this says so
    wanted = set(asked)
    for node in nodes:  # oldest first: what lies behind a node is settled before it
        if any(e in wanted for e in node.edges if e is not None):
            wanted.add(node)
    return wanted


def _accumulate(leaf: Tensor, g: Tensor, create_graph: bool) -> None:
    """leaf.grad += g: the first goes into the arena's slot if there is one, later ones are added."""
    grad: Any = leaf.grad
    if create_graph:
        leaf.grad = own(g) if grad is None else grad + g
    elif grad is None:
        leaf.grad = filled(leaf, g)
    elif grad.requires_grad:  # made with create_graph: part of a graph, never changed in place
        leaf.grad = grad.detach() + g
    else:
        noted(leaf)
        added(grad, g)
    if mode.scaled:
        leaf.grad.scaled = True  # type: ignore[union-attr]  # until GradScaler.unscale_
