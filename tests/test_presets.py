"""Where sources differ: every named form is another rule and has a case, every preset is its source's."""

import itertools

import numpy as np
import pytest
from test_rules import CASES, feed, flat, material, placed, run
from transcriptions import adam, adaptive
from transcriptions.libraries import optax

from minigrad import optim

BIG = dict(lr=0.01, eps=1e-2)
DECAY = BIG | dict(weight_decay=0.01)
INSIDE = BIG | dict(eps_in_sqrt=True)
FORMS = {
    "Adagrad": [BIG, INSIDE, INSIDE | dict(initial_accumulator_value=0.3)],
    "RMSprop": [BIG, INSIDE, BIG | dict(centered=True), BIG | dict(alpha=0.9)],
    "Adadelta": [dict(eps=1e-2), dict(eps=1e-2, rho=0.95)],
    "Adam": [BIG, INSIDE, BIG | dict(eps_hat=True)],
    "AdamW": [
        DECAY,
        DECAY | dict(fixed_decay=True),
        DECAY | dict(eps_in_sqrt=True),
        DECAY | dict(eps_hat=True),
        DECAY | dict(eps_in_sqrt=True, fixed_decay=True),
    ],
    "AMSGrad": [BIG, BIG | dict(bias_correction="hat"), BIG | dict(bias_correction="none")],
    "NAdam": [BIG, BIG | dict(form="simple"), BIG | dict(form="anticipation")],
    "RAdam": [BIG, BIG | dict(threshold=4.0), BIG | dict(eps_hat=False)],
}


@pytest.mark.parametrize("rule", FORMS)
def test_named_forms_differ_by_more_than_1e_3_and_each_has_a_case(rule):
    start, grads = material(1, 1e-2)
    found = [run(rule, given, start, grads) for given in FORMS[rule]]
    for a, b in itertools.combinations(found, 2):
        assert np.abs(a - b).max() > 1e-3
    proved = [c.options for c in CASES if c.rule == rule]
    assert all(given in proved for given in FORMS[rule])


PRESETS = [
    ("Adagrad", "paper", adaptive.adagrad, {}),
    ("Adagrad", "S1", adaptive.adagrad, dict(eps_in_sqrt=True)),
    ("Adagrad", "S2", adaptive.adagrad, dict(lr=0.1, eps=1e-8, eps_in_sqrt=True)),
    ("Adagrad", "S3", adaptive.adagrad, dict(eps=1e-8)),
    ("Adadelta", "paper", adaptive.adadelta, dict(rho=0.95)),
    ("Adadelta", "chainer", adaptive.adadelta, dict(rho=0.95)),
    ("Adadelta", "S3", adaptive.adadelta, {}),
    ("RMSprop", "hinton", adaptive.rmsprop, dict(alpha=0.9, lr=1e-3, eps_in_sqrt=True)),
    ("RMSprop", "S1", adaptive.rmsprop, dict(alpha=0.9, eps_in_sqrt=True)),
    ("RMSprop", "S2", adaptive.rmsprop, dict(alpha=0.9, lr=0.01, eps_in_sqrt=True)),
    ("RMSprop", "S2_table", adaptive.rmsprop, dict(alpha=0.99, lr=1e-3, eps_in_sqrt=True)),
    ("RMSprop", "S3", adaptive.rmsprop, dict(alpha=0.9, lr=1e-3, eps_in_sqrt=True)),
    ("Rprop", "paper", adaptive.rprop, dict(lr=0.1)),
    ("Adam", "paper", adam.adam, {}),
    ("Adam", "S0", adam.adam, {}),
    ("Adam", "S1", adam.adam, {}),
    ("Adam", "S2", adam.adam, {}),
    ("Adam", "S2_prose", adam.adam, dict(where="inside")),
    ("Adam", "S3", adam.adam, dict(lr=3e-4, betas=(0.9, 0.95))),
    ("Adam", "gan", adam.adam, dict(betas=(0.0, 0.99))),
    ("Adam", "chainer", adam.adam, dict(where="hat")),
    ("Adam", "thinc", adam.adam, dict(where="hat")),
    ("AdamW", "paper", adam.adam, dict(decay="fixed", weight_decay=0.01)),
    ("AdamW", "S2_prose", adam.adam, dict(decay="scaled", weight_decay=0.01, where="inside")),
    ("AdamW", "S3", adam.adam, dict(lr=3e-4, decay="fixed", weight_decay=0.01)),
    ("AMSGrad", "paper", adam.adam, dict(amsgrad="none")),
    ("NAdam", "S1", adam.nadam, dict(form="anticipation")),
    ("RAdam", "paper", adam.radam, dict(threshold=4.0)),
]


@pytest.mark.parametrize(("rule", "source", "transcription", "told"), PRESETS)
def test_a_preset_is_what_its_source_writes(rule, source, transcription, told):
    start, grads = material(3)
    params = placed(start, "float64")
    feed(params, getattr(optim, rule).preset(source, params), grads, "float64")
    expected = [transcription(p, [g[k] for g in grads], **told) for k, p in enumerate(start)]
    np.testing.assert_allclose(flat([p.array for p in params]), flat(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("rule", "library"),
    [
        ("Adagrad", optax(lambda o: o.adagrad(0.01))),
        ("Adadelta", optax(lambda o: o.adadelta(0.01))),
        ("RMSprop", optax(lambda o: o.rmsprop(0.01))),
        ("Adam", optax(lambda o: o.adam(0.01))),
        ("AdamW", optax(lambda o: o.adamw(0.01))),
        ("AMSGrad", optax(lambda o: o.amsgrad(0.01))),
        ("Adamax", optax(lambda o: o.adamax(0.01))),
        ("NAdam", optax(lambda o: o.nadam(0.01))),
        ("RAdam", optax(lambda o: o.radam(0.01))),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_the_preset_optax_is_optax_with_its_defaults(rule, library):
    start, grads = material(4)
    params = placed(start, "float64")
    feed(params, getattr(optim, rule).preset("optax", params, lr=0.01), grads, "float64")
    expected = flat(library.run(start, grads))
    np.testing.assert_allclose(flat([p.array for p in params]), expected, rtol=1e-12, atol=1e-12)
