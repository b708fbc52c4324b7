"""Clipping beside PyTorch's and optax's: norms of every order, and the cases that go wrong elsewhere."""

import inspect

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import utils

torch = oracle("torch")
INF, NAN = float("inf"), float("nan")
ORDERS = [0, 0.5, 1, 1.5, 2, 2.0, 3, 4, 7.3, INF, "inf"]


def parameters(arrays, housed=False):
    """Parameters with these gradients; in an arena, if housed."""
    found = [nn.Parameter(mg.zeros(*a.shape)) for a in arrays]
    if housed:
        optim.SGD(found, lr=0.1)
        for p, a in zip(found, arrays, strict=True):
            (p * mg.tensor(a)).sum().backward()
    else:
        for p, a in zip(found, arrays, strict=True):
            p.grad = mg.tensor(a.copy())
    return found


def theirs(arrays):
    found = [torch.nn.Parameter(torch.zeros(a.shape)) for a in arrays]
    for p, a in zip(found, arrays, strict=True):
        p.grad = torch.tensor(a.copy())
    return found


def gradients():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s).astype(np.float32) for s in [(3, 4), (5,), (), (40, 60), (2, 3, 4)]] + [
        np.zeros((2, 2), np.float32)
    ]


def equal(params, others, rtol=1e-5):
    for p, q in zip(params, others, strict=True):
        assert np.allclose(p.grad.numpy(), q.grad.numpy(), rtol=rtol, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["clip_grad_norm_", "clip_grad_value_", "get_total_norm", "clip_grads_with_norm_"]
)
def test_arguments_and_defaults_are_torchs(name):
    found = []
    for module in (utils, torch.nn.utils):
        signature = inspect.signature(getattr(module, name))
        found.append([(p.name, p.default) for p in signature.parameters.values()])
    assert found[0] == found[1]


@pytest.mark.parametrize("housed", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("max_norm", [0.7, 1e6])
def test_the_norm_and_its_effect_are_torchs_for_every_order(order, max_norm, housed):
    ours, others = parameters(gradients(), housed), theirs(gradients())
    norm = utils.clip_grad_norm_(ours, max_norm, order)
    expected = torch.nn.utils.clip_grad_norm_(others, max_norm, float(order))
    assert np.isclose(norm.item(), expected.item(), rtol=1e-5) and norm.dtype is mg.float32
    equal(ours, others)


@pytest.mark.parametrize("order", ORDERS)
def test_the_two_halves_are_torchs(order):
    ours, others = parameters(gradients()), theirs(gradients())
    norm = utils.get_total_norm([p.grad for p in ours], order)
    expected = torch.nn.utils.get_total_norm([p.grad for p in others], float(order))
    assert np.isclose(norm.item(), expected.item(), rtol=1e-5)
    utils.clip_grads_with_norm_(ours, 0.7, norm)
    torch.nn.utils.clip_grads_with_norm_(others, 0.7, expected)
    equal(ours, others)


def test_the_norm_of_order_0_counts_tensors_of_several_types_too():
    params = parameters([np.ones(3, np.float32), np.zeros(2, np.float32)])
    params.append(nn.Parameter(mg.zeros(2, dtype=mg.float64)))
    params[-1].grad = mg.ones(2, dtype=mg.float64)
    assert utils.clip_grad_norm_(params, 10.0, 0).item() == 2.0


@pytest.mark.parametrize("housed", [False, True])
@pytest.mark.parametrize("value", [0.3, 0.0, INF])
def test_clipping_by_value_is_torchs(value, housed):
    arrays = gradients()
    arrays[0][0] = [INF, -INF, NAN, 0.0]
    ours, others = parameters(arrays), theirs(arrays)
    utils.clip_grad_value_(ours, value, foreach=False)
    torch.nn.utils.clip_grad_value_(others, value)
    for p, q in zip(ours, others, strict=True):
        assert np.array_equal(p.grad.numpy(), q.grad.numpy(), equal_nan=True)


# ------------------------------------------------------------------- inf, nan, zero, negative


@pytest.mark.parametrize("bad", [INF, -INF, NAN])
@pytest.mark.parametrize("order", [1.0, 2.0, INF])
def test_a_norm_that_is_not_finite_is_torchs_and_leaves_the_gradients_unlike_torch(bad, order):
    arrays = gradients()
    arrays[3][7, 7] = bad
    ours, others = parameters(arrays), theirs(arrays)
    norm = utils.clip_grad_norm_(ours, 1.0, order).item()
    expected = torch.nn.utils.clip_grad_norm_(others, 1.0, order).item()
    assert (norm, expected) == (INF, INF) or (np.isnan(norm) and np.isnan(expected))
    for p, a in zip(ours, arrays, strict=True):
        assert np.array_equal(p.grad.numpy(), a, equal_nan=True)
    assert not np.array_equal(others[0].grad.numpy(), arrays[0])  # made 0, or nan


@pytest.mark.parametrize("bad", [INF, NAN])
def test_error_if_nonfinite_raises_as_torch_does_and_changes_nothing(bad):
    arrays = gradients()
    arrays[1][0] = bad
    ours = parameters(arrays)
    with pytest.raises(RuntimeError, match="cannot be clipped"):
        utils.clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
    with pytest.raises(RuntimeError, match="cannot be clipped"):
        torch.nn.utils.clip_grad_norm_(theirs(arrays), 1.0, error_if_nonfinite=True)
    assert np.array_equal(ours[1].grad.numpy(), arrays[1], equal_nan=True)
    with pytest.raises(RuntimeError, match="cannot be clipped"):
        utils.get_total_norm([p.grad for p in ours], error_if_nonfinite=True)


def test_max_norm_of_zero_makes_zeros_and_infinity_leaves_them():
    ours, others = parameters(gradients()), theirs(gradients())
    utils.clip_grad_norm_(ours, INF)
    assert all(np.array_equal(p.grad.numpy(), a) for p, a in zip(ours, gradients(), strict=True))
    utils.clip_grad_norm_(ours, 0.0)
    torch.nn.utils.clip_grad_norm_(others, 0.0)
    assert not any(p.grad.any() for p in ours)
    equal(ours, others)


def test_gradients_of_zero_stay_zero():
    ours = parameters([np.zeros(3, np.float32)])
    for order in ORDERS:
        assert utils.clip_grad_norm_(ours, 1.0, order).item() == 0.0
    utils.clip_grad_adaptive_(ours)
    assert ours[0].grad.tolist() == [0.0, 0.0, 0.0]


def test_no_gradients_at_all_have_norm_zero_as_in_torch():
    assert utils.clip_grad_norm_([], 1.0).item() == torch.nn.utils.clip_grad_norm_([], 1.0).item() == 0.0
    bare = nn.Parameter(mg.ones(2))
    assert utils.clip_grad_norm_([bare], 1.0).item() == 0.0
    utils.clip_grad_value_([bare], 1.0)
    utils.clip_grad_adaptive_([bare])


@pytest.mark.parametrize("scale", [1e20, 1e30, 3e36])
def test_the_norm_stays_finite_where_torchs_overflows(scale):
    arrays = [(a * scale).astype(np.float32) for a in gradients()]
    exact = np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in arrays))
    ours, others = parameters(arrays, housed=True), theirs(arrays)
    norm = utils.clip_grad_norm_(ours, 1.0)
    assert np.isclose(norm.item(), exact, rtol=1e-6)
    assert torch.nn.utils.clip_grad_norm_(others, 1.0).item() == INF
    after = np.sqrt(sum((p.grad.numpy().astype(np.float64) ** 2).sum() for p in ours))
    assert np.isclose(after, 1.0, rtol=1e-5)


REFUSED = {
    "negative norm": (lambda p: utils.clip_grad_norm_(p, -1.0), "max_norm=-1.0; it must not be negative"),
    "nan": (lambda p: utils.clip_grad_norm_(p, NAN), "max_norm=nan"),
    "second half": (lambda p: utils.clip_grads_with_norm_(p, -1.0, mg.tensor(1.0)), "max_norm=-1.0"),
    "value": (lambda p: utils.clip_grad_value_(p, -1.0), "clip_value=-1.0"),
    "nan value": (lambda p: utils.clip_grad_value_(p, NAN), "clip_value=nan"),
    "order": (lambda p: utils.clip_grad_norm_(p, 1.0, -2), "norm_type=-2; it must be 0, positive, or inf"),
    "adaptive": (lambda p: utils.clip_grad_adaptive_(p, -0.1), "clip=-0.1"),
    "adaptive nan": (lambda p: utils.clip_grad_adaptive_(p, NAN), "clip=nan"),
    "adaptive eps": (lambda p: utils.clip_grad_adaptive_(p, 0.1, -1.0), "eps=-1.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_and_changes_nothing(name):
    call, message = REFUSED[name]
    (p,) = parameters([np.array([3.0, 4.0], np.float32)])
    with pytest.raises(ValueError, match=message):
        call([p])
    assert p.grad.tolist() == [3.0, 4.0]


# --------------------------------------------------------------------------- adaptive clipping


def adaptive(weight, grad, clip, eps):
    """Brock et al. 2021, eq. 3, unit by unit, in float64."""
    g, w = grad.astype(np.float64), weight.astype(np.float64)
    one_unit = sum(n > 1 for n in g.shape) < 2
    units = [np.s_[...]] if one_unit else [np.s_[k] for k in range(len(g))]
    out = np.array(g)
    for unit in units:
        limit = clip * max(np.linalg.norm(w[unit]), eps)
        norm = np.linalg.norm(g[unit])
        if norm > limit:
            out[unit] = g[unit] * (limit / norm)
    return out


SHAPES = [(), (7,), (1, 5), (5, 1), (6, 30), (4, 3, 5), (8, 3, 3, 3), (2000,)]


@pytest.mark.parametrize("housed", [False, True])
@pytest.mark.parametrize(("clip", "eps"), [(0.01, 1e-3), (0.5, 1e-3), (0.1, 2.0), (0.0, 1e-3), (1e6, 0.0)])
def test_adaptive_clipping_is_the_papers(clip, eps, housed):
    rng = np.random.default_rng(0)
    params = [nn.Parameter(mg.tensor(rng.standard_normal(s).astype(np.float32))) for s in SHAPES]
    if housed:
        optim.SGD(params, lr=0.1)
    expected = []
    for p in params:
        g = (rng.standard_normal(p.shape) * 10.0 ** rng.integers(-3, 2)).astype(np.float32)
        (p * mg.tensor(g)).sum().backward()
        expected.append(adaptive(p.numpy(force=True), g, clip, eps))
    utils.clip_grad_adaptive_(params, clip, eps)
    for p, g in zip(params, expected, strict=True):
        assert np.allclose(p.grad.numpy(), g, rtol=1e-5, atol=1e-12)


def test_adaptive_clipping_is_optaxs():
    """Whose layouts have the outputs last: (in, out), (H, W, in, out)."""
    optax = oracle("optax")
    rng = np.random.default_rng(0)
    to_theirs = {(): (), (6,): (0,), (6, 30): (1, 0), (8, 3, 3, 3): (2, 3, 1, 0)}
    rule = optax.adaptive_grad_clip(0.05, 1e-3)
    for shape, order in to_theirs.items():
        w, g = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        p = nn.Parameter(mg.tensor(w))
        p.grad = mg.tensor(g)
        utils.clip_grad_adaptive_(p, 0.05)
        w, g = (np.transpose(a, order) for a in (w, g))
        expected, _ = rule.update({"w": g}, rule.init({"w": w}), {"w": w})
        assert np.allclose(np.transpose(p.grad.numpy(), order), np.asarray(expected["w"]), rtol=1e-5)


def test_adaptive_clipping_treats_each_unit_alone_and_leaves_one_that_is_not_finite():
    p = nn.Parameter(mg.ones(4, 2))
    p.grad = mg.tensor([[INF, 1.0], [NAN, 1.0], [1e-6, 1e-6], [1e30, 1e30]])
    utils.clip_grad_adaptive_(p, 0.01)
    found = p.grad.numpy()
    assert found[0].tolist() == [INF, 1.0] and np.isnan(found[1, 0]) and found[1, 1] == 1.0
    assert np.array_equal(found[2], np.float32([1e-6, 1e-6]))
    assert np.allclose(found[3], 0.01, rtol=1e-5)


def test_adaptive_clipping_of_a_gradient_with_gaps_a_tied_parameter_and_a_half_type():
    p = nn.Parameter(mg.ones(3, 2))
    p.grad = mg.tensor([[30.0, 1.0, 0.0], [40.0, 1.0, 0.0]]).T
    seen = p.grad._version
    utils.clip_grad_adaptive_([p, p], 0.5)
    half = 0.5 * np.sqrt(2)
    assert np.allclose(p.grad.numpy(), [[0.6 * half, 0.8 * half], [0.5, 0.5], [0, 0]], rtol=1e-5)
    assert p.grad._version == seen + 1
    q = nn.Parameter(mg.ones(2, 2, dtype=mg.bfloat16))
    q.grad = mg.full((2, 2), 8.0, dtype=mg.bfloat16)
    utils.clip_grad_adaptive_(q, 1.0)
    assert q.grad.dtype is mg.bfloat16 and q.grad.float().tolist() == [[1.0, 1.0], [1.0, 1.0]]
