"""Every optimizer in a captured step: which are captured, to the bit, and why the others run eagerly."""

import numpy as np
import pytest
from capturing import fake_device, problem

import minigrad as mg
from minigrad import amp, optim

# Those that a step without a closure suffices; all others are refused for their closure, or by their words.
EAGERLY = {
    "PerturbedGD": "its noise is drawn by a count on the host",
    "Prodigy": "it counts its steps in param_groups",
}
CLOSURES = {name for name, r in optim.zoo.items() if "closure" in r.needs}
OTHERS = {"KFAC", "ExponentiatedGradient"}  # take layers; weights that are shares
CAPTURED = sorted(set(optim.zoo) - CLOSURES - OTHERS - set(EAGERLY))
UNSTOPPABLE = {"Lookahead", "SOAP", "Shampoo"}  # by a GradScaler on the device
OPTIONS = {"SOAP": dict(precondition_frequency=5), "Shampoo": dict(refresh_period=5)}


@pytest.fixture
def device():
    with fake_device() as device:
        yield device


def made(name, model, **options):
    if name == "Muon":
        return optim.Muon(optim.Muon.split(model), **options)
    return optim.zoo[name].make(model.parameters(), **options)


def steps(name, capture, count=12, scaler=None, bad=(), **options):
    """(captured function or None, what the steps leave behind)"""
    model, loss_of, x, y = problem("mlp")
    optimizer = made(name, model, **options)
    factors = [mg.tensor(v).to("cuda") for v in (1.0, np.inf)]

    def step(factor, x, y):
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss * factor).backward()
            scaler.step(optimizer)
            scaler.update()
        return loss

    run = mg.graph.capture(step) if capture else step
    losses = []
    for k in range(count):
        if k == 8 and "lr" in optimizer.param_groups[0]:
            optimizer.param_groups[0]["lr"] = 3e-3
        losses.append(float(run(factors[k in bad], x[k : k + 8], y[k : k + 8])))
    modes = getattr(optimizer, "eval", lambda: None)
    modes()
    state = optimizer.state_dict()["state"]
    plain = {
        k: {n: v.tolist() if isinstance(v, mg.Tensor) else v for n, v in s.items()} for k, s in state.items()
    }
    return run, (losses, [p.tolist() for p in model.parameters()], plain)


@pytest.mark.parametrize("name", CAPTURED)
def test_these_are_captured_to_the_bit(device, name):
    _, eager = steps(name, False, **OPTIONS.get(name, {}))
    run, captured = steps(name, True, **OPTIONS.get(name, {}))
    assert run.why == "" and run.graphs == 1
    assert captured == eager


@pytest.mark.parametrize("name", sorted(set(CAPTURED) - UNSTOPPABLE))
def test_these_leave_no_bit_behind_of_a_step_that_a_scaler_leaves_out(device, name):
    bad = (0, 4, 7, 8, 11)
    found = []
    for capture in (False, True):
        scaler = amp.GradScaler("cuda", 2.0**8)
        run, left = steps(name, capture, 14, scaler, bad)
        found.append((str(left), scaler.skips, scaler.state_dict()))
    assert run.why == "" and run.graphs == 1 and found[1][1] == len(bad)
    assert found[0] == found[1]


@pytest.mark.parametrize("name", sorted(EAGERLY))
def test_these_run_eagerly_and_say_why(device, name):
    _, eager = steps(name, False)
    run, left = steps(name, True)
    assert left == eager and run.graphs == 0
    assert f"has a step of its own kind: {EAGERLY[name]} (" in run.why


def step_of(model, loss_of, optimizer):
    """A plain training step: its loss."""

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_mirror_descent_is_captured_but_for_maps_of_the_programs_own(device):
    for options in (dict(mirror="p-norm"), dict(mirror="hypentropy")):
        _, eager = steps("MirrorDescent", False, **options)
        run, captured = steps("MirrorDescent", True, **options)
        assert run.why == "" and run.graphs == 1 and captured == eager
    maps = (lambda p: 2 * p, lambda d: d / 2)
    _, eager = steps("MirrorDescent", False, mirror=maps)
    run, left = steps("MirrorDescent", True, mirror=maps)
    assert "the mirror of MirrorDescent is the program's own function" in run.why and left == eager


def test_a_schedule_free_step_in_eval_mode_is_an_error_captured_too(device):
    model, loss_of, x, y = problem("mlp")
    optimizer = optim.AdamWScheduleFree(model.parameters())

    run = mg.graph.capture(step_of(model, loss_of, optimizer))
    for _ in range(6):
        run(x[:8], y[:8])
    optimizer.eval()
    with pytest.raises(RuntimeError, match=r"step\(\) in eval mode"):
        run(x[:8], y[:8])
    optimizer.train()
    run(x[:8], y[:8])
    assert run.graphs == 1 and optimizer.steps[next(model.parameters())] == 7


def test_a_learned_rate_that_is_set_by_hand_is_captured_anew(device):
    """The number lies on the device, where the graph reads it: another one lies elsewhere."""
    found = []
    for capture in (False, True):
        model, loss_of, x, y = problem("mlp")
        optimizer = optim.AdamHD(model.parameters())

        step = step_of(model, loss_of, optimizer)
        run = mg.graph.capture(step) if capture else step
        losses = []
        for k in range(20):
            if k == 9:
                optimizer.param_groups[0]["lr"] = 5e-2
            losses.append(float(run(x[:8], y[:8])))
        found.append((losses, float(optimizer.param_groups[0]["lr"])))
    assert found[0] == found[1] and run.why == "" and run.graphs == 1


OTHER = dict(ns_steps=3, ns_coefficients=(2.0, -1.5, 0.5), eps_added=True, adjust_lr_fn="match_rms_adamw")


@pytest.mark.parametrize("option", OTHER)
def test_an_option_of_muon_that_no_kernel_takes_is_captured_anew(device, option):
    """The graph holds what the iteration of Newton and Schulz was launched with."""
    found = []
    for capture in (False, True):
        model, loss_of, x, y = problem("mlp")
        optimizer = optim.Muon(optim.Muon.split(model))

        step = step_of(model, loss_of, optimizer)
        run = mg.graph.capture(step) if capture else step
        losses = []
        for k in range(12):
            if k == 7:
                for group in optimizer.param_groups:
                    assert group[option] != OTHER[option]
                    group[option] = OTHER[option]
            losses.append(float(run(x[:8], y[:8])))
        found.append(losses)
    assert found[0] == found[1] and run.why == "" and run.graphs == 1


def test_every_kth_step_of_lookahead_is_eager_and_the_rest_is_captured(device):
    """Two in three, once three plain ones have been a warm-up; and a state loaded in between."""
    found = []
    for capture in (False, True):
        model, loss_of, x, y = problem("mlp")
        optimizer = optim.Lookahead(optim.AdamW(model.parameters(), lr=1e-2), k=3)

        step = step_of(model, loss_of, optimizer)
        run, losses = mg.graph.capture(step) if capture else step, []
        for k in range(30):
            if k == 16:
                saved = optimizer.state_dict()
            if k == 21:
                optimizer.load_state_dict(saved)
            losses.append(float(run(x[k : k + 8], y[k : k + 8])))
        found.append((losses, optimizer.count, [p.tolist() for p in model.parameters()]))
    assert found[0] == found[1] and run.why == "" and run.graphs == 1
    assert device.launches["graph"] == 30 - 9 - 1 - 4  # syncs at 3, 6, ...; the first begins; three warm up


@pytest.mark.parametrize("rule", ["SophiaG", "SophiaH"])
def test_sophia_estimates_eagerly_and_steps_captured(device, rule):
    found = []
    for capture in (False, True):
        model, loss_of, x, y = problem("dropout")
        optimizer = getattr(optim, rule)(model.parameters(), lr=1e-2, update_interval=5)

        def sampled(model=model, x=x):
            logits = model(x[:8])
            return mg.nn.functional.cross_entropy(logits, optim.sample_labels(logits))

        if rule == "SophiaG":
            optimizer.sampled_loss = sampled

        def step(x, y, model=model, loss_of=loss_of, optimizer=optimizer):
            optimizer.zero_grad()
            loss = loss_of(model, x, y)
            if rule == "SophiaH" and optimizer.due():
                optimizer.update_hessian(loss, retain_graph=True)
            loss.backward()
            optimizer.step()
            return loss

        run, before = mg.graph.capture(step) if capture else step, device.launches["graph"]
        losses = [float(run(x[k : k + 8], y[k : k + 8])) for k in range(24)]
        found.append((losses, [p.tolist() for p in model.parameters()]))
    assert found[0] == found[1] and run.why == "" and run.graphs == 1
    assert device.launches["graph"] - before == 24 - 24 // 5 - (rule == "SophiaH") - 3


@pytest.mark.parametrize("rule", ["Adan", "Rprop", "AdamWScheduleFree", "AdamW"])
def test_a_state_of_before_the_first_step_begins_anew(device, rule):
    """What a rule does before its first step alone is in no graph."""
    found = []
    for capture in (False, True):
        model, loss_of, x, y = problem("mlp")
        optimizer = getattr(optim, rule)(model.parameters(), lr=1e-2)
        fresh = optimizer.state_dict()

        step = step_of(model, loss_of, optimizer)
        run, losses = mg.graph.capture(step) if capture else step, []
        for k in range(16):
            if k == 7:
                optimizer.load_state_dict(fresh)
            losses.append(float(run(x[k : k + 8], y[k : k + 8])))
        found.append((losses, [p.tolist() for p in model.parameters()]))
    assert found[0] == found[1] and run.why == "" and run.graphs == 1


@pytest.mark.gpu
@pytest.mark.parametrize("name", CAPTURED)
def test_on_a_gpu_too(name):
    _, eager = steps(name, False, **OPTIONS.get(name, {}))
    run, captured = steps(name, True, **OPTIONS.get(name, {}))
    assert run.why == "" and run.graphs == 1
    assert captured == eager
