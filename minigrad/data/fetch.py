"""A download is whole and verified, or it is not there.

A file comes from the first of its mirrors that gives all of its bytes. They go to a temporary file beside the
target, are counted and hashed on the way, and get the target's name (os.replace) only when size and SHA-256
fit; whatever else happens, Ctrl-C and a full disk included, the temporary file is removed.

    a connection that is cut            the same mirror goes on where it stopped (HTTP Range), or starts over
    HTTP error, timeout, wrong length   the next mirror, from the start: no file is made of two sources
    too many bytes, wrong SHA-256       the same
    the disk                            DownloadError at once: no mirror can help

Mirrors are not trusted: the checksum is in the source text, so plain http does as well as https.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

TIMEOUT = 30.0  # seconds without a byte, or below SLOWEST on average, until the next mirror
SLOWEST = 4096  # bytes a second
CONNECTIONS = 5  # to one mirror, as long as each brings something
CHUNK = 1 << 18
ABANDONED = 3600.0  # seconds after which a temporary file that does not grow is a killed process's


class DownloadError(OSError):
    """No mirror gave the file, or it could not be written; the message says why, and the cure."""


@dataclass(frozen=True)
class Source:
    """A file: its name, what its bytes must be, and where they are. `raw`: (size, SHA-256) after gunzip."""

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]
    raw: tuple[int, str] | None = None

    @property
    def megabytes(self) -> str:
        return f"{self.size / 1e6:.1f} MB"


class _Refused(Exception):
    """This mirror will not do; the text says why."""


class _Cut(Exception):
    """The connection ended before the file did."""


def fetch(source: Source, folder: Path) -> Path:
    """Download `source` into `folder`, verified; returns its path. DownloadError when that cannot be."""
    from tqdm import tqdm

    target = folder / source.name
    refusals = []
    with (
        _temporary(target, source.size) as file,
        tqdm(desc=source.name, total=source.size, unit="B", unit_scale=True) as bar,
    ):
        for url in source.urls:
            try:
                _from_mirror(url, source, file, bar)
                break
            except _Refused as why:
                refusals.append(f"{url}: {why}")
        else:
            raise DownloadError(
                f"{source.name} could not be downloaded. {'; '.join(refusals)}. Try again with a "
                f"network, or put the file ({source.size:,} bytes, SHA-256 {source.sha256}) into {folder}"
            )
    return target


@contextmanager
def _temporary(target: Path, size: int) -> Iterator[BinaryIO]:
    """A file that gets the target's name when the block succeeds and is removed when it does not."""
    path = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for other in target.parent.glob(f".{target.name}.*.part"):
            if time.time() - other.stat().st_mtime > ABANDONED:
                other.unlink(missing_ok=True)
        with open(path, "xb") as file:
            yield file
        os.replace(path, target)
    except BaseException as error:  # KeyboardInterrupt too
        with suppress(OSError):
            path.unlink()
        if not isinstance(error, OSError) or isinstance(error, DownloadError):
            raise
        raise DownloadError(
            f"{target} cannot be written ({error.strerror or error}): {size:,} bytes are needed there; make "
            "room, or set MINIGRAD_DATA to a folder that you can write to"
        ) from error


def _from_mirror(url: str, source: Source, file: BinaryIO, bar: Any) -> None:
    """The whole file from one mirror, or _Refused."""
    got, digest = 0, sha256()
    for _ in range(CONNECTIONS):
        came, cut = 0, ""
        try:
            response, first = _connect(url, got, source.size)
            with response:
                if first != got or not got:  # a new mirror, or one that cannot go on in the middle
                    got, digest = 0, sha256()
                    bar.reset()
                    file.seek(0)  # what is there already is overwritten: it is never more than the size
                for piece in _pieces(response):
                    came += len(piece)
                    got += len(piece)
                    if got > source.size:
                        raise _Refused(f"sent more than the {source.size:,} bytes of the file")
                    digest.update(piece)
                    file.write(piece)
                    bar.update(len(piece))
        except _Cut as why:
            cut = f" ({why})"
        if got == source.size:
            break
        if not came:
            raise _Refused(f"the connection ended after {got:,} of {source.size:,} bytes{cut}")
    else:
        raise _Refused(f"cut {CONNECTIONS} times, the last time after {got:,} of {source.size:,} bytes{cut}")
    if digest.hexdigest() != source.sha256:
        raise _Refused(
            f"sent other bytes (SHA-256 {digest.hexdigest()[:16]}..., not {source.sha256[:16]}...)"
        )


def _connect(url: str, start: int, size: int) -> tuple[Any, int]:
    """(response, position of its first byte in the file); asks for the bytes from `start` on."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    headers = {"User-Agent": "minigrad", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        raise _Refused(f"HTTP {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _Refused(_words(error)) from None
    first = 0
    if response.status == 206:
        span = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        first = int(span) if span.isdigit() else -1
    length = response.headers.get("Content-Length", "")
    whole = first + int(length) if length.isdigit() else size
    if first in (0, start) and whole == size:
        return response, first
    response.close()
    raise _Refused(
        f"answers with bytes from {first:,} on, asked from {start:,}"
        if first not in (0, start)
        else f"announces {whole:,} bytes, the file has {size:,}"
    )


def _pieces(response: Any) -> Iterator[bytes]:
    """What the response brings, as it comes. _Cut when the connection breaks, _Refused when it hangs."""
    from http.client import HTTPException

    since, came = time.monotonic(), 0
    while True:
        try:
            piece = response.read1(CHUNK)
        except TimeoutError:
            raise _Refused(f"no byte for {TIMEOUT:g} seconds") from None
        except (OSError, HTTPException) as error:
            raise _Cut(_words(error)) from None
        if not piece:
            return
        yield piece
        came += len(piece)
        if (seconds := time.monotonic() - since) > TIMEOUT:
            if came < SLOWEST * seconds:
                raise _Refused(f"{came / seconds:,.0f} bytes a second are too slow")
            since, came = time.monotonic(), 0


def _words(error: Exception) -> str:
    """A network error in a few words."""
    reason = getattr(error, "reason", error)
    return f"no answer for {TIMEOUT:g} seconds" if isinstance(reason, TimeoutError) else f"{reason}"
