"""save and load, with PyTorch's call shape, for what training scripts save.

    mg.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, "a.pt")
    found = mg.load("a.pt", map_location="cpu")
    model.load_state_dict(found["model"])

The file is one of minigrad.checkpoint's: safetensors, a tensor a name, the rest as JSON with a SHA-256
(minigrad.nest says which types there are). It is no pickle: loading never executes anything, so objects and
functions cannot be saved, and PyTorch's own files cannot be loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import checkpoint
from .backend import device, resolve_device
from .checkpoint import CheckpointError
from .nest import packed, unpacked
from .tensor import Tensor

KIND = "object"
NESTS = {KIND: "object", "training state": "state"}  # kind of file -> where its nest stands in the metadata


def save(obj: Any, f: Any) -> None:
    """Write an object, Tensors and all, to a path (whole or not at all), or into a file open for bytes.

    obj    dictionaries (also OrderedDict and Counter; keys may be numbers and tuples), lists, tuples, sizes
           of Tensors, Parameters, NumPy arrays, numbers, strings, booleans, None, in any depth up to 100
    f      a path, or what has write(bytes)
    TypeError for anything else in obj; the message names its place and what to save instead.
    Each Tensor is saved whole: memory that several share is no longer shared after loading.
    """
    tensors, nest = packed(obj, "save")
    content = checkpoint.encoded(tensors, dict(kind=KIND, object=nest), ordered=True)
    if isinstance(f, (str, os.PathLike)):
        checkpoint.write(Path(f), content)
    elif hasattr(f, "write"):
        f.write(content)
    else:
        raise TypeError(f"save: f is a {type(f).__name__}; it is a path, or a file open for bytes")


def load(f: Any, map_location: Any = None, *, weights_only: bool | None = None) -> Any:
    """The object that `save` wrote to a path, or into a file that is open for bytes.

    map_location    where Tensors go: a device or its name; {device that it was saved on: device}; a function
                    of (Tensor on the CPU, name of that device) that gives a Tensor, or None for that device;
                    None: each goes where it was. Arrays are NumPy's in any case
    weights_only    accepted and without effect: nothing is ever executed, whatever it says

    Takes files of train.py as well: best.safetensors is a dictionary of weights, a checkpoint one of states.
    CheckpointError, a ValueError, for a damaged or foreign file, a pickle among them, and if there is none
    (it is a FileNotFoundError then); RuntimeError for a device that is not there.
    """
    if isinstance(f, (str, os.PathLike)):
        content, label = checkpoint.content_of(f), str(f)
    elif hasattr(f, "read"):
        content, label = f.read(), str(getattr(f, "name", type(f).__name__))
        if not isinstance(content, bytes):
            raise TypeError(f"load: {label} gives {type(content).__name__}; open it for bytes, with 'rb'")
    else:
        raise TypeError(f"load: f is a {type(f).__name__}; it is a path, or a file open for bytes")
    place = _placing(map_location, label)
    tensors, meta = checkpoint.decoded(content, label)
    if meta.get("kind") not in NESTS:
        return {name: place(t, "cpu") for name, t in tensors.items()}
    try:
        nest = meta[NESTS[meta["kind"]]]
        return unpacked(nest, tensors, place)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{label}: its object cannot be read ({type(error).__name__}: {error})"
        ) from None


def _placing(map_location: Any, label: str) -> Callable[[Tensor, str], Tensor]:
    """(Tensor on the CPU, name of the device that it was saved on) -> the Tensor where it is wanted."""

    def there(t: Tensor, where: Any) -> Tensor:
        try:
            return t.to(resolve_device(where))
        except (ImportError, RuntimeError) as error:
            raise RuntimeError(
                f"load: {label} has Tensors for {where}: {error}; map_location='cpu' puts them on the CPU"
            ) from None

    if map_location is None:
        return there
    if isinstance(map_location, (str, device)):
        chosen = resolve_device(map_location)
        return lambda t, where: t.to(chosen)
    if isinstance(map_location, Mapping):
        names = {str(k): v for k, v in map_location.items()}
        return lambda t, where: there(t, names.get(where, where))
    if not callable(map_location):
        raise TypeError(
            f"load: map_location is a {type(map_location).__name__}; it is a device, its name, a dictionary "
            "of devices, or a function of a Tensor and the name of its device"
        )

    def asked(t: Tensor, where: str) -> Tensor:
        try:
            found = map_location(t, where)
        except Exception as error:
            raise RuntimeError(f"load: map_location fails for a Tensor of {where}: {error}") from error
        if found is not None and not isinstance(found, Tensor):
            raise RuntimeError(
                f"load: map_location gives a {type(found).__name__}; it gives a Tensor, or None"
            )
        return there(t, where) if found is None else found

    return asked
