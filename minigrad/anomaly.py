"""Anomaly mode: which operation made the first NaN, and where in the program it was called.

    with mg.autograd.detect_anomaly():
        loss(x).backward()       RuntimeError: sqrt returned nan values in its 0th output ... called at ...

While it is on,

    backward    every gradient that a vjp returns is looked at; one that holds nan raises, as PyTorch's mode
                does, naming the operation, the argument and the lines of the forward call that recorded it;
                any other error of a backward pass gets those lines as a note
    forward     with check_forward, every operation's result is looked at as well: nan that no argument had,
                or inf where all arguments were finite, raises at once. (PyTorch's mode has no such watch.)

Nothing of it stands in the engine, so it costs nothing while it is off. An operation's function is text with
a scope of its own (unrolled.py), and its vjps hang on its record (autograd.Op): switching on puts watchful
ones into these places, switching off puts the old ones back. The lines of the forward call ride on the
node's birth number, an int that knows more. Which node a bad gradient belongs to is asked only then: the loop
of the backward pass is on the stack, and it has the node at hand.

Every look reads the device. The mode holds for all threads, as in PyTorch, and it cannot be captured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import Array, xp_of

if TYPE_CHECKING:
    import traceback

watched: dict[Any, list[dict]] = {}  # operation -> the scopes of its functions: those called at least once
put_back: list[Callable[[], None]] = []  # how to switch off what is on
on = {"backward": False, "nan": False, "forward": False}


class Birth(int):
    """A node's birth number that knows where the operation was called."""

    lines: traceback.StackSummary


class _Clock:
    """The clock of births, as long as the mode is on."""

    def __init__(self, clock: Any):
        self.clock = clock

    def __next__(self) -> Birth:
        import traceback  # only where the mode is on: the engine, and so every program, imports this file

        birth = Birth(next(self.clock))
        frames = traceback.walk_stack(sys._getframe(1))
        birth.lines = traceback.StackSummary.extract(frames, lookup_lines=False)
        birth.lines.reverse()
        return birth


# ------------------------------------------------------------------------------------------- on, off, and new


def adopt(op: Any, scope: dict) -> None:
    """An operation was called for the first time: its function lives in `scope`, its vjps are complete."""
    watched.setdefault(op, []).append(scope)
    if any(on.values()):
        _put(op, [scope], len(watched[op]) == 1)


def switch(backward: bool, nan: bool, forward: bool) -> None:
    """backward: remember forward calls; nan: and look at gradients; forward: look at results."""
    while put_back:
        put_back.pop()()
    on.update(backward=backward, nan=backward and nan, forward=forward)
    if any(on.values()):
        for op, scopes in list(watched.items()):
            _put(op, scopes, True)
    if backward:
        from . import autograd

        checked = autograd._checked
        put_back.append(lambda: setattr(autograd, "_checked", checked))
        autograd._checked = _noted(checked)


def _put(op: Any, scopes: list[dict], vjps: bool) -> None:
    for scope in scopes:
        before = {name: scope[name] for name in ("clock", "forward")}
        put_back.append(partial(scope.update, before))
        if on["backward"]:
            scope["clock"] = _Clock(scope["clock"])
        if on["forward"]:
            scope["forward"] = _watchful_forward(op, scope["forward"])
    if on["backward"] and vjps:
        joint, pullbacks, quick = op.joint, op.pullbacks, op.quick

        def restore() -> None:
            op.joint, op.pullbacks, op.quick = joint, pullbacks, quick

        put_back.append(restore)
        if joint is not None:
            op.joint = _watchful_joint(op, joint)
        op.pullbacks = op.quick = tuple(_watchful(op, k, f) for k, f in enumerate(pullbacks))


class _Switch:
    """A context manager that is in force from its construction on, as PyTorch's set_detect_anomaly is."""

    def __init__(self, backward: bool, nan: bool, forward: bool):
        self.before = dict(on)
        switch(backward, nan, forward)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: Any) -> None:
        switch(**self.before)


class set_detect_anomaly(_Switch):
    """Anomaly mode on or off, at once; as a context manager, until its end. Arguments as detect_anomaly's."""

    def __init__(self, mode: bool, check_nan: bool = True, check_forward: bool = False):
        super().__init__(bool(mode), bool(check_nan), bool(mode and check_forward))


class detect_anomaly:
    """`with detect_anomaly():` a backward pass that makes nan raises, naming the operation and its call.

    check_nan       False only remembers the forward calls, for the message of any error in backward
    check_forward   look at the results of operations too (not in PyTorch)
    """

    def __init__(self, check_nan: bool = True, check_forward: bool = False):
        self.options = (True, bool(check_nan), bool(check_forward))
        self.entered: list[_Switch] = []  # a stack: one object may be entered again inside itself

    def __enter__(self) -> None:
        self.entered.append(_Switch(*self.options))

    def __exit__(self, *exc: Any) -> None:
        self.entered.pop().__exit__()


def is_anomaly_enabled() -> bool:
    """True where anomaly mode is on."""
    return on["backward"]


def is_anomaly_check_nan_enabled() -> bool:
    """True where anomaly mode is on and looks at gradients."""
    return on["nan"]


# ---------------------------------------------------------------------------------------------------- looking


def _has(array: Any, what: str) -> bool:
    """Whether an array of floats (or a number) holds nan (`isnan`) or, with `isinf`, an infinity."""
    kind = getattr(getattr(array, "dtype", None), "kind", "f" if isinstance(array, float) else "")
    if kind not in ("f", "V"):  # V: bfloat16, which is no type of NumPy's own
        return False
    return bool(getattr(xp_of(array) if hasattr(array, "shape") else np, what)(array).any())


def _watchful_forward(op: Any, forward: Callable) -> Callable:
    """The forward of an operation, whose result is looked at."""

    def watchful(*args: Any) -> Any:
        arrays = [a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else (arg,))]
        nan_before = any(_has(a, "isnan") for a in arrays)  # first: it may work in place
        inf_before = nan_before or any(_has(a, "isinf") for a in arrays)
        result = forward(*args)
        y = result[0] if op.aux else result
        if not nan_before and _has(y, "isnan"):
            what = "nan" if not inf_before else "nan, from arguments with inf but no nan,"
        elif not inf_before and _has(y, "isinf"):
            what = "inf"
        else:
            return result
        raise RuntimeError(f"{op.name} returned {what} {_described(op, args, y)}")

    return watchful


def _described(op: Any, args: tuple, y: Array) -> str:
    shapes = [f"{n} {_kind(a)}" for n, a in zip(op.names, args, strict=False) if hasattr(a, "shape")]
    return f"in its output {_kind(y)}; its arguments {', '.join(shapes) or '()'} did not hold it"


def _kind(array: Any) -> str:
    return f"{array.dtype.name}{list(array.shape)}"


def _watchful(op: Any, k: int, pullback: Callable) -> Callable:
    """One vjp of an operation, whose result is looked at."""
    call = _noted(pullback)

    def watchful(g: Any, saved: Any) -> Any:
        d = call(g, saved)
        if on["nan"] and _has(d.array, "isnan"):
            raise RuntimeError(_blamed(op, k, list(op.vjps)[k], d, g))
        return d

    return watchful


def _watchful_joint(op: Any, joint: Callable) -> Callable:
    """The vjp for all arguments of an operation, whose results are looked at."""
    call = _noted(joint)

    def watchful(g: Any, needed: Any, saved: Any) -> Any:
        found = call(g, needed, saved)
        for k, d in enumerate(found if on["nan"] else ()):
            if d is not None and needed[k] is not False and _has(d.array, "isnan"):
                name = op.names[min(k, len(op.names) - 1)]
                raise RuntimeError(_blamed(op, k, name, d, g))
        return found

    return watchful


def _noted(function: Callable) -> Callable:
    """The function, whose errors get the lines of the forward call as a note."""

    def noted(*args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:
            if not hasattr(error, "__notes__"):  # else an inner pass has told
                error.add_note(_forward_call())
            raise

    return noted


def _blamed(op: Any, k: int, name: str, d: Any, g: Any) -> str:
    """The message: operation, argument, and the lines of the forward call."""
    came = "; the gradient that came in had nan already" if _has(g.array, "isnan") else ""
    place = f"the gradient of {name!r}, {_kind(d.array)}"
    return f"backward: {op.name} returned nan values in its {k}th output ({place}){came}.\n{_forward_call()}"


def _forward_call() -> str:
    """Where the node that the innermost backward pass is at was made: the loop is on the stack."""
    from .autograd import _run

    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code is not _run.__code__:
        frame = frame.f_back
    node: Any = None if frame is None else frame.f_locals.get("node")
    lines = getattr(getattr(node, "born", None), "lines", None)
    if lines is None:
        return "No forward pass information: anomaly mode was off when the operation was called."
    import traceback

    told = traceback.format_list([line for line in lines if line.filename != "<string>"])
    return f"The forward call of {node.op.name} (most recent call last):\n{''.join(told)}"
