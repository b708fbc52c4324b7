"""Data: what ships with the package, what can be downloaded, datasets, and the loader that makes batches."""

from .datasets import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from .embedded import digits, fashion, shakespeare
from .fetch import DownloadError
from .loader import DataLoader
from .samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .standard import cifar10, fashion_mnist, load, mnist, tiny_shakespeare
from .tokenizers import ByteTokenizer, CharTokenizer, load_tokenizer, tokenizer_from_json
from .transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip
from .windows import TextWindows

__all__ = [
    "digits",
    "fashion",
    "shakespeare",
    "mnist",
    "fashion_mnist",
    "cifar10",
    "tiny_shakespeare",
    "load",
    "DownloadError",
    "Dataset",
    "TensorDataset",
    "Subset",
    "ConcatDataset",
    "random_split",
    "Sampler",
    "SequentialSampler",
    "RandomSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
    "BatchSampler",
    "DataLoader",
    "Compose",
    "RandomCrop",
    "RandomHorizontalFlip",
    "Normalize",
    "CharTokenizer",
    "ByteTokenizer",
    "load_tokenizer",
    "tokenizer_from_json",
    "TextWindows",
]
