"""Muon, Shampoo and SOAP in plain NumPy, from their papers and their authors' words.

The questions of tests/test_rules.py are asked of them in tests/test_matrix.py, of matrices and filters: Muon
takes no vectors, and roots of matrices are not equal to 1e-12 in float32 (CASES is empty, MATRIX has them).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from . import Case, case

CASES: list[Case] = []

JORDAN = (3.4445, -4.775, 2.0315)


def orthogonalized(x, coefficients, steps, eps, eps_added):
    """Newton-Schulz of one matrix, in its own type; wide matrices are the ones that it is written for."""
    a, b, c = coefficients
    if x.shape[0] > x.shape[1]:
        return orthogonalized(x.T, coefficients, steps, eps, eps_added).T
    norm = np.linalg.norm(x)
    x = x / (norm + eps if eps_added else max(norm, eps))
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


FACTORS = {
    None: lambda r, c: max(1, r / c) ** 0.5,
    "match_rms_adamw": lambda r, c: 0.2 * max(r, c) ** 0.5,
    "transposed": lambda r, c: max(1, c / r) ** 0.5,
    "none": lambda r, c: 1,
}


def muon(
    p, grads, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, ns_coefficients=JORDAN, eps=1e-7,
    ns_steps=5, adjust_lr_fn=None, bias_correction=False, eps_added=False, filters=False,
):  # fmt: skip
    """[Jordan 2024; the names and the order of torch.optim.Muon]"""
    if not p.size:
        return p
    r, c = p.shape[0], p[0].size
    buffer, t = np.zeros((r, c)), 0
    for g in grads:
        if g is None:
            continue
        g, t = g.reshape(r, c), t + 1
        buffer = buffer + (1 - momentum) * (g - buffer)
        old, new = (1 - momentum ** (t + k) if bias_correction else 1 for k in (0, 1))
        if nesterov:
            u = momentum * buffer / new + (1 - momentum) * g / old
        else:
            u = buffer / old
        o = orthogonalized(u, ns_coefficients, ns_steps, eps, eps_added)
        p = p * (1 - lr * weight_decay) - (lr * FACTORS[adjust_lr_fn](r, c) * o).reshape(p.shape)
    return p


def parts(shape, size):
    """The corners of blocks of at most `size` a dimension, one dimension after the other."""
    found = [()]
    for n in shape:
        count = 1 if size is None else max(-(-n // size), 1)
        edges = [n * k // count for k in range(count + 1)]
        found = [f + (slice(a, b),) for f in found for a, b in pairwise(edges)]
    return found


LETTERS = "abcdefgh"


def along(matrix, x, i):
    """x times a matrix along dimension i."""
    names = LETTERS[: x.ndim]
    return np.einsum(f"{names},z{names[i]}->{names.replace(names[i], 'z')}", x, matrix)


def outer(x, i):
    """The sum over all other dimensions of x x^T along dimension i."""
    names = LETTERS[: x.ndim]
    return np.einsum(f"{names},{names.replace(names[i], 'z')}->{names[i]}z", x, x)


def shampoo(
    p, grads, lr=1e-3, momentum=0.0, weight_decay=0.0, eps=1e-6, refresh_period=1, beta=1.0, block_size=512,
    grafting=None, betas=(0.9, 0.999), grafting_eps=1e-8, as_matrix=False, decoupled=True, double=False,
    maximize=False, exponent=None,
):  # fmt: skip
    """[Gupta 2018, Algorithm 2]; exponent: another root than -1/2k, to see that it is another rule."""
    start = p.shape
    flat = as_matrix and p.ndim > 1
    p = p.reshape((p.shape[0], int(np.prod(p.shape[1:]))) if flat else p.shape or (1,))
    k, t, buffer = p.ndim, 0, np.zeros_like(p)
    m, v, (beta1, beta2) = np.zeros_like(p), np.zeros_like(p), betas
    corners = parts(p.shape, block_size)
    sums = [[eps * np.eye(n) for n in p[where].shape] for where in corners]
    roots = [[None] * k for _ in corners]
    for g in grads:
        if g is None:
            continue
        g, t = (-g if maximize else g).reshape(p.shape), t + 1
        if not decoupled:
            g = g + weight_decay * p
        d = np.zeros_like(g)
        for where, mine, root in zip(corners, sums, roots, strict=True):
            part = g[where]
            for i in range(k):
                fresh = outer(g[where], i)
                if beta == 1:
                    mine[i] = mine[i] + fresh
                else:
                    mine[i] = beta * mine[i] + (1 - beta) * (fresh + eps * np.eye(len(fresh)))
                if (t - 1) % refresh_period == 0:
                    w, q = np.linalg.eigh(mine[i])
                    root[i] = q @ np.diag(np.maximum(w, eps) ** (exponent or -1 / (2 * k))) @ q.T
                part = along(root[i], part, i)
            d[where] = part
        if grafting:
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g * g
            with np.errstate(invalid="ignore", divide="ignore"):
                like = {
                    "sgd": g,
                    "rmsprop": g / (np.sqrt(v) + grafting_eps),
                    "adam": m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + grafting_eps),
                }[grafting]
            norm = np.sqrt((d**2).sum())
            d = d * (np.sqrt((like**2).sum()) / norm) if norm else d
        if momentum:
            buffer = momentum * buffer + d
            d = buffer
        p = (p * (1 - lr * weight_decay) if decoupled else p) - lr * d
    return p.reshape(start)


def soap(
    p, grads, lr=3e-3, betas=(0.95, 0.95), shampoo_beta=None, eps=1e-8, weight_decay=0.01,
    precondition_frequency=10, max_precondition_dim=10000, merge_dims=False, precondition_1d=False,
    normalize_grads=False, correct_bias=True, as_matrix=False, maximize=False, ahead=0, skip=True,
    own_gradient=False,
):  # fmt: skip
    """[Vyas 2024, Algorithm 3, and the order of the authors' code]

    Other rules: ahead=1 counts Adam's corrections one too far; skip=False steps at the first gradient too;
    own_gradient lets a gradient into the averages before its step.
    """
    start, (beta1, beta2), t = p.shape, betas, 0
    beta = beta2 if shampoo_beta is None else shampoo_beta
    shape = (p.shape[0], int(np.prod(p.shape[1:]))) if as_matrix and p.ndim > 1 else p.shape or (1,)
    if merge_dims and p.ndim > 1 and p.size:
        shape = joined(shape, max_precondition_dim)
    p = p.reshape(shape)
    m, v = np.zeros_like(p), np.zeros_like(p)
    dims = [i for i, n in enumerate(shape) if n <= max_precondition_dim and n and p.size]
    dims = dims if len(start) > 1 or precondition_1d else []
    averages, bases = {i: np.zeros((shape[i],) * 2) for i in dims}, {}

    def turn(x, into):
        for i in dims:
            x = along(bases[i].T if into else bases[i], x, i)
        return x

    def learn(g, s):
        nonlocal v
        for i in dims:
            averages[i] = averages[i] + (1 - beta) * (outer(g, i) - averages[i])
        if not bases:
            bases.update({i: np.linalg.eigh(averages[i])[1][:, ::-1] for i in dims})
        if s and s % precondition_frequency == 0:
            for i in dims:
                size = np.diag(bases[i].T @ averages[i] @ bases[i])
                order = np.argsort(-size)
                v = np.take(v, order, i)
                bases[i] = np.linalg.qr(averages[i] @ bases[i][:, order])[0]

    for g in grads:
        if g is None:
            continue
        g, t = (-g if maximize else g).reshape(shape), t + 1
        if t == 1:
            learn(g, 0)
            if skip:
                continue
        s = t - 1 if skip else t
        if own_gradient:
            learn(g, s)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * turn(g, True) ** 2
        rate = lr
        if correct_bias:
            rate = rate * (1 - beta2 ** (s + ahead)) ** 0.5 / (1 - beta1 ** (s + ahead))
        d = turn(turn(m, True) / (np.sqrt(v) + eps), False)
        if normalize_grads and d.size:
            d = d / (1e-30 + np.sqrt((d**2).mean()))
        p = p - rate * d
        p = p - lr * weight_decay * p
        if not own_gradient and (skip or t > 1):
            learn(g, s)
    return p.reshape(start)


def joined(shape, limit):
    """Neighbouring dimensions as one, while their product stays within a limit."""
    found = [1]
    for n in shape:
        found = [*found[:-1], found[-1] * n] if found[-1] * n <= limit else [*found, n]
    return tuple(n for n in found if n > 1) or (1,)


MATRIX = [
    case("Muon", muon, dict(lr=0.02)),
    case("Muon", muon, dict(lr=0.02, nesterov=False, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")),
    case("Muon", muon, dict(lr=0.02, filters=True, ns_steps=3, ns_coefficients=(2.0, -1.5, 0.5))),
    case("Muon", muon, dict(bias_correction=True, eps_added=True, eps=1e-8, adjust_lr_fn="transposed")),
    case("Muon", muon, dict(lr=0.02, nesterov=False, bias_correction=True, adjust_lr_fn="none")),
    case("Shampoo", shampoo, dict(lr=0.1), tolerance=1e-9),
    case("Shampoo", shampoo, dict(lr=0.1, weight_decay=0.1, decoupled=False, maximize=True), tolerance=1e-9),
    case(
        "Shampoo",
        shampoo,
        dict(lr=0.1, eps=1e-3, refresh_period=5, beta=0.9, momentum=0.9, weight_decay=0.1),
        tolerance=1e-9,
    ),
    case("Shampoo", shampoo, dict(lr=0.1, block_size=2, grafting="sgd", double=True), tolerance=1e-9),
    case("Shampoo", shampoo, dict(lr=0.01, grafting="rmsprop", as_matrix=True), tolerance=1e-9),
    case("Shampoo", shampoo, dict(lr=0.01, grafting="adam", refresh_period=3), tolerance=1e-9),
    case("SOAP", soap, dict(lr=0.03), tolerance=1e-9),
    case(
        "SOAP",
        soap,
        dict(lr=0.03, precondition_frequency=1, shampoo_beta=0.9, betas=(0.9, 0.99), as_matrix=True),
        tolerance=1e-9,
    ),
    case(
        "SOAP",
        soap,
        dict(lr=0.03, normalize_grads=True, correct_bias=False, precondition_frequency=3, maximize=True),
        tolerance=1e-9,
    ),
    case(
        "SOAP",
        soap,
        dict(lr=0.03, max_precondition_dim=6, merge_dims=True, precondition_frequency=2),
        tolerance=1e-9,
    ),
]
