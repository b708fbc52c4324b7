"""Gradient descent and what was built on it."""

import numpy as np

from . import case, together
from .libraries import kozistr, optax, torch


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


def sgdw(p, grads, lr=1e-3, weight_decay=0.0, fixed=False, rule=sgd, **options):
    """Decay outside the gradient: each step shrinks p first, and the gradient's step is as it would be."""
    where, seen = p, []
    for g in grads:
        if g is None:
            continue
        before = rule(np.zeros_like(p), seen, lr=lr, **options)
        seen.append(g)
        step = rule(np.zeros_like(p), seen, lr=lr, **options) - before  # the path without decay is a sum
        where = where - (1 if fixed else lr) * weight_decay * where + step
    return where


def average(p, grads, lr=1e-3, momentum=0.9, weight_decay=0.0):
    """[S1, 3.2]: v = beta v + (1 - beta) g;  theta = theta - alpha v, from v = 0."""
    v = np.zeros_like(p)
    for g in grads:
        if g is not None:
            v = momentum * v + (1 - momentum) * (g + weight_decay * p)
            p = p - lr * v
    return p


def velocity(p, grads, lr=1e-3, momentum=0.9, weight_decay=0.0):
    """[S2; S3]: v = gamma v + eta g;  theta = theta - v, from v = 0."""
    v = np.zeros_like(p)
    for g in grads:
        if g is not None:
            v = momentum * v + lr * (g + weight_decay * p)
            p = p - v
    return p


def bengio(p, grads, lr=1e-3, momentum=0.9):
    """[Bengio et al. 2013, eq. 7], v with the other sign: theta + beta^2 v_old - (1 + beta) eta g."""
    v = np.zeros_like(p)
    for g in grads:
        if g is not None:
            p = p + momentum**2 * v - (1 + momentum) * lr * g
            v = momentum * v - lr * g
    return p


def nag(p, grads, lr=1e-2, momentum=0.9, weight_decay=0.0, form="velocity"):
    """[S0; S2] with the gradients given: the penalty is the look-ahead point's."""
    v = np.zeros_like(p)
    for g in grads:
        if g is None:
            continue
        if form == "velocity":
            v = momentum * v + lr * (g + weight_decay * (p - momentum * v))
            p = p - v
        else:
            v = momentum * v + (g + weight_decay * (p - lr * momentum * v))
            p = p - lr * v
    return p


@together
def sgd_hd(params, grads, lr=1e-3, hypergrad_lr=1e-3, momentum=0.0, weight_decay=0.0, nesterov=False):
    """[Baydin et al. 2018, Algorithms 4 and 5]: alpha <- alpha - beta grad . du/dalpha, du/dalpha = -d."""
    v = [np.zeros_like(p) for p in params]
    last = [np.zeros_like(p) for p in params]
    for step in grads:
        with_gradient = [k for k, g in enumerate(step) if g is not None]
        d = {k: step[k] + weight_decay * params[k] for k in with_gradient}
        lr = lr - hypergrad_lr * sum(np.sum(d[k] * -last[k]) for k in with_gradient)
        for k in with_gradient:
            v[k] = momentum * v[k] + d[k]
            last[k] = d[k] + momentum * v[k] if nesterov else v[k]
            params[k] = params[k] - lr * last[k]
    return params


@together
def adam_hd(params, grads, lr=1e-3, hypergrad_lr=1e-7, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """[Baydin et al. 2018, Algorithm 6]"""
    m, v, last = ([np.zeros_like(p) for p in params] for _ in range(3))
    t, (b1, b2) = [0] * len(params), betas
    for step in grads:
        with_gradient = [k for k, g in enumerate(step) if g is not None]
        d = {k: step[k] + weight_decay * params[k] for k in with_gradient}
        lr = lr + hypergrad_lr * sum(np.sum(d[k] * last[k]) for k in with_gradient)
        for k in with_gradient:
            t[k] += 1
            m[k] = b1 * m[k] + (1 - b1) * d[k]
            v[k] = b2 * v[k] + (1 - b2) * d[k] ** 2
            last[k] = m[k] / (1 - b1 ** t[k]) / (np.sqrt(v[k] / (1 - b2 ** t[k])) + eps)
            params[k] = params[k] - lr * last[k]
    return params


WHOLE = dict(lr=0.01, momentum=0.9, dampening=0.3, weight_decay=0.1)

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
        dict(lr=0.01, momentum=0.9, nesterov=True),
        optax(lambda o: o.sgd(0.01, 0.9, nesterov=True)),
    ),
    case(
        "SGD",
        sgd,
        dict(lr=0.01, momentum=0.9, dampening=0.3, maximize=True),
        torch("SGD", lr=0.01, momentum=0.9, dampening=0.3, maximize=True),
    ),
    case(
        "SGD",
        average,
        dict(lr=0.01, momentum=0.9, form="average", weight_decay=0.1),
        optax(
            lambda o: o.chain(
                o.add_decayed_weights(0.1), o.ema(0.9, debias=False), o.scale_by_learning_rate(0.01)
            )
        ),
        options=dict(lr=0.01, momentum=0.9, weight_decay=0.1),
    ),
    case(
        "SGD",
        sgd,
        dict(lr=0.01, momentum=0.9, form="average", nesterov=True),
        options=dict(lr=0.001, momentum=0.9, nesterov=True),  # the heavy ball's with lr (1 - momentum)
    ),
    case(
        "SGD",
        velocity,
        dict(lr=0.01, momentum=0.9, form="velocity", weight_decay=0.1),
        torch("SGD", lr=0.01, momentum=0.9, weight_decay=0.1),  # the same while lr is constant
        options=dict(lr=0.01, momentum=0.9, weight_decay=0.1),
    ),
    case(
        "SGD",
        bengio,
        dict(lr=0.01, momentum=0.9, form="velocity", nesterov=True),
        torch("SGD", lr=0.01, momentum=0.9, nesterov=True),
        options=dict(lr=0.01, momentum=0.9),
    ),
    case(
        "SGD",
        sgdw,
        dict(lr=0.01, momentum=0.9, weight_decay=0.1, decoupled_weight_decay=True, nesterov=True),
        kozistr("SGDW", lr=0.01, momentum=0.9, weight_decay=0.1, nesterov=True),
        options=dict(lr=0.01, momentum=0.9, weight_decay=0.1, nesterov=True),
    ),
    case(
        "SGDW",
        sgdw,
        dict(lr=0.01),
        kozistr("SGDW", lr=0.01, weight_decay=0.01),
        optax(lambda o: o.chain(o.add_decayed_weights(0.01), o.scale_by_learning_rate(0.01))),
        options=dict(lr=0.01, weight_decay=0.01),
    ),
    case("SGDW", sgdw, WHOLE, kozistr("SGDW", **WHOLE)),
    case(
        "SGDW",
        sgdw,
        dict(lr=0.01, momentum=0.9, weight_decay=0.1, fixed_decay=True, form="velocity"),
        options=dict(lr=0.01, momentum=0.9, weight_decay=0.1, fixed=True, rule=velocity),
    ),
    case("NAG", nag, dict(lr=0.01, weight_decay=0.1)),
    case("NAG", nag, dict(lr=0.01, weight_decay=0.1, form="heavy_ball")),
    case("SGDHD", sgd_hd, dict(lr=0.01, hypergrad_lr=1e-9)),
    case("SGDHD", sgd_hd, dict(lr=0.01, hypergrad_lr=1e-9, momentum=0.9, weight_decay=0.1)),
    case("SGDHD", sgd_hd, dict(lr=0.01, hypergrad_lr=1e-9, momentum=0.9, nesterov=True)),
    case("AdamHD", adam_hd, dict(lr=0.01, hypergrad_lr=1e-7, weight_decay=0.1)),
    case(
        "MirrorDescent",
        sgd,
        dict(lr=0.01),
        torch("SGD", lr=0.01),
        optax(lambda o: o.sgd(0.01)),
    ),
]
