"""Schedulers that multiply: lr_t = lr_0 f(t). A class says f, and lr_t = lr_(t-1) f(t) / f(t-1) follows."""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from .. import schedule
from .base import LRScheduler, Rate, checked, inside, values


class Factor(LRScheduler):
    """Base: a subclass says f(t) in `closed`. Where f(t - 1) is 0, lr stays as it is."""

    def closed(self, t: float) -> float:
        """f(t)"""
        raise NotImplementedError(f"{type(self).__name__} defines no closed()")

    def ratio(self, t: float) -> float:
        """f(t) / f(t - 1); f(0) at the start."""
        before = self.closed(t - 1) if t > 0 else 1.0
        return self.closed(t) / before if before else 1.0

    def get_lr(self) -> list[Rate]:
        """lr f(t) / f(t - 1); what the groups hold already, when it continues at t > 0."""
        inside(self)
        if self._is_initial and self.last_epoch > 0:
            return values(self.optimizer, "lr")
        ratio = self.ratio(self.last_epoch)
        return [group["lr"] * ratio for group in self.optimizer.param_groups]

    def _get_closed_form_lr(self) -> list[Rate]:
        factor = self.closed(self.last_epoch)
        return [base * factor for base in self.base_lrs]


class StepLR(Factor):
    """lr_0 gamma^floor(t / step_size)

    PyTorch's multiplies once more when constructed with a last_epoch whose successor is a multiple of
    step_size; this leaves lr alone, so that a run continues as it would have gone on. ValueError unless
    step_size > 0.
    """

    def __init__(self, optimizer: Any, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def closed(self, t: float) -> float:
        return schedule.step(1.0, self.step_size, self.gamma)(t)


class MultiStepLR(Factor):
    """lr_0 gamma^k, k the number of milestones <= t; one that is given twice counts twice. See StepLR."""

    def __init__(self, optimizer: Any, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def closed(self, t: float) -> float:
        return schedule.multi_step(1.0, self.milestones.elements(), self.gamma)(t)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        # JSON knows no Counter, and no keys but strings
        self.milestones = Counter({int(mark): count for mark, count in dict(self.milestones).items()})


class ConstantLR(Factor):
    """lr_0 factor for t < total_iters, then lr_0: constant in two parts. ValueError unless 0 <= factor <= 1.

    From factor 0 no recursion leads back: ZeroDivisionError at total_iters, as in PyTorch.
    """

    def __init__(self, optimizer: Any, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1):
        if not 0 <= factor <= 1:
            raise ValueError(f"Constant multiplicative factor expected to be between 0 and 1, not {factor}.")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def closed(self, t: float) -> float:
        return self.factor if t < self.total_iters else 1.0

    def ratio(self, t: float) -> float:
        if t == 0:
            return self.factor
        return 1.0 / self.factor if t == self.total_iters else 1.0


class LinearLR(Factor):
    """lr_0 times start_factor at 0, a straight line, and end_factor from total_iters on.

    ValueError unless 0 < start_factor <= 1 and 0 <= end_factor <= 1.
    """

    def __init__(
        self,
        optimizer: Any,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ):
        if not 0 < start_factor <= 1:
            raise ValueError(
                "Starting multiplicative factor expected to be greater than 0 and less or equal to 1, "
                f"not {start_factor}."
            )
        if not 0 <= end_factor <= 1:
            raise ValueError(
                f"Ending multiplicative factor expected to be between 0 and 1, not {end_factor}."
            )
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def closed(self, t: float) -> float:
        if self.total_iters == 0:  # as PyTorch's: it stays where it starts
            return self.start_factor
        return schedule.linear(self.start_factor, self.total_iters, self.end_factor)(t)


class ExponentialLR(Factor):
    """lr_0 gamma^t"""

    def __init__(self, optimizer: Any, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def closed(self, t: float) -> float:
        return self.gamma**t

    def ratio(self, t: float) -> float:
        return self.gamma if t > 0 else 1.0


class PolynomialLR(Factor):
    """lr_0 (1 - t / total_iters)^power for t < total_iters, then 0."""

    def __init__(self, optimizer: Any, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1):
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def closed(self, t: float) -> float:
        if self.total_iters == 0:  # as PyTorch's: there is nothing to decay over
            return 1.0
        return schedule.polynomial(1.0, self.total_iters, self.power)(t)


# -------------------------------------------------------------------------------------- functions of the user


class Lambdas(LRScheduler):
    """Base: one function of the epoch for all groups, or a list of one a group.

    The state holds the attributes of a callable object, and nothing of a function.
    """

    def __init__(self, optimizer: Any, lr_lambda: Any, last_epoch: int = -1):
        groups = len(checked(optimizer).param_groups)
        given = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda] * groups
        if len(given) != groups:
            raise ValueError(f"Expected {groups} lr_lambdas, but got {len(given)}")
        for each in given:
            if not callable(each):
                raise TypeError(f"lr_lambda should be a function, but got {type(each).__name__}")
        self.lr_lambdas: list[Callable[[int], float]] = given
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "lr_lambdas": [
                None if isinstance(each, types.FunctionType) else vars(each).copy()
                for each in self.lr_lambdas
            ]
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "lr_lambdas"})
        for each, saved in zip(self.lr_lambdas, state_dict["lr_lambdas"]):
            if saved is not None:
                vars(each).update(saved)


class LambdaLR(Lambdas):
    """lr_0 lr_lambda(t)"""

    def get_lr(self) -> list[Rate]:
        """base lr_lambda(t)"""
        inside(self)
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas)]


class MultiplicativeLR(Lambdas):
    """lr_t = lr_(t-1) lr_lambda(t), for t from 1."""

    def get_lr(self) -> list[Rate]:
        """lr lr_lambda(t); lr itself at construction."""
        inside(self)
        if self._is_initial:
            return values(self.optimizer, "lr")
        return [
            group["lr"] * f(self.last_epoch) for group, f in zip(self.optimizer.param_groups, self.lr_lambdas)
        ]
