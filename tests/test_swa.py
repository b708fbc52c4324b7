"""Averages of weights: equal to PyTorch's over a run, one launch an update, saved and resumed."""

import copy
import pickle

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from kernels.averaging import AVERAGE
from minigrad import nn
from minigrad.optim import swa_utils
from minigrad.optim.swa_utils import (
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
    get_swa_multi_avg_fn,
    update_bn,
)


def network(lib, kind="float64"):
    """Linear, batch norm, Linear with the same weights in both libraries."""
    layers = lib.nn
    net = layers.Sequential(layers.Linear(5, 4), layers.BatchNorm1d(4), layers.ReLU(), layers.Linear(4, 2))
    net = net.to(getattr(lib, kind))
    rng = np.random.default_rng(3)
    with lib.no_grad():
        for p in net.parameters():
            p.copy_(lib.tensor(rng.standard_normal(tuple(p.shape)).astype(kind)))
    return net


def averaged_run(lib, make, steps=7, kind="float64", start=2):
    """A few steps of SGD; from step `start` on the weights are averaged. The averaged model."""
    net = network(lib, kind)
    optimizer = lib.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    averaged = make(lib, net)
    rng = np.random.default_rng(4)
    for step in range(steps):
        x = lib.tensor(rng.standard_normal((6, 5)).astype(kind))
        optimizer.zero_grad()
        (net(x) ** 2).sum().backward()
        optimizer.step()
        if step >= start:
            averaged.update_parameters(net)
    return averaged


def functions(lib):
    return lib.optim.swa_utils


FORMS = {
    "swa": lambda lib, net: functions(lib).AveragedModel(net),
    "swa multi": lambda lib, net: functions(lib).AveragedModel(
        net, multi_avg_fn=functions(lib).get_swa_multi_avg_fn()
    ),
    "swa single": lambda lib, net: functions(lib).AveragedModel(net, avg_fn=functions(lib).get_swa_avg_fn()),
    "swa buffers": lambda lib, net: functions(lib).AveragedModel(net, use_buffers=True),
    "ema multi": lambda lib, net: functions(lib).AveragedModel(
        net, multi_avg_fn=functions(lib).get_ema_multi_avg_fn(0.9)
    ),
    "ema fast": lambda lib, net: functions(lib).AveragedModel(
        net, multi_avg_fn=functions(lib).get_ema_multi_avg_fn(0.25)
    ),
    "ema single": lambda lib, net: functions(lib).AveragedModel(
        net, avg_fn=functions(lib).get_ema_avg_fn(0.9)
    ),
    "ema buffers": lambda lib, net: functions(lib).AveragedModel(
        net, None, None, functions(lib).get_ema_multi_avg_fn(0.9), True
    ),
    "one's own": lambda lib, net: functions(lib).AveragedModel(
        net, avg_fn=lambda a, p, n: a + (p - a) / (n + 2)
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_averaged_run_is_pytorchs(form):
    """But for one form: PyTorch's own get_swa_multi_avg_fn takes 1 / (n + 1) of a Tensor n in float32."""
    torch = oracle("torch")
    tolerance = 1e-7 if form == "swa multi" else 1e-12
    theirs = averaged_run(torch, FORMS[form]).state_dict()
    ours = averaged_run(mg, FORMS[form]).state_dict()
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert ours[name].dtype.name == str(value.dtype).removeprefix("torch.")
        assert np.allclose(ours[name].array, value.numpy(), rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("form", ["swa", "ema multi"])
def test_an_averaged_run_in_float32_is_pytorchs(form):
    torch = oracle("torch")
    theirs = averaged_run(torch, FORMS[form], kind="float32").state_dict()
    for name, value in averaged_run(mg, FORMS[form], kind="float32").state_dict().items():
        assert np.allclose(value.array, theirs[name].numpy(), rtol=0, atol=3e-5), name


def test_swa_is_the_mean_of_all_models_and_ema_the_recurrence():
    values = np.random.default_rng(0).standard_normal((6, 3))
    p = nn.Parameter(mg.zeros(3, dtype=mg.float64))
    model = nn.ParameterList([p])
    equal, moving = AveragedModel(model), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.7))
    expected = values[0]
    for k, value in enumerate(values):
        p.data = mg.tensor(value)
        equal.update_parameters(model)
        moving.update_parameters(model)
        expected = value if k == 0 else 0.7 * expected + 0.3 * value
    assert np.allclose(next(equal.parameters()).array, values.mean(0), atol=1e-15)
    assert np.allclose(next(moving.parameters()).array, expected, atol=1e-15)


def test_the_ends_of_decay_are_exact():
    for decay, kept in ((1.0, 0), (0.0, 2)):
        p = nn.Parameter(mg.tensor([0.1, 0.7]))
        model = nn.ParameterList([p])
        average, seen = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)), []
        for _ in range(3):
            seen.append(p.array.copy())
            average.update_parameters(model)
            p.data = p.data * 1.37 + 0.3
        assert np.array_equal(next(average.parameters()).array, seen[kept])


class Counted:
    """AVERAGE, and how often it was launched."""

    def __init__(self):
        self.launches, self.name = 0, AVERAGE.name

    def __call__(self, *args, **kwargs):
        self.launches += 1
        return AVERAGE(*args, **kwargs)


@pytest.fixture
def counted(monkeypatch):
    counter = Counted()
    monkeypatch.setattr(swa_utils, "AVERAGE", counter)
    return counter


def test_an_update_is_one_launch_where_the_model_is_one_arena(counted):
    net = network(mg)
    # matrices first, as train.py groups them: another order than parameters() has
    matrices, rest = [p for p in net.parameters() if p.ndim > 1], [p for p in net.parameters() if p.ndim <= 1]
    optimizer = mg.optim.AdamW([dict(params=matrices), dict(params=rest, weight_decay=0.0)])
    averaged = AveragedModel(net)
    for _ in range(3):
        net(mg.ones(4, 5, dtype=mg.float64)).sum().backward()
        optimizer.step()
        averaged.update_parameters(net)
    assert counted.launches == 2  # the first update copies


def test_it_is_equal_where_it_cannot_be_one_launch(counted):
    """Made before the optimizer, or over a model whose parameters lie in two arenas, or in none."""

    def result(split):
        net = network(mg)
        averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.5))
        averaged.update_parameters(net)
        params = list(net.parameters())
        if split is not None:
            for part in (params[:split], params[split:]):
                mg.optim.SGD(part, lr=0.1)
        for _ in range(3):
            for p in params:
                p.data = p.data * 1.1 + 0.1
            averaged.update_parameters(net)
        return np.concatenate([p.array.ravel() for p in averaged.parameters()])

    assert np.array_equal(result(2), result(None)) and np.array_equal(result(2), result(3))
    assert counted.launches > 6


def test_nothing_is_read_to_count(monkeypatch):
    net = network(mg)
    averaged = AveragedModel(net)
    monkeypatch.setattr(type(averaged.n_averaged), "__int__", lambda self: pytest.fail("read"))
    for _ in range(3):
        averaged.update_parameters(net)
    assert averaged.n_averaged.array == 3


def test_on_a_device_an_update_is_one_launch_and_reads_nothing():
    with fake_cupy.installed() as device:
        net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2)).to("cuda")
        optimizer = mg.optim.SGD(net.parameters(), lr=0.1)
        averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        x = mg.ones(3, 5, device="cuda")
        for _ in range(3):
            optimizer.zero_grad()
            net(x).sum().backward()
            optimizer.step()
            averaged.update_parameters(net)
        with device.counting() as counted:
            averaged.update_parameters(net)
        assert counted.launched == counted.launches["average"] == 1
        assert counted.host_reads == [] and counted.synchronizations == [] and counted.uploads == []
        on_host = AveragedModel(net, device="cpu")
        on_host.update_parameters(net)
        assert all(not p.is_cuda for p in on_host.parameters())


def test_it_is_a_module():
    net = network(mg)
    averaged = AveragedModel(net)
    assert isinstance(averaged, nn.Module) and isinstance(averaged, AveragedModel)
    assert [n for n, _ in averaged.named_parameters()] == [f"module.{n}" for n, _ in net.named_parameters()]
    outer = nn.Sequential(averaged)
    assert len(list(outer.parameters())) == 6
    x = mg.randn(3, 5, dtype=mg.float64)
    averaged.eval(), net.eval()
    assert np.array_equal(averaged(x).array, net(x).array)
    assert not averaged.module.training


def test_a_subclass_is_one_too():
    class Mine(AveragedModel):
        def forward(self, x):
            return super().forward(x) * 2

    net = network(mg).eval()
    x = mg.randn(3, 5, dtype=mg.float64)
    assert np.array_equal(Mine(net)(x).array, 2 * net(x).array)


def test_the_copy_is_a_copy():
    net = network(mg)
    mg.optim.SGD(net.parameters(), lr=1.0)
    averaged = AveragedModel(net)
    before = [p.array.copy() for p in averaged.parameters()]
    for p in net.parameters():
        p.data = p.data + 1
    assert all(np.array_equal(p.array, b) for p, b in zip(averaged.parameters(), before, strict=True))


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_resumed_average_goes_on_exactly(at):
    """The count is saved with the weights: after load_state_dict the next update weighs as it would have."""

    def models():
        p = nn.Parameter(mg.zeros(4))
        model = nn.ParameterList([p])
        for k in range(6):
            p.data = mg.tensor(np.sin(np.arange(4, dtype=np.float32) + k))
            yield model

    whole = resumed = None
    for k, model in enumerate(models()):
        whole = whole or AveragedModel(model)
        resumed = resumed or AveragedModel(model)
        if k == at:
            fresh = AveragedModel(model)
            fresh.load_state_dict(resumed.state_dict())
            resumed = fresh
        whole.update_parameters(model)
        resumed.update_parameters(model)
    for name, value in whole.state_dict().items():
        assert np.array_equal(value.array, resumed.state_dict()[name].array)


def test_copies_and_pickles_go_on():
    net = network(mg)
    averaged = AveragedModel(net)
    averaged.update_parameters(net)
    for twin in (copy.deepcopy(averaged), pickle.loads(pickle.dumps(averaged))):
        assert isinstance(twin, AveragedModel) and isinstance(twin, nn.Module)
        twin.update_parameters(net)
        assert int(twin.n_averaged) == 2
    assert int(averaged.n_averaged) == 1


def test_a_graph_over_the_average_refuses_to_go_on_after_an_update():
    net = network(mg)
    averaged = AveragedModel(net)
    loss = (averaged(mg.ones(3, 5, dtype=mg.float64)) ** 2).sum()
    averaged.update_parameters(net)
    with pytest.raises(RuntimeError, match="modified in place"):
        loss.backward()


def test_functions_work_on_plain_tensors():
    a, p = mg.tensor([0.0, 2.0]), mg.tensor([1.0, 1.0])
    get_ema_multi_avg_fn(0.75)([a], [p], None)
    assert a.tolist() == [0.25, 1.75]
    assert get_ema_avg_fn(0.5)(a, p, None).tolist() == [0.625, 1.375]
    assert get_swa_avg_fn()(mg.tensor([0.0]), mg.tensor([3.0]), 2).tolist() == [1.0]
    get_swa_multi_avg_fn()([a], [p], mg.tensor(0))
    assert a.tolist() == [1.0, 1.0]


def test_what_makes_no_sense_is_refused():
    for make in (get_ema_avg_fn, get_ema_multi_avg_fn):
        for decay in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match="decay"):
                make(decay)
    net = network(mg)
    with pytest.raises(AssertionError, match="Only one"):
        AveragedModel(net, avg_fn=get_swa_avg_fn(), multi_avg_fn=get_swa_multi_avg_fn())
    with pytest.raises(ValueError, match="2 parameters, the average 6"):
        AveragedModel(net).update_parameters(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="no Module"):
        AveragedModel(3)


# ---- batch norm


def batches(lib, kind="float64"):
    rng = np.random.default_rng(9)
    return [(lib.tensor(rng.standard_normal((8, 5)).astype(kind) + k), None) for k in range(4)]


def test_update_bn_is_pytorchs():
    torch = oracle("torch")
    found = {}
    for lib in (torch, mg):
        net = network(lib)
        net[1].momentum = 0.3
        net.eval()
        functions(lib).update_bn(batches(lib), net)
        assert net[1].momentum == 0.3 and not net.training
        found[lib] = net.state_dict()
    for name, value in found[torch].items():
        assert np.allclose(found[mg][name].array, value.numpy(), atol=1e-12), name


def test_update_bn_is_the_mean_over_the_batches_whatever_was_there():
    net = network(mg)
    net[1].running_mean.array[:] = 99.0
    update_bn(batches(mg), net)
    means = [net[0](x).array.mean(0) for x, _ in batches(mg)]
    assert np.allclose(net[1].running_mean.array, np.mean(means, 0), atol=1e-12)


def test_update_bn_puts_modes_and_momenta_back_also_after_an_error():
    net = network(mg)
    net[1].eval()
    with pytest.raises(ValueError):
        update_bn([mg.ones(8, 5, 1, 1, dtype=mg.float64)], net)
    assert net.training and not net[1].training and net[1].momentum == 0.1


def test_update_bn_leaves_a_model_without_batch_norm_alone():
    update_bn(iter(lambda: pytest.fail("the data were read"), None), nn.Linear(2, 2))


# ---- the learning rate


def annealed(lib, epochs, before=3, **options):
    """Some epochs of exponential decay, then SWALR: the rates of both groups, epoch by epoch."""
    ps = [lib.ones(2, requires_grad=True) for _ in range(2)]
    optimizer = lib.optim.SGD([dict(params=ps[:1]), dict(params=ps[1:], lr=0.02)], lr=0.5)
    first = lib.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    second = lib.optim.swa_utils.SWALR(optimizer, **options)
    rates = []
    for epoch in range(epochs):
        optimizer.step()
        (first if epoch < before else second).step()
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
    return np.array(rates)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("anneal", [0, 1, 7, 10])
@pytest.mark.parametrize("swa_lr", [0.05, [0.1, 0.003]])
def test_swalr_is_pytorchs_at_every_epoch(strategy, anneal, swa_lr):
    torch = oracle("torch")
    options = dict(swa_lr=swa_lr, anneal_epochs=anneal, anneal_strategy=strategy)
    theirs, ours = (annealed(lib, 20, **options) for lib in (torch, mg))
    assert np.allclose(ours, theirs, rtol=1e-12, atol=1e-15)
    assert np.allclose(ours[-1], swa_lr, rtol=1e-12)


@pytest.mark.parametrize("at", range(8))
def test_swalr_resumes_at_every_epoch(at):
    def made():
        optimizer = mg.optim.SGD([mg.ones(2, requires_grad=True)], lr=0.5)
        return optimizer, swa_utils.SWALR(optimizer, 0.05, 5)

    def rates(optimizer, scheduler, epochs):
        for _ in range(epochs):
            optimizer.step()
            scheduler.step()
            yield optimizer.param_groups[0]["lr"]

    expected = list(rates(*made(), 8))
    first = made()
    got = list(rates(*first, at))
    second = made()
    for new, old in zip(second, first, strict=True):
        new.load_state_dict(old.state_dict())
    assert got + list(rates(*second, 8 - at)) == expected


def test_swalr_refuses_what_pytorch_refuses():
    optimizer = mg.optim.SGD([mg.ones(2, requires_grad=True)], lr=0.5)
    for options, message in (
        (dict(swa_lr=[0.1, 0.2]), "swa_lr"),
        (dict(swa_lr=0.1, anneal_epochs=-1), "anneal_epochs"),
        (dict(swa_lr=0.1, anneal_epochs=1.5), "anneal_epochs"),
        (dict(swa_lr=0.1, anneal_strategy="steps"), "anneal_strategy"),
    ):
        with pytest.raises(ValueError, match=message):
            swa_utils.SWALR(optimizer, **options)
        assert "swa_lr" not in optimizer.param_groups[0]
