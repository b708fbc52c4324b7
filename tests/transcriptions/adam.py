"""Adam and its kin."""

import numpy as np

from . import case
from .libraries import optax, torch


def adam(
    p,
    grads,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    amsgrad=None,
    decay="coupled",
    where="outside",
    maximize=False,
):
    """[Kingma & Ba 2015, Algorithm 1].

    where: eps "outside" the root, "inside", or "hat", beside the root of the uncorrected v (section 2, end)
    decay: "coupled" to g; "scaled" by lr, as AdamW of torch; "fixed", as S3 writes it
    amsgrad: "none", as [Reddi et al. 2018, Algorithm 2], nothing corrected; "raw" v compared; "hat", v^
    """
    (b1, b2), m, v, most, t = betas, 0, 0, 0, 0
    for g in grads:
        if g is None:
            continue
        t += 1
        g = -g if maximize else g
        if decay == "coupled":
            g = g + weight_decay * p
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        c1, c2 = (1, 1) if amsgrad == "none" else (1 - b1**t, 1 - b2**t)
        most = np.maximum(most, v / c2 if amsgrad == "hat" else v)
        v_hat = {None: v / c2, "none": most, "raw": most / c2, "hat": most}[amsgrad]
        if where == "outside":
            step = lr * (m / c1) / (np.sqrt(v_hat) + eps)
        elif where == "inside":
            step = lr * (m / c1) / np.sqrt(v_hat + eps)
        else:
            step = lr * np.sqrt(c2) / c1 * m / (np.sqrt(v) + eps)
        p = p - step - {"coupled": 0, "scaled": lr * weight_decay, "fixed": weight_decay}[decay] * p
    return p


def adamax(p, grads, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, maximize=False):
    """[Kingma & Ba 2015, Algorithm 2], with torch's eps in the norm; eps=0 is the paper."""
    (b1, b2), m, u, t = betas, 0, 0, 0
    for g in grads:
        if g is None:
            continue
        t += 1
        g = (-g if maximize else g) + weight_decay * p
        m = b1 * m + (1 - b1) * g
        u = np.maximum(b2 * u, np.abs(g) + eps)
        p = p - lr / (1 - b1**t) * m / u
    return p


def nadam(
    p,
    grads,
    lr=2e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    momentum_decay=4e-3,
    decoupled=False,
    form="schedule",
    maximize=False,
):
    """[Dozat 2016]; without the schedule beta1 is mu at every step; "anticipation": one bias for both."""
    (b1, b2), m, v, product, t = betas, 0, 0, 1, 0
    for g in grads:
        if g is None:
            continue
        t += 1
        g = -g if maximize else g
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
        product = product * mu
        if form == "schedule":
            m_bar = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
        elif form == "simple":
            m_bar = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        else:
            m_bar = (b1 * m + (1 - b1) * g) / (1 - b1**t)
        p = p - lr * m_bar / (np.sqrt(v / (1 - b2**t)) + eps)
    return p


def radam(
    p,
    grads,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    decoupled=False,
    where="hat",
    threshold=5.0,
    maximize=False,
):
    """[Liu et al. 2020, Algorithm 2]: l_t = sqrt((1 - beta2^t) / v); torch's eps stands beside sqrt(v)."""
    (b1, b2), m, v, t = betas, 0, 0, 0
    longest = 2 / (1 - b2) - 1
    for g in grads:
        if g is None:
            continue
        t += 1
        g = -g if maximize else g
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, c2 = m / (1 - b1**t), 1 - b2**t
        rho = longest - 2 * t * b2**t / c2
        if rho > threshold:
            r = np.sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho))
            adaptive = np.sqrt(c2) / (np.sqrt(v) + eps) if where == "hat" else 1 / (np.sqrt(v / c2) + eps)
            p = p - lr * m_hat * r * adaptive
        else:
            p = p - lr * m_hat
    return p


def form(given, told, *libraries, rule="Adam", transcription=adam):
    """A case whose options are called otherwise in the transcription."""
    shared = {k: v for k, v in given.items() if k not in RENAMED}
    return case(rule, transcription, given, *libraries, options=shared | told)


RENAMED = (
    "amsgrad",
    "decoupled_weight_decay",
    "fixed_decay",
    "eps_in_sqrt",
    "eps_hat",
    "bias_correction",
)
BIG = dict(lr=0.01, eps=1e-2)  # an eps that shows where it stands
DECAY = BIG | dict(weight_decay=0.01)


def optax_amsgrad(corrected):
    return lambda o: o.chain(
        o.scale_by_amsgrad(eps=1e-2, bias_correction_mu=corrected, bias_correction_nu=corrected),
        o.scale(-0.01),
    )


CASES = [
    case("Adam", adam, dict(lr=0.01), torch("Adam", lr=0.01), optax(lambda o: o.adam(0.01))),
    case("Adam", adam, BIG, torch("Adam", **BIG), optax(lambda o: o.adam(0.01, eps=1e-2))),
    form(
        dict(lr=0.01, weight_decay=0.1, amsgrad=True),
        dict(amsgrad="raw"),
        torch("Adam", lr=0.01, weight_decay=0.1, amsgrad=True),
    ),
    case(
        "Adam",
        adam,
        dict(lr=0.01, betas=(0.5, 0.9), maximize=True),
        torch("Adam", lr=0.01, betas=(0.5, 0.9), maximize=True),
    ),
    case(
        "Adam",
        adam,
        dict(lr=0.01, betas=(0.0, 0.99)),
        torch("Adam", lr=0.01, betas=(0.0, 0.99)),
        optax(lambda o: o.adam(0.01, 0.0, 0.99)),
    ),
    form(
        BIG | dict(eps_in_sqrt=True),
        dict(where="inside"),
        optax(lambda o: o.adam(0.01, eps=0.0, eps_root=1e-2)),
    ),
    form(BIG | dict(eps_hat=True), dict(where="hat")),
    form(
        dict(lr=0.01, weight_decay=0.1),
        dict(decay="scaled"),
        torch("AdamW", lr=0.01, weight_decay=0.1),
        optax(lambda o: o.adamw(0.01, weight_decay=0.1)),
        rule="AdamW",
    ),
    form(
        dict(lr=0.01, weight_decay=0.01, fixed_decay=True),
        dict(decay="fixed"),
        optax(lambda o: o.chain(o.scale_by_adam(), o.scale(-0.01), o.add_decayed_weights(-0.01))),
        rule="AdamW",
    ),
    form(
        BIG | dict(weight_decay=0.1, amsgrad=True, maximize=True),
        dict(decay="scaled", amsgrad="raw"),
        torch("AdamW", **BIG, weight_decay=0.1, amsgrad=True, maximize=True),
        rule="AdamW",
    ),
    form(BIG, dict(amsgrad="raw"), torch("Adam", **BIG, amsgrad=True), rule="AMSGrad"),
    form(BIG | dict(bias_correction="hat"), dict(amsgrad="hat"), optax(optax_amsgrad(True)), rule="AMSGrad"),
    form(
        BIG | dict(bias_correction="none"), dict(amsgrad="none"), optax(optax_amsgrad(False)), rule="AMSGrad"
    ),
    form(
        dict(lr=0.01, weight_decay=0.1, bias_correction="hat", maximize=True, decoupled_weight_decay=True),
        dict(amsgrad="hat", decay="scaled"),
        rule="AMSGrad",
    ),
    case(
        "Adamax",
        adamax,
        dict(lr=0.01),
        torch("Adamax", lr=0.01),
        optax(lambda o: o.adamax(0.01)),
    ),
    case(
        "Adamax",
        adamax,
        BIG | dict(weight_decay=0.1, maximize=True),
        torch("Adamax", **BIG, weight_decay=0.1, maximize=True),
    ),
    case(
        "NAdam",
        nadam,
        {},
        torch("NAdam", 2e-10),  # its product of mu is float32
        torch("NAdam", wide=True),
    ),
    case(
        "NAdam",
        nadam,
        BIG | dict(weight_decay=0.1, momentum_decay=0.1, maximize=True),
        torch("NAdam", **BIG, weight_decay=0.1, momentum_decay=0.1, maximize=True, wide=True),
    ),
    form(
        dict(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
        dict(decoupled=True),
        torch("NAdam", lr=0.01, weight_decay=0.1, decoupled_weight_decay=True, wide=True),
        rule="NAdam",
        transcription=nadam,
    ),
    case("NAdam", nadam, BIG | dict(form="simple"), optax(lambda o: o.nadam(0.01, eps=1e-2))),
    case("RAdam", radam, dict(lr=0.01), torch("RAdam", lr=0.01)),
    case(
        "RAdam",
        radam,
        BIG | dict(betas=(0.8, 0.99), weight_decay=0.1, maximize=True),
        torch("RAdam", **BIG, betas=(0.8, 0.99), weight_decay=0.1, maximize=True),
    ),
    form(
        dict(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
        dict(decoupled=True),
        torch("RAdam", lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
        rule="RAdam",
        transcription=radam,
    ),
    form(
        BIG | dict(eps_hat=False),
        dict(where="outside"),
        optax(lambda o: o.radam(0.01, eps=1e-2)),
        rule="RAdam",
        transcription=radam,
    ),
    *(
        form(DECAY | given, dict(decay="scaled") | told, *libraries, rule="AdamW")
        for given, told, libraries in (
            ({}, {}, [torch("AdamW", **DECAY)]),
            (dict(fixed_decay=True), dict(decay="fixed"), []),
            (dict(eps_in_sqrt=True), dict(where="inside"), []),
            (dict(eps_hat=True), dict(where="hat"), []),
            (dict(eps_in_sqrt=True, fixed_decay=True), dict(decay="fixed", where="inside"), []),
        )
    ),
    case("NAdam", nadam, BIG, torch("NAdam", **BIG, wide=True)),
    case("NAdam", nadam, BIG | dict(form="anticipation")),
    case("RAdam", radam, BIG, torch("RAdam", **BIG)),
    case("RAdam", radam, BIG | dict(threshold=4.0)),
]
