"""The real data that ships inside the package: handwritten digits, clothes, Shakespeare.

Each file is checked against its SHA-256 the first time it is loaded, so a half-copied or edited file is an
error and never a bad score.  Sources, licences and splits stand in README.md beside the files.

Images are raw uint8 and labels int64 class indices: scaling and moving to a device belong to the caller.
"""

from functools import cache
from io import BytesIO

import numpy as np

# name in the package -> SHA-256 of its bytes
FILES = {
    "digits8x8.npz": "aa64e930663d6e9271e1566601d65e70236553f73ec6cb041a4ab37167cf1d04",
    "fashion_small.npz": "5d5a9d698cbb9687a2c259839f5d9e2d39f3fff355701e8483be953200e30e91",
    "shakespeare.txt.gz": "39f04404b5d494747c72226ab9af44f364e022ac80bfca5cd9318b1b84d9e5ca",
}
DIGITS_TRAIN = 1297  # rows of the training part, in file order: the writers of the two parts hardly overlap
TEXT_TRAIN = 0.9  # share of the characters, from the start


def digits(split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """8x8 handwritten digits, values 0..16: 1,297 images in "train", 500 in "test".

    The split is in file order: the writers of the two parts hardly overlap, unlike in a random split.
    [Alpaydin & Kaynak 1998]

    >>> images, labels = digits("test")
    >>> images.shape, images.dtype, labels.shape, int(images.max())
    ((500, 8, 8), dtype('uint8'), (500,), 16)
    """
    rows = choose("digits", split, {"train": slice(None, DIGITS_TRAIN), "test": slice(DIGITS_TRAIN, None)})
    stored = _arrays("digits8x8.npz")
    return stored["images"][rows].copy(), stored["labels"][rows].astype(np.int64)


def fashion(split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """28x28 clothes in ten classes, values 0..255: 2,000 images in "train", 1,000 in "test".

    [Xiao, Rasul & Vollgraf 2017]

    >>> images, labels = fashion("train")
    >>> images.shape, labels.shape
    ((2000, 28, 28), (2000,))
    """
    part = choose("fashion", split, {"train": "train", "test": "test"})
    stored = _arrays("fashion_small.npz")
    return stored[f"x_{part}"].copy(), stored[f"y_{part}"].astype(np.int64)


def shakespeare(split: str = "train") -> str:
    """Nine plays as one ASCII string: "train" its first 90 %, "validation" the last 118,879 characters.

    >>> shakespeare("train")[:14]
    'First Citizen:'
    """
    text = _text()
    cut = round(TEXT_TRAIN * len(text))
    return text[choose("shakespeare", split, {"train": slice(None, cut), "validation": slice(cut, None)})]


def choose(name, split, parts):
    """What `split` selects, or a ValueError that lists the splits there are."""
    if split not in parts:
        raise ValueError(f"{name}: split must be one of {', '.join(map(repr, parts))}; got {split!r}")
    return parts[split]


@cache
def _arrays(name):
    with np.load(BytesIO(_verified(name)), allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


@cache
def _text():
    import gzip

    return gzip.decompress(_verified("shakespeare.txt.gz")).decode("ascii")


def _folder():
    from importlib.resources import files  # 8 ms that `import minigrad` need not spend

    return files(__package__)


def _verified(name) -> bytes:
    """The bytes of one file of the package; raises when they are missing or not the ones shipped."""
    from hashlib import sha256

    path = _folder().joinpath(name)
    cure = (
        "reinstall minigrad (pip install --force-reinstall minigrad), or in a checkout: "
        "git checkout -- minigrad/data"
    )
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"minigrad's data file {path} is missing: {cure}") from None
    found = sha256(content).hexdigest()
    if found != FILES[name]:
        raise ValueError(
            f"minigrad's data file {path} is damaged (SHA-256 {found[:16]}..., expected "
            f"{FILES[name][:16]}...): {cure}"
        )
    return content
