"""Where the files of the standard sets are looked for, and what is accepted.

    MINIGRAD_DATA                   the data folder, if set; otherwise the platform's cache folder:
                                    ~/.cache/minigrad/data, ~/Library/Caches/minigrad/data, %LOCALAPPDATA%
    /usr/share/datasets             what Debian's dataset packages install, read only

In the data folder a file may stand at the top, in the set's own folder (where downloads go), or where
torchvision puts it; gzipped or not; with a dot in its name (`t10k-images.idx3-ubyte`). The name only
says where to look: what is read is taken when its size and SHA-256 fit, those of the unpacked bytes where it
may be packed, because everyone gzips the same data differently. They are checked at every load.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import formats
from .fetch import Source, fetch

SYSTEM = Path("/usr/share/datasets")
PACKED_MARGIN = 1 << 20  # bytes by which a gzip file may be larger than what it holds


@dataclass(frozen=True)
class Place:
    """A set's name in calls and messages, and the folders that its files are looked for in."""

    name: str
    folders: tuple[str, ...]  # the first is the one that downloads go to


def home() -> Path:
    """The data folder: MINIGRAD_DATA, or the platform's cache folder (which platformdirs knows)."""
    if chosen := os.environ.get("MINIGRAD_DATA"):
        return Path(chosen).expanduser().absolute()
    try:
        from platformdirs import user_cache_path
    except ImportError:
        raise ImportError(
            "minigrad.data: platformdirs, which knows this system's cache folder, is not installed: "
            "pip install 'minigrad[download]', or set MINIGRAD_DATA to a folder for data"
        ) from None
    return user_cache_path("minigrad", appauthor=False) / "data"


def content(place: Place, source: Source, download: bool) -> bytes:
    """The bytes of a file, unpacked if it is an idx file: verified, whatever folder they come from.

    Without `download` the network is not touched. FileNotFoundError for a file that is nowhere, ValueError
    for one that is there and is not what it should be, DownloadError when no mirror gives it.
    """
    refusals = []
    for path in candidates(place, source):
        try:
            return _verified(path, source)
        except (OSError, ValueError) as error:
            refusals.append(f"{path}: {error}")
    folder = home() / place.folders[0]
    if not download:
        cure = (
            f"{place.name}(..., download=True) gets it ({source.megabytes}), "
            "or set MINIGRAD_DATA to a folder that has it"
        )
        if refusals:
            raise ValueError(f"{place.name}: {source.name} is damaged: {'; '.join(refusals)}. {cure}")
        raise FileNotFoundError(f"{place.name}: {source.name} is not in {folder}: {cure}")
    _private_cache()
    return _verified(fetch(source, folder), source)


def candidates(place: Place, source: Source) -> Iterator[Path]:
    """The files there are that may be `source`, in the order of preference."""
    names = [source.name]
    if source.raw:
        plain = source.name.removesuffix(".gz")
        dotted = plain.replace("-idx", ".idx")
        names = [plain, source.name, dotted, f"{dotted}.gz"]
    for folder in [*(home() / f for f in (*place.folders, "")), *(SYSTEM / f for f in place.folders)]:
        yield from (folder / name for name in names if (folder / name).is_file())


def _verified(path: Path, source: Source) -> bytes:
    """The bytes of a file if they are the source's; ValueError says what differs."""
    size, digest = source.raw or (source.size, source.sha256)
    packed = source.raw is not None and path.suffix == ".gz"
    with open(path, "rb") as file:
        found = file.read(size + 1 + packed * PACKED_MARGIN)
    if packed:
        found = formats.inflate(found, size)
    if len(found) != size:
        raise ValueError(f"{len(found):,} bytes{' or more' * (len(found) > size)} instead of {size:,}")
    if (actual := sha256(found).hexdigest()) != digest:
        raise ValueError(f"SHA-256 {actual[:16]}..., expected {digest[:16]}...")
    return found


def _private_cache() -> None:
    """Makes ~/.cache/minigrad, which compiled kernels share, as they want it: writable by the user alone."""
    if not os.environ.get("MINIGRAD_DATA"):
        home().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
