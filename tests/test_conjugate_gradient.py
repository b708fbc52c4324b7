"""Conjugate gradients: linear ones are scipy's, end in n steps; nonlinear ones are those on a quadratic."""

import itertools
import json
import math

import numpy as np
import pytest
from networks import network, problem
from oracle import oracle

import minigrad as mg
from minigrad import nn, optim
from minigrad.optim import conjugate_gradient

TIGHT = dict(max_iter=2000, max_eval=9000, tolerance_grad=1e-5, tolerance_change=0.0)


def definite(n, condition=100.0, seed=0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return q @ np.diag(np.geomspace(1, condition, n)) @ q.T, rng.normal(size=n)


# -------------------------------------------------------------------------------------------------- linear


@pytest.mark.oracle
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("begin", [False, True])
def test_iterates_are_scipys(preconditioned, begin):
    cg = oracle("scipy.sparse.linalg").cg
    a, b = definite(30)
    m = np.diag(1 / np.diag(a)) if preconditioned else None
    x0 = np.ones(30) if begin else None
    ours, theirs = [], []
    found = conjugate_gradient(a, b, x0, rtol=1e-10, M=m, callback=lambda x: ours.append(x.copy()), replace=0)
    _, info = cg(a, b, x0, rtol=1e-10, M=m, callback=lambda x: theirs.append(x.copy()))
    assert found.why == "converged" and info == 0 and found.iterations == len(ours) == len(theirs)
    for u, v in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.x, np.linalg.solve(a, b), rtol=1e-8, atol=1e-9)


def test_it_ends_in_n_steps_and_in_as_many_as_there_are_eigenvalues():
    a, b = definite(20, 10)
    assert conjugate_gradient(a, b, rtol=1e-9).iterations <= 20
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(50, 50)))
    three = q @ np.diag(np.repeat([1.0, 5.0, 9.0], [20, 20, 10])) @ q.T
    assert conjugate_gradient(three, np.ones(50), rtol=1e-10).iterations == 3


def test_errors_fall_as_the_bound_says():
    a, b = definite(60, 100)
    exact, errors = np.linalg.solve(a, b), []
    conjugate_gradient(
        a, b, rtol=1e-12, maxiter=40, callback=lambda x: errors.append((x - exact) @ a @ (x - exact))
    )
    first = exact @ a @ exact
    rate = (math.sqrt(100) - 1) / (math.sqrt(100) + 1)
    for k, error in enumerate(errors, 1):
        assert math.sqrt(error / first) <= 2 * rate**k * (1 + 1e-6) + 1e-12
    assert all(v < u for u, v in itertools.pairwise(errors) if v > 1e-20 * first)


def test_the_inverse_as_preconditioner_ends_in_one_step():
    a, b = definite(20, 1e4)
    assert conjugate_gradient(a, b, M=np.linalg.inv(a), rtol=1e-8).iterations == 1
    d = np.diag(np.geomspace(1, 1e6, 40))
    assert conjugate_gradient(d, np.ones(40), M=lambda v: v / np.diag(d)).iterations == 1


def test_replacement_keeps_the_residual_true():
    a, b = definite(200, 1e3)
    a, b = a.astype("float32"), b.astype("float32")

    def residuals(every):
        found = conjugate_gradient(a, b, rtol=0, maxiter=600, replace=every)
        true = np.linalg.norm(b.astype("float64") - a.astype("float64") @ found.x.astype("float64"))
        return found.residual, true

    said, true = residuals(0)
    assert said < 1e-10 < 1e-5 < true  # the recurrence goes on to zero, x does not
    for every in (20, 50):
        said, true = residuals(every)
        assert 0.3 < said / true < 3 and true < 2e-2


def test_tensors_products_and_starts():
    a, b = definite(8)
    calls = []

    def product(v):
        assert isinstance(v, mg.Tensor)
        calls.append(1)
        return mg.tensor(a) @ v

    found = conjugate_gradient(product, mg.tensor(b), rtol=1e-10)
    assert isinstance(found.x, mg.Tensor) and len(calls) == found.iterations
    np.testing.assert_allclose(found.x.numpy(), np.linalg.solve(a, b), rtol=1e-8)
    again = conjugate_gradient(a, b, found.x.numpy(), rtol=1e-8)
    assert again.iterations == 0 and again.why == "converged"
    assert conjugate_gradient(a, np.zeros(8)).iterations == 0
    x0 = np.ones(8)
    conjugate_gradient(a, b, x0)
    assert (x0 == 1).all()
    assert conjugate_gradient(a.astype("float32"), b.astype("float32")).x.dtype == np.float32
    assert conjugate_gradient(lambda v: v, np.zeros(0)).why == "converged"


def test_what_is_not_definite_is_seen_and_ends():
    found = conjugate_gradient(np.diag([1.0, -2.0]), np.array([1.0, 0.1]))
    assert found.why == "negative curvature" and found.d @ np.diag([1.0, -2.0]) @ found.d <= 0
    found = conjugate_gradient(np.zeros((3, 3)), np.ones(3))
    assert found.why == "negative curvature" and (found.x == 0).all() and found.iterations == 1
    found = conjugate_gradient(np.full((3, 3), np.nan), np.ones(3))
    assert found.why == "not finite" and (found.x == 0).all()
    found = conjugate_gradient(np.array([[0.0, 1.0], [-1.0, 0.0]]), np.ones(2))  # not symmetric either
    assert found.why == "negative curvature"
    found = conjugate_gradient(*definite(50, 1e12), rtol=1e-14, maxiter=7)
    assert found.why == "iterations" and found.iterations == 7
    found = conjugate_gradient(*definite(50, 1e12), rtol=0)
    assert found.why == "iterations" and found.iterations == 500
    with pytest.raises(ValueError, match=r"b \[2, 2\]"):
        conjugate_gradient(np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match=r"b \[2\], x0 \[3\]"):
        conjugate_gradient(np.eye(2), np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match=r"A v has shape \[1\], b \[2\]"):
        conjugate_gradient(lambda v: v[:1], np.ones(2))


# ----------------------------------------------------------------------------------------------- nonlinear


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def run(start, f, steps=1, dtype="float64", **options):
    p = nn.Parameter(mg.tensor(start, dtype=dtype))
    optimizer, seen = optim.NonlinearCG([p], **options), []

    def closure():
        optimizer.zero_grad()
        loss = f(p)
        loss.backward()
        seen.append(float(loss))
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return seen, p, optimizer


@pytest.mark.parametrize("beta", ["PR+", "FR"])
def test_on_a_quadratic_with_exact_searches_it_is_the_linear_method(beta):
    a, b = definite(10, 30)
    linear, places = [], []
    conjugate_gradient(a, b, rtol=1e-12, callback=lambda x: linear.append(x.copy()))
    matrix, vector = mg.tensor(a), mg.tensor(b)
    options = dict(
        beta=beta, max_iter=1, max_eval=100, tolerance_grad=0, tolerance_change=0, c2=1e-9, c1=1e-10
    )
    p = nn.Parameter(mg.tensor(np.zeros(10)))
    optimizer = optim.NonlinearCG([p], **options)

    def closure():
        optimizer.zero_grad()
        loss = p @ matrix @ p / 2 - vector @ p
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.step(closure)
        places.append(p.array.copy())
    np.testing.assert_allclose(places, linear[:6], rtol=1e-5, atol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("beta", ["PR+", "FR"])
@pytest.mark.parametrize("n", [2, 10])
def test_rosenbrock_takes_no_more_evaluations_than_scipys(n, beta):
    seen, p, o = run(np.tile([-1.2, 1.0], n // 2), rosenbrock, beta=beta, **TIGHT)

    def f(x):
        value = float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))
        g = np.zeros_like(x)
        g[1:] += 200 * (x[1:] - x[:-1] ** 2)
        g[:-1] += -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
        return value, g

    theirs = oracle("scipy.optimize").minimize(f, np.tile([-1.2, 1.0], n // 2), jac=True, method="CG")
    assert len(seen) <= 1.2 * theirs.nfev and o.state[p]["n_iter"] <= 1.2 * theirs.nit
    assert seen[-1] < 1e-9 and abs(p.array - 1).max() < 1e-4


def test_the_two_betas_differ_and_polaks_is_never_negative():
    places = {}
    for beta in ("PR+", "FR"):
        _, places[beta], o = run(np.array([-1.2, 1.0]), rosenbrock, beta=beta, max_iter=6)
    assert abs(places["PR+"].array - places["FR"].array).max() > 1e-3
    # g of this step nearly g of the last: FR goes on with beta 1, PR+ with 0
    g = np.array([1.0, 2.0])
    for beta, d in (("PR+", -0.9 * g), ("FR", -0.9 * g + 0.81 * -g)):
        p = nn.Parameter(mg.tensor(np.zeros(2)))
        o = optim.NonlinearCG([p], beta=beta, max_iter=1, restart=5)
        past = dict(d=mg.tensor(-g), prev_flat_grad=mg.tensor(g), t=0.1, slope=-5.0, since=1)
        o.state[p].update(past | dict(func_evals=2, n_iter=1))

        def closure(p=p):
            p.grad = None
            loss = 0.9 * (p * mg.tensor(g)).sum() + (p**2).sum()
            loss.backward()
            return loss

        o.step(closure)
        np.testing.assert_allclose(o.state[p]["d"].numpy(), d, rtol=1e-12)


@pytest.mark.parametrize("restart", [1, 3, None])
def test_it_restarts_every_so_many_iterations(restart):
    p = nn.Parameter(mg.tensor(np.tile([-1.2, 1.0], 3)))
    options = dict(max_iter=1, restart=restart, tolerance_change=0.0, max_eval=50)
    o = optim.NonlinearCG([p], **options)

    def closure():
        p.grad = None
        loss = rosenbrock(p)
        loss.backward()
        return loss

    steepest = []
    for _ in range(14):
        o.step(closure)
        steepest.append(np.array_equal(o.state[p]["d"].numpy(), -o.state[p]["prev_flat_grad"].numpy()))
    every = restart or 6
    assert all(steepest[k] for k in range(0, 14, every))
    assert restart == 1 or not all(steepest)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_loss_never_ends_worse_than_its_best(dtype):
    for n, c in ((2, 0.0), (6, 3.0)):
        seen, p, _ = run(np.tile([-1.2, 1.0], n // 2), lambda x, c=c: rosenbrock(x) + c, 20, dtype)
        with mg.no_grad():
            assert float(rosenbrock(p) + c) <= min(seen)
        assert len(seen) <= 20 * 50


def test_walls_nan_and_ascent():
    c = mg.tensor([5.0, -3.0, 20.0], dtype="float64")
    seen, p, _ = run(np.zeros(3), lambda x: (x * c).sum() - 0.1 * mg.log(1 - x * x).sum(), 20)
    exact = (0.1 - np.sqrt(0.01 + c.array**2)) / c.array
    assert any(math.isnan(f) for f in seen) and abs(p.array - exact).max() < 1e-4
    seen, p, o = run(np.array([-1.0]), lambda x: mg.log(x).sum(), 2)
    assert len(seen) == 2 and p.array[0] == -1
    seen, p, o = run(np.array([-1.2, 1.0]), rosenbrock, 1, max_iter=3, max_eval=100)
    o.state[p]["d"] = mg.tensor(100 * p.grad.array)  # uphill
    o.state[p]["since"] = 1

    def closure():
        o.zero_grad()
        loss = rosenbrock(p)
        loss.backward()
        return loss

    before = float(closure())
    o.step(closure)
    assert float(closure()) < before
    falling = run(np.array([0.0]), lambda x: -x.sum(), 3)  # no minimum: it ends all the same
    assert len(falling[0]) <= 150 and falling[0][-1] < -1e3


@pytest.mark.parametrize("beta", ["PR+", "FR"])
def test_a_resumed_run_is_the_same_to_the_bit(beta):
    def made(model):
        return optim.NonlinearCG(model.named_parameters(), max_iter=3, beta=beta, restart=5)

    one, two, three = network(0), network(0), network(1)
    whole, first, second = made(one), made(two), made(three)
    for _ in range(6):
        whole.step(problem(one, whole))
    for _ in range(3):
        first.step(problem(two, first))
    three.load_state_dict(two.state_dict())
    second.load_state_dict(first.state_dict())
    json.dumps(first.state_dict()["param_groups"])
    for _ in range(3):
        second.step(problem(three, second))
    for p, q in zip(one.parameters(), three.parameters(), strict=True):
        assert p.array.tobytes() == q.array.tobytes()
    assert second.state_dict()["state"][0].keys() == whole.state_dict()["state"][0].keys()


def test_options_out_of_range_are_refused_by_name():
    p = [nn.Parameter(mg.ones(2))]
    bad = dict(beta="HS", restart=0, c2=1.5, c1=0.5, max_iter=0, max_eval=0, tolerance_grad=-1, lr=-1)
    for name, value in bad.items():
        with pytest.raises(ValueError, match=f"NonlinearCG: Invalid .*{value}"):
            optim.NonlinearCG(p, **{name: value})
    with pytest.raises(ValueError, match="parameter groups"):
        optim.NonlinearCG([dict(params=p), dict(params=[nn.Parameter(mg.ones(1))])])
    with pytest.raises(TypeError, match="takes a closure"):
        optim.NonlinearCG(p).step()
