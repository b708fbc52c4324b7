"""What came after Adam. (Sophia needs curvature: tests/test_sophia.py.)"""

from math import exp, log

import numpy as np

from . import case, together
from .libraries import kozistr, optax, package


def negated(transcription):
    """The transcription of the negative gradients: maximize."""
    return lambda p, gs, **o: transcription(p, [None if g is None else -g for g in gs], **o)


def lion(p, grads, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
    """[Chen et al. 2023, Algorithm 2]"""
    (b1, b2), m = betas, np.zeros_like(p)
    for g in grads:
        if g is None:
            continue
        c = b1 * m + (1 - b1) * g
        p = p - lr * (np.sign(c) + weight_decay * p)
        m = b2 * m + (1 - b2) * g
    return p


def adan(p, grads, lr=1e-3, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0, no_prox=False):
    """[Xie et al. 2022, Algorithm 1] in the paper's betas, 1 - ours; bias corrected as the authors do."""
    b1, b2, b3 = (1 - b for b in betas)
    m, v, n, last, k = 0, 0, 0, None, 0
    for g in grads:
        if g is None:
            continue
        k += 1
        diff = 0 * g if last is None else g - last
        m = (1 - b1) * m + b1 * g
        v = (1 - b2) * v + b2 * diff
        n = (1 - b3) * n + b3 * (g + (1 - b2) * diff) ** 2
        eta = lr / (np.sqrt(n / (1 - (1 - b3) ** k)) + eps)
        step = eta * (m / (1 - (1 - b1) ** k) + (1 - b2) * v / (1 - (1 - b2) ** k))
        p = p * (1 - lr * weight_decay) - step if no_prox else (p - step) / (1 + lr * weight_decay)
        last = g
    return p


def ademamix(
    p,
    grads,
    lr=1e-3,
    betas=(0.9, 0.999, 0.9999),
    alpha=5.0,
    beta3_warmup=None,
    alpha_warmup=None,
    eps=1e-8,
    weight_decay=0.0,
):
    """[Pagliardini et al. 2024, Algorithm 1, with its schedules f_alpha and f_beta3]"""
    (b1, b2, b3), m1, m2, v, t = betas, 0, 0, 0, 0
    for g in grads:
        if g is None:
            continue
        t += 1
        a, b = alpha, b3
        if alpha_warmup is not None:
            a = min(t * alpha / alpha_warmup, alpha)
        if beta3_warmup is not None and t < beta3_warmup:
            share = t / beta3_warmup
            b = min(exp(log(b1) * log(b3) / ((1 - share) * log(b3) + share * log(b1))), b3)
        m1 = b1 * m1 + (1 - b1) * g
        m2 = b * m2 + (1 - b) * g
        v = b2 * v + (1 - b2) * g**2
        u = (m1 / (1 - b1**t) + a * m2) / (np.sqrt(v / (1 - b2**t)) + eps)
        p = p - lr * (u + weight_decay * p)
    return p


def schedule_free(
    p,
    grads,
    lr=None,
    beta=0.9,
    beta2=None,
    eps=1e-8,
    weight_decay=0.0,
    warmup_steps=0,
    r=0.0,
    weight_lr_power=2.0,
    average=False,
):
    """[Defazio et al. 2024, eq. 1-3; with beta2 Algorithm 1], x, y and z one by one; gives y or x."""
    x, z, v, total, largest, t = p, p, 0, 0, 0, 0
    y = (1 - beta) * z + beta * x
    for g in grads:
        if g is None:
            continue
        t += 1
        rate = lr * min(1, t / warmup_steps) if warmup_steps else lr
        if beta2 is not None:
            v = beta2 * v + (1 - beta2) * g**2
            g = g / (np.sqrt(v / (1 - beta2**t)) + eps)
        largest = max(largest, rate)
        weight = t**r * largest**weight_lr_power
        total += weight
        z = z - rate * (g + weight_decay * y)
        x = (1 - weight / total) * x + weight / total * z
        y = (1 - beta) * z + beta * x
    return x if average else y


@together
def prodigy(
    params,
    grads,
    lr=1.0,
    betas=(0.9, 0.999),
    beta3=None,
    eps=1e-8,
    weight_decay=0.0,
    decouple=True,
    use_bias_correction=False,
    safeguard_warmup=False,
    d0=1e-6,
    d_coef=1.0,
    growth_rate=np.inf,
    slice_p=1,
    stored=lambda p: p,
):
    """[Mishchenko & Defazio 2024, Algorithm 4], d^2 over d0, with the options of the authors' program."""
    (b1, b2), d, d_max, r, k = betas, d0, d0, 0.0, 0
    b3 = b2**0.5 if beta3 is None else beta3
    starts = [p.copy() for p in params]
    m, v, s = ([np.zeros_like(p) for p in params] for _ in range(3))
    for step in grads:
        rate = d * lr
        if use_bias_correction:
            rate *= (1 - b2 ** (k + 1)) ** 0.5 / (1 - b1 ** (k + 1))
        r, under, live = b3 * r, 0.0, [i for i, g in enumerate(step) if g is not None]
        step = [g if g is None or decouple else g + weight_decay * p for p, g in zip(params, step)]
        for i in live:
            p, g = params[i], step[i]
            m[i] = b1 * m[i] + (1 - b1) * d * g
            v[i] = b2 * v[i] + (1 - b2) * d**2 * g**2
            asked = (np.arange(p.size) % slice_p == 0).reshape(p.shape)
            r += d / d0 * rate * np.sum(asked * g * (starts[i] - p))
            s[i] = b3 * s[i] + d / d0 * (d if safeguard_warmup else rate) * asked * g
            under += np.abs(s[i]).sum()
        if under == 0:
            continue
        d_hat = d_coef * r / under
        if d == d0:
            d = max(d, d_hat)
        d_max = max(d_max, d_hat)
        d = min(d_max, d * growth_rate)
        for i in live:
            if decouple:
                params[i] = params[i] - rate * weight_decay * params[i]
            params[i] = stored(params[i] - rate * m[i] / (np.sqrt(v[i]) + d * eps))
        k += 1
    return params


def single(p):
    """As float32 stores it."""
    return p.astype(np.float32).astype(np.float64)


WARM = dict(lr=0.01, betas=(0.9, 0.95, 0.999), alpha=4.0, weight_decay=0.1)

CASES = [
    case("Lion", lion, dict(lr=0.01), optax(lambda o: o.lion(0.01, weight_decay=0.0)), signs=True),
    case(
        "Lion",
        lion,
        dict(lr=0.003, betas=(0.8, 0.95), weight_decay=0.3),
        optax(lambda o: o.lion(0.003, 0.8, 0.95, weight_decay=0.3)),
        kozistr("Lion", lr=0.003, betas=(0.8, 0.95), weight_decay=0.3),
        signs=True,
    ),
    case(
        "Lion",
        negated(lion),
        dict(maximize=True),
        kozistr("Lion", lr=1e-4, maximize=True),
        options={},
        signs=True,
    ),
    case("Adan", adan, dict(lr=0.01), kozistr("Adan", lr=0.01)),
    case(
        "Adan",
        adan,
        dict(lr=0.01, betas=(0.9, 0.8, 0.95), eps=1e-2, weight_decay=0.3),
        kozistr("Adan", lr=0.01, betas=(0.9, 0.8, 0.95), eps=1e-2, weight_decay=0.3),
    ),
    case(
        "Adan",
        adan,
        dict(lr=0.01, weight_decay=0.3, no_prox=True),
        kozistr("Adan", lr=0.01, weight_decay=0.3, weight_decouple=True),
    ),
    case("Adan", negated(adan), dict(lr=0.01, maximize=True), options=dict(lr=0.01)),
    case(
        "AdEMAMix",
        ademamix,
        dict(lr=0.01),
        optax(lambda o: o.contrib.ademamix(0.01)),
        kozistr("AdEMAMix", lr=0.01),
    ),
    case(
        "AdEMAMix",
        ademamix,
        WARM | dict(eps=1e-2),
        optax(lambda o: o.contrib.ademamix(0.01, 0.9, 0.95, 0.999, 4.0, 1e-2, weight_decay=0.1)),
        kozistr("AdEMAMix", **WARM, eps=1e-2, weight_decouple=True),
    ),
    case(
        "AdEMAMix",
        ademamix,
        WARM | dict(beta3_warmup=40, alpha_warmup=40),
        kozistr("AdEMAMix", **WARM, t_alpha_beta3=40, weight_decouple=True),
    ),
    case("AdEMAMix", ademamix, dict(lr=0.01, beta3_warmup=30.5)),
    case("AdEMAMix", ademamix, dict(lr=0.01, alpha_warmup=100)),
    case(
        "AdEMAMix",
        negated(ademamix),
        dict(lr=0.01, maximize=True),
        kozistr("AdEMAMix", lr=0.01, maximize=True),
        options=dict(lr=0.01),
    ),
    case(
        "SGDScheduleFree",
        schedule_free,
        dict(lr=0.1),
        package("schedulefree", "SGDScheduleFree", lr=0.1),
        optax(lambda o: o.contrib.schedule_free_sgd(0.1)),
    ),
    case(
        "SGDScheduleFree",
        schedule_free,
        dict(lr=0.01, momentum=0.8, weight_decay=0.1, warmup_steps=7, r=0.5, weight_lr_power=1.5),
        package(
            "schedulefree",
            "SGDScheduleFree",
            lr=0.01,
            momentum=0.8,
            weight_decay=0.1,
            warmup_steps=7,
            r=0.5,
            weight_lr_power=1.5,
        ),
        options=dict(lr=0.01, beta=0.8, weight_decay=0.1, warmup_steps=7, r=0.5, weight_lr_power=1.5),
    ),
    case(
        "AdamWScheduleFree",
        schedule_free,
        dict(lr=0.01),
        package("schedulefree", "AdamWScheduleFree", lr=0.01),
        optax(lambda o: o.contrib.schedule_free_adamw(0.01)),
        options=dict(lr=0.01, beta2=0.999),
    ),
    case(
        "AdamWScheduleFree",
        schedule_free,
        dict(lr=0.01, betas=(0.95, 0.9), eps=1e-2, weight_decay=0.1),
        package(
            "schedulefree",
            "AdamWScheduleFree",
            lr=0.01,
            betas=(0.95, 0.9),
            eps=1e-2,
            weight_decay=0.1,
            foreach=False,
        ),
        optax(lambda o: o.contrib.schedule_free_adamw(0.01, None, 0.95, 0.9, 1e-2, 0.1)),
        options=dict(lr=0.01, beta=0.95, beta2=0.9, eps=1e-2, weight_decay=0.1),
    ),
    case(
        "AdamWScheduleFree",
        schedule_free,
        dict(lr=0.01, weight_decay=0.1, warmup_steps=20, r=1.0, weight_lr_power=0.0),
        package(
            "schedulefree",
            "AdamWScheduleFree",
            lr=0.01,
            weight_decay=0.1,
            warmup_steps=20,
            r=1.0,
            weight_lr_power=0.0,
        ),
        options=dict(lr=0.01, beta2=0.999, weight_decay=0.1, warmup_steps=20, r=1.0, weight_lr_power=0.0),
    ),
    case(
        "Prodigy",
        prodigy,
        dict(d0=1e-3, growth_rate=1.2),
        package("prodigyopt", "Prodigy", d0=1e-3, growth_rate=1.2),
        kozistr("Prodigy", tolerance=1e-11, d0=1e-3, growth_rate=1.2),
        single=dict(stored=single),
    ),
    case(
        "Prodigy",
        prodigy,
        dict(lr=0.5, betas=(0.8, 0.99), weight_decay=0.1, use_bias_correction=True, d0=1e-3),
        package(
            "prodigyopt",
            "Prodigy",
            lr=0.5,
            betas=(0.8, 0.99),
            weight_decay=0.1,
            use_bias_correction=True,
            d0=1e-3,
        ),
        optax(lambda o: o.contrib.prodigy(0.5, (0.8, 0.99), estim_lr0=1e-3, weight_decay=0.1)),
        single=dict(stored=single),
    ),
    case(
        "Prodigy",
        prodigy,
        dict(beta3=0.9, weight_decay=0.1, decouple=False, d_coef=2.0, growth_rate=1.05, d0=1e-3),
        package(
            "prodigyopt",
            "Prodigy",
            beta3=0.9,
            weight_decay=0.1,
            decouple=False,
            d_coef=2.0,
            growth_rate=1.05,
            d0=1e-3,
        ),
        single=dict(stored=single),
    ),
    case(
        "Prodigy",
        prodigy,
        dict(lr=0.1, safeguard_warmup=True, slice_p=11),
        package("prodigyopt", "Prodigy", lr=0.1, safeguard_warmup=True, slice_p=11),
        single=dict(stored=single),
    ),
]
