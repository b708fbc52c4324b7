"""Optimizers around optimizers: what is outside reaches inside, after a load too; Lookahead."""

import pickle

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import amp, nn, optim
from minigrad.optim.wrapper import Wrapper

WRAPPERS = {
    "Lookahead": lambda inner: optim.Lookahead(inner, k=2),
    "SAM": lambda inner: optim.SAM(inner, rho=0.1),
    "nested": lambda inner: optim.SAM(optim.Lookahead(inner, k=2)),
}
every_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


def params(*shapes, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return [nn.Parameter(mg.tensor(np.asarray(rng.normal(size=s)), dtype=dtype)) for s in shapes]


def named(names, seed=0):
    return list(zip(names, params(*[(3, len(n)) for n in names], seed=seed), strict=True))


def closure_of(ps, optimizer):
    def closure():
        optimizer.zero_grad()
        loss = sum(((p - 1) ** 4).sum() for p in ps)
        loss.backward()
        return loss

    return closure


def train(ps, optimizer, steps):
    for _ in range(steps):
        optimizer.step(closure_of(ps, optimizer))


def bits(ps):
    return [p.array.tobytes() for p in ps]


@every_wrapper
def test_groups_defaults_and_steps_are_those_of_the_rule_inside(wrap):
    ps = params((3, 2), (4,))
    rule = optim.AdamW([dict(params=ps[:1], lr=0.1), dict(params=ps[1:])], lr=0.01)
    outer = wrap(rule)
    assert isinstance(outer, optim.Optimizer) and isinstance(outer, Wrapper)
    assert outer.param_groups is rule.param_groups and outer.defaults is rule.defaults
    assert outer.innermost is rule and outer.parameters() == ps
    train(ps, outer, 3)
    assert outer.steps is rule.steps and set(rule.steps.values()) == {3}
    assert outer.state[ps[0]]["exp_avg"].array is not None
    extra = params((2,))
    outer.add_param_group(dict(params=extra, lr=7.0))
    assert rule.param_groups[2]["lr"] == 7.0 and rule.param_groups[2]["params"] == extra
    outer.zero_grad()
    assert all(p.grad is None for p in ps)
    assert repr(rule) in repr(outer)


@every_wrapper
def test_after_a_load_a_scheduler_on_the_wrapper_changes_the_inner_step(wrap):
    """apex#766: after load_state_dict the rule inside read another dictionary than the scheduler wrote to."""
    ps = params((3, 2))
    outer = wrap(optim.SGD(ps, lr=0.5))
    train(ps, outer, 3)
    again = params((3, 2), seed=1)
    other = wrap(optim.SGD(again, lr=9.0))
    other.load_state_dict(outer.state_dict())
    assert other.param_groups[0]["lr"] == 0.5
    scheduler = optim.lr_scheduler.StepLR(other, 1, gamma=0.0)
    train(again, other, 1)
    scheduler.step()
    assert other.innermost.param_groups[0]["lr"] == 0.0
    train(again, other, 2)  # Lookahead goes back a last time
    start = bits(again)
    train(again, other, 4)
    assert bits(again) == start


@every_wrapper
def test_2k_steps_are_k_steps_saved_loaded_and_k_more(wrap):
    ps = params((3, 2), (4,), ())
    outer = wrap(optim.Adam(ps, lr=0.1))
    train(ps, outer, 5)
    values, state = pickle.loads(pickle.dumps(([p.detach() for p in ps], outer.state_dict())))
    again = params((3, 2), (4,), (), seed=1)
    other = wrap(optim.Adam(again, lr=7.0))
    train(again, other, 3)
    for p, v in zip(again, values, strict=True):
        p.data = v
    other.load_state_dict(state)
    copy_params, copy = pickle.loads(pickle.dumps((ps, outer)))
    for qs, optimizer in ((ps, outer), (again, other), (copy_params, copy)):
        train(qs, optimizer, 5)
    assert bits(ps) == bits(again) == bits(copy_params)


def test_names_map_the_slow_weights_when_the_order_changes():
    ours = named(["a", "bb", "ccc"])
    outer = optim.Lookahead(optim.SGD(ours, lr=0.1, momentum=0.9), k=3)
    train([p for _, p in ours], outer, 4)
    theirs = named(["ccc", "a", "bb"], seed=1)
    other = optim.Lookahead(optim.SGD(theirs, lr=0.1, momentum=0.9), k=3)
    other.load_state_dict(outer.state_dict())
    by_name = dict(theirs)
    for name, p in ours:
        q = by_name[name]
        q.data = p.detach()
        for slot in ("slow_param", "momentum_buffer"):
            assert (other.state[q][slot].array == outer.state[p][slot].array).all()
    train([p for _, p in ours], outer, 4)
    train([p for _, p in theirs], other, 4)
    assert bits(p for _, p in ours) == bits(by_name[n] for n, _ in ours)


def test_a_state_that_does_not_fit_raises_and_changes_nothing():
    ps = params((3, 2))
    outer = optim.Lookahead(optim.SGD(ps, lr=0.1, momentum=0.9), k=2)
    train(ps, outer, 3)
    before = pickle.dumps(outer.state_dict())
    sam = optim.SAM(optim.SGD(params((3, 2)), lr=0.1))
    wide = params((2, 3))
    other = optim.Lookahead(optim.SGD(wide, lr=0.1, momentum=0.9), k=2)
    train(wide, other, 1)
    two = optim.Lookahead(optim.SGD(params((3, 2), (1,)), lr=0.1))
    for state, error, message in (
        (sam.state_dict(), ValueError, "this is the state of SAM"),
        (outer.optimizer.state_dict(), TypeError, "expected what its state_dict\\(\\) gives"),
        (other.state_dict(), ValueError, r"'slow_param' has shape \[2, 3\], the parameter \[3, 2\]"),
        (two.state_dict(), ValueError, "group 0 has 2 parameters in the state, here it has 1"),
        ([], TypeError, "expected what its state_dict"),
    ):
        with pytest.raises(error, match=message):
            outer.load_state_dict(state)
        assert pickle.dumps(outer.state_dict()) == before


def test_hooks_run_at_both_steps():
    ps = params((2,))
    inner = optim.SGD(ps, lr=0.1)
    outer, told = optim.Lookahead(inner), []
    outer.register_step_pre_hook(lambda o, a, k: told.append(("before", o)))
    handle = outer.register_step_post_hook(lambda o, a, k: told.append(("after", o)))
    inner.register_step_pre_hook(lambda o, a, k: told.append(("before", o)))
    train(ps, outer, 1)
    assert told == [("before", outer), ("before", inner), ("after", outer)]
    handle.remove()
    train(ps, outer, 1)
    assert told[3:] == [("before", outer), ("before", inner)]


@every_wrapper
def test_what_a_wrapper_does_not_know_it_asks_of_the_rule_inside(wrap):
    inner = optim.SGD(params((2,)), lr=0.1)
    inner.weather = "fair"
    outer = wrap(inner)
    assert outer.weather == "fair"
    with pytest.raises(AttributeError, match="no attribute 'climate'"):
        _ = outer.climate
    with pytest.raises(TypeError, match=r"wraps an optimizer, not a list; as \w+\(optim\.SGD"):
        type(outer)([mg.ones(2)])


@every_wrapper
def test_tied_weights_step_once_with_summed_gradients(wrap):
    """One tensor under two names is one parameter; its gradients are summed by backward."""
    tied, alone = params((3,)), params((3,))
    with pytest.warns(UserWarning, match="duplicate parameters; each is updated once"):
        outer = wrap(optim.SGD([tied[0], tied[0]], lr=0.01, momentum=0.9))
    other = wrap(optim.SGD(alone, lr=0.01, momentum=0.9))

    def closure(p, optimizer, use):
        def run():
            optimizer.zero_grad()
            use(p).backward()

        return run

    for _ in range(3):
        outer.step(closure(tied[0], outer, lambda p: (p**2).sum() + (p**3).sum()))
        other.step(closure(alone[0], other, lambda p: (p**2 + p**3).sum()))
    np.testing.assert_allclose(tied[0].array, alone[0].array, rtol=1e-14)
    assert outer.steps[tied[0]] == 3


@pytest.mark.parametrize("bad", [False, True])
def test_a_grad_scaler_steps_a_wrapper_or_skips_it(bad):
    ps = params((4,), dtype="float32")
    outer = optim.Lookahead(optim.SGD(ps, lr=0.1, momentum=0.9), k=2)
    scaler = amp.GradScaler("cpu", init_scale=8.0)
    start = bits(ps)
    scaler.scale((ps[0] ** 2).sum()).backward()
    if bad:
        ps[0].grad[0] = float("inf")
    scaler.step(outer)
    scaler.update()
    assert (bits(ps) == start) is bad and outer.count == (0 if bad else 1)
    assert scaler.get_scale() == (4.0 if bad else 8.0)


# ------------------------------------------------------------------------------------------------- Lookahead


def test_lookahead_by_hand():
    """SGD at lr 1 with gradient 1 goes down by one; every second step half of the way back."""
    (p,) = params(())
    p.data = mg.tensor(0.0, dtype="float64")
    outer, path = optim.Lookahead(optim.SGD([p], lr=1.0), k=2, alpha=0.5), []
    for _ in range(6):
        p.grad = mg.ones((), dtype="float64")
        outer.step()
        path.append(p.item())
    assert path == [-1, -1, -2, -2, -3, -3]
    assert outer.state[p]["slow_param"].item() == -3 and outer.count == 6


def test_alpha_one_is_the_rule_inside_and_alpha_zero_stays():
    ours, plain, still = (params((5, 2)) for _ in range(3))
    start = bits(still)
    train(ours, optim.Lookahead(optim.SGD(ours, lr=0.01), k=3, alpha=1.0), 7)
    train(plain, optim.SGD(plain, lr=0.01), 7)
    np.testing.assert_allclose(ours[0].array, plain[0].array, rtol=1e-14)
    outer = optim.Lookahead(optim.SGD(still, lr=0.01), k=3, alpha=0.0)
    train(still, outer, 2)
    assert bits(still) != start
    train(still, outer, 1)
    assert bits(still) == start


@pytest.mark.oracle
@pytest.mark.parametrize("reset", [False, True])
def test_lookahead_is_optaxs(reset):
    """Fast and slow weights, over 60 steps; resetting optax's momentum is our pullback_momentum='reset'."""
    jax, optax = oracle("jax"), oracle("optax")
    rng = np.random.default_rng(0)
    grads = [10 ** rng.uniform(-2, 1) * rng.normal(size=(4, 3)) for _ in range(60)]
    (p,) = params((4, 3))
    outer = optim.Lookahead(
        optim.SGD([p], lr=0.01, momentum=0.9), 5, 0.3, pullback_momentum="reset" if reset else "none"
    )
    with jax.enable_x64(True):
        rule = optax.lookahead(optax.sgd(0.01, 0.9), 5, 0.3, reset_state=reset)
        theirs = optax.LookaheadParams.init_synced(jax.numpy.asarray(p.array.copy()))
        state = rule.init(theirs)
        for g in grads:
            updates, state = rule.update(jax.numpy.asarray(g), state, theirs)
            theirs = optax.apply_updates(theirs, updates)
            p.grad = mg.tensor(g)
            outer.step()
            np.testing.assert_allclose(p.array, theirs.fast, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(
                outer.state[p]["slow_param"].array, theirs.slow, rtol=1e-12, atol=1e-12
            )


@pytest.mark.parametrize("fate", ["none", "reset", "pullback"])
def test_the_momentum_has_the_fate_it_was_given(fate):
    for rule, slot in (
        (lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9), "momentum_buffer"),
        (optim.Adam, "exp_avg"),
    ):
        (p,) = params((3,))
        outer = optim.Lookahead(rule([p]), k=2, alpha=0.25, pullback_momentum=fate)
        twin = rule(params((3,)))
        for _ in range(2):
            p.grad = mg.full((3,), 2.0, dtype="float64")
            twin.param_groups[0]["params"][0].grad = p.grad
            outer.step()
            twin.step()
        m = twin.state[twin.parameters()[0]][slot].array
        factor = {"none": 1.0, "reset": 0.0, "pullback": 0.25}[fate]
        np.testing.assert_allclose(outer.state[p][slot].array, factor * m, rtol=1e-14)


def test_the_slow_update_is_one_launch_every_k_steps_without_a_host_read():
    with fake_cupy.installed() as device:
        ps = [nn.Parameter(mg.ones(4, 3, device="cuda")) for _ in range(5)]
        outer = optim.Lookahead(optim.AdamW(ps), k=3)
        for p in ps:
            p.grad = mg.ones(4, 3, device="cuda")
        outer.step()
        for p in ps:
            p.grad = p.slot
        launches = []
        for _ in range(5):
            with device.counting() as counts:
                outer.step()
            launches.append((counts.launches.get("adam"), counts.launches.get("lookahead", 0)))
            assert counts.host_reads == []
        assert launches == [(1, 0), (1, 1), (1, 0), (1, 0), (1, 1)]


def test_slow_weights_of_half_parameters_are_float32_and_move_with_the_model():
    model = nn.Linear(3, 2).to("bfloat16")
    outer = optim.Lookahead(optim.SGD(model.parameters(), lr=0.1), k=2)
    for _ in range(2):
        for p in model.parameters():
            p.grad = mg.ones(p.shape, dtype="bfloat16")
        outer.step()
    slow = outer.state[model.weight]["slow_param"]
    assert slow.dtype is mg.float32
    assert (model.weight.array == slow.array.astype(model.weight.array.dtype)).all()
    values = slow.array.copy()
    model.to("float32")
    assert (outer.state[model.weight]["slow_param"].array == values).all()


def test_a_parameter_that_comes_later_begins_with_itself():
    first, later = params((3,), (2,))
    outer = optim.Lookahead(optim.SGD([first], lr=0.1), k=2, alpha=0.5)
    train([first], outer, 1)
    outer.add_param_group(dict(params=[later]))
    start = later.array.copy()
    later.grad = mg.ones(2, dtype="float64")
    outer.step()
    np.testing.assert_allclose(later.array, start - 0.05, rtol=1e-14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(k=0), "Invalid k: 0"),
        (dict(k=2.5), "Invalid k: 2.5"),
        (dict(alpha=-0.1), "Invalid alpha value: -0.1"),
        (dict(alpha=1.5), "Invalid alpha value: 1.5"),
        (dict(alpha=float("nan")), "Invalid alpha value: nan"),
        (dict(pullback_momentum="yes"), "Invalid pullback_momentum: 'yes'"),
        (dict(pullback_momentum="reset"), "SGD has no momentum_buffer or exp_avg"),
    ],
)
def test_bad_options_raise_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        optim.Lookahead(optim.SGD(params((2,)), lr=0.1), **options)
