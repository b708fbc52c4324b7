"""Losses on how far apart things are, and the distances they stand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import ops
from ...backend import device_of, to_device
from ...public.autocast import listed
from ...public.broadcasting import broadcast_tensors
from ...public.dims import one_dim
from ...tensor import Tensor
from .activation import floating
from .loss import check, fit, reduced


def _floor(x: Tensor, low: float) -> Tensor:
    """max(x, low)"""
    return ops.clamp_min(x, x.array.dtype.type(low))


def _floor_straight(x: Tensor, low: float) -> Tensor:
    """max(x, low), whose gradient is that of x all the same: PyTorch clamps norms so."""
    held = x.detach()
    return ops.select(held.array < x.array.dtype.type(low), x + (_floor(held, low) - held), x)


# -------------------------------------------------------------------------------------------- distances


@listed
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """||x1 - x2 + eps||_p over the last dim"""
    for word, x in (("x1", x1), ("x2", x2)):
        if not isinstance(x, Tensor):
            raise TypeError(f"pairwise_distance: {word} is a {type(x).__name__}, no Tensor")
    return (x1 - x2 + eps).norm(p, -1, keepdim)


@listed
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(||x1||, eps) max(||x2||, eps)) along dim, of x1 and x2 broadcast to each other"""
    if x1.array.shape != x2.array.shape:
        x1, x2 = broadcast_tensors(x1, x2)
    n1, n2 = (_floor_straight(x.norm(2, dim, True), eps) for x in (x1, x2))
    product = (x1 / n1) * (x2 / n2)
    return product.sum(one_dim("cosine_similarity", dim, product.array.ndim))


@listed
def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    """x / max(||x||_p, eps) along dim"""
    if out is not None:
        raise ValueError("normalize: out= is not supported; the result is a new tensor")
    return input / _floor(input.norm(p, dim, True), eps)


# ----------------------------------------------------------------------------------------------- losses


@listed
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -t (x1 - x2) + margin), t = 1 where x1 should rank higher, else -1"""
    check("margin_ranking_loss", reduction, size_average, reduce)
    if not input1.array.ndim == input2.array.ndim == target.array.ndim:
        shapes = f"input1 {list(input1.shape)}, input2 {list(input2.shape)}, target {list(target.shape)}"
        raise ValueError(f"margin_ranking_loss: {shapes}; they have the same number of dims")
    return reduced(_floor(-target * (input1 - input2) + float(margin), 0), reduction)


@listed
def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """x where t = 1, max(0, margin - x) where t = -1"""
    check("hinge_embedding_loss", reduction, size_average, reduce)
    floating("hinge_embedding_loss", input)
    t = target.array
    loss = ops.masked(_floor(margin - input, 0), t != 1) + ops.masked(input, t != -1)
    return reduced(loss, reduction)


@listed
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - c where t = 1, max(0, c - margin) where t = -1, for c the cosine: (N, D), (N, D), (N) or (D), (D),
    ()"""
    check("cosine_embedding_loss", reduction, size_average, reduce)
    if input1.array.shape != input2.array.shape or target.array.shape != input1.array.shape[:-1]:
        shapes = f"input1 {list(input1.shape)}, input2 {list(input2.shape)}, target {list(target.shape)}"
        raise ValueError(f"cosine_embedding_loss: {shapes}; they are (N, D), (N, D), (N) or (D), (D), ()")
    squares = ((input1 * input1).sum(-1) + 1e-12) * ((input2 * input2).sum(-1) + 1e-12)
    cosine = (input1 * input2).sum(-1) / ops.sqrt(squares)
    t = target.array
    return reduced(
        ops.masked(1 - cosine, t == 1) + ops.masked(_floor(cosine - margin, 0), t == -1), reduction
    )


@listed
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(a, p) - d(a, n) + margin); swap takes d(p, n) if that is less than d(a, n)
    [Balntas et al. 2016]"""
    check("triplet_margin_loss", reduction, size_average, reduce)
    if margin <= 0:
        raise ValueError(f"triplet_margin_loss: margin {margin}; it must be positive")
    fit("triplet_margin_loss", anchor=anchor, positive=positive, negative=negative)
    if not anchor.array.ndim == positive.array.ndim == negative.array.ndim:
        shapes = ", ".join(str(list(t.shape)) for t in (anchor, positive, negative))
        raise ValueError(
            f"triplet_margin_loss: anchor, positive and negative are {shapes}; they have as many dims"
        )
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = ops.minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduced(_floor(margin + near - far, 0), reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """triplet_margin_loss by any distance: distance_function(x1, x2), pairwise_distance if none is given"""
    name = "triplet_margin_with_distance_loss"
    check(name, reduction)
    if margin <= 0:
        raise ValueError(f"{name}: margin {margin}; it must be positive")
    fit(name, anchor=anchor, positive=positive, negative=negative)
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = ops.minimum(far, distance(positive, negative))
    return reduced(_floor(margin + near - far, 0), reduction)


@listed
def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """||x_i - x_j||_p of all pairs i < j of rows, in order: (N, D) -> (N (N - 1) / 2)"""
    x = floating("pdist", input)
    if x.array.ndim != 2:
        raise ValueError(f"pdist: input {list(x.shape)}; it is (N, D)")
    if p < 0:
        raise ValueError(f"pdist: p={p}; it must not be negative")
    pairs = np.triu_indices(x.array.shape[0], 1)
    first, second = (ops.take(x, to_device(k, device_of(x.array)), 0) for k in pairs)
    return (first - second).norm(p, -1)
