"""Data: what ships with the package, what can be downloaded, datasets, and the loader that makes batches."""

from .embedded import digits, fashion, shakespeare
from .fetch import DownloadError
from .loader import DataLoader, Dataset, Subset, TensorDataset, random_split
from .standard import cifar10, fashion_mnist, mnist, tiny_shakespeare

__all__ = [
    "digits",
    "fashion",
    "shakespeare",
    "mnist",
    "fashion_mnist",
    "cifar10",
    "tiny_shakespeare",
    "DownloadError",
    "Dataset",
    "TensorDataset",
    "Subset",
    "random_split",
    "DataLoader",
]
