"""The tutorial's nine functions (S2) fit a line; each is the oracle of the preset of its name, bug and all.

The functions stand in tutorial.py as the article prints them. What they do wrong is shown by a test of its
own: no shuffle, a short batch that weighs more, a variable that collides with another.
"""

import warnings

import numpy as np
import pytest
from tutorial import (
    adagrad,
    adam,
    adamw,
    batch_gradient_descent,
    gradient_descent_with_momentum,
    mended,
    mini_batch_gradient_descent,
    nesterov_accelerated_gradient,
    rmsprop,
    stochastic_gradient_descent,
)

import minigrad as mg
from minigrad import data, optim

# ------------------------------------------------------------------------------------------- ours beside them


def regression(rows=50, n=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, n))
    return X, X @ rng.normal(size=n) + 0.1 * rng.normal(size=rows)


def fitted(X, y, rule, preset="S2", epochs=100, batch=None, sampler=None, **options):
    """theta after these epochs with our loader, gradients and rule; the loss is half the mean square."""
    theta = mg.Parameter(mg.zeros(X.shape[1], dtype=mg.float64))
    optimizer = optim.zoo[rule].cls.preset(preset, [theta], **options)
    examples = data.TensorDataset(mg.tensor(X), mg.tensor(y))
    loader = data.DataLoader(examples, batch_size=batch or len(X), shuffle=False, sampler=sampler)
    for _ in range(epochs):
        for a, b in loader:

            def closure(a=a, b=b):
                optimizer.zero_grad()
                loss = ((a @ theta - b) ** 2).mean() / 2
                loss.backward()
                return loss

            optimizer.step(closure)
    return theta.array


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_batch_gradient_descent():
    X, y = regression()
    same(fitted(X, y, "SGD", "S2_batch"), batch_gradient_descent(X, y))


def test_stochastic_gradient_descent_one_example_at_a_time_in_their_order():
    """Its bug: it never shuffles, so the result depends on how the rows happen to be sorted."""
    X, y = regression()
    printed = stochastic_gradient_descent(X, y, epochs=20)
    same(fitted(X, y, "SGD", "S2_stochastic", batch=1, epochs=20), printed)
    assert abs(stochastic_gradient_descent(X[::-1], y[::-1], epochs=20) - printed).max() > 1e-3
    assert abs(batch_gradient_descent(X[::-1], y[::-1]) - batch_gradient_descent(X, y)).max() < 1e-12


class Permuted:
    """A sampler that draws as the article does, from NumPy's global generator, anew in each epoch."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(np.random.permutation(self.n).tolist())

    def __len__(self):
        return self.n


def test_mini_batch_gradient_descent_with_a_short_last_batch():
    X, y = regression()
    np.random.seed(7)
    printed = mini_batch_gradient_descent(X, y)
    np.random.seed(7)
    same(fitted(X, y, "SGD", "S2_mini_batch", batch=32, sampler=Permuted(50)), printed)


def test_the_short_last_batch_is_divided_by_its_own_length_so_its_rows_weigh_more():
    """50 rows by 32: those of the last batch count 32/18 times as much in an epoch."""
    X, y = np.ones((50, 1)), np.zeros(50)
    y[:32] = 1.0  # without a shuffle the first batch is all ones, the last all zeros
    lr = 1e-6  # an epoch is the sum of its gradients, to first order
    theta = fitted(X, y, "SGD", "S2_mini_batch", batch=32, epochs=1, lr=lr)
    assert theta[0] / lr == pytest.approx(1.0, rel=1e-4)  # mean of 32 ones, and mean of 18 zeros
    assert 2 * batch_gradient_descent(X, y, lr, 1)[0] / lr == pytest.approx(2 * 32 / 50, rel=1e-4)


def test_gradient_descent_with_momentum():
    X, y = regression()
    same(fitted(X, y, "SGD"), gradient_descent_with_momentum(X, y))


def test_nesterov_accelerated_gradient_by_a_closure():
    """Also in the form for gradients at the parameters, whose iterates are the look-ahead points."""
    X, y = regression()
    printed = nesterov_accelerated_gradient(X, y)
    same(fitted(X, y, "NAG"), printed)
    shifted = fitted(X, y, "SGD", "sutskever", lr=0.01)
    assert abs(shifted - printed).max() > 1e-6
    v = (nesterov_accelerated_gradient(X, y, epochs=99) - printed) * 0.9
    same(shifted, printed - v)  # theta - gamma v, with v = theta_99 - theta_100


def test_adagrad_with_eps_inside_the_root():
    X, y = regression()
    same(fitted(X, y, "Adagrad"), adagrad(X, y))
    assert abs(fitted(X, y, "Adagrad", eps=1e-2) - adagrad(X, y, eps=1e-8)).max() > 1e-4
    same(fitted(X, y, "Adagrad", eps=1e-2), adagrad(X, y, eps=1e-2))
    assert abs(fitted(X, y, "Adagrad", "torch", lr=0.1, eps=1e-2) - adagrad(X, y, eps=1e-2)).max() > 1e-4


def test_rmsprop_with_eps_inside_the_root():
    X, y = regression()
    same(fitted(X, y, "RMSprop"), rmsprop(X, y))
    same(fitted(X, y, "RMSprop", eps=1e-2), rmsprop(X, y, eps=1e-2))
    assert abs(fitted(X, y, "RMSprop", "torch", alpha=0.9, eps=1e-2) - rmsprop(X, y, eps=1e-2)).max() > 1e-3


@pytest.mark.parametrize("function", [adam, adamw])
def test_adam_and_adamw_as_printed_do_not_run(function):
    """Their bug: m is the number of rows, and then the first moment, by which the gradient is divided.

    `(1/m) * X.T @ r` takes X.T (n, rows) times 1/m of shape (n,), which does not broadcast; where it happens
    to, for as many rows as columns or for one column, 1/0 makes everything nan at the first step.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(ValueError, match="could not be broadcast together"):
            function(*regression(50, 4))
        for shape in ((4, 4), (50, 1)):
            assert np.isnan(function(*regression(*shape), epochs=1)).all()


@pytest.mark.parametrize(("rule", "decay"), [("Adam", 0.0), ("AdamW", 0.01)])
def test_adam_and_adamw_mended(rule, decay):
    """The code has eps outside the root, the prose inside: presets S2 and S2_prose, apart at a large eps."""
    X, y = regression()
    for eps in (1e-8, 1e-2):
        code, prose = mended(decay)(X, y, eps=eps), mended(decay, eps_in_sqrt=True)(X, y, eps=eps)
        same(fitted(X, y, rule, eps=eps), code)
        same(fitted(X, y, rule, "S2_prose", eps=eps), prose)
    assert abs(code - prose).max() > 1e-5


def test_every_function_finds_the_line_given_time():
    X, y = regression()
    line = np.linalg.lstsq(X, y, rcond=None)[0]
    for rule in ("SGD", "NAG", "RMSprop", "Adagrad"):
        assert abs(fitted(X, y, rule, epochs=1500) - line).max() < 0.02, rule
    for rule in ("Adam", "AdamW"):
        assert abs(fitted(X, y, rule, epochs=1500, lr=0.01) - line).max() < 0.05, rule
