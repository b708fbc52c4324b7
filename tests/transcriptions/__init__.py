"""Every rule written down a second time, from its paper, in plain NumPy; and the libraries that agree.

    CASES    all cases of the modules here: a rule, its options, the transcription, the libraries
    case     makes one:   case("Adagrad", adagrad, dict(lr=0.1), torch("Adagrad", lr=0.1), lr=0.1)

A transcription is written from the paper and not from the kernel. It takes (p, grads, **options), one array
and its gradients in order (None where there is none), and returns the array after them; `together` marks
one that takes all parameters at once, because they depend on each other.

A module here is one family. tests/test_rules.py drives the cases; what a family needs besides (closures,
curvature, forms known to be wrong) it tests in its own file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import optim

Arrays = list[np.ndarray]
Grads = list[list[np.ndarray | None]]


@dataclass(frozen=True)
class Library:
    """A library's result for the same parameters and gradients, and how far it may be from ours."""

    name: str
    run: Callable[[Arrays, Grads], Arrays]
    tolerance: float = 1e-12


@dataclass(frozen=True)
class Case:
    """A rule with options, its transcription, and the libraries that do the same."""

    rule: str
    options: dict[str, Any]
    paper: Callable[[Arrays, Grads], Arrays]
    libraries: tuple[Library, ...] = ()
    signs: bool = (
        False  # float32 may take the other side where the argument of a sign is within rounding of 0
    )
    tolerance: float = 1e-12  # of the transcription in float64
    single: Callable[[Arrays, Grads], Arrays] | None = None  # what float32 is measured by, if not the paper

    def __str__(self) -> str:
        options = " ".join(f"{k}={v}".replace(" ", "") for k, v in self.options.items())
        return f"{self.rule} {options}".strip()

    def make(self, params: Any) -> optim.Optimizer:
        """Our optimizer of this case."""
        return optim.zoo[self.rule].make(params, **self.options)


def together(transcription: Callable) -> Callable:
    """Marks a transcription of all parameters: (params, grads by step, **options) -> params."""
    transcription.together = True
    return transcription


def case(
    rule: str,
    transcription: Callable,
    given: dict[str, Any],
    *libraries: Library,
    options: dict[str, Any] | None = None,
    signs: bool = False,
    tolerance: float = 1e-12,
    single: dict[str, Any] | None = None,
) -> Case:
    """The case of `rule` with options `given`; the transcription is called with `options`, or the same.

    single: further options of the transcription for the comparison in float32. Prodigy subtracts parameters
    from where they began, so what storing them in float32 takes away is of the size of what it measures: the
    transcription then rounds the parameters, and nothing else.
    """
    told = given if options is None else options

    def paper(params: Arrays, grads: Grads, **more: Any) -> Arrays:
        if getattr(transcription, "together", False):
            return transcription([p.copy() for p in params], grads, **told, **more)
        return [transcription(p.copy(), [g[k] for g in grads], **told, **more) for k, p in enumerate(params)]

    measure = None if single is None else lambda params, grads: paper(params, grads, **single)
    return Case(rule, given, paper, libraries, signs, tolerance, measure)


def all_cases() -> list[Case]:
    """The cases of every module here, in the order of their names."""
    found = []
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "libraries"):
        found += importlib.import_module(f"{__name__}.{module}").CASES
    return found
