"""Random tensors. All are drawn from the host stream (minigrad/random.py) and then moved to their device, so
a seed gives the same numbers everywhere:

    uniform     u = k 2^-b, k of b random bits: b = 53, 24, 11, 8 for float64, float32, float16, bfloat16
    normal      a standard normal in float64, rounded to the dtype
    integers    NumPy's unbiased bounded integers
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend, random
from ..backend import as_dtype, device_of, dtype, get_default_dtype, resolve_device, to_device
from ..random import Generator
from ..tensor import Tensor
from .creation import shape_of
from .promote import same_device
from .register import EXPORTS, method, public

for _function in (
    Generator,
    random.manual_seed,
    random.seed,
    random.initial_seed,
    random.get_rng_state,
    random.set_rng_state,
):
    public(_function)
EXPORTS["default_generator"] = random.default_generator

_BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}


def _floating(name: str, d: Any) -> dtype:
    d = get_default_dtype() if d is None else as_dtype(d)
    if not d.is_floating_point:
        raise TypeError(f"{name}: {d.name} is not a floating type; use randint for integers")
    return d


def _uniform(shape: tuple[int, ...], d: dtype, generator: Any) -> np.ndarray:
    """Uniform in [0, 1): never 1, whatever the precision."""
    scale = 2.0 ** _BITS[d.name]
    return (np.floor(random.host(generator).random(shape) * scale) / scale).astype(d.numpy)


def _normal(shape: tuple[int, ...], d: dtype, generator: Any) -> np.ndarray:
    return random.host(generator).standard_normal(shape).astype(d.numpy)


def _placed(array: np.ndarray, device: Any, requires_grad: bool = False) -> Tensor:
    out = Tensor(to_device(np.asarray(array), resolve_device(device)))
    return out.requires_grad_() if requires_grad else out


# ------------------------------------------------------------------------------------------------ new tensors


@public
def rand(*size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None,
         requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Uniform in [0, 1), of shape `size`."""
    drawn = _uniform(shape_of("rand", size), _floating("rand", dtype), generator)
    return _placed(drawn, device, requires_grad)


@public
def randn(*size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None,
          requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Normal with mean 0 and variance 1, of shape `size`."""
    drawn = _normal(shape_of("randn", size), _floating("randn", dtype), generator)
    return _placed(drawn, device, requires_grad)


@public
def randint(*bounds: Any, low: int = 0, high: int | None = None, size: Any = None,
            generator: Generator | None = None, dtype: Any = None, device: Any = None,
            requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Integers in [low, high): randint(high, size) or randint(low, high, size)."""
    given = list(bounds)
    if given and isinstance(given[-1], (tuple, list)):
        if size is not None:
            raise TypeError("randint: the size is given twice")
        size = given.pop()
    if len(given) == 2:
        low, high = given
    elif len(given) == 1:
        low, high = (low, given[0]) if high is None else (given[0], high)
    if high is None or size is None or len(given) > 2:
        raise TypeError("randint: the forms are randint(high, size) and randint(low, high, size)")
    if low >= high:
        raise ValueError(f"randint: there is no integer in [{low}, {high})")
    d = backend.int64 if dtype is None else as_dtype(dtype)
    drawn = random.host(generator).integers(low, high, shape_of("randint", (size,)))
    return _placed(drawn.astype(d.numpy), device, requires_grad)


@public
def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:  # fmt: skip
    """The integers 0 ... n-1 in random order."""
    if n < 0:
        raise ValueError(f"randperm: n = {n} is negative")
    d = backend.int64 if dtype is None else as_dtype(dtype)
    return _placed(random.host(generator).permutation(n).astype(d.numpy), device, requires_grad)


@public
def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
           dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:  # fmt: skip
    """mean + std z, z standard normal: numbers with a size, or tensors (broadcast), outside the graph."""
    tensors = [t.detach() for t in (mean, std) if isinstance(t, Tensor)]
    if not isinstance(std, Tensor) and std < 0:
        raise ValueError(f"normal: std = {std} is negative")
    if not tensors:
        if size is None:
            raise TypeError("normal: with two numbers give the size: normal(mean, std, size)")
        d = _floating("normal", dtype)
        drawn = mean + std * random.host(generator).standard_normal(shape_of("normal", (size,)))
        return _placed(np.asarray(drawn).astype(d.numpy), device, requires_grad)
    if size is not None:
        raise TypeError("normal: the size follows from the tensors; leave it out")
    same_device("normal", *tensors)
    d, where = _floating("normal", tensors[0].dtype), tensors[0].device
    shape = np.broadcast_shapes(*(t.array.shape for t in tensors))
    z = _placed(_normal(shape, d, generator), where)
    return (z * _detached(std) + _detached(mean)).to(d)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


@public
@method
def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that stands in input (or p, for all), else 0; in input's shape and dtype."""
    d = _floating("bernoulli", input.dtype)
    u = _placed(_uniform(input.array.shape, d, generator), input.device)
    if p is not None:
        return (u < _probability("bernoulli", p)).to(d)
    if not input.is_cuda and not ((input.array >= 0) & (input.array <= 1)).all():
        raise ValueError("bernoulli: the input has values outside [0, 1], they are to be probabilities")
    return (u < input.detach()).to(d)


def _probability(name: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: p = {p} is no probability; it lies in [0, 1]")
    return p


@public
@method
def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *,
                generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Indices drawn with probabilities proportional to input: (C,) -> (num_samples,), (N, C) -> (N,
    num_samples).

    Without replacement in the order in which they are drawn. On a GPU this reads the weights back.
    """
    _floating("multinomial", input.dtype)
    weights = np.atleast_2d(backend.to_host(input.array)).astype(np.float64)
    if input.array.ndim not in (1, 2) or num_samples < 1 or weights.shape[1] == 0:
        raise ValueError(
            f"multinomial: {num_samples} samples of weights {list(input.shape)}; give (C,) or (N, C)"
        )
    if not (np.isfinite(weights) & (weights >= 0)).all() or not (weights.sum(axis=1) > 0).all():
        raise ValueError("multinomial: weights are finite, not negative, and not all 0 in a row")
    host = random.host(generator)
    if replacement:
        edges = weights.cumsum(axis=1)
        u = host.random((len(weights), num_samples)) * edges[:, -1:]
        # u may round up to the last edge: stay below the last weight that is not 0
        last = weights.shape[1] - 1 - (weights[:, ::-1] > 0).argmax(axis=1)
        drawn = np.stack([np.minimum(np.searchsorted(e, v, "right"), m) for e, v, m in zip(edges, u, last)])
    else:
        if ((weights > 0).sum(axis=1) < num_samples).any():
            raise ValueError(
                f"multinomial: fewer than {num_samples} weights are positive; use replacement=True"
            )
        with np.errstate(divide="ignore"):  # the first arrivals of Poisson processes with these rates
            arrival = host.standard_exponential(weights.shape) / weights
        drawn = np.argsort(arrival, axis=1, kind="stable")[:, :num_samples]
    drawn = drawn.astype(np.int64)
    return _placed(drawn if input.array.ndim == 2 else drawn[0], input.device)


def _like(input: Tensor, dtype: Any, device: Any) -> dict[str, Any]:
    return dict(
        dtype=input.dtype if dtype is None else dtype,
        device=device_of(input.array) if device is None else device,
    )


@public
def rand_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None, device: Any = None,
              requires_grad: bool = False) -> Tensor:  # fmt: skip
    """`rand` with the shape, dtype and device of input, unless told otherwise."""
    return rand(input.shape, generator=generator, requires_grad=requires_grad, **_like(input, dtype, device))


@public
def randn_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None, device: Any = None,
               requires_grad: bool = False) -> Tensor:  # fmt: skip
    """`randn` with the shape, dtype and device of input, unless told otherwise."""
    return randn(input.shape, generator=generator, requires_grad=requires_grad, **_like(input, dtype, device))


@public
def randint_like(input: Tensor, *bounds: int, low: int = 0, high: int | None = None,
                 generator: Generator | None = None, dtype: Any = None, device: Any = None,
                 requires_grad: bool = False) -> Tensor:  # fmt: skip
    """`randint` with the shape, dtype and device of input, unless told otherwise."""
    like = _like(input, dtype, device) | dict(generator=generator, requires_grad=requires_grad)
    return randint(*bounds, low=low, high=high, size=input.shape, **like)


# --------------------------------------------------------------------------------------------------- in place


def _overwrite(self: Tensor, name: str, values: np.ndarray) -> Tensor:
    return self.changed(_placed(values.astype(self.dtype.numpy), self.device), name)


@method
def uniform_(
    self: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers uniform in [from_, to)."""
    if not from_ <= to:
        raise ValueError(f"uniform_: [{from_}, {to}) is no interval")
    d = _floating("uniform_", self.dtype)
    u = _uniform(self.array.shape, d, generator)
    return _overwrite(self, "uniform_", from_ + (to - from_) * u.astype(np.float64))


@method
def normal_(
    self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal numbers."""
    if std < 0:
        raise ValueError(f"normal_: std = {std} is negative")
    _floating("normal_", self.dtype)
    return _overwrite(self, "normal_", mean + std * random.host(generator).standard_normal(self.array.shape))


@method
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of density lambd e^(-lambd x), x > 0."""
    if not lambd > 0:
        raise ValueError(f"exponential_: lambd = {lambd} is not positive")
    _floating("exponential_", self.dtype)
    return _overwrite(
        self, "exponential_", random.host(generator).standard_exponential(self.array.shape) / lambd
    )


@method
def bernoulli_(self: Tensor, p: float = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1, with probability p, or 0."""
    drawn = random.host(generator).random(self.array.shape) < _probability("bernoulli_", p)
    return _overwrite(self, "bernoulli_", drawn)


@method
def random_(
    self: Tensor, from_: int = 0, to: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Fill with integers in [from_, to); random_(to) starts at 0; no bounds: up to what the dtype holds."""
    if to is None:
        widest = 1 << _BITS[self.dtype.name] if self.dtype.is_floating_point else _largest(self.dtype) + 1
        from_, to = (0, from_) if from_ else (0, widest)
    if from_ >= to:
        raise ValueError(f"random_: there is no integer in [{from_}, {to})")
    return _overwrite(self, "random_", random.host(generator).integers(from_, to, self.array.shape))


def _largest(d: dtype) -> int:
    return 1 if d is backend.bool_ else int(np.iinfo(d.numpy).max)
