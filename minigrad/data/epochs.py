"""Epochs that can stop between any two batches and go on, in this process or in another.

An epoch is decided before its first batch: which examples, in which order, cut into which batches, and one
seed from which batch k's random transforms are drawn as numpy.random.PCG64([seed, k]). So a batch is a
function of the epoch and k, whoever makes it and whatever was drawn in between; and the state of a loop over
batches is the epoch, the number of batches that the loop has got, and the generators of later epochs.

Where the data lie on a GPU a batch is a gather, which a captured step (mg.graph.capture) does itself:

    for index in loader.indices:                # the same epochs: index Tensors on the device
        step(index)                             # begins with  images, labels = loader.gather(index)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import backend, random
from ..tensor import Tensor
from .prefetch import prefetched


@dataclass
class Epoch:
    """`order`: the examples, None for 0, 1, 2, ...; batch k is order[ends[k - 1] : ends[k]]."""

    order: np.ndarray | None
    ends: np.ndarray
    seed: int | None = None
    position: int = 0  # batches that the loop has got

    def bounds(self, k: int) -> tuple[int, int]:
        return (int(self.ends[k - 1]) if k else 0), int(self.ends[k])

    def host(self, k: int) -> np.random.Generator:
        """The random numbers of batch k."""
        return np.random.Generator(np.random.PCG64([self.seed or 0, k]))


def even_ends(n: int, size: int, drop_last: bool = False) -> np.ndarray:
    """Where batches of `size` end in n examples; the last one may be smaller, or is left out."""
    ends = np.arange(size, n + 1, size)
    return ends if drop_last or n % size == 0 else np.append(ends, n)


class Epochs:
    """An iterable of batches, an epoch each time it is iterated; state_dict() and load_state_dict() pin it.

    Subclasses say what an epoch is (`begin`) and how a batch is made (`make`, on the host, perhaps in a
    thread) and finished (`finish`, in the caller's thread).
    """

    prefetch = 0
    _open: Epoch | None = None  # the epoch that the last loop is in
    _resumed: Epoch | None = None  # the epoch that the next loop continues

    def begin(self) -> Epoch:
        """A new epoch, drawn from the generators."""
        raise TypeError(f"{type(self).__name__} must define begin()")

    def prepare(self, epoch: Epoch) -> Any:
        """What `make` needs of an epoch: once an epoch, in the caller's thread."""
        return epoch.order

    def make(self, epoch: Epoch, prepared: Any, k: int) -> Any:
        """Batch k."""
        raise TypeError(f"{type(self).__name__} must define make()")

    def finish(self, batch: Any) -> Any:
        """The batch as the loop wants it."""
        return batch

    def examples(self) -> int:
        """The number that a saved epoch must agree on: it counts what indices point to."""
        raise TypeError(f"{type(self).__name__} must define examples()")

    def sources(self) -> dict[str, Any]:
        """Name -> Generator or sampler that later epochs are drawn from."""
        return {}

    @property
    def indices(self) -> Indices | None:
        """The same epochs as indices for `gather`; None where batches are not gathered on a device."""
        return None

    def gather(self, index: Tensor) -> Any:
        """The batch of an index that `indices` gave."""
        raise TypeError(f"{type(self).__name__} gathers no batches on a device; loop over it instead")

    def __iter__(self) -> Iterator[Any]:
        epoch = self._next()
        return self._given(epoch, self._made(epoch), self.finish)

    def _next(self) -> Epoch:
        """The epoch of a loop that begins."""
        epoch, self._resumed = self._resumed or self.begin(), None
        self._open = epoch
        return epoch

    def _given(self, epoch: Epoch, made: Any, finish: Callable) -> Generator[Any, None, None]:
        """Give the loop what was made of an epoch, and keep account of it."""
        with closing(made):
            for batch in made:
                epoch.position += 1
                yield finish(batch)
        if self._open is epoch:
            self._open = None

    def _made(self, epoch: Epoch) -> Generator[Any, None, None]:
        prepared = self.prepare(epoch)
        made: Any = (self.make(epoch, prepared, k) for k in range(epoch.position, len(epoch.ends)))
        if self.prefetch:
            made = prefetched(made, self.prefetch)
        with closing(made):
            yield from made

    def state_dict(self) -> dict[str, Any]:
        """Where the loop is, as numbers and Tensors: after load_state_dict() the same batches come.

        In the loop's body the present batch counts as used; in that of the last batch the rest of the epoch
        is empty, and so is the first loop after load_state_dict(). A loop left by `break` stays open.
        """
        state: dict[str, Any] = {"examples": self.examples(), "position": None}
        if (epoch := self._open) is not None:
            order = None if epoch.order is None else Tensor(_narrow(epoch.order))
            ends = Tensor(_narrow(epoch.ends))
            state |= {"position": epoch.position, "order": order, "ends": ends, "seed": epoch.seed}
        for name, source in self.sources().items():
            state[name] = source.get_state() if isinstance(source, random.Generator) else source.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where state_dict() was taken: the next loop gives the rest of that epoch.

        Order and batches of the open epoch come from the state, those of later ones from the generators,
        which are set to what they were: the default one where this object has none of its own.
        """
        name, n = type(self).__name__, state_dict["examples"]
        if n != self.examples():
            raise ValueError(
                f"{name}.load_state_dict: the state is of {n:,} examples, this one has {self.examples():,}"
            )
        opened = None if state_dict["position"] is None else self._epoch(state_dict)
        sources = self.sources()
        if missing := [key for key in sources if key not in state_dict]:
            raise ValueError(
                f"{name}.load_state_dict: no state of the {' and '.join(missing)}; it was saved by a {name} "
                "with other arguments"
            )
        for key, source in sources.items():
            if isinstance(source, random.Generator):
                source.set_state(state_dict[key])
            else:
                source.load_state_dict(state_dict[key])
        self._resumed = self._open = opened

    def _epoch(self, state: dict[str, Any]) -> Epoch:
        """The open epoch of a state. ValueError where it points to what is not there."""
        order, n = state["order"], self.examples()
        order = None if order is None else _wide(order)
        ends, position = _wide(state["ends"]), int(state["position"])
        held = n if order is None else len(order)
        inside = order is None or not order.size or (order.min() >= 0 and order.max() < n)
        rising = not ends.size or (ends[0] >= 0 and ends[-1] <= held and bool((np.diff(ends) >= 0).all()))
        if not (inside and rising and 0 <= position <= len(ends)):
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the state's epoch does not fit {n:,} examples: "
                "order, ends or position lie outside"
            )
        return Epoch(order, ends, state["seed"], position)


class Indices:
    """A loader's epochs as indices: the loop that it is counts as one over its batches."""

    def __init__(self, loader: Epochs, where: backend.device):
        self.loader, self.where = loader, where

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Tensor]:
        epoch = self.loader._next()
        return self.loader._given(epoch, self._made(epoch), Tensor)

    def _made(self, epoch: Epoch) -> Generator[Any, None, None]:
        order = self.loader.prepare(epoch)
        if order is None:
            order = backend.to_device(np.arange(self.loader.examples()), self.where)
        for k in range(epoch.position, len(epoch.ends)):
            yield order[slice(*epoch.bounds(k))]


def _narrow(indices: np.ndarray) -> np.ndarray:
    """Indices in the fewest bytes that hold them: an epoch of 60,000 examples is 240 kB of a checkpoint."""
    return indices.astype(np.int32 if not indices.size or indices.max() < 2**31 else np.int64)


def _wide(indices: Any) -> np.ndarray:
    array = backend.to_host(indices.array) if isinstance(indices, Tensor) else np.asarray(indices)
    return array.astype(np.int64)
