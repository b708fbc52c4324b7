"""How long an optimizer's step takes, rule by rule, beside PyTorch's loop, foreach and fused forms.

    python benchmarks/optim.py                          every rule, one thread
    python benchmarks/optim.py --rules AdamW Lion --json out.json

Two sets of parameters (float32): `flat`, one tensor of 10M, and `tensors`, 197 tensors of 1.29M in all, as a
small transformer has. GB/s are the bytes that the rule must move (its `record`), so they can be held
against what the machine does in a plain update a += b (12 bytes an element) and a copy (8 bytes), in the same
run. Before any time counts, the parameters after five steps must be PyTorch's to 1e-4.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from race import Step, medians, race, ratios, threads

arguments = argparse.ArgumentParser(description="Time of an optimizer's step.", allow_abbrev=False)
arguments.add_argument(
    "--rules", nargs="+", metavar="RULE", help="names in minigrad.optim.zoo (default: all)"
)
arguments.add_argument("--sets", nargs="+", choices=["flat", "tensors"], default=["tensors", "flat"])
arguments.add_argument("--flat", type=int, default=10_000_000, metavar="N", help="elements of the flat set")
arguments.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
arguments.add_argument("--threads", type=int, default=1, metavar="N", help="threads of both (default: 1)")
arguments.add_argument("--blocks", type=int, default=9, metavar="N", help="alternating blocks (default: 9)")
arguments.add_argument("--json", metavar="FILE", help="write the figures there too")
options = arguments.parse_args() if __name__ == "__main__" else arguments.parse_args([])
threads(options.threads)

import numpy as np

import kernels
import minigrad as mg

CUDA = options.device.startswith("cuda")
# other than the defaults, so that the text does what a user would ask of it
OPTIONS: dict[str, dict[str, Any]] = {"SGD": dict(lr=1e-3, momentum=0.9), "RMSprop": dict(momentum=0.9)}


def small_tensors() -> list[tuple[int, ...]]:
    """197 shapes, biases among them, of 1.29M elements in all."""
    rng = np.random.default_rng(3)
    return [(int(n), 128) if k % 2 else (int(n),) for k, n in enumerate(rng.integers(60, 145, 197))]


def wait() -> None:
    """Until the device has done what was asked of it."""
    if CUDA:
        mg.cuda.synchronize()


class Contest:
    """One rule over one set of parameters: ours and PyTorch's forms of it, from the same values."""

    def __init__(self, rule: str, shapes: list[tuple[int, ...]]):
        rng = np.random.default_rng(2)
        self.rule, self.options = rule, OPTIONS.get(rule, {})
        self.values = [rng.random(s, np.float32) + np.float32(0.1) for s in shapes]  # positive, as some want
        self.grads = [rng.standard_normal(s, np.float32) for s in shapes]
        self.after: dict[str, Callable[[], list[np.ndarray]]] = {}

    def ours(self) -> Step:
        params = [mg.nn.Parameter(mg.tensor(v, device=options.device)) for v in self.values]
        optimizer = mg.optim.zoo[self.rule].make(params, **self.options)
        for p, g in zip(params, self.grads, strict=True):  # gradients as backward leaves them
            (p * mg.tensor(g, device=options.device)).sum().backward()
        self.after["minigrad"] = lambda: [p.detach().cpu().numpy() for p in params]
        return self.timed(optimizer.step)

    def theirs(self, **form: Any) -> Step:
        import torch

        params = [torch.from_numpy(v.copy()).to(options.device).requires_grad_() for v in self.values]
        optimizer = getattr(torch.optim, self.rule)(params, **self.options, **form)
        for p, g in zip(params, self.grads, strict=True):
            p.grad = torch.from_numpy(g).to(options.device)
        self.after[next(iter(form), "default")] = lambda: [p.detach().cpu().numpy() for p in params]
        return self.timed(optimizer.step, torch.cuda.synchronize if CUDA else None)

    def timed(self, step: Step, finish: Callable[[], None] | None = None) -> Step:
        """On a GPU a step counts when it is done; the wait is the same for all."""
        if not CUDA:
            return step

        def whole() -> None:
            step()
            (finish or wait)()

        return whole

    def steps(self) -> dict[str, Step]:
        """minigrad, and whatever forms of the rule PyTorch has: default, foreach, fused."""
        found = {"minigrad": self.ours()}
        try:
            import torch
        except ImportError:
            return found
        if hasattr(torch.optim, self.rule) and self.rule != "LBFGS":
            for form in ({}, {"foreach": True}, {"fused": True}):
                try:
                    step = self.theirs(**form)
                    step()
                except (TypeError, RuntimeError):  # no such form, or not on this device
                    self.after.pop(next(iter(form), "default"), None)
                    continue
                found[next(iter(form), "default")] = self.theirs(**form)
        return found

    def check(self, steps: dict[str, Step]) -> None:
        """After five steps all have the same parameters."""
        for step in steps.values():
            for _ in range(5):
                step()
        mine = self.after["minigrad"]()
        for who in steps:
            for a, b in zip(mine, self.after[who](), strict=True):
                if not np.allclose(a, b, rtol=1e-4, atol=1e-4):
                    raise SystemExit(f"{self.rule}: after five steps minigrad and {who} differ")


def machine() -> dict[str, float]:
    """GB/s of a plain update and of a copy over 10M floats, in the same process."""
    if CUDA:
        import cupy as xp
    else:
        xp = np
    a, b = xp.ones(options.flat, "float32"), xp.ones(options.flat, "float32")
    jobs = {"update": lambda: xp.add(a, b, out=a), "copy": lambda: xp.copyto(a, b)}
    steps = {k: (lambda job=job: (job(), wait())) for k, job in jobs.items()}
    found = medians(race(steps, 5, options.blocks))
    size = {"update": 12, "copy": 8}
    return {k: size[k] * options.flat / ms / 1e6 for k, ms in found.items()}


def main() -> None:
    zoo = mg.optim.zoo
    names = options.rules or [
        r.name for r in zoo.values() if not r.needs and r.kind in ("elementwise", "layer-wise")
    ]
    unknown = [n for n in names if n not in zoo]
    if unknown:
        arguments.error(f"no rule {unknown[0]!r}; there are: {' '.join(zoo)}")
    mg.set_num_threads(options.threads)
    versions = {"python": platform.python_version(), "numpy": np.__version__, "kernels": kernels.machine()}
    try:
        import torch

        torch.set_num_threads(options.threads)
        versions["torch"] = torch.__version__
    except ImportError:
        print("torch is not installed: minigrad alone (make bench ORACLES=1 installs it)")
    bandwidth = machine()
    print(f"{options.threads} thread(s), {options.blocks} alternating blocks; {versions}")
    print("the machine: " + ", ".join(f"{k} {v:.1f} GB/s" for k, v in bandwidth.items()))
    results = []
    for name in names:
        for which in options.sets:
            shapes = small_tensors() if which == "tensors" else [(options.flat,)]
            contest = Contest(name, shapes)
            steps = contest.steps()
            contest.check(steps)
            times = race(steps, 50 if which == "tensors" else 5, options.blocks)
            ms, ratio = medians(times), ratios(times)
            elements, moved = sum(int(np.prod(s)) for s in shapes), zoo[name].moved_bytes
            gbs = None if moved is None or name in OPTIONS else moved * elements / ms["minigrad"] / 1e6
            results.append({"rule": name, "set": which, "ms": ms, "ratio": ratio, "GB/s": gbs})
            shown = "   ".join(f"{who} {v:.3f}" for who, v in ms.items())
            rates = "" if gbs is None else f"   {gbs:.1f} GB/s"
            versus = "   ".join(f"{r:.2f}x {who}" for who, r in ratio.items())
            print(f"{name:18s} {which:8s} ms: {shown}{rates}   {versus}", flush=True)
    if options.json:
        report = {
            "threads": options.threads,
            "versions": versions,
            "machine GB/s": bandwidth,
            "results": results,
        }
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
