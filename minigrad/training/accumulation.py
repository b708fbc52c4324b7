"""Gradient accumulation: a batch in pieces, with the gradient that it has in one piece.

    L = (1/n) sum_k S_k,    n = sum_k n_k

S_k is the sum of the losses of piece k, n_k the number of targets that count in it. The usual recipe, the
mean of the pieces' means, gives every piece the same weight: wrong as soon as pieces hold different numbers
of tokens (padding, ignore_index) or the last window of an epoch has fewer pieces. Here n is known before the
first backward, so every target weighs 1/n whatever piece it came in, and the memory is that of one piece.

What a layer computes over its batch (batch norm) still sees one piece at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from ..grad_mode import mode
from ..tensor import Tensor

Batch = TypeVar("Batch")


def windows(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of `size` batches; the last one of an epoch may be shorter.

    >>> list(windows([1, 2, 3, 4, 5], 2))
    [[1, 2], [3, 4], [5]]
    """
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"windows: size is {size!r}; it is a positive whole number")
    rest = iter(batches)
    while window := list(islice(rest, size)):
        yield window


def endless(loader: Any, size: int = 1) -> Iterator[list[Any]]:
    """The windows of one epoch after the other; a window never spans two of them."""
    made = True
    while True:
        before, made = made, False
        for window in windows(loader, size):
            made = True
            yield window
        if not (before or made):  # the rest of a resumed epoch may be empty, a whole one may not
            raise ValueError(f"endless: {type(loader).__name__} gives no batches")


def accumulate(
    batches: Iterable[Batch],
    summed: Callable[[Batch], Tensor],
    count: Callable[[Batch], Any],
    backward: Callable[[Tensor], Any] = Tensor.backward,
) -> Tensor:
    """The mean loss over all targets of a window of batches; its gradient is added to the parameters' .grad.

    batches   the window; one batch is a window too
    summed    batch -> the sum of the losses of its targets, a 0-d Tensor: reduction="sum"
    count     batch -> how many targets count, a number or a 0-d Tensor, which stays on its device:
              len(y), or (y != -100).sum() with cross_entropy's ignore_index
    backward  what to call with each batch's share of the loss: lambda loss: scaler.scale(loss).backward()

    A window without a single target that counts has loss 0 and gradient 0. The loss has no graph, but for a
    rule that goes through it once more (SophiaH): then the graphs of all pieces are there at once.

        for window in windows(loader, 4):
            optimizer.zero_grad()
            loss = accumulate(
                window,
                summed=lambda batch: F.cross_entropy(model(batch[0]), batch[1], reduction="sum"),
                count=lambda batch: (batch[1] != -100).sum(),
            )
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    """
    batches = list(batches)
    if not batches:
        raise ValueError("accumulate: an empty window; windows(loader, n) gives none")
    counts = [count(batch) for batch in batches]
    total = sum(counts[1:], counts[0])
    total = total.clamp(min=1) if isinstance(total, Tensor) else max(total, 1)
    losses = []
    for batch in batches:
        loss = summed(batch) / total
        backward(loss)
        losses.append(loss if mode.retained else loss.detach())
    return sum(losses[1:], losses[0])
