"""Operations as Python text: what makes recording cost a microsecond.

The meaning of calling an operation stands in autograd.py: unwrap the Tensors, run the forward, wrap the
result, and record a Node if somebody wants gradients. Written as loops over arguments that would take three
times as long as the arithmetic on a small array. So the text is written out for each operation, at its first
call, with its loops unrolled; for mul it is

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
        out = Tensor(y)                                                  # without the call
        if (a_from is not None or b_from is not None) and mode.enabled:
            out.requires_grad = True
            out.node = Node(record, (a_from, b_from), (b, a),            # without the call
                            version(b) + version(a), out.array.shape)
        return out

where version(t) is `t.version[0] if isinstance(t, Tensor) else 0`. An error inside carries the operation,
shapes and types (`explained`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from types import CodeType
from typing import Any

from .anomaly import adopt
from .backend import device_of, dtype_of
from .tensor import Tensor

_WRAPPED = [  # Tensor(y), without the call
    " shape = y.shape",
    " if not shape and isinstance(y, generic): y = asarray(y)",
    " out = new(Tensor)",
    " out.array = y",
    " out.version = UNCHANGED",
]
_LEAF = ["out.node = None", "out.requires_grad = False"]
_SAME = lambda g: g  # noqa: E731  # what a vjp looks like that changes nothing
_VERSION = "({0}.version[0] if isinstance({0}, Tensor) else 0)"


def call_of(op: Any, scope: dict, general: str | None = None) -> Callable:
    """The function that runs and records an operation (an autograd.Op), made in `scope`.

    With `general`, the text of an operator such as __mul__: two Tensors of one dtype are taken here, anything
    else is handed to the function of that name in `scope`.
    """
    name = f"__{op.name}__" if general else op.name
    fixed, rest = (op.names[:-1], op.names[-1]) if op.variadic else (op.names, None)
    star = [f"*{rest}"] if rest else []
    args = ", ".join(fixed + star)
    recorded = fixed if op.joint else list(op.vjps)
    lines = [f"def {name}({args}):"]
    if general:
        a, b = fixed
        lines += [f" if not isinstance({b}, Tensor): return {general}({args})"]
        lines += [f" {a}_, {b}_ = {a}.array, {b}.array"]
        lines += [
            f" if {a}_.dtype is not {b}_.dtype or type({a}_) is not type({b}_): return {general}({args})"
        ]
        lines += [f" {n}_from = ({n}.node or {n}) if {n}.requires_grad else None" for n in recorded]
    else:
        for n in fixed:
            lines += [f" {n}_ = {n}", f" {n}_from = None"] if n in recorded else [f" {n}_ = {n}"]
            lines += [f" if isinstance({n}, Tensor):", f"  {n}_ = {n}.array"]
            lines += [f"  if {n}.requires_grad: {n}_from = {n}.node or {n}"] if n in recorded else []
    arrays = [f"{n}_" for n in fixed] + [f"*[t.array for t in {rest}]" for _ in star]
    lines += [" token = hush(SILENT)", " try:", f"  y = forward({', '.join(arrays)})"]
    lines += [" except (TypeError, ValueError, IndexError) as error:"]
    lines += [f"  raise explained({op.name!r}, ({args},), error) from error", " finally:", "  unhush(token)"]
    lines += [" y, aux = y"] if op.aux else []
    lines += _WRAPPED
    if op.view:
        lines += [" base = y.base"]  # of a copy that was reshaped, it is neither of these:
        lines += [f" if base is not None and (base is {fixed[0]}_ or base is {fixed[0]}_.base):"]
        lines += [f"  out.version = {fixed[0]}.shared_version()", "  out.is_view = True"]
        lines += ["  if len(out.version) == 1: out.version.append('viewed')"]
    need = [f"{n}_from is not None" for n in recorded]
    need += [f"any([t.requires_grad for t in {rest}])"] if rest and op.joint else []
    if need:
        edges = [f"{n}_from" for n in recorded]
        edges += [f"*[(t.node or t) if t.requires_grad else None for t in {rest}]" for _ in star]
        kept = [{"y": "same(out)"}.get(n, n) for n in op.kept]  # y without its node: no reference cycle
        lines += [f" if ({' or '.join(need)}) and mode.enabled:", "  out.requires_grad = True"]
        lines += ["  out.node = node = Node()", "  node.op = record", "  node.born = next(clock)"]
        lines += [
            f"  node.edges = ({', '.join(edges)},)",
            f"  node.saved = ({''.join(k + ', ' for k in kept)})",
        ]
        sure = fixed if general else ()  # what is a Tensor for sure
        lines += [f"  node.seen = {_versions(op, lambda k, n: 'out' if n == 'y' else n, sure)}"]
        lines += ["  node.shape = shape", "  node.hooks = node.out = None"]
        lines += [" else:"]
    lines += [f"{' ' * (1 + bool(need))}{line}" for line in _LEAF]
    exec("\n".join([*lines, " return out"]), scope)
    return scope[name]


def parameters_of(function: Callable) -> tuple[list[str], bool]:
    """The names of a function's positional parameters, and whether the last of them is *variadic."""
    code = getattr(function, "__code__", None)
    if code is None:  # one of Python's own operators
        return list(inspect.signature(function).parameters), False
    variadic = bool(code.co_flags & inspect.CO_VARARGS)
    return list(code.co_varnames[: code.co_argcount + variadic]), variadic


def operator_of(operation: Callable, name: str, general: Callable) -> Callable:
    """The text of an operation once more, as the operator of that name."""
    op = operation.op  # type: ignore[attr-defined]
    call = first_call(op, op.scope | {"general": general}, "general")
    call.__name__ = call.__qualname__ = name
    return call


@cache
def read(text: str, mode: str) -> CodeType:
    """A text that many operations share, read once: what differs stands in the scope it is run in."""
    return compile(text, "<string>", mode)


def first_call(op: Any, scope: dict, general: str | None = None) -> Callable:
    """A function that becomes `call_of(...)` when it is first called: by then all vjps are known."""

    def become(*args: Any) -> Any:
        call.__code__ = call_of(op, scope, general).__code__
        op.quick = op.quick or tuple([quick_of(op, name) for name in op.vjps])
        adopt(op, scope)
        return call(*args)

    scope["become"] = become
    exec(read("def call(*args): return become(*args)", "exec"), scope)
    call = scope["call"]
    return call


def versions_of(op: Any, scope: dict) -> Callable:
    """The function of `saved` that adds up the versions of its Tensors.

    Most operations save nothing else: that is taken for granted until it fails, once.
    """

    def at(k: int, name: str) -> str:
        return f"saved[{k}]"

    def become(saved: tuple) -> int:
        op.versions = careful
        return careful(saved)

    careful = eval(f"lambda saved: {_versions(op, at)}", scope)
    lines = ["def versions(saved):", f" try: return {_versions(op, at, op.kept)}"]
    lines += [" except (AttributeError, TypeError): return become(saved)"]
    found = {"become": become}
    exec("\n".join(lines), found)
    return found["versions"]


def handed_on(g: Any, saved: Any) -> Any:
    """The vjp of a sum: the backward pass knows it, and leaves the call out."""
    return g


def pullback_of(op: Any, function: Callable, skip: int) -> Callable:
    """A vjp as a function of (g, saved): `lambda g, y, b: ...` becomes function(g, saved[0], saved[2])."""
    names, _ = parameters_of(function)
    if names == ["g"] and function.__code__.co_code == _SAME.__code__.co_code:
        return handed_on
    taken = "".join(f", saved[{op.kept.index(name)}]" for name in names[skip:])
    given = ", ".join(names[:skip])
    return eval(read(f"lambda {given}, saved: vjp({given}{taken})", "eval"), {"vjp": function})


def quick_of(op: Any, argument: str) -> Callable:
    """The vjp of an argument for a pass that records nothing: what is arithmetic alone runs on arrays.

    `lambda g, b: g * b` means the same for arrays as for Tensors; what calls a function, or has a number in
    it that takes a Tensor's type, stays as it is.
    """
    function, pullback = op.functions[argument], op.vjps[argument]
    code = getattr(function, "__code__", None)
    constants = code is not None and any(c is not None for c in code.co_consts)
    if pullback is handed_on or code is None or code.co_names or code.co_freevars or constants:
        return pullback
    saved = [f"saved[{op.kept.index(name)}]" for name in parameters_of(function)[0][1:]]
    arrays = ", ".join(["g.array", *[f"({k}.array if isinstance({k}, Tensor) else {k})" for k in saved]])
    lines = ["def quick(g, saved):", f" y = vjp({arrays})", *_WRAPPED, *[f" {line}" for line in _LEAF]]
    scope = op.scope | {"vjp": function}
    exec("\n".join([*lines, " return out"]), scope)
    return scope["quick"]


def _versions(op: Any, place: Callable[[int, str], str], sure: Sequence[str] = ()) -> str:
    rest = op.names[-1] if op.variadic else None
    counts = [
        f"sum([t.version[0] for t in {place(k, n)}])"
        if n == rest
        else f"{place(k, n)}.version[0]"
        if n in sure
        else _VERSION.format(place(k, n))
        for k, n in enumerate(op.kept)
        if n != "aux"
    ]
    return " + ".join(counts) or "0"


def explained(name: str, args: tuple, error: Exception) -> Exception:
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
        kind = next(k for k in (TypeError, ValueError, IndexError) if isinstance(error, k))
        told = kind(f"{name}({what}): {error}")  # not type(error): a library's own class may want more
    told.explained = True  # type: ignore[attr-defined]
    return told
