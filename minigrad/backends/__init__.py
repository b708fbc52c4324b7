"""Libraries that serve an operation where they are switched on, with the names of torch.backends."""

from . import cudnn

__all__ = ["cudnn"]
