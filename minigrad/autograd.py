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
import inspect
import itertools
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from .backend import SILENT, destination, device_of, dtype_of, hush, unhush
from .grad_mode import mode
from .tensor import Tensor

# --------------------------------------------------------------------------------------- operations and nodes

_clock = itertools.count()


class Node:
    """One recorded operation: the way from an output Tensor back to its inputs."""

    __slots__ = ("__weakref__", "born", "edges", "hooks", "op", "out", "saved", "seen", "shape")

    def __init__(self, op: Op, edges: tuple, saved: tuple | None, seen: int, shape: tuple[int, ...]):
        self.op, self.born, self.shape = op, next(_clock), shape
        self.edges = (
            edges  # per argument: the Node it came from, a leaf Tensor, or None where no gradient flows
        )
        self.saved = saved  # what the vjps asked for; None once freed
        self.seen = (
            seen  # versions of the saved Tensors, added up: they only grow, so an equal sum means unchanged
        )
        self.hooks: dict | None = None
        self.out: Any = None  # after retain_grad(): a weak reference to the output

    def __repr__(self) -> str:
        return f"<{self.op.name}>"


class Op:
    """What is known of an operation: its forward, and how its gradients are made."""

    def __init__(self, forward: Callable, view: bool, aux: bool):
        self.name = forward.__name__.strip("_")
        self.view, self.aux = view, aux
        parameters = list(inspect.signature(forward).parameters.values())
        self.names = [p.name for p in parameters]
        self.variadic = parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL
        self.kept: list[str] = []  # the names that some vjp reads, in the order of `saved`
        self.vjps: list[tuple[int, Callable]] = []  # (argument, function of g and saved)
        self.joint: Callable | None = None  # one function of g, needed and saved, for all arguments
        self.versions: Callable = len  # of saved -> the sum of its Tensors' versions
        self.scope = {"Tensor": Tensor, "Node": Node, "mode": mode, "SILENT": SILENT, "hush": hush, "unhush": unhush}
        self.scope |= {"forward": forward, "record": self, "explained": _explained, "same": Tensor.detach}

    def reads(self, function: Callable, skip: int) -> Callable:
        """The vjp as a function of (g, saved): `lambda g, y, b: ...` becomes f(g, saved[0], saved[2])."""
        names = list(inspect.signature(function).parameters)
        for name in names[skip:]:
            if name not in self.kept:
                if name not in ("y", "aux", *self.names):
                    raise TypeError(f"{self.name}: a vjp asks for {name!r}, which the operation does not have")
                self.kept.append(name)
        taken = "".join(f", saved[{self.kept.index(name)}]" for name in names[skip:])
        given = ", ".join(names[:skip])
        return eval(f"lambda {given}, saved: vjp({given}{taken})", {"vjp": function})

    def written_out(self) -> Callable:
        """The Python text of the operation, its loops over arguments unrolled. For mul it is

        def mul(a, b):
            a_, a_from = a, None
            if isinstance(a, Tensor):
                a_ = a.array
                if a.requires_grad: a_from = a.node or a
            ... the same for b ...
            token = hush(SILENT)
            try:
                y = forward(a_, b_)
            except (TypeError, ValueError, IndexError) as error:
                raise explained('mul', (a, b), error) from error
            finally:
                unhush(token)
            out = Tensor(y)
            if (a_from is not None or b_from is not None) and mode.enabled:
                saved = (b, a)
                out.requires_grad = True
                out.node = Node(record, (a_from, b_from), saved, version(b) + version(a), out.array.shape)
            return out

        where `record` is this Op and version(t) is `t.version[0] if isinstance(t, Tensor) else 0`.
        """
        fixed, rest = (self.names[:-1], self.names[-1]) if self.variadic else (self.names, None)
        star = [f"*{rest}"] if rest else []
        args = ", ".join(fixed + star)
        recorded = [n for k, n in enumerate(fixed) if self.joint or k in [position for position, _ in self.vjps]]
        lines = [f"def {self.name}({args}):"]
        for n in fixed:
            lines += [f" {n}_ = {n}", f" {n}_from = None"] if n in recorded else [f" {n}_ = {n}"]
            lines += [f" if isinstance({n}, Tensor):", f"  {n}_ = {n}.array"]
            lines += [f"  if {n}.requires_grad: {n}_from = {n}.node or {n}"] if n in recorded else []
        arrays = [f"{n}_" for n in fixed] + [f"*[t.array for t in {rest}]" for _ in star]
        lines += [" token = hush(SILENT)", " try:", f"  y = forward({', '.join(arrays)})"]
        lines += [" except (TypeError, ValueError, IndexError) as error:"]
        lines += [f"  raise explained({self.name!r}, ({args},), error) from error", " finally:", "  unhush(token)"]
        lines += [" y, aux = y"] if self.aux else []
        lines += [" out = Tensor(y)"]
        if self.view:
            lines += [" base = out.array.base"]  # of a copy that was reshaped, it is neither of these:
            lines += [f" if base is not None and (base is {fixed[0]}_ or base is {fixed[0]}_.base):"]
            lines += [f"  out.version = {fixed[0]}.version", "  out.is_view = True"]
            lines += ["  if len(out.version) == 1: out.version.append('viewed')"]
        need = [f"{n}_from is not None" for n in recorded]
        need += [f"any([t.requires_grad for t in {rest}])"] if rest and self.joint else []
        if need:
            edges = [f"{n}_from" if n in recorded else "None" for n in fixed]
            edges += [f"*[(t.node or t) if t.requires_grad else None for t in {rest}]" for _ in star]
            kept = [{"y": "same(out)"}.get(n, n) for n in self.kept]  # y without its node: no reference cycle
            count = "({0}.version[0] if isinstance({0}, Tensor) else 0)"
            counts = ["out.version[0]" if n == "y" else count.format(n) for n in self.kept if n not in ("aux", rest)]
            counts += [f"sum([t.version[0] for t in {rest}])"] if rest in self.kept else []
            lines += [f" if ({' or '.join(need)}) and mode.enabled:", "  out.requires_grad = True"]
            lines += [f"  out.node = Node(record, ({', '.join(edges)},), ({''.join(k + ', ' for k in kept)}),"]
            lines += [f"   {' + '.join(counts) or 0}, out.array.shape)"]
            again = [count.format(f"saved[{k}]") for k, n in enumerate(self.kept) if n not in ("aux", rest)]
            again += [f"sum([t.version[0] for t in saved[{self.kept.index(rest)}]])"] if rest in self.kept else []
            self.versions = eval(f"lambda saved: {' + '.join(again) or 0}", self.scope)
        exec("\n".join([*lines, " return out"]), self.scope)
        return self.scope[self.name]  # type: ignore[return-value]


def op(forward: Callable | None = None, *, view: bool = False, aux: bool = False) -> Any:
    """Make an operation of a function on arrays. Tensors go in as arrays, other arguments as they are.

    view    the output may share memory with the first argument; then it shares its version
    aux     the forward returns (y, aux), and vjps may ask for aux

    An operation takes all its arguments, positionally; what may be left out is the business of the public
    face. The function that results is written out for its arguments, as `mul` would be by hand: see
    `_written_out`.
    """
    if forward is None:
        return functools.partial(op, view=view, aux=aux)
    record = Op(forward, view, aux)
    call = functools.wraps(forward)(record.written_out())

    def vjp(**functions: Callable) -> None:
        """`mul.vjp(a=lambda g, b: g * b, ...)`: a function for each argument that has a gradient."""
        record.vjps = [(record.names.index(name), record.reads(f, 1)) for name, f in functions.items()]
        call.__code__ = record.written_out().__code__

    def joint_vjp(function: Callable) -> Callable:
        """`@bias_relu.joint_vjp`: one function (g, needed, ...) for all arguments, that share their work.

        It returns a gradient for each argument. needed[k] is False when nobody asks for it, else True, or the
        array that the gradient may be written into.
        """
        record.joint = record.reads(function, 2)
        call.__code__ = record.written_out().__code__
        return function

    call.op, call.vjp, call.joint_vjp = record, vjp, joint_vjp  # type: ignore[attr-defined]
    return call


def _explained(name: str, args: tuple, error: Exception) -> Exception:
    """The error of an array library, with the operation, shapes, types and devices that led to it."""
    if getattr(error, "explained", False):
        return error
    tensors = [a for a in args if isinstance(a, Tensor)]
    places = {str(device_of(t.array)) for t in tensors}
    if len(places) > 1:
        told: Exception = TypeError(
            f"{name}: tensors on different devices {' and '.join(sorted(places))}; move them with .to(device)"
        )
    else:
        what = ", ".join(
            f"{dtype_of(a.array).name}{list(a.array.shape)}" if isinstance(a, Tensor) else repr(a)
            for a in args
        )
        told = type(error)(f"{name}({what}): {error}")
    told.explained = True  # type: ignore[attr-defined]
    return told


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
    retain = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        _run(outputs, seeds, None, retain, create_graph)
        return
    targets = _listed(inputs)
    if not targets:
        raise ValueError("backward: inputs is empty; leave it out to reach every leaf")
    for target, g in zip(targets, _run(outputs, seeds, targets, retain, create_graph), strict=True):
        if g is not None:
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
        seeds.append(g if create_graph else g.detach())
    return outputs, seeds


def _run(
    outputs: list[Tensor], seeds: list[Tensor], targets: list[Tensor] | None, retain: bool, create_graph: bool
) -> list[Tensor | None]:
    """The loop. Gradients of leaves go to `.grad`, or with targets, theirs are returned in order."""
    from .ops import add, sum_to

    asked: dict | None = None if targets is None else {t.node or t: None for t in targets}
    wanted = None if asked is None else _leading_to(outputs, asked)
    pending: dict[Any, Tensor] = {}  # node, or leaf that has hooks or was asked for -> its gradient so far
    heap: list[tuple[int, Node]] = []  # youngest first; births are unique, so nodes are never compared
    token, before, mode.enabled = hush(SILENT), mode.enabled, create_graph
    try:
        arrivals: Any = [(y.node or y, g) for y, g in zip(outputs, seeds, strict=True)]
        while True:
            for edge, g in arrivals:
                if edge in pending:
                    pending[edge] = add(
                        pending[edge], g
                    )  # never in place: two consumers may hold one gradient
                elif type(edge) is Node:
                    pending[edge] = g
                    heappush(heap, (-edge.born, edge))
                elif asked is None and edge.hooks is None:
                    _accumulate(edge, g, create_graph)
                else:
                    pending[edge] = g
            if not heap:
                break
            node = heappop(heap)[1]
            g = pending.pop(node)
            if node.hooks is not None:
                g = _hooked(node.hooks, g)
            if node.out is not None and (out := node.out()) is not None:
                _accumulate(out, g, create_graph)
            if asked is not None and node in asked:
                asked[node] = g
            arrivals = _vjps(node, g, wanted, create_graph, sum_to)
            if not retain:
                node.saved, node.edges = None, ()
        for leaf, g in pending.items():
            g = g if leaf.hooks is None else _hooked(leaf.hooks, g)
            if asked is None:
                _accumulate(leaf, g, create_graph)
            elif leaf in asked:
                asked[leaf] = g
    finally:
        mode.enabled = before
        unhush(token)
    return [] if asked is None else [asked[t.node or t] for t in targets or ()]


def _vjps(
    node: Node, g: Tensor, wanted: set | None, create_graph: bool, sum_to: Callable
) -> list[tuple[Node | Tensor, Tensor]]:
    """(edge, gradient) for every input of a node that wants one: those in `wanted`, or all."""
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
    if "y" in record.kept:
        k = record.kept.index("y")
        y = saved[k].detach()
        y.node, y.requires_grad = node, create_graph
        saved = (*saved[:k], y, *saved[k + 1 :])
    found: list[tuple[Node | Tensor, Tensor]] = []
    if record.joint is not None:
        needed = [_place(e, wanted, create_graph) if e is not None else False for e in node.edges]
        for edge, need, d in zip(node.edges, needed, record.joint(g, needed, saved), strict=True):
            if edge is not None and need is not False and d is not None:
                found.append((edge, d if d.array.shape == edge_shape(edge) else sum_to(d, edge_shape(edge))))
        return found
    for position, vjp in record.vjps:
        edge = node.edges[position]
        if edge is None or (wanted is not None and edge not in wanted):
            continue
        if type(edge) is Node:
            d = vjp(g, saved)
            shape = edge.shape
        else:
            place = _place(edge, wanted, create_graph)
            shape = edge.array.shape
            if place is True:
                d = vjp(g, saved)
            else:  # a product of that shape may be written straight into the leaf's slot
                destination.array = place
                try:
                    d = vjp(g, saved)
                    if d.array.shape != shape:
                        d = sum_to(d, shape)
                    if destination.array is None and d.array is not place:
                        d = Tensor(d.array.copy())  # it was computed from what now lies in the slot
                finally:
                    destination.array = None
        if d.array.shape != shape:
            d = sum_to(d, shape)
        found.append((edge, d))
    return found


def edge_shape(edge: Node | Tensor) -> tuple[int, ...]:
    return edge.shape if type(edge) is Node else edge.array.shape  # type: ignore[union-attr]


def _place(edge: Any, wanted: set | None, create_graph: bool) -> Any:
    """False: no gradient wanted. An array: a leaf's first contribution may be written there. Else True."""
    if wanted is not None:
        return edge in wanted
    if (
        type(edge) is Node
        or edge.slot is None
        or edge.grad is not None
        or edge.hooks is not None
        or create_graph
    ):
        return True
    return edge.slot.array


def _leading_to(outputs: list[Tensor], asked: dict) -> set:
    """What was asked for and the nodes between it and the outputs: the only edges that need a gradient."""
    reached: set[Node] = set()
    stack = [y.node for y in outputs if y.node is not None]
    while stack:
        node = stack.pop()
        if node not in reached:
            reached.add(node)
            stack.extend(e for e in node.edges if type(e) is Node)
    wanted = set(asked)
    for node in sorted(
        reached, key=lambda n: n.born
    ):  # oldest first: what lies behind a node is settled before it
        if any(e in wanted for e in node.edges if e is not None):
            wanted.add(node)
    return wanted


def _hooked(hooks: dict, g: Tensor) -> Tensor:
    for hook in list(hooks.values()):
        replaced = hook(g)
        g = g if replaced is None else replaced
    return g


def _accumulate(leaf: Tensor, g: Tensor, create_graph: bool) -> None:
    """leaf.grad += g: the first goes into the arena's slot if there is one, later ones are added."""
    if create_graph:
        leaf.grad = g if leaf.grad is None else leaf.grad + g
    elif leaf.grad is not None:
        if leaf.grad.requires_grad:  # made with create_graph: part of a graph, never changed in place
            leaf.grad = leaf.grad.detach() + g
        else:
            leaf.grad.array += g.array
            leaf.grad.version[0] += 1
    elif leaf.slot is None:
        leaf.grad = Tensor(g.array.copy())  # g may be held by others too
    else:
        if g.array is not leaf.slot.array:
            leaf.slot.array[...] = g.array
        leaf.slot.version[0] += 1
        leaf.grad = leaf.slot
