"""Optimizer: what all update rules share. The arithmetic is in the kernel; this decides what it runs on.

A rule is a class with

    record      what it is: paper, formula, presets, oracles (record.py)
    kernel      the text of the update, from the rule book (kernels/rules)
    defaults    the hyper-parameters, as the constructor takes them; `ranges` says what they may be
    flags       which `#if` lines of the text a group wants: those whose option is true
    scalars     what the text calls lr, beta1, ...: derived from the group and the step t in double precision

State slots are the kernel's outputs after the parameter; each is one buffer as long as the arena, zero at
first, unless the rule begins otherwise (`begin`). A step runs the kernel once a group, over the group's slice
of the arena; a rule that needs more than that, as norms per tensor, has a `launch` of its own. `t` counts the
steps of each parameter (from 1), as in PyTorch: a parameter without a gradient is left out and keeps its t;
then the slice falls into contiguous runs of equal t. A rule with `carries` keeps further numbers of each
parameter, named there, on the host from step to step, as NAdam its product of momenta.

Saving and loading stand in state.py.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

from kernels.cuda import graph

from ..arena import Arena, collect, cut, house, zero_grad
from ..backend import Array
from ..grad_mode import enable_grad
from ..tensor import Tensor
from . import state as states
from .groups import RANGES, Range, disjoint, listed, members
from .hooks import Hooked
from .hooks import register_optimizer_step_post_hook as register_optimizer_step_post_hook
from .hooks import register_optimizer_step_pre_hook as register_optimizer_step_pre_hook
from .record import Record


@dataclass(slots=True, eq=False)
class Run:
    """A contiguous piece of an arena that one launch updates: parameters side by side, at the same step t.

    `kept` are the numbers that a rule with `carries` knows from the step before, {} at the first.
    """

    arena: Arena
    start: int
    stop: int
    t: int
    params: list[Tensor]
    kept: dict[str, float] = field(default_factory=dict)

    def piece(self, buffer: Array) -> Array:
        """This run's part of a buffer of the arena."""
        return buffer if self.stop - self.start == buffer.size else buffer[self.start : self.stop]


class Optimizer(Hooked):
    """Base of all optimizers. params: Tensors, (name, Tensor) pairs, or dicts of them with own options.

    foreach, fused and capturable are accepted without effect: a step always is one launch a group.
    differentiable=True raises. A subclass without a kernel writes a step() of its own, as in PyTorch, and
    keeps what it needs in `state`.
    """

    record: ClassVar[Record | None] = None
    kernel: ClassVar[Any] = None
    ranges: ClassVar[dict[str, Range]] = {}
    carries: ClassVar[tuple[str, ...]] = ()  # names of numbers that a parameter keeps from step to step
    ignored: ClassVar[tuple[str, ...]] = ("foreach", "fused", "capturable", "differentiable")
    steady: ClassVar[bool] = (
        False  # a `launch` or `update` of one's own launches the same at every t, but for
    )
    # the scalars, which it takes from `scalars`: a captured step may repeat it
    by_kernels: ClassVar[bool] = True  # all that it writes, and all numbers but `held`, go through kernels
    held: ClassVar[tuple[str, ...]] = ()  # options that a captured step holds as they are: beside kernels
    eager: ClassVar[str] = "it launches more than its kernel"  # why not, where that is not so
    unsettled: Callable[[], None] | None = None  # takes back what was counted of captured steps left out

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """TypeError, saying what the rule takes, for a keyword that it does not."""
        taken = _keywords(cls.__init__)
        if taken and (unknown := [name for name in options if name not in taken]):
            raise TypeError(
                f"{cls.__name__}() got an unexpected keyword argument {unknown[0]!r}; it takes "
                f"{', '.join(taken)}"
            )
        return super().__new__(cls)

    def __init__(self, params: Any, defaults: dict[str, Any]):
        self.prepare(self.options(defaults))
        self.check(self.defaults)
        given = listed(type(self).__name__, params)
        if not given:
            raise ValueError(f"{type(self).__name__}: an empty parameter list; has the model parameters?")
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.param_groups.append(self.group(group))
        house(self.parameters())

    @classmethod
    def preset(cls, source: str, params: Any, **options: Any) -> Any:
        """The rule as a source has it, of record.presets: RMSprop.preset("hinton", params, lr=1e-4)."""
        known = {} if cls.record is None else cls.record.presets
        if source not in known:
            raise ValueError(f"{cls.__name__} has no preset {source!r}; it has {', '.join(known) or 'none'}")
        return cls(params, **{**known[source], **options})

    def prepare(self, defaults: dict[str, Any]) -> None:
        """The attributes of an optimizer that has no parameters yet."""
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.unsettled = None
        self.counted: dict[Tensor, int] = {}
        self.carried: dict[Tensor, dict[str, float]] = {}
        self.own: dict[Any, dict[str, Any]] = defaultdict(dict)  # the state of a subclass without a kernel
        self.unhook()

    def parameters(self) -> list[Tensor]:
        """The parameters of all groups, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def steps(self) -> dict[Tensor, int]:
        """t of each parameter: how many steps it has taken."""
        self.settle()
        return self.counted

    @property
    def kept(self) -> dict[Tensor, dict[str, float]]:
        """The further numbers of a rule that carries some."""
        self.settle()
        return self.carried

    def settle(self) -> None:
        """Know which captured steps a GradScaler left out (minigrad/graph/rows.py): one read of the device.

        Whoever asks for step counts or state calls it; nothing happens after steps that were not captured.
        """
        if self.unsettled is not None:
            take_back, self.unsettled = self.unsettled, None
            take_back()

    # ----------------------------------------------------------------------------------------- for subclasses

    def flags(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The flags of the kernel that a group asks for: those named as an option of it that is true."""
        return tuple([name for name in self.kernel.flags if group.get(name)]) if self.kernel else ()

    def scalars(self, group: dict[str, Any], t: int) -> dict[str, float]:
        """The kernel's scalars for step t (from 1), in double precision.

        A rule with `carries` takes (group, t, kept): it reads the numbers that it kept at the step before
        ({} at the first), and writes those it wants back at the next.
        """
        raise TypeError(f"{type(self).__name__} defines no scalars")

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError, naming option, value and range, for options outside their range."""
        for name, value in group.items():
            known = self.ranges.get(name) or RANGES.get(name)
            if known is not None:
                known.check(type(self).__name__, value)

    def plain(self) -> bool:
        """Whether the next step is as most are: every few steps some rules do more, which is not captured."""
        return True

    def allowed(self) -> None:
        """Raise, saying why, where no step may be taken now."""

    def begin(self, run: Run, group: dict[str, Any]) -> None:
        """Set the state of parameters before their first step; it is zero where this does nothing."""

    def launch(self, run: Run, group: dict[str, Any], flags: tuple[str, ...], scalars: Any) -> None:
        """Update a run. Pads have zero gradients and must stay zero."""
        arena, piece = run.arena, run.piece
        state = [name and piece(arena.state(self, name)) for name in _passed(self.kernel, flags)]
        self.kernel(piece(arena.gradient), piece(arena.array), *state, scalars=scalars, flags=flags)

    def slots_of(self, p: Tensor, group: dict[str, Any]) -> tuple[str, ...]:
        """The names of the state of one parameter, for a rule whose parameters differ in that."""
        return self.slots(group)

    def shape_of(self, p: Tensor, name: str) -> tuple[int, ...]:
        """The shape of a parameter's state slot."""
        return p.array.shape

    def place(self, p: Tensor, name: str) -> Array:
        """The part of a state slot that belongs to a parameter, a view of the state itself."""
        return cut(p.arena.state(self, name), p.offset, p.array.shape)

    def slot(self, run: Run, name: str) -> Array:
        """A run's part of a state slot."""
        return run.piece(run.arena.state(self, name))

    # ------------------------------------------------------------------------------------------------- groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own: {"params": ..., "lr": ...}. Checked before it counts."""
        self.param_groups.append(self.group(param_group))
        house(self.param_groups[-1]["params"])

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        """The options given, without those that have no effect."""
        if given.get("differentiable"):
            raise ValueError(
                f"{type(self).__name__}: differentiable=True is not supported; take gradients with mg.grad "
                "and write the update as operations"
            )
        return {k: v for k, v in given.items() if k not in self.ignored}

    def group(self, given: dict[str, Any]) -> dict[str, Any]:
        """A parameter group as the user gave it, checked and filled up with the defaults."""
        rule = type(self).__name__
        params, names = members(rule, given)
        whole = self.defaults | self.options(given) | {"params": params}
        if names:
            whole["param_names"] = names
        disjoint(rule, whole, self.param_groups)
        self.check(whole)
        self.steps.update(dict.fromkeys(params, 0))
        return whole

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; with set_to_none=False, fill them with zeros."""
        for group in self.param_groups:
            zero_grad(group["params"], set_to_none)

    # ------------------------------------------------------------------------------------------------- a step

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient. Returns the loss, if closure() computes it."""
        if (recorder := graph.current()) is not None:
            recorder.stepping(self, closure)
        args, kwargs, closure = self.entering(closure)
        loss = self.evaluate(closure)
        self.telling("ready")
        self.update()
        self.leaving(args, kwargs)
        return loss

    def evaluate(self, closure: Callable[[], Any] | None) -> Any:
        """What closure() returns, the loss; None without one. A rule that wants gradients elsewhere, as
        Nesterov's, moves the parameters here."""
        if closure is None:
            return None
        with enable_grad():
            return closure()

    def update(self) -> None:
        """The launches of a step. All that may raise comes before the first: an error changes nothing."""
        if self.kernel is None:
            raise TypeError(f"{type(self).__name__} has neither a kernel nor a step() of its own")
        self.allowed()
        work = []
        for group in self.param_groups:
            launches = []
            for run in self.runs(group["params"]):
                if self.carries:
                    run.kept = dict(run.kept)
                    launches.append((run, self.scalars(group, run.t, run.kept)))  # type: ignore[call-arg]
                else:
                    launches.append((run, self.scalars(group, run.t)))
            work.append((group, self.flags(group), launches))
        for group, _, launches in work:
            for run, _ in launches:
                if run.t == 1:
                    self.begin(run, group)
        touched: dict[Arena, None] = {}
        recorder = graph.current()
        for group, flags, launches in work:
            for run, scalars in launches:
                if recorder is not None:
                    recorder.launching(self, group, flags, run, scalars)
                self.launch(run, group, flags, scalars)
                self.steps.update(dict.fromkeys(run.params, run.t))
                if self.carries:
                    self.kept.update(dict.fromkeys(run.params, run.kept))
                touched[run.arena] = None
        for arena in touched:
            arena.version[0] += 1
        if recorder is not None:
            recorder.updated(self, touched)

    def runs(self, params: list[Tensor]) -> list[Run]:
        """The pieces to update, as few as can be: one when all have gradients and the same t."""
        found: list[Run] = []
        last, steps = None, self.steps
        for p in params:
            grad = p.grad
            if grad is None:
                continue
            if grad is not p.slot:
                house([p])  # it may have come into the group's list by hand
                collect(p, self.label)
            t = steps.get(p, 0) + 1
            kept = self.kept.get(p, _NOTHING) if self.carries else _NOTHING
            if (
                last is not None
                and last.stop == p.offset
                and last.t == t
                and last.arena is p.arena
                and (last.kept is kept or last.kept == kept)
            ):
                last.stop = p.stop
                last.params.append(p)
            else:
                last = Run(p.arena, p.offset, p.stop, t, [p], kept)
                found.append(last)
        return found if len(found) < 2 else merged(found)

    def label(self, p: Tensor) -> str:
        """What messages call a parameter: its name if it has one, else its place."""
        for k, group in enumerate(self.param_groups):
            for i, q in enumerate(group["params"]):
                if q is p:
                    names = group.get("param_names")
                    return repr(names[i]) if names else f"parameter {i} of group {k}"
        return "a parameter"

    # -------------------------------------------------------------------------------------------------- state

    def slots(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The names of the state that the rule keeps under a group's options."""
        return _slots(self.kernel, self.flags(group))

    @property
    def state(self) -> Mapping[Tensor, Mapping[str, Any]]:
        """{parameter: {"step": t, slot: Tensor}} of those that took a step; the Tensors are the state itself.

        To read; a subclass without a kernel writes to it. A parameter that took no step has {}.
        """
        return states.current(self)

    def state_dict(self) -> dict[str, Any]:
        """A copy of state and options in PyTorch's form: state by index, groups with indices and, where they
        were given, param_names."""
        self.telling("saving")
        return self.passing("saved", self.bare())

    def bare(self) -> dict[str, Any]:
        """The state_dict() that no hook has seen, for copies of the optimizer."""
        return states.save(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over state and options of a state_dict(), PyTorch's own too.

        Parameters match by name where both sides have names, else by order. ValueError names what does not
        fit; then nothing has changed.
        """
        if self.hooks["loading"] and isinstance(state_dict, Mapping):
            state_dict = self.passing("loading", dict(state_dict))
        states.load(self, state_dict)
        self.telling("loaded")

    def __getstate__(self) -> dict[str, Any]:
        saved = self.bare()  # settles
        left = ("hooks", "unsettled", "counted", "carried", "own")
        return {k: v for k, v in self.__dict__.items() if k not in left} | {"saved": saved}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        saved = kept.pop("saved")
        self.prepare(kept["defaults"])
        self.__dict__.update(kept)
        house(self.parameters())
        self.load_state_dict(saved)

    def __repr__(self) -> str:
        lines = []
        for k, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {k}")
            lines += [f"    {n}: {group[n]}" for n in sorted(group) if n not in ("params", "param_names")]
        return f"{type(self).__name__} (\n" + "\n".join(lines) + "\n)"


_NOTHING: dict[str, float] = {}


@cache
def _keywords(constructor: Callable) -> tuple[str, ...]:
    """The keywords of a rule's constructor; none where it takes any."""
    parameters = inspect.signature(constructor).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return ()
    return tuple([p.name for p in parameters if p.kind is not p.VAR_POSITIONAL and p.name != "self"])


@cache
def _slots(kernel: Any, flags: tuple[str, ...]) -> tuple[str, ...]:
    return () if kernel is None else tuple(p.name for p in kernel.variant(flags).outputs[1:])


@cache
def _passed(kernel: Any, flags: tuple[str, ...]) -> tuple[str | None, ...]:
    """The slots as a call lists them, None for one that the flags leave out before others."""
    used = _slots(kernel, flags)
    names = [p.name for p in kernel.parameters if p.output][1:]
    last = names.index(used[-1]) + 1 if used else 0
    return tuple(name if name in used else None for name in names[:last])


def merged(runs: list[Run]) -> list[Run]:
    """The same runs, those that touch in one arena at the same t made one: a group's order is the user's."""
    found: list[Run] = []
    for run in sorted(runs, key=lambda run: (id(run.arena), run.start, run.stop)):
        last = found[-1] if found else None
        here = (run.arena, run.start, run.t, run.kept)
        if last is not None and (last.arena, last.stop, last.t, last.kept) == here:
            last.stop = run.stop
            last.params += run.params
        else:
            found.append(run)
    return found
