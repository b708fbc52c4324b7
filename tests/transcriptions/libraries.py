"""The libraries whose optimizers ours are compared with, behind one call: (parameters, gradients) -> result.

All run in float64. A parameter without a gradient in some step is for torch and those built on it alone:
optax has no such thing, and pytorch_optimizer and schedulefree count the steps of a group, not of a
parameter: they are given gradients without gaps (WHOLE).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from oracle import oracle

from . import Arrays, Grads, Library

WHOLE = ("optax", "pytorch_optimizer", "schedulefree")


def _torch_like(make: Callable[[Any, Any], Any], wide: bool = False) -> Callable[[Arrays, Grads], Arrays]:
    def run(start: Arrays, grads: Grads) -> Arrays:
        lib = oracle("torch")
        with doubles(lib) if wide else nullcontext():
            return steps(lib, start, grads)

    def steps(lib: Any, start: Arrays, grads: Grads) -> Arrays:
        params = [lib.nn.Parameter(lib.tensor(p)) for p in start]
        optimizer = make(lib, params)
        if hasattr(optimizer, "train"):  # Schedule-Free
            optimizer.train()
        for step in grads:
            for p, g in zip(params, step, strict=True):
                p.grad = None if g is None else lib.tensor(g)
            optimizer.step()
        return [p.detach().numpy() for p in params]

    return run


@contextmanager
def doubles(lib: Any) -> Iterator[None]:
    """In here torch also keeps its numbers of a step (NAdam's product, ASGD's eta) in float64."""
    usual = lib.get_default_dtype()
    lib.set_default_dtype(lib.float64)
    try:
        yield
    finally:
        lib.set_default_dtype(usual)


def torch(name: str, tolerance: float = 1e-12, wide: bool = False, **options: Any) -> Library:
    """torch.optim.<name>(params, **options), parameter by parameter; wide: within `doubles`."""
    given = dict(foreach=False) | options
    run = _torch_like(lambda lib, ps: getattr(lib.optim, name)(ps, **given), wide)
    return Library("torch", run, tolerance)


def kozistr(name: str, tolerance: float = 1e-12, **options: Any) -> Library:
    """pytorch_optimizer.<name>(params, **options), release 4.1.0."""

    def make(lib: Any, params: Any) -> Any:
        return getattr(oracle("pytorch_optimizer"), name)(params, **options)

    return Library("pytorch_optimizer", _torch_like(make), tolerance)


def package(module: str, name: str, tolerance: float = 1e-12, **options: Any) -> Library:
    """<module>.<name>(params, **options), of another library built on torch (schedulefree, prodigyopt)."""

    def make(lib: Any, params: Any) -> Any:
        return getattr(oracle(module), name)(params, **options)

    return Library(module, _torch_like(make), tolerance)


def wrapped(module: str, make: Callable[[Any, Any, Any], Any], tolerance: float = 1e-12) -> Library:
    """make(torch, <module>, params), an optimizer of a library built on torch that takes more than params."""
    return Library(module, _torch_like(lambda lib, ps: make(lib, oracle(module), ps)), tolerance)


def optax(make: Callable[[Any], Any], tolerance: float = 1e-12) -> Library:
    """make(optax), a gradient transformation, in float64."""

    def run(start: Arrays, grads: Grads) -> Arrays:
        lib, jax = oracle("optax"), oracle("jax")
        with jax.enable_x64(True):
            rule = make(lib)
            params = [jax.numpy.asarray(p) for p in start]
            state = rule.init(params)
            update = jax.jit(rule.update)
            for step in grads:
                full = [
                    jax.numpy.asarray(np.zeros_like(p) if g is None else g)
                    for p, g in zip(start, step, strict=True)
                ]
                changes, state = update(full, state, params)
                params = lib.apply_updates(params, changes)
            return [np.asarray(p) for p in params]

    return Library("optax", run, tolerance)
