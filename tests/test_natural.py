"""NaturalGradient: exact Fisher and conjugate gradients against NumPy, invariance under reparametrisation."""

import json
import pickle

import fake_cupy
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.curvature import Fisher
from minigrad.nn import functional as F
from models import MLP


class Softmax:
    """Logistic regression on n examples of 4 features and 3 classes, its weight theta = A phi (float64)."""

    def __init__(self, transform=None, n=12, seed=0):
        rng = np.random.default_rng(seed)
        self.x, self.y = mg.tensor(rng.normal(size=(n, 4))), mg.tensor(rng.integers(3, size=n))
        start = rng.normal(size=12)
        self.transform = None if transform is None else mg.tensor(transform)
        phi = start if transform is None else np.linalg.solve(transform, start)
        self.p = nn.Parameter(mg.tensor(phi))

    def theta(self):
        return self.p if self.transform is None else self.transform @ self.p

    def outputs(self):
        return F.linear(self.x, self.theta().reshape(3, 4))

    def closure(self, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(self.outputs(), self.y)
            loss.backward()
            return loss

        return closure

    def run(self, steps, make=None, **options):
        optimizer = (make or optim.NaturalGradient)([self.p], **options)
        if make is None:
            optimizer.outputs = self.outputs
        path = []
        for _ in range(steps):
            optimizer.step(self.closure(optimizer))
            path.append(self.theta().detach().array.copy())
        return np.array(path), optimizer


def fisher_of(theta, x):
    """E over labels of score score^T, by NumPy, from the definition."""
    z = x @ theta.reshape(3, 4).T
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    total = 0
    for c in range(3):
        scores = ((p - np.eye(3)[c])[:, :, None] * x[:, None, :]).reshape(len(x), 12)
        total = total + (scores * p[:, [c]]).T @ scores / len(x)
    return total, p


@pytest.mark.parametrize("solver", ["exact", "cg"])
@pytest.mark.parametrize("damping", [1e-3, 0.1])
def test_steps_are_those_of_the_exact_fisher_in_numpy(solver, damping):
    problem = Softmax()
    theta = problem.p.array.copy()
    found, _ = problem.run(6, lr=0.5, damping=damping, solver=solver, cg_iterations=200, cg_tolerance=1e-13)
    x, y = problem.x.array, problem.y.array
    for k in range(6):
        fisher, p = fisher_of(theta, x)
        g = ((p - np.eye(3)[y]).T @ x / len(x)).reshape(-1)
        theta = theta - 0.5 * np.linalg.solve(fisher + damping * np.eye(12), g)
        np.testing.assert_allclose(found[k], theta, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("fisher", ["sampled", "empirical"])
def test_the_other_fishers_are_named_options_and_other_steps(fisher):
    problem = Softmax()
    exact, _ = problem.run(1, damping=0.01)
    other = Softmax()
    optimizer = optim.NaturalGradient([other.p], damping=0.01, fisher=fisher, cg_iterations=50)
    optimizer.outputs = lambda: (other.outputs(), other.y)
    optimizer.step(other.closure(optimizer))
    assert np.abs(other.p.array - exact[0]).max() > 1e-2


# ---------------------------------------------------------------------------------------------- invariance


def transform(seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(12, 12)) + 2 * np.eye(12)


def test_without_damping_the_steps_do_not_depend_on_the_parametrisation_and_gradient_descents_do():
    a = transform()
    assert np.linalg.cond(a) > 5
    paths = [Softmax(t).run(8, lr=0.3, damping=0.0, solver="exact")[0] for t in (None, a)]

    def logits(path, x):  # softmax forgets a shift, so functions are compared, not parameters
        z = path.reshape(-1, 3, 4) @ x.T
        return z - z.mean(1, keepdims=True)

    x = Softmax().x.array
    np.testing.assert_allclose(logits(paths[1], x), logits(paths[0], x), rtol=0, atol=1e-9)
    plain = [Softmax(t).run(8, make=optim.SGD, lr=0.3)[0] for t in (None, a)]
    assert np.abs(logits(plain[1], x) - logits(plain[0], x)).max() > 0.1
    damped = [Softmax(t).run(8, lr=0.3, damping=0.1, solver="exact")[0] for t in (None, a)]
    assert np.abs(logits(damped[1], x) - logits(damped[0], x)).max() > 1e-3


def test_conjugate_gradients_are_invariant_as_far_as_they_converge():
    bounds = dict(lr=0.3, damping=1e-10, cg_iterations=500, cg_tolerance=1e-12)
    paths = [Softmax(t).run(4, **bounds)[0] for t in (None, transform())]
    x = Softmax().x.array
    z = [p.reshape(-1, 3, 4) @ x.T for p in paths]
    z = [v - v.mean(1, keepdims=True) for v in z]
    np.testing.assert_allclose(z[1], z[0], rtol=0, atol=1e-5)


def test_on_a_linear_model_with_squared_errors_it_is_newtons_method():
    rng = np.random.default_rng(0)
    x, y = mg.tensor(rng.normal(size=(20, 4))), mg.tensor(rng.normal(size=(20, 3)))
    layer = nn.Linear(4, 3).to(mg.float64)
    for solver in ("exact", "cg"):
        layer.reset_parameters()
        bounds = dict(cg_iterations=100, cg_tolerance=1e-14)
        optimizer = optim.NaturalGradient(layer.parameters(), 1.0, 0.0, loss="mse", solver=solver, **bounds)
        optimizer.outputs = lambda: layer(x)

        def closure(optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.mse_loss(layer(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
        rows = np.hstack([x.array, np.ones((20, 1))])
        best = np.linalg.lstsq(rows, y.array, rcond=None)[0].T
        found = np.hstack([layer.weight.array, layer.bias.array[:, None]])
        np.testing.assert_allclose(found, best, rtol=1e-9, atol=1e-10)


def test_a_small_step_changes_the_distribution_by_half_d_f_d():
    problem = Softmax(n=200)
    outputs = problem.outputs()
    d = mg.tensor(np.random.default_rng(3).normal(size=12) * 1e-3)
    curved = float((d * Fisher(outputs, [problem.p])([d])[0]).sum()) / 2
    before = F.log_softmax(outputs, 1).detach().array
    after = F.log_softmax(F.linear(problem.x, (problem.p + d).reshape(3, 4)), 1).detach().array
    kl = (np.exp(before) * (before - after)).sum(1).mean()
    assert abs(kl - curved) < 1e-2 * curved


# ------------------------------------------------------------------------------------------------- damping


def mlp_run(steps, cut=None, dtype="float32", seed=0, **options):
    mg.manual_seed(seed)
    rng = np.random.default_rng(seed)
    x, y = mg.tensor(rng.normal(size=(40, 4)), dtype=dtype), mg.tensor(rng.integers(3, size=40))

    def made(net):
        optimizer = optim.NaturalGradient(net.named_parameters(), **options)
        optimizer.outputs = lambda: (net(x), y)
        return optimizer

    net = MLP([4, 8, 3]).to(dtype)
    optimizer, losses = made(net), []
    for t in range(steps):
        if t == cut:
            weights, state = net.state_dict(), optimizer.state_dict()
            json.dumps(state["param_groups"])
            draws = mg.random.default_generator.get_state()
            net = MLP([4, 8, 3]).to(dtype)
            net.load_state_dict(weights)
            mg.random.default_generator.set_state(draws)
            optimizer = made(net)
            optimizer.load_state_dict(state)

        def closure(net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        losses.append(float(optimizer.step(closure)))
    return net, optimizer, losses


def test_levenberg_and_marquardts_damping_makes_every_step_descend_and_follows_the_model():
    _, optimizer, losses = mlp_run(40, lr=1.0, damping=1e-6, levenberg_marquardt=True)
    assert (np.diff(losses) <= 0).all() and losses[-1] < 0.3 * losses[0]
    assert optimizer.param_groups[0]["damping"] != 1e-6
    _, other, falling = mlp_run(10, lr=1.0, damping=1e4, levenberg_marquardt=True)
    assert other.param_groups[0]["damping"] == pytest.approx(1e4 / 1.5**10)  # short steps are foretold well
    assert (np.diff(falling) <= 0).all()


def test_a_step_that_makes_it_worse_is_taken_back_to_the_bit():
    problem = Softmax()
    start = problem.p.array.copy()
    optimizer = optim.NaturalGradient([problem.p], lr=1e6, damping=1e-3, levenberg_marquardt=True)
    optimizer.outputs = problem.outputs
    optimizer.step(problem.closure(optimizer))
    assert problem.p.array.tobytes() == start.tobytes()
    assert optimizer.param_groups[0]["damping"] == pytest.approx(4e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_losses_and_gradients_that_are_not_finite_move_nothing(bad):
    problem = Softmax()
    start = problem.p.array.copy()
    optimizer = optim.NaturalGradient([problem.p])
    optimizer.outputs = problem.outputs

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(problem.outputs() * bad, problem.y)
        loss.backward()
        return loss

    with np.errstate(all="ignore"):
        optimizer.step(closure)
    assert problem.p.array.tobytes() == start.tobytes()


def test_a_singular_fisher_without_damping_leaves_out_what_changes_nothing():
    problem = Softmax(n=2)  # rank 4 of 12
    before = problem.p.array.copy()
    rank = np.linalg.matrix_rank(fisher_of(before, problem.x.array)[0])
    assert rank == 4
    path, _ = problem.run(20, lr=0.5, damping=0.0, solver="exact")
    assert np.isfinite(path).all()
    z = F.cross_entropy(problem.outputs(), problem.y)
    assert float(z) < 0.1


def test_the_exact_fisher_of_a_large_net_is_refused_with_its_bytes():
    net = MLP([200, 200, 10])
    optimizer = optim.NaturalGradient(net.parameters(), solver="exact")
    optimizer.outputs = lambda: net(mg.ones(2, 200))
    n = sum(p.numel() for p in net.parameters())
    with pytest.raises(
        ValueError, match=f"the matrix of {n:,} parameters would take {n * n * 8:,} bytes, more"
    ):
        optimizer.step(lambda: net(mg.ones(2, 200)).sum())


# -------------------------------------------------------------------------------------- state, what is wrong


@pytest.mark.parametrize(
    "options",
    [dict(), dict(warm_start=0.9, cg_iterations=4), dict(levenberg_marquardt=True), dict(fisher="sampled")],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_k_steps_saved_loaded_and_k_more_are_2k_steps(options, dtype):
    whole, first, losses = mlp_run(10, dtype=dtype, **options)
    again, second, _ = mlp_run(10, cut=5, dtype=dtype, **options)
    for p, q in zip(whole.parameters(), again.parameters(), strict=True):
        assert p.array.tobytes() == q.array.tobytes()
    assert first.param_groups[0]["damping"] == second.param_groups[0]["damping"]
    assert losses[-1] < losses[0]


def test_a_warm_start_is_kept_and_is_another_beginning():
    cold, _, _ = mlp_run(4, cg_iterations=3)
    warm, optimizer, _ = mlp_run(4, cg_iterations=3, warm_start=0.9)
    assert np.abs(cold.layers[0].weight.array - warm.layers[0].weight.array).max() > 1e-5
    state = optimizer.state[optimizer.parameters()[0]]
    assert state["step"] == 4 and state["previous"].shape == (4 * 8 + 8 + 8 * 3 + 3,)
    again = pickle.loads(pickle.dumps(optimizer))
    assert again.outputs is None
    assert again.state_dict()["state"][0]["previous"].array.tobytes() == state["previous"].array.tobytes()


def test_half_parameters_take_steps_in_float32():
    net, _, losses = mlp_run(8, dtype="float16")
    assert losses[-1] < losses[0] and all(np.isfinite(p.array).all() for p in net.parameters())


@pytest.mark.parametrize("options", [dict(), dict(fisher="sampled"), dict(solver="exact"), dict(loss="mse")])
def test_it_works_on_a_device(options):
    with fake_cupy.installed():
        mg.manual_seed(0)
        net, x = MLP([3, 4, 2]).to("cuda"), mg.randn(6, 3, device="cuda")
        y = mg.tensor([0, 1, 1, 0, 1, 0], device="cuda")
        target = F.one_hot(y, 2).to(mg.float32)
        optimizer = optim.NaturalGradient(net.parameters(), outputs=lambda: (net(x), y), **options)

        def closure():
            optimizer.zero_grad()
            loss = F.mse_loss(net(x), target) if options.get("loss") == "mse" else F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        first = float(optimizer.step(closure))
        for _ in range(5):
            last = float(optimizer.step(closure))
        assert last < first


def test_dropout_and_batch_norm_see_one_pass_a_step():
    mg.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
    x, y = mg.randn(10, 4), mg.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    optimizer = optim.NaturalGradient(net.parameters())
    seen = []
    net[3].register_forward_hook(lambda module, args, output: seen.append(output.array != 0))
    optimizer.outputs = lambda: net(x)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert int(net[1].num_batches_tracked) == 1
    assert len(seen) == 2 and (seen[0] == seen[1]).all()
    optimizer.step(closure)
    assert not (seen[0] == seen[2]).all()


def test_what_is_missing_or_wrong_is_named():
    problem = Softmax()
    optimizer = optim.NaturalGradient([problem.p])
    with pytest.raises(ValueError, match=r"it needs the model's outputs: set optimizer\.outputs"):
        optimizer.step(problem.closure(optimizer))
    optimizer.outputs = lambda: problem.outputs().detach()
    with pytest.raises(ValueError, match="the outputs have no graph"):
        optimizer.step(problem.closure(optimizer))
    optimizer = optim.NaturalGradient([problem.p], fisher="empirical", outputs=problem.outputs)
    with pytest.raises(ValueError, match="kind='empirical' is of the true labels; give targets="):
        optimizer.step(problem.closure(optimizer))
    with pytest.raises(TypeError, match=r"NaturalGradient: step\(\) takes a closure"):
        optimizer.step()
    bad = dict(lr=(-1,), damping=(-1, float("nan")), loss=("hinge",), fisher=("true",), solver=("lu",))
    bad |= dict(cg_iterations=(0, 2.5), cg_tolerance=(-1,), warm_start=(-1,), max_bytes=(0,))
    for name, values in bad.items():
        for value in values:
            with pytest.raises(ValueError, match=f"NaturalGradient.*{value}"):
                optim.NaturalGradient([problem.p], **{name: value})
