"""Nests: dictionaries, lists and tuples with Tensors in them, as tensors by path and the rest as JSON.

    {"model": {"w": W}, "epochs": (1, 2)}

is the tensors {"model/w": W} and the JSON

    {"model": {"w": {"$": "tensor", "name": "model/w"}}, "epochs": {"$": "tuple", "items": [1, 2]}}

What JSON lacks is {"$": kind, ...}. All that `packed` takes comes back as it was, in type and in value (but
NumPy's numbers as Python's); what would not is refused. Nothing that is read can name code.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np

from .backend import device, device_of, dtype
from .size import Size
from .tensor import Parameter, Tensor

MARK = "$"  # the key of what JSON does not have
DEEPEST = 100  # dictionaries and lists in each other
SCALARS = (type(None), bool, int, float, str)
MAPS: dict[str, type] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
ROWS: dict[str, type] = {"tuple": tuple, "size": Size}
ARRAYS = frozenset(
    "bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 bfloat16 float16 float32 float64".split()
)
TAKEN = ("", "__metadata__")  # no names of tensors in a safetensors file

Place = Callable[[Tensor, str], Tensor]


def packed(state: Any, what: str = "checkpoint") -> tuple[dict[str, Any], Any]:
    """(tensors by path, the same nest in JSON); TypeError, with place and cure, for what cannot be in a nest.

    A Tensor's device, requires_grad and being a Parameter are noted; a history is not, nor shared memory.
    """
    tensors: dict[str, Any] = {}

    def named(value: Any, path: str, **notes: Any) -> dict[str, Any]:
        name = path.encode("utf-8", "replace").decode()
        while name in tensors or name in TAKEN:
            name += "'"
        tensors[name] = value
        return {"name": name, **notes}

    def walk(value: Any, path: str, within: tuple[int, ...]) -> Any:
        kind = type(value)
        if kind in SCALARS:
            return value
        if kind in (Tensor, Parameter):
            where = device_of(value.array)
            notes: dict[str, Any] = {} if where.type == "cpu" else {"device": str(where)}
            if value.requires_grad:
                notes["requires_grad"] = True
            return {MARK: "tensor" if kind is Tensor else "parameter", **named(value, path, **notes)}
        if kind in (np.ndarray, np.memmap) and value.dtype.name in ARRAYS:
            return {MARK: "array", **named(value, path)}
        if isinstance(value, np.generic) and type(value.item()) in SCALARS:
            return value.item()
        if kind not in (list, *MAPS.values(), *ROWS.values()):
            raise TypeError(
                f"{what}: {path or 'the object'} is a {kind.__name__}; a state is made of Tensors, arrays, "
                f"numbers, strings, None, and lists, tuples and dictionaries of them; {_cure(value)}"
            )
        if id(value) in within or len(within) == DEEPEST:
            why = "contains itself" if id(value) in within else f"lies in {DEEPEST} others"
            raise TypeError(f"{what}: {path[:80] or 'the object'} is a {kind.__name__} that {why}")
        within += (id(value),)
        if kind in MAPS.values():
            if kind is dict and MARK not in value and all(type(k) is str for k in value):
                return {k: walk(v, below(path, k), within) for k, v in value.items()}
            items = [[key(k, path), walk(v, below(path, k), within)] for k, v in value.items()]
            return {MARK: "map", "items": items} | ({} if kind is dict else {"of": kind.__name__})
        items = [walk(v, below(path, i), within) for i, v in enumerate(value)]
        return items if kind is list else {MARK: "tuple" if kind is tuple else "size", "items": items}

    def below(path: str, k: Any) -> str:
        return f"{path}/{k}" if path else str(k)

    def key(k: Any, path: str) -> Any:
        plain = k.item() if isinstance(k, np.generic) else k
        if type(plain) is tuple:
            return {MARK: "tuple", "items": [key(part, path) for part in plain]}
        if type(plain) not in SCALARS:
            where = f"a key of {path}" if path else "a key"
            raise TypeError(
                f"{what}: {where} is a {type(k).__name__}; keys are strings, numbers, None and tuples of them"
            )
        return plain

    return tensors, walk(state, "", ())


def unpacked(nest: Any, tensors: Mapping[str, Tensor], place: Place | None = None) -> Any:
    """The nest that `packed` took apart; place(tensor, device that it was on) says where each Tensor goes.

    KeyError, TypeError or ValueError where it is no such nest.
    """
    if isinstance(nest, list):
        return [unpacked(v, tensors, place) for v in nest]
    if not isinstance(nest, dict):
        return nest
    kind = nest.get(MARK)
    if kind is None:
        return {k: unpacked(v, tensors, place) for k, v in nest.items()}
    if kind in ROWS:
        return ROWS[kind](unpacked(v, tensors, place) for v in nest["items"])
    if kind == "map":
        pairs = ((unpacked(k, tensors), unpacked(v, tensors, place)) for k, v in nest["items"])
        return MAPS[nest.get("of", "dict")](dict(pairs))
    if kind not in ("tensor", "parameter", "array"):
        raise ValueError(f"a state holds no {kind!r}")
    tensor = tensors[nest["name"]]
    if kind == "array":
        return tensor.numpy()
    if place is not None:
        tensor = place(tensor, nest.get("device", "cpu"))
    grad = bool(nest.get("requires_grad"))
    if kind == "parameter":
        return Parameter(tensor, grad)
    return tensor.requires_grad_() if grad else tensor


def _cure(value: Any) -> str:
    """What to save in place of a value of another type."""
    name = type(value).__name__
    for method in ("state_dict", "get_state"):
        if hasattr(value, method):
            return f"save its {method}()"
    if isinstance(value, np.ndarray):
        return f"arrays are of {', '.join(sorted(ARRAYS))}, not {value.dtype}, and of no subclass"
    if hasattr(value, "_asdict"):
        return "save its _asdict()"
    for kinds, cure in _CURES:
        if isinstance(value, kinds):
            return f"save {cure}"
    return (
        f"save vars() of the {name}" if hasattr(value, "__dict__") and not callable(value) else "leave it out"
    )


_CURES: list[tuple[Any, str]] = [
    (Enum, "its value"),
    ((bytes, bytearray, memoryview), "numpy.frombuffer(it, numpy.uint8)"),
    ((set, frozenset), "sorted(it)"),
    ((complex, np.complexfloating), "its real and its imag"),
    ((PurePath, dtype, device, np.dtype, type), "str(it)"),
    (Mapping, "dict(it)"),
    (list, "list(it)"),
    (tuple, "tuple(it)"),
    (str, "str(it)"),
    (int, "int(it)"),
    (float, "float(it)"),
]
