"""Coordinate descent: the conditions of Karush, Kuhn and Tucker, scikit-learn's solutions, Gauss-Seidel."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim


def problem(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X, w = rng.normal(size=(n, d)), np.zeros(d)
    w[:5] = rng.normal(size=5) * 3
    return X, X @ w + 0.5 * rng.normal(size=n)


def objective(X, y, w, l1, l2):
    return ((y - X @ w) ** 2).sum() / (2 * len(y)) + l1 * np.abs(w).sum() + l2 * (w**2).sum() / 2


CASES = [(60, 20, 0.1, 0.0), (60, 20, 0.05, 0.3), (30, 100, 0.2, 0.0), (8, 100, 0.1, 0.1), (60, 20, 0.0, 0.5)]


@pytest.mark.parametrize("selection", ["cyclic", "random"])
@pytest.mark.parametrize(("n", "d", "l1", "l2"), CASES)
def test_the_solution_meets_the_kkt_conditions_and_the_gap_bounds_the_loss(n, d, l1, l2, selection):
    X, y = problem(n, d)
    found = optim.coordinate_descent(X, y, l1, l2, tol=1e-13, max_iter=20_000, selection=selection)
    assert found.converged
    slopes = X.T @ (y - X @ found.w) / n - l2 * found.w
    on = found.w != 0
    np.testing.assert_allclose(slopes[on], l1 * np.sign(found.w[on]), atol=1e-6)
    assert (np.abs(slopes[~on]) <= l1 + 1e-6).all()
    lowest = objective(X, y, found.w, l1, l2)
    for tol in (1e-1, 1e-3, 1e-6):
        rough = optim.coordinate_descent(X, y, l1, l2, tol=tol, selection=selection)
        above = objective(X, y, rough.w, l1, l2) - lowest
        assert -1e-11 <= above <= rough.gap + 1e-11 and rough.gap <= tol * (y @ y) / n


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.oracle
def test_lasso_and_elastic_net_are_scikit_learns(intercept, positive):
    linear = pytest.importorskip("sklearn.linear_model")
    options = dict(fit_intercept=intercept, positive=positive, tol=1e-12, max_iter=50_000)
    for n, d in ((60, 20), (30, 100)):
        X, y = problem(n, d)
        Y = np.stack([y + 3, X[:, 7] - y], 1)
        for target in (y + 3, Y):
            theirs = linear.Lasso(0.1, **options).fit(X, target)
            ours = optim.Lasso(0.1, **options).fit(mg.tensor(X), mg.tensor(target))
            np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-7)
            np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-7)
            np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-6)
            assert ((ours.coef_ == 0) == (theirs.coef_ == 0)).all()
        for ratio in (0.1, 0.5, 0.9):
            theirs = linear.ElasticNet(alpha=0.2, l1_ratio=ratio, **options).fit(X, y)
            ours = optim.ElasticNet(0.2, l1_ratio=ratio, **options).fit(X, y)
            np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-7)
            assert ours.n_iter_ < 3 * theirs.n_iter_ + 30


@pytest.mark.oracle
@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_the_path_is_scikit_learns(ratio):
    enet_path = pytest.importorskip("sklearn.linear_model").enet_path
    X, y = problem(50, 30)
    alphas, coefs, gaps = optim.lasso_path(X, y, l1_ratio=ratio, n_alphas=20, tol=1e-10, max_iter=9999)
    theirs = enet_path(X, y, l1_ratio=ratio, alphas=alphas, tol=1e-12, max_iter=9999)
    np.testing.assert_allclose(coefs, theirs[1], atol=1e-5)
    np.testing.assert_allclose(alphas[0], np.abs(X.T @ y).max() / 50 / ratio)
    assert not coefs[:, 0].any() and coefs.shape == (30, 20) and (gaps <= 1e-10 * (y @ y) / 50).all()
    assert (np.diff(np.count_nonzero(coefs, axis=0)[[0, 1, 10]]) > 0).all()


def test_ridge_is_its_closed_form_and_orthonormal_columns_are_soft_thresholds():
    X, y = problem(60, 20)
    found = optim.coordinate_descent(X, y, 0.0, 0.7, tol=1e-16, max_iter=5000)
    exact = np.linalg.solve(X.T @ X / 60 + 0.7 * np.eye(20), X.T @ y / 60)
    np.testing.assert_allclose(found.w, exact, atol=1e-7)
    Q = np.linalg.qr(X)[0] * np.sqrt(60)
    z = Q.T @ y / 60
    found = optim.coordinate_descent(Q, y, 0.3, tol=1e-14)
    np.testing.assert_allclose(found.w, np.sign(z) * np.maximum(np.abs(z) - 0.3, 0), atol=1e-12)
    assert found.sweeps <= 3


def test_more_columns_than_a_gram_matrix_would_hold_go_by_the_residual():
    X, y = problem(6, 80)
    found = optim.coordinate_descent(X, y, 1e-3, 0.5, tol=1e-12, max_iter=5000)
    slopes = X.T @ (y - X @ found.w) / 6 - 0.5 * found.w
    assert np.count_nonzero(found.w) > 24  # 4 n
    np.testing.assert_allclose(slopes[found.w != 0], 1e-3 * np.sign(found.w[found.w != 0]), atol=1e-5)


def test_columns_of_zeros_constant_targets_and_warm_starts():
    X, y = problem(40, 10)
    X[:, 3] = 0
    start = np.full(10, 0.5)
    assert optim.coordinate_descent(X, y, 0.1, start=start).w[3] == 0
    assert start[3] == 0.5  # what is passed in stays
    assert not optim.coordinate_descent(X, np.zeros(40), 0.1).w.any()
    model = optim.Lasso(0.05, tol=1e-8, warm_start=True).fit(X, y)
    first = model.n_iter_
    assert model.fit(X, y).n_iter_ == 0 < first
    assert "Lasso(alpha=0.05" in repr(model)
    same = [optim.coordinate_descent(X, y, 0.1, selection="random", seed=3).w.tobytes() for _ in range(2)]
    assert same[0] == same[1]


def test_sweeps_are_bounded_and_fit_says_so():
    X, y = problem(30, 100)
    found = optim.coordinate_descent(X, y, 0.01, tol=0.0, max_iter=7)
    assert found.sweeps == 7 and not found.converged and found.gap > 0
    with pytest.warns(
        RuntimeWarning, match="Lasso: the duality gap is .* after 7 sweeps; take more max_iter"
    ):
        optim.Lasso(0.01, tol=0.0, max_iter=7).fit(X, y)


def test_what_does_not_fit_is_refused():
    X, y = problem(30, 6)
    solve = optim.coordinate_descent
    bad = X.copy()
    bad[2, 1] = np.nan
    for match, run in {
        "X is 30 x 6, y has shape": lambda: solve(X, y[:-1], 0.1),
        "start has shape": lambda: solve(X, y, 0.1, start=np.zeros(5)),
        "X has elements that are not finite": lambda: solve(bad, y, 0.1),
        "must be a matrix": lambda: solve(y, y, 0.1),
        "Invalid l1: -1": lambda: solve(X, y, -1),
        "l1 and l2 are both 0": lambda: solve(X, y, 0.0),
        "Invalid selection: 'up'": lambda: solve(X, y, 0.1, selection="up"),
        "Invalid max_iter: 0": lambda: solve(X, y, 0.1, max_iter=0),
        "Invalid l1_ratio: 2": lambda: optim.ElasticNet(l1_ratio=2),
        "Lasso: Invalid alpha: -1": lambda: optim.Lasso(-1),
        "Lasso: X has shape": lambda: optim.Lasso().fit(X, y[:-1]),
        "lasso_path: Invalid l1_ratio: 0": lambda: optim.lasso_path(X, y, l1_ratio=0),
    }.items():
        with pytest.raises(ValueError, match=match):
            run()
    with pytest.raises(RuntimeError, match="not fitted yet"):
        optim.Lasso().predict(X)


# ---------------------------------------------------------------------------------------- the optimizer


def parameter(values, dtype="float64"):
    return nn.Parameter(mg.tensor(values, dtype=dtype))


def closure(optimizer, f, calls=None):
    def run():
        if calls is not None:
            calls.append(0)
        optimizer.zero_grad()
        loss = f()
        loss.backward()
        return loss

    return run


def test_on_a_quadratic_its_sweeps_are_gauss_and_seidels():
    rng = np.random.default_rng(1)
    B = rng.normal(size=(6, 6))
    A, b = B @ B.T + np.eye(6), rng.normal(size=6)
    p, q, calls = parameter(b[:4]), parameter(b[4:].reshape(1, 2)), []
    optimizer = optim.CoordinateDescent([p, q], coordinates=None)

    def f():
        x = mg.cat([p, q.reshape(2)])
        return 0.5 * (x @ (mg.tensor(A) @ x)) - x @ mg.tensor(b)

    x = b.copy()
    for _ in range(12):
        optimizer.step(closure(optimizer, f, calls))
        for j in range(6):
            x[j] = (b[j] - A[j] @ x + A[j, j] * x[j]) / A[j, j]
        np.testing.assert_allclose(np.concatenate([p.array, q.array[0]]), x, rtol=1e-9, atol=1e-10)
    assert len(calls) == 12 * (1 + 2 * 6)


def test_with_l1_it_ends_at_the_lasso():
    X, y = problem(40, 8)
    exact = optim.coordinate_descent(X, y, 0.2, 0.1, tol=1e-14).w
    for selection in ("cyclic", "random", "greedy"):
        w = parameter(np.ones(8))
        optimizer = optim.CoordinateDescent([w], l1=0.2, l2=0.1, selection=selection, coordinates=None)
        for _ in range(40 if selection == "random" else 15):
            optimizer.step(
                closure(optimizer, lambda w=w: ((mg.tensor(X) @ w - mg.tensor(y)) ** 2).sum() / 80)
            )
        np.testing.assert_allclose(w.array, exact, atol=1e-7)
        assert ((w.array == 0) == (exact == 0)).all()


def test_greedy_takes_the_steepest_coordinate():
    p = parameter([1.0, 1.0, 1.0])
    optimizer = optim.CoordinateDescent([p], selection="greedy")
    optimizer.step(closure(optimizer, lambda: (mg.tensor([1.0, 5.0, 2.0], dtype="float64") * p * p).sum()))
    assert p.array[0] == p.array[2] == 1 and abs(p.array[1]) < 1e-12


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loss_never_rises_on_rosenbrock_beside_barriers_and_on_saddles(dtype):
    def rosenbrock(p):
        return 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2

    def barrier(p):
        return p.sum() - mg.log(p).sum() + (p[0] - p[1]) ** 2

    def saddle(p):
        return p[0] ** 4 - p[0] ** 2 + p[1] ** 4 - 0.5 * p[1] ** 2

    for f, start, end in (
        (rosenbrock, [-1.2, 1.0], 1.0),
        (barrier, [1e-3, 7.0], 2.0 + 1e-4),
        (saddle, [0.01, 0.01], -0.3),
    ):
        p, losses = parameter(start, dtype), []
        optimizer = optim.CoordinateDescent([p], coordinates=None, delta=1e-2 if dtype == "float32" else 1e-4)
        for _ in range(200):
            losses.append(float(optimizer.step(closure(optimizer, lambda f=f, p=p: f(p)))))
        assert (np.diff(losses) <= 1e-5 * np.abs(losses[:-1])).all() and losses[-1] <= end, f.__name__


def test_a_loss_that_is_nowhere_finite_moves_nothing_and_ends():
    p = parameter([1.0, 2.0])
    optimizer = optim.CoordinateDescent([p], coordinates=None)
    optimizer.step(closure(optimizer, lambda: (p * float("nan")).sum()))
    assert p.array.tolist() == [1.0, 2.0]
    calls = []

    def cliff():
        calls.append(0)
        return (p * p).sum() * (float("inf") if len(calls) > 2 else 1.0)

    optimizer.step(closure(optimizer, cliff))
    assert p.array.tolist() == [1.0, 2.0] and len(calls) <= 1 + 2 * 22


def test_an_error_in_the_closure_undoes_the_moves_before_it_too():
    p, calls = parameter([3.0, 4.0]), []
    optimizer = optim.CoordinateDescent([p], coordinates=2)

    def failing():
        calls.append(p.array.copy())
        if len(calls) == 4:  # the probe of the second coordinate
            raise KeyError("a bad batch")
        return (p * p).sum()

    with pytest.raises(KeyError):
        optimizer.step(closure(optimizer, failing))
    assert abs(calls[3][0]) < 1e-9  # the first coordinate had moved
    assert p.array.tolist() == [3.0, 4.0] and not optimizer.state


@pytest.mark.parametrize("selection", ["cyclic", "random", "greedy"])
def test_saved_and_loaded_it_goes_on_to_the_same_bits(selection):
    rng = np.random.default_rng(2)
    start = rng.normal(size=5)

    def begin(x):
        p = parameter(x)
        return p, optim.CoordinateDescent([p], selection=selection, coordinates=2, seed=5)

    def go(p, optimizer, steps):
        for _ in range(steps):
            optimizer.step(closure(optimizer, lambda: (p**4).sum() + (p.sum() - 1) ** 2))

    (p, one), (q, two) = begin(start), begin(start)
    go(p, one, 8)
    go(q, two, 4)
    r, three = begin(q.array)
    three.load_state_dict(two.state_dict())
    go(r, three, 4)
    assert p.array.tobytes() == r.array.tobytes()


def test_bad_options_are_errors():
    p = [parameter([0.0])]
    for match, options in {
        "Invalid selection: 'all'": dict(selection="all"),
        "Invalid coordinates: 0": dict(coordinates=0),
        "Invalid seed: -1": dict(seed=-1),
        "Invalid l1 value: -1": dict(l1=-1),
        "Invalid delta value: 0": dict(delta=0),
    }.items():
        with pytest.raises(ValueError, match=match):
            optim.CoordinateDescent(p, **options)
    with pytest.raises(TypeError, match="takes a closure"):
        optim.CoordinateDescent(p).step()
