"""Newton's method: exact on a quadratic, quadratic near a minimum, safe at saddles, walls and flat places."""

import itertools
import json
import math

import numpy as np
import pytest
from networks import network, problem
from oracle import oracle

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

PURE = dict(line_search_fn=None)
RULES = [
    (optim.Newton, {}),
    (optim.Newton, PURE),
    (optim.Newton, dict(modification="shift")),
    (optim.Newton, dict(adapt_damping=True)),
    (optim.NewtonCG, {}),
    (optim.NewtonCG, dict(method="trust")),
]
IDS = [f"{c.__name__} {' '.join(map(str, o.values()))}" for c, o in RULES]


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def valley(n):
    return np.tile([-1.2, 1.0], n // 2)


def run(rule, start, f, steps=1, dtype="float64", **options):
    """(evaluated losses, parameter, optimizer) after so many steps on f."""
    p = nn.Parameter(mg.tensor(start, dtype=dtype))
    optimizer, seen = rule([p], **options), []

    def closure():
        optimizer.zero_grad()
        loss = f(p)
        loss.backward()
        seen.append(float(loss))
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return seen, p, optimizer


def definite(n, condition=1e4, seed=0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return q @ np.diag(np.geomspace(1, condition, n)) @ q.T, rng.normal(size=n)


def quadratic(a, b):
    a, b = mg.tensor((a + a.T) / 2), mg.tensor(b)
    return lambda x: x @ a @ x / 2 - b @ x


# -------------------------------------------------------------------------------------------------- theory


@pytest.mark.parametrize(("rule", "options"), RULES[:3], ids=IDS[:3])
@pytest.mark.parametrize("n", [1, 5, 30])
def test_a_quadratic_is_solved_in_one_step(rule, options, n):
    a, b = definite(n)
    _, p, _ = run(rule, np.ones(n), quadratic(a, b), **options)
    np.testing.assert_allclose(p.array, np.linalg.solve((a + a.T) / 2, b), rtol=1e-9, atol=1e-11)


def test_cg_solves_a_quadratic_as_precisely_as_it_is_asked():
    a, b = definite(20, 100)
    exact = np.linalg.solve((a + a.T) / 2, b)
    for options in ({}, dict(method="trust")):
        seen, p, _ = run(optim.NewtonCG, np.zeros(20), quadratic(a, b), 15, tolerance_grad=0, **options)
        np.testing.assert_allclose(p.array, exact, rtol=1e-6, atol=1e-7)
        assert len(seen) <= 80


@pytest.mark.parametrize(("rule", "options"), RULES[:2] + RULES[4:], ids=IDS[:2] + IDS[4:])
def test_each_step_squares_the_error(rule, options):
    # near the minimum of a smooth convex function; a gradient method would lose a constant factor
    def f(x):
        return (mg.exp(x) - 2 * x).sum() + (x * x).sum() ** 2 / 10

    start = np.array([1.0, 0.4, 0.8])
    _, best, _ = run(optim.Newton, start, f, 12, tolerance_grad=0, **PURE)
    p = nn.Parameter(mg.tensor(start))
    optimizer, errors = rule([p], tolerance_grad=0, **options), []

    def closure():
        optimizer.zero_grad()
        loss = f(p)
        loss.backward()
        return loss

    for _ in range(9):
        optimizer.step(closure)
        errors.append(float(np.linalg.norm(p.array - best.array)))
    exact = rule is optim.Newton
    # a search sees the loss, which knows the place to the root of its rounding
    least = 1e-13 if options == PURE else 1e-8
    last = [(a, b) for a, b in itertools.pairwise(errors) if a < 0.2 and b > least]
    assert len(last) >= 2 and errors[-1] < least
    for a, b in last:  # the inexact solution allows an order of 3/2
        assert b <= (2 * a**2 if exact else 3 * a**1.5)


def test_the_step_does_not_depend_on_the_coordinates():
    a = np.random.default_rng(0).normal(size=(2, 2)) + 2 * np.eye(2)
    t = mg.tensor(a)
    _, p, _ = run(optim.Newton, valley(2), rosenbrock, 3, **PURE)
    _, q, _ = run(optim.Newton, np.linalg.solve(a, valley(2)), lambda y: rosenbrock(t @ y), 3, **PURE)
    np.testing.assert_allclose(a @ q.array, p.array, rtol=1e-8)


def test_the_step_is_the_solution_with_the_exact_hessian_and_damping():
    x = np.array([0.3, -0.7])
    h = np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200.0]])
    g = np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])
    for damping in (0.0, 3.0, 1e4):
        _, p, _ = run(optim.Newton, x, rosenbrock, damping=damping, **PURE)
        np.testing.assert_allclose(p.array, x - np.linalg.solve(h + damping * np.eye(2), g), rtol=1e-9)
        options = dict(damping=damping * 1e-12, tolerance_grad=0)  # so small a gradient asks for precision
        _, q, _ = run(optim.NewtonCG, x, lambda x: rosenbrock(x) * 1e-12, **options)
        np.testing.assert_allclose(q.array, p.array, rtol=1e-3)


# -------------------------------------------------------------------------------------------- yardsticks


@pytest.mark.oracle
@pytest.mark.parametrize("n", [2, 10])
@pytest.mark.parametrize(("method", "theirs"), [("armijo", "Newton-CG"), ("trust", "trust-ncg")])
def test_rosenbrock_takes_no_more_evaluations_than_scipys(n, method, theirs):
    scipy = oracle("scipy.optimize")
    options = dict(method=method, max_iter=300, tolerance_grad=1e-5)
    seen, p, o = run(optim.NewtonCG, valley(n), rosenbrock, **options)
    found = scipy.minimize(scipy.rosen, valley(n), jac=scipy.rosen_der, hess=scipy.rosen_hess, method=theirs)
    assert len(seen) <= 1.2 * found.nfev and o.state[p]["n_iter"] <= 1.2 * found.nit
    assert seen[-1] < 1e-9 and abs(p.array - 1).max() < 1e-4


def test_iterations_in_one_step_are_those_of_several_steps():
    for rule, options in RULES:
        seen, p, _ = run(rule, valley(2), rosenbrock, 1, max_iter=6, **options)
        more, q, _ = run(rule, valley(2), rosenbrock, 6, **options)
        assert p.array.tobytes() == q.array.tobytes()
        assert len(more) == len(seen) + 5  # the place where a step begins is not asked again


def test_a_trust_region_holds_the_step():
    for radius in (0.01, 0.5):
        _, p, o = run(optim.NewtonCG, valley(2), rosenbrock, 1, method="trust", radius=radius)
        assert np.linalg.norm(p.array - valley(2)) <= radius * (1 + 1e-9)
    steps, radii = [], []
    p = nn.Parameter(mg.tensor(valley(2)))
    o = optim.NewtonCG([p], method="trust", radius=1e-3, max_radius=0.1)

    def closure():
        o.zero_grad()
        loss = rosenbrock(p)
        loss.backward()
        return loss

    for _ in range(20):
        before = p.array.copy()
        o.step(closure)
        steps.append(np.linalg.norm(p.array - before))
        radii.append(o.state[p]["radius"])
    assert radii[:3] == [2e-3, 4e-3, 8e-3] and max(radii) == 0.1 and max(steps) <= 0.1 * (1 + 1e-9)


# ------------------------------------------------------------------------------------------------ pitfalls


@pytest.mark.parametrize(("rule", "options"), RULES, ids=IDS)
def test_at_a_saddle_it_goes_down(rule, options):
    # x^2 - y^2 + y^4: the pure step would go to the saddle at 0, the minima are at y = +-sqrt(1/2)
    def f(x):
        return x[0] ** 2 - x[1] ** 2 + x[1] ** 4

    seen, p, _ = run(rule, np.array([0.5, 0.1]), f, 12, **options)
    np.testing.assert_allclose(np.abs(p.array), [0, math.sqrt(0.5)], atol=1e-5)
    assert min(seen) < -0.2499


@pytest.mark.parametrize(("rule", "options"), RULES, ids=IDS)
def test_a_singular_hessian_moves_what_it_can(rule, options):
    # (x + y - 1)^2 has a line of minima; z is not in the loss at all
    seen, p, _ = run(rule, np.array([3.0, -1.5, 7.0]), lambda x: (x[0] + x[1] - 1) ** 2, 30, **options)
    assert seen[-1] < 1e-8 and p.array[2] == 7
    assert abs(p.array[0] - p.array[1] - 4.5) < 1e-9  # along the line it stays
    seen, p, _ = run(rule, np.array([0.0, 0.0]), lambda x: x[0] * 2 - 3 * x[1], 3, **options)  # no curvature
    assert seen[-1] < seen[0] and np.isfinite(p.array).all()


@pytest.mark.parametrize(("rule", "options"), RULES, ids=IDS)
def test_a_wall_is_not_crossed_and_nan_moves_nothing(rule, options):
    c = mg.tensor([5.0, -3.0], dtype="float64")

    def barrier(x):
        return (x * c).sum() - 0.1 * mg.log(1 - x * x).sum()

    exact = (0.1 - np.sqrt(0.01 + c.array**2)) / c.array
    _, p, _ = run(rule, np.zeros(2), barrier, 60, **options)
    if options != PURE:
        np.testing.assert_allclose(p.array, exact, atol=1e-6)
    assert np.isfinite(float(barrier(p)))
    seen, p, o = run(rule, np.array([-1.0]), lambda x: mg.log(x).sum(), 2, **options)
    assert len(seen) == 2 and p.array[0] == -1 and not o.state[p]


@pytest.mark.parametrize(("rule", "options"), RULES[:1] + RULES[2:], ids=IDS[:1] + IDS[2:])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_loss_never_rises_and_the_work_is_bounded(rule, options, dtype):
    for n in (2, 6):
        seen, p, o = run(rule, valley(n), lambda x: rosenbrock(x) + 3, 40, dtype, **options)
        with mg.no_grad():
            assert float(rosenbrock(p) + 3) <= min(seen)
        assert len(seen) <= 40 * 41 / 4 and o.state[p]["products"] <= 40 * 2 * n


def test_graphs_are_released():
    alive = []
    p = nn.Parameter(mg.tensor(valley(2)))
    for rule, options in RULES:
        optimizer = rule([p], max_iter=2, **options)

        def closure(optimizer=optimizer):
            optimizer.zero_grad()
            loss = rosenbrock(p)
            loss.backward()
            alive.append(loss)
            return loss

        optimizer.step(closure)
        assert alive[0].node.saved is None
        with pytest.raises(RuntimeError):
            alive[0].backward()
        alive.clear()


def test_a_loss_without_graph_is_refused():
    p = nn.Parameter(mg.ones(2))
    for rule in (optim.Newton, optim.NewtonCG):
        with pytest.raises(TypeError, match="the closure gave a float without one"):
            rule([p]).step(lambda: 1.0)
        with pytest.raises(TypeError, match=r"without \.item\(\) or \.detach\(\)"):
            rule([p]).step(lambda: (p * p).sum().detach())


def test_newton_refuses_more_parameters_than_it_can_hold_by_the_bytes():
    p = nn.Parameter(mg.zeros(50, 41))
    with pytest.raises(ValueError, match="the Hessian of 2,050 parameters would take 33,620,000 bytes"):
        optim.Newton([p])
    optim.Newton([p], max_parameters=2050)
    optim.NewtonCG([p])


def test_options_out_of_range_are_refused_by_name():
    p = [nn.Parameter(mg.ones(2))]
    for rule, bad in (
        (optim.Newton, dict(damping=-1, line_search_fn="wolfe", modification="none", max_iter=0, lr=-1)),
        (optim.NewtonCG, dict(damping=-1, method="wolfe", max_cg=0, radius=0, max_radius=0.5, max_iter=0)),
    ):
        for name, value in bad.items():
            with pytest.raises(ValueError, match=rf"{rule.__name__}: Invalid .*{value}"):
                rule(p, **{name: value})


# --------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(("rule", "options"), RULES, ids=IDS)
def test_a_network_learns_and_a_resumed_run_is_the_same_to_the_bit(rule, options):
    one, two, three = network(), network(), network(1)
    whole, first, second = (rule(m.named_parameters(), **options) for m in (one, two, three))
    losses = [float(whole.step(problem(one, whole))) for _ in range(8)]
    if options != PURE:
        assert losses == sorted(losses, reverse=True) and losses[-1] < 0.75 * losses[0]
    for _ in range(4):
        first.step(problem(two, first))
    three.load_state_dict(two.state_dict())
    second.load_state_dict(first.state_dict())
    json.dumps(first.state_dict())
    for _ in range(4):
        second.step(problem(three, second))
    for p, q in zip(one.parameters(), three.parameters(), strict=True):
        assert p.array.tobytes() == q.array.tobytes()
    assert second.state_dict()["state"] == whole.state_dict()["state"]


def test_the_hessian_of_a_network_is_that_of_the_library():
    model = network()
    optimizer = optim.Newton(model.parameters(), lr=1, damping=0.5, **PURE)
    closure = problem(model, optimizer)
    before = [p.array.copy() for p in model.parameters()]
    flat = np.concatenate([p.ravel() for p in before])

    def loss(v):
        parts, at = [], 0
        for p in before:
            parts.append(v[at : at + p.size].reshape(*p.shape))
            at += p.size
        rng = np.random.default_rng(0)
        x, y = mg.tensor(rng.normal(size=(40, 3))), mg.tensor(rng.normal(size=(40, 1)))
        return F.mse_loss(F.linear(mg.tanh(F.linear(x, parts[0], parts[1])), parts[2], parts[3]), y)

    v = mg.tensor(flat)
    h = mg.autograd.functional.hessian(loss, v).numpy()
    closure()
    g = np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])
    values, vectors = np.linalg.eigh(h)
    exact = flat - vectors @ (vectors.T @ g / (np.abs(values) + 0.5))
    optimizer.step(closure)
    found = np.concatenate([p.array.ravel() for p in model.parameters()])
    np.testing.assert_allclose(found, exact, rtol=1e-8, atol=1e-10)
