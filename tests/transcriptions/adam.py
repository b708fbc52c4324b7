"""Adam and its kin."""

import numpy as np

from . import case
from .libraries import optax, torch


def adam(p, grads, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, decoupled=False):
    """[Kingma & Ba 2015, Algorithm 1]; amsgrad as torch: of raw v; decoupled: AdamW."""
    (b1, b2), m, v, most, t = betas, 0, 0, 0, 0
    for g in grads:
        if g is None:
            continue
        t += 1
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        most = np.maximum(most, v)
        v_hat = (most if amsgrad else v) / (1 - b2**t)
        p = p - lr * (m / (1 - b1**t)) / (np.sqrt(v_hat) + eps)
    return p


CASES = [
    case("Adam", adam, dict(lr=0.01), torch("Adam", lr=0.01), optax(lambda o: o.adam(0.01))),
    case("Adam", adam, dict(lr=0.01, weight_decay=0.1, amsgrad=True)),
    case(
        "Adam",
        lambda p, gs, **o: adam(p, [None if g is None else -g for g in gs], **o),
        dict(lr=0.01, betas=(0.5, 0.9), maximize=True),
        torch("Adam", lr=0.01, betas=(0.5, 0.9), maximize=True),
        options=dict(lr=0.01, betas=(0.5, 0.9)),
    ),
    case(
        "AdamW",
        adam,
        dict(lr=0.01, weight_decay=0.1),
        torch("AdamW", lr=0.01, weight_decay=0.1),
        optax(lambda o: o.adamw(0.01, weight_decay=0.1)),
        options=dict(lr=0.01, weight_decay=0.1, decoupled=True),
    ),
]
