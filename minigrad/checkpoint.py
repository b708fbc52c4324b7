"""Checkpoints: one safetensors file, a tensor a name, everything else as JSON in its metadata.

A file is complete or not there: it is written beside its place, flushed to the disk, and renamed. A SHA-256
of the JSON and of every tensor stands in the metadata and is verified before anything is used. Loading never
executes anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import backend
from .backend import bfloat16
from .tensor import Tensor

FORMAT = "minigrad-1"


class CheckpointError(ValueError):
    """A file that is missing, truncated, foreign or damaged; the message names it and what is wrong."""


class MissingCheckpoint(CheckpointError, FileNotFoundError):
    """There is no such file."""


def save(path: str | os.PathLike, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write named tensors (Tensors or arrays) and JSON-able `meta` to one file, whole or not at all.

    The folder is made if it is missing. A full disk or a kill at any moment leaves the former file as it was.
    """
    content, path = encoded(tensors, meta), Path(path)
    write(path, content)


def encoded(tensors: Mapping[str, Any], meta: Mapping[str, Any], ordered: bool = False) -> bytes:
    """The content of a file; the names in `meta` are sorted, unless `ordered` keeps them as they are."""
    from safetensors import TensorSpec, serialize

    arrays = {
        name: np.asarray(backend.to_host(getattr(t, "array", t)), order="C") for name, t in tensors.items()
    }
    arrays = {name: a.astype(a.dtype.newbyteorder("="), copy=False) for name, a in arrays.items()}
    text = json.dumps(meta, sort_keys=not ordered)
    data = {
        name: TensorSpec(dtype=a.dtype.name, shape=list(a.shape), data_ptr=a.ctypes.data, data_len=a.nbytes)
        for name, a in arrays.items()
    }
    header = {"format": FORMAT, "meta": text, "sha256": _digest(text, arrays)}
    return serialize(data, header)


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, beside its place and then renamed. Its folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _flush_folder(path.parent)


def load(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors on the CPU, meta) of a file that `save` wrote; CheckpointError for any other file."""
    return decoded(content_of(path), path)


def content_of(path: str | os.PathLike) -> bytes:
    """All of a file. CheckpointError, with the reason, where it cannot be read."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a folder, a pipe, a device without an end
            raise CheckpointError(f"{path}: {'a directory' if path.is_dir() else 'something'}, not a file")
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingCheckpoint(f"{path}: there is no such checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None


def decoded(content: bytes, path: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors on the CPU, meta) of the content of a file that `path` names."""
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, RecursionError) as error:
        why = _pickle(content) or f"truncated, or no safetensors file ({error})"
        raise CheckpointError(f"{path}: {why}") from None
    del content  # the entries are copies
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: a safetensors file of something else (format {header.get('format')!r})"
        )
    arrays = {}
    for name, entry in sorted(entries):  # the file keeps no order
        if entry["dtype"] not in _NUMPY and entry["dtype"] != "BF16":
            raise CheckpointError(
                f"{path}: {name!r} is of type {entry['dtype']}, which minigrad does not have"
            )
        dtype = bfloat16.numpy if entry["dtype"] == "BF16" else np.dtype(_NUMPY[entry["dtype"]])
        arrays[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    text = header.get("meta", "")
    if _digest(text, arrays) != header.get("sha256"):
        raise CheckpointError(f"{path}: damaged, its SHA-256 does not fit; take an earlier checkpoint")
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its JSON cannot be read ({error})") from None
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path}: its JSON is a {type(meta).__name__}, not an object")
    return {name: Tensor(a) for name, a in arrays.items()}, meta


_NUMPY = dict(
    BOOL="bool", U8="uint8", I8="int8", I16="int16", I32="int32", I64="int64", U16="uint16", U32="uint32",
    U64="uint64", F16="float16", F32="float32", F64="float64",
)  # fmt: skip


def _pickle(content: bytes) -> str:
    """What is wrong with a pickle, which PyTorch's save writes: a zip archive of one, formerly one alone."""
    archive = content[:4] == b"PK\x03\x04" and b"/data.pkl" in content[30:230]
    if not archive and not (content[:1] == b"\x80" and content[1:2] in (b"\2", b"\3", b"\4", b"\5")):
        return ""
    return (
        f"a pickle{' of torch.save' if archive else ''}, which could execute anything and is never loaded; "
        "write it again where PyTorch is: minigrad.save({k: t.numpy() for k, t in torch.load(a).items()}, b)"
    )


def _digest(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        a = arrays[name]
        digest.update(f"{name}:{a.dtype.name}:{a.shape}".encode())
        digest.update(a.tobytes())
    return digest.hexdigest()


def _flush_folder(folder: Path) -> None:
    """Make the rename itself last; not every system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
