"""minigrad's contestants.

graph     the step captured in one CUDA graph: what train.py does on a GPU
eager     the same step, launch by launch
naive     the network of plain.py, an operation a launch, step by step
graph cudnn     as graph, convolutions by cuDNN
"""

from __future__ import annotations

import contextlib
from typing import Any

import minigrad as mg
from minigrad import amp, nn, optim
from minigrad.nn import functional as F
from models import GPT, MLP, GPTConfig, ResNet9

from . import plain
from .measure import Contestant
from .work import CLIP, VOCABULARY, WEIGHT_DECAY, Work, given


def contestant(work: Work, mode: str, where: str) -> Contestant:
    """The step of a mode, on the device `where`."""
    mg.set_float32_matmul_precision("highest" if work.precision == "fp32" else "high")
    logits, params = naive(work, where) if mode == "naive" else network(work, where)
    x, y = (mg.tensor(a).to(where) for a in work.data())
    optimizer = optim.AdamW(params, lr=work.lr, weight_decay=WEIGHT_DECAY)
    half = work.precision == "bf16"

    def step(index: Any) -> Any:
        optimizer.zero_grad()
        inputs, targets = x[index], y[index].flatten()
        with amp.autocast(where.partition(":")[0], dtype=mg.bfloat16) if half else contextlib.nullcontext():
            loss = cross_entropy(logits(inputs).flatten(0, -2), targets, mode)
        loss.backward()
        nn.utils.clip_grad_norm_(params, CLIP)
        optimizer.step()
        return loss.detach()

    mg.backends.cudnn.enabled = mode.endswith("cudnn")
    if mg.backends.cudnn.enabled and where != "cpu" and not mg.backends.cudnn.is_available():
        raise RuntimeError(mg.backends.cudnn.why())
    run = mg.graph.capture(step) if mode.startswith("graph") else step
    batches = [mg.tensor(index).to(where) for index in work.order()]
    return Contestant(run, batches, (lambda: None) if where == "cpu" else mg.cuda.synchronize)


def network(work: Work, where: str) -> tuple[Any, list[Any]]:
    """The model of models/ and its parameters."""
    if work.kind == "mlp":
        model: Any = MLP(work.sizes)
    elif work.kind == "resnet9":
        model = ResNet9(width=work.width)
    else:
        layers, width, heads, tokens = work.gpt
        model = GPT(GPTConfig(VOCABULARY, tokens, layers, heads, width, bias=False, tied=True))
    named = list(model.named_parameters())
    values = given([(name, p.shape) for name, p in named], work.weights())
    with mg.no_grad():
        for (_, p), w in zip(named, values, strict=True):
            p.data = mg.tensor(w)
    model.to(where)
    return model, list(model.parameters())


def naive(work: Work, where: str) -> tuple[Any, list[Any]]:
    """The same in elementary operations."""
    held = {name: nn.Parameter(mg.tensor(w).to(where)) for name, w in work.weights().items()}
    forward = plain.forward(work, Elementary(where))
    return lambda x: forward(held, x), list(held.values())


class Elementary:
    """What plain.py needs, none of it fused."""

    relu, tanh, rsqrt = staticmethod(mg.relu), staticmethod(mg.tanh), staticmethod(mg.rsqrt)

    def __init__(self, where: str):
        self.where = where
        self.masks: dict[int, Any] = {}

    def dot(self, x: Any, w: Any) -> Any:
        return x @ w.T

    def mean(self, x: Any) -> Any:
        return x.mean(-1, keepdim=True)

    def attend(self, q: Any, k: Any, v: Any) -> Any:
        """softmax(q k^T / sqrt(hs) + mask) v, heads to the front and back."""
        T, hs = q.shape[1], q.shape[3]
        if T not in self.masks:
            self.masks[T] = mg.full((T, T), float("-inf")).triu(1).to(self.where)
        q, k, v = (z.transpose(1, 2) for z in (q, k, v))
        scores = q @ k.transpose(-1, -2) / hs**0.5 + self.masks[T]
        weights = mg.exp(scores - scores.amax(-1, keepdim=True))
        return (weights / weights.sum(-1, keepdim=True) @ v).transpose(1, 2)


def cross_entropy(out: Any, targets: Any, mode: str) -> Any:
    """The mean over rows of log sum exp(z) - z[target]; the naive contestant's in these very operations."""
    if mode != "naive":
        return F.cross_entropy(out, targets)
    top = out.amax(-1, keepdim=True).detach()
    total = mg.log(mg.exp(out - top).sum(-1)) + top.squeeze(-1)
    return (total - out.gather(-1, targets.unsqueeze(-1)).squeeze(-1)).mean()
