"""Optimizers, with PyTorch's names, arguments and defaults where PyTorch has the rule.

`zoo` is the registry: a Record of each rule by name, in historical order;
`python -m minigrad.optim` prints it.
"""

from . import swa_utils
from .adam import Adam, AdamW
from .groups import param_groups
from .optimizer import Optimizer
from .record import registry
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "param_groups", "swa_utils", "zoo"]

zoo = registry(globals())
