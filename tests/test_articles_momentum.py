"""Momentum in the articles' three forms, and how fast methods shrink an error: docs/articles.md tells it.

A textbook chapter (T), a guide to update rules (G), a tutorial (C), an encyclopedia's entry (E).
"""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim

# ----------------------------------------------------------------------------- momentum, in its three forms


def momentum(form, rates, beta=0.9, curvature=1.0, start=1.0):
    """theta_t of a momentum method on L = curvature theta^2 / 2, with a learning rate for each step."""
    theta, v, found = start, 0.0, []
    for lr in rates:
        g = curvature * theta
        if form == "a":  # (T) m = beta m + g, theta - lr m
            v = beta * v + g
            theta -= lr * v
        elif form == "b":  # (G) v = beta v + (1 - beta) g, theta - lr v
            v = beta * v + (1 - beta) * g
            theta -= lr * v
        else:  # (C, E) v = gamma v + lr g, theta - v
            v = beta * v + lr * g
            theta -= v
        found.append(theta)
    return np.array(found)


def ours_with_momentum(rates, start=1.0, rule=optim.SGD, **options):
    theta = mg.tensor(start, dtype=mg.float64, requires_grad=True)
    optimizer, found = rule([theta], lr=1.0, **{"momentum": 0.9, **options}), []
    for lr in rates:
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        (theta * theta / 2).backward()
        optimizer.step()
        found.append(float(theta))
    return np.array(found)


def test_momentums_three_forms_agree_only_while_the_rate_is_constant():
    constant, falling = [0.05] * 40, [0.05] * 20 + [0.005] * 20
    assert np.allclose(momentum("a", constant), momentum("c", constant), atol=1e-15)
    assert np.abs(momentum("a", falling) - momentum("c", falling)).max() > 0.01
    assert np.allclose(momentum("b", falling), momentum("a", np.multiply(0.1, falling)), atol=1e-15)
    assert np.allclose(ours_with_momentum(falling), momentum("a", falling), atol=1e-12)  # PyTorch's


def test_the_guides_momentum_is_not_pytorchs_dampening():
    """PyTorch's first step is not dampened; the guide's is."""
    rates = [0.5] * 30
    assert np.abs(ours_with_momentum(rates, dampening=0.9) - momentum("b", rates)).max() > 0.03
    assert np.allclose(ours_with_momentum(np.multiply(0.1, rates)), momentum("b", rates), atol=1e-12)


def test_the_textbooks_moving_average_is_a_sum():
    """m = beta m + g of a constant gradient 1 tends to 10: ten gradients' worth, no average of them."""
    m = 0.0
    for _ in range(500):
        m = 0.9 * m + 1.0
    assert m == pytest.approx(10.0)
    theta = mg.tensor(0.0, dtype=mg.float64, requires_grad=True)
    optimizer, before = optim.SGD([theta], lr=1.0, momentum=0.9), 0.0
    for _ in range(500):
        before = float(theta)
        optimizer.zero_grad()
        theta.backward()
        optimizer.step()
    assert before - float(theta) == pytest.approx(10.0)


def test_the_guides_momentum_and_its_nesterov_differ_by_ten_in_the_rate():
    """v = beta v + (1 - beta) g in one paragraph, v = beta v - alpha g in the next: steps of 1 and of 10."""
    v = w = 0.0
    for _ in range(500):
        v, w = 0.9 * v + 0.1 * 1.0, 0.9 * w - 1.0
    assert abs(w / v) == pytest.approx(10.0)


# -------------------------------------------------------------------------------------- rates on quadratics


def rate(step, curvatures, steps=2000):
    """Asymptotic factor by which the error of a linear method shrinks: its largest eigenvalue, measured."""
    errors = np.ones(len(curvatures))
    state = (errors, errors.copy())
    norms = []
    for _ in range(steps):
        state = step(state, curvatures)
        norms.append(np.abs(state[0]).max())
    return (norms[-1] / norms[steps // 2]) ** (1 / (steps - 1 - steps // 2))


CURVATURES = np.geomspace(0.01, 1.0, 30)  # condition number 100


def heavy_ball(lr, beta):
    return lambda s, h: (s[0] - lr * h * s[0] + beta * (s[0] - s[1]), s[0])


def nesterov(lr, beta):
    def step(s, h):
        ahead = s[0] + beta * (s[0] - s[1])
        return ahead - lr * h * ahead, s[0]

    return step


def test_nesterovs_rate_on_quadratics_is_not_heavy_balls():
    """kappa = 100: gradient descent 0.980, heavy ball 0.82, Nesterov's 0.90 with 1/L, 0.885 at its best."""
    root = math.sqrt(100)
    lr, beta = 4 / (1 + math.sqrt(0.01)) ** 2, ((root - 1) / (root + 1)) ** 2
    ball = rate(heavy_ball(lr, beta), CURVATURES)
    plain = rate(heavy_ball(2 / 1.01, 0.0), CURVATURES)
    nag = rate(nesterov(1.0, (root - 1) / (root + 1)), CURVATURES)
    third = math.sqrt(3 * 100 + 1)
    best = rate(nesterov(4 / (3 + 0.01), (third - 2) / (third + 2)), CURVATURES)
    assert plain == pytest.approx(99 / 101, abs=1e-3)
    assert ball == pytest.approx((root - 1) / (root + 1), abs=3e-3)
    assert nag == pytest.approx(1 - 1 / root, abs=3e-3)
    assert best == pytest.approx(1 - 2 / third, abs=3e-3)
    assert best > ball + 0.05


def test_our_nesterov_has_nesterovs_rate():
    theta = mg.ones(30, dtype=mg.float64, requires_grad=True)
    optimizer, h, norms = (
        optim.SGD([theta], lr=1.0, momentum=9 / 11, nesterov=True),
        mg.tensor(CURVATURES),
        [],
    )
    for _ in range(300):
        optimizer.zero_grad()
        (h * theta * theta / 2).sum().backward()
        optimizer.step()
        norms.append(float(theta.abs().max()))
    assert (norms[-1] / norms[149]) ** (1 / 150) == pytest.approx(0.902, abs=3e-3)


def test_momentums_square_root_needs_a_tuned_beta():
    """With the typical 0.9 the rate is sqrt(0.9) = 0.949 for kappa = 100, not 0.818."""
    measured = rate(heavy_ball(1.0, 0.9), CURVATURES)
    assert measured == pytest.approx(math.sqrt(0.9), abs=5e-3)


@pytest.mark.parametrize(
    ("lr", "expected"), [(0.5, [0, 0, 0]), (0.1, [0.8, 0.64, 0.512]), (1.5, [-2, 4, -8])]
)
def test_the_textbooks_parabola(lr, expected):
    """And so batch gradient descent is not 'guaranteed to converge' on a convex function: lr < 2 / L is."""
    theta = mg.tensor(1.0, dtype=mg.float64, requires_grad=True)
    optimizer, found = optim.SGD([theta], lr=lr), []
    for _ in range(3):
        optimizer.zero_grad()
        (theta * theta).backward()
        optimizer.step()
        found.append(float(theta))
    assert found == pytest.approx(expected)


def test_convex_does_not_mean_one_minimum():
    """(x + y - 1)^2 has a line of them: where descent ends depends on where it began; e^-x has none."""

    def descended(start):
        p = mg.tensor(start, dtype=mg.float64, requires_grad=True)
        optimizer = optim.SGD([p], lr=0.1)
        for _ in range(200):
            optimizer.zero_grad()
            ((p.sum() - 1) ** 2).backward()
            optimizer.step()
        return p.detach().numpy()

    a, b = descended([0.0, 0.0]), descended([2.0, 0.0])
    assert a.sum() == pytest.approx(1) and b.sum() == pytest.approx(1) and np.abs(a - b).max() > 0.9


def test_newtons_method_goes_to_saddles():
    """x^2 - y^2: one Newton step lands on the saddle, gradient descent leaves it."""
    p = mg.tensor([0.3, 0.4], dtype=mg.float64, requires_grad=True)

    def saddle(p):
        return p[0] ** 2 - p[1] ** 2

    (g,) = mg.grad(saddle(p), p)
    newton = p.detach().numpy() - np.linalg.solve(mg.hessian(saddle, p.detach()).numpy(), g.numpy())
    assert np.allclose(newton, 0)
    assert abs(float((p - 0.1 * g)[1])) > 0.4
