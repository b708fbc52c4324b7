"""Losses between an input and a target of the same shape: regression, binary classes, distributions.

Each is a formula elementwise, then `reduction`: "none" leaves it, "mean" and "sum" make one number of it.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from ... import ops
from ...backend import device_of, on_device
from ...backend import full as full_array
from ...ops import activations
from ...public.autocast import listed
from ...public.broadcasting import broadcast_shapes
from ...tensor import Tensor
from .activation import floating

REDUCTIONS = ("none", "mean", "sum")


def check(
    name: str,
    reduction: str,
    size_average: Any = None,
    reduce: Any = None,
    choices: tuple[str, ...] = REDUCTIONS,
) -> None:
    """ValueError for a reduction that is none, and for PyTorch's long deprecated ways to name one."""
    if size_average is not None or reduce is not None:
        raise ValueError(
            f"{name}: size_average and reduce are not supported; use reduction='mean' or another"
        )
    if reduction not in choices:
        raise ValueError(f"{name}: reduction={reduction!r}; use one of {', '.join(map(repr, choices))}")


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """The loss itself, its mean or its sum."""
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def weighted(name: str, loss: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """As `reduced`, of weight * loss; the mean is then over the weights: sum(weight loss) / sum(weight)."""
    if weight is None:
        return reduced(loss, reduction)
    if weight.array.shape != loss.array.shape:
        raise ValueError(
            f"{name}: weight {list(weight.shape)} for losses {list(loss.shape)}; shapes must be equal"
        )
    loss = loss * weight
    return loss.sum() / weight.sum() if reduction == "mean" else reduced(loss, reduction)


def fit(name: str, **tensors: Tensor) -> None:
    """ValueError, naming the loss, for tensors whose shapes do not broadcast to each other."""
    try:
        broadcast_shapes(*[t.array.shape for t in tensors.values()])
    except ValueError:
        shapes = ", ".join(f"{word} {list(t.shape)}" for word, t in tensors.items())
        raise ValueError(f"{name}: {shapes}; the shapes do not fit together") from None


def difference(name: str, input: Tensor, target: Tensor) -> Tensor:
    """input - target; a warning where the shapes differ, as that is more often a mistake than a wish."""
    for word, t in (("input", input), ("target", target)):
        if not isinstance(t, Tensor):
            raise TypeError(
                f"{name}: {word} is a {type(t).__name__}, no Tensor; make it one with minigrad.tensor(...)"
            )
    if input.array.dtype == bool or target.array.dtype == bool:
        raise TypeError(
            f"{name}: input {input.dtype.name}, target {target.dtype.name}; bools have no difference, cast "
            "with .float()"
        )
    if input.array.shape != target.array.shape:
        fit(name, input=input, target=target)
        warnings.warn(
            f"{name}: input {list(input.shape)} and target {list(target.shape)} differ and will be broadcast",
            stacklevel=4,
        )
    return input - target


# ---------------------------------------------------------------------------------------- regression


@listed
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(x - t)^2"""
    check("mse_loss", reduction, size_average, reduce)
    d = difference("mse_loss", input, target)
    return weighted("mse_loss", d * d, weight, reduction)


@listed
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|x - t|; the gradient at 0 is 0"""
    check("l1_loss", reduction, size_average, reduce)
    return weighted("l1_loss", ops.abs(difference("l1_loss", input, target)), weight, reduction)


@listed
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta/2, for d = x - t     [Girshick 2015, eq. 3]"""
    check("smooth_l1_loss", reduction, size_average, reduce)
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta {beta} is negative")
    d = difference("smooth_l1_loss", input, target)
    a, number = ops.abs(d), d.array.dtype.type
    loss = a if beta == 0 else ops.select(a.array < number(beta), d * d * (0.5 / beta), a - 0.5 * beta)
    return reduced(loss, reduction)


@listed
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta/2), for d = x - t     [Huber 1964]

    With a weight the mean is over the elements, not the weights: so PyTorch has it, for this loss alone.
    """
    check("huber_loss", reduction)
    if delta <= 0:
        raise ValueError(f"huber_loss: delta {delta}; it must be positive")
    d = difference("huber_loss", input, target)
    a, number = ops.abs(d), d.array.dtype.type
    loss = ops.select(a.array <= number(delta), d * d * 0.5, (a - 0.5 * delta) * delta)
    if weight is None or reduction != "mean":
        return weighted("huber_loss", loss, weight, reduction)
    return weighted("huber_loss", loss, weight, "none").mean()


@listed
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: Any = None,
    eps: float = 1e-8,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """e^x - t x for x the logarithm of the rate, x - t log(x + eps) for the rate itself; full adds Stirling's
    t log t - t + log(2 pi t) / 2 where t > 1."""
    check("poisson_nll_loss", reduction, size_average, reduce)
    fit("poisson_nll_loss", input=input, target=target)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        above = target.array > 1
        t = ops.select(above, target, target.array.dtype.type(1))
        stirling = t * t.log() - t + (t * (2 * math.pi)).log() * 0.5
        loss = loss + ops.masked(stirling, above)
    return reduced(loss, reduction)


@listed
def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log v + (x - t)^2 / v) / 2, for v the variance or eps if that is larger; full adds log(2 pi) / 2.

    var has the input's shape, or lacks its last dim, or has size 1 in one dim. The gradient passes the bound
    eps as if it were not there. Negative variances raise ValueError (on a GPU they are not looked for).
    """
    check("gaussian_nll_loss", reduction)
    fit("gaussian_nll_loss", input=input, target=target)
    x = floating("gaussian_nll_loss", input).array
    if isinstance(var, Tensor):
        floating("gaussian_nll_loss", var)
        v, given = var, var.array.shape
    elif not isinstance(var, float | int):
        raise TypeError(f"gaussian_nll_loss: var is a {type(var).__name__}; it is a Tensor or a number")
    else:
        v, given = Tensor(full_array(x.shape, var, x.dtype, device_of(x))), x.shape
    if given != x.shape and given == x.shape[:-1]:
        v = v.reshape(*given, 1)
    elif given != x.shape:
        differ = [k for k, n in enumerate(given) if len(given) != x.ndim or n != x.shape[k]]
        if len(differ) != 1 or given[differ[0]] != 1:
            raise ValueError(f"gaussian_nll_loss: var {list(given)} does not fit an input {list(x.shape)}")
    if not on_device(v.array) and (v.array < 0).any():
        raise ValueError("gaussian_nll_loss: var has negative elements")
    low = v.array.dtype.type(eps)
    bounded = ops.select(v.array < low, v + (ops.clamp_min(v.detach(), low) - v.detach()), v)
    d = input - target
    loss = (ops.log(bounded) + d * d / bounded) * 0.5
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# --------------------------------------------------------------------------------------- binary classes


def _same_shape(name: str, input: Tensor, target: Tensor) -> None:
    if input.array.shape != target.array.shape:
        raise ValueError(
            f"{name}: input {list(input.shape)}, target {list(target.shape)}; they have the same shape"
        )
    if input.array.dtype != target.array.dtype:
        raise TypeError(
            f"{name}: a {target.dtype.name} target for a {input.dtype.name} input; "
            "cast it: target.to(input.dtype)"
        )


def _fits(name: str, what: str, weight: Tensor | None, input: Tensor) -> None:
    """ValueError for a weight that does not broadcast to the input."""
    if weight is None:
        return
    shape, of = weight.array.shape, input.array.shape
    lead = len(of) - len(shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, of[lead:])):
        raise ValueError(f"{name}: {what} {list(shape)} does not broadcast to the input {list(of)}")


@listed
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log x + (1 - t) log(1 - x)) for probabilities x; the logarithms are cut at -100.

    The weight broadcasts to the input; the mean is over elements. Probabilities outside [0, 1] raise
    ValueError (on a GPU they are not looked for).
    """
    name = "binary_cross_entropy"
    check(name, reduction, size_average, reduce)
    _same_shape(name, floating(name, input), target)
    x = input.array
    if not on_device(x) and x.size and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"{name}: probabilities from {x.min()} to {x.max()}; they lie in [0, 1]")
    loss = activations.bce(input, target)
    _fits(name, "weight", weight, input)
    return reduced(loss if weight is None else loss * weight, reduction)


@listed
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-(pos_weight t log s + (1 - t) log(1 - s)), s = sigmoid(x), without overflow: (1 - t) x - l log s,
    l = 1 + (pos_weight - 1) t. Weights broadcast to the input; the mean is over elements."""
    name = "binary_cross_entropy_with_logits"
    check(name, reduction, size_average, reduce)
    _same_shape(name, floating(name, input), target)
    _fits(name, "weight", weight, input)
    _fits(name, "pos_weight", pos_weight, input)
    log_s = activations.log_sigmoid(input, ())
    if pos_weight is not None:
        log_s = ((pos_weight - 1) * target + 1) * log_s
    loss = (1 - target) * input - log_s
    return reduced(loss if weight is None else loss * weight, reduction)


@listed
def soft_margin_loss(
    input: Tensor, target: Tensor, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    """log(1 + e^(-t x)) for t = 1 or -1"""
    check("soft_margin_loss", reduction, size_average, reduce)
    if floating("soft_margin_loss", input).array.shape != target.array.shape:
        raise ValueError(
            f"soft_margin_loss: input {list(input.shape)}, target {list(target.shape)}; shapes must be equal"
        )
    return reduced(-activations.log_sigmoid(target * input, ()), reduction)


@listed
def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes, the last dim, of binary cross-entropy with logits"""
    check("multilabel_soft_margin_loss", reduction, size_average, reduce)
    x = floating("multilabel_soft_margin_loss", input)
    if not x.array.ndim:
        raise ValueError("multilabel_soft_margin_loss: a 0-d input; it is (C) or (N, C)")
    fit("multilabel_soft_margin_loss", input=input, target=target)
    loss = -(target * activations.log_sigmoid(x, ()) + (1 - target) * activations.log_sigmoid(-x, ()))
    loss = loss if weight is None else loss * weight
    return reduced(loss.sum(-1) / x.array.shape[-1], reduction)


# ---------------------------------------------------------------------------------------- distributions


@listed
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """t (log t - x) for x the logarithm of a probability; with log_target e^t (t - x).

    reduction="batchmean" divides the sum by the first dim: the Kullback-Leibler divergence as books have it.
    "mean" divides by the number of elements.
    """
    check("kl_div", reduction, size_average, reduce, (*REDUCTIONS, "batchmean"))
    floating("kl_div", input), floating("kl_div", target)
    fit("kl_div", input=input, target=target)
    if log_target:
        loss = ops.exp(target) * (target - input)
    else:
        there = target.array != 0
        safe = ops.select(there, target, target.array.dtype.type(1))
        loss = ops.masked(target * ops.log(safe), there) - target * input
    if reduction == "batchmean":
        return loss.sum() / input.array.shape[0] if input.array.ndim else loss.sum()
    return reduced(loss, reduction)
