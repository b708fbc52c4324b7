"""The transformer of the paper, as PyTorch has it: encoder, decoder, and both together [Vaswani et al. 2017].

    encoder layer   x = norm(x + attention(x));  x = norm(x + feed_forward(x))
    decoder layer   the same, and between the two  x = norm(x + attention from x to the encoder's result)

norm_first moves each norm to the beginning of its branch, x = x + branch(norm(x)), which trains without a
warm-up [Xiong et al. 2020]. Shapes are (T, N, C), or (N, T, C) with batch_first, or (T, C). Masks are those
of MultiheadAttention: bool, True where nobody may look, or floats that are added to the scores. Dropout acts
on the attention's weights, inside the feed-forward part, and on each branch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from ..tensor import Tensor
from . import functional as F
from . import init
from .attention import MultiheadAttention
from .containers import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .norm import LayerNorm

NAMED: dict[str, Callable] = {"relu": F.relu, "gelu": F.gelu}


def _function(name: str, activation: str | Callable) -> Callable:
    if callable(activation):
        return activation
    if activation not in NAMED:
        raise ValueError(f"{name}: activation={activation!r}; use 'relu', 'gelu' or a function of a tensor")
    return NAMED[activation]


def _clones(name: str, layer: Module, count: int) -> ModuleList:
    if count < 0:
        raise ValueError(f"{name}: num_layers={count}; it must not be negative")
    return ModuleList([copy.deepcopy(layer) for _ in range(count)])


class _Layer(Module):
    """What encoder and decoder layers share: the feed-forward part, and branches with their norms."""

    attentions: tuple[str, ...] = ()  # their names, in the order of the branches

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        where = dict(device=device, dtype=dtype)
        for name in self.attentions:
            attention = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **where)
            setattr(self, name, attention)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **where)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **where)
        self.norm_first = norm_first
        branches = range(1, len(self.attentions) + 2)
        for k in branches:
            setattr(self, f"norm{k}", LayerNorm(d_model, layer_norm_eps, bias=bias, **where))
        for k in branches:
            setattr(self, f"dropout{k}", Dropout(dropout))
        self.activation = _function(type(self).__name__, activation)

    def _branch(self, k: int, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """x and what function makes of it, with norm and dropout k."""
        norm, dropout = getattr(self, f"norm{k}"), getattr(self, f"dropout{k}")
        if self.norm_first:
            return x + dropout(function(norm(x)))
        return norm(x + dropout(function(x)))

    def _attend(
        self, attention: Module, x: Tensor, to: Tensor, mask: Any, padding: Any, causal: bool
    ) -> Tensor:
        return attention(x, to, to, padding, need_weights=False, attn_mask=mask, is_causal=causal)[0]

    def _feed_forward(self, x: Tensor) -> Tensor:
        """linear2(dropout(activation(linear1(x)))); bias and activation are one pass where there is one."""
        first, name = self.linear1, {F.relu: "relu", F.gelu: "gelu"}.get(self.activation)
        if name is None or first._hooks is not None or not isinstance(first, Linear):
            hidden = self.activation(first(x))
        else:
            hidden = F.linear(x, first.weight, first.bias, activation=name)
        return self.linear2(self.dropout(hidden))


class TransformerEncoderLayer(_Layer):
    """Self-attention, then a feed-forward part: (T, N, d_model) -> the same   [Vaswani et al. 2017, 3.1]"""

    attentions = ("self_attn",)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """src_mask (T, T) or (N heads, T, T), src_key_padding_mask (N, T); is_causal says that src_mask is
        the causal mask."""
        own = src_mask, src_key_padding_mask, is_causal
        x = self._branch(1, src, lambda x: self._attend(self.self_attn, x, x, *own))
        return self._branch(2, x, self._feed_forward)


class TransformerEncoder(Module):
    """num_layers copies of encoder_layer, one after the other, and a norm behind them if one is given.

    The copies begin with the same weights. enable_nested_tensor and mask_check are accepted without effect.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = _clones("TransformerEncoder", encoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """(T, N, C) -> (T, N, C); the masks go to every layer."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's result, a feed-forward part:
    (T, N, d_model), (S, N, d_model) -> (T, N, d_model)   [Vaswani et al. 2017, 3.1]"""

    attentions = ("self_attn", "multihead_attn")

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """tgt_mask (T, T), memory_mask (T, S), key padding masks (N, T) and (N, S)"""
        own = tgt_mask, tgt_key_padding_mask, tgt_is_causal
        other = memory_mask, memory_key_padding_mask, memory_is_causal
        x = self._branch(1, tgt, lambda x: self._attend(self.self_attn, x, x, *own))
        x = self._branch(2, x, lambda x: self._attend(self.multihead_attn, x, memory, *other))
        return self._branch(3, x, self._feed_forward)


class TransformerDecoder(Module):
    """num_layers copies of decoder_layer, one after the other, and a norm behind them if one is given."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _clones("TransformerDecoder", decoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """(T, N, C), (S, N, C) -> (T, N, C); memory and the masks go to every layer."""
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
        for layer in self.layers:
            tgt = layer(tgt, memory, *masks, bool(tgt_is_causal), memory_is_causal)
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """Encoder and decoder: src (S, N, d_model), tgt (T, N, d_model) -> (T, N, d_model)

    [Vaswani et al. 2017, fig. 1], without the embeddings and the last map. Matrices begin Xavier uniform.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable = F.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        sizes = d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first
        where = bias, device, dtype

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)

        if custom_encoder is None:
            layer: Module = TransformerEncoderLayer(*sizes, *where)
            custom_encoder = TransformerEncoder(layer, num_encoder_layers, norm())
        if custom_decoder is None:
            layer = TransformerDecoderLayer(*sizes, *where)
            custom_decoder = TransformerDecoder(layer, num_decoder_layers, norm())
        self.encoder, self.decoder = custom_encoder, custom_decoder
        self._reset_parameters()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def _reset_parameters(self) -> None:
        for p in self.parameters():
            if p.array.ndim > 1:
                init.xavier_uniform_(p)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The masks of src, of tgt, and of tgt looking at the encoder's result; see MultiheadAttention."""
        batch = 0 if self.batch_first else 1
        shapes = [t.array.shape for t in (src, tgt)]
        fits = len(shapes[0]) == len(shapes[1]) in (2, 3) and all(s[-1] == self.d_model for s in shapes)
        if not fits or (len(shapes[0]) == 3 and shapes[0][batch] != shapes[1][batch]):
            form = "(N, S, {0}) and (N, T, {0})" if self.batch_first else "(S, N, {0}) and (T, N, {0})"
            raise ValueError(
                f"Transformer: src {list(shapes[0])}, tgt {list(shapes[1])}; they are "
                f"{form.format(self.d_model)}, or both without N"
            )
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
        return self.decoder(tgt, memory, *masks, tgt_is_causal, memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """(sz, sz): 0 on the diagonal and below, minus infinity above; nobody looks ahead."""
        d = backend.get_default_dtype() if dtype is None else backend.as_dtype(dtype)
        mask = np.triu(np.full((sz, sz), -np.inf), 1).astype(d.numpy)
        return Tensor(backend.to_device(mask, backend.resolve_device(device)))
