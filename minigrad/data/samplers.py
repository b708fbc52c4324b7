"""Samplers: in which order, and how often, a dataset's examples come. Names and arguments are PyTorch's.

A sampler is an iterable of indices with a length; each iteration is an epoch. The random ones draw from the
host stream of `generator`, or of the default one that `manual_seed` starts, so a seed fixes every epoch on
every device. The generator is all the state there is: state_dict() is what later epochs depend on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any

import numpy as np

from .. import random
from ..tensor import Tensor


class Sampler:
    """The base: subclass it with `__iter__` and `__len__`."""

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{type(self).__name__} must define __iter__()")

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} must define __len__()")

    def state_dict(self) -> dict[str, Any]:
        """What the epochs to come depend on; nothing here."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the epochs that followed state_dict()."""


class _Ordered(Sampler):
    """Samplers that have an epoch's indices as an array, for those who want it so."""

    def order(self) -> np.ndarray:
        """The indices of one epoch."""
        raise TypeError(f"{type(self).__name__} must define order()")

    def __iter__(self) -> Iterator[Any]:
        return iter(self.order().tolist())


class SequentialSampler(_Ordered):
    """0, 1, ..., N - 1."""

    def __init__(self, data_source: Sized):
        self.data_source = data_source

    def order(self) -> np.ndarray:
        return np.arange(len(self.data_source))

    def __len__(self) -> int:
        return len(self.data_source)


class _RandomSampler(_Ordered):
    """What all random samplers share: the generator is the state."""

    generator: random.Generator | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"generator": (self.generator or random.default_generator).get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Sets the sampler's generator; the default one if it has none of its own."""
        (self.generator or random.default_generator).set_state(state_dict["generator"])


class RandomSampler(_RandomSampler):
    """A permutation of all N indices; or `num_samples` of them, with `replacement` independent draws.

    num_samples > N without replacement: permutations one after the other, the last one cut.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: random.Generator | None = None,
    ):
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self._num_samples = None if num_samples is None else _count("RandomSampler: num_samples", num_samples)

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def order(self) -> np.ndarray:
        n, wanted, host = len(self.data_source), self.num_samples, random.host(self.generator)
        if not n:
            if wanted:
                raise ValueError(f"RandomSampler: {wanted} samples wanted from an empty dataset")
            return np.empty(0, np.int64)
        if self.replacement:
            return host.integers(0, n, wanted)
        return np.concatenate([host.permutation(n) for _ in range(-(-wanted // n))])[:wanted]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(_RandomSampler):
    """A permutation of the given indices."""

    def __init__(self, indices: Iterable[int], generator: random.Generator | None = None):
        self.indices, self.generator = indices, generator

    def order(self) -> np.ndarray:
        return random.host(self.generator).permutation(np.asarray(self.indices, np.int64))

    def __len__(self) -> int:
        return len(self.indices)  # type: ignore[arg-type]


class WeightedRandomSampler(_RandomSampler):
    """`num_samples` indices, index k with probability weights[k] / sum: rare classes can come more often.

    Without replacement each at most once, drawn one after the other from what is left: the order of the
    smallest E_k / weights[k], E_k exponentially distributed  [Efraimidis & Spirakis 2006].
    """

    def __init__(
        self,
        weights: Any,
        num_samples: int,
        replacement: bool = True,
        generator: random.Generator | None = None,
    ):
        self.num_samples = _count("WeightedRandomSampler: num_samples", num_samples)
        weights = weights.detach().cpu().numpy() if isinstance(weights, Tensor) else list(weights)
        self.weights = np.asarray(weights, np.float64)
        self.replacement, self.generator = replacement, generator
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all() and self.weights.sum() > 0):
            raise ValueError(
                "WeightedRandomSampler: weights must be finite and not negative, with a positive sum"
            )
        positive = int((self.weights > 0).sum())
        if not replacement and self.num_samples > positive:
            raise ValueError(
                f"WeightedRandomSampler: {self.num_samples} samples without replacement from {positive} "
                "indices of positive weight; pass replacement=True or fewer samples"
            )

    def order(self) -> np.ndarray:
        host = random.host(self.generator)
        if self.replacement:
            bounds = np.cumsum(self.weights)
            return np.searchsorted(bounds / bounds[-1], host.random(self.num_samples), side="right")
        waits = np.full(len(self.weights), np.inf)
        np.divide(host.exponential(size=len(waits)), self.weights, out=waits, where=self.weights > 0)
        return np.argsort(waits, kind="stable")[: self.num_samples]

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """Lists of `batch_size` indices of a sampler; `drop_last` leaves out a last one that is shorter."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool):
        self.sampler, self.drop_last = sampler, drop_last
        self.batch_size = _count("BatchSampler: batch_size", batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = epoch_of(self.sampler).tolist()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size]

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        return self.sampler.state_dict() if hasattr(self.sampler, "state_dict") else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if hasattr(self.sampler, "load_state_dict"):
            self.sampler.load_state_dict(state_dict)


def epoch_of(sampler: Iterable[int]) -> np.ndarray:
    """One epoch of any sampler, ours or an iterable of integers, as an array of int64."""
    if isinstance(sampler, _Ordered) and type(sampler).__iter__ is _Ordered.__iter__:
        return sampler.order().astype(np.int64, copy=False)
    return np.fromiter(sampler, np.int64)  # a subclass's own __iter__ counts


def _count(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{what} is {value!r}; it is a positive whole number")
    return int(value)
