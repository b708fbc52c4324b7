"""Gradient descent and what was built on it: forms of momentum, look-ahead, and what holds for the family.

What tests/test_rules.py asks of every rule it asks of these; here stands what needs a closure or a loss, and
the forms that are known to be wrong. Noise, hypergradients and mirrors have files of their own.
"""

import gc
import pickle

import fake_cupy
import numpy as np
import pytest
from test_rules import MACHINES, close, feed, gradients, placed, starting
from transcriptions.descent import average, bengio, sgd, velocity

import kernels
import minigrad as mg
from minigrad import nn, optim


def bits(arrays):
    return [np.asarray(a).tobytes() for a in arrays]


def parameter(values, dtype="float64"):
    return nn.Parameter(mg.tensor(values, dtype=dtype))


# ------------------------------------------------------------------------------------------ forms of momentum


def stepped(optimizer, p, grads, rates):
    """p after these gradients, each at a learning rate of its own."""
    for g, lr in zip(grads, rates, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = mg.tensor(g)
        optimizer.step()
    return p.array


def by_hand(form, p, grads, rates, beta=0.9):
    """S0, S1 and S2 as they stand in the articles."""
    v = np.zeros_like(p)
    for g, lr in zip(grads, rates, strict=True):
        if form == "heavy_ball":
            v = beta * v + g
            p = p - lr * v
        elif form == "average":
            v = beta * v + (1 - beta) * g
            p = p - lr * v
        else:
            v = beta * v + lr * g
            p = p - v
    return p


def test_the_three_forms_of_momentum_are_the_articles_and_differ_once_lr_changes():
    rng = np.random.default_rng(0)
    start, grads, rates = rng.normal(size=9), rng.normal(size=(60, 9)), 0.1 / np.arange(1, 61)
    found = {}
    for form in ("heavy_ball", "average", "velocity"):
        p = parameter(start)
        optimizer = optim.SGD([p], lr=1.0, momentum=0.9, form=form)
        found[form] = stepped(optimizer, p, grads, rates)
        close([found[form]], [by_hand(form, start, grads, rates)], 1e-13)
    assert abs(found["heavy_ball"] - found["velocity"]).max() > 1e-2
    assert abs(found["heavy_ball"] - found["average"]).max() > 1e-2


def test_while_lr_is_constant_the_forms_are_one_up_to_a_factor():
    rng = np.random.default_rng(1)
    start, grads = rng.normal(size=9), list(rng.normal(size=(60, 9)))
    heavy = sgd(start, grads, lr=0.01, momentum=0.9)
    for options in (
        dict(lr=0.1, momentum=0.9, form="average"),
        dict(lr=0.01, momentum=0.9, form="velocity"),
    ):
        p = parameter(start)
        feed([p], optim.SGD([p], **options), [[g] for g in grads], "float64")
        close([p.array], [heavy], 1e-13)


def test_dampening_as_torch_has_it_is_not_the_average():
    """Its first step skips the dampening: 0.034 apart in S1's setting, not a rounding."""
    rng = np.random.default_rng(2)
    start, grads = rng.normal(size=9), list(rng.normal(size=(30, 9)))
    p = parameter(start)
    feed([p], optim.SGD([p], lr=0.01, momentum=0.9, dampening=0.9), [[g] for g in grads], "float64")
    assert abs(p.array - average(start, grads, lr=0.01, momentum=0.9)).max() > 1e-3


def test_nesterov_as_chainer_has_it_is_not_ours():
    """Chainer multiplies momentum^2 by the new velocity, equation 7 by the old one (chainer#4274)."""
    rng = np.random.default_rng(3)
    start, grads = rng.normal(size=9), list(rng.normal(size=(30, 9)))
    wrong, v = start, np.zeros(9)
    for g in grads:
        v = 0.9 * v - 0.01 * g
        wrong = wrong + 0.9 * 0.9 * v - 1.9 * 0.01 * g
    p = parameter(start)
    feed([p], optim.SGD.preset("sutskever", [p], lr=0.01), [[g] for g in grads], "float64")
    close([p.array], [bengio(start, grads, lr=0.01, momentum=0.9)], 1e-13)
    assert abs(p.array - wrong).max() > 1e-2


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("SGD", dict(form="ema"), "SGD: Invalid form: 'ema'; it is one of heavy_ball, average, velocity"),
        ("SGD", dict(form="average", momentum=0.9, dampening=0.1), "SGD: Invalid dampening: 0.1"),
        ("SGD", dict(form="velocity", momentum=0.9, dampening=0.1), "SGD: Invalid dampening: 0.1"),
        ("SGD", dict(form="average", momentum=1.5), "SGD: Invalid momentum value: 1.5"),
        ("SGD", dict(fixed_decay=True), "fixed_decay=True is for decoupled_weight_decay=True"),
        ("SGDW", dict(nesterov=True), "SGDW: Nesterov momentum requires"),
        ("NAG", dict(form="polyak"), "NAG: Invalid form: 'polyak'"),
        ("SGDHD", dict(hypergrad_lr=-1), "SGDHD: Invalid hypergrad_lr: -1"),
        ("SGDHD", dict(nesterov=True), "SGDHD: Nesterov momentum requires a momentum"),
        ("PerturbedGD", dict(radius=-1), "PerturbedGD: Invalid radius: -1"),
        ("PerturbedGD", dict(threshold=float("nan")), "PerturbedGD: Invalid threshold: nan"),
        ("PerturbedGD", dict(interval=-2), "PerturbedGD: Invalid interval: -2"),
        ("PerturbedGD", dict(seed=0.5), "PerturbedGD: Invalid seed: 0.5"),
        ("MirrorDescent", dict(mirror="sphere"), "Invalid mirror: 'sphere'; it is one of euclidean"),
        ("MirrorDescent", dict(mirror=(abs,)), "Invalid mirror"),
        ("MirrorDescent", dict(normalize="row"), "Invalid normalize: 'row' with mirror='euclidean'"),
        ("MirrorDescent", dict(mirror="hypentropy", beta=0), "Invalid beta: 0"),
        ("ExponentiatedGradient", dict(normalize="column"), "Invalid normalize: 'column'"),
    ],
)
def test_values_that_make_no_sense_raise_with_name_and_value(rule, options, message):
    with pytest.raises(ValueError) as caught:
        getattr(optim, rule)([parameter([0.5, 0.5])], **options)
    assert message in str(caught.value)
    with pytest.raises(ValueError):  # in a group, too
        getattr(optim, rule)([{"params": [parameter([0.5, 0.5])]} | options])


def test_sgdw_and_nag_stay_what_they_are():
    with pytest.raises(ValueError, match=r"optim\.SGD"):
        optim.SGDW([{"params": [mg.zeros(1)], "decoupled_weight_decay": False}])
    with pytest.raises(ValueError, match="here the closure looks ahead"):
        optim.NAG([{"params": [mg.zeros(1)], "nesterov": True}])
    with pytest.raises(ValueError, match="mirror is 'entropy' here"):
        optim.ExponentiatedGradient([{"params": [mg.ones(1)], "mirror": "hypentropy", "normalize": None}])


def test_a_decay_that_lr_does_not_scale_is_left_when_lr_is_zero():
    for fixed, left in ((False, 1.0), (True, 0.99**3)):
        p = parameter([1.0])
        feed([p], optim.SGDW([p], lr=0.0, fixed_decay=fixed), [[np.ones(1)]] * 3, "float64")
        assert p.array[0] == pytest.approx(left, rel=1e-15)


def test_coupled_and_decoupled_decay_differ_under_momentum():
    rng = np.random.default_rng(4)
    start, grads = rng.normal(size=5), [[g] for g in rng.normal(size=(20, 5))]
    p, q = parameter(start), parameter(start)
    feed([p], optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.1), grads, "float64")
    feed([q], optim.SGDW([q], lr=0.1, momentum=0.9, weight_decay=0.1), grads, "float64")
    assert abs(p.array - q.array).max() > 1e-2


# -------------------------------------------------------------------------------- Nesterov, at the look-ahead

CURVATURE = np.array([0.05, 0.3, 1.0, 2.0])


def slope(x):
    """The gradient of sum(h x^2 / 2 - cos x), written down twice: here and in `bowl`."""
    return CURVATURE * x + np.sin(x)


def bowl(p):
    return (mg.tensor(CURVATURE) * p * p / 2 - mg.cos(p)).sum()


def look_ahead(form, x, rates, mu=0.9):
    """The articles' loops: where the gradient is taken and where the parameters are after each step."""
    v, looked, path = np.zeros_like(x), [], []
    for lr in rates:
        if form == "S0":  # m = beta m + g at theta - eta beta m
            looked.append(x - lr * mu * v)
            v = mu * v + slope(looked[-1])
            x = x - lr * v
        elif form == "S1":  # v = beta v - alpha g at theta + beta v
            looked.append(x + mu * v)
            v = mu * v - lr * slope(looked[-1])
            x = x + v
        else:  # S2, S3: v = gamma v + eta g at theta - gamma v
            looked.append(x - mu * v)
            v = mu * v + lr * slope(looked[-1])
            x = x - v
        path.append(x)
    return looked, path


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("source", ["S0", "S1", "S2", "S3"])
def test_the_literal_look_ahead_is_each_articles_also_while_lr_changes(source, machine):
    start, rates = np.array([3.0, -2.0, 1.0, 0.5]), 0.1 / np.arange(1, 61) ** 0.5
    looked, path = look_ahead(source, start, rates)
    seen, p = [], parameter(start)
    optimizer = optim.NAG.preset(source, [p])
    with kernels.use(machine):
        for k, lr in enumerate(rates):
            optimizer.param_groups[0]["lr"] = lr

            def closure():
                optimizer.zero_grad()
                seen.append(p.array.copy())
                loss = bowl(p)
                loss.backward()
                return loss

            loss = optimizer.step(closure)
            assert loss.item() == bowl(mg.tensor(seen[-1])).item()  # the look-ahead point's
            close([seen[-1], p.array], [looked[k], path[k]], 1e-14)


@pytest.mark.parametrize("form", ["velocity", "heavy_ball", "average"])
def test_the_change_of_variables_where_nag_looks_is_where_sgd_with_nesterov_stands(form):
    """[Bengio et al. 2013, eq. 7], at most 2e-15 for iterates of order 1 over 60 steps."""
    start = np.array([1.0, -0.7, 0.4, 0.2])
    p, q = parameter(start), parameter(start)
    literal = optim.NAG([p], lr=0.05, momentum=0.9, form=form)
    shifted = optim.SGD([q], lr=0.05, momentum=0.9, nesterov=True, form=form)
    worst, seen = 0.0, []

    def closure():
        literal.zero_grad()
        seen.append(p.array.copy())
        bowl(p).backward()

    for _ in range(60):
        literal.step(closure)
        worst = max(worst, abs(seen[-1] - q.array).max())
        shifted.zero_grad()
        bowl(q).backward()
        shifted.step()
    assert worst <= 2e-15
    assert abs(p.array - q.array).max() > 1e-8  # they stand at different points


def test_parameters_come_back_bit_for_bit_also_after_an_error():
    rng = np.random.default_rng(5)
    params = placed(starting(rng), "float32")
    optimizer = optim.NAG(params, lr=0.1)
    feed(params, optimizer, gradients(rng, 3, missing=False), "float32")
    before = bits(p.array for p in params)

    def fails():
        assert bits(p.array for p in params) != before
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        optimizer.step(fails)
    assert bits(p.array for p in params) == before

    def nothing():
        for p in params:
            p.grad = None

    optimizer.step(nothing)  # no gradients: nothing moves
    assert bits(p.array for p in params) == before


def test_a_graph_from_before_the_excursion_refuses_to_go_on_inside():
    p = parameter([1.0, 2.0])
    optimizer = optim.NAG([p], lr=0.1)
    feed([p], optimizer, [[np.ones(2)]], "float64")
    p.grad = None
    loss = (p * p).sum()
    with pytest.raises(RuntimeError):
        optimizer.step(loss.backward)


def test_nag_without_a_closure_says_what_to_do():
    p = parameter([1.0])
    p.grad = mg.ones(1, dtype=mg.float64)
    with pytest.raises(TypeError, match=r"needs a closure .* SGD\(nesterov=True\)"):
        optim.NAG([p]).step()
    assert p.item() == 1.0


def test_hooks_see_nag_as_they_see_the_others():
    log, p = [], parameter([1.0])
    optimizer = optim.NAG([p], lr=0.25, momentum=0.5)

    def closure():
        log.append(("closure", p.item()))
        p.grad = mg.ones(1, dtype=mg.float64)

    optimizer.register_step_pre_hook(lambda o, args, kwargs: log.append(("pre", p.item())))
    optimizer.register_update_pre_hook(lambda o: log.append(("ready", p.item())))
    optimizer.register_step_post_hook(lambda o, args, kwargs: log.append(("post", p.item())))
    optimizer.step(closure)
    optimizer.step(closure)
    assert log == [("pre", 1.0), ("closure", 1.0), ("ready", 1.0), ("post", 0.75)] + [
        ("pre", 0.75),
        ("closure", 0.625),
        ("ready", 0.75),
        ("post", 0.375),
    ]


def test_the_penalty_is_taken_where_the_gradient_is():
    """weight_decay and the same penalty in the loss are one thing."""
    start = np.array([1.0, -2.0, 0.5, 3.0])
    p, q = parameter(start), parameter(start)
    inside, outside = optim.NAG([p], lr=0.05), optim.NAG([q], lr=0.05, weight_decay=0.3)

    def penalised():
        inside.zero_grad()
        (bowl(p) + 0.15 * (p * p).sum()).backward()

    def plain():
        outside.zero_grad()
        bowl(q).backward()

    for _ in range(60):
        inside.step(penalised)
        outside.step(plain)
    close([p.array], [q.array], 1e-14)


# ---------------------------------------------------------------------------------------------- on the device

FAMILY = {
    "NAG": (lambda p: optim.NAG(p, lr=0.1), ("look_ahead", "sgd"), 2),
    "SGDHD": (lambda p: optim.SGDHD(p, momentum=0.9), ("hyper_dot", "hyper_rate", "sgd_hd"), 3),
    "AdamHD": (lambda p: optim.AdamHD(p), ("hyper_dot", "hyper_rate", "adam_hd"), 3),
    "PerturbedGD": (
        lambda p: optim.PerturbedGD(p),
        ("normal_noise", "perturb_norms", "perturb_decide", "perturbed_descent"),
        4,
    ),
    "EG": (lambda p: optim.ExponentiatedGradient(p), ("exponentiated_gradient",), 5),
    "EGU": (lambda p: optim.MirrorDescent(p, mirror="entropy"), ("mirror_descent",), 1),
}


@pytest.mark.parametrize("name", FAMILY)
def test_launches_are_as_stated_and_nothing_is_read_back(name):
    make, texts, launches = FAMILY[name]
    with fake_cupy.installed() as device:
        params = [nn.Parameter(mg.ones(4, 3, device="cuda")) for _ in range(5)]
        optimizer = make(params)

        def closure():
            for p in params:
                p.grad = p.slot

        for p in params:
            p.grad = mg.ones(4, 3, device="cuda")
        optimizer.step(lambda: None)
        optimizer.step(closure)
        with device.counting() as counts:
            optimizer.step(closure)
        assert sum(counts.launches[t] for t in texts) == launches, counts.launches
        assert counts.host_reads == []


# --------------------------------------------------------------------------------- what holds for all of them

MAKERS = {
    "SGD": lambda p: optim.SGD(p, 0.1, 0.9, form="velocity"),
    "SGDW": lambda p: optim.SGDW(p, 0.1, 0.9),
    "NAG": lambda p: optim.NAG(p, 0.1),
    "SGDHD": lambda p: optim.SGDHD(p, 0.1),
    "AdamHD": lambda p: optim.AdamHD(p, 0.1),
    "PerturbedGD": lambda p: optim.PerturbedGD(p, 0.1),
    "MirrorDescent": lambda p: optim.MirrorDescent(p, 0.1),
    "ExponentiatedGradient": lambda p: optim.ExponentiatedGradient(p, 0.1),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_parameter_without_a_gradient_is_left_alone_and_its_t_stands(name):
    a, b = parameter(np.full(3, 1 / 3)), parameter(np.full(4, 0.25))
    optimizer = MAKERS[name]([a, b])
    feed([a, b], optimizer, [[np.arange(3.0), np.arange(4.0)], [np.arange(3.0), None]], "float64")
    before = b.array.copy()
    feed([a, b], optimizer, [[np.arange(3.0), None]] * 2, "float64")
    assert (b.array == before).all() and optimizer.steps[b] == 1 and optimizer.steps[a] == 4


@pytest.mark.parametrize("name", MAKERS)
def test_a_tied_parameter_steps_once_with_its_summed_gradient(name):
    tied, single = parameter([0.25, 0.75]), parameter([0.25, 0.75])
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = MAKERS[name]([tied, tied])
    other = MAKERS[name]([single])

    def both():
        optimizer.zero_grad()
        ((tied * mg.tensor([1.0, 2.0], dtype=mg.float64)).sum() + (tied * tied).sum()).backward()

    def once():
        other.zero_grad()
        (single * mg.tensor([1.0, 2.0], dtype=mg.float64) + single * single).sum().backward()

    for _ in range(3):
        optimizer.step(both)
        other.step(once)
    assert optimizer.steps[tied] == 3
    np.testing.assert_allclose(tied.array, single.array, rtol=1e-14)


@pytest.mark.parametrize("name", MAKERS)
def test_closures_run_with_recording_on_and_hooks_round_them(name):
    log, p = [], parameter([0.25, 0.75])
    optimizer = MAKERS[name]([p])
    optimizer.register_step_pre_hook(lambda o, args, kwargs: log.append("pre"))
    optimizer.register_step_post_hook(lambda o, args, kwargs: log.append("post"))

    def closure():
        assert mg.is_grad_enabled()
        log.append("closure")
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with mg.no_grad():
        assert optimizer.step(closure).item() == 0.625
        assert not mg.is_grad_enabled()
    assert log == ["pre", "closure", "post"]


class Sparse:
    """What a sparse gradient of another framework looks like."""

    layout = "torch.sparse_coo"


@pytest.mark.parametrize("name", MAKERS)
def test_sparse_and_complex_gradients_are_refused_by_name(name):
    p = parameter([0.25, 0.75])
    optimizer = MAKERS[name]([("weight", p)])
    for grad, kind in ((Sparse(), "sparse"), (np.ones(2, complex), "complex")):
        p.grad = grad
        with pytest.raises(TypeError, match=rf"the grad of 'weight' is a {kind} .*dense and real"):
            optimizer.step(lambda: None)
        assert p.array.tolist() == [0.25, 0.75] and optimizer.steps[p] == 0


@pytest.mark.parametrize("name", MAKERS)
def test_steps_leave_no_cycles_and_no_memory_behind(name):
    p = parameter(np.full(2000, 1 / 2000))
    optimizer = MAKERS[name]([p])
    g = mg.ones(2000, dtype=mg.float64)

    def closure():
        p.grad = g

    for _ in range(3):
        optimizer.step(closure)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(50):
            optimizer.step(closure)
        assert len(gc.get_objects()) - before < 25
    finally:
        gc.enable()


def test_the_articles_momenta_are_presets():
    rng = np.random.default_rng(18)
    start, grads = rng.normal(size=6), list(rng.normal(size=(30, 6)))
    for source, paper, options in (
        ("S0", sgd, dict(lr=1e-3, momentum=0.9)),
        ("S1", average, dict(lr=3e-4, momentum=0.9)),
        ("S2", velocity, dict(lr=0.01, momentum=0.9)),
        ("S3", velocity, dict(lr=0.01, momentum=0.9)),
    ):
        p = parameter(start)
        feed([p], optim.SGD.preset(source, [p]), [[g] for g in grads], "float64")
        close([p.array], [paper(start, grads, **options)], 1e-13)


# ------------------------------------------------------------------------------ pickled, moved, on a schedule


@pytest.mark.parametrize("name", MAKERS)
def test_a_pickled_optimizer_goes_on_as_the_one_it_came_from(name):
    p = parameter([0.25, 0.75])
    optimizer = MAKERS[name]([p])
    grads = [[np.array([1.0, -0.5]) * k] for k in range(1, 7)]
    feed([p], optimizer, grads[:3], "float64")
    other = pickle.loads(pickle.dumps(optimizer))
    (q,) = other.parameters()
    feed([p], optimizer, grads[3:], "float64")
    feed([q], other, grads[3:], "float64")
    assert bits([p.array]) == bits([q.array])


def step_of(model, optimizer, dtype):
    def closure():
        optimizer.zero_grad()
        (model(mg.ones(4, 3, dtype=dtype)) ** 2).sum().backward()

    optimizer.step(closure)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda p: optim.SGDHD(p, 0.01), "lr"),
        (lambda p: optim.AdamHD(p), "lr"),
        (lambda p: optim.PerturbedGD(p), "quiet"),
    ],
)
def test_numbers_on_the_device_follow_a_model_that_moves(make, name):
    model = nn.Linear(3, 2)
    optimizer = make(model.parameters())
    step_of(model, optimizer, mg.float32)
    value = optimizer.param_groups[0][name].item()
    model.to(mg.float64)
    optimizer.param_groups[0].update({"hypergrad_lr": 0.0} if name == "lr" else {})
    step_of(model, optimizer, mg.float64)
    after = optimizer.param_groups[0][name]
    assert after.dtype is mg.float64
    assert after.item() == (value if name == "lr" else value + 1)


def test_a_scheduler_multiplies_the_learned_rate():
    model = nn.Linear(3, 2)
    optimizer = optim.SGDHD(model.parameters(), 0.1, hypergrad_lr=0.0)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for k in range(3):
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1 * 0.5**k)
        step_of(model, optimizer, mg.float32)
        scheduler.step()
