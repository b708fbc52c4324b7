"""The step of a training run as one launch on a GPU (mg.graph.capture), and what the host learns of it later.

A captured step says nothing to the host: whether its gradient was sound stays on the device until the loop
waits for it anyway. Under float16 a step may have been left out there. So the host counts every step as made,
and `settle` takes back what was not.
"""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import training


def refusal(run: Any) -> str:
    """Why the host has to look at the device in the middle of a run's step; empty where it does not."""
    records = training.chain(run.c.optimizer)
    if several := [r.cls.__name__ for r in records if "closure" in r.needs]:
        return f"{several[0]} asks for several gradients a step"
    if hasattr(run.optimizer, "outputs"):
        return f"{type(run.optimizer).__name__} asks for the model's distribution"
    if run.doctor is not None or run.c.anomaly:
        return "--diagnose and --anomaly look into each step"
    if run.average is not None and run.scaler.is_enabled():
        return "an average of weights takes in only steps that float16 did not leave out"
    return ""


class CapturedStep:
    """A run's whole step, gather of the batch and all micro-batches of --accumulate included.

    source  what the loop goes through: indices, where the step gathers its batches itself; else batches
    flags   of the steps that nobody has asked yet whether float16 left them out
    """

    def __init__(self, run: Any):
        self.run = run
        self.flags: list[mg.Tensor] = []
        indices = run.task.train.indices
        self.source = run.task.train if indices is None else indices
        self.launch = mg.graph.capture(self._step, schedule=run.plan)

    @property
    def why(self) -> str:
        """Why steps run eagerly after all; empty while they do not."""
        return self.launch.why

    def _step(self, *given: Any) -> tuple[mg.Tensor, Any]:
        run = self.run
        run.window = run.batches(given)
        loss = run.gradient(note=False)
        if run.scaler.is_enabled():
            run.scaler.step(run.optimizer, clip=run.c.clip)
            run.scaler.update()
            return loss, run.scaler.found_inf
        run.optimizer.step()
        return loss, run.norm

    def __call__(self, window: list[Any]) -> mg.Tensor:
        """One step, its loss on the device."""
        loss, found = self.launch(*window)
        if self.run.scaler.is_enabled():
            self.flags.append(found)
        else:
            self.run.guard.note(found)
        return loss

    def settle(self) -> None:
        """Take back what was counted of steps that float16 left out. Waits for the device."""
        run, now = self.run, self.run.progress
        if not self.flags:
            return
        left_out = [flag != 0 for flag in mg.stack(self.flags).tolist()]
        first = len(now.losses) - len(left_out)
        now.losses[first:] = [loss for loss, out in zip(now.losses[first:], left_out, strict=True) if not out]
        for out in left_out:
            now.row = now.row + 1 if out else 0
        run.optimizer.settle()
        now.skipped += run.scaler.skips - run.known
        run.known, self.flags = run.scaler.skips, []
        for group, at in run.rates:  # of the last step
            group["lr"] = at(now.step - 1 - (now.skipped - left_out[-1]))
