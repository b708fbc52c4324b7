"""Models: plain users of minigrad, one file each."""

from .mlp import MLP

__minigrad__ = True  # tells minigrad that this `models` is its own
__all__ = ["MLP"]
