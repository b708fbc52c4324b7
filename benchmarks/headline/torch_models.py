"""The networks in PyTorch, parameters in the order of work.py: as one would write them there."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional as F

from .work import CLASSES, VOCABULARY, Work


def network(work: Work) -> nn.Module:
    """With PyTorch's own first weights."""
    if work.kind == "mlp":
        i, h, k, o = work.sizes
        return nn.Sequential(nn.Linear(i, h), nn.ReLU(), nn.Linear(h, k), nn.ReLU(), nn.Linear(k, o))
    return ResNet9(work.width) if work.kind == "resnet9" else GPT(*work.gpt)


def conv(i: int, o: int, pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


class ResNet9(nn.Module):
    """(B, 3, 32, 32) -> (B, classes)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.prepare, self.layer1 = conv(3, w), conv(w, 2 * w, True)
        self.residual1 = nn.Sequential(conv(2 * w, 2 * w), conv(2 * w, 2 * w))
        self.layer2, self.layer3 = conv(2 * w, 4 * w, True), conv(4 * w, 8 * w, True)
        self.residual3 = nn.Sequential(conv(8 * w, 8 * w), conv(8 * w, 8 * w))
        self.head = nn.Linear(8 * w, CLASSES, bias=False)

    def forward(self, x: Any) -> Any:
        x = self.layer1(self.prepare(x))
        x = x + self.residual1(x)
        x = self.layer3(self.layer2(x))
        x = x + self.residual3(x)
        return self.head(F.max_pool2d(x, 4).flatten(1)) * 0.125


class Block(nn.Module):
    """Attention by scaled_dot_product_attention, which takes a fused kernel where there is one."""

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
    """Tokens (B, T) -> logits (B, T, vocabulary)."""

    def __init__(self, layers: int, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(tokens, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, x: Any) -> Any:
        h = self.tokens(x) + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        return F.linear(self.norm(h), self.tokens.weight)
