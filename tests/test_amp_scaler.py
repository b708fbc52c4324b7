"""GradScaler beside PyTorch's: the same scales, steps and errors for the same sequences of inf and nan."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import amp, nn, optim
from minigrad.nn.utils import (
    clip_grad_adaptive_,
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)

torch = oracle("torch")
INF, NAN = float("inf"), float("nan")


def pair(counts=(1,), **options):
    """The same model, optimizers (one for each count of layers) and scaler here and in torch."""
    found = []
    for m in (mg, torch):
        rng = np.random.default_rng(0)
        layers = [m.nn.Linear(3, 2) for _ in range(sum(counts))]
        for layer in layers:
            for p in layer.parameters():
                p.data = m.tensor(rng.standard_normal(tuple(p.shape)).astype(np.float32))
        optimizers, start = [], 0
        for n in counts:
            params = [p for layer in layers[start : start + n] for p in layer.parameters()]
            optimizers.append(m.optim.Adam(params, lr=0.1))
            start += n
        found.append((m, layers, optimizers, m.amp.GradScaler("cpu", **options)))
    return found


def iteration(m, layers, optimizers, scaler, bad, x):
    """One iteration; `bad` is written into a gradient of each optimizer, unless it is None."""
    loss = sum([layer(m.tensor(x)).pow(2).sum() for layer in layers])
    for optimizer in optimizers:
        optimizer.zero_grad()
    scaler.scale(loss).backward()
    for optimizer, value in zip(optimizers, bad, strict=True):
        if value is not None:
            with m.no_grad():
                optimizer.param_groups[0]["params"][-1].grad[1] = value
        scaler.step(optimizer)
    scaler.update()
    state = scaler.state_dict()
    return state["scale"], state["_growth_tracker"]


def values(layers):
    return [p.detach().numpy().copy() for layer in layers for p in layer.parameters()]


SEQUENCES = {
    "8 4 4 8": ([None, INF, None, None], dict(init_scale=8.0, growth_interval=2)),
    "nan": ([None, None, NAN, None, None, None, -INF, None], dict(init_scale=8.0, growth_interval=2)),
    "always": ([INF] * 12, dict(init_scale=4.0)),
    "never": ([None] * 12, dict(init_scale=1.0, growth_interval=1)),
    "other factors": (
        [None, None, None, INF, None, None, None, NAN, None],
        dict(init_scale=1000.0, growth_factor=1.7, backoff_factor=0.3, growth_interval=3),
    ),
    "grows to infinity": ([None] * 8, dict(init_scale=2.0**124, growth_factor=16.0, growth_interval=1)),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_traces_are_torchs_for_inf_nan_and_finite_steps(name):
    sequence, options = SEQUENCES[name]
    found = []
    for m, layers, optimizers, scaler in pair(**options):
        rng = np.random.default_rng(1)
        trace = []
        for bad in sequence:
            x = (rng.standard_normal((4, 3)) * 1e-3).astype(np.float32)
            trace.append(iteration(m, layers, optimizers, scaler, [bad], x))
        found.append((trace, values(layers)))
    (ours, mine), (theirs, others) = found
    assert ours == theirs
    assert all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(mine, others, strict=True))
    if name == "8 4 4 8":
        assert [scale for scale, _ in ours] == [8.0, 4.0, 4.0, 8.0]


@pytest.mark.parametrize("seed", range(5))
def test_random_traces_of_two_optimizers_are_torchs(seed):
    draws = np.random.default_rng(seed).choice([None, None, None, INF, NAN], (30, 2))
    found = []
    for m, layers, optimizers, scaler in pair((1, 2), init_scale=64.0, growth_interval=2):
        rng = np.random.default_rng(seed)
        xs = [rng.standard_normal((4, 3)).astype(np.float32) for _ in draws]
        trace = [
            iteration(m, layers, optimizers, scaler, list(bad), x) for bad, x in zip(draws, xs, strict=True)
        ]
        found.append((trace, values(layers)))
    assert found[0][0] == found[1][0]
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found[0][1], found[1][1], strict=True))


def net(**options):
    mg.manual_seed(0)
    layer = nn.Linear(3, 2)
    return layer, optim.Adam(layer.parameters(), lr=0.1), amp.GradScaler("cpu", **options)


def scaled_backward(layer, optimizer, scaler):
    optimizer.zero_grad()
    scaler.scale(layer(mg.ones(4, 3)).pow(2).sum()).backward()


def test_a_skipped_step_changes_nothing_but_the_scale():
    layer, optimizer, scaler = net(init_scale=8.0)
    stepped, scheduler_steps = [], 0
    optimizer.register_step_post_hook(lambda *_: stepped.append(True))
    for k in range(4):
        scaled_backward(layer, optimizer, scaler)
        before = copy.deepcopy((values([layer]), optimizer.state_dict(), layer.weight._version))
        if k == 2:
            layer.bias.grad.array[0] = NAN
        result = scaler.step(optimizer, clip=1.0)
        scaler.update()
        assert scaler.skipped == (k == 2) and result is None
        if scaler.skipped:
            after = values([layer]), optimizer.state_dict(), layer.weight._version
            assert all(np.array_equal(a, b) for a, b in zip(before[0], after[0], strict=True))
            assert after[2] == before[2] and after[1]["param_groups"] == before[1]["param_groups"]
            for k, slots in before[1]["state"].items():
                for name, value in slots.items():
                    new = after[1]["state"][k][name]
                    same = np.array_equal(value.numpy(), new.numpy()) if name != "step" else value == new
                    assert same
        else:
            scheduler_steps += 1
    assert scheduler_steps == 3 == len(stepped) == optimizer.state[layer.weight]["step"]
    assert scaler.get_scale() == 4.0


def test_step_returns_what_the_optimizer_returns():
    layer, optimizer, scaler = net()
    optimizer.step = lambda *args, **kwargs: (args, kwargs)
    scaled_backward(layer, optimizer, scaler)
    assert scaler.step(optimizer, 1, two=2) == ((1,), {"two": 2})


def test_unscaling_divides_exactly_and_the_flag_is_one_number_of_the_whole_arena():
    layer, optimizer, scaler = net(init_scale=2.0**10)
    layer(mg.ones(4, 3)).pow(2).sum().backward()
    plain = [p.grad.numpy().copy() for p in layer.parameters()]
    scaled_backward(layer, optimizer, scaler)
    scaler.unscale_(optimizer)
    assert all(np.array_equal(a, p.grad.numpy()) for a, p in zip(plain, layer.parameters(), strict=True))
    (state,) = scaler._states.values()
    assert state.found_inf.shape == (1,) and state.found_inf[0] == 0
    assert not layer.weight.arena.gradient[6:1024].any()  # the pads


def by_hand(grads, scale):
    """A loop over tensors: (the gradients unscaled, whether one is not finite)."""
    inverse = np.float32(1 / np.float64(scale))
    return [g * g.dtype.type(inverse) for g in grads], not all(np.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("bad", [None, INF, -INF, NAN])
@pytest.mark.parametrize("scale", [2.0**16, 1000.0, 0.1])
def test_unscaling_equals_a_loop_over_tensors(scale, bad):
    rng = np.random.default_rng(0)
    shapes = [(), (3,), (1024,), (7, 300), (0,), (2, 3, 4)]
    params = [nn.Parameter(mg.tensor(rng.standard_normal(s).astype(np.float32))) for s in shapes]
    params += [nn.Parameter(mg.randn(5, dtype=mg.float64)), nn.Parameter(mg.randn(4).to(mg.bfloat16))]
    optimizer = optim.SGD(params, lr=0.1)
    scaler = amp.GradScaler("cpu", init_scale=scale)
    scaler.scale(sum([p.double().sum() for p in params])).backward()
    for p in params[:-1]:
        p.grad.array[...] = rng.standard_normal(p.shape)
    params[3].grad = mg.tensor(rng.standard_normal((300, 7)).astype(np.float32)).T  # set by hand, with gaps
    if bad is not None:
        params[3].grad.array[3, 100] = bad
    grads = [p.grad.numpy().copy() for p in params[:-1]]
    expected, found = by_hand(grads, scale)
    scaler.unscale_(optimizer)
    for p, g in zip(params[:-1], expected, strict=True):
        assert np.array_equal(p.grad.numpy(), g, equal_nan=True)
    assert params[-1].grad.dtype is mg.bfloat16
    before = values([nn.ParameterList(params[:2])])
    scaler.step(optimizer)
    assert scaler.skipped == found
    assert found == all(np.array_equal(a, b) for a, b in zip(before, values([nn.ParameterList(params[:2])])))


def test_a_scale_too_small_to_divide_by_is_found_and_leaves_the_pads_zero():
    layer, optimizer, scaler = net(init_scale=2.0**-149)
    scaled_backward(layer, optimizer, scaler)
    layer.weight.grad.array[0, 0] = 1.0
    scaler.step(optimizer)
    assert scaler.skipped and not layer.weight.arena.gradient[6:1024].any()


def test_scale_takes_tensors_lists_tuples_and_iterators_of_them():
    scaler = amp.GradScaler("cpu", init_scale=4.0)
    a = mg.tensor(2.0)
    assert scaler.scale(a).item() == 8.0
    listed = scaler.scale([a, (a, a)])
    assert isinstance(listed, list) and isinstance(listed[1], tuple) and listed[1][0].item() == 8.0
    assert [t.item() for t in scaler.scale(iter([a]))] == [8.0]
    assert scaler.scale(a.to(mg.float16)).dtype is mg.float32  # as torch: two numbers, the wider type
    assert scaler.scale(mg.ones(2, dtype=mg.float16)).dtype is mg.float16
    for wrong in (3.0, "loss"):
        with pytest.raises(ValueError, match="outputs must be a Tensor or an iterable of Tensors"):
            scaler.scale(wrong)


def test_the_gradient_of_scale_is_exact_to_second_order():
    scaler = amp.GradScaler("cpu", init_scale=4.0)
    x = mg.tensor(3.0, requires_grad=True)
    (g,) = mg.grad(scaler.scale(x**3), x, create_graph=True)
    assert g.item() == 4 * 27
    assert mg.grad(g, x)[0].item() == 4 * 18


# ------------------------------------------------------------------------------------------------ the errors


def test_calls_in_the_wrong_order_raise_as_in_torch():
    def twice(m, scaler, optimizer):
        scaler.unscale_(optimizer)
        scaler.unscale_(optimizer)

    def after_step(m, scaler, optimizer):
        scaler.step(optimizer)
        scaler.unscale_(optimizer)

    def two_steps(m, scaler, optimizer):
        scaler.step(optimizer)
        scaler.step(optimizer)

    def closure(m, scaler, optimizer):
        scaler.step(optimizer, closure=lambda: None)

    for wrong in (twice, after_step, two_steps, closure):
        messages = []
        for m, layers, (optimizer,), scaler in pair():
            scaler.scale(layers[0](m.ones(1, 3)).sum()).backward()
            with pytest.raises(RuntimeError) as caught:
                wrong(m, scaler, optimizer)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_after_update_everything_may_be_called_again():
    layer, optimizer, scaler = net()
    for _ in range(3):
        scaled_backward(layer, optimizer, scaler)
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()


def test_what_was_not_scaled_or_has_no_gradients_is_named():
    _, optimizer, scaler = net()
    for call in (scaler.unscale_, scaler.step):
        with pytest.raises(RuntimeError, match=r"_scale is None: scaler.scale\(loss\) was not called"):
            call(optimizer)
    with pytest.raises(RuntimeError, match="Attempted update but _scale is None"):
        scaler.update()
    scaler.scale(mg.tensor(1.0))
    with pytest.raises(RuntimeError, match="No inf checks were recorded prior to update"):
        scaler.update()
    with pytest.raises(RuntimeError, match="No inf checks were recorded for this optimizer"):
        scaler.step(optimizer)


def test_half_precision_gradients_of_half_precision_parameters_are_refused_as_in_torch():
    layer = nn.Linear(3, 2).to(mg.float16)
    optimizer, scaler = optim.SGD(layer.parameters(), lr=0.1), amp.GradScaler("cpu")
    scaler.scale(layer(mg.ones(1, 3, dtype=mg.float16)).sum()).backward()
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        scaler.step(optimizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(growth_factor=1.0), "growth_factor=1.0; it must be > 1"),
        (dict(backoff_factor=1.0), "must be < 1"),
    ],
)
def test_factors_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        amp.GradScaler("cpu", **options)
    amp.GradScaler("cpu", enabled=False, **options)


# -------------------------------------------------------------------------------------------------- the state


def test_arguments_and_defaults_are_torchs():
    import inspect

    for ours, theirs in (
        (amp.GradScaler, torch.amp.GradScaler),
        (mg.cuda.amp.GradScaler, torch.cuda.amp.GradScaler),
    ):
        found = [
            [(p.name, p.default) for p in inspect.signature(c).parameters.values()] for c in (ours, theirs)
        ]
        assert found[0] == found[1]


def test_state_is_torchs_and_goes_on_from_where_it_was():
    (m, layers, (optimizer,), ours), (t, other, (adam,), theirs) = pair(init_scale=8.0, growth_interval=2)
    iteration(m, layers, [optimizer], ours, [None], np.ones((1, 3), np.float32))
    iteration(t, other, [adam], theirs, [None], np.ones((1, 3), np.float32))
    state = ours.state_dict()
    assert state == theirs.state_dict() and all(type(v) in (int, float) for v in state.values())
    fresh = amp.GradScaler("cpu")
    fresh.load_state_dict(theirs.state_dict())
    assert fresh.state_dict() == state
    started = amp.GradScaler("cpu", init_scale=3.0)
    started.scale(mg.tensor(1.0))
    started.load_state_dict(state)
    for scaler in (fresh, started, pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        assert scaler.state_dict() == state
        found = iteration(m, layers, [optimizer], scaler, [None], np.ones((1, 3), np.float32))
        assert found == (16.0, 0)


def test_a_state_that_is_none_is_refused():
    scaler = amp.GradScaler("cpu")
    with pytest.raises(RuntimeError, match="The source state dict is empty"):
        scaler.load_state_dict(amp.GradScaler("cpu", enabled=False).state_dict())
    with pytest.raises(ValueError, match="no growth_factor, backoff_factor"):
        scaler.load_state_dict({"scale": 1.0})


def test_pickling_in_the_middle_of_an_iteration_is_refused():
    layer, optimizer, scaler = net()
    scaled_backward(layer, optimizer, scaler)
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="may only be pickled at the beginning of an iteration"):
        pickle.dumps(scaler)


def test_getters_setters_and_a_new_scale():
    scaler = amp.GradScaler("cpu", init_scale=8.0)
    assert (scaler.get_scale(), scaler.get_growth_factor(), scaler.get_backoff_factor()) == (8.0, 2.0, 0.5)
    assert scaler.get_growth_interval() == 2000 and scaler.is_enabled()
    scaler.set_growth_factor(3.0)
    scaler.set_backoff_factor(0.25)
    scaler.set_growth_interval(1)
    layer, optimizer, _ = net()
    for bad, expected in ((None, 24.0), (INF, 6.0)):
        scaled_backward(layer, optimizer, scaler)
        if bad is not None:
            layer.bias.grad.array[0] = bad
        scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == expected
    scaler.update(32.0)
    assert scaler.get_scale() == 32.0 and scaler._inverse[0] == 1 / 32
    scaler.update(mg.tensor(64.0))
    assert scaler.get_scale() == 64.0 and scaler._inverse[0] == 1 / 64
    for wrong in (mg.ones(2), mg.tensor(1), mg.tensor(1.0, requires_grad=True)):
        with pytest.raises(ValueError, match="update: new_scale"):
            scaler.update(wrong)


def test_a_disabled_scaler_does_nothing_but_step_and_clip():
    layer, optimizer, scaler = net(enabled=False)
    loss = layer(mg.ones(4, 3)).pow(2).sum()
    assert scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale_(optimizer)
    expected = clip_grad_norm_(layer.parameters(), INF).item()
    scaler.step(optimizer, clip=0.5)
    scaler.update()
    assert scaler.grad_norm.item() == expected and not scaler.skipped
    assert optimizer.state[layer.weight]["step"] == 1
    assert (scaler.get_scale(), scaler.state_dict()) == (1.0, {})
    scaler.load_state_dict({"scale": 3.0})


def test_cuda_without_a_gpu_disables_the_scaler_with_a_warning(monkeypatch):
    monkeypatch.setattr("minigrad.amp.grad_scaler.cuda_is_available", lambda: False)
    for make in (amp.GradScaler, mg.cuda.amp.GradScaler):
        with pytest.warns(UserWarning, match="CUDA is not available") as seen:
            assert not make().is_enabled()
        assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        amp.GradScaler(enabled=False)


# ---------------------------------------------------------------------------------------- unscale before clip

CLIPS = {
    "clip_grad_norm_": lambda ps: clip_grad_norm_(ps, 1.0),
    "clip_grad_value_": lambda ps: clip_grad_value_(ps, 1.0),
    "clip_grads_with_norm_": lambda ps: clip_grads_with_norm_(ps, 1.0, mg.tensor(2.0)),
    "get_total_norm": lambda ps: get_total_norm([p.grad for p in ps]),
    "clip_grad_adaptive_": lambda ps: clip_grad_adaptive_(ps),
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("housed", [True, False])
def test_clipping_before_unscaling_raises_names_the_cure_and_changes_nothing(name, housed):
    mg.manual_seed(0)
    layer, scaler = nn.Linear(3, 2), amp.GradScaler("cpu")
    if housed:
        optimizer = optim.SGD(layer.parameters(), lr=0.1)
    scaler.scale(layer(mg.ones(4, 3)).pow(2).sum()).backward()
    if not housed:  # the first optimizer may come this late
        optimizer = optim.SGD(layer.parameters(), lr=0.1)
    params = list(layer.parameters())
    before = [p.grad.numpy().copy() for p in params]
    with pytest.raises(RuntimeError, match=rf"{name}: .*scaler.unscale_\(optimizer\) first") as caught:
        CLIPS[name](params)
    assert "scaler.step(optimizer, clip=max_norm)" in str(caught.value)
    assert all(np.array_equal(b, p.grad.numpy()) for b, p in zip(before, params, strict=True))
    scaler.unscale_(optimizer)
    CLIPS[name](params)


def test_the_mark_does_not_reach_other_models_or_later_gradients():
    layer, optimizer, scaler = net()
    other = nn.Linear(3, 2)
    second = optim.SGD(other.parameters(), lr=0.1)
    other(mg.ones(1, 3)).sum().backward()
    scaled_backward(layer, optimizer, scaler)
    clip_grad_norm_(other.parameters(), 1.0)  # its gradients are not scaled
    with pytest.raises(RuntimeError):
        clip_grad_norm_([*other.parameters(), *layer.parameters()], 1.0)
    for p in layer.parameters():  # the iteration is given up
        p.grad = None
    layer(mg.ones(1, 3)).sum().backward()
    clip_grad_norm_(layer.parameters(), 1.0)
    (loss,) = mg.grad(scaler.scale(layer(mg.ones(1, 3)).sum()), layer.bias)
    clip_grad_norm_(layer.parameters(), 1.0)  # mg.grad adds to no .grad
    assert second is not optimizer and loss.shape == (2,)


def test_a_gradient_that_is_partly_scaled_is_scaled():
    layer, optimizer, scaler = net()
    layer(mg.ones(1, 3)).sum().backward()
    scaler.scale(layer(mg.ones(1, 3)).sum()).backward()
    layer(mg.ones(1, 3)).sum().backward()
    with pytest.raises(RuntimeError, match="scaled loss"):
        clip_grad_norm_(layer.parameters(), 1.0)
    optimizer.zero_grad(set_to_none=False)
    with pytest.raises(RuntimeError, match="scaled loss"):
        clip_grad_norm_(layer.parameters(), 1.0)


def test_a_gradient_that_was_held_keeps_its_mark():
    layer, optimizer, scaler = net()
    scaled_backward(layer, optimizer, scaler)
    held = layer.weight.grad
    optimizer.zero_grad()
    layer(mg.ones(1, 3)).sum().backward()
    assert held.scaled and not layer.weight.grad.scaled


def test_gradients_keep_their_mark_when_the_arena_moves():
    layer, optimizer, scaler = net()
    scaled_backward(layer, optimizer, scaler)
    layer.to(mg.float64)
    with pytest.raises(RuntimeError, match="scaled loss"):
        clip_grad_norm_(layer.parameters(), 1.0)


def test_after_a_step_nothing_is_marked_skipped_or_not():
    for bad in (None, INF):
        layer, optimizer, scaler = net()
        scaled_backward(layer, optimizer, scaler)
        if bad is not None:
            layer.weight.grad.array[0, 0] = bad
        scaler.step(optimizer)
        assert not any(p.grad.scaled for p in layer.parameters())


def test_gradients_with_hooks_or_a_graph_are_marked_too():
    layer, optimizer, scaler = net()
    layer.weight.register_hook(lambda g: g * 2)
    scaled_backward(layer, optimizer, scaler)
    assert layer.weight.grad.scaled and layer.bias.grad.scaled
    for p in layer.parameters():
        p.grad = None
    scaler.scale(layer(mg.ones(1, 3)).pow(2).sum()).backward(create_graph=True)
    assert layer.weight.grad.scaled
    assert not mg.grad_mode.mode.scaled


@pytest.mark.parametrize("ours", ["step", "unscale_"])
def test_scaling_unscaling_and_clipping_give_the_step_of_no_scaling(ours):
    """A loss scale of 2^16 clipped in the right order moves the weights as no scaling does."""
    found = []
    for scaled in (False, True):
        layer, _, _ = net()
        optimizer = optim.SGD(layer.parameters(), lr=0.1)
        scaler = amp.GradScaler("cpu", enabled=scaled)
        scaled_backward(layer, optimizer, scaler)
        if ours == "unscale_":
            scaler.unscale_(optimizer)
            norm = clip_grad_norm_(layer.parameters(), 0.5)
            scaler.step(optimizer)
        else:
            scaler.step(optimizer, clip=0.5)
            norm = scaler.grad_norm
        found.append((values([layer]), norm.item()))
    (plain, a), (other, b) = found
    assert a == b > 0.5 and all(np.array_equal(p, q) for p, q in zip(plain, other, strict=True))


def test_small_gradients_survive_float16_by_the_scale_alone():
    found = []
    for init_scale in (1.0, 2.0**16):
        layer = nn.Linear(4, 1, bias=False)
        layer.weight.data = mg.zeros(1, 4)
        optimizer = optim.SGD(layer.parameters(), lr=0.0)
        scaler = amp.GradScaler("cpu", init_scale=init_scale)
        with mg.autocast("cpu", dtype=mg.float16):
            y = layer(mg.full((1, 4), 1e-3))
        scaler.scale((y.float() * 1e-6).sum()).backward()
        scaler.step(optimizer)
        found.append(layer.weight.grad.numpy())
    assert not found[0].any() and np.allclose(found[1], 1e-9, rtol=1e-2)


def test_accumulated_gradients_are_unscaled_once():
    layer, optimizer, scaler = net(init_scale=16.0)
    for _ in range(3):
        scaler.scale(layer(mg.ones(1, 3)).sum() / 3).backward()
    scaler.unscale_(optimizer)
    assert np.allclose(layer.weight.grad.numpy(), 1.0)
