"""A small network and a closure over it, for the rules that call one several times a step."""

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
