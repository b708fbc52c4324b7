"""Each disease is injected into a run, and it is the one that is reported; a healthy run reports nothing."""

from math import inf, nan
from pathlib import Path

import fake_cupy
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.training import Diagnosis, NaNWatch, watch
from minigrad.training.symptoms import TABLE, Record, symptoms
from models import MLP


def problem(n=512, inputs=12, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, inputs)).astype("float32")
    return x, (x @ rng.standard_normal((inputs, classes))).argmax(1)


def trained(model, optimizer, steps=120, batch=64, data=None, loss=F.cross_entropy, **options):
    """The diagnosis of a run."""
    x, y = data or problem()
    doctor, rng = Diagnosis(model, optimizer, **options), np.random.default_rng(1)
    for _ in range(steps):
        rows = rng.choice(len(x), batch, replace=False)
        optimizer.zero_grad()
        value = loss(model(mg.tensor(x[rows])), mg.tensor(y[rows]))
        value.backward()
        optimizer.step()
        doctor.observe(value)
    return doctor


def names(doctor):
    return [s.name for s in doctor.symptoms()]


def deep(activation, layers=10, width=16):
    parts = []
    for k in range(layers):
        parts += [nn.Linear(12 if k == 0 else width, width), activation()]
    return nn.Sequential(*parts, nn.Linear(width, 4))


# ---- a run that is well


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("fused", [True, False])
def test_a_healthy_run_reports_nothing(rule, fused):
    model = MLP([12, 32, 32, 4]) if fused else deep(nn.ReLU, 3)
    optimizer = {
        "sgd": lambda p: mg.optim.SGD(p, lr=0.1, momentum=0.9),
        "adam": lambda p: mg.optim.Adam(p, lr=3e-3),
        "adamw": lambda p: mg.optim.AdamW(p, lr=3e-3),
    }[rule](model.parameters())
    doctor = trained(model, optimizer)
    assert doctor.symptoms() == [] and "Nothing is amiss" in doctor.report()
    assert doctor.run.losses[-1] < 0.5 * doctor.run.losses[0]


# ---- diseases, one each


def test_a_learning_rate_too_high():
    for lr in (30.0, 1e3):
        model = MLP([12, 32, 4])
        doctor = trained(model, mg.optim.SGD(model.parameters(), lr=lr))
        assert names(doctor)[0] == "learning rate high", doctor.report()
    assert "reduce the learning rate" in doctor.report()
    model = MLP([12, 32, 4])
    assert names(trained(model, mg.optim.Adam(model.parameters(), lr=1.0)))[0] == "learning rate high"


def test_a_learning_rate_too_low():
    model = MLP([12, 32, 4])
    doctor = trained(model, mg.optim.SGD(model.parameters(), lr=1e-6))
    assert names(doctor) == ["learning rate low"]


def test_a_deep_sigmoid_net_whose_gradients_vanish():
    model = deep(nn.Sigmoid)
    doctor = trained(model, mg.optim.SGD(model.parameters(), lr=0.1))
    assert names(doctor) == ["vanishing gradients"]
    assert "the gradient of 0.weight against that of 20.weight" in doctor.report()


def test_activations_that_are_saturated_are_told():
    model = deep(nn.Tanh, 6)
    for p in model.parameters():
        p.data = p.data * 30
    doctor = trained(model, mg.optim.SGD(model.parameters(), lr=1e-4), steps=30)
    doctor.symptoms()
    assert max(doctor.run.saturated.values()) > 0.5


@pytest.mark.parametrize("fused", [True, False])
def test_dead_relus(fused):
    """Fused layers call no ReLU module; their units are known by their gradients."""
    model = MLP([12, 32, 32, 4]) if fused else deep(nn.ReLU, 2, 32)
    layer = model.layers[1] if fused else model[2]
    layer.bias.data = layer.bias.data - 100
    doctor = trained(model, mg.optim.SGD(model.parameters(), lr=0.05))
    assert names(doctor) == ["dead ReLUs"]
    assert "100% of the units of " + ("layers.1.weight" if fused else "2.weight") in doctor.report()


def test_some_dead_relus_are_counted():
    model = MLP([12, 40, 4])
    bias = model.layers[0].bias.array.copy()
    bias[:30] = -100
    model.layers[0].bias.data = mg.tensor(bias)
    doctor = trained(model, mg.optim.SGD(model.parameters(), lr=0.05))
    assert names(doctor) == ["dead ReLUs"] and doctor.run.dead["layers.0.weight"] == 0.75


def test_a_batch_of_one_oscillates():
    model = MLP([12, 32, 4])
    doctor = trained(model, mg.optim.SGD(model.parameters(), lr=0.1), batch=1, steps=200, data=noisy())
    assert names(doctor) == ["oscillation"] and "batch" in doctor.symptoms()[0].cure
    model = MLP([12, 32, 4])
    assert names(trained(model, mg.optim.SGD(model.parameters(), lr=0.1), steps=200, data=noisy())) == []


def noisy():
    """Labels of which a third are wrong."""
    x, y = problem()
    rng = np.random.default_rng(5)
    return x, np.where(rng.random(len(y)) < 0.33, rng.integers(0, 4, len(y)), y)


class Recurrent(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.rnn = nn.RNN(1, 16, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(16, 1)
        self.rnn.weight_hh_l0.data = self.rnn.weight_hh_l0.data * scale

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def test_a_recurrent_net_whose_gradients_explode():
    rng = np.random.default_rng(0)
    x = rng.random((256, 30, 1)).astype("float32")
    data = (x, x.mean(1))
    for clip in (False, True):
        model = Recurrent(5.0)
        optimizer = mg.optim.SGD(model.parameters(), lr=1e-4)
        doctor = Diagnosis(model, optimizer)
        for k in range(40):
            optimizer.zero_grad()
            loss = F.mse_loss(model(mg.tensor(data[0][k : k + 32])), mg.tensor(data[1][k : k + 32]))
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0) if clip else None
            optimizer.step()
            doctor.observe(loss, norm)
        assert names(doctor)[0] == "exploding gradients", doctor.report()  # with clipping, by the norm given
    model = Recurrent(1.0)
    assert "exploding gradients" not in names(
        trained(model, mg.optim.SGD(model.parameters(), lr=0.01), data=data, loss=F.mse_loss)
    )


def test_too_much_weight_decay():
    model = MLP([12, 32, 4])
    doctor = trained(model, mg.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=60.0))
    assert names(doctor)[0] == "weight decay"


def test_nan_in_the_data_is_told_with_the_step_and_the_parameter():
    x, y = problem()
    x[7, 3] = nan
    model = MLP([12, 32, 4])
    doctor = trained(model, mg.optim.SGD(model.parameters(), lr=0.05), data=(x, y), steps=40)
    (found,) = doctor.symptoms()
    assert found.name == "non-finite" and "the loss of step" in found.evidence
    assert "the parameter 'layers.0.weight' holds nan" in found.evidence


def test_overfitting_needs_held_out_data_and_is_seen_by_them():
    x, y = problem(n=40)
    model = MLP([12, 64, 4])
    optimizer = mg.optim.Adam(model.parameters(), lr=0.01)
    doctor = Diagnosis(model, optimizer)
    rng = np.random.default_rng(1)
    other, answers = rng.standard_normal((200, 12)).astype("float32"), rng.integers(0, 4, 200)
    for step in range(200):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(mg.tensor(x)), mg.tensor(y))
        loss.backward()
        optimizer.step()
        doctor.observe(loss)
        if step % 20 == 0:
            doctor.observe_held_out(F.cross_entropy(model(mg.tensor(other)), mg.tensor(answers)))
    assert names(doctor) == ["overfitting"]
    doctor.run.held_out.clear()
    assert names(doctor) == []


# ---- rules on made-up records


def test_a_loss_that_rises_diverges_and_one_that_stays_stalls():
    assert [s.name for s in symptoms(Record(losses=[1 + 0.1 * k for k in range(40)]))] == ["divergence"]
    assert [s.name for s in symptoms(Record(losses=[2.0] * 40))] == ["stall"]
    assert symptoms(Record(losses=[2.0 - 0.02 * k for k in range(40)])) == []
    assert symptoms(Record(losses=[2.0] * 5)) == []  # too early to say


def test_a_negative_loss_that_falls_is_well():
    assert symptoms(Record(losses=[-1 - 0.1 * k for k in range(40)])) == []


def test_memory_that_runs_out_is_told():
    (found,) = symptoms(Record(losses=[2.0 - 0.02 * k for k in range(40)], memory=(15e9, 16e9)))
    assert found.name == "memory" and "accumulation" in found.cure


def test_every_symptom_has_cause_and_cure_and_a_test():
    tested = Path(__file__).read_text()
    for name, (cause, cure) in TABLE.items():
        assert cause and cure and f'"{name}"' in tested, name


# ---- what it costs, and what it leaves


def test_between_looks_nothing_is_read():
    """The losses stay on the device; numbers are read at steps 1, 2, 4 and then every 8."""
    model = MLP([12, 8, 4])
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    doctor, looks = Diagnosis(model, optimizer, every=8), []
    x, y = (mg.tensor(a[:32]) for a in problem())
    for step in range(1, 25):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        doctor.observe(loss)
        if not doctor.pending:
            looks.append(step)
    assert looks == [1, 2, 4, 8, 16, 24] == [look.step for look in doctor.run.looks]
    assert len(doctor.run.losses) == 24 and not loss.detach().requires_grad


def test_what_it_measures_is_what_numpy_does():
    model = MLP([12, 8, 4])
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    before = {n: p.array.copy() for n, p in model.named_parameters()}
    doctor = trained(model, optimizer, steps=1, every=1)
    (look,) = doctor.run.looks
    for name, p in model.named_parameters():
        assert look.weights[name] == pytest.approx(np.linalg.norm(p.array), rel=1e-5)
        assert look.gradients[name] == pytest.approx(np.linalg.norm(p.grad.array), rel=1e-5)
        assert look.updates[name] == pytest.approx(np.linalg.norm(p.array - before[name]), rel=1e-4)


def test_a_watched_run_is_the_same_run_and_close_takes_the_hooks_out():
    def weights(watched):
        mg.manual_seed(3)
        model = deep(nn.Sigmoid, 2)
        optimizer = mg.optim.AdamW(model.parameters())
        x, y = (mg.tensor(a) for a in problem())
        doctor = Diagnosis(model, optimizer, every=3) if watched else None
        for _ in range(7):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            if doctor:
                doctor.observe(loss)
        if doctor:
            doctor.close()
            assert not optimizer.before and not model[1]._hooks["forward"]
        return np.concatenate([p.array.ravel() for p in model.parameters()])

    assert np.array_equal(weights(True), weights(False))


def test_optimizers_that_wrap_or_call_a_closure_are_watched_too():
    for make in (
        lambda p: mg.optim.Lookahead(mg.optim.SGD(p, lr=0.1)),
        lambda p: mg.optim.SAM(mg.optim.SGD(p, lr=0.1)),
    ):
        model = MLP([12, 16, 4])
        optimizer = make(model.parameters())
        doctor = Diagnosis(model, optimizer, every=5)
        x, y = (mg.tensor(a) for a in problem())

        def closure(model=model, optimizer=optimizer, x=x, y=y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        for _ in range(30):
            loss = closure()
            optimizer.step(closure)
            doctor.observe(loss)
        assert doctor.symptoms() == []
        assert all(look.gradients["layers.0.weight"] > 0 for look in doctor.run.looks)


def test_what_makes_no_sense_is_refused():
    model = MLP([2, 2])
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    for every in (0, 1.5, True):
        with pytest.raises(ValueError, match="every="):
            Diagnosis(model, optimizer, every=every)
    assert "Nothing was observed" in Diagnosis(model, optimizer).report()


# ---- on a device


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


def on_device(every=4):
    model = MLP([12, 8, 4]).to("cuda")
    optimizer = mg.optim.AdamW(model.parameters())
    doctor = Diagnosis(model, optimizer, every=every)
    x, y = problem(n=32)
    x, y = mg.tensor(x, device="cuda"), mg.tensor(y, device="cuda")

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        doctor.observe(loss)

    return doctor, step


def test_on_a_device_a_step_between_looks_reads_nothing_and_a_look_few_numbers(device):
    doctor, step = on_device()
    for _ in range(4):
        step()
    with device.counting() as counted:
        step()
    assert counted.host_reads == [] and counted.synchronizations == []
    step(), step()
    with device.counting() as counted:
        step()  # the eighth: weights, gradients, updates and losses, a read each
    assert len(counted.host_reads) == 4, counted.host_reads
    assert doctor.symptoms() == [] and len(doctor.run.losses) == 8


def test_on_a_device_a_watch_that_finds_nothing_reads_once(device):
    doctor, step = on_device()
    step()
    watch(doctor.model)
    with device.counting() as counted:
        assert watch(doctor.model) is None
    assert len(counted.host_reads) == 1
    doctor.model.layers[0].bias.data = mg.full((8,), nan)
    assert watch(doctor.model) == "the parameter 'layers.0.bias' holds nan: 8 of 8 elements"


# ---- the watch for nan and inf


@pytest.mark.parametrize("bad", [nan, inf, -inf])
@pytest.mark.parametrize("housed", [True, False])
def test_the_first_that_is_not_finite_is_named(bad, housed):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    if housed:
        mg.optim.SGD(model.parameters(), lr=0.1)
    model(mg.randn(5, 3)).sum().backward()
    assert watch(model) is None
    what = "nan" if np.isnan(bad) else "inf"
    model[1].running_var.array[2] = bad
    assert watch(model) == f"the buffer '1.running_var' holds {what}: 1 of 4 elements"
    model[2].weight.grad.array[1, 1:3] = bad
    assert watch(model) == f"the gradient of '2.weight' holds {what}: 2 of 8 elements"
    model[2].bias.array[0] = bad
    assert watch(model) == f"the parameter '2.bias' holds {what}: 1 of 2 elements"


def test_large_numbers_are_finite():
    model = nn.Linear(3, 4)
    model.weight.data = mg.full((4, 3), 3e38)
    assert watch(model) is None


def test_the_watch_names_operation_parameter_and_gradient():
    model = nn.Linear(3, 4)
    with NaNWatch(model), pytest.raises(RuntimeError, match="log returned nan"):
        mg.log(model(mg.ones(1, 3)) - 1e6)
    assert not mg.is_anomaly_enabled()
    with pytest.raises(RuntimeError, match="'bias' holds inf"), NaNWatch(model, operations=False):
        model.bias.array[0] = inf
    with pytest.raises(KeyError), NaNWatch(model):
        raise KeyError("the error of the run, not the watch's")
