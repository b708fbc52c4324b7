"""Gradients against differences: (f(x + eps u) - f(x - eps u)) / (2 eps) is what J u must be.

`gradcheck` compares every entry of the Jacobian that backward computes with central differences; in fast
mode one number v·Ju for each input, with random directions u and v, which a wrong gradient passes with
probability zero. `gradgradcheck` does so for the function that computes the gradients. Both want float64:
with eps = 1e-6 differences of float32 numbers hold no digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .autograd import grad
from .backend import device_of, float64, to_device, to_host
from .tensor import Tensor


class GradcheckError(RuntimeError):
    """A gradient and the differences disagree; the message names the worst entry."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | tuple,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    fast_mode: bool = False,
) -> bool:
    """True when the gradients of func agree with differences: |gradient - difference| <= atol + rtol
    |difference|.

    func takes the inputs and returns a Tensor or a tuple of them. Checked are the inputs that require
    gradients, which must be float64, in all floating outputs; func must be smooth there. Two backward
    passes may differ by nondet_tol. With raise_exception=False a failure returns False, else it raises
    GradcheckError.
    """
    given = _given("gradcheck", inputs)
    check = _Check(func, given, eps, atol, rtol, nondet_tol)
    try:
        if fast_mode:
            check.directions()
        else:
            check.entries()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | tuple,
    grad_outputs: Tensor | tuple | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    fast_mode: bool = False,
) -> bool:
    """gradcheck of the gradients of func, as functions of its inputs and grad_outputs (random by default)."""
    given = _given("gradgradcheck", inputs)
    outputs = [y for y in _outputs(func, given) if y.requires_grad]
    if not outputs:
        raise ValueError("gradgradcheck: no output of func requires gradients, so there are none to check")
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        seeds = [_like(y, rng.standard_normal(y.array.shape)) for y in outputs]
    else:
        seeds = _given("gradgradcheck", grad_outputs)
    n = len(given)

    def gradients(*values: Any) -> tuple[Tensor, ...]:
        roots = [y for y in _outputs(func, values[:n]) if y.requires_grad]
        leaves = [x for x in values[:n] if _differentiable(x)]
        found = grad(roots, leaves, values[n:], create_graph=True, allow_unused=True)
        return tuple([g for g in found if g is not None])

    return gradcheck(
        gradients,
        (*given, *seeds),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        fast_mode=fast_mode,
    )


def _given(name: str, inputs: Any) -> list[Any]:
    """The inputs as a list, those that require gradients as leaves of their own. TypeError unless float64."""
    listed = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for k, x in enumerate(listed):
        if _differentiable(x):
            if x.dtype is not float64:
                raise TypeError(
                    f"{name}: inputs[{k}] is {x.dtype.name}; differences need float64: use .double() or "
                    "dtype=minigrad.float64"
                )
            listed[k] = _like(x, to_host(x.array))
    if not any(_differentiable(x) for x in listed):
        raise ValueError(f"{name}: no input requires gradients; call requires_grad_() on those to check")
    return listed


def _differentiable(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _like(x: Tensor, values: np.ndarray) -> Tensor:
    """A leaf on the device of x that requires gradients, with values of its own."""
    return Tensor(to_device(np.array(values), device_of(x.array))).requires_grad_()


def _outputs(func: Callable, inputs: Any) -> list[Tensor]:
    """What func returns, as a list of its floating Tensors."""
    y = func(*inputs)
    listed = [y] if isinstance(y, Tensor) else list(y)
    return [t for t in listed if t.dtype.is_floating_point]


class _Check:
    """A function, its inputs, and the tolerances: what every comparison below needs."""

    def __init__(self, func: Callable, given: list, eps: float, atol: float, rtol: float, nondet_tol: float):
        self.func, self.given, self.eps = func, given, eps
        self.atol, self.rtol, self.nondet_tol = atol, rtol, nondet_tol
        self.checked = [k for k, x in enumerate(given) if _differentiable(x)]
        self.rng = np.random.default_rng(0)

    # ---- in one random direction

    def directions(self) -> None:
        """v·(J u) from differences must be (v J)·u from backward, for each input; if not, entries tell."""
        v = [self.unit(y) for y in _outputs(self.func, self.given)]
        gradients, again = self.gradients(v), self.gradients(v)
        for k, g, h in zip(self.checked, gradients, again, strict=True):
            self.repeatable(k, g, h)
            u = self.unit(self.given[k])
            slopes = self.difference(k, u)
            numerical = sum(float((a * b).sum()) for a, b in zip(v, slopes, strict=True))
            if not abs(float((g * u).sum()) - numerical) <= self.atol + self.rtol * abs(numerical):
                self.entries()  # names the worst one
                raise GradcheckError(
                    f"gradcheck: the derivative by inputs[{k}] in a direction and its difference disagree, "
                    "though every entry agrees within atol and rtol; is the function smooth here?"
                )

    def unit(self, x: Tensor) -> np.ndarray:
        u = self.rng.standard_normal(x.array.shape)
        return u / max(float(np.linalg.norm(u)), 1e-12)

    # ---- entry by entry

    def entries(self) -> None:
        """Every entry of every Jacobian; the one that is furthest beyond its tolerance is named."""
        outputs = _outputs(self.func, self.given)
        numerical = {k: self.columns(k, outputs) for k in self.checked}
        worst, told = 1.0, ""
        for o, y in enumerate(outputs):
            for element in np.ndindex(y.array.shape):
                seeds = [np.zeros(t.array.shape) for t in outputs]
                seeds[o][element] = 1
                gradients, again = self.gradients(seeds), self.gradients(seeds)
                for k, g, h in zip(self.checked, gradients, again, strict=True):
                    self.repeatable(k, g, h)
                    expected = numerical[k][o][(..., *element)].reshape(g.shape)
                    excess = np.abs(g - expected) / (self.atol + self.rtol * np.abs(expected))
                    excess = np.where(np.isnan(excess), np.inf, excess)
                    if excess.max(initial=0) > worst:
                        worst, at = excess.max(), np.unravel_index(int(excess.argmax()), excess.shape)
                        told = f"d outputs[{o}]{_at(element)} / d inputs[{k}]{_at(at)} is {g[at]:.6g} by "
                        told += f"backward, {expected[at]:.6g} by differences"
        if told:
            limits = f"(atol={self.atol}, rtol={self.rtol})"
            raise GradcheckError(f"gradcheck: {told} {limits}; this is the worst entry")

    def columns(self, k: int, outputs: list[Tensor]) -> list[np.ndarray]:
        """The derivative of each output by each element of input k: (elements, *shape of the output)."""
        found = []
        for element in np.ndindex(self.given[k].array.shape):
            u = np.zeros(self.given[k].array.shape)
            u[element] = 1
            found.append(self.difference(k, u))
        if not found:
            return [np.zeros((0, *y.array.shape)) for y in outputs]
        return [np.stack([slopes[o] for slopes in found]) for o in range(len(outputs))]

    # ---- the two ways to a derivative

    def difference(self, k: int, u: np.ndarray) -> list[np.ndarray]:
        """The derivative of every output by input k in the direction u, from central differences."""
        ahead, behind = self.moved(k, self.eps * u), self.moved(k, -self.eps * u)
        return [(a - b) / (2 * self.eps) for a, b in zip(ahead, behind, strict=True)]

    def moved(self, k: int, by: np.ndarray) -> list[np.ndarray]:
        values = list(self.given)
        values[k] = _like(self.given[k], to_host(self.given[k].array) + by)
        return [np.array(to_host(y.array), dtype=np.float64) for y in _outputs(self.func, values)]

    def gradients(self, seeds: list[np.ndarray]) -> list[np.ndarray]:
        """The gradients of Σ seeds·outputs by the inputs, from backward; zeros where there is none."""
        leaves = [self.given[k] for k in self.checked]
        outputs = _outputs(self.func, self.given)
        pairs = [(y, s) for y, s in zip(outputs, seeds, strict=True) if y.requires_grad]
        found: tuple = (None,) * len(leaves)
        if pairs:
            v = [Tensor(to_device(np.array(s, y.dtype.numpy), device_of(y.array))) for y, s in pairs]
            found = grad([y for y, _ in pairs], leaves, v, allow_unused=True)
        zeros = [np.zeros(x.array.shape) for x in leaves]
        return [z if g is None else to_host(g.array) for z, g in zip(zeros, found, strict=True)]

    def repeatable(self, k: int, first: np.ndarray, second: np.ndarray) -> None:
        """GradcheckError when two backward passes differ by more than nondet_tol."""
        apart = np.abs(first - second).max(initial=0)
        if apart > self.nondet_tol:
            raise GradcheckError(
                f"gradcheck: two backward passes gave different gradients by inputs[{k}]: they differ by "
                f"{apart:.3g}, nondet_tol is {self.nondet_tol}"
            )


def _at(place: tuple) -> str:
    return str([int(p) for p in place]) if place else ""
