"""Learning-rate schedulers with PyTorch's names, arguments and defaults: they write lr into param_groups.

    scheduler = StepLR(optimizer, step_size=30)
    for epoch in range(90):
        ...                                # optimizer.step()
        scheduler.step()

A scheduler counts its own calls in last_epoch, and has a state. A pure function of the step, as
optim/schedule holds them, needs neither; the formulas here are those. What is kept in a file:

    base.py      LRScheduler: the count, initial_lr, the state, the warnings
    factor.py    lr times a factor: LambdaLR, MultiplicativeLR, StepLR, MultiStepLR, ConstantLR, LinearLR,
                 ExponentialLR, PolynomialLR
    cosine.py    CosineAnnealingLR, CosineAnnealingWarmRestarts
    cycle.py     CyclicLR, OneCycleLR, with momentum
    plateau.py   ReduceLROnPlateau
    compose.py   SequentialLR, ChainedScheduler
"""

from .base import EPOCH_DEPRECATION_WARNING, LRScheduler, _LRScheduler
from .compose import ChainedScheduler, SequentialLR
from .cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from .cycle import CyclicLR, OneCycleLR
from .factor import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from .plateau import ReduceLROnPlateau

__all__ = [
    "LambdaLR",
    "MultiplicativeLR",
    "StepLR",
    "MultiStepLR",
    "ConstantLR",
    "LinearLR",
    "ExponentialLR",
    "SequentialLR",
    "CosineAnnealingLR",
    "ChainedScheduler",
    "ReduceLROnPlateau",
    "CyclicLR",
    "CosineAnnealingWarmRestarts",
    "OneCycleLR",
    "PolynomialLR",
    "LRScheduler",
]
