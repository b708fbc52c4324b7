"""The tools of a training run: checkpoints and resuming, signals, accumulation, presets; when to stop, which
learning rate, what ails it, what to begin with.

    from minigrad.training import Checkpoints, Interrupt, accumulate, EarlyStopping, lr_find, Diagnosis

Each file is one tool; what it needs is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "checkpoints": "Checkpoints Found owned packed read restore state_of unpacked weights",
    "interrupt": "Interrupt",
    "accumulation": "accumulate endless windows",
    "presets": "PRESETS Preset optimizer_class optimizer_named taken",
    "guard": "Guard",
    "curves": "Curve draw",
    "stopping": "EarlyStopping GradientNormStop gradient_norm",
    "scaling": "linear_scaling",
    "finder": "Finding Snapshot Sweep lr_find sweep",
    "watching": "NaNWatch watch",
    "diagnosis": "Diagnosis Symptom",
    "recommendation": "Recommendation recommend",
}
_MODULE = {name: module for module, names in _PLACES.items() for name in names.split()}
__all__ = sorted(_MODULE)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
    globals()[name] = found  # also where a module has the name of what it holds
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE})
