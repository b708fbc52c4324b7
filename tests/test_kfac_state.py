"""K-FAC's state: resumed, matched by name, pickled; launches and reads; types, gaps, and what is refused."""

import json
import pickle

import fake_cupy
import numpy as np
import pytest
from test_kfac import batch, data

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F
from models import MLP, SmallCNN


def training_run(steps, cut=None, order=None, **options):
    """A float32 MLP with a norm, trained on 5 batches in turn; cut: saved and loaded into a new one there."""
    mg.manual_seed(7)

    def model():
        return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))

    def made(net):
        named = list(net.named_parameters())
        named = named if order is None else [named[k] for k in order]
        decays = [
            dict(params=[e for e in named if (e[1].ndim > 1) == d], weight_decay=0.01 * d) for d in (1, 0)
        ]
        return optim.KFAC(decays, lr=0.05, factor_interval=4, inverse_interval=3, **options)

    net = model()
    optimizer = optim.KFAC(made(net).param_groups, lr=0.05, factor_interval=4, inverse_interval=3, **options)
    for t in range(steps):
        if t == cut:
            weights, state = net.state_dict(), optimizer.state_dict()
            json.dumps(state["param_groups"])
            draws = mg.random.default_generator.get_state()
            net = model()
            net.load_state_dict(weights)
            mg.random.default_generator.set_state(draws)
            optimizer = made(net)
            optimizer.load_state_dict(state)
        x, y = data(10, 6, dtype="float32", seed=t % 5)
        optimizer.outputs = lambda x=x, net=net: net(x)
        optimizer.sampled_loss = lambda x=x, net=net: F.cross_entropy(z := net(x), optim.sample_labels(z))

        def closure(x=x, y=y, net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
    return net, optimizer


@pytest.mark.parametrize("cut", [1, 6, 7, 8, 9])
@pytest.mark.parametrize("options", [dict(), dict(fisher="exact"), dict(fisher="empirical", momentum=0.0)])
def test_k_steps_saved_loaded_and_k_more_are_2k_steps(options, cut):
    whole, _ = training_run(14, **options)
    again, _ = training_run(14, cut=cut, **options)
    for p, q in zip(whole.parameters(), again.parameters(), strict=True):
        assert p.array.tobytes() == q.array.tobytes()


def test_state_loads_by_name_into_another_order():
    whole, _ = training_run(12)
    again, optimizer = training_run(12, cut=7, order=[4, 5, 3, 1, 0, 2])
    for p, q in zip(whole.parameters(), again.parameters(), strict=True):
        np.testing.assert_allclose(p.array, q.array, rtol=1e-5, atol=1e-6)
    assert optimizer.layers[again[3].weight].bias is again[3].bias


def test_a_state_that_does_not_fit_changes_nothing():
    _, optimizer = training_run(5)
    saved = optimizer.state_dict()
    other = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))
    named = list(other.named_parameters())
    decays = [dict(params=[e for e in named if (e[1].ndim > 1) == d]) for d in (1, 0)]
    fresh = optim.KFAC(decays)
    broken = pickle.loads(pickle.dumps({k: v for k, v in saved.items() if k != "state"})) | {
        "state": {k: dict(v) for k, v in saved["state"].items()}
    }
    broken["state"][0]["input_factor"] = mg.ones(5, 5)
    with pytest.raises(ValueError, match=r"0\.weight.*factors of shapes \[5, 5\] and \[8, 8\]"):
        fresh.load_state_dict(broken)
    del broken["state"][0]["input_factor"]
    with pytest.raises(ValueError, match=r"0\.weight"):
        fresh.load_state_dict(broken)
    assert fresh.layers == {} and fresh.rest == set() and not fresh.state


def test_it_pickles_without_its_functions():
    _, optimizer = training_run(5)
    again = pickle.loads(pickle.dumps(optimizer))
    assert again.sampled_loss is None and again.outputs is None
    assert (
        len(again.layers) == 2
        and again.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    )


@pytest.mark.parametrize("fisher", ["sampled", "exact", "empirical"])
@pytest.mark.parametrize("model", ["mlp", "cnn", "embedding"])
def test_no_step_reads_the_device_and_between_refreshes_there_is_no_pass(fisher, model):
    with fake_cupy.installed() as device:
        mg.manual_seed(0)
        if model == "embedding":
            net = nn.Sequential(nn.Embedding(7, 4), nn.LayerNorm(4), nn.Linear(4, 3)).to("cuda")
            x = mg.tensor([1, 2, 3, 3], device="cuda")
        else:
            net = (MLP([4, 5, 3]) if model == "mlp" else SmallCNN(1, 8, 3, (2, 3))).to("cuda")
            x = mg.randn(4, *((4,) if model == "mlp" else (1, 8, 8)), device="cuda")
        y = mg.tensor([0, 1, 2, 0], device="cuda")
        optimizer, closure = batch(net, x, y, fisher=fisher, factor_interval=6, inverse_interval=4)
        launches = []
        for _ in range(8):
            with device.counting() as counts:
                optimizer.step(closure)
            assert counts.host_reads == [] and counts.synchronizations == []
            launches.append(sum(counts.launches.values()))
        with device.counting() as counts:
            optimizer.step(closure)
        assert counts.launches["kfac"] == 1
        assert launches[5] == launches[7] < launches[4] and launches[5] < launches[6]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_parameters_have_float32_factors(dtype):
    mg.manual_seed(0)
    net = MLP([4, 5, 3]).to(dtype)
    x, y = data(6, 4, dtype=dtype)
    optimizer, closure = batch(net, x, y)
    for _ in range(5):
        optimizer.step(closure)
    for p in net.parameters():
        assert np.isfinite(p.array.astype("float32")).all()
        kinds = {t.dtype for n, t in optimizer.state[p].items() if isinstance(t, mg.Tensor) and n != "bias"}
        assert kinds == {mg.float32}


def test_zero_gradients_change_nothing_and_make_no_nan():
    for dtype in ("float16", "float32", "float64"):
        net = MLP([4, 5, 3]).to(dtype)
        for p in net.parameters():
            p.data = mg.zeros(p.shape, dtype=dtype)
        x = mg.zeros(6, 4, dtype=dtype)
        optimizer = optim.KFAC(net.parameters())
        optimizer.sampled_loss = lambda net=net, x=x: (net(x) * 0).sum()
        for _ in range(3):
            for p in net.parameters():
                p.grad = mg.zeros(p.shape, dtype=dtype)
            optimizer.step()
        for p in net.parameters():
            assert not p.array.any()
            for slot in optimizer.state[p].values():
                assert np.isfinite(np.asarray(slot, np.float64)).all()


def test_parameters_without_gradient_are_left_alone():
    mg.manual_seed(0)
    net = MLP([4, 5, 3])
    x, y = data(6, 4, dtype="float32")
    optimizer, closure = batch(net, x, y)
    first = net.layers[0]

    def partial():
        loss = closure()
        first.weight.grad = None
        return loss

    start, bias = first.weight.array.copy(), first.bias.array.copy()
    optimizer.step(partial)
    assert (first.weight.array == start).all() and not (first.bias.array == bias).all()
    assert optimizer.steps[first.weight] == 0 and optimizer.steps[first.bias] == 1


def test_batch_norms_statistics_move_once_a_step():
    mg.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    x, y = data(6, 4, dtype="float32")
    optimizer, closure = batch(net, x, y)
    for _ in range(3):
        optimizer.step(closure)
    assert int(net[1].num_batches_tracked) == 3


def test_gradients_are_left_alone_by_the_pass_of_its_own():
    mg.manual_seed(0)
    net = MLP([4, 5, 3])
    x, y = data(6, 4, dtype="float32")
    optimizer, closure = batch(net, x, y)
    closure()
    before = [p.grad.array.copy() for p in net.parameters()]
    optimizer.step()
    for p, g in zip(net.parameters(), before, strict=True):
        assert p.grad.array.tobytes() == g.tobytes()


def test_what_is_missing_or_wrong_is_named():
    net = MLP([4, 3])
    x = data(6, 4, dtype="float32")[0]
    for fisher, name in (("sampled", "sampled_loss"), ("exact", "outputs")):
        optimizer = optim.KFAC(net.parameters(), fisher=fisher)
        for p in net.parameters():
            p.grad = mg.ones(p.shape)
        start = [p.array.copy() for p in net.parameters()]
        with pytest.raises(
            ValueError, match=f"KFAC: fisher='{fisher}' needs a pass of its own: set optimizer.{name}"
        ):
            optimizer.step()
        setattr(optimizer, name, lambda: 1.0)
        with pytest.raises(TypeError, match=f"KFAC: {name} gave a float"):
            optimizer.step()
        setattr(optimizer, name, lambda: net(x).detach())
        with pytest.raises(TypeError, match="requires_grad=False"):
            optimizer.step()
        assert all((p.array == s).all() for p, s in zip(net.parameters(), start, strict=True))
        assert not any(optimizer.steps.values())
    with pytest.raises(ValueError, match="fisher='empirical' sees the closure's own labels: call step"):
        optim.KFAC(net.parameters(), fisher="empirical").step()
    bad = dict(damping=(0, -1), momentum=(1, -0.1), lr=(-1,), fisher=("true",), loss=("hinge",), kl_clip=(0,))
    bad |= dict(
        factor_interval=(0, 1.5), inverse_interval=(0,), max_size=(0,), labels=(0,), factor_decay=(1,)
    )
    for name, values in bad.items():
        for value in values:
            with pytest.raises(ValueError, match="KFAC.*" + str(value)):
                optim.KFAC(net.parameters(), **{name: value})


def test_a_capture_refuses_it_by_name_and_runs_it_as_it_is():
    made = []
    for capture in (False, True):
        with fake_cupy.installed():
            mg.manual_seed(0)
            net, x = MLP([4, 5, 3]).to("cuda"), mg.randn(6, 4, device="cuda")
            y = mg.tensor([0, 1, 2, 0, 1, 2], device="cuda")
            optimizer, closure = batch(net, x, y)

            def step(closure=closure, optimizer=optimizer):
                loss = closure()
                optimizer.step()
                return loss

            whole = mg.graph.capture(step) if capture else step
            losses = [float(whole()) for _ in range(5)]
            made.append(losses)
            if capture:
                assert "KFAC" in whole.why
    assert made[0] == made[1]
