"""Flows: the orders of the methods, exact solutions, energies that fall, SciPy's integrator."""

import json

import numpy as np
import pytest
from test_rules import feed, gradients, starting

import minigrad as mg
from minigrad import nn, optim
from minigrad.optim.flow import METHODS

A = np.array([[3.0, 1.0], [1.0, 2.0]])
START = np.array([1.0, -2.0])
LENGTHS, AXES = np.linalg.eigh(A)
FLOWS = (optim.GradientFlow, optim.NesterovFlow)


def parameter(values, dtype="float64"):
    return nn.Parameter(mg.tensor(values, dtype=dtype))


def closure(optimizer, p, f, calls=None):
    def run():
        if calls is not None:
            calls.append(p.array.copy())
        optimizer.zero_grad()
        loss = f(p)
        loss.backward()
        return loss

    return run


def quadratic(p):
    return 0.5 * (p @ (mg.tensor(A) @ p))


def rosenbrock(p):
    return 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2


def after(cls, time, lr, f=quadratic, start=START, **options):
    p = parameter(start)
    optimizer, calls = cls([p], lr=lr, **options), []
    for _ in range(round(time / lr)):
        optimizer.step(closure(optimizer, p, f, calls))
    return p.array.copy(), len(calls)


def exact(cls, t):
    """exp(-A t) x(0), and 2 J_1(t sqrt(A)) / (t sqrt(A)) x(0), which is Nesterov's for friction 3."""
    if cls is optim.GradientFlow:
        return AXES @ (np.exp(-LENGTHS * t) * (AXES.T @ START))
    j1 = pytest.importorskip("scipy.special").j1
    w = t * np.sqrt(LENGTHS)
    return AXES @ (2 * j1(w) / w * (AXES.T @ START))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_eulers_step_is_gradient_descent_bit_for_bit(dtype):
    rng = np.random.default_rng(1)
    start, grads = starting(rng), gradients(rng, 60, missing=False)

    def run(cls, **options):
        params = [parameter(s, dtype) for s in start]
        optimizer = cls(params, lr=1e-3, **options)
        if cls is optim.SGD:
            feed(params, optimizer, grads, dtype)
        for step in grads if cls is not optim.SGD else ():

            def given(step=step):
                for p, g in zip(params, step, strict=True):
                    p.grad = mg.tensor(g, dtype=dtype)
                return 0.0

            optimizer.step(given)
        return [p.array.tobytes() for p in params]

    assert run(optim.GradientFlow, method="euler") == run(optim.SGD)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
@pytest.mark.parametrize("cls", FLOWS)
def test_the_error_falls_with_the_methods_order(cls, method, order):
    if cls is optim.NesterovFlow:
        pytest.importorskip("scipy")
    expected = exact(cls, 2.0)
    errors = [np.abs(after(cls, 2.0, lr, method=method)[0] - expected).max() for lr in (0.1, 0.05, 0.025)]
    found = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.abs(found - order).max() < 0.25, (errors, found)


@pytest.mark.parametrize("cls", FLOWS)
def test_rk45_keeps_its_tolerance_whatever_the_length_of_a_step(cls):
    pytest.importorskip("scipy")
    for tolerance in (1e-4, 1e-7, 1e-10):
        for lr in (0.25, 2.0):
            x, _ = after(cls, 2.0, lr, method="rk45", rtol=tolerance, atol=tolerance)
            assert np.abs(x - exact(cls, 2.0)).max() < 10 * tolerance


def scipys(cls, time, tolerance):
    """x(time) of the flow of Rosenbrock's function from (-1, 1), and the evaluations, by SciPy's RK45."""
    solve = pytest.importorskip("scipy.integrate").solve_ivp

    def gradient(x):
        b = x[1] - x[0] ** 2
        return np.array([-400 * x[0] * b - 2 * (1 - x[0]), 200 * b])

    def slope(t, z):
        if cls is optim.GradientFlow:
            return -gradient(z)
        g = gradient(z[:2])
        return np.concatenate((z[2:], -g / 4 if t == 0 else -3 / t * z[2:] - g))

    start = np.array([-1.0, 1.0]) if cls is optim.GradientFlow else np.array([-1.0, 1.0, 0.0, 0.0])
    found = solve(slope, (0, time), start, rtol=tolerance, atol=tolerance)
    return found.y[:2, -1], found.nfev


@pytest.mark.oracle
@pytest.mark.parametrize("cls", FLOWS)
def test_rk45_follows_scipys_path_with_as_many_evaluations(cls):
    reference, _ = scipys(cls, 1.0, 1e-12)
    _, theirs = scipys(cls, 1.0, 1e-6)
    options = dict(f=rosenbrock, start=[-1.0, 1.0], method="rk45", rtol=1e-6, atol=1e-6)
    x, ours = after(cls, 1.0, 1.0, **options, max_evaluations=5000)
    assert np.abs(x - reference).max() < 5e-5
    assert abs(ours - theirs) <= 0.2 * theirs, (ours, theirs)


def test_the_loss_falls_along_the_gradient_flow_and_the_energy_along_nesterovs():
    p = parameter([-1.0, 1.0])
    optimizer, losses = optim.GradientFlow([p], lr=5e-4), []
    for _ in range(400):
        losses.append(float(optimizer.step(closure(optimizer, p, rosenbrock))))
    assert (np.diff(losses) < 0).all()
    p, energies, values = parameter(START), [], []
    optimizer = optim.NesterovFlow([p], lr=0.02)
    for k in range(1, 1000):
        optimizer.step(closure(optimizer, p, quadratic))
        f, t, state = 0.5 * p.array @ A @ p.array, k * 0.02, optimizer.state[p]
        assert state["time"] == pytest.approx(t, rel=1e-12)
        v = state["velocity"].numpy()
        energies.append(t * t * f + 2 * ((p.array + t / 2 * v) ** 2).sum())
        values.append(f)
        assert f <= 2 * (START**2).sum() / t**2  # theorem 3
    assert (np.diff(energies) < 1e-9).all()
    assert (np.diff(values) > 0).any()  # f itself goes up and down


def test_nesterovs_method_with_small_steps_walks_on_his_flow():
    """x_k of step size s is near x(k sqrt(s)), the nearer the smaller s."""
    gaps = []
    for s in (1e-2, 1e-4):
        x = y = START
        for k in range(1, round(2 / np.sqrt(s)) + 1):
            new = y - s * A @ y
            y = new + (k - 1) / (k + 2) * (new - x)
            x = new
        gaps.append(np.abs(x - after(optim.NesterovFlow, 2.0, 0.1)[0]).max())
    assert gaps[0] < 0.3 and gaps[1] < 0.15 * gaps[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cls", FLOWS)
def test_a_saved_flow_goes_on_to_the_same_bits_by_name_too(cls, method):
    rng = np.random.default_rng(2)
    start = {"a": rng.normal(size=(3, 2)), "b": rng.normal(size=4)}

    def make(order):
        named = {n: parameter(start[n]) for n in order}
        return named, cls(list(named.items()), lr=0.02, method=method)

    def go(named, optimizer, steps):
        def run():
            optimizer.zero_grad()
            loss = (named["a"] ** 4).sum() + ((named["b"] - named["a"].sum()) ** 2).sum()
            loss.backward()
            return loss

        for _ in range(steps):
            optimizer.step(run)

    whole, one = make("ab")
    go(whole, one, 6)
    half, two = make("ab")
    go(half, two, 3)
    for order in ("ab", "ba"):
        again, three = make(order)
        state = two.state_dict()
        json.dumps(state["param_groups"])
        three.load_state_dict(state)
        for n in start:
            again[n].data = half[n].detach()
        go(again, three, 3)
        for n in start:  # with another order the error's mean is summed otherwise
            if order == "ab":
                assert again[n].array.tobytes() == whole[n].array.tobytes()
            np.testing.assert_allclose(again[n].array, whole[n].array, rtol=1e-12)


@pytest.mark.parametrize("cls", FLOWS)
def test_where_the_loss_is_not_finite_steps_are_shortened_or_undone(cls):
    def barrier(p):
        return -mg.log(1 - p).sum() + 3 * p.sum() + (p**2).sum()  # finite for p < 1

    for method in METHODS:
        p = parameter([0.9999])
        optimizer = cls([p], lr=3.0, method=method, rtol=1e-6, atol=1e-8, max_evaluations=20000)
        if method == "rk45":
            optimizer.step(closure(optimizer, p, barrier))
            assert p.array[0] < 0.9
            continue
        p.data = mg.tensor([-4.0])
        with pytest.raises(RuntimeError, match="not finite"):
            for _ in range(50):
                before = p.array.copy()
                optimizer.step(closure(optimizer, p, lambda p: barrier(p) - 40 * p.sum()))
        assert (p.array == before).all()
    p = parameter([2.0])
    with pytest.raises(RuntimeError, match="not finite"):
        optimizer = cls([p])
        optimizer.step(closure(optimizer, p, barrier))


def test_the_number_of_evaluations_is_bounded_and_the_parameters_come_back():
    p = parameter(START)
    optimizer = optim.GradientFlow([p], lr=1e6, method="rk45", max_evaluations=100)
    calls = []
    with pytest.raises(RuntimeError, match="more max_evaluations than 100"):
        optimizer.step(closure(optimizer, p, quadratic, calls))
    assert len(calls) <= 100 and (p.array == START).all()


def test_bad_options_and_a_missing_closure_are_errors():
    with pytest.raises(ValueError, match="Invalid method: 'rk5'; it is one of euler, midpoint, rk4, rk45"):
        optim.GradientFlow([parameter(START)], method="rk5")
    with pytest.raises(ValueError, match="Invalid friction value: 0"):
        optim.NesterovFlow([parameter(START)], friction=0)
    with pytest.raises(ValueError, match="Invalid rtol value: -1"):
        optim.GradientFlow([parameter(START)], rtol=-1)
    with pytest.raises(TypeError, match="takes a closure"):
        optim.GradientFlow([parameter(START)]).step()


def test_no_time_moves_nothing():
    for cls in FLOWS:
        for method in METHODS:
            x, _ = after(cls, 0, 1)
            p = parameter(START)
            optimizer = cls([p], lr=0.0, method=method)
            optimizer.step(closure(optimizer, p, quadratic))
            assert (p.array == START).all() and (x == START).all()
