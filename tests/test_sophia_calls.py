"""How Sophia is called: when it looks at the curvature, with whose graph; state, types, launches, errors."""

import gc
import pickle
import tracemalloc

import fake_cupy
import numpy as np
import pytest
from test_rules import MACHINES, flat, gradients, placed, starting
from test_sophia import Task, drive, small_model

import kernels
import minigrad as mg
from minigrad import nn, optim, training
from minigrad.nn import functional as F


def quadratic(rule, **options):
    p = nn.Parameter(mg.tensor([1.0, -2.0, 3.0]))
    optimizer = rule([("p", p)], lr=0.01, **options)

    def closure():
        optimizer.zero_grad()
        loss = (mg.tensor([1.0, 10.0, 100.0]) * p**2).sum() / 2
        loss.backward()
        return loss

    return p, optimizer, closure


def test_the_estimate_is_taken_every_k_steps_from_the_first():
    p, optimizer, closure = quadratic(optim.SophiaH, update_interval=3, betas=(0.9, 0.5))
    seen = []
    for _ in range(7):
        optimizer.step(closure)
        seen.append(np.asarray(optimizer.state[p]["hessian"]).tolist())
    a = np.array([1.0, 10.0, 100.0])
    expected = [list(a * f) for f in (0.5, 0.5, 0.5, 0.75, 0.75, 0.75, 0.875)]
    assert seen == expected


def test_the_closures_loss_is_returned_and_its_graph_is_freed():
    p, optimizer, closure = quadratic(optim.SophiaH, update_interval=2)
    for _ in range(2):
        loss = optimizer.step(closure)
        assert isinstance(loss, mg.Tensor) and loss.array.size == 1
        with pytest.raises(RuntimeError, match="was freed by an earlier backward"):
            loss.backward()
        assert not p.grad.requires_grad


def test_without_a_closure_the_loss_is_shown_to_it():
    (p, one, closure), (q, other, _) = (quadratic(optim.SophiaH, update_interval=2) for _ in range(2))
    for k in range(4):
        one.step(closure)
        other.zero_grad()
        loss = (mg.tensor([1.0, 10.0, 100.0]) * q**2).sum() / 2
        if k % 2 == 0:
            other.update_hessian(loss, retain_graph=True)
        loss.backward()
        other.step()
        assert p.array.tobytes() == q.array.tobytes()


def test_a_step_that_needs_the_hessian_and_cannot_have_it_raises_and_changes_nothing():
    p, optimizer, closure = quadratic(optim.SophiaH, update_interval=4)
    closure()
    before = p.array.copy()
    with pytest.raises(
        ValueError, match=r"SophiaH: step 1 needs the Hessian, as one in 4 does; call step\(clos"
    ):
        optimizer.step()
    for wrong, said in (
        (lambda: closure().item(), "a float"),
        (lambda: closure().detach(), "without a graph"),
    ):
        with pytest.raises(TypeError, match=rf"SophiaH: the closure gave .*{said}.*without .item\(\)"):
            optimizer.step(wrong)
    with pytest.raises(TypeError, match="a Tensor of several elements"):
        optimizer.update_hessian(p * 2)
    assert (p.array == before).all() and optimizer.steps[p] == 0
    optimizer.step(closure)
    closure()
    optimizer.step()  # the steps between need no graph


def test_a_linear_loss_has_no_curvature():
    p = nn.Parameter(mg.ones(3))
    optimizer = optim.SophiaH([p], lr=0.1, weight_decay=0.0)

    def closure():
        optimizer.zero_grad()
        loss = (p * mg.tensor([1.0, 0.0, -1.0])).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(p.array, [0.9, 1.0, 1.1], rtol=1e-6)
    assert not np.asarray(optimizer.state[p]["hessian"]).any()


def test_clipping_in_the_closure_scales_the_gradient_and_not_the_hessian():
    p, optimizer, closure = quadratic(optim.SophiaH, betas=(0.0, 0.0))

    def clipped():
        loss = closure()
        nn.utils.clip_grad_norm_([p], 1e-3)
        return loss

    optimizer.step(clipped)
    assert np.asarray(optimizer.state[p]["hessian"]).tolist() == [1, 10, 100]
    assert np.linalg.norm(np.asarray(optimizer.state[p]["exp_avg"])) == pytest.approx(1e-3, rel=1e-2)


def test_the_hessian_of_a_window_in_pieces_is_that_of_the_whole():
    seen = []
    for pieces in (1, 3):
        model, x, y = small_model()
        optimizer = optim.SophiaH(model.parameters(), update_interval=2)
        mg.manual_seed(1)

        def closure(model=model, x=x, y=y, optimizer=optimizer, pieces=pieces):
            optimizer.zero_grad()
            size = 6 // pieces
            return training.accumulate(
                [(x[k : k + size], y[k : k + size]) for k in range(0, 6, size)],
                lambda batch: F.cross_entropy(model(batch[0]), batch[1], reduction="sum"),
                lambda batch: len(batch[1]),
            )

        for _ in range(3):
            loss = optimizer.step(closure)
        assert loss.node.saved is None  # freed, though the pieces kept it
        seen.append(flat(np.asarray(optimizer.state[p]["hessian"]) for p in model.parameters()))
    np.testing.assert_allclose(seen[1], seen[0], rtol=1e-9, atol=1e-14)


def test_a_models_whole_backward_can_be_gone_through_twice():
    mg.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5))
    optimizer = optim.SophiaH(model.parameters(), lr=1e-2, update_interval=2)
    x, y = mg.randn(8, 1, 6, 6), mg.tensor([0, 1, 2, 3, 4, 0, 1, 2])
    losses = []
    for _ in range(12):

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
    assert losses[-1] < losses[0] / 2
    assert int(model[1].num_batches_tracked) == 12  # the estimate runs no forward pass


def test_the_hook_of_sophia_g_is_called_after_every_kth_step_and_leaves_the_gradients():
    p, optimizer, closure = quadratic(optim.SophiaG, update_interval=3, betas=(0.9, 0.5))
    calls = []

    def sampled():
        calls.append(optimizer.steps[p])
        return (p * mg.tensor([2.0, 4.0, 0.0])).sum()

    optimizer.sampled_loss = sampled
    for _ in range(7):
        optimizer.step(closure)
        kept = p.grad.array.copy()
        assert np.abs(kept).max() > 10
    assert calls == [3, 6]
    assert np.asarray(optimizer.state[p]["hessian"]).tolist() == [3, 12, 0]


def test_sophia_g_as_the_authors_program_is_the_same_as_with_the_hook():
    one, two = (quadratic(optim.SophiaG, update_interval=2) for _ in range(2))
    (p, hooked, closure), (q, plain, other) = one, two
    hooked.sampled_loss = lambda: (p * mg.tensor([0.2, 0.4, 0.0])).sum()
    for k in range(6):
        hooked.param_groups[0]["bs"] = 7
        hooked.step(closure)
        other()
        plain.step(bs=7)
        if k % 2 == 1:
            plain.zero_grad()
            (q * mg.tensor([0.2, 0.4, 0.0])).sum().backward()
            plain.update_hessian()
        assert p.array.tobytes() == q.array.tobytes()
    assert np.asarray(hooked.state[p]["hessian"]).any()
    with pytest.raises(ValueError, match="SophiaG: Invalid bs value: 0"):
        plain.step(bs=0)


def test_sophia_g_says_what_the_hook_has_to_return():
    _, optimizer, closure = quadratic(optim.SophiaG, update_interval=1, sampled_loss=lambda: None)
    with pytest.raises(TypeError, match="SophiaG: sampled_loss gave a NoneType"):
        optimizer.step(closure)
    assert pickle.loads(pickle.dumps(optimizer)).sampled_loss is None


@pytest.mark.parametrize("rule", [optim.SophiaH, optim.SophiaG])
def test_k_steps_saved_loaded_and_k_more_are_2k_steps(rule):
    options = dict(lr=0.01, update_interval=4)
    task = Task(rule, 5, steps=12)
    whole, _ = task.ours(**options)
    params = placed(task.start, "float64")
    optimizer = rule(params, **options)
    drive(params, optimizer, task.curvature, task.grads[:5], sampled=task.sampled)
    again = placed([p.array for p in params], "float64")
    other = rule(again, **options)
    other.load_state_dict(optimizer.state_dict())
    drive(again, other, task.curvature, task.grads[5:], sampled=task.sampled and task.sampled[5:])
    for p, q in zip(whole, again, strict=True):
        assert p.array.tobytes() == q.array.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("rule", [optim.SophiaH, optim.SophiaG])
def test_zero_gradients_change_nothing_and_make_no_nan(rule, dtype):
    start = [np.array([[0, 1], [-3e-5, 6e4]]), np.zeros(())]
    zeros = [np.zeros_like(p) for p in start]
    for machine in MACHINES:
        with kernels.use(machine):
            params = placed(start, dtype)
            optimizer = rule(params, weight_decay=0.0, update_interval=1)
            sampled = [zeros] * 3 if rule is optim.SophiaG else None
            drive(params, optimizer, zeros, [zeros] * 3, dtype, sampled)
        for p, b in zip(params, start, strict=True):
            assert (p.array == mg.tensor(b, dtype=dtype).array).all()
            assert all(np.isfinite(np.asarray(s, np.float64)).all() for s in optimizer.state[p].values())


@pytest.mark.parametrize("rule", [optim.SophiaH, optim.SophiaG])
def test_pads_stay_zero_and_parameters_without_gradient_are_left_alone(rule):
    params = placed([np.ones(3), np.ones((2, 2)), np.ones(7)], "float32")
    optimizer = rule(params, lr=0.1, update_interval=1)
    if rule is optim.SophiaG:
        optimizer.sampled_loss = lambda: (params[0] ** 2).sum() + (params[2] ** 2).sum()
    for _ in range(3):

        def closure():
            optimizer.zero_grad()
            loss = (params[0] ** 4).sum() + (params[2] ** 4).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    assert (params[1].array == 1).all() and optimizer.steps[params[1]] == 0
    arena = params[0].arena
    for buffer in (arena.array, arena.state(optimizer, "exp_avg"), arena.state(optimizer, "hessian")):
        for p in params:
            assert not buffer[p.offset + p.numel() : p.stop].any()
    assert np.asarray(optimizer.state[params[2]]["hessian"]).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_parameters_step_in_float32_and_are_rounded_once(dtype):
    rng = np.random.default_rng(4)
    start = [mg.tensor(p, dtype=dtype).array.astype("float64") for p in starting(rng)]
    g = [mg.tensor(g, dtype=dtype).array.astype("float64") for g in gradients(rng, 1, missing=False)[0]]
    zeros = [np.zeros_like(p) for p in start]
    found = []
    for kind in (dtype, "float32"):
        params = placed(start, kind)
        optimizer = optim.SophiaH(params, lr=0.01)
        drive(params, optimizer, zeros, [g], kind)
        found.append((params, optimizer))
    (half, optimizer), (single, _) = found
    for p, q in zip(half, single, strict=True):
        assert p.array.tobytes() == q.array.astype(p.array.dtype).tobytes()
    slots = [s for state in optimizer.state.values() for s in state.values() if isinstance(s, mg.Tensor)]
    assert slots and {s.dtype for s in slots} == {mg.float32}


@pytest.mark.parametrize("rule", [optim.SophiaH, optim.SophiaG])
def test_launches_of_a_step_and_no_host_read(rule):
    with fake_cupy.installed() as device:
        params = [nn.Parameter(mg.ones(4, 3, device="cuda")) for _ in range(3)]
        optimizer = rule(params, update_interval=2)
        if rule is optim.SophiaG:
            optimizer.sampled_loss = lambda: sum([(p * p).sum() for p in params[1:]], (params[0] ** 2).sum())

        def closure():
            optimizer.zero_grad()
            loss = sum([(p * p).sum() for p in params[1:]], (params[0] ** 2).sum())
            loss.backward()
            return loss

        estimates = []
        for _ in range(4):
            with device.counting() as counts:
                optimizer.step(closure)
            assert counts.host_reads == []
            assert counts.launches["sophia"] == 1
            estimates.append((counts.launches["sophia_hessian"], counts.launches["rademacher"]))
        with_estimate = (1, 1) if rule is optim.SophiaH else (1, 0)
        expected = [with_estimate, (0, 0)] if rule is optim.SophiaH else [(0, 0), with_estimate]
        assert estimates == expected * 2


def test_sampled_labels_stay_on_the_device():
    with fake_cupy.installed() as device:
        logits = mg.ones(5, 3, device="cuda")
        with device.counting() as counts:
            labels = optim.sample_labels(logits)
        assert counts.host_reads == [] and labels.device.type == "cuda"


def test_memory_stays_flat_over_200_hessian_vector_products():
    model, x, y = small_model()
    optimizer = optim.SophiaH(model.parameters(), update_interval=1)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    def held():
        arrays = [o.array.nbytes for o in gc.get_objects() if issubclass(type(o), mg.Tensor)]
        return len(arrays), sum(arrays), sum(type(o).__name__ == "Node" for o in gc.get_objects())

    for _ in range(10):
        optimizer.step(closure)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        optimizer.step(closure)
        before, memory = held(), tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            optimizer.step(closure)
        assert held() == before
        assert gc.collect() == 0  # no cycles; the interpreter's free lists are given back
        assert tracemalloc.get_traced_memory()[0] < memory + 20_000
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize(
    ("rule", "options", "match"),
    [
        (optim.SophiaH, dict(rho=0.0), "SophiaH: Invalid rho value: 0.0"),
        (optim.SophiaH, dict(clip_threshold=-1.0), "SophiaH: Invalid clip_threshold value: -1.0"),
        (
            optim.SophiaH,
            dict(update_interval=0),
            "SophiaH: Invalid update_interval value: 0; it must be a pos",
        ),
        (optim.SophiaG, dict(update_interval=2.5), "SophiaG: Invalid update_interval value: 2.5"),
        (optim.SophiaG, dict(bs=float("nan")), "SophiaG: Invalid bs value: nan"),
    ],
)
def test_options_out_of_range_raise(rule, options, match):
    with pytest.raises(ValueError, match=match):
        rule([nn.Parameter(mg.ones(2))], **options)
