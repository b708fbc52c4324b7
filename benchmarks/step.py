"""How long a training step takes beside PyTorch, JAX and NumPy by hand: one process, alternating blocks.

    python benchmarks/step.py                                 all workloads, one thread
    python benchmarks/step.py --threads 1 2 --save step       with one thread, then with two
    python benchmarks/step.py --workloads w1-32 w5
    python benchmarks/step.py --memory                        peak memory, each in a process of its own

Workloads (float32; shared by all contestants: data, initial weights, and what a step is):
    w1-32, w1-128   MLP 784-256-128-10, cross-entropy, AdamW, batch 32 or 128
    w2              CNN 1x28x28: conv3(32)-relu-conv3(64)-relu-maxpool2-conv3(64, stride 2)-relu-linear(10),
                    padding 1, batch 64, SGD with Nesterov's momentum 0.9
    w3              GPT: 65 tokens, context 64, width 128, 4 heads, 4 layers, GELU(tanh), pre-LayerNorm,
                    learned positions, biases, untied, batch 16, AdamW
    w5              1,000 adds and multiplies on 16 elements, forward and backward: the cost of recording
    adamw-197       AdamW alone on 197 tensors of 1.29M parameters in all
    adamw-10m       AdamW alone on one tensor of 10M parameters

Before any time counts, the losses of the first five steps must agree to 1e-4. Then each contestant runs a
block of steps in turn, nine times after one that warms up; printed are the median blocks, and the median of
the ratios block by block. "products" is what the step's products of matrices take alone, ours beside torch's.

OpenBLAS follows OPENBLAS_CORETYPE, which the environment may set: the head of the table says which form runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from race import Step, medians, race, ratios, threads

arguments = argparse.ArgumentParser(description="Time of a training step.", allow_abbrev=False)
arguments.add_argument("--against", choices=["torch", "nothing"], default="torch", help="whom to run beside")
arguments.add_argument("--workloads", nargs="+", metavar="W", help="names as above (default: all)")
arguments.add_argument("--contestants", nargs="+", metavar="C", help="names of columns (default: all)")
arguments.add_argument("--threads", nargs="+", type=int, default=[1], metavar="N", help="threads of all (1)")
arguments.add_argument("--blocks", type=int, default=9, metavar="N", help="alternating blocks (default: 9)")
arguments.add_argument("--memory", action="store_true", help="peak memory of each instead of its time")
arguments.add_argument("--save", metavar="NAME", help="write results/NAME.json, NAME.md and NAME.png")
arguments.add_argument("--json", metavar="FILE", help="write the figures there")
options = arguments.parse_args() if __name__ == "__main__" else arguments.parse_args([])
COUNT = options.threads[0]  # libraries ask once: each further count has a process of its own
threads(COUNT)
if COUNT == 1:
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np
from steps import WORKLOADS, Workload

import kernels

RESULTS = Path(__file__).resolve().parent / "results"
GOALS = {
    "w1-32": 0.65,
    "w1-128": 0.80,
    "w2": 0.95,
    "w3": 0.90,
    "w5": 0.5,
    "adamw-197": 0.6,
    "adamw-10m": 1.05,
}


def contestants(work: Workload) -> dict[str, Step]:
    """The steps of those that are wanted and can be had here, ours first."""
    found: dict[str, Step] = {}
    for name, make in work.makers.items():
        if name != "minigrad" and options.against == "nothing":
            continue
        if options.contestants and name not in (*options.contestants, "minigrad"):
            continue
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{work.name}: {name} is left out: {error}", file=sys.stderr)
    return found


def equal_losses(name: str, steps: dict[str, Step]) -> None:
    """The first five losses of all contestants agree to 1e-4, or there is nothing to time."""
    losses = {who: [float(step()) for _ in range(5)] for who, step in steps.items()}
    ours = losses["minigrad"]
    for who, theirs in losses.items():
        if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-4):
            raise SystemExit(f"{name}: the losses differ: minigrad {ours}, {who} {theirs}")


def compare(work: Workload) -> dict[str, Any]:
    """The figures of one workload."""
    steps = contestants(work)
    equal_losses(work.name, steps)
    times = race(steps, work.count, options.blocks)
    result: dict[str, Any] = {"workload": work.name, "ms": medians(times), "ratio": ratios(times)}
    eager = [who for who in ("torch", "torch fused") if who in times]
    if eager:
        best = min(eager, key=lambda who: statistics.median(times[who]))
        result |= {"faster eager": best, "ratio to it": result["ratio"][best], "goal": GOALS[work.name]}
    if work.products and "torch" in times:
        pair = race(products(work.products), max(1, work.count // 2), options.blocks)
        result["products"] = {"ms": medians(pair), "ratio": ratios(pair)["torch"]}
    return result


def products(shapes: list[tuple[int, int, int, int]]) -> dict[str, Step]:
    """A step's products alone, ours and torch's: x @ w.T and its gradients, (times, rows, inner, columns)."""
    import torch

    from kernels.products import product

    rng = np.random.default_rng(5)
    work = []
    for times, rows, inner, columns in shapes:
        x, w, g = (
            rng.standard_normal(s, np.float32) for s in ((rows, inner), (columns, inner), (rows, columns))
        )
        work += [(x, w.T, np.empty((rows, columns), np.float32))] * times
        work += [(g.T, x, np.empty((columns, inner), np.float32))] * times
        work += [(g, w, np.empty((rows, inner), np.float32))] * times
    twins = [tuple(map(torch.from_numpy, three)) for three in work]

    def ours() -> None:
        for a, b, c in work:
            product(a, b, c)

    def theirs() -> None:
        for a, b, c in twins:
            torch.mm(a, b, out=c)

    return {"minigrad": ours, "torch": theirs}


# ------------------------------------------------------------------------------------------------ peak memory


def peak(name: str, who: str) -> float:
    """MB that a process has held at most, which imports one contestant and does twenty steps.

    From Linux's own count: getrusage's would be the parent's, if that held more when it started the process.
    """
    code = (
        f"import sys; sys.path[:0] = {[str(RESULTS.parent), str(RESULTS.parent.parent)]!r}\n"
        "from steps import WORKLOADS\n"
        f"step = WORKLOADS[{name!r}].makers[{who!r}]()\n"
        "for _ in range(20): step()\n"
        "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {who} failed: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout) / 1024


def memory(work: Workload) -> dict[str, Any]:
    """Peak memory of ours and PyTorch's step."""
    found = {who: peak(work.name, who) for who in ("minigrad", "torch") if who in work.makers}
    return {"workload": work.name, "peak MB": found}


# ---------------------------------------------------------------------------------------------------- reports


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    found: dict[str, Any] = {"threads": COUNT, "blocks": options.blocks}
    found |= {"python": platform.python_version(), "numpy": np.__version__, "kernels": kernels.machine()}
    for package in ("torch", "jax"):
        if package in sys.modules:
            found[package] = sys.modules[package].__version__
    found["load at the end"] = [round(n, 1) for n in os.getloadavg()] if hasattr(os, "getloadavg") else None
    set_by_hand = {k: v for k, v in os.environ.items() if k.startswith(("OPENBLAS_", "MKL_", "MINIGRAD_"))}
    found["environment"] = set_by_hand
    try:
        from threadpoolctl import threadpool_info

        found["blas"] = [f"{i['internal_api']} {i.get('architecture', '')}" for i in threadpool_info()
                         if i["user_api"] == "blas"]  # fmt: skip
    except ImportError:
        pass
    return found


def table(results: list[dict[str, Any]]) -> str:
    """The figures in Markdown."""
    names = list(dict.fromkeys(who for r in results for who in r["ms"]))
    lines = [
        "| ms a step | " + " | ".join(names) + " | ratio | goal | products |",
        "|---" * (len(names) + 4) + "|",
    ]
    for r in results:
        times = [f"{r['ms'][who]:.3f}" if who in r["ms"] else "" for who in names]
        ratio = f"{r['ratio to it']:.2f} ({r['faster eager']})" if "goal" in r else ""
        goal = f"<= {r['goal']:.2f}" if "goal" in r else ""
        alone = r.get("products")
        beside = (
            f"{alone['ms']['minigrad']:.2f} / {alone['ms']['torch']:.2f} = {alone['ratio']:.2f}"
            if alone
            else ""
        )
        lines.append(f"| {r['workload']} | " + " | ".join([*times, ratio, goal, beside]) + " |")
    return "\n".join(lines)


def picture(results: list[dict[str, Any]], place: Path) -> None:
    """Times relative to the faster eager column, one group of bars a workload."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(who for r in results for who in r["ms"]))
    figure, axes = plt.subplots(figsize=(1.5 * len(results) + 2, 4))
    for k, who in enumerate(names):
        at = [i + (k - len(names) / 2) / (len(names) + 1) for i, r in enumerate(results) if who in r["ms"]]
        heights = [r["ms"][who] / r["ms"].get(r.get("faster eager", ""), r["ms"]["minigrad"]) for r in results
                   if who in r["ms"]]  # fmt: skip
        axes.bar(at, heights, 1 / (len(names) + 1), label=who, align="edge")
    axes.set_xticks(range(len(results)), [r["workload"] for r in results])
    axes.axhline(1, color="black", linewidth=0.5)
    axes.set_ylim(0, 2)
    axes.set_ylabel("time / faster of torch's eager columns")
    axes.legend(fontsize=8)
    figure.savefig(place, dpi=120, bbox_inches="tight")


def main() -> None:
    names = options.workloads or list(WORKLOADS)
    unknown = [n for n in names if n not in WORKLOADS]
    if unknown:
        arguments.error(f"no workload {unknown[0]!r}; there are: {' '.join(WORKLOADS)}")
    if options.against == "torch":
        try:
            import torch
        except ImportError:
            arguments.error("--against torch: torch is not installed; make bench ORACLES=1 installs it")
        torch.set_num_threads(COUNT)
    kernels.set_num_threads(COUNT)
    results = []
    for name in names:
        result = memory(WORKLOADS[name]) if options.memory else compare(WORKLOADS[name])
        results.append(result)
        print(json.dumps(result), flush=True)
    reports = [{"machine": environment(), "results": results}]
    print(json.dumps(reports[0]["machine"]))
    if not options.memory:
        print(table(results))
    reports += [elsewhere(count) for count in options.threads[1:]]
    if options.json:
        Path(options.json).write_text(json.dumps(reports, indent=1) + "\n")
    if options.save:
        (RESULTS / f"{options.save}.json").write_text(json.dumps(reports, indent=1) + "\n")
        if not options.memory:
            (RESULTS / f"{options.save}.md").write_text("\n".join(map(page, reports)))
            picture(results, RESULTS / f"{options.save}.png")


def elsewhere(count: int) -> dict[str, Any]:
    """The same with another number of threads, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "report.json"
        same = ["--against", options.against, "--blocks", str(options.blocks), *["--memory"] * options.memory]
        for flag, names in (("--workloads", options.workloads), ("--contestants", options.contestants)):
            same += [flag, *names] if names else []
        command = [sys.executable, __file__, *same, "--threads", str(count), "--json", str(place)]
        subprocess.run(command, check=True)
        return json.loads(place.read_text())[0]


def page(report: dict[str, Any]) -> str:
    """A report in Markdown: what it was measured with, and the table."""
    head = "\n".join(f"- {k}: {v}" for k, v in report["machine"].items())
    return f"{head}\n\n{table(report['results'])}\n"


if __name__ == "__main__":
    main()
