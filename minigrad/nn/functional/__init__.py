"""Layers and losses as functions: `import minigrad.nn.functional as F`."""

from .activation import log_softmax, relu
from .linear import linear
from .loss import cross_entropy, nll_loss
