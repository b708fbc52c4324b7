"""Schedule-Free: the two modes, and that what is saved is what was learnt."""

import pickle

import fake_cupy
import numpy as np
import pytest
from oracle import oracle
from test_rules import MACHINES, feed, gradients, placed, starting
from transcriptions.modern import schedule_free

import kernels
import minigrad as mg
from minigrad import nn, optim

RULES = [optim.SGDScheduleFree, optim.AdamWScheduleFree]
OPTIONS = dict(lr=0.01, weight_decay=0.1, warmup_steps=5, r=0.5)
HALVES = ["float16", "bfloat16", "float32", "float64"]


def trained(rule, dtype="float64", steps=12, seed=1, missing=True, **options):
    rng = np.random.default_rng(seed)
    start, grads = starting(rng), gradients(rng, steps, missing)
    params = placed(start, dtype)
    optimizer = rule(params, **(OPTIONS | options))
    feed(params, optimizer, grads, dtype)
    return params, optimizer, start, grads


def bits(params):
    return [p.array.tobytes() for p in params]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("rule", RULES)
def test_eval_gives_the_average_of_the_paper(rule, machine):
    with kernels.use(machine):
        params, optimizer, start, grads = trained(rule, steps=60)
        optimizer.eval()
    beta2 = 0.999 if rule is optim.AdamWScheduleFree else None
    for k, p in enumerate(params):
        x = schedule_free(start[k], [g[k] for g in grads], beta2=beta2, average=True, **OPTIONS)
        np.testing.assert_allclose(p.array, x, rtol=1e-12, atol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("rule", RULES)
def test_eval_gives_the_packages_weights_which_are_not_those_of_train_mode(rule):
    torch, package = oracle("torch"), oracle("schedulefree")
    params, optimizer, start, grads = trained(rule, missing=False)
    theirs = [torch.nn.Parameter(torch.tensor(p)) for p in start]
    other = getattr(package, rule.__name__)(theirs, **OPTIONS)
    other.train()
    for step in grads:
        for p, g in zip(theirs, step, strict=True):
            p.grad = torch.tensor(g)
        other.step()
    y = params[0].array.copy()
    for o in (optimizer, other):
        o.eval()
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.array, q.detach().numpy(), rtol=1e-12, atol=1e-12)
    assert np.abs(params[0].array - y).max() > 1e-4


@pytest.mark.oracle
@pytest.mark.parametrize("rule", RULES)
def test_the_packages_state_is_taken_over(rule):
    torch, package = oracle("torch"), oracle("schedulefree")
    rng = np.random.default_rng(3)
    start, grads = starting(rng), gradients(rng, 20, missing=False)
    theirs = [torch.nn.Parameter(torch.tensor(p)) for p in start]
    other = getattr(package, rule.__name__)(theirs, **OPTIONS)
    other.train()
    for k, step in enumerate(grads):
        if k == 10:
            other.eval()
            params = placed([p.detach().numpy().copy() for p in theirs], "float64")
            optimizer = rule(params)
            optimizer.load_state_dict(other.state_dict())
            for o in (optimizer, other):
                o.train()
        for p, g in zip(theirs, step, strict=True):
            p.grad = torch.tensor(g)
        other.step()
    feed(params, optimizer, grads[10:], "float64")
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.array, q.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("rule", RULES)
def test_eval_and_train_again_are_exact(rule, dtype):
    for machine in MACHINES:
        with kernels.use(machine):
            params, optimizer, *_ = trained(rule, dtype)
            before = bits(params)
            for _ in range(3):
                optimizer.eval()
                between = bits(params)
                optimizer.eval()  # a second call changes nothing
                assert bits(params) == between != before
                optimizer.train()
                optimizer.train()
                assert bits(params) == before


@pytest.mark.parametrize("rule", RULES)
def test_weights_changed_in_eval_mode_are_those_that_training_goes_on_from(rule):
    params, optimizer, *_ = trained(rule)
    optimizer.eval()
    p = params[0]
    with mg.no_grad():
        p[0] = 3.0
    z, x = np.asarray(optimizer.state[p]["z"]).copy(), p.array.copy()
    optimizer.train()
    np.testing.assert_allclose(p.array, 0.9 * x + 0.1 * z, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", RULES)
def test_a_step_in_eval_mode_raises_and_changes_nothing(rule):
    params, optimizer, _, grads = trained(rule)
    optimizer.eval()
    before, steps = bits(params), dict(optimizer.steps)
    with pytest.raises(RuntimeError, match=rf"{rule.__name__}: step\(\) in eval mode.*train\(\)"):
        feed(params, optimizer, grads[:1], "float64")
    assert bits(params) == before and optimizer.steps == steps


def model_and_optimizer(rule, steps):
    mg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
    optimizer = rule(model.parameters(), lr=0.05)
    x = mg.randn(8, 4)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) ** 2).mean().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("rule", RULES)
def test_saving_in_train_mode_is_refused(rule):
    model, optimizer = model_and_optimizer(rule, 3)
    for save in (
        model.state_dict,
        optimizer.state_dict,
        model[0].state_dict,
        lambda: pickle.dumps(optimizer),
    ):
        with pytest.raises(
            RuntimeError, match=rf"{rule.__name__}: in train mode .* optimizer.eval\(\) before"
        ):
            save()
    optimizer.eval()
    weights = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    assert {"z", "y"} <= set(optimizer.state_dict()["state"][0])
    optimizer.train()
    assert not np.array_equal(model[0].weight.detach().numpy(), weights["0.weight"])
    assert set(weights) == {n for n, _ in [*model.named_parameters(), *model.named_buffers()]}


@pytest.mark.parametrize("rule", RULES)
def test_a_model_that_has_taken_no_step_or_lost_its_optimizer_saves(rule):
    model, optimizer = model_and_optimizer(rule, 0)
    assert len(model.state_dict()) == 9 and optimizer.state_dict()["state"] == {}
    model, optimizer = model_and_optimizer(rule, 2)
    del optimizer
    assert len(model.state_dict()) == 9


@pytest.mark.parametrize("rule", RULES)
def test_saved_in_eval_mode_loaded_and_gone_on_is_the_same_to_the_bit(rule):
    params, optimizer, _, grads = trained(rule, "float32", steps=6)
    optimizer.eval()
    again = placed([p.array for p in params], "float32")
    other = rule(again)
    other.load_state_dict(optimizer.state_dict())
    with pytest.raises(RuntimeError, match="eval mode"):
        feed(again, other, grads[:1], "float32")
    for ps, o in ((params, optimizer), (again, other)):
        o.train()
        feed(ps, o, grads, "float32")
    assert bits(params) == bits(again)


@pytest.mark.parametrize("rule", RULES)
def test_a_schedule_reaches_the_step_after_loading(rule):
    params, optimizer, *_ = trained(rule, steps=3)
    optimizer.eval()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.train()
    optimizer.param_groups[0]["lr"] = 0.0
    before = np.asarray(optimizer.state[params[0]]["z"]).copy()
    feed(params, optimizer, [[np.ones(p.shape) for p in params]], "float64")
    assert np.array_equal(np.asarray(optimizer.state[params[0]]["z"]), before)


@pytest.mark.parametrize("rule", RULES)
def test_the_modes_are_one_launch_a_group_without_a_host_read(rule):
    with fake_cupy.installed() as device:
        groups = [
            dict(params=[nn.Parameter(mg.ones(4, 3, device="cuda")) for _ in range(3)]) for _ in range(2)
        ]
        optimizer = rule(groups)
        for p in optimizer.parameters():
            p.grad = mg.ones(4, 3, device="cuda")
        optimizer.step()
        optimizer.eval()
        optimizer.train()
        for mode in ("eval", "train"):
            with device.counting() as counts:
                getattr(optimizer, mode)()
            assert counts.launches[f"schedule_free_{mode}"] == 2
            assert counts.host_reads == []


@pytest.mark.parametrize(
    ("rule", "options", "match"),
    [
        (optim.SGDScheduleFree, dict(momentum=0.0), r"SGDScheduleFree: Invalid momentum value: 0.0"),
        (optim.SGDScheduleFree, dict(momentum=1.0), r"Invalid momentum value: 1.0; it must be in \(0, 1\)"),
        (
            optim.AdamWScheduleFree,
            dict(betas=(0.0, 0.9)),
            r"AdamWScheduleFree: Invalid betas value: \(0.0, 0.9\)",
        ),
        (optim.AdamWScheduleFree, dict(warmup_steps=-1), "AdamWScheduleFree: Invalid warmup_steps value: -1"),
        (optim.AdamWScheduleFree, dict(r=float("nan")), "AdamWScheduleFree: Invalid r value: nan"),
    ],
)
def test_options_out_of_range_raise(rule, options, match):
    with pytest.raises(ValueError, match=match):
        rule([nn.Parameter(mg.ones(2))], **options)


@pytest.mark.oracle
@pytest.mark.parametrize("rule", RULES)
def test_arguments_and_defaults_are_the_packages(rule):
    import inspect

    theirs = inspect.signature(getattr(oracle("schedulefree"), rule.__name__)).parameters
    ours = inspect.signature(rule).parameters
    assert list(ours) == list(theirs)
    assert {n: p.default for n, p in ours.items() if n != "foreach"} == {
        n: p.default for n, p in theirs.items() if n != "foreach"
    }
