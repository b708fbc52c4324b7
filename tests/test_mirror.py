"""Mirror descent: SGD where the mirror is plain, the closed forms elsewhere, the simplex kept."""

import numpy as np
import pytest
from test_rules import MACHINES, feed, gradients, ours, placed, starting
from transcriptions import Case

import kernels
import minigrad as mg
from minigrad import nn, optim


def bits(arrays):
    return [np.asarray(a).tobytes() for a in arrays]


def parameter(values, dtype="float64"):
    return nn.Parameter(mg.tensor(values, dtype=dtype))


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


def test_every_mirror_is_asked_of_here():
    assert set(optim.zoo["MirrorDescent"].kernels[0].flags) == {"entropy", "hypentropy", "burg"}


@pytest.mark.parametrize("machine", MACHINES)
def test_burgs_mirror_is_its_map_and_back_and_stays_positive_at_the_pole(machine):
    """psi = -sum log p: grad psi = -1 / p, whose inverse is -1 / theta where theta < 0."""
    rng = np.random.default_rng(21)
    start = [rng.uniform(0.1, 2, s) for s in ((5, 3), (1100,))]
    grads = [[rng.normal(size=s) * 0.1 for s in ((5, 3), (1100,))] for _ in range(60)]
    with kernels.use(machine):
        params = placed(start, "float64")
        feed(params, optim.MirrorDescent(params, 0.05, "burg"), grads, "float64")
        for k, p in enumerate(params):
            theta = -1 / start[k] - 0.05 * np.sum([g[k] for g in grads], axis=0)
            np.testing.assert_allclose(p.array, -1 / theta, rtol=1e-12)
            assert not p.arena.array[p.offset + p.numel() : p.stop].any()
        q = parameter([2.0, 0.0, 1.0])
        feed([q], optim.MirrorDescent([q], 1.0, "burg"), [[np.array([-7.0, -7.0, 0.0])]], "float64")
        assert q.array.tolist() == [20.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="'w' has negative weights; under 'burg'"):
        optim.MirrorDescent([("w", parameter([-1.0]))], mirror="burg")


@pytest.mark.parametrize("power", [1.2, 2.0, 3.0, 8.0])
@pytest.mark.parametrize("machine", MACHINES)
def test_the_p_norms_mirror_is_its_map_and_back(machine, power):
    def mapped(x, r):
        norm = (np.abs(x) ** r).sum() ** (1 / r)
        return np.sign(x) * np.abs(x) ** (r - 1) * norm ** (2 - r) if norm else 0 * x

    rng = np.random.default_rng(22)
    shapes = ((5, 3), (), (0,), (40,))
    start = [np.asarray(rng.normal(size=s)) for s in shapes]
    start[3][:] = 0  # the usual start of the p-norm algorithms
    grads = [[np.asarray(rng.normal(size=s)) for s in shapes] for _ in range(40)]
    with kernels.use(machine):
        params = placed(start, "float64")
        feed(params, optim.MirrorDescent(params, 0.01, "p-norm", power=power), grads, "float64")
    for k, p in enumerate(params):
        x = start[k]
        for g in grads:
            x = mapped(mapped(x, power) - 0.01 * g[k], power / (power - 1))
        np.testing.assert_allclose(p.array, x, rtol=1e-9, atol=1e-12)
        assert not p.arena.array[p.offset + p.numel() : p.stop].any()


def test_the_p_norm_of_two_is_descent_and_zero_gradients_move_nothing_in_any_type():
    rng = np.random.default_rng(23)
    start, grads = rng.normal(size=(4, 4)), [[rng.normal(size=(4, 4))] for _ in range(30)]
    p, q = parameter(start), parameter(start)
    feed([p], optim.MirrorDescent([p], 0.05, "p-norm", power=2.0), grads, "float64")
    feed([q], optim.SGD([q], 0.05), grads, "float64")
    np.testing.assert_allclose(p.array, q.array, rtol=1e-12)
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        for mirror in ("burg", "p-norm"):
            weights = parameter(np.array([[0, 1], [3e-5, 6e4]]), dtype)
            before = weights.array.copy()
            optimizer = optim.MirrorDescent([weights], 0.1, mirror, power=6.0)
            feed([weights], optimizer, [[np.zeros((2, 2))]] * 3, dtype)
            assert (weights.array == before).all()
    for power in (1, 0.5, float("nan")):
        with pytest.raises(ValueError, match="Invalid power"):
            optim.MirrorDescent([parameter([1.0])], mirror="p-norm", power=power)


def test_a_sparse_target_among_many_weights_is_found_faster_by_the_power_of_ln_n():
    """The loss on the way grows with ln n for the dual power 2 ln n, with n for power 2 [Gentile 2003]."""
    n = 400
    r = 2 * np.log(n)
    target = np.zeros(n)
    target[:3] = (1.0, -1.0, 0.5)
    lost = {}
    for power, lr in ((2.0, 0.5 / n), (r / (r - 1), 0.5 / r)):
        w, total, draws = parameter(np.zeros(n)), 0.0, np.random.default_rng(1)
        optimizer = optim.MirrorDescent([w], lr, "p-norm", power=power)
        for _ in range(200):
            x = np.sign(draws.normal(size=n))
            off = w.array @ x - target @ x
            total += off**2
            feed([w], optimizer, [[off * x]], "float64")
        lost[power] = total
    assert lost[r / (r - 1)] < 0.5 * lost[2.0], lost
