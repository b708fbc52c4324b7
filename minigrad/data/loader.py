"""The loader: a dataset, an order, batches on the device where they are wanted.

Three ways lead to a batch, and the loader takes the shortest:

    a TensorDataset, or a Subset of one     a gather of rows on its device; one upload of indices an epoch;
                                            on a GPU a captured step may do it (`indices`, epochs.py)
    the same with `transform`               a gather on the host, the transform, one upload a batch
    any other dataset                       item by item, then collate_fn

`prefetch` makes the last two in a thread. Which examples a batch has, and how they are transformed, is
decided by the epoch's order and seed (epochs.py) and is the same with and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import backend, random
from ..tensor import Tensor
from .collate import collate, place
from .datasets import Subset, TensorDataset
from .epochs import Epoch, Epochs, Indices, even_ends
from .samplers import RandomSampler, epoch_of


class DataLoader(Epochs):
    """Batches of a dataset, an epoch each time it is iterated, as torch.utils.data.DataLoader.

    batch_size     examples a batch, from 1 to len(dataset) (None: as many); the last batch of an epoch may be
                   smaller
    shuffle        a new order every epoch, from `generator` (default: the generator of manual_seed); each
                   example once
    sampler        an iterable of indices instead of `shuffle` (samplers.py has the usual ones)
    batch_sampler  an iterable of lists of indices instead of batch_size, shuffle, sampler and drop_last
    collate_fn     list of items -> batch, for a dataset that is not a TensorDataset
    pin_memory     accepted and without effect
    drop_last      leave out a last batch that is smaller
    generator      what order and transforms are drawn from
    device         where batches are wanted; a TensorDataset without transform is moved there as a whole,
                   once, unless it would take more than half of a GPU's free memory
    transform      (images, numpy.random.Generator) -> images, on every batch's first part (transforms.py)
    prefetch       batches that a thread makes ahead of the loop; a TensorDataset on a GPU needs none
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        *,
        generator: random.Generator | None = None,
        device: Any = None,
        transform: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        prefetch: int = 0,
    ):
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"DataLoader: dataset is a {type(dataset).__name__}; it has a length and items: a "
                "TensorDataset, a list"
            )
        if num_workers:
            raise ValueError(
                f"DataLoader: num_workers={num_workers} is not supported, loading is in process; use "
                "prefetch=N for a thread that makes N batches ahead"
            )
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(
                f"DataLoader: batch_size is {batch_size!r}; it is a positive int, or None for full batch"
            )
        if not isinstance(prefetch, int) or prefetch < 0:
            raise ValueError(f"DataLoader: prefetch is {prefetch!r}; it is a number of batches, 0 for none")
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler and shuffle exclude each other")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError("DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last")
        self.dataset, self.device = dataset, None if device is None else backend.resolve_device(device)
        self.batch_size = max(len(dataset), 1) if batch_size is None else batch_size
        self.batch_sampler, self.drop_last = batch_sampler, drop_last
        self.sampler = RandomSampler(dataset, generator=generator) if shuffle else sampler
        self.collate_fn, self.transform = collate_fn or collate, transform
        self.generator = random.default_generator if generator is None else generator
        self.rows, self.index = whole(dataset) if collate_fn is None else (None, None)
        if self.rows is not None and transform is None and self._fits():
            self._move()
        on_gpu = self.rows is not None and backend.on_device(self.rows.tensors[0].array)
        if on_gpu and transform is not None:
            raise TypeError(
                "DataLoader: transform works on the host: keep the dataset on the CPU, and give device= to "
                "have the batches on the GPU"
            )
        self.prefetch = 0 if on_gpu else prefetch

    def _fits(self) -> bool:
        """Whether the rows may lie where batches are wanted."""
        if self.device is None or self.device.type == "cpu":
            return self.device is not None
        assert self.rows is not None
        shares = 1.0 if self.index is None else len(self.index) / max(len(self.rows), 1)
        needed = shares * sum(t.array.nbytes for t in self.rows.tensors if not backend.on_device(t.array))
        return needed <= backend.cupy().cuda.Device(self.device.index).mem_info[0] / 2

    def _move(self) -> None:
        """Rows and their place in the dataset -> the dataset's rows alone, on the device."""
        assert self.rows is not None
        if self.index is not None:
            self.rows, self.index = TensorDataset(*self.rows.rows(self.index)), None
        self.rows = self.rows.to(self.device)

    def __len__(self) -> int:
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        n = len(self.dataset) if self.sampler is None else len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    # what an epoch is --------------------------------------------------------------------------------------

    def begin(self) -> Epoch:
        seed = None if self.transform is None else int(self.generator.host.integers(1 << 63))
        if self.batch_sampler is not None:
            batches = [np.asarray(b, np.int64) for b in self.batch_sampler]
            order = np.concatenate([np.empty(0, np.int64), *batches])
            return Epoch(order, np.cumsum([len(b) for b in batches], dtype=np.int64), seed)
        drawn = None if self.sampler is None else epoch_of(self.sampler)
        n = len(self.dataset) if drawn is None else len(drawn)
        return Epoch(drawn, even_ends(n, self.batch_size, self.drop_last), seed)

    def examples(self) -> int:
        return len(self.dataset)

    def sources(self) -> dict[str, Any]:
        found: dict[str, Any] = {} if self.transform is None else {"generator": self.generator}
        sampler = self.sampler if self.batch_sampler is None else self.batch_sampler
        return found | ({"sampler": sampler} if hasattr(sampler, "state_dict") else {})

    @property
    def indices(self) -> Indices | None:
        if self.rows is None or not backend.on_device(self.rows.tensors[0].array):
            return None
        return Indices(self, self.rows.tensors[0].device)

    def gather(self, index: Tensor) -> Any:
        if self.rows is None or self.indices is None:
            return super().gather(index)
        return list(self.rows.rows(index.array))

    # how a batch is made -----------------------------------------------------------------------------------

    def prepare(self, epoch: Epoch) -> Any:
        """The order, for rows as positions among them, on their device; a list of ints for items."""
        order = epoch.order
        if self.rows is None:
            return range(len(self.dataset)) if order is None else order.tolist()
        if self.index is not None:
            order = self.index if order is None else self.index[order]
        return None if order is None else backend.to_device(order, self.rows.tensors[0].device)

    def make(self, epoch: Epoch, prepared: Any, k: int) -> Any:
        start, stop = epoch.bounds(k)
        batch: Any
        if self.rows is None:
            batch = self.collate_fn([self.dataset[i] for i in prepared[start:stop]])
        else:
            batch = list(self.rows.rows(slice(start, stop) if prepared is None else prepared[start:stop]))
        return batch if self.transform is None else self._transformed(batch, epoch.host(k))

    def _transformed(self, batch: Any, host: np.random.Generator) -> Any:
        assert self.transform is not None
        first = batch[0] if isinstance(batch, (list, tuple)) else batch
        if not isinstance(first, Tensor) or backend.on_device(first.array):
            raise TypeError(
                f"DataLoader: transform needs a batch whose first part is a Tensor on the CPU; got "
                f"{type(first).__name__}; let collate_fn do it"
            )
        images = Tensor(self.transform(first.array, host))
        return [images, *batch[1:]] if isinstance(batch, (list, tuple)) else images

    def finish(self, batch: Any) -> Any:
        return place(batch, self.device)


def whole(dataset: Any) -> tuple[TensorDataset | None, np.ndarray | None]:
    """(rows, index): the TensorDataset behind a dataset, and which of its rows it is if it is a Subset."""
    index = None
    while isinstance(dataset, Subset):
        own = np.asarray(dataset.indices, np.int64)
        index, dataset = own if index is None else own[index], dataset.dataset
    return (dataset, index) if isinstance(dataset, TensorDataset) else (None, None)
