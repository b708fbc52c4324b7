"""Gradients against differences: (f(x + eps u) - f(x - eps u)) / (2 eps) is what J u must be.

`gradcheck` compares every entry of the Jacobian that backward computes with central differences; in fast
mode one number v·Ju for each input, with random directions u and v, which a wrong gradient passes with
probability zero. `gradgradcheck` does so for the function that computes the gradients. Both want float64:
with eps = 1e-6 differences of float32 numbers hold no digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    try:
        _check(func, given, eps, atol, rtol, nondet_tol, fast_mode)
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


def _check(
    func: Callable, given: list, eps: float, atol: float, rtol: float, nondet_tol: float, fast: bool
) -> None:
    """GradcheckError where a gradient is wrong; in fast mode entries are only looked at to name the worst."""
    checked = [k for k, x in enumerate(given) if _differentiable(x)]
    if not fast or not _directions_agree(func, given, checked, eps, atol, rtol):
        _compare_entries(func, given, checked, eps, atol, rtol)
        if fast:
            raise GradcheckError(
                "gradcheck: a directional derivative and its difference disagree, though every entry agrees "
                "within atol and rtol; is the function smooth here? fast_mode=False compares entries only"
            )
    first, second = (list(_jacobian(func, given, checked)) for _ in range(2))
    for (o, i, _, a), (_, _, _, b) in zip(first, second, strict=True):
        if np.abs(a - b).max(initial=0) > nondet_tol:
            raise GradcheckError(
                f"gradcheck: two backward passes gave different gradients of outputs[{o}] by inputs[{i}]: "
                f"they differ by {np.abs(a - b).max():.3g}, nondet_tol is {nondet_tol}"
            )


def _moved(func: Callable, given: list, k: int, by: np.ndarray) -> list[np.ndarray]:
    """The outputs as arrays, when input k is moved."""
    values = list(given)
    values[k] = _like(given[k], to_host(given[k].array) + by)
    return [np.array(to_host(y.array), dtype=np.float64) for y in _outputs(func, values)]


def _difference(func: Callable, given: list, k: int, u: np.ndarray, eps: float) -> list[np.ndarray]:
    """The derivative of every output by input k in the direction u, from central differences."""
    ahead, behind = _moved(func, given, k, eps * u), _moved(func, given, k, -eps * u)
    return [(a - b) / (2 * eps) for a, b in zip(ahead, behind, strict=True)]


def _gradients(outputs: list[Tensor], seeds: list[np.ndarray], leaves: list[Tensor]) -> list[np.ndarray]:
    """The gradients of Σ seeds·outputs by the leaves; zeros where there is none."""
    pairs = [(y, s) for y, s in zip(outputs, seeds, strict=True) if y.requires_grad]
    if not pairs:
        return [np.zeros(x.array.shape) for x in leaves]
    given = [
        Tensor(to_device(np.array(s, dtype=to_host(y.array).dtype), device_of(y.array))) for y, s in pairs
    ]
    found = grad([y for y, _ in pairs], leaves, given, retain_graph=True, allow_unused=True)
    return [
        np.zeros(x.array.shape) if g is None else to_host(g.array) for x, g in zip(leaves, found, strict=True)
    ]


def _directions_agree(
    func: Callable, given: list, checked: list[int], eps: float, atol: float, rtol: float
) -> bool:
    """Whether v·(J u) from differences is (v J)·u from backward, for each input, in random directions."""
    rng = np.random.default_rng(0)
    outputs = _outputs(func, given)
    v = [_unit(rng, y.array.shape) for y in outputs]
    gradients = _gradients(outputs, v, [given[k] for k in checked])
    for k, g in zip(checked, gradients, strict=True):
        u = _unit(rng, given[k].array.shape)
        slopes = _difference(func, given, k, u, eps)
        numerical = sum(float((a * b).sum()) for a, b in zip(v, slopes, strict=True))
        if not abs(float((g * u).sum()) - numerical) <= atol + rtol * abs(numerical):
            return False
    return True


def _unit(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    u = rng.standard_normal(shape)
    return u / max(float(np.linalg.norm(u)), 1e-12)


def _jacobian(func: Callable, given: list, checked: list[int]) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """(output, input, element of the output, its gradient by the input), for all of them."""
    outputs = _outputs(func, given)
    for o, y in enumerate(outputs):
        for e in range(y.array.size):
            seeds = [np.zeros(t.array.shape) for t in outputs]
            seeds[o].reshape(-1)[e] = 1
            found = _gradients(outputs, seeds, [given[k] for k in checked])
            yield from ((o, k, e, g) for k, g in zip(checked, found, strict=True))


def _compare_entries(
    func: Callable, given: list, checked: list[int], eps: float, atol: float, rtol: float
) -> None:
    """Every entry of every Jacobian. GradcheckError names the one that is furthest beyond its tolerance."""
    numerical: dict[tuple[int, int], np.ndarray] = {}  # (output, input) -> (elements of input, *output shape)
    for k in checked:
        size = given[k].array.size
        rows = []
        for e in range(size):
            u = np.zeros(given[k].array.shape)
            u.reshape(-1)[e] = 1
            rows.append(_difference(func, given, k, u, eps))
        for o in range(len(rows[0]) if rows else 0):
            numerical[o, k] = np.stack([row[o].reshape(-1) for row in rows])
    worst, told = 0.0, ""
    for o, k, e, gradient in _jacobian(func, given, checked):
        expected = numerical[o, k][:, e].reshape(gradient.shape) if gradient.size else gradient
        excess = np.abs(gradient - expected) / (atol + rtol * np.abs(expected))
        excess = np.where(np.isnan(excess), np.inf, excess)
        if excess.max(initial=0) > max(worst, 1.0):
            at = np.unravel_index(int(excess.argmax()), excess.shape)
            worst = excess.max()
            element = np.unravel_index(e, _outputs(func, given)[o].array.shape)
            told = (
                f"gradcheck: d outputs[{o}]{_at(element)} / d inputs[{k}]{_at(at)} is {gradient[at]:.6g} by "
                f"backward, {expected[at]:.6g} by differences (atol={atol}, rtol={rtol}); "
                "this is the worst entry"
            )
    if told:
        raise GradcheckError(told)


def _at(place: tuple) -> str:
    return str([int(p) for p in place]) if place else ""
