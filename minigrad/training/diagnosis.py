"""Diagnosis: watches a run, and says what ails it, with the numbers that show it and the cure.

    doctor = Diagnosis(model, optimizer)
    for batch in loader:
        ...
        optimizer.step()
        doctor.observe(loss)
    print(doctor.report())

A step costs next to nothing: the loss is put aside, unread. Every n-th step it looks closely: before the
update the optimizer's hook copies the weights and measures the gradients, forward hooks measure what
activations give out, and `observe` measures how far the step went. All that is reduced on the device and read
at once.

What the numbers mean stands in symptoms.py.
"""

from __future__ import annotations

import os
from collections import deque
from math import nan
from statistics import median
from typing import Any

from ..backend import Array, to_host, xp_of
from ..tensor import Tensor
from .symptoms import Look, Record, Symptom, ratios, symptoms
from .watching import Norms, alive_rows, place_of, place_of_gradient, shares, watch

BOUNDS = {"Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0), "Softsign": (-1.0, 1.0)}  # where they saturate
NEAR = 0.02  # of such a bound
REMEMBERED = 8  # looks over which a unit must have no gradient to be called dead


class Diagnosis:
    """Watch a model that an optimizer trains.

    every       steps between two close looks; the first steps 1, 2, 4, ... are looked at, too
    `symptoms()` is what it found, `report()` the same in words, with a table of the layers. `close()` takes
    the hooks out again; as a context manager it does so at the end.
    """

    def __init__(self, model: Any, optimizer: Any, every: int = 20):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"Diagnosis: every={every!r}; it must be a whole number of steps, at least 1")
        self.model, self.optimizer, self.every = model, optimizer, every
        self.step = 0  # completed
        self.run = Record()
        self.pending: list[Tensor] = []  # losses that were not read yet
        self.before: dict[
            int, tuple[Array, Array]
        ] = {}  # buffers of weights, and copies from before the step
        self.gradients: Norms | None = None
        self.alive: dict[str, deque[Array]] = {}
        self.outputs: dict[str, Array] = {}  # share of saturated outputs, on the device
        self.units = _units(model)
        trained = {p for group in optimizer.param_groups for p in group["params"]}
        self.trained = {n: p for n, p in model.named_parameters() if p in trained}
        self.run.sizes = {n: p.array.size for n, p in self.trained.items() if n in self.units}
        hooked = hasattr(optimizer, "register_step_pre_hook")
        self.handles = [optimizer.register_step_pre_hook(self._before_step)] if hooked else []
        for name, module in model.named_modules():
            if type(module).__name__ in BOUNDS:
                self.handles.append(module.register_forward_hook(self._hook(name)))

    # --------------------------------------------------------------------------------------------- watching

    def looking(self) -> bool:
        """Whether the present step is looked at closely."""
        k = self.step + 1
        return k % self.every == 0 or (k < self.every and k & (k - 1) == 0)

    def _hook(self, name: str) -> Any:
        def hook(module: Any, args: tuple, output: Any) -> None:
            if module.training and self.looking():
                y, (low, high) = output.array, BOUNDS[type(module).__name__]
                self.outputs[name] = (y < low + NEAR) | (y > high - NEAR)

        return hook

    def _before_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if self.looking() and self.gradients is None:
            self._measure_gradients()
            self.before = {}
            for p in self.trained.values():
                buffer = place_of(p)[0]
                self.before.setdefault(id(buffer), (buffer, buffer.copy()))

    def _measure_gradients(self) -> None:
        self.gradients = Norms()
        for name, p in self.trained.items():
            self.gradients.add(name, place_of_gradient(p))
        for name, bias in self.units.items():
            p = self.trained.get(name)
            if p is not None and p.grad is not None:
                self.alive.setdefault(name, deque(maxlen=REMEMBERED)).append(alive_rows(p, bias))

    def observe(self, loss: Any, norm: Any = None) -> None:
        """After each optimizer step: its loss, and the gradients' norm before clipping, if it is known.

        Numbers or Tensors of one element; Tensors are read at the next close look.
        """
        self.pending.append(loss.detach() if isinstance(loss, Tensor) else Tensor(_number(loss)))
        if self.looking():
            self._look(norm)
        self.step += 1

    def observe_held_out(self, loss: Any) -> None:
        """The loss on held-out data, whenever it is computed: without it overfitting is not seen."""
        self.run.held_out.append((self.step, float(loss)))

    def _look(self, norm: Any) -> None:
        if self.gradients is None or not self.gradients.names:  # step() called no hook, or computes gradients
            self._measure_gradients()
        weights, updates = Norms(), Norms()
        changes: dict[int, Array] = {}
        for name, p in self.trained.items():
            buffer, start, stop = place_of(p)
            weights.add(name, (buffer, start, stop))
            if id(buffer) in self.before and self.before[id(buffer)][0] is buffer:
                if id(buffer) not in changes:
                    changes[id(buffer)] = buffer - self.before[id(buffer)][1]
                updates.add(name, (changes[id(buffer)], start, stop))
        before = self._read_losses()
        gradients = self.gradients.read() if self.gradients is not None else {}
        since = self.run.losses[before:]
        look = Look(
            self.step + 1, sum(since) / len(since), weights.read(), gradients, updates.read(),
            nan if norm is None else float(norm),
        )  # fmt: skip
        self.run.looks.append(look)
        if self.run.not_finite is None and any(
            n - n != 0 for norms in (look.weights, look.gradients) for n in norms.values()
        ):  # inf and nan
            found = watch(self.model)
            self.run.not_finite = found and f"at step {look.step} {found}"
        self.run.memory = _memory()
        self.gradients, self.before = None, {}

    def _read_losses(self) -> int:
        """Take the losses put aside into the record; how many there were before."""
        before = len(self.run.losses)
        if self.pending:
            devices = {str(t.device): t for t in self.pending}
            if len(devices) == 1:
                xp = xp_of(self.pending[0].array)
                joined = xp.concatenate([t.array.reshape(1).astype("float64") for t in self.pending])
                self.run.losses += to_host(joined).tolist()
            else:
                self.run.losses += [float(t) for t in self.pending]
            self.pending.clear()
        return before

    # -------------------------------------------------------------------------------------------- reporting

    def symptoms(self) -> list[Symptom]:
        """What was found, causes first; empty for a run that is well."""
        self._read_losses()
        names = [n for n, seen in self.alive.items() if len(seen) >= min(3, REMEMBERED)]
        ever = []
        for name in names:
            rows = list(self.alive[name])
            alive = rows[0]
            for row in rows[1:]:
                alive = alive | row
            ever.append(~alive)
        self.run.dead = dict(zip(names, shares(ever))) if ever else {}
        self.run.saturated = dict(zip(self.outputs, shares(self.outputs.values()))) if self.outputs else {}
        return symptoms(self.run)

    def report(self) -> str:
        """The findings, and what was measured layer by layer."""
        found = self.symptoms()
        losses = self.run.losses
        if not losses:
            return "Nothing was observed: call observe(loss) after each step."
        course = f"loss {losses[0]:.4g} -> {losses[-1]:.4g}"
        lines = [f"{len(losses)} steps, {course}, {len(self.run.looks)} close looks", "", *self._layers(), ""]
        lines += [str(symptom) for symptom in found] or ["Nothing is amiss."]
        return "\n".join(lines)

    def _layers(self) -> list[str]:
        """A line for each weight, of the last look."""
        if not self.run.looks:
            return []
        look, width = self.run.looks[-1], max([*map(len, self.run.sizes), 6])
        lines = [f"{'weight':<{width}}  {'|w|':>9}  {'|g|':>9}  {'update/w':>9}  {'dead':>5}"]
        for name in self.run.sizes:
            w, g, u = (d.get(name, nan) for d in (look.weights, look.gradients, look.updates))
            dead = f"{self.run.dead[name]:.0%}" if name in self.run.dead else "-"
            lines.append(f"{name:<{width}}  {w:9.3g}  {g:9.3g}  {u / w if w else nan:9.2g}  {dead:>5}")
        middle = ratios(self.run, look)
        lines.append(f"median update/w {median(middle) if middle else nan:.2g} (healthy: about 1e-3)")
        return lines

    def close(self) -> None:
        """Take the hooks out."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def __enter__(self) -> Diagnosis:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()


def _number(loss: Any) -> Array:
    import numpy as np

    return np.asarray(float(loss))


def _units(model: Any) -> dict[str, Tensor | None]:
    """Weight name -> its bias or None, for the weights whose rows are units: of 2 or more dims, no tables."""
    found: dict[str, Tensor | None] = {}
    for path, module in model.named_modules():
        if type(module).__name__.startswith("Embedding"):
            continue
        for name, p in module.named_parameters(recurse=False):
            if p.ndim > 1:
                bias = getattr(module, name.replace("weight", "bias"), None) if "weight" in name else None
                fits = isinstance(bias, Tensor) and bias.array.shape == p.array.shape[:1]
                found[f"{path}.{name}" if path else name] = bias if fits else None
    return found


def _memory() -> tuple[float, float]:
    """(bytes resident, bytes of the machine); what is not known is nan."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        with open("/proc/self/statm") as statm:
            return float(statm.read().split()[1]) * page, float(os.sysconf("SC_PHYS_PAGES")) * page
    except (OSError, ValueError, AttributeError):  # no Linux
        return 0.0, nan
