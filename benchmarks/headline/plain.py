"""The MLP and the GPT in elementary operations: functions of parameters, for any library that has NumPy's.

JAX compiles them. minigrad runs them as they stand, one launch an operation: that is its contestant "naive".
A library brings `dot(x, w)` = x w^T in the type of products, `mean` over the last axis, `attend(q, k, v)` on
(B, T, H, hs), `relu`, `tanh` and `rsqrt`.
"""

from __future__ import annotations

import math
from typing import Any

from .work import Work


def forward(work: Work, lib: Any) -> Any:
    """f(parameters by name, inputs) -> logits, (B, classes) or (B, T, vocabulary)."""
    if work.kind == "mlp":
        return lambda p, x: mlp(p, x, lib)
    return lambda p, x: gpt(p, x, lib, work.gpt[0], work.gpt[2])


def mlp(p: Any, x: Any, lib: Any) -> Any:
    """h <- relu(h W^T + b), and without relu at last."""
    count = len(p) // 2
    for k in range(count):
        x = lib.dot(x, p[f"{k}.weight"]) + p[f"{k}.bias"]
        x = lib.relu(x) if k < count - 1 else x
    return x


def gpt(p: Any, x: Any, lib: Any, layers: int, heads: int) -> Any:
    """x <- x + attention(norm(x));  x <- x + down(gelu(up(norm(x)))), in every layer."""
    h = p["tokens"][x] + p["positions"][: x.shape[1]]  # (B, T, d)
    B, T, d = h.shape
    for k in range(layers):
        qkv = lib.dot(norm(h, p[f"{k}.norm1"], lib), p[f"{k}.qkv"])  # (B, T, 3 d)
        q, key, v = (qkv[..., i * d : (i + 1) * d].reshape(B, T, heads, d // heads) for i in range(3))
        h = h + lib.dot(lib.attend(q, key, v).reshape(B, T, d), p[f"{k}.out"])
        h = h + lib.dot(gelu(lib.dot(norm(h, p[f"{k}.norm2"], lib), p[f"{k}.up"]), lib), p[f"{k}.down"])
    return lib.dot(norm(h, p["norm"], lib), p["tokens"])


def norm(x: Any, gain: Any, lib: Any) -> Any:
    """(x - mean) / sqrt(var + 1e-5) gain, over the last axis."""
    d = x - lib.mean(x)
    return d * lib.rsqrt(lib.mean(d * d) + 1e-5) * gain


def gelu(x: Any, lib: Any) -> Any:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))"""
    return 0.5 * x * (1 + lib.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
