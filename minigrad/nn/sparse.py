"""Embedding: a table whose rows are looked up by their numbers."""

from __future__ import annotations

from typing import Any

from ..tensor import Parameter, Tensor
from . import functional as F
from . import init
from .functional.sparse import padding_row, refuse
from .linear import check_sizes, empty_parameter
from .module import Module


class Embedding(Module):
    """y = weight[input]: whole numbers (...) -> (..., embedding_dim)

    The weight (num_embeddings, embedding_dim) begins as N(0, 1); row padding_idx as 0, and it is not trained.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        refuse("Embedding", max_norm, scale_grad_by_freq, sparse)
        check_sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_row("Embedding", padding_idx, num_embeddings)
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        if _weight is None:
            self.weight = empty_parameter((num_embeddings, embedding_dim), device, dtype)
            self.reset_parameters()
            self.weight.requires_grad_(not _freeze)
        elif tuple(_weight.shape) != (num_embeddings, embedding_dim):
            raise ValueError(
                f"Embedding: weight {list(_weight.shape)} for a table of {num_embeddings} rows and "
                f"{embedding_dim} columns"
            )
        else:
            self.weight = Parameter(_weight, requires_grad=not _freeze)

    def reset_parameters(self) -> None:
        """Draw the table anew; the padding row is 0."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.array[self.padding_idx].fill(0)
            self.weight.touch()

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """An Embedding over a given table (V, E), which it does not train unless freeze=False."""
        if not isinstance(embeddings, Tensor) or embeddings.array.ndim != 2:
            shape = list(getattr(embeddings, "shape", ()))
            raise ValueError(f"Embedding.from_pretrained: a table of shape {shape}; it is (rows, features)")
        rows, columns = embeddings.array.shape
        options = padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
        return cls(rows, columns, *options, _weight=embeddings, _freeze=freeze)

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
