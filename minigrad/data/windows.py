"""Text batches: windows of T tokens that follow each other, and the tokens that follow those.

For training, windows at random places: B starts a batch, drawn for an epoch at once. For a score, the whole
text once: window j is the tokens from j T on, so that every token but the first is predicted exactly once,
the last ones in a shorter window.

    tokens   t0 t1 t2 t3 t4 t5 t6 t7                  T = 3
    inputs   t0 t1 t2 | t3 t4 t5 | t6
    targets     t1 t2 t3 | t4 t5 t6 | t7
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend, random
from ..tensor import Tensor
from .epochs import Epoch, Epochs, Indices, even_ends


class TextWindows(Epochs):
    """Batches (inputs, targets), both int64 (B, T), of a text of N tokens; targets are one token further on.

    tokens      integers (N,), an array or a Tensor; they stay on the device, in the type that they have
    length      T, tokens a window, from 1 to N - 1
    batch_size  B, windows a batch
    shuffle     True: windows at random places, `batches` batches an epoch. False: the text once from start to
                end; the last batch of whole windows may have fewer, what is left is a batch of one shorter
                window: a mean over the text weighs each batch by its number of targets
    batches     an epoch of random windows; default: as many as give N tokens
    generator   what the places are drawn from; default: the generator of manual_seed
    device      where the batches are made: one upload of places an epoch, two launches a batch

    >>> for x, y in TextWindows(np.arange(8), 3, batch_size=2):
    ...     print(x.tolist(), y.tolist())
    [[0, 1, 2], [3, 4, 5]] [[1, 2, 3], [4, 5, 6]]
    [[6]] [[7]]
    """

    def __init__(
        self,
        tokens: Any,
        length: int,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        batches: int | None = None,
        generator: random.Generator | None = None,
        device: Any = None,
    ):
        array = tokens.array if isinstance(tokens, Tensor) else np.asarray(tokens)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise TypeError(
                f"TextWindows: tokens are integers (N,); got {array.dtype} of shape {array.shape}"
            )
        if not 1 <= length < len(array):
            raise ValueError(
                f"TextWindows: length {length} in a text of {len(array):,} tokens; it is at least 1 and less"
            )
        for name, value in (("batch_size", batch_size), ("batches", batches)):
            if value is not None and value < 1:
                raise ValueError(f"TextWindows: {name} is {value}; it is at least 1")
        if batches is not None and not shuffle:
            raise ValueError(
                "TextWindows: batches is for shuffle=True; without it the text is gone through once"
            )
        where = backend.device_of(array) if device is None else backend.resolve_device(device)
        self.tokens, self.device = backend.to_device(array, where), where
        self.length, self.batch_size, self.shuffle = length, batch_size, shuffle
        self.batches = batches or max(len(array) // (batch_size * length), 1)
        self.generator = random.default_generator if generator is None else generator
        ahead = np.arange(length) + np.arange(2)[:, None, None]  # (2, 1, T): inputs and targets
        self._ahead = backend.to_device(ahead, where)

    def __len__(self) -> int:
        if self.shuffle:
            return self.batches
        whole, rest = divmod(len(self.tokens) - 1, self.length)
        return -(-whole // self.batch_size) + (rest > 0)

    def begin(self) -> Epoch:
        last = len(self.tokens) - 1 - self.length  # the last place where a window and its targets fit
        if self.shuffle:
            n = self.batches * self.batch_size
            return Epoch(self.generator.host.integers(0, last + 1, n), even_ends(n, self.batch_size))
        starts = np.arange(0, len(self.tokens) - 1, self.length)
        whole = int((starts <= last).sum())
        ends = even_ends(whole, self.batch_size)
        return Epoch(starts, ends if whole == len(starts) else np.append(ends, len(starts)))

    def examples(self) -> int:
        return len(self.tokens)

    def sources(self) -> dict[str, Any]:
        return {"generator": self.generator} if self.shuffle else {}

    def prepare(self, epoch: Epoch) -> Any:
        return backend.to_device(epoch.order, self.device)

    def make(self, epoch: Epoch, prepared: Any, k: int) -> Any:
        first, last = epoch.bounds(k)
        left = len(self.tokens) - 1 - int(epoch.order[first])  # type: ignore[index]
        return self._windows(prepared[first:last], min(left, self.length))

    @property
    def indices(self) -> Indices | None:
        return Indices(self, self.device) if self.shuffle and backend.on_device(self.tokens) else None

    def gather(self, index: Tensor) -> Any:
        return super().gather(index) if self.indices is None else self._windows(index.array, self.length)

    def _windows(self, starts: Any, length: int) -> Any:
        both = self.tokens.take(starts[:, None] + self._ahead[:, :, :length])  # (2, B, T)
        both = both.astype(np.int64, copy=False)
        return Tensor(both[0]), Tensor(both[1])
