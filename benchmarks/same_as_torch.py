"""Three models trained side by side with PyTorch: same weights, same data, same order, same optimizer.

    python benchmarks/same_as_torch.py            float64 for 200 steps, float32 for 50

In float64 the loss curves must agree within 1e-8, in float32 within 1e-3; the exit code says whether they do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import minigrad as mg
from minigrad import data, nn
from minigrad.nn import functional as F
from models import GPT, MLP, GPTConfig, SmallCNN

try:
    import torch
except ImportError:
    sys.exit("same_as_torch.py: torch is not installed; make bench ORACLES=1 installs it")


class TorchCNN(torch.nn.Module):
    """models.SmallCNN, with its names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(16, 32, 3, padding=1)
        self.head = torch.nn.Linear(32 * 49, 10)

    def forward(self, x: Any) -> Any:
        pool = torch.nn.functional.max_pool2d
        x = pool(self.conv1(x).relu(), 2)
        return self.head(pool(self.conv2(x).relu(), 2).flatten(1))


class TorchBlock(torch.nn.Module):
    """A block of models.GPT, with its names."""

    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.LayerNorm(d), torch.nn.LayerNorm(d)
        self.attention = torch.nn.Module()
        self.attention.qkv, self.attention.out = torch.nn.Linear(d, 3 * d), torch.nn.Linear(d, d)
        self.up, self.down = torch.nn.Linear(d, 4 * d), torch.nn.Linear(4 * d, d)

    def forward(self, x: Any) -> Any:
        B, T, d = x.shape
        q, k, v = self.attention.qkv(self.norm1(x)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attention.out(y.transpose(1, 2).reshape(B, T, d))
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm2(x)), approximate="tanh"))


class TorchGPT(torch.nn.Module):
    """models.GPT, with its names."""

    def __init__(self, c: GPTConfig):
        super().__init__()
        self.tokens = torch.nn.Embedding(c.vocab, c.width)
        self.positions = torch.nn.Embedding(c.context, c.width)
        self.blocks = torch.nn.ModuleList([TorchBlock(c.width, c.heads) for _ in range(c.layers)])
        self.norm = torch.nn.LayerNorm(c.width)
        self.head = torch.nn.Linear(c.width, c.vocab, bias=False)

    def forward(self, x: Any) -> Any:
        h = self.tokens(x) + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h)).flatten(0, 1)


def torch_mlp() -> Any:
    layers = torch.nn.ModuleList([torch.nn.Linear(64, 64), torch.nn.Linear(64, 10)])
    model = torch.nn.Module()
    model.layers = layers
    model.forward = lambda x: layers[1](layers[0](x.flatten(1)).relu())  # type: ignore[method-assign]
    return model


def images(source: Any, scale: float, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    x, y = source("train")
    rng = np.random.default_rng(0)
    rows = [rng.permutation(len(x))[:32] for _ in range(steps)]
    return [(x[r][:, None] / scale, y[r]) for r in rows]


def text(context: int, steps: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    source = data.shakespeare("train")
    tokenizer = data.CharTokenizer(source)
    tokens, rng = tokenizer.encode(source), np.random.default_rng(0)
    starts = rng.integers(0, len(tokens) - context - 1, (steps, 8, 1)) + np.arange(context)
    return [(tokens[s], tokens[s + 1].ravel()) for s in starts], tokenizer.vocab_size


def curves(ours: nn.Module, theirs: Any, batches: Any, rule: str, kind: str, **options: Any) -> np.ndarray:
    """(losses of minigrad, losses of torch) over the batches."""
    mine, other = getattr(mg, kind), getattr(torch, kind)
    ours.to(mine)
    theirs.to(other)
    theirs.load_state_dict({k: torch.from_numpy(v.numpy().copy()) for k, v in ours.state_dict().items()})
    a = getattr(mg.optim, rule)(ours.parameters(), **options)
    b = getattr(torch.optim, rule)(theirs.parameters(), **options)
    losses = []
    for x, y in batches:
        x = x.astype(kind) if x.dtype.kind == "f" else x
        out = ours(mg.tensor(x))
        loss = F.cross_entropy(out if out.ndim == 2 else out.flatten(0, 1), mg.tensor(y))
        a.zero_grad()
        loss.backward()
        a.step()
        loss_b = torch.nn.functional.cross_entropy(theirs.forward(torch.from_numpy(x)), torch.from_numpy(y))
        b.zero_grad()
        loss_b.backward()
        b.step()
        losses.append((float(loss.detach()), float(loss_b.detach())))
    return np.array(losses).T


def main() -> int:
    torch.set_num_threads(1)
    failed = 0
    for kind, steps, bound in (("float64", 200, 1e-8), ("float32", 50, 1e-3)):
        batches, vocab = text(32, steps)
        config = GPTConfig(vocab, context=32, layers=2, heads=4, width=64)
        digits, clothes = images(data.digits, 16, steps), images(data.fashion, 255, steps)
        for name, ours, theirs, source, rule, options in (
            ("MLP", MLP([64, 64, 10]), torch_mlp(), digits, "Adam", dict(lr=1e-3)),
            ("CNN", SmallCNN(), TorchCNN(), clothes, "SGD", dict(lr=0.05, momentum=0.9, nesterov=True)),
            ("GPT", GPT(config), TorchGPT(config), batches, "AdamW", dict(lr=1e-3, weight_decay=0.1)),
        ):
            mg.manual_seed(0)
            a, b = curves(ours, theirs, source, rule, kind, **options)
            apart = float(np.abs(a - b).max())
            failed += apart > bound
            verdict = "ok" if apart <= bound else "APART"
            print(f"{name} {kind} {steps} steps {rule}: loss {a[0]:.4f} -> {a[-1]:.4f}, "
                  f"largest difference {apart:.1e} (at most {bound:g}) {verdict}", flush=True)  # fmt: skip
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
