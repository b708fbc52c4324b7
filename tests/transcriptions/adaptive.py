"""A step size for every parameter: ASGD, Rprop, Adagrad, Adadelta, RMSprop."""

import numpy as np

from . import case
from .libraries import optax, torch


def asgd(p, grads, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0.0, maximize=False):
    """As torch's: eta_1 = lr, then eta_{t+1} = lr / (1 + lambd lr t)^alpha. Its mean: test_adaptive.py."""
    eta, t = lr, 0
    for g in grads:
        if g is None:
            continue
        t += 1
        g = (-g if maximize else g) + weight_decay * p
        p = p - lambd * eta * p - eta * g
        eta = lr / (1 + lambd * lr * t) ** alpha
    return p


def rprop(p, grads, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50), maximize=False, backtrack=False):
    """[Igel & Huesken 2000, iRprop-]; with backtrack [Riedmiller & Braun 1993]: the last step is undone."""
    size, last, step = np.full_like(p, lr), np.zeros_like(p), np.zeros_like(p)
    for g in grads:
        if g is None:
            continue
        g = -g if maximize else g
        kept, changed = g * last > 0, g * last < 0
        size = np.clip(np.where(kept, size * etas[1], np.where(changed, size * etas[0], size)), *step_sizes)
        step = np.where(changed, -step if backtrack else 0.0, -np.sign(g) * size)
        last = np.where(changed, 0.0, g)
        p = p + step
    return p


def adagrad(
    p,
    grads,
    lr=1e-2,
    lr_decay=0.0,
    weight_decay=0.0,
    initial_accumulator_value=0.0,
    eps=1e-10,
    eps_in_sqrt=False,
    maximize=False,
):
    """[Duchi, Hazan & Singer 2011, Figure 1, diagonal]."""
    total, t = np.full_like(p, initial_accumulator_value), 0
    for g in grads:
        if g is None:
            continue
        t += 1
        g = (-g if maximize else g) + weight_decay * p
        total = total + g**2
        p = p - lr / (1 + (t - 1) * lr_decay) * g / root(total, eps, eps_in_sqrt)
    return p


def adadelta(p, grads, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0, maximize=False):
    """[Zeiler 2012, Algorithm 1]."""
    seen, moved = 0, 0
    for g in grads:
        if g is None:
            continue
        g = (-g if maximize else g) + weight_decay * p
        seen = rho * seen + (1 - rho) * g**2
        step = np.sqrt(moved + eps) / np.sqrt(seen + eps) * g
        moved = rho * moved + (1 - rho) * step**2
        p = p - lr * step
    return p


def rmsprop(
    p,
    grads,
    lr=1e-2,
    alpha=0.99,
    eps=1e-8,
    weight_decay=0.0,
    momentum=0.0,
    centered=False,
    eps_in_sqrt=False,
    maximize=False,
):
    """[Tieleman & Hinton 2012]; centered [Graves 2013]: the variance of g, not its mean square."""
    square, mean, b = 0, 0, 0
    for g in grads:
        if g is None:
            continue
        g = (-g if maximize else g) + weight_decay * p
        square = alpha * square + (1 - alpha) * g**2
        mean = alpha * mean + (1 - alpha) * g
        v = np.maximum(square - mean**2, 0) if centered else square
        b = momentum * b + g / root(v, eps, eps_in_sqrt)
        p = p - lr * b
    return p


def root(v, eps, eps_in_sqrt):
    return np.sqrt(v + eps) if eps_in_sqrt else np.sqrt(v) + eps


def same(rule, transcription, **given):
    """A case that torch has under the same name with the same options."""
    return case(rule, transcription, given, torch(rule, **given, wide=rule == "ASGD"))


BIG = dict(lr=0.01, eps=1e-2)  # an eps that shows where it stands
INSIDE = BIG | dict(eps_in_sqrt=True)

CASES = [
    case("ASGD", asgd, {}, torch("ASGD", 1e-6), torch("ASGD", wide=True)),  # its eta is float32
    same("ASGD", asgd, lr=0.05, lambd=0.1, alpha=0.6, t0=20, weight_decay=0.1),
    same("ASGD", asgd, lr=0.05, lambd=0.01, t0=0, maximize=True),
    same("Rprop", rprop),
    same("Rprop", rprop, lr=0.1, etas=(0.7, 1.5), step_sizes=(0.05, 0.3), maximize=True),
    same("Rprop", rprop, lr=100.0),  # the first step size is brought into the range
    same("Adagrad", adagrad),
    same("Adagrad", adagrad, **BIG),
    same("Adagrad", adagrad, **BIG, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.3),
    same("Adagrad", adagrad, lr=0.1, maximize=True),
    case("Adagrad", adagrad, INSIDE),
    case(
        "Adagrad",
        adagrad,
        dict(lr=0.1, eps=1e-7, eps_in_sqrt=True, initial_accumulator_value=0.1),
        optax(lambda o: o.adagrad(0.1)),
    ),
    case(
        "Adagrad",
        adagrad,
        INSIDE | dict(initial_accumulator_value=0.3),
        optax(lambda o: o.adagrad(0.01, initial_accumulator_value=0.3, eps=1e-2)),
    ),
    case("Adadelta", adadelta, {}, torch("Adadelta"), optax(lambda o: o.adadelta(1.0))),
    same("Adadelta", adadelta, lr=0.5, rho=0.95, eps=1e-2, weight_decay=0.1),
    same("Adadelta", adadelta, rho=0.0, maximize=True),
    same("Adadelta", adadelta, eps=1e-2),
    same("Adadelta", adadelta, eps=1e-2, rho=0.95),
    same("RMSprop", rmsprop),
    same("RMSprop", rmsprop, **BIG),
    same("RMSprop", rmsprop, **BIG, alpha=0.9),
    same("RMSprop", rmsprop, **BIG, centered=True),
    case("RMSprop", rmsprop, INSIDE),
    same("RMSprop", rmsprop, **BIG, weight_decay=0.1, momentum=0.9),
    same("RMSprop", rmsprop, **BIG, centered=True, maximize=True),
    same("RMSprop", rmsprop, lr=0.01, alpha=0.9, centered=True, momentum=0.5),
    case(
        "RMSprop",
        rmsprop,
        INSIDE | dict(alpha=0.9),
        optax(lambda o: o.rmsprop(0.01, decay=0.9, eps=1e-2)),
    ),
    case(
        "RMSprop",
        rmsprop,
        INSIDE | dict(alpha=0.9, centered=True, momentum=0.9),
        optax(lambda o: o.rmsprop(0.01, decay=0.9, eps=1e-2, centered=True, momentum=0.9)),
    ),
]
