"""minigrad.data under the name that it has in PyTorch, with PyTorch's names alone.

    from minigrad.utils.data import DataLoader, TensorDataset, random_split

The classes are those of minigrad.data; so are their limits: loading is in process (num_workers=0; prefetch=N
makes batches ahead in a thread), and there are no IterableDataset and no DistributedSampler.
"""

from ..data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)
from ..data.collate import collate as default_collate

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "random_split",
]
