"""A step size for every layer: LARS, LAMB, Adafactor."""

import numpy as np

from . import Library, case
from .libraries import kozistr, optax, torch, wrapped


def norm(x):
    return float(np.sqrt(np.sum(np.square(x))))


def lars(
    p,
    grads,
    lr=1.0,
    momentum=0.9,
    weight_decay=5e-4,
    trust_coefficient=1e-3,
    nesterov=False,
    maximize=False,
    decay_in_norm=False,
    exclude_1d=False,
):
    """[You, Gitman & Ginsburg 2017, Algorithm 1]; the rate is 1 where the paper's would be 0/0 or stay 0."""
    v, free = 0, exclude_1d and np.ndim(p) < 2
    decay = 0 if free else weight_decay
    for g in grads:
        if g is None:
            continue
        g = -g if maximize else g
        by = norm(g + decay * p) if decay_in_norm else norm(g) + decay * norm(p)
        rate = 1 if free or norm(p) == 0 or by == 0 else trust_coefficient * norm(p) / by
        step = lr * rate * (g + decay * p)
        v = momentum * v + step
        p = p - (step + momentum * v if nesterov else v)
    return p


def lamb(
    p,
    grads,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-6,
    weight_decay=0.01,
    clamp=None,
    bias_correction=True,
    exclude_1d=False,
    maximize=False,
):
    """[You et al. 2019, Algorithm 2]: phi the identity, or clamped; the ratio is 1 where a norm is zero."""
    (b1, b2), m, v, t = betas, 0, 0, 0
    free = exclude_1d and np.ndim(p) < 2
    for g in grads:
        if g is None:
            continue
        g, t = -g if maximize else g, t + 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        c1, c2 = (1 - b1**t, 1 - b2**t) if bias_correction else (1, 1)
        r = (m / c1) / (np.sqrt(v / c2) + eps) + (0 if free else weight_decay) * p
        phi = norm(p) if clamp is None else min(max(norm(p), clamp[0]), clamp[1])
        ratio = 1 if free or phi == 0 or norm(r) == 0 else phi / norm(r)
        p = p - lr * ratio * r
    return p


def adafactor(
    p,
    grads,
    lr=1e-2,
    beta2_decay=-0.8,
    eps=(None, 1e-3),
    d=1.0,
    weight_decay=0.0,
    maximize=False,
    eps_inside=False,
    min_dim_size_to_factor=1,
):
    """[Shazeer & Stern 2018, Algorithms 4 and 5], relative steps; eps1 within g^2, or torch's floor."""
    eps1 = np.finfo(np.float64).eps if eps[0] is None else eps[0]
    added, floor = (eps1, 0) if eps_inside else (0, eps1)
    factored = np.ndim(p) > 1 and min(np.shape(p)[-2:]) >= min_dim_size_to_factor
    rows = columns = second = t = 0
    for g in grads:
        if g is None or not g.size:
            continue
        g, t = -g if maximize else g, t + 1
        b = 1 - t**beta2_decay
        if factored:
            rows = b * rows + (1 - b) * (np.mean(g**2, axis=-1, keepdims=True) + added)
            columns = b * columns + (1 - b) * (np.mean(g**2, axis=-2, keepdims=True) + added)
            v = rows * columns / np.maximum(rows.mean(axis=-2, keepdims=True), floor)
        else:
            v = second = b * second + (1 - b) * (g**2 + added)
        u = g / np.maximum(np.sqrt(v), floor)
        u = u / max(1, np.sqrt(np.mean(u**2)) / d)
        alpha = max(eps[1], np.sqrt(np.mean(p**2))) * min(lr, 1 / np.sqrt(t))
        p = (1 - lr * weight_decay) * p - alpha * u
    return p


def lookahead(p, grads, lr=0.1, momentum=0.0, k=5, alpha=0.5, pullback_momentum="none"):
    """[Zhang et al. 2019, Algorithm 1] around SGD with momentum; k counts all steps."""
    slow, m, slow_m, moved = p, 0, 0, False
    for t, g in enumerate(grads, 1):
        if g is not None:
            moved = True
            m = momentum * m + g
            p = p - lr * m
        if t % k == 0 and moved:
            p = slow = slow + alpha * (p - slow)
            if pullback_momentum == "reset":
                m = 0
            if pullback_momentum == "pullback":
                m = slow_m = slow_m + alpha * (m - slow_m)
    return p


def sam_of_a_constant_gradient(p, grads, lr=0.1, momentum=0.0):
    """A gradient that is the same everywhere is that of the worst point, too."""
    m = 0
    for g in grads:
        if g is not None:
            m = momentum * m + g
            p = p - lr * m
    return p


def kozistr_lookahead(**options):
    def make(torch, lib, params):
        return lib.Lookahead(torch.optim.SGD(params, lr=0.01, momentum=0.9, foreach=False), **options)

    return wrapped("pytorch_optimizer", make)


def without_empty(library):
    """The library without parameters of no elements: torch.optim.Adafactor divides by their number."""

    def run(start, grads):
        full = [k for k, p in enumerate(start) if p.size]
        found = dict(zip(full, library.run([start[k] for k in full], [[g[k] for k in full] for g in grads])))
        return [found.get(k, p) for k, p in enumerate(start)]

    return Library(library.name, run, library.tolerance)


CASES = [
    case(
        "LARS",
        lars,
        dict(lr=2.0, trust_coefficient=0.01, exclude_1d=True, weight_decay=0.05),
        kozistr("LARS", lr=2.0, trust_coefficient=0.01, weight_decay=0.05),
    ),
    case("LARS", lars, dict(lr=2.0, trust_coefficient=0.01, weight_decay=0.05)),
    case(
        "LARS",
        lars,
        dict(lr=2.0, nesterov=True, weight_decay=0.05, decay_in_norm=True, trust_coefficient=0.01),
        optax(lambda o: o.lars(2.0, 0.05, trust_coefficient=0.01, nesterov=True)),
    ),
    case(
        "LARS",
        lars,
        dict(lr=2.0, momentum=0, weight_decay=0.0, trust_coefficient=0.01, maximize=True),
        optax(lambda o: o.chain(o.scale(-1.0), o.lars(2.0, 0.0, trust_coefficient=0.01, momentum=0.0))),
    ),
    case("LAMB", lamb, dict(lr=0.01, weight_decay=0.1), optax(lambda o: o.lamb(0.01, weight_decay=0.1))),
    case("LAMB", lamb, dict(lr=0.01, weight_decay=0.1, clamp=(0.5, 2.0), exclude_1d=True)),
    case("LAMB", lamb, dict(lr=0.01, betas=(0.5, 0.9), bias_correction=False, maximize=True)),
    case("Adafactor", adafactor, dict(lr=0.05), without_empty(torch("Adafactor", lr=0.05))),
    case(
        "Adafactor",
        adafactor,
        dict(lr=0.3, weight_decay=0.1, d=1.5, maximize=True, beta2_decay=-0.6, eps=(1e-3, 0.1)),
        without_empty(
            torch(
                "Adafactor",
                lr=0.3,
                weight_decay=0.1,
                d=1.5,
                maximize=True,
                beta2_decay=-0.6,
                eps=(1e-3, 0.1),
            )
        ),
    ),
    case(
        "Adafactor",
        adafactor,
        dict(lr=1e-4, eps=(1e-30, 1e-3), eps_inside=True),
        optax(lambda o: o.adafactor(1e-4, min_dim_size_to_factor=1), 4.4e-10),  # its beta2 is a float32
    ),
    case(
        "Adafactor",
        adafactor,
        dict(lr=1e-4, eps=(1e-30, 1e-3), eps_inside=True, min_dim_size_to_factor=4),
        optax(lambda o: o.adafactor(1e-4, min_dim_size_to_factor=4), 4.4e-10),
    ),
    case(
        "Lookahead",
        lookahead,
        dict(lr=0.01, momentum=0.9, k=5, alpha=0.5),
        kozistr_lookahead(k=5, alpha=0.5),
    ),
    case(
        "Lookahead",
        lookahead,
        dict(lr=0.01, momentum=0.9, k=3, alpha=0.8, pullback_momentum="reset"),
        kozistr_lookahead(k=3, alpha=0.8, pullback_momentum="reset"),
    ),
    case(
        "Lookahead",
        lookahead,
        dict(lr=0.01, momentum=0.9, k=4, alpha=0.3, pullback_momentum="pullback"),
        kozistr_lookahead(k=4, alpha=0.3, pullback_momentum="pullback"),
    ),
    case(
        "SAM",
        sam_of_a_constant_gradient,
        dict(lr=0.01, momentum=0.9, rho=0.1),
        options=dict(lr=0.01, momentum=0.9),
    ),
    case(
        "SAM",
        sam_of_a_constant_gradient,
        dict(lr=0.01, momentum=0.0, rho=0.1, adaptive=True),
        options=dict(lr=0.01, momentum=0.0),
    ),
]
