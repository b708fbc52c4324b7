"""Looking at a model's numbers without waiting for each: norms and what is not finite, by name, in one read.

    watch(model)                    None, or "the gradient of 'head.weight' holds nan: 3 of 640 elements"
    with NaNWatch(model) as w:      operations that make nan or inf raise, and w.check() looks at the rest
        ...

A buffer of parameters or gradients is reduced on its device, a launch for each buffer: for every chunk of an
arena the largest |x| and the sum of squares over it. These few numbers are read, once; which tensor they
belong to, the host knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf, isfinite, sqrt
from typing import Any

import numpy as np

from kernels.clip import ROW_NORMS

from ..anomaly import set_detect_anomaly
from ..arena import CHUNK
from ..backend import Array, device_of, to_host, xp_of
from ..tensor import Tensor

Place = tuple[Array, int, int]  # a flat buffer, and from where to where in it


def place_of(t: Tensor) -> Place:
    """Where the values of a parameter or buffer lie."""
    return (t.array, 0, t.array.size) if t.arena is None else (t.arena.array, t.offset, t.stop)


def place_of_gradient(p: Tensor) -> Place | None:
    """Where the gradient of a parameter lies, if it has one."""
    if p.grad is None:
        return None
    if p.arena is not None and p.grad is p.slot:
        return p.arena.gradient, p.offset, p.stop
    return p.grad.array, 0, p.grad.array.size


class Norms:
    """The norms of tensors, measured on their devices by `add`, and read together by `read`."""

    def __init__(self) -> None:
        self.names: list[tuple[Any, int, int, int]] = []  # name, which buffer, first and last row
        self.buffers: dict[int, tuple[int, Array]] = {}
        self.measured: list[tuple[Array, Array]] = []

    def add(self, name: Any, place: Place | None) -> None:
        """Measure what lies there; a buffer is measured once."""
        if place is None or place[2] == place[1] or place[0].dtype.kind not in "fV":
            return
        buffer, start, stop = place
        if id(buffer) not in self.buffers:
            rows = buffer.reshape(-1, CHUNK) if buffer.size % CHUNK == 0 else buffer.reshape(1, -1)
            self.buffers[id(buffer)] = (len(self.measured), buffer)  # kept: an id is of a living object
            self.measured.append(tuple(ROW_NORMS(rows)))
        k, _ = self.buffers[id(buffer)]
        rows = len(self.measured[k][0])
        first, last = (start // CHUNK, -(-stop // CHUNK)) if buffer.size % CHUNK == 0 else (0, rows)
        self.names.append((name, k, first, last))

    def read(self) -> dict[Any, float]:
        """name -> norm, which is inf or nan for a tensor that is not finite."""
        if not self.names:
            return {}
        numbers = _read([a.reshape(-1) for pair in self.measured for a in pair])
        found = {}
        for name, k, first, last in self.names:
            peaks, powers = numbers[2 * k][first:last], numbers[2 * k + 1][first:last]
            top = float(peaks.max())
            if not np.isfinite(peaks).all() or not np.isfinite(powers).all():
                found[name] = float("nan") if np.isnan(peaks).any() or np.isnan(powers).any() else inf
            elif top == 0:
                found[name] = 0.0
            else:
                found[name] = top * sqrt(float((powers.astype(float) * (peaks / top) ** 2).sum()))
        return found


def _read(arrays: list[Array]) -> list[np.ndarray]:
    """Arrays of numbers on the host: one read for each device."""
    found: list[Any] = [None] * len(arrays)
    places: dict[str, list[int]] = {}
    for k, a in enumerate(arrays):
        places.setdefault(str(device_of(a)), []).append(k)
    for together in places.values():
        xp = xp_of(arrays[together[0]])
        joined = to_host(xp.concatenate([arrays[k].astype("float64") for k in together]))
        stops = np.cumsum([arrays[k].size for k in together])
        for k, part in zip(together, np.split(joined, stops[:-1]), strict=True):
            found[k] = part
    return found


def watch(model: Any) -> str | None:
    """The first parameter, gradient or buffer of a model that is not finite, in words; None: all are finite.

    Parameters come first, in their order, then gradients, then buffers. One read of the device when all is
    well.
    """
    places: dict[tuple[str, str], Place] = {}
    tensors: dict[tuple[str, str], Tensor] = {}
    for kind, name, t, place in _all_of(model):
        places[kind, name], tensors[kind, name] = place, t
    norms = Norms()
    for key, place in places.items():
        norms.add(key, place)
    for (kind, name), norm in norms.read().items():
        if not isfinite(norm):
            array = to_host(tensors[kind, name].array).astype("float64")
            bad = array[~np.isfinite(array)]
            if bad.size:  # a norm may overflow where all elements are finite
                what = "nan" if np.isnan(bad).any() else "inf"
                return f"the {kind} {name!r} holds {what}: {bad.size} of {array.size} elements"
    return None


def _all_of(model: Any) -> Iterator[tuple[str, str, Tensor, Place]]:
    for name, p in model.named_parameters():
        yield "parameter", name, p, place_of(p)
    for name, p in model.named_parameters():
        place = place_of_gradient(p)
        if place is not None:
            yield "gradient of", name, p.grad, place
    for name, b in model.named_buffers():
        yield "buffer", name, b, place_of(b)


class NaNWatch:
    """As a context manager it makes the first operation that returns nan or inf raise (anomaly mode with
    check_forward), and at its end looks at parameters, gradients and buffers: RuntimeError names the first.

    operations=False leaves the operations alone; then it costs nothing until check().
    """

    def __init__(self, model: Any, operations: bool = True):
        self.model, self.operations = model, operations
        self.entered: list[Any] = []

    def check(self) -> None:
        """RuntimeError where `watch` finds something."""
        found = watch(self.model)
        if found is not None:
            raise RuntimeError(f"NaNWatch: {found}")

    def __enter__(self) -> NaNWatch:
        self.entered.append(set_detect_anomaly(True, True, True) if self.operations else None)
        return self

    def __exit__(self, kind: Any, *exc: Any) -> None:
        mode = self.entered.pop()
        if mode is not None:
            mode.__exit__()
        if kind is None:
            self.check()


def alive_rows(weight: Tensor, bias: Tensor | None) -> Array:
    """For each output unit whether its gradient was not all zero, on the device: a ReLU that is off for every
    example of a batch leaves exact zeros in its unit's row of the weight and in its bias."""
    g = weight.grad.array  # type: ignore[union-attr]
    alive = (g.reshape(g.shape[0], -1) != 0).any(axis=1)
    if bias is not None and bias.grad is not None:
        alive |= bias.grad.array != 0
    return alive


def shares(rows: Iterable[Array]) -> list[float]:
    """The share of true entries of each array: one read for each device."""
    return [float(part[0]) for part in _read([r.mean(dtype="float64").reshape(1) for r in rows])]
