"""Cyclical schedulers, which move the momentum against the learning rate: CyclicLR, OneCycleLR."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from ..schedule.cycle import MODES, annealed, leg, phases, triangle
from .base import LRScheduler, Rate, checked, inside, per_group, put


class Cycling(LRScheduler):
    """Base: learning rates by get_lr(), and with cycle_momentum momenta by `momenta`, one a group.

    The momentum is beta1 where the groups have betas. ValueError for an optimizer that has neither.
    """

    cycle_momentum: bool

    def momenta(self) -> list[float]:
        """The momenta at last_epoch."""
        raise NotImplementedError(f"{type(self).__name__} defines no momenta()")

    def _begin_momentum(self, base_momentum: Any, max_momentum: Any, last_epoch: int) -> tuple[list, list]:
        """Write the bounds and, at the start, the highest momentum into the groups; (lowest, highest)."""
        groups = self.optimizer.param_groups
        if not all("momentum" in group or "betas" in group for group in groups):
            raise ValueError(
                f"{type(self).__name__}: the optimizer must support momentum or beta1 with the "
                f"`cycle_momentum` "
                f"option; {type(self.optimizer).__name__} has neither (cycle_momentum=False)"
            )
        self.use_beta1 = "betas" in groups[0]
        lows = per_group("base_momentum", self.optimizer, base_momentum)
        highs = per_group("max_momentum", self.optimizer, max_momentum)
        if last_epoch == -1:
            for group, low, high in zip(groups, lows, highs):
                self._put_momentum(group, high)
                group["max_momentum"], group["base_momentum"] = high, low
        return lows, highs

    def _put_momentum(self, group: dict[str, Any], momentum: float) -> None:
        if self.use_beta1:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum

    def _write(self, lrs: list[Rate]) -> None:
        super()._write(lrs)
        if self.cycle_momentum:
            for group, momentum in zip(self.optimizer.param_groups, self.momenta()):
                self._put_momentum(group, momentum)


class CyclicLR(Cycling):
    """base_lr + (max_lr - base_lr) h s: h goes 0 -> 1 in step_size_up steps, 1 -> 0 in step_size_down.

    mode "triangular": s = 1; "triangular2": s = 2^(1 - cycle), cycles from 1; "exp_range": s = gamma^t.
    scale_fn is an s of one's own, of the cycle or, by scale_mode "iterations", of t; mode is then ignored.
    The momentum is max_momentum - (max_momentum - base_momentum) h s. Bounds may be lists, one a group.
    [Smith 2017]
    """

    def __init__(
        self,
        optimizer: Any,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ):
        self.optimizer = checked(optimizer)
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(f"CyclicLR: mode {mode!r} is invalid and scale_fn is None")
        base_lrs = per_group("base_lr", optimizer, base_lr)
        self.max_lrs = per_group("max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, base_lrs):
                put(group, "lr", lr)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        self.mode, self.gamma = mode, gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = scale_mode
        if scale_fn is None:
            self.scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            bounds = self._begin_momentum(base_momentum, max_momentum, last_epoch)
            self.base_momentums, self.max_momentums = bounds
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """s, of the cycle or of t, as scale_mode says."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        return MODES[self.mode](x, x, self.gamma)

    def _part(self) -> float:
        """h s at last_epoch"""
        up = self.step_ratio * self.total_size
        cycle, height = triangle(self.last_epoch, up, self.total_size - up)
        return height * self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)

    def get_lr(self) -> list[Rate]:
        """base_lr + (max_lr - base_lr) h s"""
        inside(self)
        part = self._part()
        return [low + (high - low) * part for low, high in zip(self.base_lrs, self.max_lrs)]

    def momenta(self) -> list[float]:
        part = self._part()
        return [high - (high - low) * part for low, high in zip(self.base_momentums, self.max_momentums)]

    def state_dict(self) -> dict[str, Any]:
        fn = self._scale_fn_custom
        plain = fn is None or isinstance(fn, types.FunctionType)
        return super().state_dict() | {"_scale_fn_custom": None if plain else vars(fn).copy()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_scale_fn_custom"})
        saved = state_dict["_scale_fn_custom"]
        if saved is not None:
            vars(self._scale_fn_custom).update(saved)


class OneCycleLR(Cycling):
    """initial_lr = max_lr / div_factor -> max_lr -> min_lr = initial_lr / final_div_factor over total_steps.

    The peak is at step pct_start total_steps - 1, the end at total_steps - 1. three_phase comes back to
    initial_lr in as many steps as it rose. Legs are half cosines ("cos") or straight ("linear"). The
    momentum goes from max_momentum to base_momentum at the peak and back. total_steps, or epochs times
    steps_per_epoch. ValueError for options out of range, and for a step beyond total_steps. [Smith & Topin
    2018]
    """

    def __init__(
        self,
        optimizer: Any,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        self.optimizer = checked(optimizer)
        if total_steps is not None:
            self.total_steps = _count("total_steps", total_steps)
        elif epochs is not None and steps_per_epoch is not None:
            self.total_steps = _count("epochs", epochs) * _count("steps_per_epoch", steps_per_epoch)
        else:
            raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}"
            )
        against = {"initial": "max_momentum", "max": "base_momentum", "min": "max_momentum"}
        self._schedule_phases: list[dict[str, Any]] = [
            {
                "end_step": float(end),
                "start_lr": f"{start}_lr",
                "end_lr": f"{stop}_lr",
                "start_momentum": against[start],
                "end_momentum": against[stop],
            }
            for end, start, stop in phases(self.total_steps, pct_start, three_phase)
        ]
        self._anneal_func_type = anneal_strategy
        max_lrs = per_group("max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for group, high in zip(optimizer.param_groups, max_lrs):
                group["initial_lr"], group["max_lr"] = high / div_factor, high
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._begin_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Rate]:
        """The learning rate on the leg that last_epoch lies in."""
        inside(self)
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"Tried to step {self.last_epoch} times. The specified number of total steps is "
                f"{self.total_steps}"
            )
        return self._on_the_leg("lr")

    def momenta(self) -> list[float]:
        return self._on_the_leg("momentum")

    def _on_the_leg(self, what: str) -> list[Rate]:
        k, x = leg(self.last_epoch, [phase["end_step"] for phase in self._schedule_phases])
        start, end = self._schedule_phases[k][f"start_{what}"], self._schedule_phases[k][f"end_{what}"]
        return [
            annealed(group[start], group[end], x, self._anneal_func_type)
            for group in self.optimizer.param_groups
        ]


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"Expected positive integer {name}, but got {value}")
    return value
