"""What the articles say of adaptive rules and their cost, measured: docs/articles.md tells it.

A guide to update rules (G), a tutorial (C), an encyclopedia's entry (E).
"""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim


def test_adamws_decay_is_scaled_by_the_learning_rate():
    """(E) prints (1 - lambda) theta: with its own lambda 0.01, 1,000 steps leave 4e-5 of a weight."""
    theta = mg.ones(1, dtype=mg.float64, requires_grad=True)
    optimizer = optim.AdamW([theta], lr=1e-3, weight_decay=0.01)
    for _ in range(1000):
        theta.grad = mg.zeros(1, dtype=mg.float64)
        optimizer.step()
    assert float(theta) == pytest.approx((1 - 1e-5) ** 1000) and float(theta) > 0.99
    printed = (1 - 0.01) ** 1000
    assert printed == pytest.approx(4.3e-5, rel=0.01)


def test_weight_decay_is_l2_only_without_adaptive_steps():
    """For plain SGD both are the same numbers; in Adam a penalty is divided by the gradient's size."""

    def trained(rule, **options):
        p = mg.tensor([1.0, 1.0], dtype=mg.float64, requires_grad=True)
        optimizer, scale = rule([p], **options), mg.tensor([1e-3, 1e3])
        for _ in range(50):
            p.grad = (scale * 0.1).to(mg.float64)
            optimizer.step()
        return 1.0 - p.detach().numpy()

    assert np.allclose(
        trained(optim.SGD, lr=1e-4, weight_decay=0.5),
        trained(optim.SGDW, lr=1e-4, weight_decay=0.5),
        atol=1e-12,
    )
    without = trained(optim.Adam, lr=1e-3)
    l2, decoupled = (trained(r, lr=1e-3, weight_decay=0.5) - without for r in (optim.Adam, optim.AdamW))
    assert l2[0] == pytest.approx(0, abs=1e-3) and l2[1] == pytest.approx(
        0, abs=1e-3
    )  # it makes no difference
    assert decoupled == pytest.approx([0.024, 0.024], abs=1e-3)  # 50 lr lambda


def test_adam_can_go_to_the_worst_point_and_amsgrad_does_not():
    """The convex problem of [Reddi et al. 2018, theorem 1], x in [-1, 1]: gradient 3 every third time, else
    -1. The best x is -1; Adam goes to 1."""

    def online(rule, steps=3000, **options):
        x = mg.tensor(0.0, dtype=mg.float64, requires_grad=True)
        optimizer = rule([x], lr=0.5, betas=(0.0, 0.1), **options)
        for t in range(1, steps + 1):
            optimizer.param_groups[0]["lr"] = 0.5 / math.sqrt(t)
            x.grad = mg.tensor(3.0 if t % 3 == 1 else -1.0, dtype=mg.float64)
            optimizer.step()
            x.data = x.data.clamp(-1, 1)
        return float(x)

    assert online(optim.Adam) > 0.9 and online(optim.Adam, amsgrad=True) < -0.9


def printed_adadelta(g_of, updated, steps=200, rho=0.9, eps=1e-6):
    theta, square, delta = 1.0, 0.0, 0.0
    for _ in range(steps):
        g = g_of(theta)
        square = rho * square + (1 - rho) * g * g
        step = -math.sqrt(delta + eps) / math.sqrt(square + eps) * g
        if updated:
            delta = rho * delta + (1 - rho) * step * step
        theta += step
    return theta


def test_adadelta_as_printed_lacks_half_of_its_state():
    """(E) never says how E[Delta^2] changes. It does, after the step; left at zero the steps stay at 1e-3."""
    whole, printed = (printed_adadelta(lambda t: t, updated) for updated in (True, False))
    p = mg.tensor(1.0, dtype=mg.float64, requires_grad=True)
    optimizer = optim.Adadelta([p], lr=1.0, rho=0.9, eps=1e-6)
    for _ in range(200):
        optimizer.zero_grad()
        (p * p / 2).backward()
        optimizer.step()
    assert float(p) == pytest.approx(whole, abs=1e-9) and abs(whole - printed) > 0.1


def test_eps_inside_or_outside_the_root_are_two_rules():
    """AdaGrad and RMSprop: (G, C) inside, (E) outside for AdaGrad, PyTorch outside."""
    for rule, options in ((optim.Adagrad, {}), (optim.RMSprop, dict(alpha=0.9))):
        p = mg.zeros(1, dtype=mg.float64, requires_grad=True)
        optimizer = rule([p], lr=1.0, eps=1e-2, **options)
        p.grad = mg.full((1,), 0.1, dtype=mg.float64)
        optimizer.step()
        square = 0.01 * (0.1 if rule is optim.RMSprop else 1.0)
        outside, inside = (-0.1 / (math.sqrt(square) + 1e-2), -0.1 / math.sqrt(square + 1e-2))
        assert float(p) == pytest.approx(outside, rel=1e-9) and abs(outside - inside) > 0.1


def test_rmsprop_divides_by_a_root():
    """Not 'by an average of squared gradients' (E): its step does not depend on the gradient's scale."""

    def step(scale):
        p = mg.zeros(1, dtype=mg.float64, requires_grad=True)
        p.grad = mg.full((1,), scale, dtype=mg.float64)
        optim.RMSprop([p], lr=1e-3, eps=1e-12).step()
        return float(p)

    assert step(1e-3) == pytest.approx(step(1e3), rel=1e-6)


def test_lars_is_not_adam_by_layers():
    """LARS has no second moment: its first step is along the gradient. LAMB's is along Adam's, the signs."""

    def direction(rule, **options):
        w = mg.ones(2, 2, dtype=mg.float64, requires_grad=True)
        before, g = w.detach().numpy().copy(), np.array([[1.0, 2.0], [3.0, 40.0]])
        w.grad = mg.tensor(g)
        rule([w], lr=0.1, weight_decay=0.0, **options).step()
        step = before - w.detach().numpy()
        return step / np.linalg.norm(step), g / np.linalg.norm(g)

    step, along = direction(optim.LARS)
    assert np.allclose(step, along, atol=1e-9)
    step, along = direction(optim.LAMB)
    assert np.allclose(step, 0.5, atol=1e-3) and np.abs(step - along).max() > 0.4


def test_kronecker_factors_are_not_linear_in_the_weights():
    """A layer of o x i weights keeps o^2 + i^2 numbers and takes roots of o^3 + i^3 operations, not o i."""

    def factors(inputs, outputs):
        layer = nn.Linear(inputs, outputs, bias=False)
        x = mg.randn(1, inputs)
        y = layer(x)
        (g,) = mg.grad((y**2).sum(), y, retain_graph=True)
        (y**2).sum().backward()
        return (g.mT @ g).numpy(), (x.mT @ x).numpy(), layer.weight.grad.numpy()

    B, A, gradient = factors(3, 2)
    assert np.allclose(np.kron(B, A), np.outer(gradient, gradient), rtol=1e-4, atol=1e-5)  # the Fisher, N = 1
    B, A, gradient = factors(2048, 16)
    assert (A.size + B.size) / gradient.size > 100
    assert (len(A) ** 3 + len(B) ** 3) / gradient.size > 1e5
