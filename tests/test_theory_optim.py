"""What the theory says of descent, measured through our optimizers: rates, bounds, edges, noise, the flow.

tests/test_theory.py has the worked examples on the square and the rates of SGD; here stand the look-ahead in
its literal form, the bounds for convex functions, the noise of minibatches, and descent as Euler's method.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, optim

KAPPA = 100.0
CURVATURES = np.geomspace(1 / KAPPA, 1.0, 8)  # L = 1, mu = 1/100


def descend(make, slope, start, steps, before=None):
    """The iterates of an optimizer on a function whose gradient is slope(x), in float64."""
    p = mg.Parameter(mg.tensor(np.array(start, float)))
    optimizer = make([p])
    path = [p.array.copy()]

    def closure():
        p.grad = mg.tensor(slope(p.array))

    for k in range(steps):
        if before is not None:
            before(optimizer, k)
        optimizer.step(closure)
        path.append(p.array.copy())
    return np.array(path)


def rate(make, steps=600):
    """The factor by which the error shrinks a step, from the second half of a run on the quadratic."""
    path = descend(make, lambda x: CURVATURES * x, np.ones(8), steps)
    errors = np.linalg.norm(path, axis=1)
    return (errors[-1] / errors[steps // 2]) ** (1 / (steps - steps // 2))


ROOT = np.sqrt(KAPPA)
BETA = ((ROOT - 1) / (ROOT + 1)) ** 2
STEP = (2 / (1 + 1 / ROOT)) ** 2  # (2 / (sqrt L + sqrt mu))^2
TUNED = np.sqrt(3 * KAPPA + 1)


@pytest.mark.parametrize(
    ("name", "make", "theory", "measured"),
    [
        ("2 / (L + mu)", lambda p: optim.SGD(p, 2 / 1.01), (KAPPA - 1) / (KAPPA + 1), 0.98020),
        ("1 / L", lambda p: optim.SGD(p, 1.0), 1 - 1 / KAPPA, 0.99),
    ],
)
def test_gradient_descent_at_condition_number_100(name, make, theory, measured):
    found = rate(make, 2000)
    assert found == pytest.approx(theory, abs=1e-5) and found == pytest.approx(measured, abs=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, STEP, BETA),
        lambda p: optim.SGD(p, STEP, BETA, form="velocity"),
        lambda p: optim.SGD(p, STEP / (1 - BETA), BETA, form="average"),
    ],
)
def test_the_heavy_ball_in_every_form_has_the_rate_of_the_square_root(make):
    """(sqrt kappa - 1) / (sqrt kappa + 1) = .8182, up to the transient of a Jordan block: .8201 +- .003."""
    found = rate(make)
    assert found == pytest.approx((ROOT - 1) / (ROOT + 1), abs=0.003)
    assert found == pytest.approx(0.8201, abs=0.003)


@pytest.mark.parametrize(
    "make",
    [
        lambda p, lr, mu: optim.NAG(p, lr, mu),
        lambda p, lr, mu: optim.NAG(p, lr, mu, form="heavy_ball"),
        lambda p, lr, mu: optim.SGD(p, lr, mu, nesterov=True),
        lambda p, lr, mu: optim.SGD(p, lr, mu, nesterov=True, form="velocity"),
        lambda p, lr, mu: optim.SGD(p, lr / (1 - mu), mu, nesterov=True, form="average"),
    ],
)
def test_nesterov_in_every_form_has_its_own_rate(make):
    """At 1/L and momentum 9/11: .9020 (1 - 1/sqrt kappa = .9); tuned: .8867 (1 - 2/sqrt(3 kappa + 1)).

    Neither is the heavy ball's: S0's "the asymptotic rate is the same as plain momentum" does not hold here.
    """
    plain = rate(lambda p: make(p, 1.0, 9 / 11))
    assert plain == pytest.approx(0.9020, abs=0.003) and plain == pytest.approx(1 - 1 / ROOT, abs=0.003)
    tuned = rate(lambda p: make(p, 4 / (3 + 1 / KAPPA), (TUNED - 2) / (TUNED + 2)))
    assert tuned == pytest.approx(0.8867, abs=0.003) and tuned == pytest.approx(1 - 2 / TUNED, abs=0.003)
    assert min(plain, tuned) - (ROOT - 1) / (ROOT + 1) > 0.05


def test_the_edge_of_gradient_descent_is_2_over_L():
    """Just below, the error shrinks; just above, it grows; on it, the steepest axis alternates."""
    lengths = {}
    for lr in (1.99, 2.0, 2.01):
        path = descend(lambda p, lr=lr: optim.SGD(p, lr), lambda x: CURVATURES * x, np.ones(8), 2000)
        lengths[lr] = np.linalg.norm(path[-1])
    assert lengths[1.99] < 1e-8 and lengths[2.01] > 1e8
    assert lengths[2.0] == pytest.approx(1, abs=1e-6)


def test_momentum_moves_the_edge_to_2_plus_2_beta_over_L():
    beta = 0.5
    for lr, shrinks in ((2 * (1 + beta) - 0.02, True), (2 * (1 + beta) + 0.02, False)):
        path = descend(lambda p, lr=lr: optim.SGD(p, lr, beta), lambda x: CURVATURES * x, np.ones(8), 3000)
        assert bool(np.linalg.norm(path[-1]) < 1e-8) is shrinks


# --------------------------------------------------------------------------------------- convex, not strongly

N = 401
CHAIN = (2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1)) / 4  # Nesterov's hardest quadratic, L = 1
PULL = np.eye(N)[0] / 4
SOLUTION = 1 - np.arange(1, N + 1) / (N + 1)


def gap(path):
    """f(x_k) - min f along a path."""
    away = path - SOLUTION
    return np.einsum("ki,ij,kj->k", away, CHAIN, away) / 2


def chain_slope(x):
    return CHAIN @ x - PULL


def test_on_convex_functions_descent_is_1_over_k_and_nesterov_1_over_k_squared():
    """f(x_k) - f* <= |x_0 - x*|^2 / (2 k) and <= 2 |x_0 - x*|^2 / (k + 1)^2, at lr = 1/L  [Nesterov 2004]

    On the hardest quadratic of n = 2 k + 1 dimensions no first-order method is below 3 |x_0 - x*|^2 / (32
    (k + 1)^2) after k steps [2.1]: Nesterov's is within a factor of 21 of that, gradient descent is not.
    """
    steps, far = (N - 1) // 2, SOLUTION @ SOLUTION
    k = np.arange(1, steps + 1)

    def lengthen(optimizer, t):
        optimizer.param_groups[0]["momentum"] = t / (t + 3)

    slow = gap(descend(lambda p: optim.SGD(p, 1.0), chain_slope, np.zeros(N), steps))[1:]
    fast = gap(descend(lambda p: optim.NAG(p, 1.0), chain_slope, np.zeros(N), steps, lengthen))[1:]
    lower, upper = 3 * far / (32 * (steps + 1) ** 2), 2 * far / (k + 1) ** 2
    assert (slow <= far / (2 * k)).all() and (fast <= upper).all()
    assert lower <= fast[-1] < 64 / 3 * lower < slow[-1]


# ---------------------------------------------------------------------------------------- minibatch gradients


def test_minibatch_gradients_are_unbiased_and_their_covariance_is_sigma_over_B():
    """Drawn with replacement: mean the gradient, covariance Sigma / B, Sigma that of one example's."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), rng.normal(size=60)
    theta = mg.tensor(rng.normal(size=3), requires_grad=True)
    xs, ys = mg.tensor(x), mg.tensor(y)

    def gradient(rows):
        return mg.grad(((xs[rows] @ theta - ys[rows]) ** 2).mean(), theta)[0].numpy()

    single = np.array([gradient([k]) for k in range(60)])
    whole, sigma = gradient(list(range(60))), np.cov(single.T, bias=True)
    assert np.allclose(single.mean(axis=0), whole, rtol=1e-12)
    draws, spread = 4000, {}
    for size in (1, 4, 16):
        found = np.array([gradient(rng.integers(0, 60, size).tolist()) for _ in range(draws)])
        error = np.sqrt(np.diag(sigma) / size / draws)
        assert (abs(found.mean(axis=0) - whole) < 5 * error).all()
        spread[size] = np.cov(found.T)
        assert np.linalg.norm(spread[size] - sigma / size) < 0.15 * np.linalg.norm(sigma / size)
    assert np.trace(spread[1]) / np.trace(spread[16]) == pytest.approx(16, rel=0.15)


def test_a_shuffled_epoch_uses_every_example_once_so_its_batches_average_to_the_gradient():
    rng = np.random.default_rng(1)
    x, y = mg.tensor(rng.normal(size=(64, 3))), mg.tensor(rng.normal(size=64))
    theta = mg.zeros(3, dtype=mg.float64, requires_grad=True)
    loader = data.DataLoader(data.TensorDataset(x, y), batch_size=16, shuffle=True)

    def gradient(a, b):
        return mg.grad(((a @ theta - b) ** 2).mean(), theta)[0].numpy()

    for _ in range(3):
        parts = [gradient(a, b) for a, b in loader]
        assert len(parts) == 4 and np.allclose(np.mean(parts, axis=0), gradient(x, y), rtol=1e-12)


# ------------------------------------------------------------------------------------------ descent as a flow


def test_gradient_descent_is_eulers_method_for_the_gradient_flow():
    """dx/dt = -grad f: a step is Euler's to the bit, and the error at time 1 is of first order in lr."""
    start, time = np.array([1.0, -2.0, 0.5]), 1.0
    h = np.array([0.5, 1.0, 3.0])
    exact = start * np.exp(-h * time)  # the flow of the quadratic
    one = descend(lambda p: optim.SGD(p, 0.25), lambda x: h * x, start, 1)[-1]
    assert (one == start - 0.25 * (h * start)).all()
    errors = []
    for steps in (50, 100, 200, 400):
        end = descend(lambda p, n=steps: optim.SGD(p, time / n), lambda x: h * x, start, steps)[-1]
        errors.append(np.linalg.norm(end - exact))
    ratios = np.array(errors[:-1]) / errors[1:]
    assert np.allclose(ratios, 2, atol=0.05)


def test_the_heavy_ball_is_a_second_order_flow_with_friction():
    """x'' + a x' + grad f = 0 (S3): lr = h^2 and momentum 1 - a h follow its solution to first order in h."""
    friction, time, omega = 1.0, 2.0, np.sqrt(4.0 - 0.25)  # x'' + x' + 4 x = 0
    exact = np.exp(-time / 2) * (np.cos(omega * time) + np.sin(omega * time) / (2 * omega))
    errors = []
    for steps in (200, 400, 800):
        h = time / steps
        path = descend(lambda p, h=h: optim.SGD(p, h * h, 1 - friction * h), lambda x: 4 * x, [1.0], steps)
        errors.append(abs(path[-1][0] - exact))
    assert errors[-1] < 0.01 and np.allclose(np.array(errors[:-1]) / errors[1:], 2, atol=0.15)


def test_robbins_and_monros_conditions_find_the_mean_and_a_constant_rate_does_not():
    """lr_t = 1 / t: the sum diverges, that of squares does not. On (x - y)^2 / 2 that is the running mean."""
    rng = np.random.default_rng(2)
    y = rng.normal(3.0, 1.0, size=2000)
    seen = iter(y)

    def anneal(optimizer, t):
        optimizer.param_groups[0]["lr"] = 1 / (t + 1)

    path = descend(lambda p: optim.SGD(p, 1.0), lambda x: x - next(seen), [0.0], 2000, anneal)
    assert np.allclose(path[1:, 0], np.cumsum(y) / np.arange(1, 2001), rtol=1e-10)
    seen = iter(y)
    constant = descend(lambda p: optim.SGD(p, 0.5), lambda x: x - next(seen), [0.0], 2000)
    assert np.std(constant[1000:]) == pytest.approx(np.sqrt(0.5 / 1.5), rel=0.1)  # lr sigma^2 / (2 - lr)
