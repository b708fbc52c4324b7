"""L-BFGS: PyTorch's iterates and counts, superlinear, safe beside walls and in float32, and it goes on."""

import inspect
import json
import math
import pickle

import numpy as np
import pytest
from networks import network, problem
from oracle import oracle

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

WOLFE = dict(line_search_fn="strong_wolfe")
PRECISE = WOLFE | dict(max_iter=200, max_eval=1000, tolerance_grad=1e-9, tolerance_change=0.0)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def valley(n):
    return np.tile([-1.2, 1.0], n // 2)


def run(lib, start, f, steps=1, dtype="float64", **options):
    """(evaluated losses, parameter, optimizer) after so many steps on f."""
    p = lib.nn.Parameter(lib.tensor(start, dtype=getattr(lib, dtype)))
    optimizer, seen = lib.optim.LBFGS([p], **options), []

    def closure():
        optimizer.zero_grad()
        loss = f(p)
        loss.backward()
        seen.append(float(loss.detach()))
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return seen, p, optimizer


def closure_of(p, optimizer):
    def closure():
        optimizer.zero_grad()
        loss = rosenbrock(p)
        loss.backward()
        return loss

    return closure


def array(p):
    return p.detach().numpy()


# --------------------------------------------------------------------------------------------- as elsewhere


@pytest.mark.oracle
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize(
    "options",
    [{}, dict(lr=0.05), dict(lr=0.3, max_iter=7), dict(lr=0.1, history_size=2), dict(lr=0.5, max_eval=5)],
    ids=str,
)
def test_without_search_the_iterates_are_pytorchs(options, steps):
    rng = np.random.default_rng(0)
    q = rng.normal(size=(12, 12))
    a = q @ q.T / 12 + np.eye(12)

    def quadratic(lib):
        return lambda x: x @ lib.tensor(a) @ x / 2 - x.sum()

    def other(lib):
        return lambda x: ((x * x + 1) ** 0.5).sum() + (x[1:] * x[:-1]).sum() / 3

    for f in (quadratic, other):
        start = rng.normal(size=12)
        ours, p, o = run(mg, start, f(mg), steps, **options)
        theirs, q_, t = run(oracle("torch"), start, f(oracle("torch")), steps, **options)
        assert len(ours) == len(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)
        np.testing.assert_allclose(array(p), array(q_), rtol=1e-10, atol=1e-10)
        one, other = (next(iter(x.state.values())) for x in (o, t))
        assert (one["func_evals"], one["n_iter"]) == (other["func_evals"], other["n_iter"])
        assert len(one["old_dirs"]) == len(other["old_dirs"])


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [2, 10])
def test_with_search_minimum_and_evaluations_are_pytorchs(n, dtype):
    ours, p, _ = run(mg, valley(n), rosenbrock, 5, dtype, **WOLFE)
    theirs, q, _ = run(oracle("torch"), valley(n), rosenbrock, 5, dtype, **WOLFE)
    assert abs(len(ours) - len(theirs)) <= 0.2 * len(theirs)
    assert min(ours) < 1e-8 and abs(array(p) - 1).max() < 2e-4
    np.testing.assert_allclose(array(p), array(q), atol=1e-9 if dtype == "float64" else 1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize(("n", "known"), [(2, 45), (10, 91)])
def test_evaluations_to_the_minimum_are_those_of_torch_and_scipy(n, known):
    ours, p, _ = run(mg, valley(n), rosenbrock, **PRECISE)

    def f(x):
        value = float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))
        g = np.zeros_like(x)
        g[1:] += 200 * (x[1:] - x[:-1] ** 2)
        g[:-1] += -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
        return value, g

    minimize = oracle("scipy.optimize").minimize
    theirs = minimize(f, valley(n), jac=True, method="L-BFGS-B", options=dict(ftol=1e-16, gtol=1e-9))
    assert len(ours) <= 1.2 * min(known, theirs.nfev)
    assert ours[-1] < 1e-16 and abs(array(p) - 1).max() < 1e-8


@pytest.mark.parametrize("n", [2, 10])
def test_superlinear_on_rosenbrock(n):
    far, p = [], None
    for k in range(40 if n == 2 else 90):  # an iteration a step
        if k == 0:
            _, p, o = run(mg, valley(n), rosenbrock, **PRECISE | dict(max_iter=1))
        else:
            o.step(closure_of(p, o))
        far.append(float(np.linalg.norm(array(p) - 1)))
    reached = [next(k for k, x in enumerate(far) if x < bound) for bound in (1e-1, 1e-5, 1e-9)]
    first, second = reached[1] - reached[0], reached[2] - reached[1]  # four decades each
    assert second <= first <= 8  # a linear rate would need as many again; descent's 1 - 1/2500 thousands


def test_a_quadratic_of_n_dimensions_with_nearly_exact_search_ends_in_about_n_iterations():
    a = np.diag(np.linspace(1, 100, 8))
    seen, p, _ = run(mg, np.ones(8), lambda x: x @ mg.tensor(a) @ x / 2, **PRECISE)
    assert abs(array(p)).max() < 1e-8 and len(seen) < 40


# ---------------------------------------------------------------------------------------------- pitfalls


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_log_barrier_is_not_crossed(dtype):
    # minimum of c x - mu sum log(1 - x^2): outside it is nan  [pytorch#5953, pytorch-minimize#8]
    c = np.array([5.0, -3.0, 20.0, 0.5])
    for mu in (1.0, 0.1, 1e-3):
        seen, p, _ = run(
            mg,
            np.zeros(4),
            lambda x, mu=mu: (x * mg.tensor(c, dtype=dtype)).sum() - mu * mg.log(1 - x * x).sum(),
            20,
            dtype,
            **WOLFE,
        )
        exact = (mu - np.sqrt(mu * mu + c * c)) / c
        assert any(math.isnan(f) for f in seen) or mu == 1.0
        assert abs(array(p) - exact).max() < 2e-5 and np.isfinite(array(p)).all()


@pytest.mark.parametrize("options", [WOLFE, WOLFE | dict(tolerance_change=0.0, tolerance_grad=0.0)], ids=str)
def test_float32_never_ends_worse_than_its_best_and_ends(options):
    for n in (2, 4, 10):
        for scale in (1.0, 1e4, 1e-4):
            offset = 3.0 * scale  # the loss's own rounding is far above what is left to gain
            seen, p, _ = run(
                mg, valley(n), lambda x, c=offset, s=scale: s * rosenbrock(x) + c, 30, "float32", **options
            )
            with mg.no_grad():
                last = float(scale * rosenbrock(p) + offset)
            assert last <= min(seen)
            assert last <= offset * (1 + 1e-3)
            assert len(seen) <= 30 * 25 / 2


def test_a_loss_that_is_nan_at_the_start_moves_nothing():
    for options in ({}, WOLFE):
        seen, p, o = run(mg, np.array([-1.0, 2.0]), lambda x: mg.log(x).sum(), 2, **options)
        assert len(seen) == 2 and (array(p) == [-1, 2]).all() and o.state[p]["n_iter"] == 0


def test_without_search_a_step_to_nan_goes_back():
    seen, p, o = run(mg, np.array([2.0]), lambda x: (x - mg.log(x)).sum() * 100, 1, lr=1e3)
    assert math.isnan(seen[-1]) and array(p)[0] == 2
    assert "old_dirs" not in o.state[p]
    seen, p, o = run(mg, np.array([0.5]), lambda x: (x - mg.log(x)).sum() * 100, 3, **WOLFE)
    assert abs(array(p)[0] - 1) < 1e-6


def test_a_history_that_points_upwards_is_forgotten():
    seen, p, o = run(mg, valley(2), rosenbrock, 1, **WOLFE | dict(max_iter=4))
    o.state[p]["H_diag"] = mg.tensor(-1.0, dtype="float64")  # as nothing but rounding could make it
    o.state[p]["old_dirs"].clear(), o.state[p]["old_stps"].clear(), o.state[p]["ro"].clear()
    o.state[p]["prev_flat_grad"] = mg.tensor(p.grad.array.copy())  # no new pair
    best = min(seen)
    o.step(closure_of(p, o))
    assert float(rosenbrock(p)) < best


def test_pairs_without_curvature_are_left_out():
    # concave along the way: s.y < 0
    _, p, o = run(mg, np.array([0.1]), lambda x: -(x * x).sum(), 1, lr=0.1, max_iter=3)
    assert o.state[p]["old_dirs"] == [] and o.state[p]["H_diag"] == 1
    assert np.isfinite(array(p)).all()


def test_all_trials_are_of_one_function():
    mg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    x, y = mg.randn(32, 4), mg.randn(32, 1)
    optimizer = optim.LBFGS(model.parameters(), **WOLFE)
    seen = []

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        seen.append(float(loss))
        return loss

    optimizer.step(closure)
    assert len(seen) > 5 and int(model[1].num_batches_tracked) == 1
    assert min(seen) == seen[-1] < 0.5 * seen[0]
    after = mg.random.default_generator.offset
    closure()
    assert mg.random.default_generator.offset > after  # the next step draws other masks


# --------------------------------------------------------------------------------------------------- state


@pytest.mark.parametrize("options", [dict(lr=0.5), WOLFE, WOLFE | dict(history_size=3)], ids=str)
def test_a_resumed_run_is_the_same_to_the_bit(options):
    one = network()
    whole = optim.LBFGS(one.named_parameters(), max_iter=4, **options)
    for _ in range(6):
        whole.step(problem(one, whole))
    two = network()
    first = optim.LBFGS(two.named_parameters(), max_iter=4, **options)
    for _ in range(3):
        first.step(problem(two, first))
    three = network(1)
    three.load_state_dict(two.state_dict())
    second = optim.LBFGS(three.named_parameters(), max_iter=4, **options)
    saved = first.state_dict()
    second.load_state_dict(saved)
    pickled = pickle.loads(pickle.dumps(second))
    assert pickled.state_dict()["state"][0]["n_iter"] == saved["state"][0]["n_iter"] > 6
    for _ in range(3):
        second.step(problem(three, second))
        first.step(problem(two, first))  # what was saved is a copy
    for p, q, r in zip(one.parameters(), three.parameters(), two.parameters(), strict=True):
        assert p.array.tobytes() == q.array.tobytes() == r.array.tobytes()
    json.dumps(saved["param_groups"])
    assert len(saved["state"][0]["old_dirs"]) <= options.get("history_size", 11)


def test_a_state_of_parameters_in_another_order_loads_by_name():
    one, two = network(), network()
    options = WOLFE | dict(max_iter=4)
    a = optim.LBFGS(one.named_parameters(), **options)
    b = optim.LBFGS(list(two.named_parameters())[::-1], **options)
    a.step(problem(one, a))
    two.load_state_dict(one.state_dict())
    b.load_state_dict(a.state_dict())
    d, e = a.state_dict()["state"][0]["d"].array, b.state_dict()["state"][0]["d"].array
    sizes = [p.numel() for p in one.parameters()]
    parts = np.split(d, np.cumsum(sizes)[:-1])
    assert (np.concatenate(parts[::-1]) == e).all()
    a.step(problem(one, a)), b.step(problem(two, b))
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        np.testing.assert_allclose(p.array, q.array, rtol=1e-9)


def test_a_state_that_does_not_fit_changes_nothing():
    one, two = network(), nn.Linear(3, 1)
    a = optim.LBFGS(one.parameters(), **WOLFE)
    a.step(problem(one, a))
    b = optim.LBFGS([*two.parameters(), nn.Parameter(mg.ones(3)), nn.Parameter(mg.ones(2))])
    with pytest.raises(ValueError, match="has 26 elements, the parameters 9"):
        b.load_state_dict(a.state_dict())
    assert not b.state and b.param_groups[0]["line_search_fn"] is None
    with pytest.raises(TypeError, match="expected what state_dict"):
        b.load_state_dict([])


@pytest.mark.oracle
@pytest.mark.parametrize("options", [dict(lr=0.1), WOLFE], ids=str)
def test_states_go_to_pytorch_and_back(options):
    torch = oracle("torch")
    _, p, o = run(mg, valley(10), rosenbrock, 1, **options)
    _, q, t = run(torch, valley(10), rosenbrock, 1, **options)
    assert set(o.state_dict()["state"][0]) == set(t.state_dict()["state"][0]) - {"al"}

    def torchs(v):
        if isinstance(v, list):
            return [torchs(x) for x in v]
        return torch.tensor(v.array.copy()) if isinstance(v, mg.Tensor) else v

    p2, q2 = mg.nn.Parameter(mg.tensor(array(q).copy())), torch.nn.Parameter(torch.tensor(array(p).copy()))
    o2, t2 = optim.LBFGS([p2], **options), torch.optim.LBFGS([q2], **options)
    o2.load_state_dict(t.state_dict())
    mine = o.state_dict()
    t2.load_state_dict(
        {
            "state": {0: {k: torchs(v) for k, v in mine["state"][0].items()}},
            "param_groups": mine["param_groups"],
        }
    )

    places = []
    for x, optimizer in ((p, o), (q, t), (p2, o2), (q2, t2)):
        optimizer.step(closure_of(x, optimizer))
        places.append(array(x))
    for place in places[1:]:
        np.testing.assert_allclose(place, places[0], rtol=1e-7)


@pytest.mark.oracle
def test_arguments_and_defaults_are_pytorchs():
    ours, theirs = (inspect.signature(lib.optim.LBFGS) for lib in (mg, oracle("torch")))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]
    a, b = (lib.optim.LBFGS([lib.nn.Parameter(lib.ones(2))]) for lib in (mg, oracle("torch")))
    assert repr(a) == repr(b)


def test_what_does_not_fit_is_refused_by_name():
    p = nn.Parameter(mg.ones(2))
    with pytest.raises(ValueError, match="LBFGS doesn't support per-parameter options"):
        optim.LBFGS([dict(params=[p]), dict(params=[nn.Parameter(mg.ones(1))])])
    with pytest.raises(ValueError, match="parameter groups"):
        optim.LBFGS([p]).add_param_group(dict(params=[nn.Parameter(mg.ones(1))]))
    with pytest.raises(ValueError, match="'armijo'; only 'strong_wolfe'"):
        optim.LBFGS([p], line_search_fn="armijo")
    for name, value in dict(max_iter=0, history_size=0, tolerance_grad=-1, max_eval=0).items():
        with pytest.raises(ValueError, match=f"LBFGS: Invalid {name}: {value}"):
            optim.LBFGS([p], **{name: value})
    with pytest.raises(TypeError, match="LBFGS: step\\(\\) takes a closure"):
        optim.LBFGS([p]).step()
    with pytest.raises(TypeError, match="the closure returned None"):
        optim.LBFGS([p]).step(lambda: None)
    with pytest.raises(ValueError, match="shape \\[2\\]"):
        optim.LBFGS([p]).step(lambda: p * 2)


def test_parameters_of_two_types_and_one_without_gradient():
    a, b = nn.Parameter(mg.ones(3, dtype=mg.float32)), nn.Parameter(mg.ones(2, dtype=mg.float64))
    still = nn.Parameter(mg.ones(4))
    half = nn.Parameter(mg.ones(3, dtype=mg.bfloat16))
    optimizer = optim.LBFGS([a, still, b, half], **WOLFE)

    def closure():
        optimizer.zero_grad()
        loss = ((a - 3) ** 2).sum().double() + ((b + 1) ** 4).sum() + ((half - 2) ** 2).sum().double()
        loss.backward()
        return loss

    assert float(optimizer.step(closure)) == 12 + 32 + 3
    optimizer.step(closure)
    assert abs(a.array - 3).max() < 1e-3 and abs(b.array + 1).max() < 0.1 and (still.array == 1).all()
    assert abs(half.array.astype("float32") - 2).max() < 0.1
    assert optimizer.state[a]["d"].dtype is mg.float64 and optimizer.state[a]["d"].numel() == 12


def test_hooks_run_and_may_change_the_gradient():
    calls, p = [], nn.Parameter(mg.ones(2))
    optimizer = optim.LBFGS([p], lr=0.1, max_iter=1)
    optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append("before"))
    optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("after"))

    def freeze(o):
        calls.append("update")
        p.grad.array[0] = 0

    optimizer.register_update_pre_hook(freeze)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert calls == ["before", "update", "after"] and p.array[0] == 1 and p.array[1] < 1
