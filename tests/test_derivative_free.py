"""Searches without gradients: minima and evaluation counts, the model's algebra, resume, bounds, errors."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import fake_cupy
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.optim.derivative_free import evolution
from minigrad.optim.derivative_free.bayes import GaussianProcess, expected_improvement, latin, matern

ROOT = Path(__file__).resolve().parent.parent
SEARCHES = {
    "EvolutionStrategy": {},
    "CMAES": {},
    "CMAES diagonal": dict(covariance="diagonal"),
    "SimulatedAnnealing": {},
    "BayesianOptimization": {},
}


def make(name, params, **options):
    return getattr(optim, name.split()[0])(params, **{**SEARCHES[name], **options})


def parameter(values, dtype="float64"):
    return nn.Parameter(mg.tensor(values, dtype=dtype))


def sphere(x):
    return (x**2).sum()


def ellipsoid(x):
    return (1e6 ** (np.arange(len(x)) / (len(x) - 1)) * x**2).sum()


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def branin(x):
    valley = x[1] - 5.1 / (4 * np.pi**2) * x[0] ** 2 + 5 / np.pi * x[0] - 6
    return valley**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x[0]) + 10


def evaluations(name, f, start, target, seed, most=20_000, **options):
    """How many calls it takes to see a loss below target."""
    p, count, lowest = parameter(start), 0, math.inf
    optimizer = make(name, [p], seed=seed, **options)

    def closure():
        nonlocal count, lowest
        count += 1
        value = float(f(p.array))
        if value < lowest:
            lowest = value
        return value

    while lowest > target:
        assert count < most, f"{name} is at {lowest:.3g} after {count} evaluations"
        optimizer.step(closure)
    return count


# --------------------------------------------------------------------------------------- evolution strategies

# medians of seven seeds of the package cma 4.5.0 (Hansen's own), 10 dimensions, to 1e-10
CMA = [(sphere, 1.0, 0.5, 1660), (ellipsoid, 1.0, 0.5, 4210), (rosenbrock, 0.0, 0.3, 5140)]


@pytest.mark.parametrize(("f", "start", "sigma", "theirs"), CMA, ids=[f.__name__ for f, *_ in CMA])
def test_cma_es_takes_as_many_evaluations_as_hansens_within_20_percent(f, start, sigma, theirs):
    counts = [evaluations("CMAES", f, np.full(10, start), 1e-10, seed, sigma=sigma) for seed in range(5)]
    assert abs(np.median(counts) - theirs) <= 0.2 * theirs, counts


def test_constants_are_those_of_hansens_table_in_ten_dimensions():
    """Equations 49 to 58 of the tutorial; the numbers are those of the package cma 4.5.0."""
    c = evolution.constants(10, 10, "full")
    assert c.weights[:5] == pytest.approx([0.456273, 0.270753, 0.162231, 0.085234, 0.025510], abs=1e-6)
    assert c.weights[5:] == pytest.approx([-0.080013, -0.221764, -0.344555, -0.452864, -0.549750], abs=1e-6)
    assert (c.c_1, c.c_mu) == pytest.approx((0.0152838245247, 0.0235517766504), rel=1e-9)
    assert c.mu_eff == pytest.approx(3.1672993, abs=1e-7) and c.weights[:5].sum() == pytest.approx(1)
    assert c.c_s == pytest.approx((c.mu_eff + 2) / (15 + c.mu_eff)) and c.d_s == pytest.approx(1 + c.c_s)
    assert 1 - c.c_1 - c.c_mu * c.weights.sum() > 0


def test_covariance_becomes_the_inverse_hessian_and_makes_the_ellipsoid_a_sphere():
    rng = np.random.default_rng(3)
    axes, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    hessian = axes @ np.diag(10.0 ** np.arange(5)) @ axes.T
    p = parameter(np.ones(5))
    optimizer = optim.CMAES([p], sigma=0.5)
    for _ in range(250):
        optimizer.step(lambda: float(p.array @ hessian @ p.array))
    matrix = optimizer.state[p]["matrix"].numpy()
    values = np.linalg.eigvals(matrix @ hessian).real
    assert values.max() / values.min() < 10 < 1e4 == pytest.approx(np.linalg.cond(hessian))


def test_on_ill_conditioned_functions_covariance_wins_and_a_scale_each_where_axes_are_the_coordinates():
    full, diagonal = (
        evaluations(name, ellipsoid, np.ones(10), 1e-6, 1, sigma=0.5) for name in ("CMAES", "CMAES diagonal")
    )
    assert diagonal < full
    isotropic = evaluations("EvolutionStrategy", sphere, np.ones(10), 1e-10, 1, sigma=0.5)
    assert 1300 < isotropic < 2000
    with pytest.raises(AssertionError, match="after"):
        evaluations("EvolutionStrategy", ellipsoid, np.ones(10), 1e-6, 1, most=3 * full, sigma=0.5)


def test_only_ranks_count_and_no_finite_loss_halves_the_step():
    runs = []
    for f in (sphere, lambda x: 1e3 * math.sqrt(sphere(x)) - 7):
        p = parameter(np.ones(4))
        optimizer = optim.CMAES([p])
        for _ in range(30):
            optimizer.step(lambda p=p, f=f: float(f(p.array)))
        runs.append(p.array.tobytes())
    assert runs[0] == runs[1]
    for bad in (math.nan, math.inf):
        p = parameter(np.ones(4))
        optimizer = optim.CMAES([p], sigma=0.4)
        assert not math.isfinite(optimizer.step(lambda bad=bad: bad))
        assert (p.array == 1).all() and optimizer.state[p]["sigma"] == 0.2
        with pytest.raises(RuntimeError, match="no best point yet"):
            _ = optimizer.best


def test_a_region_without_losses_is_left():
    p = parameter([0.3, 0.3])
    optimizer = optim.EvolutionStrategy([p], sigma=0.5)
    for _ in range(150):
        optimizer.step(lambda: math.nan if p.array[0] > 0.5 else float(((p.array - 0.49) ** 2).sum()))
    assert abs(p.array - 0.49).max() < 1e-3


def test_a_full_covariance_refuses_many_parameters_with_their_bytes():
    with pytest.raises(
        ValueError, match=r"10,000 parameters takes 2,400,000,000 bytes.*covariance='diagonal'"
    ):
        optim.CMAES([parameter(np.zeros(10_000))])
    optim.CMAES([parameter(np.zeros(10_000))], covariance="diagonal")


# ---------------------------------------------------------------------------------------- simulated annealing


def test_annealing_walks_by_the_metropolis_rule():
    """At one temperature the walk visits the levels of a well as Boltzmann's distribution has them."""
    p = parameter([0.0])
    optimizer = optim.SimulatedAnnealing([p], 0.5, scale=1.0, cooling=1.0, adapt=False)
    seen = []
    for _ in range(6000):
        optimizer.step(lambda: float(p.array[0] ** 2))
        seen.append(p.array[0])
    assert np.var(seen[200:]) == pytest.approx(0.25, rel=0.1)  # N(0, T / 2)


@pytest.mark.parametrize("schedule", ["geometric", "fast", "logarithmic"])
def test_annealing_finds_the_lower_of_two_wells_where_descent_stays_in_the_higher(schedule):
    def wells(x):
        return float((x[0] ** 2 - 1) ** 2 + 0.3 * x[0])

    found = []
    for seed in range(5):
        p = parameter([1.0])
        optimizer = optim.SimulatedAnnealing([p], 1.0, schedule=schedule, seed=seed)
        for _ in range(400):
            optimizer.step(lambda p=p: wells(p.array))
        loss, (best,) = optimizer.best
        assert loss == wells(best.numpy())
        found.append(best.numpy()[0])
    assert sum(x < 0 for x in found) >= 4
    p = parameter([1.0])
    cold = optim.SimulatedAnnealing([p], temperature=0, scale=0.05, adapt=False)
    for _ in range(400):
        cold.step(lambda: wells(p.array))
    assert p.array[0] > 0.8


def test_annealing_evaluates_once_a_step_and_again_if_noisy_and_follows_its_acceptance():
    for noisy, expected in ((False, 101), (True, 200)):
        p, calls = parameter(np.ones(3)), []
        optimizer = optim.SimulatedAnnealing([p], noisy=noisy)
        for _ in range(100):
            optimizer.step(lambda p=p, calls=calls: calls.append(0) or float(sphere(p.array)))
        assert len(calls) == expected
    p, moved = parameter(np.zeros(3)), 0
    optimizer = optim.SimulatedAnnealing([p], 1.0, scale=1e-3, cooling=1.0, accept=0.3)
    for k in range(1500):
        before = p.array.copy()
        optimizer.step(lambda: float(sphere(p.array)))
        moved += k >= 500 and (p.array != before).any()
    assert moved / 1000 == pytest.approx(0.3, abs=0.05)


def test_annealing_never_takes_a_loss_that_is_not_finite_and_leaves_it():
    p = parameter([0.0])
    optimizer = optim.SimulatedAnnealing([p], temperature=1e9, cooling=1.0)
    for _ in range(200):
        optimizer.step(lambda: math.nan if p.array[0] > 0 else float(p.array[0]))
        assert p.array[0] <= 0
    p = parameter([1.0])
    optimizer = optim.SimulatedAnnealing([p], scale=3.0)
    for _ in range(20):
        optimizer.step(lambda: math.inf if p.array[0] > 0 else 1.0)
    assert p.array[0] <= 0


# -------------------------------------------------------------------------------------- Bayesian optimisation


@pytest.mark.oracle
def test_the_gaussian_process_is_scikit_learns():
    gp = pytest.importorskip("sklearn.gaussian_process")
    rng = np.random.default_rng(4)
    x, y, places = rng.random((25, 3)), rng.normal(size=25), rng.random((40, 3))
    lengths = np.array([0.3, 0.7, 2.0])
    ours = GaussianProcess(x, y, lengths, 1e-4)
    kernel = gp.kernels.ConstantKernel(ours.variance, "fixed") * gp.kernels.Matern(lengths, "fixed", nu=2.5)
    theirs = gp.GaussianProcessRegressor(kernel, alpha=ours.variance * (1e-4 + 1e-12), optimizer=None)
    mean, sd = theirs.fit(x, y - y.mean()).predict(places, return_std=True)
    np.testing.assert_allclose(ours(places)[0], mean + y.mean(), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ours(places)[1], sd, rtol=1e-6, atol=1e-8)
    constant = -0.5 * 25 * (1 + math.log(2 * math.pi))
    assert theirs.log_marginal_likelihood_value_ == pytest.approx(ours.likelihood + constant, rel=1e-10)


def test_the_model_goes_through_the_data_and_finds_the_dimension_that_matters():
    rng = np.random.default_rng(5)
    x = rng.random((30, 2))
    y = np.sin(6 * x[:, 0])
    model = GaussianProcess.fitted(x, y)
    assert np.abs(model(x)[0] - y).max() < 1e-3
    assert model.lengths[1] > 5 * model.lengths[0]
    there = rng.random((200, 2))
    assert np.abs(model(there)[0] - np.sin(6 * there[:, 0])).max() < 0.1


def test_expected_improvement_is_the_integral():
    draws = np.random.default_rng(6).standard_normal(400_000)
    for lowest, mean, sd in ((0.0, 0.5, 1.0), (0.0, -0.5, 0.3), (1.0, 1.0, 2.0)):
        integral = np.maximum(lowest - (mean + sd * draws), 0).mean()
        (found,) = expected_improvement(lowest, np.array([mean]), np.array([sd]))
        assert found == pytest.approx(integral, rel=2e-2)
    assert expected_improvement(0.0, np.array([1.0, -1.0]), np.zeros(2)).tolist() == [0.0, 1.0]
    assert matern(np.zeros((1, 2)), np.zeros((1, 2)), np.ones(2))[0, 0] == 1.0


def test_the_first_points_are_the_start_and_a_latin_hypercube():
    points = latin(np.random.default_rng(1), 8, 3)
    assert all(sorted((points[:, j] * 8).astype(int)) == list(range(8)) for j in range(3))
    p, tried = parameter([0.5, 20.0]), []
    optimizer = optim.BayesianOptimization([p], bounds=(-1, 1))
    for _ in range(5):
        optimizer.step(lambda: tried.append(p.array.copy()) or float(sphere(p.array)))
    assert tried[0].tolist() == [0.5, 1.0]  # what is outside is moved to the edge
    for j in range(2):
        assert sorted(((np.array(tried[1:])[:, j] + 1) * 2).astype(int)) == [0, 1, 2, 3]


def test_bayes_finds_branins_minimum_within_40_evaluations_where_random_search_does_not():
    """Jones, Schonlau & Welch 1998 come within 1 % after 28 evaluations."""
    options = dict(bounds=[(-5, 10), (0, 15)], most=60)
    target = 1.01 * 0.397887
    found = [evaluations("BayesianOptimization", branin, [2.0, 8.0], target, k, **options) for k in range(5)]
    assert np.median(found) <= 33, found
    rng, hits = np.random.default_rng(7), []
    for _ in range(5):
        x = rng.uniform((-5, 0), (10, 15), (40, 2)).T
        hits.append(branin(x).min() <= target)
    assert sum(hits) <= 1


def test_bayes_stands_at_the_best_and_survives_flat_and_infinite_losses():
    p, seen = parameter([0.9]), {}
    optimizer = optim.BayesianOptimization([p], bounds=(-1, 1))

    def closure():
        x = float(p.array[0])
        seen[x] = (x - 0.2) ** 2 if x < 0.5 else math.nan
        return seen[x]

    for _ in range(15):
        optimizer.step(closure)
    finite = {x: loss for x, loss in seen.items() if math.isfinite(loss)}
    assert p.array[0] == min(finite, key=finite.get) and min(finite.values()) < 1e-3
    for constant in (1.0, math.inf):
        q = parameter([0.0, 0.0])
        flat = optim.BayesianOptimization([q])
        for _ in range(8):
            flat.step(lambda constant=constant: constant)
        assert np.isfinite(q.array).all()


def test_bayes_ends_after_a_stated_number_of_evaluations(monkeypatch):
    monkeypatch.setattr(optim.BayesianOptimization, "most", 4)
    p = parameter([0.0])
    optimizer = optim.BayesianOptimization([p])
    with pytest.raises(RuntimeError, match="4 evaluations are behind it, whose model takes 384 bytes"):
        for _ in range(10):
            optimizer.step(lambda: float(p.array[0]))


# ----------------------------------------------------------------------------------------------------- tuning


@pytest.mark.parametrize("search", [None, lambda p: optim.CMAES(p, sigma=0.2)], ids=["bayes", "cmaes"])
def test_tune_finds_a_learning_rate_over_decades(search):
    """20 steps of gradient descent on curvatures 1 and 100: the best rate is near 2 / 101."""

    def run(lr):
        x = np.array([1.0, 1.0])
        for _ in range(20):
            x = x - lr * np.array([1.0, 100.0]) * x
        return mg.tensor(np.minimum(np.log10(x @ x + 1e-30), 300))

    exact = min((float(run(lr)), lr) for lr in np.exp(np.linspace(np.log(1e-5), 0, 3000)))
    budget = 25 if search is None else 60
    found = optim.tune(run, {"lr": (1e-5, 1.0, "log")}, budget, search)
    assert len(found.tried) == budget
    assert search is not None or found.tried[0][0]["lr"] == pytest.approx(10**-2.5)
    assert found.loss <= exact[0] + 0.1 and found.values["lr"] == pytest.approx(exact[1], rel=0.2)
    assert all(1e-5 <= values["lr"] <= 1.0 for values, _ in found.tried)


def test_tune_takes_several_values_and_bears_runs_that_diverge():
    def run(lr, momentum):
        return math.nan if lr > 0.5 else (math.log10(lr) + 2) ** 2 + (momentum - 0.7) ** 2

    found = optim.tune(run, {"lr": (1e-4, 10.0, "log"), "momentum": (0, 0.99)}, evaluations=30)
    assert found.loss < 0.05 and found.loss == min(l for _, l in found.tried if math.isfinite(l))
    with pytest.raises(ValueError, match="Invalid low of 'lr'"):
        optim.tune(run, {"lr": (0, 1, "log")})
    with pytest.raises(ValueError, match="space of 'lr' is"):
        optim.tune(run, {"lr": (0, 1, "square")})
    with pytest.raises(ValueError, match="space is empty"):
        optim.tune(run, {})
    with pytest.raises(ValueError, match="Invalid evaluations: 0"):
        optim.tune(run, {"lr": (0, 1)}, evaluations=0)


# -------------------------------------------------------------------------------------------- what all share


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("name", SEARCHES)
def test_a_saved_search_goes_on_to_the_same_bits_by_name_too(name, order):
    start = {"a": np.array([[0.5], [-0.3]]), "b": np.array([0.2])}
    scale = {"a": np.array([[1.0], [30.0]]), "b": np.array([5.0])}

    def begin(names):
        named = {n: parameter(start[n]) for n in names}
        return named, make(name, list(named.items()), seed=4)

    def go(named, optimizer, steps):
        for _ in range(steps):
            optimizer.step(lambda: sum(float((scale[n] * named[n].array ** 2).sum()) for n in "ab"))

    (whole, one), (half, two), (again, three) = begin("ab"), begin("ab"), begin(order)
    go(whole, one, 14)
    go(half, two, 7)
    state = two.state_dict()
    json.dumps(state["param_groups"])
    three.load_state_dict(state)
    for n in start:
        again[n].data = half[n].detach()
    if order == "ab":
        go(again, three, 7)
        assert all(again[n].array.tobytes() == whole[n].array.tobytes() for n in start)
        assert three.best[0] == one.best[0]
        return
    loss, (b, a) = three.best  # the vectors are in the new order of the parameters
    expected, (first, second) = two.best
    assert loss == expected and (a.numpy() == first.numpy()).all() and (b.numpy() == second.numpy()).all()
    loaded = dict(three.own[again["b"]])
    go(again, three, 1)
    if name == "CMAES":  # the rows and columns of its matrices follow: b, which was the third, is the first
        (reordered,), (old,) = three.own.values(), two.own.values()
        assert reordered["place"].numpy().tolist() == [0.0, 1.0, 2.0]
        same = make(name, [parameter(np.zeros(3))])
        same.reorder(loaded)
        turned = old["matrix"].numpy()[[2, 0, 1]][:, [2, 0, 1]]
        assert (loaded["matrix"].numpy() == turned).all()
        assert (loaded["axes"].numpy() == old["axes"].numpy()[[2, 0, 1]]).all()
    go(again, three, 800 if name == "SimulatedAnnealing" else 30)
    assert three.best[0] < expected


@pytest.mark.parametrize("name", SEARCHES)
def test_the_same_seed_is_the_same_walk_and_parameters_come_back_after_an_error(name):
    def walk(seed):
        p = parameter([0.4, -0.2])
        optimizer = make(name, [p], seed=seed)
        for _ in range(8):
            optimizer.step(lambda: float(sphere(p.array)))
        return p.array.tobytes()

    assert walk(1) == walk(1) != walk(2)
    p, calls = parameter([0.4, -0.2]), []
    optimizer = make(name, [p])
    optimizer.step(lambda: 1.0)
    before, state = p.array.copy(), repr(optimizer.state_dict()["state"])

    def failing():
        calls.append(0)
        if len(calls) == needed:
            raise KeyError("a bad batch")
        return -1.0

    needed = 3 if "E" in name else 1  # in the middle of a generation
    with pytest.raises(KeyError):
        optimizer.step(failing)
    assert (p.array == before).all() and repr(optimizer.state_dict()["state"]) == state


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SEARCHES)
def test_narrow_parameters_are_searched_too(name, dtype):
    p = parameter(np.full((2, 2), 0.5), dtype)
    optimizer = make(name, [p])
    first = optimizer.step(lambda: (p * p).sum())
    for _ in range(300 if name == "SimulatedAnnealing" else 40):
        optimizer.step(lambda: (p * p).sum())
    loss, (best,) = optimizer.best
    assert loss < 0.1 < float(first) and best.dtype == p.dtype
    assert not p.arena.array[4:].any()  # the pads


@pytest.mark.parametrize("name", SEARCHES)
def test_on_a_device_the_search_is_the_same(name):
    def walk(device):
        p = nn.Parameter(mg.tensor([0.4, -0.2], dtype="float64", device=device))
        optimizer = make(name, [p])
        for _ in range(8):
            optimizer.step(lambda: (p * p).sum())
        return p.detach().cpu().numpy().tobytes()

    with fake_cupy.installed():
        assert walk("cuda") == walk("cpu")


def test_batch_norm_counts_one_evaluation_a_step_and_dropout_draws_one_mask():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    optimizer = optim.EvolutionStrategy(model.parameters(), sigma=1e-12)
    x, losses = mg.randn(8, 3), []

    def closure():
        loss = (model(x) ** 2).sum()
        losses.append(float(loss))
        return loss

    optimizer.step(closure)
    assert int(model[1].num_batches_tracked) == 1
    assert np.ptp(losses) < 1e-3 * max(losses)


def test_bad_options_and_a_missing_closure_are_errors():
    p = [parameter([0.0, 0.0])]
    for name in SEARCHES:
        with pytest.raises(TypeError, match="takes a closure"):
            make(name, p).step()
        with pytest.raises(ValueError, match="Invalid seed: -1"):
            make(name, p, seed=-1)
    for match, bad in {
        "Invalid sigma value: 0": lambda: optim.CMAES(p, sigma=0),
        "Invalid population: 1": lambda: optim.CMAES(p, population=1),
        "Invalid covariance: 'half'": lambda: optim.CMAES(p, covariance="half"),
        "Invalid temperature value: -1": lambda: optim.SimulatedAnnealing(p, -1),
        "Invalid schedule: 'slow'": lambda: optim.SimulatedAnnealing(p, schedule="slow"),
        "Invalid cooling value: 0": lambda: optim.SimulatedAnnealing(p, cooling=0),
        "Invalid accept value: 1": lambda: optim.SimulatedAnnealing(p, accept=1),
        r"Invalid bounds: \(1, 0\)": lambda: optim.BayesianOptimization(p, bounds=(1, 0)),
        r"one such pair for each of the 2 elements": lambda: optim.BayesianOptimization(p, bounds=[(0, 1)]),
        "Invalid initial: 0": lambda: optim.BayesianOptimization(p, initial=0),
        "Invalid candidates: 0": lambda: optim.BayesianOptimization(p, candidates=0),
    }.items():
        with pytest.raises(ValueError, match=match):
            bad()


# -------------------------------------------------------------------------------------------------- surfaces


def test_the_example_of_surfaces_draws_every_path(tmp_path):
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("surfaces", ROOT / "examples" / "surfaces.py")
    surfaces = importlib.util.module_from_spec(spec)
    sys.modules["surfaces"] = surfaces  # its dataclass asks for it
    spec.loader.exec_module(surfaces)
    surfaces.main(["--surfaces", "wells", "--out", str(tmp_path / "a.png")])
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    s = surfaces.SURFACES["wells"]
    lowest = {rule: min(surfaces.path(rule, s)[1]) for rule in ("Adam", "BayesianOptimization", "CMAES")}
    assert lowest["BayesianOptimization"] < 0.3 < 0.7 < lowest["Adam"]  # descent stays in the higher well
