"""ASGD, Rprop, Adagrad, Adadelta, RMSprop: what is their own; and of both chapters, that one launch over
all parameters is a loop over them, bit for bit."""

import numpy as np
import pytest
from oracle import oracle
from test_rules import MACHINES, feed, flat, gradients, material, placed, run, starting
from transcriptions import adam, adaptive
from transcriptions.libraries import optax

import kernels
import minigrad as mg
from minigrad import nn, optim

BOTH = adaptive.CASES + adam.CASES


def walk(optimizer, p, grads):
    """The values of a parameter of one element after each of these gradients."""
    path = []
    for g in grads:
        p.grad = mg.tensor([g], dtype=p.dtype)
        optimizer.step()
        path.append(p.item())
    return path


def scalar(value=0.0, dtype=mg.float64):
    return nn.Parameter(mg.tensor([value], dtype=dtype))


# --------------------------------------------------------------------------------------- one launch is a loop


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("case", BOTH, ids=str)
def test_one_launch_over_all_parameters_is_a_loop_over_them_bit_for_bit(case, machine):
    """With 0-d, empty and formerly non-contiguous parameters, each at a step of its own."""
    rng = np.random.default_rng(1)
    shapes = ((5, 3), (), (0,), (2, 3, 4), (1100,), (3, 4))
    start, grads = starting(rng, shapes), gradients(rng, 8, shapes=shapes)
    with kernels.use(machine):
        together = placed(start, "float32")
        together[-1] = nn.Parameter(mg.tensor(np.ascontiguousarray(start[-1].T), dtype="float32").t())
        alone = placed(start, "float32")
        feed(together, one := case.make(together), grads, "float32")
        many = [case.make([p]) for p in alone]
        for k, (p, optimizer) in enumerate(zip(alone, many, strict=True)):
            feed([p], optimizer, [[g[k]] for g in grads], "float32")
    for p, q, optimizer in zip(together, alone, many, strict=True):
        assert p.array.tobytes() == q.array.tobytes()
        assert one.steps[p] == optimizer.steps[q]
        mine, other = one.state.get(p, {}), optimizer.state.get(q, {})
        for name in other:
            assert np.asarray(mine[name]).tobytes() == np.asarray(other[name]).tobytes(), name


@pytest.mark.parametrize("case", BOTH, ids=str)
def test_a_step_that_the_scaler_skips_leaves_parameters_state_and_t(case):
    rng = np.random.default_rng(2)
    shapes = ((5, 3), (), (1100,))
    start, grads = starting(rng, shapes), gradients(rng, 5, missing=False, shapes=shapes)
    results = []
    for skipped in (None, 0, 3):
        params = placed(start, "float32")
        optimizer, scaler = case.make(params), mg.amp.GradScaler("cpu", init_scale=8.0)
        for t, step in enumerate(grads):
            for bad in (True, False) if t == skipped else (False,):
                optimizer.zero_grad()
                loss = sum(
                    (p * mg.tensor(g, dtype="float32")).sum() for p, g in zip(params, step, strict=True)
                )
                scaler.scale(loss * (float("inf") if bad else 1.0)).backward()
                scaler.step(optimizer)
                scaler.update()
                assert scaler.skipped == bad
        state = [np.asarray(v) for p in params for v in optimizer.state[p].values()]
        results.append([p.array.tobytes() for p in params] + [v.tobytes() for v in state])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("case", [c for c in BOTH if "eps" in c.options], ids=str)
def test_an_eps_too_small_for_float32_makes_no_nan_of_a_zero_gradient(case, machine):
    with kernels.use(machine):
        params = placed([np.array([1.0, -2.0])], "float32")
        options = case.options | dict(eps=1e-60, weight_decay=0.0)
        optimizer = optim.zoo[case.rule].make(params, **options)
        feed(params, optimizer, [[np.zeros(2)]] * 3, "float32")
        assert params[0].tolist() == [1.0, -2.0]
        feed(params, optimizer, [[np.array([0.0, 1.0])]], "float32")
    assert params[0].array[0] == 1.0 and np.isfinite(params[0].array).all()


@pytest.mark.parametrize("rule", ["ASGD", "Rprop", "Adagrad", "Adadelta", "RMSprop"])
def test_maximize_goes_as_far_up_the_negated_gradient(rule):
    start, grads = material(3, steps=10)
    negated = [[-g for g in step] for step in grads]
    assert (run(rule, {}, start, grads) == run(rule, dict(maximize=True), start, negated)).all()


def test_adadelta_by_hand():
    """E[g^2] counts the gradient before the step, E[delta^2] the step after it."""
    p = scalar()
    optimizer = optim.Adadelta([p], rho=0.5, eps=1.0)
    first = 1 / np.sqrt(1 + 0.5 * 4.0) * 2
    second = np.sqrt(1 + 0.5 * first**2) / np.sqrt(1 + 0.5 * 2.0 + 0.5 * 9.0) * 3
    np.testing.assert_allclose(walk(optimizer, p, [2.0, 3.0]), [-first, -first - second], rtol=1e-14)


@pytest.mark.oracle
def test_a_centered_rmsprop_stays_finite_under_a_constant_gradient_where_torch_does_not():
    """E[g^2] - E[g]^2 is zero there, and rounding makes it negative."""
    p = scalar(dtype=mg.float32)
    path = walk(optim.RMSprop([p], centered=True, alpha=0.5), p, [0.3] * 40)
    assert np.isfinite(path).all()
    lib = oracle("torch")
    q = lib.zeros(1, requires_grad=True)
    theirs = lib.optim.RMSprop([q], centered=True, alpha=0.5, foreach=False)
    for _ in range(40):
        q.grad = lib.full((1,), 0.3)
        theirs.step()
    assert lib.isnan(q).all()


# ------------------------------------------------------------------------------------------------------ Rprop


def test_rprop_by_hand():
    """Sizes 1, 1.2, then a change of sign: the size halves and p waits; then neither grows nor shrinks."""
    p = scalar()
    optimizer = optim.Rprop([p], lr=1.0)
    path = walk(optimizer, p, [3.0, 1e-3, -5.0, -5.0, -1.0, 0.0, -1.0])
    np.testing.assert_allclose(path, [-1, -2.2, -2.2, -1.6, -0.88, -0.88, -0.16], rtol=1e-14)


def test_rprop_takes_no_step_back_where_the_paper_does():
    start, grads = material(8)
    mine = run("Rprop", {}, start, grads)
    back = flat([adaptive.rprop(p, [g[k] for g in grads], backtrack=True) for k, p in enumerate(start)])
    assert np.abs(mine - back).max() > 1e-3


@pytest.mark.oracle
def test_rprop_of_optax_is_a_step_behind():
    """It applies the step of the step before: the first changes nothing."""
    start, grads = material(9)
    library = optax(lambda o: o.rprop(0.01))
    assert (flat(library.run(start, grads[:1])) == flat(start)).all()
    assert (run("Rprop", {}, start, grads[:1]) != flat(start)).any()
    assert np.abs(run("Rprop", {}, start, grads) - flat(library.run(start, grads))).max() > 1e-3


def test_rprop_keeps_its_steps_in_range():
    p = scalar()
    optimizer = optim.Rprop([p], lr=0.1, step_sizes=(0.05, 0.3))
    walk(optimizer, p, [1.0] * 20)
    assert optimizer.state[p]["step_size"].item() == 0.3
    walk(optimizer, p, [1.0, -1.0, 0.0] * 20)
    walk(optimizer, p, [1.0, -1.0])
    assert optimizer.state[p]["step_size"].item() == 0.05


# ------------------------------------------------------------------------------------------------------- ASGD


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("t0", [0, 7, 1e6])
def test_asgd_keeps_the_mean_of_its_path(t0, machine):
    """ax is p until step t0 + 1, and the arithmetic mean of all p after that step from then on."""
    rng = np.random.default_rng(10)
    with kernels.use(machine):
        p = scalar(1.0)
        optimizer = optim.ASGD([p], lr=0.1, t0=t0)
        path, means = [], []
        for g in rng.normal(size=20):
            path += walk(optimizer, p, [g])
            means.append(optimizer.state[p]["ax"].item())
    first = min(int(t0) + 1, 20)
    assert means[:first] == path[:first]
    expected = [np.mean(path[first : t + 1]) for t in range(first, 20)]
    np.testing.assert_allclose(means[first:], expected, rtol=1e-12, atol=1e-14)


def test_asgd_carries_eta_so_that_a_new_lr_counts_a_step_later():
    p = scalar()
    optimizer = optim.ASGD([p], lr=0.5, lambd=0.0)
    first = walk(optimizer, p, [1.0])
    optimizer.param_groups[0]["lr"] = 0.25
    assert first + walk(optimizer, p, [1.0, 1.0]) == [-0.5, -1.0, -1.25]
    assert optimizer.state[p]["eta"] == 0.25


# ----------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("rule", "given", "message"),
    [
        ("ASGD", dict(lambd=-1), "ASGD: Invalid lambd value: -1"),
        ("ASGD", dict(alpha=float("nan")), "ASGD: Invalid alpha value: nan"),
        ("ASGD", dict(t0=-1), "ASGD: Invalid t0 value: -1"),
        ("Rprop", dict(etas=(0.5,)), r"Rprop: etas are \(0.5,\); they are two numbers, as \(0.5, 1.2\)"),
        ("Rprop", dict(etas=(1.0, 1.2)), "Rprop: Invalid eta values: 1.0, 1.2; 0 < etaminus < 1 < etaplus"),
        ("Rprop", dict(etas=(0.5, float("nan"))), "Rprop: Invalid eta value: nan"),
        ("Rprop", dict(step_sizes=0.1), "Rprop: step_sizes are 0.1; they are two numbers"),
        ("Rprop", dict(step_sizes=(0, 1)), "Rprop: Invalid step size: 0"),
        ("Rprop", dict(step_sizes=(2, 1)), "Rprop: Invalid step sizes: 2.0, 1.0; the smallest comes first"),
        ("Adagrad", dict(lr_decay=float("nan")), "Adagrad: Invalid lr_decay value: nan"),
        ("Adagrad", dict(initial_accumulator_value=-1), "Invalid initial_accumulator_value value: -1"),
        ("Adadelta", dict(rho=1.0), r"Adadelta: Invalid rho value: 1.0; it must be a number in \[0, 1\)"),
        ("RMSprop", dict(alpha=1.0), r"RMSprop: Invalid alpha value: 1.0; it must be a number in \[0, 1\)"),
    ],
)
def test_values_out_of_range_raise_in_the_constructor_and_in_a_group(rule, given, message):
    with pytest.raises(ValueError, match=message):
        getattr(optim, rule)([mg.zeros(1)], **given)
    optimizer = getattr(optim, rule)([mg.zeros(1)])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": mg.zeros(1)} | given)
    assert len(optimizer.param_groups) == 1


# -------------------------------------------------------------------------------- the article's functions, S2


def article(x, y, lr, gamma, eps=1e-8, epochs=100):
    """S2's adagrad (gamma None) and rmsprop: full batches; both put eps inside the root."""
    theta, seen = np.zeros(x.shape[1]), 0.0
    for _ in range(epochs):
        gradient = x.T @ (x @ theta - y) / len(y)
        seen = seen + gradient**2 if gamma is None else gamma * seen + (1 - gamma) * gradient**2
        theta = theta - lr / np.sqrt(seen + eps) * gradient
    return theta


@pytest.mark.parametrize(("rule", "lr", "gamma"), [("Adagrad", 0.1, None), ("RMSprop", 0.01, 0.9)])
def test_the_preset_s2_is_the_articles_function(rule, lr, gamma):
    rng = np.random.default_rng(11)
    x = rng.normal(size=(50, 4))
    y = x @ np.array([1.0, -2.0, 3.0, 0.5]) + 0.1 * rng.normal(size=50)
    theta = nn.Parameter(mg.zeros(4, dtype=mg.float64))
    optimizer = getattr(optim, rule).preset("S2", [theta])
    for _ in range(100):
        optimizer.zero_grad()
        (((mg.tensor(x) @ theta - mg.tensor(y)) ** 2).sum() / (2 * len(y))).backward()
        optimizer.step()
    np.testing.assert_allclose(theta.array, article(x, y, lr, gamma), rtol=1e-12, atol=1e-12)
