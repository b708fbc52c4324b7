"""Gradient descent and what was built on it: forms of momentum, look-ahead, noise, hypergradients, mirrors.

What tests/test_rules.py asks of every rule it asks of these; here stands what needs a closure, a loss, random
numbers or a simplex, and the forms that are known to be wrong.
"""

import gc

import fake_cupy
import numpy as np
import pytest
from oracle import oracle
from test_rules import MACHINES, close, feed, gradients, ours, placed, starting
from transcriptions import Case
from transcriptions.descent import average, bengio, sgd, velocity

import kernels
import minigrad as mg
from minigrad import nn, optim
from minigrad.random import philox4x32

SHAPES = ((5, 3), (), (0,), (2, 3, 4), (1100,))


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


# --------------------------------------------------------------------------------------------- gradient noise


def normal(seed, owner, t, n):
    """The n normal numbers of parameter `owner` at step t: Philox and Box & Muller, with log, sin and cos."""
    e = np.arange(n, dtype=np.uint64)
    words = philox4x32((e, e * 0, np.uint64(t), np.uint64(owner)), (seed & 0xFFFFFFFF, seed >> 32))
    c0, c1 = (w.astype(np.float64) for w in words[:2])
    turn, rest = np.divmod(c1, 2.0**30)
    angle = (rest / 2**30 - 0.5) * np.pi / 2
    side = np.where(turn % 2 == 0, np.cos(angle), np.sin(angle)) * np.where(turn >= 2, -1, 1)
    return np.sqrt(-2 * np.log((c0 + 0.5) / 2**32)) * side


def noisy(start, grads, make, machine="compiled", dtype="float64", **options):
    with kernels.use(machine):
        params = placed(start, dtype)
        optimizer = make(params)
        noise = optim.GradientNoise(optimizer, **options)
        feed(params, optimizer, grads, dtype)
    return params, optimizer, noise


def test_noise_is_added_to_each_gradient_by_element_parameter_and_step():
    """Against the plain statement of Philox, on both machines bit for bit; t is each parameter's own."""
    rng = np.random.default_rng(6)
    start, grads, seed = starting(rng), gradients(rng, 20), 0x1234567890ABCDEF
    t = [0] * len(start)
    changed = []
    for step in grads:
        changed.append([])
        for k, g in enumerate(step):
            t[k] += g is not None
            deviation = (0.3 / max(t[k], 1) ** 0.55) ** 0.5
            z = normal(seed, k, t[k], start[k].size).reshape(start[k].shape)
            changed[-1].append(None if g is None else g + deviation * z)
    expected = [sgd(p, [s[k] for s in changed], lr=0.01, momentum=0.9) for k, p in enumerate(start)]
    results = [
        noisy(start, grads, lambda ps: optim.SGD(ps, 0.01, 0.9), machine, eta=0.3, seed=seed)[0]
        for machine in MACHINES
    ]
    close([p.array for p in results[0]], expected, 1e-13)
    assert bits(p.array for p in results[0]) == bits(p.array for p in results[1])


def test_noise_is_normal_and_its_variance_falls_as_the_paper_says():
    n = 200_000
    p = parameter(np.zeros(n))
    optimizer = optim.SGD([p], lr=1.0)
    optim.GradientNoise(optimizer, eta=0.5, gamma=0.55, seed=3)
    for t in range(1, 6):
        p.grad = mg.zeros(n, dtype=mg.float64)
        optimizer.step()
        z = p.grad.numpy() / np.sqrt(0.5 / t**0.55)
        assert abs(z.mean()) < 5 / np.sqrt(n) and abs(z.var() - 1) < 5 * np.sqrt(2 / n)
        assert abs((z**3).mean()) < 5 * np.sqrt(15 / n) and abs((z**4).mean() - 3) < 5 * np.sqrt(96 / n)
        assert abs(np.mean(np.abs(z) < 1) - 0.6826895) < 5 * 0.466 / np.sqrt(n)
        assert abs(np.mean(z[:-1] * z[1:])) < 5 / np.sqrt(n)


@pytest.mark.oracle
def test_the_law_of_the_variance_is_optaxs():
    optax, jax = oracle("optax"), oracle("jax")
    n, rule = 100_000, optax.add_noise(0.5, 0.55, jax.random.key(0))
    state = rule.init(jax.numpy.zeros(n))
    p = parameter(np.zeros(n))
    optimizer = optim.SGD([p], lr=1.0)
    optim.GradientNoise(optimizer, eta=0.5, gamma=0.55)
    for _ in range(4):
        theirs, state = rule.update(jax.numpy.zeros(n), state)
        p.grad = mg.zeros(n, dtype=mg.float64)
        optimizer.step()
        assert np.std(p.grad.numpy()) == pytest.approx(float(np.std(theirs)), rel=5 / np.sqrt(n))


def test_noise_does_not_depend_on_the_arena_and_leaves_its_pads_zero():
    rng = np.random.default_rng(7)
    start = starting(rng)
    grads = gradients(rng, 4, missing=False)
    together, _, _ = noisy(start, grads, lambda ps: optim.SGD(ps, 0.1), dtype="float32")
    alone = placed(start, "float32")
    for p in alone:
        optim.SGD([p])  # gives each an arena of its own
    one = optim.SGD(alone, 0.1)
    optim.GradientNoise(one)
    feed(alone, one, grads, "float32")
    assert bits(p.array for p in together) == bits(p.array for p in alone)
    arena = together[0].arena
    for p in together:
        assert not arena.array[p.offset + p.numel() : p.stop].any()
        assert not arena.gradient[p.offset + p.numel() : p.stop].any()


def test_other_parameters_steps_and_seeds_get_other_noise():
    draws = [normal(s, k, t, 8) for s in (0, 1) for k in (0, 1) for t in (1, 2)]
    assert len({d.tobytes() for d in draws}) == 8
    start = [np.zeros(8), np.zeros(8)]
    zero = [[np.zeros(8)] * 2]
    a, b = (noisy(start, zero, lambda ps: optim.SGD(ps, 1.0), eta=1.0, seed=s)[0] for s in (0, 2**40))
    assert len(set(bits([*(p.array for p in a), *(p.array for p in b)]))) == 4


def test_resumed_noise_is_the_noise_that_would_have_been():
    rng = np.random.default_rng(8)
    start, grads = starting(rng), gradients(rng, 12)
    whole, _, _ = noisy(start, grads, lambda ps: optim.Adam(ps, 0.1), eta=0.3, seed=5)
    half, optimizer, _ = noisy(start, grads[:6], lambda ps: optim.Adam(ps, 0.1), eta=0.3, seed=5)
    again = placed([p.array for p in half], "float64")
    other = optim.Adam(again)
    other.load_state_dict(optimizer.state_dict())
    optim.GradientNoise(other, eta=0.3, seed=5)
    feed(again, other, grads[6:], "float64")
    assert bits(p.array for p in whole) == bits(p.array for p in again)


def test_noise_is_removed_and_composes_with_closures_and_wrappers():
    p = parameter([1.0, 2.0])
    optimizer = optim.SGD([p], lr=1.0)
    noise = optim.GradientNoise(optimizer, eta=1.0)

    def closure():
        optimizer.zero_grad()
        (p * 1).sum().backward()

    optimizer.step(closure)
    np.testing.assert_allclose(p.array, np.array([0.0, 1.0]) - normal(0, 0, 1, 2), atol=1e-14)
    noise.remove()
    before = p.array.copy()
    optimizer.step(closure)
    assert (p.array == before - 1).all()
    inner = optim.SGD([p], lr=1.0)
    wrapped = optim.Lookahead(inner)
    optim.GradientNoise(wrapped, eta=1.0)
    before = p.array.copy()
    wrapped.step(closure)
    assert abs(p.array - before + 1).min() > 0  # once for each, whatever the slow weights do


def test_a_gradient_set_by_hand_keeps_its_own_memory():
    p, g = parameter([0.0, 0.0]), mg.zeros(2, dtype=mg.float64)
    optimizer = optim.SGD([p], lr=1.0)
    optim.GradientNoise(optimizer, eta=1.0)
    p.grad = g
    optimizer.step()
    assert not g.array.any()
    assert (p.grad.array == -p.array).all() and p.array.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(eta=-1), "Invalid eta: -1"),
        (dict(gamma=float("nan")), "Invalid gamma: nan"),
        (dict(seed=1.5), "Invalid seed: 1.5"),
        (dict(seed=2**64), "Invalid seed"),
    ],
)
def test_noise_that_makes_no_sense_raises(options, message):
    optimizer = optim.SGD([parameter([1.0])])
    with pytest.raises(ValueError, match=message):
        optim.GradientNoise(optimizer, **options)
    assert not optimizer.ready
    with pytest.raises(TypeError, match="list is no Optimizer"):
        optim.GradientNoise([optimizer])


# ------------------------------------------------------------------------------------------ perturbed descent


def jin(start, slopes, lr, radius, threshold, interval, seed, steps):
    """[Jin et al. 2017, Algorithm 4] on one vector, the kick and the descent after it as two entries."""
    x, path, t, last = start, [], 0, -interval - 1
    kicked, draw = False, 0
    while len(path) < steps:
        draw += 1
        g = slopes(x)
        if not kicked and np.linalg.norm(g) <= threshold and t - last > interval:
            last, kicked = t, True
            z = normal(seed, 0, draw, x.size)
            key = (seed & 0xFFFFFFFF, seed >> 32)
            u = (int(philox4x32((0, 0, draw, 2**32 - 1), key)[0]) + 0.5) / 2**32
            x = x + radius * u ** (1 / x.size) * z / np.linalg.norm(z)
        else:
            x, t, kicked = x - lr * g, t + 1, False
        path.append(x)
    return path


def saddle(p):
    """x^2 / 2 - y^2 / 2 + y^4 / 4: a saddle at 0, minima at y = 1 and y = -1."""
    return (p[0] ** 2 - p[1] ** 2) / 2 + p[1] ** 4 / 4


def saddles(x):
    return np.array([x[0], x[1] ** 3 - x[1]])


@pytest.mark.parametrize("machine", MACHINES)
def test_perturbed_descent_visits_the_papers_points_and_leaves_the_saddle(machine):
    options = dict(lr=0.1, radius=0.05, threshold=0.01, interval=20, seed=7)
    p = parameter([1.0, 0.0])
    optimizer = optim.PerturbedGD([p], **options)
    expected = jin(np.array([1.0, 0.0]), saddles, steps=250, **options)
    with kernels.use(machine):
        for k in range(250):
            optimizer.zero_grad()
            saddle(p).backward()
            optimizer.step()
            np.testing.assert_allclose(p.array, expected[k], atol=1e-12, err_msg=str(k))
    assert abs(abs(p.array[1]) - 1) < 0.06 and abs(p.array[0]) < 0.06  # a kick away from a minimum at most
    plain = parameter([1.0, 0.0])
    still = optim.PerturbedGD([plain], lr=0.1, radius=0.0)
    for _ in range(250):
        still.zero_grad()
        saddle(plain).backward()
        still.step()
    assert plain.array[1] == 0 and abs(plain.array[0]) < 1e-10  # descent alone ends in the saddle


def test_a_kick_is_uniform_in_the_ball():
    """|xi|^d / r^d is uniform in [0, 1], and directions have no preference."""
    found = []
    for seed in range(400):
        params = [parameter(np.zeros((2, 1))), parameter(0.0)]
        optimizer = optim.PerturbedGD(params, radius=2.0, seed=seed)
        feed(params, optimizer, [[np.zeros((2, 1)), np.zeros(())]], "float64")
        found.append(np.concatenate([p.array.ravel() for p in params]))
    xi = np.array(found)
    shares = np.sort(np.linalg.norm(xi, axis=1) ** 3 / 2**3)
    assert shares[-1] <= 1 + 1e-12
    assert abs(shares - (np.arange(400) + 0.5) / 400).max() < 1.63 / np.sqrt(400)  # Kolmogorov, 1 %
    means = np.mean(xi / np.linalg.norm(xi, axis=1)[:, None], axis=0)
    assert abs(means).max() < 4 / np.sqrt(3 * 400)


def test_kicks_keep_their_distance_and_a_large_gradient_gets_none():
    p = parameter(np.zeros(5))
    optimizer = optim.PerturbedGD([p], radius=1.0, threshold=0.1, interval=3)
    moved = []
    for _ in range(12):
        before = p.array.copy()
        feed([p], optimizer, [[np.zeros(5)]], "float64")
        moved.append(bool((p.array != before).any()))
    assert [k for k, m in enumerate(moved) if m] == [0, 5, 10]  # t - t_noise > 3, the kick a step for itself
    feed([p], optimizer, [[np.zeros(5)]] * 4, "float64")
    before = p.array.copy()
    feed([p], optimizer, [[np.full(5, 0.2)]], "float64")
    np.testing.assert_allclose(p.array, before - 0.01 * 0.2, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_perturbed_descent_resumes_exactly_and_keeps_pads_zero(dtype):
    rng = np.random.default_rng(9)
    start = starting(rng)
    grads = [[None if rng.random() < 0.2 else g * 1e-4 for g in s] for s in gradients(rng, 12, missing=False)]
    make = lambda ps: optim.PerturbedGD(ps, radius=0.5, threshold=1.0, interval=2)  # noqa: E731
    whole, half = placed(start, dtype), placed(start, dtype)
    one, two = make(whole), make(half)
    feed(whole, one, grads, dtype)
    feed(half, two, grads[:6], dtype)
    again = placed([p.array for p in half], dtype)
    other = make(again)
    other.load_state_dict(two.state_dict())
    feed(again, other, grads[6:], dtype)
    assert bits(p.array for p in whole) == bits(p.array for p in again)
    assert any(
        (p.array != q).any() for p, q in zip(placed(start, dtype), [q.array for q in whole], strict=True)
    )
    for p in whole:
        assert not p.arena.array[p.offset + p.numel() : p.stop].any()


# --------------------------------------------------------------------------------------------- hypergradients


def valley(params):
    a, b = params
    return ((a - 1) ** 2).sum() + (b**4).sum() / 4 + (a.sum() * b.sum()) / 5


@pytest.mark.parametrize("rule", ["SGDHD", "nesterov", "AdamHD"])
def test_the_learning_rate_moves_against_the_slope_of_the_loss_after_the_step(rule):
    """lr changes by -hypergrad_lr dL(theta_t)/dlr, the derivative taken by finite differences of two runs."""
    options = dict(nesterov=dict(momentum=0.9, nesterov=True), SGDHD={}, AdamHD={})[rule]
    make = getattr(optim, "SGDHD" if rule == "nesterov" else rule)

    def after(lr, hyper, steps):
        """The loss after that many steps, of which only the last was taken with lr, and the optimizer."""
        params = [parameter([0.3, -0.4, 2.0]), parameter([[0.5], [1.5]])]
        optimizer = make(params, lr=0.01, hypergrad_lr=0.0, **options)
        for k in range(steps):
            optimizer.zero_grad()
            valley(params).backward()
            if k == steps - 1:
                optimizer.param_groups[0].update(lr=lr, hypergrad_lr=0.0)
            optimizer.step()
        optimizer.zero_grad()
        loss = valley(params)
        loss.backward()
        optimizer.param_groups[0]["hypergrad_lr"] = hyper
        optimizer.step()
        return loss.item(), float(optimizer.param_groups[0]["lr"])

    for steps in (1, 4):
        h, kappa = 1e-6, 1e-3
        slope = (after(0.01 + h, 0, steps)[0] - after(0.01 - h, 0, steps)[0]) / (2 * h)
        change = after(0.01, kappa, steps)[1] - 0.01
        assert abs(slope) > 1e-3
        assert change == pytest.approx(-kappa * slope, rel=1e-6)


@pytest.mark.parametrize(
    ("learning", "plain"),
    [
        (lambda p: optim.SGDHD(p, 0.01, 0.0, 0.9, 0.1), lambda p: optim.SGD(p, 0.01, 0.9, 0, 0.1)),
        (
            lambda p: optim.SGDHD(p, 0.01, 0.0, 0.9, nesterov=True),
            lambda p: optim.SGD(p, 0.01, 0.9, nesterov=True),
        ),
        (lambda p: optim.AdamHD(p, 0.01, 0.0), lambda p: optim.Adam(p, 0.01)),
    ],
)
def test_without_learning_they_are_the_rules_they_come_from(learning, plain):
    rng = np.random.default_rng(10)
    start, grads = starting(rng), gradients(rng, 60)
    p, q = placed(start, "float64"), placed(start, "float64")
    feed(p, learning(p), grads, "float64")
    feed(q, plain(q), grads, "float64")
    close([x.array for x in p], [x.array for x in q], 1e-13)


def test_a_learning_rate_too_small_grows_and_the_loss_falls_faster():
    losses = {}
    for name, make in (
        ("learned", lambda p: optim.SGDHD(p, lr=1e-3, hypergrad_lr=1e-4)),
        ("fixed", lambda p: optim.SGD(p, lr=1e-3)),
    ):
        p = parameter([5.0, -3.0])
        optimizer = make([p])
        for _ in range(200):
            optimizer.zero_grad()
            loss = (p * p).sum()
            loss.backward()
            optimizer.step()
        losses[name] = loss.item()
    assert losses["learned"] < 1e-3 * losses["fixed"]


def test_each_group_learns_its_own_lr_which_may_be_set_and_is_saved():
    a, b = parameter(np.ones(3)), parameter(np.ones(2))
    rate = mg.tensor(0.5)
    optimizer = optim.SGDHD(
        [{"params": [a], "hypergrad_lr": 0.1}, {"params": [b], "lr": 1.0}], lr=rate, hypergrad_lr=0
    )
    feed([a, b], optimizer, [[np.ones(3), np.ones(2)]] * 2, "float64")
    lrs = [g["lr"] for g in optimizer.param_groups]
    assert [lr.item() for lr in lrs] == [0.5 + 0.1 * 3, 1.0] and all(lr.dtype is mg.float64 for lr in lrs)
    assert rate.item() == 0.5  # the user's own is not written to
    optimizer.param_groups[0]["lr"] = 0.25
    feed([a, b], optimizer, [[-np.ones(3), None]], "float64")
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(
        0.25 - 0.3
    )  # below zero, as the paper has it
    again = [parameter(p.array) for p in (a, b)]
    other = optim.SGDHD([{"params": [again[0]]}, {"params": [again[1]]}])
    other.load_state_dict(optimizer.state_dict())
    assert [float(g["lr"]) for g in other.param_groups] == [float(g["lr"]) for g in optimizer.param_groups]


def test_one_lr_for_parameters_of_two_types_raises():
    with pytest.raises(ValueError, match="share device and type: float32 on cpu and float64 on cpu"):
        optim.SGDHD([parameter([1.0]), parameter([1.0], "float32")])
    optim.SGDHD([parameter([1.0], "float16"), parameter([1.0], "float32")])  # both compute in float32


# --------------------------------------------------------------------------------------------- mirror descent


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("machine", MACHINES)
def test_with_half_the_squared_norm_it_is_sgd_bit_for_bit(dtype, machine):
    rng = np.random.default_rng(11)
    start, grads = starting(rng), gradients(rng, 60)
    case = Case("SGD", dict(lr=0.01), None)
    mirrored = Case("MirrorDescent", dict(lr=0.01), None)
    one, other = (ours(c, start, grads, dtype, machine)[0] for c in (case, mirrored))
    assert bits(one) == bits(other)


def simplex(rng, *shape):
    return rng.dirichlet(np.ones(shape[-1]), shape[:-1])


def exponentiated(w, grads, lr, axis):
    """[Kivinen & Warmuth 1997]: w_i exp(-eta g_i) / sum_j w_j exp(-eta g_j), in logarithms throughout."""
    logs = np.log(w)
    for g in grads:
        logs = logs - lr * g
        top = logs.max(axis=axis, keepdims=True)
        logs = logs - top - np.log(np.exp(logs - top).sum(axis=axis, keepdims=True))
    return np.exp(logs)


@pytest.mark.parametrize("machine", MACHINES)
def test_exponentiated_gradient_is_the_closed_form_by_row_and_by_tensor(machine):
    rng = np.random.default_rng(12)
    start = [simplex(rng, 4, 7), simplex(rng, 9), simplex(rng, 2, 3, 1500)]
    grads = [[rng.normal(size=w.shape) * 10 ** rng.uniform(-2, 1) for w in start] for _ in range(60)]
    with kernels.use(machine):
        params = placed(start, "float64")
        feed(params, optim.ExponentiatedGradient(params, lr=0.1), grads, "float64")
        whole = placed([w / w.sum() for w in start], "float64")
        feed(whole, optim.ExponentiatedGradient(whole, lr=0.1, normalize="tensor"), grads, "float64")
    for k, w in enumerate(start):
        gs = [g[k] for g in grads]
        np.testing.assert_allclose(params[k].array, exponentiated(w, gs, 0.1, -1), rtol=2e-12)
        axes = tuple(range(w.ndim))
        np.testing.assert_allclose(whole[k].array, exponentiated(w / w.sum(), gs, 0.1, axes), rtol=2e-12)


def test_the_simplex_is_kept_to_n_roundings_over_1000_steps():
    rng = np.random.default_rng(13)
    for n in (2, 10, 1000):
        w = parameter(simplex(rng, 3, n))
        optimizer = optim.ExponentiatedGradient([w], lr=0.5)
        for _ in range(1000 if n < 1000 else 200):
            feed([w], optimizer, [[rng.normal(size=(3, n))]], "float64")
            assert (w.array >= 0).all()
            assert abs(w.array.sum(axis=-1) - 1).max() <= n * 2.2e-16


def test_huge_gradients_zeros_and_equal_gradients():
    w = parameter([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    optimizer = optim.ExponentiatedGradient([w], lr=1.0)
    before = w.array.copy()
    feed([w], optimizer, [[np.zeros((2, 3))], [np.full((2, 3), 7.5)]], "float64")
    assert (w.array == before).all()  # equal gradients move nothing, to the bit
    feed([w], optimizer, [[np.array([[1e5, -1e5, -1e6], [3e4, -2e4, -2e4]])]], "float64")
    assert w.array[0].tolist() == [0.0, 1.0, 0.0]  # what is zero stays zero, whatever its gradient
    np.testing.assert_allclose(w.array[1], [0.0, 0.375, 0.625], rtol=1e-15)


def test_the_minimum_of_a_linear_loss_on_the_simplex_is_a_corner():
    cost = np.array([0.3, -0.2, 0.1, -0.15])
    w = parameter(np.full(4, 0.25))
    optimizer = optim.ExponentiatedGradient([w], lr=1.0)
    for _ in range(400):
        feed([w], optimizer, [[cost]], "float64")
    assert w.array.argmax() == 1 and w.array[1] > 1 - 1e-8


@pytest.mark.parametrize("machine", MACHINES)
def test_unnormalised_weights_multiply_and_stay_positive(machine):
    rng = np.random.default_rng(14)
    start = [np.abs(p) for p in starting(rng)]
    grads = [[g * 0.01 for g in s] for s in gradients(rng, 60, missing=False)]
    with kernels.use(machine):
        params = placed(start, "float64")
        feed(params, optim.MirrorDescent.preset("egu", params, lr=0.1), grads, "float64")
    for k, p in enumerate(params):
        total = np.sum([g[k] for g in grads], axis=0)
        np.testing.assert_allclose(p.array, start[k] * np.exp(-0.1 * total), rtol=1e-12)
        assert not p.arena.array[p.offset + p.numel() : p.stop].any()


@pytest.mark.parametrize("beta", [0.01, 1.0])
@pytest.mark.parametrize("machine", MACHINES)
def test_hypentropy_is_the_pair_of_positive_weights_of_eg(machine, beta):
    """EG+-: w+ and w- kept as they are in the paper; and psi' = arcsinh(p / 2 beta), its mirror map."""
    rng = np.random.default_rng(15)
    start = rng.normal(size=50)
    grads = [np.where(rng.random(50) < 0.1, 0, rng.normal(size=50)) for _ in range(60)]
    root = np.sqrt(start**2 + 4 * beta**2)
    plus, minus = (root + start) / 2, (root - start) / 2
    dual = np.arcsinh(start / (2 * beta))
    for g in grads:
        plus, minus = plus * np.exp(-0.1 * g), minus * np.exp(0.1 * g)
        dual = dual - 0.1 * g
    with kernels.use(machine):
        p = parameter(start)
        optimizer = optim.MirrorDescent([p], lr=0.1, mirror="hypentropy", beta=beta)
        feed([p], optimizer, [[g] for g in grads], "float64")
    np.testing.assert_allclose(p.array, plus - minus, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(p.array, 2 * beta * np.sinh(dual), rtol=1e-11, atol=1e-12)


def test_any_pair_of_functions_is_a_mirror():
    rng = np.random.default_rng(16)
    start, grads = np.abs(rng.normal(size=(3, 4))) + 0.1, [[g] for g in rng.normal(size=(30, 3, 4))]
    p, q, r, s = (parameter(start) for _ in range(4))
    feed([p], optim.MirrorDescent([p], 0.05, mirror=(mg.log, mg.exp)), grads, "float64")
    feed([q], optim.MirrorDescent([q], 0.05, mirror="entropy"), grads, "float64")
    np.testing.assert_allclose(p.array, q.array, rtol=1e-12)
    feed([r], optim.MirrorDescent([r], 0.05, mirror=(lambda x: x, lambda x: x)), grads, "float64")
    feed([s], optim.SGD([s], 0.05), grads, "float64")
    assert bits([r.array]) == bits([s.array])
    cubic = optim.MirrorDescent([p], 0.01, mirror=(lambda x: x**3, lambda y: y ** (1 / 3)))
    before = p.array.copy()
    feed([p], cubic, [[np.ones((3, 4)) * 0.01]], "float64")
    np.testing.assert_allclose(p.array**3, before**3 - 1e-4, rtol=1e-12)
    assert p.grad.numpy().shape == (3, 4) and p.requires_grad and p.is_leaf


def test_negative_weights_are_refused_by_name_where_the_mirror_has_none():
    with pytest.raises(ValueError, match="ExponentiatedGradient: 'w' has negative weights"):
        optim.ExponentiatedGradient([("w", parameter([0.5, -0.5]))])
    with pytest.raises(ValueError, match=r"params\[0\] has negative weights"):
        optim.MirrorDescent([parameter([float("nan")])], mirror="entropy")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_exponentiated_gradient_in_narrow_types(dtype):
    rng = np.random.default_rng(17)
    start, grads = simplex(rng, 6, 40), [[rng.normal(size=(6, 40))] for _ in range(60)]
    exact, p = parameter(start), parameter(start, dtype)
    wide = [[mg.tensor(g, dtype=dtype).to(mg.float64).array for g in s] for s in grads]
    exact = parameter(p.detach().to(mg.float64).array)
    feed([exact], optim.ExponentiatedGradient([exact], lr=0.05), wide, "float64")
    feed([p], optim.ExponentiatedGradient([p], lr=0.05), grads, dtype)
    error = np.linalg.norm(p.array.astype(np.float64) - exact.array) / np.linalg.norm(exact.array)
    assert error < dict(float32=2e-6, float16=2e-2, bfloat16=0.1)[dtype]
    zero = parameter(start, dtype)
    feed([zero], optim.ExponentiatedGradient([zero]), [[np.zeros((6, 40))]] * 3, dtype)
    assert (zero.array == parameter(start, dtype).array).all()


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


def test_noise_is_one_launch_a_group_and_reads_nothing_back():
    with fake_cupy.installed() as device:
        params = [nn.Parameter(mg.ones(4, 3, device="cuda")) for _ in range(5)]
        optimizer = optim.SGD(params)
        optim.GradientNoise(optimizer)
        for _ in range(2):
            for p in params:
                p.grad = mg.ones(4, 3, device="cuda")
            optimizer.step()
        for p in params:
            p.grad = p.slot
        with device.counting() as counts:
            optimizer.step()
        assert counts.launches["gradient_noise"] == 1 and counts.launches["sgd"] == 1
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


def test_every_mirror_is_asked_of_here():
    assert set(optim.zoo["MirrorDescent"].kernels[0].flags) == {"entropy", "hypentropy"}
