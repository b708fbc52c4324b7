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
from pathlib import Path
from typing import Any

from race import medians, race, ratios, threads

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
from contest import Contest, bandwidth, waiting

import kernels
import minigrad as mg

# other than the defaults, so that the text does what a user would ask of it
OPTIONS: dict[str, dict[str, Any]] = {"SGD": dict(lr=1e-3, momentum=0.9), "RMSprop": dict(momentum=0.9)}


def small_tensors() -> list[tuple[int, ...]]:
    """197 shapes, biases among them, of 1.29M elements in all."""
    rng = np.random.default_rng(3)
    return [(int(n), 128) if k % 2 else (int(n),) for k, n in enumerate(rng.integers(60, 145, 197))]


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
    plain = bandwidth(options.flat, options.device, 5, options.blocks)
    print(f"{options.threads} thread(s), {options.blocks} alternating blocks; {versions}")
    print("the machine: " + ", ".join(f"{k} {v:.1f} GB/s" for k, v in plain.items()))
    results = []
    for name in names:
        for which in options.sets:
            shapes = small_tensors() if which == "tensors" else [(options.flat,)]
            contest = Contest(name, shapes, options.device, **OPTIONS.get(name, {}))
            steps = contest.steps()
            if apart := contest.differing(steps):
                raise SystemExit(f"{name}: after five steps minigrad and {', '.join(apart)} differ")
            count = 50 if which == "tensors" else 5
            times = race(steps, count, options.blocks, waiting(options.device))
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
            "machine GB/s": plain,
            "results": results,
        }
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
