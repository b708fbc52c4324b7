"""Noise on purpose: what is drawn is a function of seed, parameter, element and step, and has its law.

Gradient noise goes with any optimizer; perturbed descent is a rule, which tests/test_rules.py leaves to this
file, because a zero gradient is what it waits for.
"""

import fake_cupy
import numpy as np
import pytest
from oracle import oracle
from test_rules import MACHINES, close, feed, gradients, placed, starting
from transcriptions.descent import sgd

import kernels
import minigrad as mg
from minigrad import nn, optim
from minigrad.random import philox4x32


def bits(arrays):
    return [np.asarray(a).tobytes() for a in arrays]


def parameter(values, dtype="float64"):
    return nn.Parameter(mg.tensor(values, dtype=dtype))


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
