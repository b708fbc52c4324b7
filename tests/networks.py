"""Small networks: one with a closure over it, for the rules that call one several times a step; and one of
all kinds of parts, in any library that has PyTorch's names."""

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F


def network(seed=0):
    mg.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def problem(model, optimizer):
    """Three numbers in, one out: the mean squared error, and its gradient."""
    rng = np.random.default_rng(0)
    x, y = mg.tensor(rng.normal(size=(40, 3))), mg.tensor(rng.normal(size=(40, 1)))

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        return loss

    return closure


def net_of(lib):
    """Two layers, a parameter of its own, a buffer that is saved and one that is not."""
    m = lib.nn

    class Net(m.Module):
        def __init__(self):
            super().__init__()
            self.scale = m.Parameter(lib.ones(3))
            self.first = m.Linear(4, 3)
            self.second = m.Sequential(m.ReLU(), m.Linear(3, 2, bias=False))
            self.register_buffer("mean", lib.zeros(2))
            self.register_buffer("scratch", lib.zeros(1), persistent=False)
            self.register_parameter("absent", None)

        def forward(self, x):
            return self.second(self.first(x) * self.scale) + self.mean

    return Net


Net = net_of(mg)
Net.__qualname__ = "Net"  # where pickle looks for it
