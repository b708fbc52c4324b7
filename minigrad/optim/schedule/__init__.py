"""Learning-rate schedules: pure functions of the number of completed optimizer steps, from 0.

A schedule is made once and called with the step: `cosine(1e-3, 1000)(0) == 1e-3`. It has no state, so a
resumed run asks the same question and gets the same answer, and a step that was skipped advances nothing.
t may be a fraction. These files import nothing but mathematics; the classes with PyTorch's names stand in
optim/lr_scheduler and use the same formulas.

    decay.py   constant, step, multi_step, piecewise, exponential, inverse_time, robbins_monro, inverse_sqrt,
               noam, polynomial, linear, cosine, half_cosine
    warm.py    warmup, warmup_constant, warmup_linear, warmup_cosine, join, per_epoch
    cycle.py   cyclical, one_cycle, with their momenta, warm_restarts
    named.py   named("cosine", lr, steps, warm=, floor=): all of them with the same arguments, by SCHEDULES;
               `chained` and `sequential` are made of others

    python -m minigrad.optim.schedule --plot cosine        draws one
"""

from .cycle import cyclical, cyclical_momentum, one_cycle, one_cycle_momentum, warm_restarts
from .decay import (
    Schedule,
    at_least,
    constant,
    cosine,
    exponential,
    half_cosine,
    inverse_sqrt,
    inverse_time,
    linear,
    multi_step,
    noam,
    piecewise,
    polynomial,
    robbins_monro,
    step,
)
from .named import SCHEDULES, Shape, named
from .warm import join, per_epoch, warmup, warmup_constant, warmup_cosine, warmup_linear

__all__ = [
    "SCHEDULES",
    "Schedule",
    "Shape",
    "named",
    "constant",
    "step",
    "multi_step",
    "piecewise",
    "exponential",
    "inverse_time",
    "robbins_monro",
    "inverse_sqrt",
    "noam",
    "polynomial",
    "linear",
    "cosine",
    "half_cosine",
    "at_least",
    "warmup",
    "warmup_constant",
    "warmup_linear",
    "warmup_cosine",
    "join",
    "per_epoch",
    "cyclical",
    "cyclical_momentum",
    "one_cycle",
    "one_cycle_momentum",
    "warm_restarts",
]
