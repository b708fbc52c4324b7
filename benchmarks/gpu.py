"""How long a whole training step takes on a GPU, beside PyTorch in five modes and JAX.

    python benchmarks/gpu.py                    every row; the table and JSON go to benchmarks/results/
    python benchmarks/gpu.py --rows H1 H5       some of them
    python benchmarks/gpu.py --dry              on the CPU, a few steps each: does the script work?

    H1  MLP 784-512-256-10, batch 128, 256, 512, 1024        TF32
    H2  GPT of 4 layers, width 128, 128 tokens, batch 16     TF32
    H3  GPT of 6 layers, width 384, 256 tokens, batch 8, 64  TF32 and bfloat16
    H4  ResNet-9, batch 128, 512                             TF32
    H5  every elementwise optimizer on 10.7M parameters: GB/s, and its share of what a copy reaches

A step is all of it: the batch gathered from data on the device, forward, backward, AdamW. Contestants start
from the same weights and see the same batches. Each runs in a process of its own, ours before and after the
others (A-B-A); 20 steps of warm-up, then 7 windows of 200 steps (50 of larger models): median, fastest,
slowest. Compiling is timed apart. No time counts before the loss at step 100 lies within 1e-3 of PyTorch's
(bfloat16: 2e-2). Every row is printed, won or lost, and what did not run says why. JAX runs the MLP only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "benchmarks" / "results"

TORCH = ("torch eager", "torch compile", "torch reduce-overhead", "torch graph", "torch compiled graph")
OURS = ("minigrad graph", "minigrad eager")
ROWS: dict[str, list[tuple[str, str, tuple[str, ...]]]] = {
    "H1": [(f"mlp:{b}", "tf32", (*TORCH, "jax")) for b in (128, 256, 512, 1024)],
    "H2": [("gpt4:16", "tf32", TORCH)],
    "H3": [(f"gpt6:{b}", p, TORCH) for b in (8, 64) for p in ("tf32", "bf16")],
    "H4": [(f"resnet9:{b}", "tf32", ("torch eager", "torch compile")) for b in (128, 512)],
    "H5": [("optimizers:10700000", "fp32", ("torch eager",))],
}
SIZES = {"gpt4": (4, 128, 4, 128), "gpt6": (6, 384, 6, 256)}  # layers, width, heads, tokens
VOCABULARY, EXAMPLES, CHECKED = 65, 2048, 100
Step = Callable[[Any], Any]  # takes the numbers of the batch's examples, on the device; gives the loss there


# ---- the same for all


def weights(shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Starting values by shape: matrices and filters normal with variance 1 / fan in, norms 1."""
    rng = np.random.default_rng(0)
    return [
        np.ones(s, "f4") if len(s) == 1 else (rng.standard_normal(s) / math.sqrt(np.prod(s[1:]))).astype("f4")
        for s in shapes
    ]


def examples(kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    if kind == "mlp":
        return rng.standard_normal((EXAMPLES, 784)).astype("f4"), rng.integers(0, 10, EXAMPLES)
    if kind == "resnet9":
        return rng.standard_normal((EXAMPLES, 3, 32, 32)).astype("f4"), rng.integers(0, 10, EXAMPLES)
    tokens = SIZES[kind][3]
    text = rng.integers(0, VOCABULARY, (EXAMPLES, tokens + 1))
    return text[:, :-1].copy(), text[:, 1:].copy()


def order(batch: int) -> np.ndarray:
    """The numbers of the examples, batch by batch, as often as they fit."""
    return np.random.default_rng(2).permutation(EXAMPLES)[: EXAMPLES // batch * batch].reshape(-1, batch)


# ---- ours


def minigrad_step(kind: str, batch: int, precision: str, mode: str, where: str) -> tuple[Step, Any, Any]:
    import minigrad as mg
    from minigrad import amp, optim
    from minigrad.nn import functional as F
    from models import GPT, MLP, GPTConfig, ResNet9

    mg.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    if kind == "mlp":
        model: Any = MLP([784, 512, 256, 10])
    elif kind == "resnet9":
        model = ResNet9()
    else:
        layers, width, heads, tokens = SIZES[kind]
        model = GPT(GPTConfig(VOCABULARY, tokens, layers, heads, width, bias=False, tied=True))
    start(model, lambda w: mg.tensor(w), mg.no_grad)
    model.to(where)
    x, y = (mg.tensor(a).to(where) for a in examples(kind))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    def step(index: Any) -> Any:
        optimizer.zero_grad()
        with amp.autocast(where.partition(":")[0], dtype=mg.bfloat16, enabled=precision == "bf16"):
            out = model(x[index])
        out = out.flatten(0, -2) if out.ndim > 2 else out
        loss = F.cross_entropy(out, y[index].flatten())
        loss.backward()
        optimizer.step()
        return loss.detach()

    run = mg.graph.capture(step) if mode == "graph" else step
    if where == "cpu":
        return run, mg.tensor(order(batch)), lambda: None
    import cupy

    return run, mg.tensor(order(batch)).to(where), cupy.cuda.Device().synchronize


def start(model: Any, tensor: Callable, no_grad: Callable) -> None:
    """Give the parameters, in their order, their starting values; biases 0."""
    named = list(model.named_parameters())
    values = weights([tuple(p.shape) for _, p in named])
    with no_grad():
        for (name, p), w in zip(named, values, strict=True):
            p.data = tensor(0 * w if name.endswith("bias") else w)


# ---- PyTorch


def torch_model(kind: str) -> Any:
    """The same networks, parameters in the same order."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    if kind == "mlp":
        relu, linear = nn.ReLU, nn.Linear
        return nn.Sequential(linear(784, 512), relu(), linear(512, 256), relu(), linear(256, 10))

    def conv(i: int, o: int, pool: bool = False) -> Any:
        layers = [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))

    class ResNet9(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            w = 64
            self.prepare, self.layer1 = conv(3, w), conv(w, 2 * w, True)
            self.residual1 = nn.Sequential(conv(2 * w, 2 * w), conv(2 * w, 2 * w))
            self.layer2, self.layer3 = conv(2 * w, 4 * w, True), conv(4 * w, 8 * w, True)
            self.residual3 = nn.Sequential(conv(8 * w, 8 * w), conv(8 * w, 8 * w))
            self.head = nn.Linear(8 * w, 10, bias=False)

        def forward(self, x: Any) -> Any:
            x = self.layer1(self.prepare(x))
            x = x + self.residual1(x)
            x = self.layer3(self.layer2(x))
            x = x + self.residual3(x)
            return self.head(F.max_pool2d(x, 4).flatten(1)) * 0.125

    class Block(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm1 = nn.LayerNorm(width, bias=False)
            self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
            self.norm2 = nn.LayerNorm(width, bias=False)
            self.up = nn.Linear(width, 4 * width, bias=False)
            self.down = nn.Linear(4 * width, width, bias=False)

        def forward(self, x: Any) -> Any:
            b, t, c = x.shape
            parts = self.qkv(self.norm1(x)).split(c, 2)
            q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in parts)
            h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c)
            x = x + self.out(h)
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self, layers: int, width: int, heads: int, tokens: int) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(tokens, width)
            self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
            self.norm = nn.LayerNorm(width, bias=False)

        def forward(self, x: Any) -> Any:
            h = self.tokens(x) + self.positions.weight[: x.shape[1]]
            for block in self.blocks:
                h = block(h)
            return F.linear(self.norm(h), self.tokens.weight).flatten(0, 1)

    assert torch
    return ResNet9() if kind == "resnet9" else GPT(*SIZES[kind])


def torch_step(kind: str, batch: int, precision: str, mode: str, where: str) -> tuple[Step, Any, Any]:
    import torch
    from torch.nn import functional as F

    tf32 = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    model = torch_model(kind)
    start(model, torch.from_numpy, torch.no_grad)
    model = model.to(where)
    x, y = (torch.from_numpy(a).to(where) for a in examples(kind))
    if kind == "resnet9" and where != "cpu":
        model, x = (a.to(memory_format=torch.channels_last) for a in (model, x))
    on_gpu = where != "cpu"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, capturable=on_gpu)

    def loss_of(inputs: Any, targets: Any) -> Any:
        with torch.autocast(where.partition(":")[0], torch.bfloat16, enabled=precision == "bf16"):
            out = model(inputs)
        return F.cross_entropy(out.float(), targets.flatten())

    compiled = loss_of
    if mode in ("compile", "compiled graph"):
        compiled = torch.compile(loss_of, dynamic=False, fullgraph=True)
    if mode == "reduce-overhead":
        compiled = torch.compile(loss_of, dynamic=False, fullgraph=True, mode=mode)

    def step(index: Any) -> Any:
        if mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        loss = compiled(x[index], y[index])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    batches = torch.from_numpy(order(batch)).to(where)
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    if "graph" not in mode or not on_gpu:
        return step, batches, wait
    made: list[Any] = []
    static = batches[0].clone()
    side = torch.cuda.Stream()

    def replayed(index: Any) -> Any:  # the first eleven steps are warm-up, on the side, as PyTorch asks
        if len(made) < 11:
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                made.append(step(index))
            torch.cuda.current_stream().wait_stream(side)
            return made[-1]
        static.copy_(index)
        if len(made) == 11:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = step(static)
            made.extend((graph, out))
        made[11].replay()
        return made[12].clone()

    return replayed, batches, wait


# ---- JAX


def jax_step(kind: str, batch: int, precision: str, mode: str, where: str) -> tuple[Step, Any, Any]:
    import jax
    import jax.numpy as jnp
    import optax

    jax.config.update("jax_default_matmul_precision", "float32" if precision == "fp32" else "tensorfloat32")
    shapes = [(512, 784), (512,), (256, 512), (256,), (10, 256), (10,)]
    params = [jnp.asarray(0 * w if w.ndim == 1 else w) for w in weights(shapes)]
    x, y = (jnp.asarray(a) for a in examples(kind))
    rule = optax.adamw(1e-3, weight_decay=1e-2)
    state = [(params, rule.init(params))]

    def loss_of(params: Any, inputs: Any, targets: Any) -> Any:
        h = inputs
        for k in range(0, 6, 2):
            h = h @ params[k].T + params[k + 1]
            h = jnp.maximum(h, 0) if k < 4 else h
        return optax.softmax_cross_entropy_with_integer_labels(h, targets).mean()

    def whole(held: Any, index: Any) -> Any:
        params, moments = held
        loss, grads = jax.value_and_grad(loss_of)(params, x[index], y[index])
        updates, moments = rule.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments), loss

    run = jax.jit(whole, donate_argnums=0)

    def step(index: Any) -> Any:
        state[0], loss = run(state[0], index)
        return loss

    return step, jnp.asarray(order(batch)), lambda: jax.block_until_ready(state[0])


# ---- one contestant


def measured(contestant: str, workload: str, precision: str, dry: bool) -> dict[str, Any]:
    """What a process of its own finds out."""
    kind, _, size = workload.partition(":")
    library, _, mode = contestant.partition(" ")
    where = "cpu" if dry else "cuda"
    if kind == "optimizers":
        return bandwidths(library, 100_000 if dry else int(size), where, 3 if dry else 50)
    make = {"minigrad": minigrad_step, "torch": torch_step, "jax": jax_step}[library]
    warm, windows, steps = (2, 1, 2) if dry else (20, 7, 200 if kind == "mlp" else 50)
    checked = 4 if dry else CHECKED
    step, batches, wait = make(kind, int(size), precision, mode, where)
    n = len(batches)
    started = time.perf_counter()
    loss = step(batches[0])
    wait()
    first = time.perf_counter() - started
    for k in range(1, checked):
        loss = step(batches[k % n])
    at_check = float(loss)
    found, done = [], checked
    for window in range(-1, windows):
        count = warm if window < 0 else steps
        wait()
        started = time.perf_counter()
        for k in range(done, done + count):
            step(batches[k % n])
        host = time.perf_counter() - started
        wait()
        done += count
        if window >= 0:
            found.append(((time.perf_counter() - started) / count * 1e6, host / count * 1e6))
    why = getattr(step, "why", "")
    times, hosts = zip(*found, strict=True)
    return dict(loss=at_check, first_step_s=first, times_us=times, host_us=statistics.median(hosts),
                why=why, versions=versions(library, where))  # fmt: skip


def bandwidths(library: str, n: int, where: str, steps: int) -> dict[str, Any]:
    """GB/s of each optimizer's step over one vector: what it must read and write, by the time it takes.

    The numbers are arrays of 4 n bytes: the gradient is read, parameter and state are read and written.
    """
    rules = dict(SGD=3, Adam=7, AdamW=7, Adagrad=5, Adadelta=7, RMSprop=5, Adamax=7, NAdam=7, RAdam=7, Lion=5,
                 Adan=11, AdEMAMix=9)  # fmt: skip
    found: dict[str, Any] = {}
    if library == "torch":
        import torch

        wait = torch.cuda.synchronize if where != "cpu" else (lambda: None)
        p = torch.nn.Parameter(torch.ones(n, device=where))
        space: Any = torch.optim
        p.grad = torch.full_like(p, 0.1)
        source, target = torch.ones(n, device=where), torch.ones(n, device=where)

        def copy() -> Any:
            return target.copy_(source)

        options = {k: dict(fused=True) for k in ("SGD", "Adam", "AdamW", "Adagrad")}
    else:
        import minigrad as mg

        space, options = mg.optim, {}
        p = mg.nn.Parameter(mg.ones(n).to(where))
        p.grad = mg.full((n,), 0.1).to(where)
        source, target = mg.ones(n).to(where).array, mg.ones(n).to(where).array

        def copy() -> None:
            target[...] = source

        def wait() -> None:
            if where != "cpu":
                import cupy

                cupy.cuda.Device().synchronize()

    def rate(run: Callable, arrays: int) -> float:
        for _ in range(3):
            run()
        times = []
        for _ in range(7):
            wait()
            started = time.perf_counter()
            for _ in range(steps):
                run()
            wait()
            times.append((time.perf_counter() - started) / steps)
        return arrays * 4 * n / statistics.median(times) / 1e9

    found["copy"] = rate(copy, 2)
    for name, arrays in rules.items():
        if not hasattr(space, name):
            continue
        try:
            optimizer = getattr(space, name)([p], lr=1e-4, **options.get(name, {}))
            if library == "minigrad":
                p.grad = mg.full((n,), 0.1).to(where)
            found[name] = rate(optimizer.step, arrays)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return dict(gigabytes=found, versions=versions(library, where))


def versions(library: str, where: str) -> dict[str, str]:
    import importlib.metadata

    names = {"minigrad": ("numpy", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cublas"), "torch": ("torch",),
             "jax": ("jax", "jaxlib", "optax")}[library]  # fmt: skip
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    if library == "minigrad" and where != "cpu":
        from kernels.cuda import blas

        found["blas"] = blas.why()
    return found


# ---- the table


def child(contestant: str, workload: str, precision: str, dry: bool) -> dict[str, Any]:
    """Measure in another process; {"error": ...} where it fails."""
    command = [sys.executable, __file__, "--child", contestant, workload, precision, *["--dry"] * dry]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=ROOT, check=False)
    except subprocess.TimeoutExpired:
        return {"error": "no answer in 15 minutes"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:300]}
    return json.loads(lines[-1])


def compare(workload: str, precision: str, peers: tuple[str, ...], dry: bool) -> list[dict[str, Any]]:
    """Ours, the peers, ours again; the two runs of ours are one row, their medians apart."""
    rows = [dict(contestant=name, **child(name, workload, precision, dry)) for name in (*OURS, *peers)]
    again = child(OURS[0], workload, precision, dry)
    if "times_us" in again and "times_us" in rows[0]:
        rows[0]["again_us"] = statistics.median(again["times_us"])
    reference = next((r["loss"] for r in rows if r["contestant"] == "torch eager" and "loss" in r), None)
    limit = 2e-2 if precision == "bf16" else 1e-3
    for r in rows:
        if "loss" in r and reference is not None:
            r["differs"] = abs(r["loss"] - reference) / abs(reference)
            r["counts"] = r["differs"] <= limit
    return rows


def shown(workload: str, precision: str, rows: list[dict[str, Any]]) -> str:
    """A Markdown table of one comparison."""
    head = "| | us a step | fastest-slowest | host us | first step s | loss | ours / it |"
    lines = [f"### {workload}, {precision}", "", head, "|---|---|---|---|---|---|---|"]
    ours = rows[0].get("times_us")
    for r in rows:
        name = r["contestant"]
        if "error" in r:
            lines.append(f"| {name} | did not run: {r['error']} | | | | | |")
            continue
        t = statistics.median(r["times_us"])
        ratio = f"{statistics.median(ours) / t:.2f}" if ours else ""
        again = f" (again {r['again_us']:.1f})" if "again_us" in r else ""
        valid = "" if r.get("counts", True) else " **does not count: its loss differs**"
        why = f" (eager: {r['why']})" if r.get("why") else ""
        lines.append(
            f"| {name}{why} | {t:.1f}{again}{valid} | {min(r['times_us']):.1f}-{max(r['times_us']):.1f} "
            f"| {r['host_us']:.1f} | {r['first_step_s']:.2f} | {r['loss']:.5f} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def shown_rates(dry: bool) -> tuple[str, list[dict[str, Any]]]:
    (workload, precision, _), names = ROWS["H5"][0], ("minigrad", "torch")
    found = [dict(contestant=n, **child(n, workload, precision, dry)) for n in names]
    lines = ["### optimizers on 10.7M float32 parameters, GB/s", "", "| | minigrad | of a copy | torch |",
             "|---|---|---|---|"]  # fmt: skip
    if "error" in found[0]:
        return f"### optimizers: did not run: {found[0]['error']}\n", found
    ours, theirs = found[0]["gigabytes"], found[1].get("gigabytes", {})
    for name, rate in ours.items():
        text = f"{rate:.0f} | {100 * rate / ours['copy']:.0f} %" if isinstance(rate, float) else f"{rate} |"
        other = theirs.get(name, "-")
        lines.append(f"| {name} | {text} | {f'{other:.0f}' if isinstance(other, float) else other} |")
    return "\n".join(lines) + "\n", found


def machine() -> dict[str, str]:
    """GPU, driver and computer."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        gpu = "none"
    return dict(gpu=gpu, python=platform.python_version(), system=platform.platform(), cpu=platform.machine())


def main() -> int:
    arguments = argparse.ArgumentParser(description="Time of a training step on a GPU.", allow_abbrev=False)
    arguments.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="which rows")
    arguments.add_argument("--dry", action="store_true", help="on the CPU, a few steps each")
    arguments.add_argument("--child", nargs=3, metavar=("WHO", "WHAT", "PRECISION"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.child:
        print(json.dumps(measured(*options.child, options.dry)))
        return 0
    about = machine()
    if about["gpu"] == "none" and not options.dry:
        print("benchmarks/gpu.py: nvidia-smi shows no GPU; --dry runs the script on the CPU")
        return 0
    texts, found = [f"# A training step on {about['gpu']} (driver: name, version, memory)\n"], {}
    for row in options.rows:
        texts.append(f"## {row}\n")
        if row == "H5":
            text, found[row] = shown_rates(options.dry)
            texts.append(text)
            print(text, flush=True)
            continue
        for workload, precision, peers in ROWS[row]:
            if options.dry:
                workload = f"{workload.partition(':')[0]}:2"
            rows = compare(workload, precision, peers, options.dry)
            found[f"{row} {workload} {precision}"] = rows
            texts.append(shown(workload, precision, rows))
            print(texts[-1], flush=True)
    if not options.dry:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "gpu.md").write_text("\n".join(texts))
        (RESULTS / "gpu.json").write_text(json.dumps(dict(machine=about, rows=found), indent=1))
        print(RESULTS / "gpu.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
