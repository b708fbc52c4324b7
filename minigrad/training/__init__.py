"""The tools of a training run: checkpoints and resuming, signals, accumulation, presets; when to stop, which
learning rate, what ails it, what to begin with. Each file is one tool.

    from minigrad.training import Checkpoints, Interrupt, accumulate, EarlyStopping
"""

from .accumulation import accumulate, endless, windows
from .checkpoints import (
    Checkpoints,
    Found,
    at_rest,
    owned,
    packed,
    read,
    restore,
    state_of,
    unpacked,
    weights,
)
from .curves import Curve, draw
from .diagnosis import Diagnosis
from .finder import Finding, Sweep, lr_find, sweep
from .guard import Guard
from .interrupt import Interrupt
from .plateau import Plateau
from .presets import NUMBERS, PRESETS, Preset, chain, optimizer_named, taken
from .progress import HOPELESS, Progress
from .recommendation import Recommendation, ask, recommend
from .scaling import linear_scaling
from .snapshot import Snapshot
from .stopping import EarlyStopping, GradientNormStop, gradient_norm
from .symptoms import Symptom
from .watching import NaNWatch, watch

__all__ = [
    "Checkpoints",
    "Found",
    "read",
    "weights",
    "restore",
    "state_of",
    "at_rest",
    "owned",
    "packed",
    "unpacked",
    "Guard",
    "HOPELESS",
    "Progress",
    "Interrupt",
    "accumulate",
    "windows",
    "endless",
    "Curve",
    "draw",
    "NUMBERS",
    "PRESETS",
    "Preset",
    "optimizer_named",
    "chain",
    "taken",
    "EarlyStopping",
    "Plateau",
    "GradientNormStop",
    "gradient_norm",
    "linear_scaling",
    "Finding",
    "Snapshot",
    "Sweep",
    "lr_find",
    "sweep",
    "Recommendation",
    "ask",
    "recommend",
    "Diagnosis",
    "Symptom",
    "NaNWatch",
    "watch",
]
