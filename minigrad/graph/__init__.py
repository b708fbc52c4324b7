"""A whole training step as one launch: `step = mg.graph.capture(step)`.

    def step(images, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    step = mg.graph.capture(step)
    for images, labels in loader:
        losses.append(step(images, labels))       # on the device; read it every now and then

The first calls run as always, on one stream with memory of their own (warm-up: real steps). The next one
records the launches instead of executing them, and from then on a call replays them all by one launch: what
the host does between launches is gone. What a replay cannot repeat is taken off it:

    batch       Tensors given to the step are copied into those that the graph reads; given the indices of a
                loader (`for index in loader.indices`), the step gathers its batch itself
    numbers     the optimizer's scalars depend on the step: they are rows of a table, computed ahead in
                double, and the graph moves on by a row itself (kernels/tick.py). Who writes to param_groups,
                as schedulers do, has the row uploaded again; `schedule` says them ahead
    inf, nan    under a GradScaler the kernels of an optimizer look at its flag themselves, and write nothing
                where it is set; the optimizer's scalars stay at their row. How many steps were taken only the
                device knows then, until somebody asks (Optimizer.settle): state_dict(), or `scaler.skipped`
    draws       dropout's counters lie on the device and move on by themselves; the generator follows
    results     are copies: a step's loss stays what it was when the next one runs
    the host    step counts, versions and .grad are what the step would have left

Eager and captured steps give the same bits. A graph belongs to the shapes of the batch, to train or eval of
the modules, and to which gradients are there: each gets its own after warm-up. A batch that is smaller than
usual, as an epoch's last one, runs eagerly; so does a step in which an optimizer does more than in most, as
every k-th of Lookahead.

What cannot be captured runs eagerly for good, and `why()` says what it was: closures, hooks, line searches,
optimizers with steps of their own kind, values read on the host, uploads, schedulers and averages of models,
which count on the host. Only what the step itself does in Python besides is not seen: it happens at warm-up
and capture, and never again.

Gradient accumulation is two captured functions: forward and backward, and clip and step (with unscale_, step
and update of a scaler all in the second). Or one, which is given all micro-batches, as in train.py: one
launch for any number of them, and memory for as many graphs of a forward and backward pass.

Schedules under a scaler: `schedule(n)` is to count completed steps, which are those made less `scaler.skips`.
A scheduler that is stepped at every call has rows of a table uploaded and nothing read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from kernels.convolution import Cudnn
from kernels.cuda import blas, graph

from ..backend import on_device
from ..grad_mode import mode
from ..tensor import Tensor
from .calls import Call, copies
from .recorder import Recorder, Refused, asking
from .replay import Graph, stale, state_of

__all__ = ["Captured", "capture", "why"]

MOST = 16  # graphs of one function; each holds memory for its own intermediate results
RARE = 10  # steps in a row that are no plain ones: then none is
_reasons: list[str] = []


def why() -> str:
    """Why steps run eagerly that were to be captured, one a line; empty where none does."""
    return "\n".join(_reasons)


def capture(
    step: Callable[..., Any], warmup: int = 3, schedule: Callable[[int], Any] | None = None
) -> Captured:
    """The function as one launch, after `warmup` >= 2 calls as it is; see the module.

    step        called with Tensors on the device, in lists, tuples and dicts too; other arguments are part of
                what a graph is made for. Returns Tensors in the same forms, which are copied
    schedule    schedule(n) writes into param_groups what the n-th step from now will use, n = 0, 1, ...; then
                a whole table goes up at once. It is called before every step
    """
    if not callable(step):
        raise TypeError(f"graph.capture: {type(step).__name__} is no function")
    if not isinstance(warmup, int) or warmup < 2:
        raise ValueError(
            f"graph.capture: warmup={warmup!r}; it is at least 2 calls, which make what they need"
        )
    return Captured(step, warmup, schedule)


class Captured:
    """What capture() returns: call it as the function it was made of.

    why     why it runs eagerly; empty while it does not
    graphs  how many graphs it has
    """

    def __init__(self, function: Callable[..., Any], warmup: int, schedule: Any):
        self.function, self.warmup, self.schedule = function, warmup, schedule
        self.why = ""
        self.entries: dict[Any, Graph] = {}
        self.forms: dict[Any, Any] = {}
        self.leaves: dict[Tensor, None] = {}
        self.modules: dict[Any, None] = {}
        self.scalers: dict[Any, None] = {}
        self.optimizers: dict[Any, None] = {}
        self.special = 0  # steps in a row in which an optimizer did more than in most
        self.growing: Any = None  # the key of a run that met new leaves or modules
        functools.update_wrapper(self, function, updated=())

    @property
    def graphs(self) -> int:
        return sum(entry.made is not None for entry in self.entries.values())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.schedule is not None:
            self.schedule(0)
        if self.why or graph.current() is not None:  # inside of another captured step it is part of that
            return self.function(*args, **kwargs)
        if any(scaler.between() for scaler in self.scalers):
            return self.function(*args, **kwargs)
        if special := [rule for rule in self.optimizers if not rule.plain()]:
            self.special += 1
            if self.special == RARE:
                name = type(special[0]).__name__
                return self._eagerly(f"{name} does more than a graph can hold at every step", args, kwargs)
            return self.function(*args, **kwargs)
        self.special = 0
        call = Call(args, kwargs)
        if not any(on_device(t.array) for t in (*call.tensors, *self.leaves)):
            return self._discover(args, kwargs)
        problem = call.problem()
        if problem is not None:
            return self._eagerly(problem, args, kwargs)
        key = self._key(call)
        entry = self.entries.get(key)
        if entry is None:
            if self._short(call) or len(self.entries) >= MOST:
                return self.function(*args, **kwargs)
            entry = self._entry(key, call)
        if entry.made is not None:
            if entry.fits():
                return entry.replay(call, self.schedule)
            entry.made, entry.runs = None, 0
        if entry.runs < self.warmup:
            return self._watch(key, entry, args, kwargs)
        seen = entry.watched
        assert seen is not None
        if seen.reasons:
            return self._eagerly(seen.reasons[0], args, kwargs)
        try:
            entry.record(self.function, call)
        except Exception as error:
            text = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
            return self._eagerly(text, args, kwargs)
        return entry.replay(call, self.schedule)

    def _key(self, call: Call) -> Any:
        """What a graph is made for."""
        casting = mode.casting
        types = None if casting is None else tuple(sorted((k, str(v)) for k, v in casting.types.items()))
        grads = tuple([state_of(leaf) for leaf in self.leaves])
        modes = tuple([m.training for m in self.modules])
        switches = blas.precision, Cudnn.enabled, Cudnn.allow_tf32
        return call.form, grads, modes, mode.enabled, types, switches

    def _entry(self, key: Any, call: Call) -> Graph:
        """A new entry; the one before it where that only did not know yet what the step touches."""
        old, self.growing = self.growing, None
        if old is not None and old in self.entries and old[0] == key[0]:
            entry = self.entries.pop(old)
        else:
            entry = Graph()
        self.entries[key] = entry
        self.forms[call.form] = None
        return entry

    def _short(self, call: Call) -> bool:
        return any(call.smaller_than(form) for form in self.forms)

    def _discover(self, args: tuple, kwargs: dict) -> Any:
        """A first call without Tensors on a device: what does it train?"""
        recorder = Recorder()
        try:
            with asking(recorder):
                out = self.function(*args, **kwargs)
        finally:
            self._settle(recorder)
        self.leaves |= recorder.leaves
        self.modules |= recorder.modules
        if not any(on_device(leaf.array) for leaf in self.leaves):
            self._note("the step runs on the CPU; graphs are CUDA's")
        return out

    def _watch(self, key: Any, entry: Graph, args: tuple, kwargs: dict) -> Any:
        """A warm-up step, with memory and stream of the graph to be."""
        recorder = Recorder()
        graph.stream()
        versions = {leaf.arena: leaf.arena.version[0] for leaf in self.leaves if leaf.arena is not None}
        for arena in versions:
            stale(arena)
        try:
            with asking(recorder), graph.allocating(entry.pool):
                out = self.function(*args, **kwargs)
        finally:
            left_out = self._settle(recorder)
        for arena, version in versions.items():
            if arena.version[0] - version != recorder.updates[arena]:
                recorder.refuse("parameters change otherwise than by the step of an optimizer")
        if blas.library() is None:
            recorder.refuse(blas.why())
        if recorder.plain:
            entry.watched = recorder
            entry.runs += not left_out  # a step that was left out has not shown all
        if not (
            recorder.leaves.keys() <= self.leaves.keys() and recorder.modules.keys() <= self.modules.keys()
        ):
            self.leaves |= recorder.leaves
            self.modules |= recorder.modules
            self.growing = key
        return copies(out)

    def _settle(self, recorder: Recorder) -> bool:
        """Read what a GradScaler found in a step that was watched; whether it left one out."""
        self.scalers |= dict.fromkeys(recorder.scalers)
        self.optimizers |= dict.fromkeys([*recorder.steps, *recorder.wrappers])
        for scaler in recorder.scalers:
            if scaler.between():
                recorder.refuse("a GradScaler's unscale_, step and update are not in one captured function")
        found = {optimizer: undo.settle() for optimizer, undo in recorder.found.items()}
        for optimizer, left_out in found.items():
            recorder.scaled[optimizer][0].skips += left_out
        return any(found.values())

    def _eagerly(self, reason: str, args: tuple, kwargs: dict) -> Any:
        self._note(reason)
        return self.function(*args, **kwargs)

    def _note(self, reason: str) -> None:
        self.why = reason
        self.entries.clear()
        name = getattr(self.function, "__qualname__", repr(self.function))
        _reasons.append(f"{name} runs eagerly: {reason}")

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", repr(self.function))
        return f"<captured {name}: {self.why or f'{self.graphs} graphs'}>"
