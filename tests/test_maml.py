"""MAML: the gradient goes through the inner steps, and what it trains adapts to a new wave in one of them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg


def example(name):
    path = Path(__file__).resolve().parent.parent / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"examples_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maml = example("maml")


def meta_gradient(weights, support, query, steps, create_graph=True):
    for w in weights:
        w.grad = None
    maml.loss(maml.adapted(weights, support, steps, 0.05, create_graph), query).backward()
    return np.concatenate([w.grad.numpy().ravel() for w in weights])


@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_is_the_difference_quotient_of_the_adapted_loss(steps):
    rng = np.random.default_rng(0)
    weights = maml.network(rng, 6, mg.float64)
    support, query = maml.waves(rng, 3, 5, mg.float64)
    exact = meta_gradient(weights, support, query, steps)
    along = [rng.normal(size=w.shape) for w in weights]

    def value(t):
        moved = [mg.tensor(w.array + t * v, requires_grad=True) for w, v in zip(weights, along, strict=True)]
        return float(maml.loss(maml.adapted(moved, support, steps, 0.05), query))

    quotient = (value(1e-6) - value(-1e-6)) / 2e-6
    assert exact @ np.concatenate([v.ravel() for v in along]) == pytest.approx(quotient, rel=1e-6)
    first = meta_gradient(weights, support, query, steps, create_graph=False)
    assert np.linalg.norm(first - exact) > 0.05 * np.linalg.norm(exact)  # the second derivatives count


@pytest.mark.oracle
def test_the_meta_gradient_is_pytorchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    weights = maml.network(rng, 8, mg.float64)
    support, query = maml.waves(rng, 4, 6, mg.float64)
    theirs = [torch.tensor(w.array, requires_grad=True) for w in weights]
    (xs, ys), (xq, yq) = [[torch.tensor(t.numpy()) for t in batch] for batch in (support, query)]

    def predict(ws, x):
        h = torch.relu(torch.relu(x @ ws[0] + ws[1]) @ ws[2] + ws[3])
        return h @ ws[4] + ws[5]

    total = 0.0
    for k in range(4):
        own = list(theirs)
        for _ in range(2):
            inner = ((predict(own, xs[k]) - ys[k]) ** 2).mean()
            own = [
                w - 0.05 * g
                for w, g in zip(own, torch.autograd.grad(inner, own, create_graph=True), strict=True)
            ]
        total = total + ((predict(own, xq[k]) - yq[k]) ** 2).mean()
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(total, theirs)]).numpy()
    np.testing.assert_allclose(meta_gradient(weights, support, query, 2), expected, rtol=1e-10, atol=1e-12)


def test_on_quadratic_tasks_it_is_the_closed_form():
    """L_i = (theta - a_i)^2 / 2: theta_i - a_i = (1 - alpha)(theta - a_i), the gradient has (1 - alpha)^2."""
    theta = mg.tensor([0.7, 0.7, 0.7], dtype="float64", requires_grad=True)
    goals = mg.tensor([1.0, -2.0, 0.5], dtype="float64")
    inner = ((theta - goals) ** 2).sum() / 2
    (g,) = mg.grad(inner, [theta], create_graph=True)
    ((theta - 0.1 * g - goals) ** 2).sum().backward()
    np.testing.assert_allclose(theta.grad.numpy(), 2 * 0.81 * (0.7 - goals.numpy()), rtol=1e-14)


def test_a_meta_trained_network_learns_a_wave_in_one_step_where_a_fresh_one_does_not():
    fresh = maml.errors(maml.network(np.random.default_rng(0)))
    second = maml.errors(maml.train(600, lr=1e-2))
    first = maml.errors(maml.train(600, lr=1e-2, first_order=True))
    assert second[1] < 0.25 * second[0] and second[5] < 0.12 * second[0]
    assert second[1] < 0.3 * min(fresh) and second[1] != first[1]
    assert first[1] < 0.6 * first[0]


def test_the_example_runs(capsys):
    found = maml.main(["--iterations", "3", "--first-order"])
    assert len(found) == 6 and "before training" in capsys.readouterr().out
