"""Optimizers, with PyTorch's names, arguments and defaults where PyTorch has the rule.

`zoo` is the registry: a Record of each rule by name, in historical order;
`python -m minigrad.optim` prints it.
"""

from . import lr_scheduler, swa_utils
from .adam import Adam, AdamW, AMSGrad
from .adan import Adan
from .ademamix import AdEMAMix
from .groups import param_groups
from .lamb import LAMB
from .lars import LARS
from .lion import Lion
from .nesterov import NAG
from .optimizer import Optimizer
from .record import registry
from .schedule_free import AdamWScheduleFree, SGDScheduleFree
from .sgd import SGD, SGDW

__all__ = [
    "AdEMAMix",
    "Adam",
    "AdamW",
    "AdamWScheduleFree",
    "Adan",
    "LAMB",
    "LARS",
    "Lion",
    "NAG",
    "Optimizer",
    "SGD",
    "SGDScheduleFree",
    "SGDW",
    "lr_scheduler",
    "param_groups",
    "swa_utils",
    "zoo",
]

zoo = registry(globals())
