"""Datasets and the loader that cuts them into batches.

The order of an epoch is one permutation from one host generator, so a seed fixes it on every device. A
TensorDataset on a GPU stays there as a whole: an epoch uploads its permutation once, and a batch is a gather
on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import backend, random
from ..tensor import Tensor


class Dataset:
    """Anything with `__len__` and `__getitem__(int)`; subclass it, as torch.utils.data.Dataset."""

    def __getitem__(self, index: int) -> Any:
        raise TypeError(f"{type(self).__name__} must define __getitem__(index)")

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} must define __len__()")


class TensorDataset(Dataset):
    """Tensors of equal first size N: item k is the tuple of their k-th rows, a batch a gather of rows."""

    def __init__(self, *tensors: Tensor):
        if not tensors:
            raise ValueError("TensorDataset: no tensors; pass at least one")
        sizes = [len(t) for t in tensors]
        if len(set(sizes)) > 1:
            raise ValueError(f"TensorDataset: tensors of {sizes} rows; all need the same number")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def to(self, device: Any) -> TensorDataset:
        """The same data on a device."""
        return TensorDataset(*(t.to(device) for t in self.tensors))

    def rows(self, index: Any) -> tuple[Tensor, ...]:
        """The rows of an index array on the data's own device, or of a slice (views)."""
        if isinstance(index, slice):
            return tuple(Tensor(t.array[index]) for t in self.tensors)
        return tuple(Tensor(t.array.take(index, axis=0)) for t in self.tensors)


class Subset(Dataset):
    """The items of a dataset at the given indices."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]):
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Dataset, lengths: Sequence[float], generator: Any = None) -> list[Subset]:
    """Disjoint random parts of a dataset: lengths are counts, or fractions that add up to 1."""
    n, counts = len(dataset), list(lengths)
    if any(isinstance(c, float) for c in counts):
        if abs(sum(counts) - 1) > 1e-9:
            raise ValueError(f"random_split: fractions {counts} add up to {sum(counts)}, not 1")
        counts = [int(n * c) for c in counts]
        for k in range(n - int(sum(counts))):  # what rounding left over goes round the parts, as in PyTorch
            counts[k % len(counts)] += 1
    if sum(counts) != n:
        raise ValueError(f"random_split: lengths {counts} add up to {sum(counts)}, the dataset has {n} items")
    order = random.host(generator).permutation(n).tolist()
    ends = np.cumsum(counts).tolist()
    return [Subset(dataset, order[end - c : end]) for c, end in zip(counts, ends, strict=True)]


class DataLoader:
    """Batches of a dataset, an epoch each time it is iterated, as torch.utils.data.DataLoader.

    batch_size   examples a batch, from 1 to len(dataset) (None: as many); the last batch of an epoch may be
    smaller
    shuffle      a new order every epoch, from `generator` (default: the generator of manual_seed); each
    example once
    drop_last    leave out a last batch that is smaller
    collate_fn   list of items -> batch, for a dataset that is not a TensorDataset
    device       where batches are wanted; a TensorDataset is moved there as a whole, once
    sampler      an iterable of indices instead of `shuffle`
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        generator: Any = None,
        device: Any = None,
    ):
        if num_workers:
            raise ValueError(
                f"DataLoader: num_workers={num_workers} is not supported; use 0, loading is in process"
            )
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(
                f"DataLoader: batch_size is {batch_size!r}; it is a positive int, or None for full batch"
            )
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler and shuffle exclude each other")
        self.device = None if device is None else backend.resolve_device(device)
        if self.device is not None and isinstance(dataset, TensorDataset):
            dataset = dataset.to(self.device)
        self.dataset, self.shuffle, self.sampler, self.drop_last = dataset, shuffle, sampler, drop_last
        self.batch_size = max(len(dataset), 1) if batch_size is None else batch_size
        self.collate_fn = collate_fn or collate
        self.whole = isinstance(dataset, TensorDataset) and collate_fn is None
        self.generator = generator

    def __len__(self) -> int:
        n = len(self.sampler) if self.sampler is not None else len(self.dataset)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def order(self) -> np.ndarray | None:
        """The indices of one epoch; None for file order."""
        if self.sampler is not None:
            return np.fromiter(self.sampler, np.int64)
        return random.host(self.generator).permutation(len(self.dataset)) if self.shuffle else None

    def __iter__(self) -> Iterator[Any]:
        order = self.order()
        n = len(self.dataset) if order is None else len(order)
        if self.whole and order is not None:
            order = backend.to_device(order, self.dataset.tensors[0].device)
        for start in range(0, n, self.batch_size):
            stop = min(start + self.batch_size, n)
            if self.drop_last and stop - start < self.batch_size:
                return
            if self.whole:
                yield list(self.dataset.rows(slice(start, stop) if order is None else order[start:stop]))
            else:
                indices = range(start, stop) if order is None else order[start:stop].tolist()
                yield self._placed(self.collate_fn([self.dataset[k] for k in indices]))

    def _placed(self, batch: Any) -> Any:
        if self.device is None:
            return batch
        if isinstance(batch, Tensor):
            return batch.to(self.device)
        if isinstance(batch, dict):
            return {k: self._placed(v) for k, v in batch.items()}
        return type(batch)(self._placed(b) for b in batch) if isinstance(batch, (list, tuple)) else batch


def collate(items: list[Any]) -> Any:
    """A batch of items: Tensors, arrays and numbers are stacked; tuples, lists and dicts are gone through."""
    first = items[0]
    if isinstance(first, Tensor):
        from ..ops import stack

        return stack(0, *items)
    if isinstance(first, np.ndarray):
        return Tensor(np.stack(items))
    if isinstance(first, (bool, int, np.integer)):
        return Tensor(np.array(items, np.bool_ if isinstance(first, bool) else np.int64))
    if isinstance(first, (float, np.floating)):
        return Tensor(np.array(items, np.float64))
    if isinstance(first, dict):
        return {k: collate([item[k] for item in items]) for k in first}
    if isinstance(first, (tuple, list)):
        return [collate(list(column)) for column in zip(*items, strict=True)]
    if isinstance(first, str):
        return items
    raise TypeError(f"DataLoader: items of type {type(first).__name__} cannot be stacked; pass collate_fn")
