"""Clipping gradients, in place, before the optimizer's step.

    g <- g min(1, max_norm / (norm + 1e-6))         norm of all gradients as one vector
    g <- min(max(g, -clip_value), clip_value)       elementwise
    g <- g min(1, clip max(|w|, eps) / |g|)         norms of each unit of a layer: adaptive

The norm is computed on the device and stays there: three launches for an arena, none of them waited for. It
does not overflow (PyTorch's does in float32, beyond 1e19). Where it is not finite, because a gradient holds
inf or nan, the gradients are left as they are, which the norm that is returned tells; PyTorch would make them
0 and nan.

Gradients of a loss that a GradScaler scaled are not clipped: RuntimeError says to unscale them first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, isfinite, isnan
from typing import Any

import numpy as np

from kernels.clip import CLIP_ADAPTIVE, CLIP_NORM, CLIP_VALUE, ROW_NORMS, TOTAL_NORM

from ...backend import Array, device_of, empty, to_device
from ...ops.constants import constants
from ...tensor import Tensor

ROW = 1024  # elements that a row of a longer array has: the chunk of an arena


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients down to a total norm of max_norm; returns the norm they had, a 0-d Tensor.

    max_norm            0 makes all gradients 0, inf leaves them; negative or nan raises ValueError
    norm_type           p > 0 of (sum |g|^p)^(1/p), inf for the largest |g|, or 0 for the number of tensors
                        that are not all 0 (PyTorch's norm of the norms of order 0)
    a norm of inf, nan  leaves all gradients as they are; so does one of 0
    error_if_nonfinite  RuntimeError for a norm that is inf or nan: the only case that reads the device
    foreach             accepted, without effect
    """
    _check_max_norm("clip_grad_norm_", max_norm)
    found = _unmarked("clip_grad_norm_", parameters)
    norm = _total("clip_grad_norm_", found, norm_type, error_if_nonfinite)
    _scale(found, max_norm, norm)
    return norm


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors as one vector, a 0-d Tensor; norm_type as in clip_grad_norm_."""
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    _check_unscaled("get_total_norm", given)
    return _total("get_total_norm", [(t.array, []) for t in given], norm_type, error_if_nonfinite)


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """The second half of clip_grad_norm_, for a norm that get_total_norm gave."""
    _check_max_norm("clip_grads_with_norm_", max_norm)
    _scale(_unmarked("clip_grads_with_norm_", parameters), max_norm, total_norm)


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """g <- min(max(g, -clip_value), clip_value), elementwise

    0 makes all gradients 0 and inf leaves them; negative or nan raises ValueError. An infinite gradient
    becomes the bound, nan stays.
    """
    bound = float(clip_value)
    if not bound >= 0:
        raise ValueError(f"clip_grad_value_: clip_value={clip_value}; it must not be negative")
    for array, params in _unmarked("clip_grad_value_", parameters):
        CLIP_VALUE(array, array, scalars=constants(CLIP_VALUE, array, (bound,)))
        _changed(params)


def clip_grad_adaptive_(parameters: Tensor | Iterable[Tensor], clip: float = 0.01, eps: float = 1e-3) -> None:
    """g <- g min(1, clip max(|w|, eps) / |g|) for each unit: what feeds one output of a layer

    [Brock, De, Smith & Simonyan 2021, eq. 3]. A unit is a row w[i] of a weight (out, ...); a vector or number
    (bias, gain) is one unit as a whole. The paper leaves the last layer's parameters out: so do, by passing
    the others. clip 0 makes all gradients 0; negative or nan raises ValueError. A unit whose norm is inf or
    nan stays as it is. One launch a tensor.
    """
    for what, value in (("clip", clip), ("eps", eps)):
        if not value >= 0:
            raise ValueError(f"clip_grad_adaptive_: {what}={value}; it must not be negative")
    params = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    grads = {p: p.grad for p in params if p.grad is not None}
    _check_unscaled("clip_grad_adaptive_", grads.values())
    for p, grad in grads.items():
        g, w = grad.array, p.array
        if not g.size:
            continue
        units = g.shape[0] if sum(n > 1 for n in g.shape) > 1 else 1
        rows = g.reshape(units, -1)
        scalars = constants(CLIP_ADAPTIVE, rows, (float(clip), float(eps)))
        CLIP_ADAPTIVE(rows, w.reshape(units, -1), rows, scalars=scalars)
        if not g.flags.c_contiguous:  # its rows are a copy
            g[...] = rows.reshape(g.shape)
        grad.touch()


# ------------------------------------------------------------------------------------------- the work

Block = tuple[Array, list[Tensor]]  # memory of gradients, and the parameters they belong to


def _check_unscaled(name: str, grads: Iterable[Tensor]) -> None:
    """RuntimeError for gradients of a scaled loss: their norm is not the loss's."""
    if any(g.scaled for g in grads):
        raise RuntimeError(
            f"{name}: the gradients are those of a scaled loss; call scaler.unscale_(optimizer) first, or "
            "scaler.step(optimizer, clip=max_norm), which unscales, clips and steps"
        )


def _unmarked(name: str, parameters: Tensor | Iterable[Tensor]) -> list[Block]:
    """The memory of gradients, which must not be scaled."""
    found = blocks(parameters)
    _check_unscaled(name, [p.grad for _, params in found for p in params if p.grad is not None])
    return found


def blocks(parameters: Tensor | Iterable[Tensor]) -> list[Block]:
    """The memory of the gradients, in as few pieces as possible: those side by side in an arena are one."""
    params = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    found: list[Block] = []
    housed: dict[Any, list[Tensor]] = {}
    for p in dict.fromkeys(params):
        if p.grad is None:
            continue
        if p.grad is p.slot and p.arena is not None:
            housed.setdefault(p.arena, []).append(p)
        else:
            found.append((p.grad.array, [p]))
    for arena, group in housed.items():
        group.sort(key=lambda p: p.offset)
        start, run = group[0].offset, [group[0]]
        for p in group[1:]:
            if p.offset != run[-1].stop:
                found.append((arena.gradient[start : run[-1].stop], run))
                start, run = p.offset, []
            run.append(p)
        found.append((arena.gradient[start : run[-1].stop], run))
    return found


def _changed(params: Sequence[Tensor]) -> None:
    """Graphs that need these gradients will refuse to go on."""
    for p in params:
        if p.grad is not None:
            p.grad.touch()


def _check_max_norm(name: str, max_norm: float) -> None:
    if isnan(max_norm) or max_norm < 0:
        raise ValueError(f"{name}: max_norm={max_norm}; it must not be negative")


def _scale(pieces: Sequence[Block], max_norm: float, norm: Tensor) -> None:
    """g <- g min(1, max_norm / (norm + 1e-6))"""
    for array, params in pieces:
        value = to_device(norm.array, device_of(array)).astype(_compute(array), copy=False).reshape(1)
        CLIP_NORM(array, value, array, scalars=constants(CLIP_NORM, array, (float(max_norm),)))
        _changed(params)


def _compute(array: Array) -> np.dtype:
    """The type in which texts compute for an array."""
    return np.dtype("float64" if array.dtype == np.float64 else "float32")


def _total(name: str, pieces: Sequence[Block], norm_type: float, error_if_nonfinite: bool) -> Tensor:
    """The norm of all blocks together, on the first one's device."""
    p = float(norm_type)
    if not p >= 0:
        raise ValueError(f"{name}: norm_type={norm_type}; it must be 0, positive, or inf")
    if p == 0:
        pieces = _apart(pieces)
    groups: dict[tuple, list[Array]] = {}
    for array, _ in pieces:
        if array.size:
            groups.setdefault((str(device_of(array)), _compute(array)), []).append(array)
    norms = [_norm(arrays, p) if p else _count(arrays) for arrays in groups.values()]
    if not norms:
        return Tensor(np.zeros((), "float32"))
    if len(norms) > 1:  # several devices or types: their norms are numbers with a norm again
        where, wide = device_of(norms[0]), max((n.dtype for n in norms), key=lambda d: d.itemsize)
        peaks = empty((len(norms),), wide, where)
        for k, n in enumerate(norms):
            peaks[k : k + 1] = to_device(n, where)
        norms = [_combined(peaks, peaks * wide.type(0) + wide.type(1), p or 1.0)]
    norm = norms[0].reshape(())
    if error_if_nonfinite and not isfinite(value := float(norm)):
        raise RuntimeError(
            f"{name}: the total norm of order {norm_type} is {value}, so the gradients cannot be clipped; "
            "error_if_nonfinite=False leaves them as they are"
        )
    return Tensor(norm)


def _norm(arrays: Sequence[Array], p: float) -> Array:
    """The norm of arrays of one device and type: each row's part, then all of them together."""
    rows = [a.reshape(-1, ROW) if a.size % ROW == 0 else a.reshape(1, -1) for a in arrays]
    count, kind, where = sum(len(r) for r in rows), _compute(arrays[0]), device_of(arrays[0])
    peaks, powers = empty((count,), kind, where), empty((count,), kind, where)
    flags = () if p in (2.0, inf) else ("power",)
    start = 0
    for r in rows:
        stop = start + len(r)
        scalars = constants(ROW_NORMS, r, (p,)) if flags else None
        ROW_NORMS(r, peaks[start:stop], powers[start:stop], scalars=scalars, flags=flags)
        start = stop
    return _combined(peaks, powers, p)


def _apart(pieces: Sequence[Block]) -> list[Block]:
    """The same memory, each tensor by itself."""
    found: list[Block] = []
    for array, params in pieces:
        found += [(p.grad.array, [p]) for p in params if p.grad is not None] if params else [(array, [])]
    return found


def _count(arrays: Sequence[Array]) -> Array:
    """How many arrays of one device and type are not all 0."""
    peaks = empty((len(arrays),), _compute(arrays[0]), device_of(arrays[0]))
    for k, a in enumerate(arrays):
        peaks[k : k + 1] = _norm([a], inf)
    return (peaks != 0).sum().astype(peaks.dtype).reshape(1)


def _combined(peaks: Array, powers: Array, p: float) -> Array:
    flags = {2.0: (), inf: ("largest",)}.get(p, ("power",))
    scalars = constants(TOTAL_NORM, peaks, (p, 1 / p)) if flags == ("power",) else None
    rest = None if p == inf else powers.reshape(1, -1)
    return TOTAL_NORM(peaks.reshape(1, -1), rest, scalars=scalars, flags=flags)
