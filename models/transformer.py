"""GPT: a decoder-only transformer that predicts the next token.

    x_0 = token embedding + position embedding
    x   = x + attention(layer_norm(x));   x = x + mlp(layer_norm(x))       in every block ("pre-norm")
    logits = head(layer_norm(x))

Attention looks back only. Weights start as in nanoGPT: normal(0, 0.02), the two maps that write into the
residual stream at 0.02 / sqrt(2 layers), biases zero.
[Vaswani et al. 2017; Radford et al. 2019; Su et al. 2021 for rotary positions]
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import minigrad as mg
from minigrad import Tensor, nn
from minigrad.nn import functional as F


@dataclass
class GPTConfig:
    """vocab tokens, context length T, layers, heads, width d, dropout in [0, 1).

    rotary: positions turn queries and keys instead of being learned; tied: the head's weights are the
    embedding's.
    """

    vocab: int
    context: int = 64
    layers: int = 4
    heads: int = 4
    width: int = 128
    dropout: float = 0.0
    bias: bool = True
    rotary: bool = False
    tied: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"GPT: width {self.width} is not a multiple of {self.heads} heads")
        if self.rotary and self.width // self.heads % 2:
            raise ValueError(f"GPT: rotary positions need an even head size, not {self.width // self.heads}")


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: turn each pair (x_k, x_{k + hs/2}) by an angle that grows with its place.

    x (B, H, T, hs), cos and sin (T, hs/2)."""
    a, b = x.chunk(2, dim=-1)
    return mg.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    """Causal self-attention with several heads: (B, T, d) -> (B, T, d)."""

    def __init__(self, c: GPTConfig):
        super().__init__()
        self.heads, self.rate = c.heads, c.dropout
        self.qkv = nn.Linear(c.width, 3 * c.width, bias=c.bias)
        self.out = nn.Linear(c.width, c.width, bias=c.bias)

    def forward(self, x: Tensor, angles: Any = None, cache: dict[str, Tensor] | None = None) -> Tensor:
        B, T, d = x.shape
        rate = self.rate if self.training else 0.0
        qkv = self.qkv(x)  # (B, T, 3 d)
        if cache is None and angles is None and not rate:  # heads are read where they lie
            return self.out(F.packed_attention(qkv, self.heads, is_causal=True))
        qkv = qkv.reshape(B, T, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, T, hs)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        if cache is not None:  # keys and values of earlier tokens, when generating
            if "k" in cache:
                k, v = mg.cat([cache["k"], k], dim=2), mg.cat([cache["v"], v], dim=2)
            cache["k"], cache["v"] = k, v
        # with a cache, the T new queries follow k's older ones: only a single query may see all keys
        mask = None
        causal = k.shape[2] == T
        if not causal and T > 1:
            mask = mg.ones(T, k.shape[2], dtype=mg.bool, device=x.device).tril(k.shape[2] - T)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=rate, is_causal=causal and T > 1
        )
        return self.out(y.transpose(1, 2).reshape(B, T, d))


class Block(nn.Module):
    """One layer: attention and a two-layer perceptron, each added to the residual stream."""

    def __init__(self, c: GPTConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(c.width, bias=c.bias)
        self.attention = Attention(c)
        self.norm2 = nn.LayerNorm(c.width, bias=c.bias)
        self.up = nn.Linear(c.width, 4 * c.width, bias=c.bias)
        self.down = nn.Linear(4 * c.width, c.width, bias=c.bias)
        self.rate = c.dropout

    def forward(
        self,
        x: Tensor,
        more: Tensor | None = None,
        angles: Any = None,
        cache: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The residual stream (B, T, d) and what is still to be added to it -> the same after this block."""
        x, h = self.joined(more, x, self.norm1)
        x, h = self.joined(self.attention(h, angles, cache), x, self.norm2)
        h = F.linear(h, self.up.weight, self.up.bias, activation="gelu_tanh")  # (B, T, 4 d)
        return x, self.down(h)

    def joined(self, more: Tensor | None, x: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
        """x + dropout(more), and the norm of that: one launch without dropout."""
        if more is None:
            return x, norm(x)
        if not (self.rate and self.training) and more.dtype is x.dtype:
            return norm(more, x)
        x = F.dropout_add(more, x, self.rate, self.training)
        return x, norm(x)


class GPT(nn.Module):
    """Token indices (B, T) -> logits (B, T, vocab); T is at most `config.context`.

    An alphabet of 65 has fewer logits than the head has inputs. For a vocabulary of thousands there is
    F.linear_cross_entropy(model.features(indices).flatten(0, 1), model.head.weight, targets): the loss, and
    never all logits at once; of few classes it is F.cross_entropy of model(indices) itself.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = c = config
        self.tokens = nn.Embedding(c.vocab, c.width)
        self.positions = None if c.rotary else nn.Embedding(c.context, c.width)
        self.register_buffer(
            "places", mg.arange(c.context), persistent=False
        )  # made once, on the model's device
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList([Block(c) for _ in range(c.layers)])
        self.norm = nn.LayerNorm(c.width, bias=c.bias)
        self.head = nn.Linear(c.width, c.vocab, bias=False)
        if c.tied:
            self.head.weight = self.tokens.weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                writes = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, 0.0, 0.02 / sqrt(2 * c.layers) if writes else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, indices: Tensor, cache: list[dict[str, Tensor]] | None = None) -> Tensor:
        return self.head(self.features(indices, cache))  # (B, T, vocab)

    def features(self, indices: Tensor, cache: list[dict[str, Tensor]] | None = None) -> Tensor:
        """What the head gets: (B, T) -> (B, T, d)."""
        T, c = indices.shape[1], self.config
        past = cache[0]["k"].shape[2] if cache and "k" in cache[0] else 0
        if past + T > c.context:
            raise ValueError(f"GPT: {past + T} tokens, the context is {c.context}; crop the input")
        x, angles = self.tokens(indices), None  # (B, T, d)
        if self.positions is not None:
            x = x + self.positions(self.places[past : past + T])
        else:
            angles = self.angles(self.places[past : past + T], x.dtype)
        x, more, block = self.dropout(x), None, None
        for k, block in enumerate(self.blocks):
            x, more = block(x, more, angles, None if cache is None else cache[k])
        return self.norm(x) if block is None else block.joined(more, x, self.norm)[1]

    def angles(self, places: Tensor, dtype: Any) -> tuple[Tensor, Tensor]:
        """cos and sin of the rotary angles, each (T, hs/2): place times 10000^(-2k/hs)."""
        half = self.config.width // self.config.heads // 2
        rates = 10000.0 ** (-mg.arange(half, device=places.device).to(mg.float32) / half)
        turns = places.to(mg.float32).unsqueeze(1) * rates
        return turns.cos().to(dtype), turns.sin().to(dtype)

    @mg.no_grad()
    def generate(
        self, indices: Tensor, count: int, temperature: float = 1.0, top_k: int | None = None,
        top_p: float | None = None, generator: Any = None,
    ) -> Tensor:  # fmt: skip
        """`count` more tokens after indices (B, T), drawn one by one: (B, T + count).

        temperature > 0 sharpens (< 1) or flattens (> 1); 0 takes the likeliest token. top_k keeps the k
        likeliest tokens, top_p the fewest that hold that share of the probability [Holtzman et al. 2020].
        Keys and values are cached until the context is full; from then on the window slides and is read anew.
        """
        if temperature < 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
            raise ValueError(
                f"generate: temperature {temperature} (>= 0), top_k {top_k} (>= 1), top_p {top_p} (0..1]"
            )
        training = self.training
        self.eval()
        cache: list[dict[str, Tensor]] = [{} for _ in self.blocks]
        new = indices[:, -self.config.context :]
        for _ in range(count):
            seen = cache[0]["k"].shape[2] if "k" in cache[0] else 0
            if (
                seen + new.shape[1] > self.config.context
            ):  # positions move: nothing of the cache holds any more
                cache, new = [{} for _ in self.blocks], indices[:, -self.config.context :]
            logits = self(new, cache)[:, -1]  # (B, vocab)
            new = sample(logits, temperature, top_k, top_p, generator)  # (B, 1)
            indices = mg.cat([indices, new], dim=1)
        self.train(training)
        return indices


def sample(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Any = None,
) -> Tensor:
    """One token for each row of logits (B, vocab) -> (B, 1)."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits / temperature
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if top_p is not None:
        ordered, places = logits.sort(dim=-1, descending=True)
        shares = F.softmax(ordered, dim=-1)
        before = shares.cumsum(-1) - shares  # the probability of all likelier tokens; 0 for the likeliest
        ordered = ordered.masked_fill(before >= top_p, float("-inf"))
        logits = mg.empty_like(ordered).scatter(1, places, ordered)
    return mg.multinomial(F.softmax(logits, dim=-1), 1, generator=generator)
