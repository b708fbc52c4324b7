"""PyTorch's contestants: one step in five modes, all with the fused AdamW.

    eager             channels-last for images, scaled_dot_product_attention for text
    compile           forward and backward by Inductor, clip and optimizer as they are
    reduce-overhead   the same, forward and backward each in a CUDA graph of torch.compile's own making
    graph             the whole eager step captured in one torch.cuda.CUDAGraph
    compiled graph    the whole compiled step captured in one: the strongest there is for small steps

On a CPU a "graph" is the step itself, and aot_eager stands for Inductor: it shows whether all runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from .measure import Contestant
from .torch_models import network
from .work import CLIP, WEIGHT_DECAY, Work, given

MODES = ("eager", "compile", "reduce-overhead", "graph", "compiled graph")
SIDE = 11  # steps on the side stream before a capture, as PyTorch asks for


def contestant(work: Work, mode: str, where: str) -> Contestant:
    """The step of a mode, on the device `where`."""
    on_gpu = where != "cpu"
    torch.set_float32_matmul_precision("highest" if work.precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = work.precision != "fp32"
    torch.backends.cudnn.benchmark = True
    model = network(work)
    named = list(model.named_parameters())
    values = given([(name, tuple(p.shape)) for name, p in named], work.weights())
    with torch.no_grad():
        for (_, p), w in zip(named, values, strict=True):
            p.copy_(torch.from_numpy(w))
    model = model.to(where)
    x, y = (torch.from_numpy(a).to(where) for a in work.data())
    if work.kind == "resnet9" and on_gpu:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    params = list(model.parameters())
    optimizer = torch.optim.AdamW(
        params, lr=work.lr, weight_decay=WEIGHT_DECAY, fused=True, capturable=on_gpu and "graph" in mode
    )
    loss_of = compiled(losses(work, model, where), mode, on_gpu)
    marked = mode == "reduce-overhead" and on_gpu

    def step(index: Any) -> Any:
        if marked:
            torch.compiler.cudagraph_mark_step_begin()
        loss = loss_of(x[index], y[index])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    batches = [torch.from_numpy(index).to(where) for index in work.order()]
    if not on_gpu:
        return Contestant(step, batches, lambda: None)
    run = replayed(step, batches[0]) if "graph" in mode else step
    return Contestant(run, batches, torch.cuda.synchronize)


def losses(work: Work, model: Any, where: str) -> Callable[..., Any]:
    """f(inputs, targets) -> the loss; under autocast, where the precision is half, in float32."""
    half, kind = work.precision == "bf16", where.partition(":")[0]

    def loss_of(inputs: Any, targets: Any) -> Any:
        with torch.autocast(kind, torch.bfloat16) if half else contextlib.nullcontext():
            return F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())

    return loss_of


def compiled(loss_of: Callable[..., Any], mode: str, on_gpu: bool) -> Callable[..., Any]:
    if mode not in ("compile", "reduce-overhead", "compiled graph"):
        return loss_of
    torch.compiler.reset()
    if not on_gpu:
        return torch.compile(loss_of, dynamic=False, fullgraph=True, backend="aot_eager")
    asked = mode if mode == "reduce-overhead" else None
    return torch.compile(loss_of, dynamic=False, fullgraph=True, mode=asked)


def replayed(step: Callable[[Any], Any], first: Any) -> Callable[[Any], Any]:
    """The step as one graph: some as they are on a side stream, then captured there, then replayed.

    What it returns is the graph's own loss, which the next replay overwrites: a copy would cost it a launch.
    """
    static, side, graph = first.clone(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    runs, out = 0, None

    def run(index: Any) -> Any:
        nonlocal runs, out
        runs += 1
        if runs <= SIDE:
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                loss = step(index)
            torch.cuda.current_stream().wait_stream(side)
            return loss
        static.copy_(index)
        if out is None:
            with torch.cuda.graph(graph, stream=side):
                out = step(static)
        graph.replay()
        return out

    return run
