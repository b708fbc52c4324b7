"""What cannot be captured runs eagerly, gives the same numbers, and says why."""

import gc
import re

import fake_cupy
import pytest
from capturing import fake_device, image_loss, problem

import minigrad as mg
from minigrad import amp, optim
from models import MLP


@pytest.fixture
def device():
    with fake_device() as device:
        yield device


def step_with(change, rule=optim.AdamW, **options):
    """(captured, batch): a step in which something happens."""
    model, loss_of, x, y = problem("mlp")
    optimizer = rule(model.parameters(), **options)

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        change(model, optimizer, loss, x)
        return loss

    return mg.graph.capture(step), (x[:8], y[:8])


def closure(model, optimizer, loss, x):
    optimizer.step(lambda: loss)


def read(model, optimizer, loss, x):
    optimizer.step()
    float(loss)


def upload(model, optimizer, loss, x):
    optimizer.step()
    return mg.tensor([1.0, 2.0]).to("cuda") + 1


def by_hand(model, optimizer, loss, x):
    with mg.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad


def hooked_step(model, optimizer, loss, x):
    optimizer.register_step_post_hook(lambda *args: None)
    optimizer.step()


def hooked_module(model, optimizer, loss, x):
    model.register_forward_hook(lambda *args: None)
    optimizer.step()


def hooked_gradient(model, optimizer, loss, x):
    next(model.parameters()).register_hook(lambda g: None)
    optimizer.step()


REFUSED = {
    "a closure": (
        closure,
        r"AdamW\.step is given a closure \(test_graph_refused\.py, line \d+, in closure\)",
    ),
    "a host read": (
        read,
        r"a value of the device is read on the host \(test_graph_refused\.py, line \d+, in read\)",
    ),
    "an upload": (
        upload,
        r"an array of the host is uploaded \(test_graph_refused\.py, line \d+, in upload\)",
    ),
    "an update by hand": (by_hand, "parameters change otherwise than by the step of an optimizer"),
    "a hook of the optimizer": (hooked_step, "a hook of AdamW"),
    "a hook of a module": (hooked_module, "a hook of MLP"),
    "a hook of a gradient": (hooked_gradient, "a hook of a gradient"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_runs_eagerly_and_says_why(device, name):

    change, reason = REFUSED[name]
    run, batch = step_with(change)
    losses = [float(run(*batch)) for _ in range(6)]
    assert losses[-1] < losses[0]  # the steps were made
    assert re.search(reason, run.why) and run.graphs == 0 and device.launches["graph"] == 0
    assert mg.graph.why().startswith("step_with.<locals>.step runs eagerly: ") and run.why in mg.graph.why()
    assert "eagerly" not in repr(run) and run.why in repr(run)


def test_optimizers_with_steps_of_their_own_are_refused_by_name(device):
    model, loss_of, x, y = problem("mlp")
    optimizer = optim.SAM(optim.SGD(model.parameters(), lr=0.1))

    def step(x, y):
        def closure():
            optimizer.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            return loss

        return optimizer.step(closure)

    run = mg.graph.capture(step)
    for _ in range(5):
        run(x[:8], y[:8])
    assert "SAM has a step of its own kind: it does more than the rule inside" in run.why and run.graphs == 0


def test_a_rule_that_does_more_at_every_step_is_refused(device):
    run, batch = step_with(
        lambda model, optimizer, loss, x: optimizer.step(), optim.Shampoo, refresh_period=1
    )
    for _ in range(12):
        run(*batch)
    assert run.why == "Shampoo does more than a graph can hold at every step" and run.graphs == 0


@pytest.mark.parametrize("made", ["scheduler", "average"])
def test_what_counts_on_the_host_inside_a_step_is_not_lost(device, made):
    """A replay would not count: the rate would stay, and so would the average's weight of a new model."""
    found = []
    for capture in (False, True):
        model, loss_of, x, y = problem("mlp")
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)
        scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        average = optim.swa_utils.AveragedModel(model)

        def step(x, y, model=model, loss_of=loss_of, optimizer=optimizer, s=scheduler, average=average):
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            optimizer.step()
            s.step() if made == "scheduler" else average.update_parameters(model)

        run = mg.graph.capture(step) if capture else step
        for _ in range(8):
            run(x[:8], y[:8])
        weights = [p.tolist() for m in (model, average.module) for p in m.parameters()]
        found.append((weights, optimizer.param_groups[0]["lr"], int(average.n_averaged)))
    assert found[0] == found[1] and run.graphs == 0
    assert "it belongs after the captured " in run.why and "test_graph_refused.py" in run.why


@pytest.mark.parametrize("rule", ["Lookahead", "Shampoo", "SOAP"])
def test_rules_that_a_scaler_cannot_stop_on_the_device_are_refused_under_one(device, rule):
    model, loss_of, x, y = problem("mlp")
    options = dict(Shampoo=dict(refresh_period=5)).get(rule, {})
    optimizer = optim.zoo[rule].make(model.parameters(), **options)
    scaler = amp.GradScaler("cuda", 2.0**8)

    def step(x, y):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, x, y)).backward()
        scaler.step(optimizer)
        scaler.update()

    run = mg.graph.capture(step)
    for _ in range(8):
        run(x[:8], y[:8])
    assert f"{rule} cannot be left out on the device by a GradScaler" in run.why and run.graphs == 0


def test_on_the_cpu_it_says_so_and_steps_run(device):
    model = MLP([12, 8, 5])
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, y = mg.randn(8, 12), mg.randint(0, 5, (8,))

    def step(x, y):
        optimizer.zero_grad()
        loss = image_loss(model, x, y)
        loss.backward()
        optimizer.step()
        return loss

    run = mg.graph.capture(step)
    losses = [float(run(x, y)) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert run.why == "the step runs on the CPU; graphs are CUDA's" and device.launched == 0


def test_batches_on_the_cpu_are_refused_with_the_cure(device):
    model, loss_of, x, y = problem("mlp")
    run = mg.graph.capture(lambda x, y: loss_of(model, x.to("cuda"), y))
    for _ in range(5):
        run(x[:8].cpu(), y[:8])
    assert run.why == "Tensor 0 of the arguments is on the CPU; give the loader device='cuda'"


def test_without_cublas_it_says_so():
    with fake_cupy.installed(cublas=False):
        run, batch = step_with(lambda model, optimizer, loss, x: optimizer.step())
        for _ in range(5):
            run(*batch)
        assert "cupy.matmul serves, and steps cannot be captured" in run.why


def test_an_error_in_the_step_comes_through_and_leaves_no_capture(device):
    """Whenever it comes: at warm-up, in the capture, and steps after it go on."""
    import cupy

    def fails(at):
        calls = [0]
        model, loss_of, x, y = problem("mlp")
        optimizer = optim.AdamW(model.parameters())

        def step(x, y):
            optimizer.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            if calls[0] >= at and fail[0]:
                raise KeyError("mine")
            calls[0] += 1
            optimizer.step()
            return loss

        run, fail, raised = mg.graph.capture(step), [True], 0
        for _ in range(5):
            try:
                run(x[:8], y[:8])
            except KeyError:
                raised += 1
                assert device.capture is None and gc.isenabled()
                fail[0] = False
        p = next(model.parameters())
        assert raised == (at < 4) and optimizer.steps[p] == 5 - raised
        assert float(cupy.ones(2).sum()) == 2

    for at in (0, 2, 3, 4):
        fails(at)


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="int is no function"):
        mg.graph.capture(3)
    with pytest.raises(ValueError, match="warmup=1; it is at least 2"):
        mg.graph.capture(print, warmup=1)
