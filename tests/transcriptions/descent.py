"""Gradient descent and its momentum."""

from . import case
from .libraries import optax, torch


def sgd(p, grads, lr=1e-3, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0, maximize=False):
    """[Polyak 1964; Sutskever et al. 2013] as torch writes it: the first b is the gradient."""
    b = None
    for g in grads:
        if g is None:
            continue
        d = (-g if maximize else g) + weight_decay * p
        if momentum:
            b = d if b is None else momentum * b + (1 - dampening) * d
            d = d + momentum * b if nesterov else b
        p = p - lr * d
    return p


CASES = [
    case("SGD", sgd, dict(lr=0.01), torch("SGD", lr=0.01), optax(lambda o: o.sgd(0.01))),
    case(
        "SGD",
        sgd,
        dict(lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
        torch("SGD", lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    case("SGD", sgd, dict(lr=0.01, momentum=0.9), optax(lambda o: o.sgd(0.01, 0.9))),
    case(
        "SGD",
        sgd,
        dict(lr=0.01, momentum=0.9, dampening=0.3, maximize=True),
        torch("SGD", lr=0.01, momentum=0.9, dampening=0.3, maximize=True),
    ),
]
