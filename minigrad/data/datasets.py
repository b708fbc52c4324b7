"""Datasets: what has a length and items, as in torch.utils.data, and what they are combined of.

A TensorDataset is more than a list of items: a batch of it is one gather of rows on its own device.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import random
from ..tensor import Tensor


class Dataset:
    """Anything with `__len__` and `__getitem__(int)`; subclass it, as torch.utils.data.Dataset."""

    def __getitem__(self, index: int) -> Any:
        raise TypeError(f"{type(self).__name__} must define __getitem__(index)")

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} must define __len__()")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class TensorDataset(Dataset):
    """Tensors of equal first size N: item k is the tuple of their k-th rows, a batch a gather of rows."""

    def __init__(self, *tensors: Any):
        if not tensors:
            raise ValueError("TensorDataset: no tensors; pass at least one")
        for t in tensors:
            if not isinstance(t, Tensor):
                kind = type(t).__name__
                raise TypeError(f"TensorDataset: {kind}, no Tensor; make it one with minigrad.tensor(...)")
            if not t.array.ndim:
                raise ValueError("TensorDataset: a 0-d tensor has no rows; give (N, ...)")
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
        try:
            return tuple(Tensor(t.array.take(index, axis=0)) for t in self.tensors)
        except IndexError as error:
            raise IndexError(
                f"TensorDataset: {error}; items are numbered from 0 to {len(self) - 1}"
            ) from None


class Subset(Dataset):
    """The items of a dataset at the given indices."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]):
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset):
    """The items of several datasets, one after the other; also `a + b`."""

    def __init__(self, datasets: Iterable[Dataset]):
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: no datasets; pass at least one")
        self.cumulative_sizes = np.cumsum([len(d) for d in self.datasets]).tolist()

    def __getitem__(self, index: int) -> Any:
        k = index + len(self) if index < 0 else index
        if not 0 <= k < len(self):
            raise IndexError(f"ConcatDataset: index {index} is outside of {len(self)} items")
        which = bisect_right(self.cumulative_sizes, k)
        return self.datasets[which][k - self.cumulative_sizes[which] + len(self.datasets[which])]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def random_split(dataset: Dataset, lengths: Sequence[float], generator: Any = None) -> list[Subset]:
    """Disjoint random parts of a dataset: lengths are counts, or fractions that add up to 1."""
    n, counts = len(dataset), list(lengths)
    if any(isinstance(c, float) for c in counts):
        if abs(sum(counts) - 1) > 1e-9:
            raise ValueError(f"random_split: fractions {counts} add up to {sum(counts)}, not 1")
        counts = [int(n * c) for c in counts]
        for k in range(n - int(sum(counts))):  # what rounding left over goes round the parts, as in PyTorch
            counts[k % len(counts)] += 1
    if any(c < 0 for c in counts):
        raise ValueError(f"random_split: lengths {counts}; none may be negative")
    if sum(counts) != n:
        raise ValueError(f"random_split: lengths {counts} add up to {sum(counts)}, the dataset has {n} items")
    order = random.host(generator).permutation(n).tolist()
    ends = np.cumsum(counts).tolist()
    return [Subset(dataset, order[end - c : end]) for c, end in zip(counts, ends, strict=True)]
