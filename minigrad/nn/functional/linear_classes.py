"""Cross-entropy of a linear map's scores, which are never whole in memory: the loss of a large vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ... import taps
from ...backend import as_dtype, dtype, float32
from ...grad_mode import mode
from ...ops import linear_classes
from ...ops.classes import index_targets
from ...public.arguments import of_tensors
from ...public.autocast import listed
from ...public.promote import same_device
from ...tensor import Tensor
from .activation import floating
from .classes import check_weight, cross_entropy, in_range
from .linear import linear
from .loss import check

POLICIES = ("auto", "accurate", "balanced", "compact")
LEAST = 64  # rows of a chunk: products of fewer are slow


@dataclass(slots=True, frozen=True)
class LinearCrossEntropyOptions:
    """How many rows of scores linear_cross_entropy holds at a time; PyTorch's names and defaults.

    batch_chunk_size    that many
    chunking_method     "aspect_ratio": scores of the size of the input, N / ceil(C / in) rows, rounded up to
                        a power of two; "aspect_ratio:k" a k-th of them; None: all N, or batch_chunk_size;
                        "auto" is the choice of linear_cross_entropy itself
    acc_dtype           what sums are made in: None, the input's dtype, or float32 for half precision

    acc_policy and allow_retain_graph are accepted without effect: half precision is always computed in
    float32, and a backward pass always leaves what it needs as it is.
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: Any = None

    def __post_init__(self) -> None:
        name = "LinearCrossEntropyOptions"
        if self.acc_policy not in POLICIES:
            raise ValueError(f"{name}: acc_policy={self.acc_policy!r}; use one of {', '.join(POLICIES)}")
        size = self.batch_chunk_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(f"{name}: batch_chunk_size={size!r}; it is a positive whole number or None")
        if self.chunking_method not in (None, "auto"):
            self.factor()
        if self.acc_dtype is not None and not as_dtype(self.acc_dtype).is_floating_point:
            raise ValueError(f"{name}: acc_dtype={self.acc_dtype!r}; it is None or a floating dtype")

    def factor(self) -> int:
        """The k of "aspect_ratio:k"."""
        method, _, number = str(self.chunking_method).partition(":")
        if method != "aspect_ratio" or not (number or "1").isdigit() or int(number or 1) < 1:
            raise ValueError(
                f"LinearCrossEntropyOptions: chunking_method={self.chunking_method!r}; use 'auto', "
                "'aspect_ratio', 'aspect_ratio:k' with a whole k from 1 on, or None"
            )
        return int(number or 1)

    def rows(self, count: int, inputs: int, classes: int) -> int:
        """The rows of a chunk, for `count` rows in all."""
        size, method = self.batch_chunk_size, self.chunking_method
        if method == "auto" and size is None:
            return rows_of_a_chunk(count, inputs, classes)
        if method in (None, "auto"):
            return min(size or count, count)
        share = -(-count // -(-classes // inputs))
        found = max(min((1 << (share - 1).bit_length()) // self.factor(), count), 1)
        if size is not None and size != found:
            raise ValueError(
                f"linear_cross_entropy: batch_chunk_size={size}, but chunking_method={method!r} gives "
                f"{found} rows; pass only one of them"
            )
        return found

    def check_type(self, of: dtype) -> None:
        """TypeError where sums were asked for in a type that they are not made in."""
        asked = None if self.acc_dtype is None else as_dtype(self.acc_dtype)
        if asked not in (None, of) and not (asked is float32 and of.itemsize == 2):
            raise TypeError(
                f"linear_cross_entropy: acc_dtype={asked} for {of.name}; it is None, the input's dtype, or "
                "float32 for half precision"
            )


def rows_of_a_chunk(count: int, inputs: int, classes: int) -> int:
    """As many rows as inputs: their scores are of the weight's size, and so is its gradient, which is there
    anyway. All `count` where that saves less than half, or where there are fewer scores than inputs."""
    rows = max(inputs, LEAST)
    return rows if classes > inputs and count >= 2 * rows else count


def _check(
    name: str,
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    ignore_index: int | None,
) -> tuple[int, ...]:
    """The shape of the scores; raises for what does not go together."""
    x, w = floating(name, input).array.shape, floating(name, linear_weight).array.shape
    shapes = f"input {list(x)}, linear_weight {list(w)}"
    if len(x) not in (1, 2) or len(w) < 2 or x[-1] != w[-1]:
        raise ValueError(f"{name}: {shapes}; they are (N, in) or (in), and (C, in) or (C, d1, ..., in)")
    if len(w) > 2 and len(x) == 1:
        raise ValueError(f"{name}: {shapes}; with d1, ... the input is a batch (N, in)")
    if linear_bias is not None and linear_bias.array.shape != w[:-1]:
        raise ValueError(f"{name}: {shapes}, linear_bias {list(linear_bias.shape)}; it is {list(w[:-1])}")
    given = [t for t in (input, linear_weight, linear_bias) if t is not None]
    same_device(name, *given, target)
    kinds = {t.array.dtype for t in given}
    if len(kinds) > 1 and mode.casting is None:
        kinds_said = ", ".join(t.dtype.name for t in given)
        raise TypeError(f"{name}: mixed dtypes {kinds_said}; cast with .to(dtype), or use autocast")
    scores = (*x[:-1], *w[:-1])
    if ignore_index is not None and target.array.shape == scores:
        raise ValueError(f"{name}: ignore_index={ignore_index} for probabilities; it is for class numbers")
    return scores


@of_tensors
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: LinearCrossEntropyOptions | None = None,
) -> Tensor:
    """cross_entropy(linear(input, linear_weight, linear_bias), target, weight, ...), in less memory.

    input (N, in) or (in); linear_weight (C, in), or (C, d1, ..., in) for scores (N, C, d1, ...); targets,
    weight, reduction and label_smoothing as cross_entropy takes them. ignore_index=None is -100.

    Class numbers of (N, in) and (C, in) are taken some rows at a time, their gradients with them, so that the
    N C scores are never there at once: in rows where C > in and N >= 2 in, or as `options` say; all at once
    otherwise, and for probabilities, d1, ..., and gradients that are to be differentiated again. Values and
    gradients are the same to rounding. For 2048 rows of 256 inputs and 16,384 classes, a step takes an eighth
    of the memory and nine tenths of the time (benchmarks/linear_classes.py).
    """
    name = "linear_cross_entropy"
    check(name, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"{name}: label_smoothing={label_smoothing}; it lies in [0, 1]")
    scores = _check(name, input, linear_weight, target, linear_bias, ignore_index)
    if options is not None:
        options.check_type(input.dtype)
    missing = -100 if ignore_index is None else ignore_index
    t, sizes = target.array, (input.array.shape[0], *linear_weight.array.shape[::-1])
    if len(scores) == 2 == linear_weight.array.ndim and t.shape == scores[:1] and t.dtype.kind == "i":
        rows = rows_of_a_chunk(*sizes) if options is None else options.rows(*sizes)
        if 0 < rows < len(t) and not taps.wanted(linear_weight):
            if weight is not None and mode.casting is None:
                check_weight(name, scores, input.dtype, weight)
            in_range(name, t, scores[1], missing)
            t = index_targets(target, missing)
            classes = None if weight is None else weight.array
            return _chunked(
                input, linear_weight, linear_bias, t, classes, label_smoothing, reduction, rows, mode.casting
            )
    if linear_weight.array.ndim > 2:
        count = math.prod(scores[1:])
        linear_weight = linear_weight.reshape(count, -1)
        linear_bias = None if linear_bias is None else linear_bias.reshape(count)
    logits = linear(input, linear_weight, linear_bias).reshape(scores)
    return cross_entropy(
        logits,
        target,
        weight,
        ignore_index=missing,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


def _chunked(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    classes: Any,
    smoothing: float,
    reduction: str,
    rows: int,
    casting: Any,
) -> Tensor:
    """The operation; under autocast on values in half precision, with a float32 loss."""
    wanted = [t is not None and t.requires_grad and mode.enabled for t in (input, weight, bias)]
    x = input.array
    if reduction == "none" or x.dtype.name == "float16":  # see ops/linear_classes.py
        wanted = [False] * 3
    kind = float32.numpy if casting is not None and x.dtype.itemsize == 2 else x.dtype
    args = input, weight, bias, target, classes, smoothing, reduction, rows, kind, tuple(wanted)
    return linear_classes.linear_cross_entropy(*args)


_chunked = listed(_chunked, "linear")
