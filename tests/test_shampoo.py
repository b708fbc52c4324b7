"""Shampoo beside pytorch_optimizer 4.1.0 and beside forms known to be wrong; blocks, grafting, refreshes."""

from importlib.metadata import version
from itertools import pairwise

import numpy as np
import pytest
from oracle import oracle
from test_rules import feed, gradients, placed, starting
from transcriptions.libraries import kozistr
from transcriptions.matrix import shampoo

import minigrad as mg
from minigrad import nn, optim
from minigrad.optim.shampoo import blocks, inverse_root


def stepped(start, grads, dtype="float64", **options):
    params = placed(start, dtype)
    optimizer = optim.Shampoo(params, **options)
    feed(params, optimizer, grads, dtype)
    return [p.array for p in params], optimizer


def problem(shapes, steps=30, seed=0, missing=False):
    rng = np.random.default_rng(seed)
    return starting(rng, shapes), gradients(rng, steps, missing, shapes)


def apart(xs, ys):
    return max(np.abs(x - y).max() for x, y in zip(xs, ys, strict=True))


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("shapes", "decay", "tolerance"),
    [(((4, 4),), 0.0, 1e-10), (((5, 3),), 0.0, 1e-8), (((2, 3, 4),), 0.1, 1e-11), (((4, 4),), 0.1, 1e-10)],
)
def test_it_is_pytorch_optimizers_to_the_roots_of_nearly_singular_matrices(shapes, decay, tolerance):
    """Measured 2e-11 in float64 (2.4e-7 in float32). Theirs is an L2 penalty and counts no gaps."""
    start, grads = problem(shapes)
    library = kozistr("Shampoo", lr=0.1, weight_decay=decay)
    found, _ = stepped(start, grads, lr=0.1, weight_decay=decay, decoupled=False)
    assert apart(found, library.run(start, grads)) < tolerance


@pytest.mark.oracle
def test_pytorch_optimizers_roots_are_zero_until_the_first_refresh_and_ours_are_not():
    start, grads = problem(((4, 4),), 3)
    theirs = kozistr("Shampoo", lr=0.1, preconditioning_compute_steps=5).run(start, grads)
    assert apart(theirs, start) == 0
    assert apart(stepped(start, grads, lr=0.1, refresh_period=5)[0], start) > 1e-2


def test_the_root_is_minus_one_over_2k_and_no_other():
    """The form with -1/2 on every side (jettify's pull request 502 and others) is another rule."""
    for shape in ((4, 4), (3, 3, 3)):
        start, grads = problem((shape,))
        found, _ = stepped(start, grads, lr=0.1)
        right = [shampoo(start[0].copy(), [g[0] for g in grads], lr=0.1)]
        wrong = [shampoo(start[0].copy(), [g[0] for g in grads], lr=0.1, exponent=-1 / 2)]
        assert apart(found, right) < 1e-10 < 1e-2 < apart(found, wrong)


def test_sums_are_of_the_gradient_and_not_of_what_one_side_has_whitened():
    start, grads = problem(((4, 4),), 10)
    _, optimizer = stepped(start, grads, lr=0.1, eps=1e-4)
    (state,) = optimizer.state.values()
    for i, name in enumerate(("sum_0", "sum_1")):
        total = 1e-4 * np.eye(4) + sum(g[0] @ g[0].T if i == 0 else g[0].T @ g[0] for g in grads)
        np.testing.assert_allclose(state[name].array, total, rtol=1e-12)


def test_a_vector_is_full_matrix_adagrad():
    start, grads = problem(((6,),), 20)
    found, _ = stepped(start, grads, lr=0.1, eps=1e-3)
    p, total = start[0].copy(), 1e-3 * np.eye(6)
    for (g,) in grads:
        total = total + np.outer(g, g)
        w, v = np.linalg.eigh(total)
        p = p - 0.1 * v @ ((v.T @ g) / np.sqrt(w))
    np.testing.assert_allclose(found[0], p, rtol=1e-10, atol=1e-10)


def test_a_number_is_adagrad_with_eps_in_the_accumulator():
    start, grads = problem(((),), 20)
    found, _ = stepped(start, grads, lr=0.1, eps=1e-3)
    p, total = float(start[0]), 1e-3
    for (g,) in grads:
        total += float(g) ** 2
        p -= 0.1 * float(g) / total**0.5
    assert abs(float(found[0]) - p) < 1e-12


def test_the_first_step_of_an_invertible_matrix_is_its_polar_factor():
    """(G G^T)^(-1/4) G (G^T G)^(-1/4) = U V^T: what Muon approximates."""
    g = np.random.default_rng(0).normal(size=(4, 4))
    found, _ = stepped([np.zeros((4, 4))], [[g]], lr=1.0, eps=1e-14)
    u, _, vh = np.linalg.svd(g)
    np.testing.assert_allclose(found[0], -u @ vh, atol=1e-10)


# ------------------------------------------------------------------------------------------------- blocks


def test_blocks_cover_every_element_once_and_are_no_longer_than_asked():
    for shape, largest in (((7, 5), 3), ((1100,), 512), ((4, 6, 5), 2), ((3, 3), None), ((6,), 6)):
        seen = np.zeros(shape, int)
        for block in blocks(shape, largest):
            assert seen[block.where].shape == block.shape
            assert largest is None or max(block.shape) <= largest
            seen[block.where] += 1
        assert (seen == 1).all()
    assert [b.shape for b in blocks((1100,), 512)] == [(366,), (367,), (367,)]
    assert blocks((0, 3), 2) == ()


def test_a_block_is_a_tensor_of_its_own_bit_for_bit():
    start, grads = problem(((7, 5),), 6)
    whole, optimizer = stepped(start, grads, lr=0.1, block_size=4)
    for block in blocks((7, 5), 4):
        alone, _ = stepped([start[0][block.where]], [[g[0][block.where]] for g in grads], lr=0.1)
        assert alone[0].tobytes() == np.ascontiguousarray(whole[0][block.where]).tobytes()
    names = set(next(iter(optimizer.state.values())))
    assert names == {"step"} | {
        f"block_{k}_{n}_{i}" for k in range(4) for n in ("sum", "root") for i in (0, 1)
    }


def test_blocks_bound_the_memory():
    params = placed([np.zeros((1, 1024))], "float32")
    optimizer = optim.Shampoo(params, block_size=128)
    feed(params, optimizer, [[np.ones((1, 1024))]], "float32")
    held = sum(v.numel() for k, v in optimizer.state[params[0]].items() if k != "step")
    assert held == 8 * 2 * (128 * 128 + 1)


# ------------------------------------------------------------------------------------------------ grafting


@pytest.mark.parametrize("grafting", ["sgd", "rmsprop", "adam"])
def test_a_grafted_step_has_the_norm_of_the_other_rule(grafting):
    start, grads = problem(((4, 3), (5,)), 12)
    options = dict(lr=1.0, refresh_period=3)
    params, other = placed(start, "float64"), placed(start, "float64")
    optimizer = optim.Shampoo(params, grafting=grafting, betas=(0.8, 0.9), **options)
    if grafting == "sgd":
        rule = optim.SGD(other, lr=1.0)
    elif grafting == "adam":
        rule = optim.Adam(other, lr=1.0, betas=(0.8, 0.9))
    else:
        rule = optim.RMSprop(other, lr=1.0, alpha=0.9)
    for t, step in enumerate(grads):
        before = [p.array.copy() for p in params], [p.array.copy() for p in other]
        feed(params, optimizer, [step], "float64")
        feed(other, rule, [step], "float64")
        for p, q, a, b in zip(params, other, *before, strict=True):
            mine, theirs = np.linalg.norm(p.array - a), np.linalg.norm(q.array - b)
            assert abs(mine - theirs) < 1e-9 * theirs
            if t:  # the very first root of a vector's outer product leaves its direction
                assert np.abs((p.array - a) - (q.array - b)).max() > 1e-6 * theirs


def test_grafts_and_forms_differ():
    start, grads = problem(((4, 3),), 12)
    options = [{}, dict(grafting="sgd"), dict(grafting="rmsprop"), dict(grafting="adam"), dict(beta=0.9)]
    options += [dict(momentum=0.5), dict(weight_decay=0.5), dict(weight_decay=0.5, decoupled=False)]
    options += [dict(refresh_period=4), dict(block_size=2), dict(maximize=True), dict(eps=1.0)]
    found = [stepped(start, grads, lr=0.1, **o)[0] for o in options]
    for i, a in enumerate(found):
        for b in found[:i]:
            assert apart(a, b) > 1e-3


# -------------------------------------------------------------------------------------------------- roots


def test_between_refreshes_sums_grow_and_roots_stay():
    start, grads = problem(((4, 3),), 9)
    params = placed(start, "float64")
    optimizer = optim.Shampoo(params, lr=0.1, refresh_period=4)
    roots, sums = [], []
    for step in grads:
        feed(params, optimizer, [step], "float64")
        roots.append(optimizer.state[params[0]]["root_0"].array.copy())
        sums.append(optimizer.state[params[0]]["sum_0"].array.copy())
    changed = [t + 1 for t in range(1, 9) if (roots[t] != roots[t - 1]).any()]
    assert changed == [5, 9]
    assert all((a != b).any() for a, b in pairwise(sums))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_root_to_the_2k_times_the_matrix_is_one(order):
    a = np.random.default_rng(0).normal(size=(5, 5))
    a = a @ a.T + 0.1 * np.eye(5)
    root = inverse_root(a, -1 / (2 * order), 1e-6, False)
    np.testing.assert_allclose(np.linalg.matrix_power(root, 2 * order) @ a, np.eye(5), atol=1e-10)


def test_double_eigenvalues_of_float32_sums_are_nearer_the_exact_root():
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    single = ((q * 10.0 ** np.arange(-4, 2)) @ q.T).astype("float32")
    exact = inverse_root(single.astype("float64"), -0.25, 1e-8, False)
    errors = [np.abs(inverse_root(single, -0.25, 1e-8, double) - exact).max() for double in (False, True)]
    assert errors[1] < errors[0] and inverse_root(single, -0.25, 1e-8, True).dtype == np.float32


def test_singular_and_indefinite_by_rounding_counts_as_eps():
    a = np.diag([4.0, 0.0, -1e-9]).astype("float32")
    root = inverse_root(a, -0.5, 1e-4, False)
    np.testing.assert_allclose(np.diag(root), [0.5, 100, 100], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(refresh_period=0), "Invalid refresh_period: 0"),
        (dict(refresh_period=1.5), "Invalid refresh_period: 1.5"),
        (dict(block_size=0), "Invalid block_size: 0"),
        (dict(grafting="lamb"), "Invalid grafting: 'lamb'; it must be one of None, 'sgd'"),
        (dict(beta=1.5), "Invalid beta value: 1.5"),
        (dict(grafting_eps=0), "Invalid grafting_eps value: 0"),
        (dict(betas=(1.0, 0.9)), "Invalid beta parameter at index 0: 1.0"),
    ],
    ids=str,
)
def test_bad_options_raise_with_name_and_value(options, words):
    with pytest.raises(ValueError, match=words):
        optim.Shampoo([nn.Parameter(mg.ones(2, 2))], **options)


@pytest.mark.oracle
def test_the_oracle_is_the_release_that_was_measured():
    oracle("pytorch_optimizer")
    assert version("pytorch-optimizer") == "4.1.0"
