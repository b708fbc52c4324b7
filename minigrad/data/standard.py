"""The standard sets: MNIST, Fashion-MNIST, CIFAR-10, tiny Shakespeare. Downloaded, checked, kept.

The network is touched only by `download=True`, and only for files that are not there yet (places.py says
where they are looked for). Images are raw uint8, labels int64, text a string: as the embedded sets.
Every mirror serves the same bytes, which the checksums here decide.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import embedded, formats
from .embedded import TEXT_TRAIN, choose
from .fetch import Source
from .places import Place, content

MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
FASHION_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
CIFAR_BATCH = 10_000 * formats.CIFAR_RECORD


def _idx_files(mirrors: tuple[str, ...], rows: str) -> dict[tuple[str, str], Source]:
    """(split, part) -> Source from rows: kind, bytes and SHA-256 gzipped, the same unpacked."""
    found = {}
    for row in rows.split("\n"):
        file, size, digest, raw_size, raw_digest = row.split()
        name = f"{file}-ubyte.gz"
        urls = tuple(mirror + name for mirror in mirrors)
        split, kind = file.split("-")[:2]
        split = {"train": "train", "t10k": "test"}[split]
        found[split, kind] = Source(name, int(size), digest, urls, (int(raw_size), raw_digest))
    return found


# fmt: off
MNIST = _idx_files(MNIST_MIRRORS, """\
train-images-idx3 9912422 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609 \
 47040016 ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db
train-labels-idx1 28881 3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c \
 60008 65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5
t10k-images-idx3 1648877 8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6 \
 7840016 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7
t10k-labels-idx1 4542 f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6 \
 10008 ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2""")

FASHION = _idx_files(FASHION_MIRRORS, """\
train-images-idx3 26421880 3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84 \
 47040016 c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888
train-labels-idx1 29515 a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845 \
 60008 bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9
t10k-images-idx3 4422102 346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073 \
 7840016 5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b
t10k-labels-idx1 5148 67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5 \
 10008 0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34""")
# fmt: on

CIFAR10 = Source(
    "cifar-10-binary.tar.gz",
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    (
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
    ),
)
TINY_SHAKESPEARE = Source(
    "input.txt",
    1_115_394,
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    (
        "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a/data/tinyshakespeare/input.txt",
        "https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt",
    ),
)

MNIST_PLACE = Place("mnist", ("mnist", "MNIST/raw"))
FASHION_PLACE = Place("fashion_mnist", ("fashion-mnist", "FashionMNIST/raw"))
CIFAR10_PLACE = Place("cifar10", ("cifar10",))
TINY_SHAKESPEARE_PLACE = Place("tiny_shakespeare", ("tiny-shakespeare", "tinyshakespeare"))


def mnist(split: str = "train", download: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits: images uint8 (N, 28, 28), labels int64 (N,); 60,000 in "train", 10,000 in "test".

    Mean 0.1307 and standard deviation 0.3081 of the training pixels in [0, 1]. [LeCun, Bottou, Bengio &
    Haffner 1998]
    """
    return _idx_set(MNIST_PLACE, MNIST, split, download)


def fashion_mnist(split: str = "train", download: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Clothes in ten classes: images uint8 (N, 28, 28), labels int64 (N,); 60,000 "train", 10,000 "test".

    Mean 0.2860 and standard deviation 0.3530 of the training pixels in [0, 1]. [Xiao, Rasul & Vollgraf 2017]
    """
    return _idx_set(FASHION_PLACE, FASHION, split, download)


def cifar10(split: str = "train", download: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Photographs in ten classes: images uint8 (N, 3, 32, 32), labels int64 (N,); 50,000 and 10,000.

    Mean (0.4914, 0.4822, 0.4465) and standard deviation (0.2470, 0.2435, 0.2616) of the training pixels'
    red, green and blue in [0, 1]. [Krizhevsky 2009]
    """
    batches = choose(
        "cifar10", split, {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]}
    )
    archive = content(CIFAR10_PLACE, CIFAR10, download)
    names = [f"cifar-10-batches-bin/{batch}.bin" for batch in batches]
    records = formats.members(archive, CIFAR10.name, names, CIFAR_BATCH)
    return formats.cifar_records(b"".join(records), CIFAR10.name)


def tiny_shakespeare(split: str = "train", download: bool = False) -> str:
    """1,115,394 ASCII characters, 65 distinct: "train" the first 90 % (1,003,854), "validation" the rest.

    [Karpathy 2015]; the split is nanoGPT's.
    """
    cut = int(TEXT_TRAIN * TINY_SHAKESPEARE.size)
    rows = choose("tiny_shakespeare", split, {"train": slice(None, cut), "validation": slice(cut, None)})
    return content(TINY_SHAKESPEARE_PLACE, TINY_SHAKESPEARE, download).decode("ascii")[rows]


EMBEDDED = dict(digits=embedded.digits, fashion=embedded.fashion, shakespeare=embedded.shakespeare)
STANDARD = dict(mnist=mnist, fashion_mnist=fashion_mnist, cifar10=cifar10, tiny_shakespeare=tiny_shakespeare)


def load(name: str, split: str = "train") -> Any:
    """A set by its name: an embedded one, or a standard one, which is downloaded if it is nowhere yet."""
    if name in EMBEDDED:
        return EMBEDDED[name](split)
    if name not in STANDARD:
        known = ", ".join(map(repr, (*EMBEDDED, *STANDARD)))
        raise ValueError(f"load: there is no set {name!r}; there are {known}")
    return STANDARD[name](split, download=True)


def _idx_set(
    place: Place, files: dict[tuple[str, str], Source], split: str, download: bool
) -> tuple[np.ndarray, np.ndarray]:
    chosen = choose(place.name, split, {"train": "train", "test": "test"})
    of_images, of_labels = files[chosen, "images"], files[chosen, "labels"]
    images = formats.idx(content(place, of_images, download), of_images.name, 3)
    labels = formats.idx(content(place, of_labels, download), of_labels.name, 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{place.name}: {len(images):,} images in {of_images.name}, "
            f"{len(labels):,} labels in {of_labels.name}"
        )
    return images, formats.class_indices(labels, of_labels.name)
