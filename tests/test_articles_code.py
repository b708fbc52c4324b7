"""The tutorial's NumPy code beside ours, and what its batches weigh: docs/articles.md tells it.

The functions stand in tutorial.py as the article prints them.
"""

import numpy as np
import pytest
import tutorial

import minigrad as mg
from minigrad import optim


def data(m=200, n=3, seed=0):
    """X (m, n), y = X theta exactly, theta = 3, -2, 1, ..."""
    rng = np.random.default_rng(seed)
    X, theta = rng.standard_normal((m, n)), np.array([3.0, -2.0, 1.0, 0.5][:n])
    return X, X @ theta, theta


def ours(rule, X, y, epochs=100, **options):
    """The same regression with an optimizer of ours."""
    theta = mg.zeros(X.shape[1], dtype=mg.float64, requires_grad=True)
    optimizer, x, t = rule([theta], **options), mg.tensor(X), mg.tensor(y)
    for _ in range(epochs):
        optimizer.zero_grad()
        (((x @ theta - t) ** 2).sum() / (2 * len(X))).backward()
        optimizer.step()
    return theta.detach().numpy()


def test_the_tutorials_adam_crashes():
    """`m` is the number of examples and then the first moment: 1 / m divides by a vector of zeros."""
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="broadcast"):
        tutorial.adam(*data(200, 3)[:2])


@pytest.mark.parametrize(("m", "n"), [(3, 3), (200, 1)])
def test_the_tutorials_adam_gives_nan_where_shapes_let_it_run(m, n):
    """As many examples as features, or one feature: the shapes fit, and 0 inf is nan."""
    with np.errstate(all="ignore"):
        assert np.isnan(tutorial.adam(*data(m, n)[:2])).all()


def test_the_tutorials_adam_mended_is_ours():
    X, y, _ = data()
    assert np.allclose(tutorial.mended()(X, y), ours(optim.Adam, X, y), rtol=0, atol=1e-12)
    found = ours(optim.AdamW, X, y, weight_decay=0.01)
    assert np.allclose(tutorial.mended(decay=0.01)(X, y), found, rtol=0, atol=1e-12)


def test_the_tutorials_formula_and_code_place_eps_differently():
    """sqrt(v + eps) in its text, sqrt(v) + eps in its code: for gradients of 1e-5 the steps are 1 to 0.1."""
    X, y, _ = data()
    X, y = X * 1e-3, y * 1e-2
    code, text = tutorial.mended()(X, y, epochs=1), tutorial.mended(eps_in_sqrt=True)(X, y, epochs=1)
    assert np.abs(code).min() > 0.99e-3 and np.abs(text).max() < 0.5e-3
    assert np.allclose(ours(optim.Adam, X, y, epochs=1), code, rtol=1e-9)


def test_the_tutorials_adam_defaults_do_not_reach_the_solution():
    """100 epochs of lr 0.001 move a parameter by 0.1 at most: the solution is at 3."""
    X, y, theta = data()
    found = tutorial.mended()(X, y)
    assert np.abs(found).max() < 0.1 + 1e-9 < np.abs(theta).min()
    assert np.allclose(ours(optim.SGD, X, y, lr=0.1, momentum=0.9), theta, atol=0.05)


def test_the_tutorials_sgd_sweeps_in_order():
    """Without shuffling the last examples win: on labels that are sorted it ends at the end."""

    def swept(y, order, lr=0.1):
        theta = 0.0
        for _ in range(20):
            for i in order():
                theta -= lr * (theta - y[i])
        return theta

    y, rng = np.linspace(0, 1, 100), np.random.default_rng(0)
    assert swept(y, lambda: range(100)) > 0.89 and swept(y, lambda: reversed(range(100))) < 0.11
    ends = [swept(y, lambda: rng.permutation(100)) for _ in range(50)]
    assert np.mean(ends) == pytest.approx(y.mean(), abs=0.06)


def test_the_tutorials_last_batch_weighs_its_examples_more():
    """33 examples in batches of 32: the one that is left over counts as much as the 32 together."""
    rows = np.arange(33)
    weight = np.zeros(33)
    for i in range(0, 33, 32):
        batch = rows[i : i + 32]
        weight[batch] += 1 / len(batch)
    assert weight[-1] == 32 * weight[0]
    loader = mg.data.DataLoader(mg.data.TensorDataset(mg.arange(33)), 32, drop_last=True)
    assert sum(len(batch[0]) for batch in loader) == 32  # drop_last is the other convention


def test_the_variance_of_a_batch_without_replacement_is_less_than_sigma_over_b():
    """Shuffled once an epoch, a batch has Sigma / B (N - B) / (N - 1): none at all for B = N."""
    from itertools import combinations

    g = np.random.default_rng(0).standard_normal(8)
    for size in (1, 2, 4, 8):
        means = [np.mean(c) for c in combinations(g, size)]
        assert np.mean(means) == pytest.approx(g.mean())
        assert np.var(means) == pytest.approx(g.var() / size * (8 - size) / 7, abs=1e-15)


def test_full_batch_gradients_need_no_full_batch_in_memory():
    """The mean of the parts' gradients, weighted by their lengths, is the gradient of the whole."""
    X, y, _ = data(100, 3)
    w = mg.zeros(3, dtype=mg.float64, requires_grad=True)
    for rows in np.split(np.arange(100), [30, 60, 99]):
        (((mg.tensor(X[rows]) @ w - mg.tensor(y[rows])) ** 2).sum() / 100).backward()
    (whole,) = mg.grad(((mg.tensor(X) @ w - mg.tensor(y)) ** 2).mean(), w)
    assert np.allclose(w.grad.array, whole.array, atol=1e-14)
