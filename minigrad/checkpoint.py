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


def save(path: str | os.PathLike, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Write named tensors (Tensors or arrays) and JSON-able `meta` to one file, whole or not at all.

    The folder is made if it is missing. A full disk or a kill at any moment leaves the former file as it was.
    """
    from safetensors import TensorSpec, serialize

    path = Path(path)
    arrays = {
        name: np.asarray(backend.to_host(getattr(t, "array", t)), order="C") for name, t in tensors.items()
    }
    text = json.dumps(meta, sort_keys=True)
    data = {
        name: TensorSpec(dtype=a.dtype.name, shape=list(a.shape), data_ptr=a.ctypes.data, data_len=a.nbytes)
        for name, a in arrays.items()
    }
    header = {"format": FORMAT, "meta": text, "sha256": _digest(text, arrays)}
    content = serialize(data, header)
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
    from safetensors import SafetensorError, deserialize

    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a folder, a pipe, a device without an end
            raise CheckpointError(f"{path}: {'a directory' if path.is_dir() else 'something'}, not a file")
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    try:
        entries = deserialize(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: truncated, or no safetensors file ({error})") from None
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
