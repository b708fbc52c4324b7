"""The sample table: every operation, with the arguments and shapes it is promised for.

    SAMPLES = [
        Sample("softplus", lambda m, x: m.softplus(x), normal(2, 3)),
        Sample("gather dim=1", lambda m, x, i: m.gather(x, 1, i), normal(3, 4), integers(4, 3, 2)),
    ]

`fn(m, *tensors)` runs with m = minigrad and with m = torch: the names are the same. An input is an array,
or a function of a random generator that makes one (`normal(2, 3)` and its like below); floating inputs are
float64 and get gradients, others are data. The result is a Tensor, or a (nested) tuple of Tensors.
tests/test_ops.py says what is claimed of each. Samples live in the modules of this package, one a topic,
each a list SAMPLES.
"""

import functools
import importlib
import pkgutil
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np


class Sample:
    """One call of one operation.

    second      False where the gradient has no gradient (torch's either)
    no_grad     positions of floating inputs that are data
    reference   fn for torch, where it spells the call in another way
    oracle      False for what torch does not have, or does not differentiate
    smooth      False at a kink, where differences are no derivatives
    rtol        agreement with torch, relative to the largest entry of each result
    float32     agreement of the float32 run with the float64 one; None for what makes no sense in float32
    """

    topic = ""  # the module it stands in

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        *inputs: Any,
        second: bool = True,
        no_grad: tuple[int, ...] = (),
        reference: Callable[..., Any] | None = None,
        oracle: bool = True,
        smooth: bool = True,
        rtol: float = 1e-10,
        float32: float | None = 1e-4,
    ):
        self.name, self.fn, self.inputs, self.second = name, fn, inputs, second
        self.no_grad, self.reference, self.oracle = frozenset(no_grad), reference or fn, oracle
        self.smooth, self.rtol, self.float32 = smooth, rtol, float32

    def arrays(self) -> list[np.ndarray]:
        """The inputs, the same at every call."""
        rng = self.rng()
        return [np.array(make(rng) if callable(make) else make) for make in self.inputs]

    def rng(self, salt: str = "") -> np.random.Generator:
        return np.random.default_rng(zlib.crc32((self.name + salt).encode()))

    def differentiable(self, k: int, array: np.ndarray) -> bool:
        """Whether input k gets a gradient."""
        return array.dtype.kind == "f" and k not in self.no_grad

    @functools.cached_property
    def has_gradient(self) -> bool:
        """Whether some input gets a gradient."""
        return any(self.differentiable(k, a) for k, a in enumerate(self.arrays()))

    def __repr__(self) -> str:
        return f"{self.topic}: {self.name}"


def normal(*shape: int) -> Callable:
    """Standard normal values."""
    return lambda rng: rng.standard_normal(shape)


def uniform(low: float, high: float, *shape: int) -> Callable:
    """Values in (low, high)."""
    return lambda rng: rng.uniform(low, high, shape)


def positive(*shape: int) -> Callable:
    """Values in (0.5, 2)."""
    return uniform(0.5, 2.0, *shape)


def nonzero(*shape: int) -> Callable:
    """Values of both signs, at least 0.3 away from zero."""
    return lambda rng: rng.uniform(0.3, 2.0, shape) * rng.choice([-1.0, 1.0], shape)


def distinct(*shape: int) -> Callable:
    """Values at least 0.1 apart from each other and from zero: no ties for max, sort, abs."""
    return lambda rng: (rng.permutation(int(np.prod(shape))) * 0.1 - 0.05 * np.prod(shape) + 0.053).reshape(
        shape
    )


def integers(high: int, *shape: int) -> Callable:
    """Whole numbers in [0, high), int64: indices."""
    return lambda rng: rng.integers(0, high, shape)


def booleans(*shape: int) -> Callable:
    """Random masks."""
    return lambda rng: rng.random(shape) < 0.5


@functools.cache
def collected() -> tuple[Sample, ...]:
    """The samples of all modules of this package."""
    found: list[Sample] = []
    for info in pkgutil.iter_modules(__path__):
        for sample in importlib.import_module(f"{__name__}.{info.name}").SAMPLES:
            sample.topic = info.name
            found.append(sample)
    return tuple(found)
