"""Models, one file each, and what train.py trains them on (tasks.py, configuration.py): users of minigrad."""

from .cnn import ResNet9, SmallCNN
from .mlp import MLP
from .transformer import GPT, GPTConfig

__minigrad__ = True  # tells minigrad that this `models` is its own
__all__ = ["GPT", "MLP", "GPTConfig", "ResNet9", "SmallCNN"]
