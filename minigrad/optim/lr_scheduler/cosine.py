"""Cosine schedulers: down to eta_min and up again, or down and restarted."""

from __future__ import annotations

from math import cos, floor, pi
from typing import Any

from ..schedule.cycle import restart
from .base import LRScheduler, Rate, inside, values


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr_0 - eta_min) (1 + cos(pi t / T_max)) / 2, for every t: after T_max it climbs again.

    As PyTorch's: at t = 99 of T_max = 50 it is back at 0.9991 lr_0. The pure function schedule.cosine stays
    at the floor. The recursion is lr - eta_min in proportion to 1 + cos; at its zeros, it starts from
    base_lrs. ValueError for T_max = 0. [Loshchilov & Hutter 2017, eq. 5]
    """

    def __init__(self, optimizer: Any, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        if T_max == 0:
            raise ValueError("CosineAnnealingLR: T_max is 0; it is the number of epochs from lr to eta_min")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Rate]:
        """eta_min + (lr - eta_min) (1 + cos at t) / (1 + cos at t - 1)"""
        inside(self)
        t, T, low = self.last_epoch, self.T_max, self.eta_min
        if self._is_initial:
            return values(self.optimizer, "lr")
        lrs = [group["lr"] for group in self.optimizer.param_groups]
        if (t - 1 - T) % (2 * T) == 0:  # one past the bottom
            rise = (1 - cos(pi / T)) / 2
            return [lr + (base - low) * rise for lr, base in zip(lrs, self.base_lrs)]
        ratio = (1 + cos(pi * t / T)) / (1 + cos(pi * (t - 1) / T))
        return [ratio * (lr - low) + low for lr in lrs]

    def _get_closed_form_lr(self) -> list[Rate]:
        height = (1 + cos(pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """eta_min + (lr_0 - eta_min) (1 + cos(pi T_cur / T_i)) / 2; T_cur counts from the last restart.

    The first cycle has T_0 epochs, each further one T_mult times as many. step(epoch) takes fractions, as
    epoch + i / batches; step() goes on by 1. ValueError unless T_0 > 0 and T_mult >= 1 are integers, and for
    a negative epoch. PyTorch finds the cycle of step(epoch), and of a last_epoch, by a logarithm, or not at
    all, and so may be in the one before; here both are where step() is. [Loshchilov & Hutter 2017]
    """

    def __init__(self, optimizer: Any, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1):
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        if not isinstance(eta_min, (float, int)):
            raise ValueError(f"Expected float or int eta_min, but got {eta_min} of type {type(eta_min)}")
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        self.T_i: float = T_0
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Rate]:
        """The cosine at T_cur of T_i."""
        inside(self)
        height = (1 + cos(pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """To the next epoch, or to `epoch`, which may be a fraction."""
        if epoch is not None or self._is_initial:
            epoch = self.last_epoch + 1 if epoch is None else epoch
            if epoch < 0:
                raise ValueError(f"Expected non-negative epoch, but got {epoch}")
            self.T_cur, self.T_i = restart(epoch, self.T_0, self.T_mult)
        else:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        self._update_lr(floor(epoch))

    def _restart(self) -> None:
        self.T_cur, self.T_i = 0, self.T_0
        super()._restart()
