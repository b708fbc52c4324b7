"""Data: what ships with the package, datasets, and the loader that makes batches of them."""

from .embedded import digits, fashion, shakespeare
from .loader import DataLoader, Dataset, Subset, TensorDataset, random_split

__all__ = [
    "DataLoader",
    "Dataset",
    "Subset",
    "TensorDataset",
    "digits",
    "fashion",
    "random_split",
    "shakespeare",
]
