"""Optimizers, with PyTorch's names, arguments and defaults where PyTorch has the rule."""

from .adam import Adam, AdamW
from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
