"""SOAP beside pytorch_optimizer 4.1.0 and beside forms known to be wrong; its bases and its first step."""

import numpy as np
import pytest
from oracle import oracle
from test_rules import feed, gradients, placed, starting
from transcriptions.libraries import kozistr
from transcriptions.matrix import soap

import minigrad as mg
from minigrad import nn, optim


def stepped(start, grads, dtype="float64", **options):
    params = placed(start, dtype)
    optimizer = optim.SOAP(params, **options)
    feed(params, optimizer, grads, dtype)
    return [p.array for p in params], optimizer


def problem(shapes, steps=30, seed=0):
    rng = np.random.default_rng(seed)
    return starting(rng, shapes), gradients(rng, steps, False, shapes)


def apart(xs, ys):
    return max(np.abs(x - y).max() for x, y in zip(xs, ys, strict=True))


@pytest.mark.oracle
@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(weight_decay=0.1, shampoo_beta=0.9, betas=(0.9, 0.99)),
        dict(precondition_frequency=3, correct_bias=False),
        dict(max_precondition_dim=3, precondition_frequency=5),
    ],
    ids=str,
)
def test_it_is_pytorch_optimizers_whose_qr_is_in_float32(options, monkeypatch):
    """Measured 3e-7 with the defaults (list: 3.6e-7), 4e-6 at most; 1e-10 where QR is in float64.

    What a first gradient does not fill has any basis: full matrices only.
    """
    start, grads = problem(((4, 4), (2, 3, 4), (7,)))
    library, lib = kozistr("SOAP", lr=0.1, **options), oracle("torch")
    found, _ = stepped(start, grads, lr=0.1, **options)
    assert apart(found, library.run(start, grads)) < 1e-5
    monkeypatch.setattr(lib, "float32", lib.float64)
    assert apart(found, library.run(start, grads)) < 1e-10


@pytest.mark.oracle
def test_normalized_steps_are_pytorch_optimizers():
    start, grads = problem(((4, 4),))
    library = kozistr("SOAP", lr=0.1, normalize_gradient=True)
    assert apart(stepped(start, grads, lr=0.1, normalize_grads=True)[0], library.run(start, grads)) < 2e-6


@pytest.mark.parametrize(
    "wrong", [dict(ahead=1), dict(skip=False), dict(own_gradient=True)], ids=["t+1", "no skip", "own basis"]
)
def test_known_wrong_forms_are_other_rules(wrong):
    """t+1: pytorch_optimizer at 7a076d2f counts the skipped step in Adam's corrections (soap.py:297)."""
    start, grads = problem(((4, 4),), 8)
    options = dict(lr=0.1, precondition_frequency=1)
    found, _ = stepped(start, grads, **options)
    series = [g[0] for g in grads]
    assert apart(found, [soap(start[0].copy(), series, **options)]) < 1e-11
    assert apart(found, [soap(start[0].copy(), series, **options, **wrong)]) > 1e-2


def test_the_first_step_moves_nothing_and_makes_orthogonal_bases():
    start, grads = problem(((4, 4), (3,)), 1)
    found, optimizer = stepped(start, grads, lr=0.1, weight_decay=0.5)
    assert apart(found, start) == 0
    state = optimizer.state[optimizer.parameters()[0]]
    assert state["step"] == 1 and not state["exp_avg"].array.any()
    g = grads[0][0]
    for i, average in enumerate((g @ g.T, g.T @ g)):
        q = state[f"Q_{i}"].array
        np.testing.assert_allclose(state[f"GG_{i}"].array, 0.05 * average, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(q.T @ q, np.eye(4), atol=1e-13)
        inside = np.diag(q.T @ average @ q)
        assert (np.diff(inside) <= 0).all()  # the largest first


def test_bases_stay_orthogonal_and_come_near_the_eigenvectors():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(5, 5)) * [4, 2, 1, 0.5, 0.25]
    grads = [[factor @ rng.normal(size=(5, 6))] for _ in range(200)]
    _, optimizer = stepped([np.zeros((5, 6))], grads, precondition_frequency=1, shampoo_beta=0.99)
    state = optimizer.state[optimizer.parameters()[0]]
    q, average = state["Q_0"].array, state["GG_0"].array
    np.testing.assert_allclose(q.T @ q, np.eye(5), atol=1e-12)
    inside = q.T @ average @ q
    assert np.abs(inside - np.diag(np.diag(inside))).max() < 0.02 * inside.max()


def test_without_matrices_it_is_adam_one_step_late():
    """Vectors, and dimensions that are too long, keep their own basis."""
    start, grads = problem(((6,), (4, 5)), 12)
    options = dict(lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    found, optimizer = stepped(start, grads, **options, max_precondition_dim=3)
    params = placed(start, "float64")
    adam = optim.Adam(params, lr=0.01, betas=(0.9, 0.99), eps=1e-300)
    feed(params, adam, grads[1:], "float64")
    assert apart(found, [p.array for p in params]) < 1e-5  # eps stands beside v and not beside v^
    assert all(set(s) == {"step", "exp_avg", "exp_avg_sq"} for s in optimizer.state.values())


def test_it_is_the_same_in_any_orthogonal_coordinates():
    """Turning the problem turns the path: Adam has no such property, its eigenbasis form has."""
    rng = np.random.default_rng(3)
    u, v = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
    start, grads = problem(((4, 4),), 25)
    options = dict(lr=0.1, weight_decay=0.1, precondition_frequency=4)
    plain, _ = stepped(start, grads, **options)
    turned, _ = stepped([u @ start[0] @ v], [[u @ g[0] @ v] for g in grads], **options)
    np.testing.assert_allclose(turned[0], u @ plain[0] @ v, rtol=1e-6, atol=1e-6)


def test_forms_differ():
    start, grads = problem(((4, 4, 2),), 12)
    options = [{}, dict(shampoo_beta=0.5), dict(precondition_frequency=2), dict(normalize_grads=True)]
    options += [dict(correct_bias=False), dict(as_matrix=True), dict(max_precondition_dim=3)]
    options += [dict(merge_dims=True, max_precondition_dim=16), dict(maximize=True), dict(betas=(0.5, 0.9))]
    found = [stepped(start, grads, lr=0.1, **o)[0] for o in options]
    for i, a in enumerate(found):
        for b in found[:i]:
            assert apart(a, b) > 1e-3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(precondition_frequency=0), "Invalid precondition_frequency: 0"),
        (dict(precondition_frequency=2.5), "Invalid precondition_frequency: 2.5"),
        (dict(max_precondition_dim=0), "Invalid max_precondition_dim: 0"),
        (dict(shampoo_beta=1.0), "Invalid shampoo_beta: 1.0"),
        (dict(shampoo_beta=-0.1), "Invalid shampoo_beta: -0.1"),
    ],
    ids=str,
)
def test_bad_options_raise_with_name_and_value(options, words):
    with pytest.raises(ValueError, match=words):
        optim.SOAP([nn.Parameter(mg.ones(2, 2))], **options)
