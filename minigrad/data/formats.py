"""How the standard sets are written down: gzip, idx, CIFAR's records in a tar. All of it checked, no pickle.

gzip, tar and idx readers are forgiving by nature: an empty gz file unpacks to nothing, two in a row to both,
and an idx file that ends early is a smaller array. Here every count is stated beforehand and must fit.

    idx     4 bytes 0, 0, type, rank; rank sizes of 4 bytes, most significant first; the elements
    CIFAR   records of 3,073 bytes: a label, 32x32 red, 32x32 green, 32x32 blue
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

CLASSES = 10  # of every set here
CIFAR_RECORD = 1 + 3 * 32 * 32
UNSIGNED_BYTE = 8  # idx's type code


def inflate(packed: bytes, size: int) -> bytes:
    """The `size` bytes that a gzip file holds; ValueError when it holds fewer or more, or is damaged."""
    import gzip

    if not packed:
        raise ValueError("an empty file, not a gzip file")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            content = file.read(size + 1)  # never more than that, whatever a damaged file unpacks to
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"a truncated or damaged gzip file ({error})") from None
    if len(content) > size:
        raise ValueError(f"unpacks to more than {size:,} bytes")
    if len(content) < size:
        raise ValueError(f"unpacks to {len(content):,} bytes instead of {size:,}")
    return content


def idx(content: bytes, name: str, rank: int) -> np.ndarray:
    """The uint8 array of an idx file; ValueError for another type or rank, or a length that does not fit."""
    magic = bytes((0, 0, UNSIGNED_BYTE, rank))
    if content[:4] != magic:
        raise ValueError(
            f"{name}: magic number 0x{content[:4].hex()}, not 0x{magic.hex()} "
            f"(an idx file of unsigned bytes in {rank} dimensions)"
        )
    start = 4 + 4 * rank
    if len(content) < start:
        raise ValueError(f"{name}: ends within the header, after {len(content)} of {start} bytes")
    shape = struct.unpack(f">{rank}I", content[4:start])
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise ValueError(
            f"{name}: {len(content):,} bytes; shape {tuple(shape)} in its header takes {expected:,}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def class_indices(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels as int64; ValueError for one that is no class."""
    if labels.size and labels.max() >= CLASSES:
        where = int((labels >= CLASSES).argmax())
        raise ValueError(f"{name}: label {labels[where]} of example {where} is not below {CLASSES}")
    return labels.astype(np.int64)


def members(archive: bytes, name: str, wanted: list[str], size: int) -> list[bytes]:
    """The wanted members of a tar.gz, each a plain file of `size` bytes; the others are not unpacked.

    ValueError for a missing or wrong member, for a damaged archive, and for one with a member outside its
    own folder: such an archive was not made by the owners of the set.
    """
    import tarfile

    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                if member.name.startswith(("/", "\\")) or ".." in member.name.replace("\\", "/").split("/"):
                    raise ValueError(f"{name}: member {member.name!r} points outside the archive: refused")
                if member.name not in wanted or member.name in found:
                    continue
                content = tar.extractfile(member) if member.isfile() and member.size == size else None
                if content is None:
                    kind = f"{member.size:,} bytes" if member.isfile() else "not a plain file"
                    raise ValueError(f"{name}: member {member.name} is {kind}, not a file of {size:,} bytes")
                found[member.name] = content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{name}: a truncated or damaged archive ({error})") from None
    if missing := [member for member in wanted if len(found.get(member, b"")) != size]:
        raise ValueError(f"{name}: no member {', '.join(missing)} of {size:,} bytes")
    return [found[member] for member in wanted]


def cifar_records(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 (N, 3, 32, 32), labels int64 (N,)) of CIFAR-10's binary records."""
    records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR_RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), class_indices(records[:, 0], name)
