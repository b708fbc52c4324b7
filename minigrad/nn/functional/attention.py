"""Attention: softmax(q k^T / sqrt(E)) v     [Vaswani et al. 2017, eq. 1]

Shapes: query (..., L, E), key (..., S, E), value (..., S, V) -> (..., L, V); with heads the leading dims are
(batch, heads).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import ops
from ...backend import xp_of
from ...ops import attention
from ...public.autocast import listed
from ...public.promote import same_device
from ...tensor import Tensor
from .activation import floating
from .dropout import dropout


def _checked(name: str, query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raise for what does not go together."""
    shapes = ", ".join(
        f"{n} {list(floating(name, t).shape)}" for n, t in zip(("query", "key", "value"), (query, key, value))
    )
    q, k, v = query.array.shape, key.array.shape, value.array.shape
    if min(len(q), len(k), len(v)) < 2 or q[-1] != k[-1] or k[-2] != v[-2]:
        raise ValueError(f"{name}: {shapes}; they are (..., L, E), (..., S, E) and (..., S, V)")
    if not query.array.dtype == key.array.dtype == value.array.dtype:
        kinds = ", ".join(t.dtype.name for t in (query, key, value))
        raise TypeError(f"{name}: mixed dtypes {kinds}; cast with .to(dtype), or use autocast")
    same_device(name, query, key, value)


def bias_of(name: str, mask: Tensor | None, causal: bool, like: Tensor, scores: tuple[int, ...]) -> Any:
    """What is added to the scores (..., L, S): a floating mask itself, or 0 and minus infinity, or None."""
    if causal:
        if mask is not None:
            raise ValueError(
                f"{name}: attn_mask and is_causal are both given; put the triangle into the mask"
            )
        return attention.causal_bias(scores[-2], scores[-1], like.array)
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name}: attn_mask is a {type(mask).__name__}, no Tensor")
    same_device(name, like, mask)
    shape = mask.array.shape
    lead = len(scores) - len(shape)
    if lead < 0 or any(n not in (1, s) for n, s in zip(shape, scores[lead:])):
        raise ValueError(f"{name}: attn_mask {list(shape)} does not broadcast to the scores {list(scores)}")
    if mask.array.dtype == bool:
        number = like.array.dtype.type
        mask = Tensor(xp_of(mask.array).where(mask.array, number(0), number(-np.inf)))
    if mask.array.dtype != like.array.dtype:
        raise TypeError(
            f"{name}: attn_mask is {mask.dtype.name}, the query {like.dtype.name}; give a bool mask, or the "
            "query's dtype"
        )
    return mask if len(shape) > 1 else mask.reshape(1, -1)


def scores_shape(name: str, query: Tensor, key: Tensor) -> tuple[int, ...]:
    """The shape of query @ key.mT."""
    q, k = query.array.shape, key.array.shape
    try:
        lead = np.broadcast_shapes(q[:-2], k[:-2])
    except ValueError:
        raise ValueError(
            f"{name}: query {list(q)}, key {list(k)}: their leading dims do not broadcast; for fewer key "
            "heads than query heads pass enable_gqa=True"
        ) from None
    return (*lead, q[-2], k[-2])


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Any, scale: float, p: float
) -> tuple[Tensor, Tensor]:
    """(the weighted values, the weights), the weights after dropout."""
    weights = attention.attention_weights(ops.matmul(query, key.mT), bias, scale)
    if p:
        weights = dropout(weights, p)
    return attention.mix(weights, value), weights


@listed
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale q k^T + mask) v: (..., L, E), (..., S, E), (..., S, V) -> (..., L, V)

    attn_mask    broadcasts to (..., L, S): bool, True where a query may look; or floats, to be added
    dropout_p    of the weights, whenever it is not 0
    is_causal    query l looks at keys 0 ... l
    scale        1 / sqrt(E) unless given
    enable_gqa   key and value (B, heads, ...) may have fewer heads than the query: each serves several of
                 those in a row     [Ainslie et al. 2023]

    A query that may look at no key gives 0.
    """
    name = "scaled_dot_product_attention"
    _checked(name, query, key, value)
    if not 0.0 <= dropout_p <= 1.0:
        raise ValueError(f"{name}: dropout_p={dropout_p}; a probability lies in [0, 1]")
    if scale is None:
        scale = 1 / math.sqrt(query.array.shape[-1]) if query.array.shape[-1] else 1.0
    if enable_gqa and query.array.shape[:-2] != key.array.shape[:-2]:
        return _grouped(query, key, value, attn_mask, dropout_p, is_causal, scale)
    bias = bias_of(name, attn_mask, is_causal, query, scores_shape(name, query, key))
    return attend(query, key, value, bias, float(scale), dropout_p)[0]


def _grouped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    p: float,
    causal: bool,
    scale: float,
) -> Tensor:
    """Each head of key and value serves a group of query heads: a dim, over which they broadcast."""
    name = "scaled_dot_product_attention"
    q, k, v = query.array.shape, key.array.shape, value.array.shape
    if not 2 < len(q) == len(k) == len(v) or k[-3] != v[-3] or not k[-3] or q[-3] % k[-3]:
        raise ValueError(
            f"{name}: query {list(q)}, key {list(k)}, value {list(v)}; with enable_gqa they are "
            "(B, heads, ...), and the query's heads divide by those of key and value"
        )
    heads, groups = q[-3], k[-3]
    lead = scores_shape(name, query[..., :1, :, :], key[..., :1, :, :])[:-3]
    bias = bias_of(name, mask, causal, query, (*lead, heads, q[-2], k[-2]))
    bias = _split_heads(bias, groups, heads)
    apart = query.reshape(*q[:-3], groups, heads // groups, *q[-2:])
    shared_key, shared_value = (t.reshape(*t.shape[:-2], 1, *t.shape[-2:]) for t in (key, value))
    y, _ = attend(apart, shared_key, shared_value, bias, float(scale), p)
    return y.reshape(*y.shape[:-4], heads, *y.shape[-2:])


def _split_heads(mask: Any, groups: int, heads: int) -> Any:
    """A mask (..., heads or 1, L, S) as (..., groups, heads of a group, L, S)."""
    if mask is None or len(mask.shape) < 3:
        return mask
    *lead, h, rows, columns = mask.shape
    return mask.reshape(*lead, *((1, 1) if h == 1 else (groups, heads // groups)), rows, columns)


@listed
def packed_attention(
    qkv: Tensor,
    num_heads: int,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Self-attention of queries, keys and values side by side: (B, T, 3 C) -> (B, T, C), for C = heads E

    What scaled_dot_product_attention gives for the three thirds, each (B, T, heads, E) with the heads moved
    forward, joined again: as one operation whose gradient is written into one array.
    """
    name = "packed_attention"
    x = floating(name, qkv)
    shape = x.array.shape
    if len(shape) != 3 or num_heads < 1 or shape[2] % (3 * num_heads):
        raise ValueError(
            f"{name}: qkv {list(shape)}, num_heads={num_heads}; it is (B, T, 3 C), and C divides by num_heads"
        )
    width = shape[2] // (3 * num_heads)
    scale = 1 / math.sqrt(width) if scale is None and width else scale or 1.0
    bias = bias_of(name, attn_mask, is_causal, x, (shape[0], num_heads, shape[1], shape[1]))
    return attention.packed_attention(x, num_heads, bias, float(scale))
