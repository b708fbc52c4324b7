"""What the theory says of gradient descent, as numbers: on parabolas everything is known in closed form."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim


def minimize(rule, loss, start, steps, **options):
    """The iterates of an optimizer on loss(theta), in float64."""
    theta = mg.tensor(start, dtype=mg.float64, requires_grad=True)
    optimizer = rule([theta], **options)
    path = [np.array(theta.tolist())]
    for _ in range(steps):
        optimizer.zero_grad()
        loss(theta).backward()
        optimizer.step()
        path.append(np.array(theta.tolist()))
    return path


@pytest.mark.parametrize(
    ("lr", "path"),
    [(0.5, [1, 0, 0, 0]), (0.1, [1, 0.8, 0.64, 0.512]), (1.5, [1, -2, 4, -8]), (1.0, [1, -1, 1, -1])],
)
def test_descent_on_the_square_multiplies_by_1_minus_2_lr(lr, path):
    """theta <- (1 - 2 lr) theta: one step at 1/2, geometric below, divergent above the boundary 2/L = 1."""
    assert np.allclose(minimize(optim.SGD, lambda t: (t * t).sum(), [1.0], 3, lr=lr), np.array(path)[:, None])


CURVATURES = np.geomspace(0.01, 1.0, 8)  # condition number 100; L = 1, mu = 0.01


def rate(steps, **options):
    """The factor by which the error shrinks a step, at the end of a run on the quadratic."""
    h = mg.tensor(CURVATURES)
    path = minimize(optim.SGD, lambda t: (h * t * t).sum() / 2, np.ones(8).tolist(), steps, **options)
    errors = [np.linalg.norm(p) for p in path]
    return (errors[-1] / errors[steps // 2]) ** (1 / (steps - steps // 2))


def test_gradient_descent_converges_at_the_rate_of_its_condition_number():
    assert rate(1000, lr=2 / 1.01) == pytest.approx(99 / 101, abs=1e-4)  # (kappa - 1) / (kappa + 1)
    assert rate(1000, lr=1.0) == pytest.approx(0.99, abs=1e-4)  # 1 - mu / L


def test_heavy_ball_converges_at_the_rate_of_the_square_root():
    """(sqrt kappa - 1) / (sqrt kappa + 1) = 9/11, up to the transient of a Jordan block."""
    lr, momentum = (2 / (1 + 0.1)) ** 2, (9 / 11) ** 2
    assert rate(400, lr=lr, momentum=momentum) == pytest.approx(9 / 11, abs=0.003)


def test_nesterov_is_not_the_heavy_ball():
    """At lr 1/L and momentum 9/11 its rate is 1 - 1/sqrt kappa = 0.9, not the tuned heavy ball's 9/11."""
    found = rate(400, lr=1.0, momentum=9 / 11, nesterov=True)
    assert found == pytest.approx(0.902, abs=0.003)
    assert abs(found - 9 / 11) > 0.05


def test_the_average_of_minibatch_gradients_is_the_gradient():
    """S0: a minibatch gradient is unbiased; over an epoch of equal batches the mean is exact."""
    rng = np.random.default_rng(0)
    x, y = mg.tensor(rng.standard_normal((60, 3))), mg.tensor(rng.standard_normal(60))
    theta = mg.zeros(3, dtype=mg.float64, requires_grad=True)

    def gradient(rows):
        return mg.grad(((x[rows] @ theta - y[rows]) ** 2).mean(), theta)[0].numpy()

    whole = gradient(slice(None))
    parts = [gradient(slice(k, k + 10)) for k in range(0, 60, 10)]
    assert np.allclose(np.mean(parts, axis=0), whole, rtol=1e-12)
