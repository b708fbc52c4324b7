"""Layers, losses, initialisation: `from minigrad import nn`."""

from ..tensor import Parameter
from . import functional, init
from .activation import ReLU
from .containers import ModuleDict, ModuleList, ParameterList, Sequential
from .linear import Identity, Linear
from .loss import CrossEntropyLoss
from .module import Module
