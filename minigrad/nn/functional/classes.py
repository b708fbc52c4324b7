"""Losses against classes: negative log likelihood and cross-entropy, from class numbers or probabilities.

The class dim is 1: (N, C) with targets (N), (N, C, d1, ...) with targets (N, d1, ...), or (C) with a scalar.
"""

from __future__ import annotations

from typing import Any

from ... import ops
from ...backend import dtype, on_device, xp_of
from ...ops.classes import class_weights, index_targets
from ...ops.classes import cross_entropy as fused
from ...ops.layers import log_softmax
from ...public.autocast import listed
from ...public.promote import same_device
from ...tensor import Tensor
from .activation import floating
from .loss import check, reduced


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at the class, else 0, as int64: (...) -> (..., num_classes).

    num_classes=-1 takes the largest class + 1, which on a GPU waits for it to be read.
    """
    if not isinstance(tensor, Tensor) or tensor.array.dtype.kind not in "iu":
        found = tensor.dtype.name if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"one_hot: classes are whole numbers, not {found}; cast with .long()")
    a = tensor.array
    if num_classes == -1:
        if not a.size:
            raise ValueError("one_hot: no class among no elements; give num_classes")
        num_classes = int(a.max()) + 1
    if num_classes < 1:
        raise ValueError(f"one_hot: num_classes={num_classes}; it must be positive")
    in_range("one_hot", a, num_classes, None)
    return Tensor((a[..., None] == xp_of(a).arange(num_classes)).astype("int64"))


def in_range(name: str, classes: Any, count: int, ignore_index: int | None) -> None:
    """IndexError, naming the value, for a class that is none of `count`. A GPU is not asked."""
    if on_device(classes) or not classes.size:
        return
    # without their sign negative numbers are huge: one comparison finds both ends
    if classes.dtype == "int64" and classes.view("uint64").max() < count:
        return
    wrong = (classes < 0) | (classes >= count)
    if ignore_index is not None:
        wrong &= classes != ignore_index
    if wrong.any():
        said = "" if ignore_index is None else f", nor is it ignore_index={ignore_index}"
        raise IndexError(f"{name}: class {classes[wrong][0]} is not in [0, {count}){said}")


def _shapes(name: str, input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    """Raise for what does not go together."""
    x = floating(name, input).array
    if not isinstance(target, Tensor):
        raise TypeError(
            f"{name}: target is a {type(target).__name__}, no Tensor; make it one with minigrad.tensor(...)"
        )
    t = target.array
    same_device(name, *[a for a in (input, target, weight) if a is not None])
    if t.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: target {target.dtype.name}{list(t.shape)} for an input {list(x.shape)}; it holds class "
            "numbers: cast with .long()"
            + (", or give probabilities in the input's shape" if name == "cross_entropy" else "")
        )
    wanted = x.shape[:1] + x.shape[2:] if x.ndim > 1 else ()
    if not x.ndim or t.shape != wanted:
        raise ValueError(
            f"{name}: input {list(x.shape)}, target {list(t.shape)}; they are (N, C) and (N), "
            "(N, C, d1, ...) and (N, d1, ...), or (C) and ()"
        )
    check_weight(name, input.array.shape, input.dtype, weight)


def check_weight(name: str, shape: tuple[int, ...], kind: dtype, weight: Tensor | None) -> None:
    """ValueError for class weights that do not go with scores of this shape and dtype."""
    if weight is None:
        return
    count = shape[min(1, len(shape) - 1)]
    if weight.array.shape != (count,) or weight.dtype is not kind:
        raise ValueError(
            f"{name}: weight {weight.dtype.name}{list(weight.shape)}; for an input "
            f"{kind.name}{list(shape)} it is {kind.name}[{count}], one a class"
        )


def _rows(input: Tensor) -> Tensor:
    """The input as a matrix, a row of scores for each target."""
    ndim = input.array.ndim
    if ndim == 2:
        return input
    if ndim == 1:
        return input.reshape(1, -1)
    return ops.permute(input, (0, *range(2, ndim), 1)).reshape(-1, input.array.shape[1])


@listed
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """-w[t] x[t], for x the logarithms of probabilities and t the class.

    Targets equal to ignore_index count as nothing; the mean is sum(loss) / sum(w[t]) over the others.
    """
    check("nll_loss", reduction, size_average, reduce)
    _shapes("nll_loss", input, target, weight)
    in_range("nll_loss", target.array, input.array.shape[min(1, input.array.ndim - 1)], ignore_index)
    rows = _rows(input)
    t = index_targets(target, ignore_index).array.reshape(-1)
    w, t = class_weights(rows.array, t, None if weight is None else weight.array)
    loss = -ops.take_along(rows, t[:, None], 1).reshape(-1) * Tensor(w)
    if reduction == "mean":
        return loss.sum() / Tensor(w.sum())
    return loss.sum() if reduction == "sum" else loss.reshape(target.array.shape)


@listed
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-w[t] log softmax(x)[t], for scores x and the class t; from whole-number targets, one fused operation.

    target          class numbers; or probabilities in the input's dtype and shape: -sum(w t log softmax(x))
    ignore_index    targets equal to it count as nothing; the mean is sum(loss) / sum(w[t]) over the others
                    (over all N d1 ... for probabilities)
    label_smoothing s: the target is (1 - s) that of the class and s/C that of every class     [Szegedy 2016]
    """
    check("cross_entropy", reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing={label_smoothing}; it lies in [0, 1]")
    if (
        isinstance(target, Tensor)
        and target.array.dtype.kind not in "iub"
        and target.array.shape == input.array.shape
    ):
        if ignore_index >= 0:
            raise ValueError(
                f"cross_entropy: ignore_index={ignore_index} for probabilities; it is for class numbers"
            )
        return _from_probabilities(input, target, weight, reduction, label_smoothing)
    x, t = input.array, target.array
    if x.ndim != 2 or weight is not None or getattr(t, "shape", None) != x.shape[:1] or t.dtype.kind != "i":
        _shapes("cross_entropy", input, target, weight)
    in_range("cross_entropy", t, x.shape[min(1, x.ndim - 1)], ignore_index)
    target = index_targets(target, ignore_index)
    if x.ndim != 2:
        input, target = _rows(input), target.reshape(-1)
    w = None if weight is None else weight.array
    loss = fused(input, target, w, label_smoothing, reduction)
    return loss if reduction != "none" or x.ndim == 2 else loss.reshape(t.shape)


def _from_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    """-sum over classes of w t log softmax(x); the mean is over rows."""
    same_device("cross_entropy", input, target)
    x = floating("cross_entropy", input)
    if not x.array.ndim:
        raise ValueError("cross_entropy: a 0-d input; the scores are (C), (N, C) or (N, C, d1, ...)")
    check_weight("cross_entropy", x.array.shape, x.dtype, weight)
    axis = min(1, x.array.ndim - 1)
    classes = x.array.shape[axis]
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    terms = log_softmax(x, axis) * target
    if weight is not None:
        terms = terms * weight.reshape(classes, *[1] * (x.array.ndim - 1 - axis))
    loss = -terms.sum(axis)
    return reduced(loss, reduction)


@listed
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """w[t] sum over i != t of max(0, margin - x[t] + x[i])^p / C: (N, C) and (N), or (C) and ()

    The mean is over the examples [Crammer & Singer 2001, in another form].
    """
    name = "multi_margin_loss"
    check(name, reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError(f"{name}: p={p}; use 1 or 2")
    if input.array.ndim > 2:
        raise ValueError(f"{name}: input {list(input.shape)}; it is (N, C) or (C)")
    _shapes(name, input, target, weight)
    x = input if input.array.ndim == 2 else input.reshape(1, -1)
    count, t = x.array.shape[1], target.array.reshape(-1)
    in_range(name, t, count, None)
    z = ops.clamp_min(x - ops.take_along(x, t[:, None], 1) + float(margin), x.array.dtype.type(0))
    others = xp_of(t).arange(count) != t[:, None]
    loss = ops.masked(z if p == 1 else z * z, others).sum(1) / count
    if weight is not None:
        loss = loss * ops.take(weight, t, 0)
    return reduced(loss.reshape(target.array.shape), reduction)


@listed
def multilabel_margin_loss(
    input: Tensor, target: Tensor, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    """sum over the labels t and the classes i that are none of max(0, 1 - x[t] + x[i]) / C

    input (N, C) or (C); target of the same shape holds each example's labels, those before its first -1.
    """
    name = "multilabel_margin_loss"
    check(name, reduction, size_average, reduce)
    x = floating(name, input)
    t = target.array
    if t.dtype.kind not in "iu":
        raise TypeError(f"{name}: target {target.dtype.name}; it holds class numbers: cast with .long()")
    if x.array.ndim not in (1, 2) or t.shape != x.array.shape:
        raise ValueError(f"{name}: input {list(x.shape)}, target {list(t.shape)}; both are (N, C) or (C)")
    single = x.array.ndim == 1
    rows, t = (x.reshape(1, -1), t.reshape(1, -1)) if single else (x, t)
    xp, count = xp_of(t), rows.array.shape[1]
    there = xp.cumsum(t < 0, axis=1) == 0  # before the first -1
    t = xp.where(there, t, 0)
    in_range(name, t, count, None)
    labels = (xp.arange(count) == t[:, :, None]) & there[:, :, None]  # (N, label, class)
    none = ~labels.any(axis=1)
    z = 1 - rows.gather(1, Tensor(t)).reshape(*t.shape, 1) + rows.reshape(len(t), 1, count)
    z = ops.clamp_min(z, rows.array.dtype.type(0))
    loss = ops.masked(z, there[:, :, None] & none[:, None, :]).sum((1, 2)) / count
    return reduced(loss[0] if single else loss, reduction)
