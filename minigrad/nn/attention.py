"""Multi-head attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp_of
from ..tensor import Parameter, Tensor
from . import functional as F
from . import init
from .functional.attention import attend
from .linear import Linear, empty_parameter
from .module import Module


class MultiheadAttention(Module):
    """softmax(q k^T / sqrt(E / heads)) v for each head, joined and mapped   [Vaswani et al. 2017, sec. 3.2.2]

    query (L, N, E), key (S, N, kdim), value (S, N, vdim) -> (L, N, E); N first with batch_first, or no N.
    The projections are in_proj_weight (3 E, E), or q_proj_weight, k_proj_weight, v_proj_weight where kdim or
    vdim is not E; in_proj_bias (3 E); out_proj. add_bias_kv appends a learned key and value, add_zero_attn
    zeros. Self-attention without weights to return is one fused operation between its two projections.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim={embed_dim}, num_heads={num_heads}; both are positive, and "
                "the first divides by the second"
            )
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.head_dim = embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self.batch_first, self.add_zero_attn = batch_first, add_zero_attn
        same = self.kdim == embed_dim == self.vdim
        shapes = {"q_proj_weight": embed_dim, "k_proj_weight": self.kdim, "v_proj_weight": self.vdim}

        def parameter(*shape: int) -> Parameter:
            return empty_parameter(shape, device, dtype)

        for name, width in shapes.items():
            self.register_parameter(name, None if same else parameter(embed_dim, width))
        self.register_parameter("in_proj_weight", parameter(3 * embed_dim, embed_dim) if same else None)
        self.register_parameter("in_proj_bias", parameter(3 * embed_dim) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, parameter(1, 1, embed_dim) if add_bias_kv else None)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Projections Xavier uniform, biases 0, bias_k and bias_v Xavier normal; out_proj as a Linear."""
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if (p := getattr(self, name)) is not None:
                init.xavier_uniform_(p)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        if self.bias_k is not None:
            init.xavier_normal_(self.bias_k)
            init.xavier_normal_(self.bias_v)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(output, weights), the weights (N, L, S), or (N, heads, L, S) unless average_attn_weights, or None.

        key_padding_mask  (N, S): bool, True where a key is to be ignored; or floats, added to the scores
        attn_mask         (L, S) or (N heads, L, S): bool, True where a query may not look; or floats
        is_causal         a hint that attn_mask is the causal mask, which must be given
        """
        q, k, v = self._checked(query, key, value)
        if is_causal and attn_mask is None:
            raise ValueError("MultiheadAttention: is_causal is a hint about attn_mask; give the mask too")
        n, rows, keys = q.array.shape[0], q.array.shape[1], k.array.shape[1]
        bias = self._mask(key_padding_mask, attn_mask, q, (n, rows, keys))
        drop = self.dropout if self.training else 0.0
        plain = query is key is value and self.in_proj_weight is not None and self.bias_k is None
        weights = None
        if plain and not (drop or need_weights or self.add_zero_attn):
            y = F.packed_attention(F.linear(q, self.in_proj_weight, self.in_proj_bias), self.num_heads, bias)
        else:
            q, k, v = self._projected(q, k, v, plain)
            if bias is not None and (extra := k.array.shape[2] - keys):
                bias = ops.cat(bias.array.ndim - 1, bias, bias.new_zeros((*bias.shape[:-1], extra)))
            y, weights = attend(q, k, v, bias, 1 / math.sqrt(self.head_dim), drop)
            y = y.transpose(1, 2).reshape(n, rows, self.embed_dim)
        y = F.linear(y, self.out_proj.weight, self.out_proj.bias)
        if not need_weights:
            weights = None
        elif average_attn_weights and weights is not None:
            weights = weights.mean(1)
        if query.array.ndim == 2:
            return y[0], None if weights is None else weights[0]
        return y if self.batch_first else y.transpose(0, 1), weights

    def _checked(self, *inputs: Tensor) -> list[Tensor]:
        """query, key, value as (N, L or S, width)."""
        shapes = [t.array.shape for t in inputs]
        widths = self.embed_dim, self.kdim, self.vdim
        q, k, v = shapes
        fits = len(q) in (2, 3) and len(q) == len(k) == len(v) and k[:-1] == v[:-1]
        batch = 0 if self.batch_first else 1
        if fits and len(q) == 3:
            fits = q[batch] == k[batch]
        if not fits or any(s[-1] != w for s, w in zip(shapes, widths, strict=True)):
            said = "(L, N, {}), (S, N, {}), (S, N, {})"
            if self.batch_first:
                said = "(N, L, {}), (N, S, {}), (N, S, {})"
            raise ValueError(
                f"MultiheadAttention: query {list(q)}, key {list(k)}, value {list(v)}; they are "
                f"{said.format(*widths)}, or all without N"
            )
        if len(q) == 2:
            return [t[None] for t in inputs]
        return list(inputs) if self.batch_first else [t.transpose(0, 1) for t in inputs]

    def _mask(
        self, padding: Tensor | None, mask: Tensor | None, like: Tensor, shape: tuple[int, int, int]
    ) -> Any:
        """Both masks as one bias that broadcasts to (N, heads, L, S), or None."""
        n, rows, keys = shape
        bias = None
        if mask is not None:
            bias = self._bias("attn_mask", mask, like)
            if bias.array.shape == (n * self.num_heads, rows, keys):
                bias = bias.reshape(n, self.num_heads, rows, keys)
            elif bias.array.shape != (rows, keys):
                raise ValueError(
                    f"MultiheadAttention: attn_mask {list(mask.shape)}; it is {[rows, keys]} or "
                    f"{[n * self.num_heads, rows, keys]}"
                )
        if padding is not None:
            more = self._bias("key_padding_mask", padding, like)
            if more.array.shape not in ((n, keys),) + ((keys,),) * (n == 1):
                raise ValueError(
                    f"MultiheadAttention: key_padding_mask {list(padding.shape)}; it is {[n, keys]}"
                )
            more = more.reshape(n, 1, 1, keys)
            bias = more if bias is None else bias + more
        return bias

    @staticmethod
    def _bias(name: str, mask: Tensor, like: Tensor) -> Tensor:
        if mask.array.dtype == bool:
            number = like.array.dtype.type
            return Tensor(xp_of(mask.array).where(mask.array, number(-np.inf), number(0)))
        if not mask.dtype.is_floating_point:
            raise TypeError(f"MultiheadAttention: {name} is {mask.dtype.name}; it is bool or floating")
        return mask.to(like.dtype)

    def _projected(self, q: Tensor, k: Tensor, v: Tensor, plain: bool) -> list[Tensor]:
        """query, key and value of each head: (N, heads, L or S, head_dim)."""
        e, b = self.embed_dim, self.in_proj_bias
        if plain:
            every = F.linear(q, self.in_proj_weight, b)
            found = [every[..., i * e : (i + 1) * e] for i in range(3)]
        else:
            weights: list[Any] = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
            if (w := self.in_proj_weight) is not None:
                weights = [w[i * e : (i + 1) * e] for i in range(3)]
            biases = [None if b is None else b[i * e : (i + 1) * e] for i in range(3)]
            found = [F.linear(*xwb) for xwb in zip((q, k, v), weights, biases, strict=True)]
        n = k.array.shape[0]
        for i, extra in ((1, self.bias_k), (2, self.bias_v)):
            if extra is not None:
                found[i] = ops.cat(1, found[i], extra.expand(n, 1, e))
            if self.add_zero_attn:
                found[i] = ops.cat(1, found[i], found[i].new_zeros((n, 1, e)))
        return [t.reshape(*t.shape[:2], self.num_heads, self.head_dim).transpose(1, 2) for t in found]
