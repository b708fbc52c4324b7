"""One optimizer over one set of parameters: minigrad's step, and the forms of it that PyTorch has.

    contest = Contest("AdamW", [(10_000_000,)])
    steps = contest.steps()         {"minigrad": ..., "default": ..., "foreach": ..., "fused": ...}
    contest.differing(steps)        those whose parameters after five steps are not ours, to 1e-4

On a GPU there is "minigrad graph" too, the step captured; nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from race import Step, medians, race

import minigrad as mg


class Contest:
    """From the same values and gradients, all on one device."""

    def __init__(self, rule: str, shapes: list[tuple[int, ...]], device: str = "cpu", **options: Any):
        rng = np.random.default_rng(2)
        self.rule, self.device, self.options = rule, device, options
        self.values = [rng.random(s, np.float32) + np.float32(0.1) for s in shapes]  # positive, as some want
        self.grads = [rng.standard_normal(s, np.float32) for s in shapes]
        self.after: dict[str, Callable[[], list[np.ndarray]]] = {}

    def ours(self, name: str = "minigrad") -> Any:
        """The optimizer's step."""
        params = [mg.nn.Parameter(mg.tensor(v, device=self.device)) for v in self.values]
        optimizer = mg.optim.zoo[self.rule].make(params, **self.options)
        for p, g in zip(params, self.grads, strict=True):  # gradients as backward leaves them
            (p * mg.tensor(g, device=self.device)).sum().backward()
        self.after[name] = lambda: [p.detach().cpu().numpy() for p in params]
        return optimizer.step

    def theirs(self, **form: Any) -> Step:
        import torch

        params = [torch.from_numpy(v.copy()).to(self.device).requires_grad_() for v in self.values]
        optimizer = getattr(torch.optim, self.rule)(params, **self.options, **form)
        for p, g in zip(params, self.grads, strict=True):
            p.grad = torch.from_numpy(g).to(self.device)
        self.after[next(iter(form), "default")] = lambda: [p.detach().cpu().numpy() for p in params]
        return optimizer.step

    def steps(self) -> dict[str, Step]:
        """minigrad, and whatever forms of the rule PyTorch has: default, foreach, fused."""
        found: dict[str, Step] = {"minigrad": self.ours()}
        if self.device != "cpu":
            found["minigrad graph"] = mg.graph.capture(self.ours("minigrad graph"))
        try:
            import torch
        except ImportError:
            return found
        if hasattr(torch.optim, self.rule) and self.rule != "LBFGS":
            for form in ({}, {"foreach": True}, {"fused": True}):
                try:
                    step = self.theirs(**form)
                    step()
                except (TypeError, RuntimeError, AssertionError):  # no such form, or no torch for this device
                    self.after.pop(next(iter(form), "default"), None)
                    continue
                found[next(iter(form), "default")] = self.theirs(**form)
        return found

    def differing(self, steps: dict[str, Step]) -> list[str]:
        """Who has other parameters than minigrad after five steps."""
        for step in steps.values():
            for _ in range(5):
                step()
        mine = self.after["minigrad"]()

        def same(who: str) -> bool:
            pairs = zip(mine, self.after[who](), strict=True)
            return all(np.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs)

        return [who for who in steps if not same(who)]


def bandwidth(elements: int, device: str, count: int, blocks: int) -> dict[str, float]:
    """GB/s of a plain update a += b (12 bytes an element) and of a copy (8 bytes), on the device."""
    a, b = (mg.ones(elements, device=device).array for _ in range(2))
    if device == "cpu":
        xp = np
    else:
        import cupy as xp
    jobs: dict[str, Step] = {"update": lambda: xp.add(a, b, out=a), "copy": lambda: xp.copyto(a, b)}
    found = medians(race(jobs, count, blocks, waiting(device)))
    size = {"update": 12, "copy": 8}
    return {k: size[k] * elements / ms / 1e6 for k, ms in found.items()}


def waiting(device: str) -> Step:
    """How to wait for the device."""
    return (lambda: None) if device == "cpu" else mg.cuda.synchronize
