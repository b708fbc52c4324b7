"""Clipping of gradients that lie in an arena and of those that do not: one norm, three launches, no read."""

import fake_cupy
import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad import nn
from minigrad.nn import utils


def parameters(gradients, arena=False, dtype=None):
    params = [nn.Parameter(mg.zeros(*np.shape(g), dtype=dtype or mg.tensor(g).dtype)) for g in gradients]
    if arena:
        mg.optim.SGD(params, lr=0.1)
    for p, g in zip(params, gradients, strict=True):
        p.grad = mg.tensor(g, dtype=p.dtype)
        if arena:
            p.slot.array[...] = p.grad.array
            p.grad = p.slot
    return params


def several(dtype="float64"):
    rng = np.random.default_rng(9)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((3, 4), (5,), (2048,), ())]


@pytest.mark.oracle
@pytest.mark.parametrize("arena", [False, True])
@pytest.mark.parametrize("norm_type", [2.0, 1, 3.0, 0.5, float("inf")])
@pytest.mark.parametrize("max_norm", [0.7, 1e6])
def test_clipping_by_norm_is_torchs(arena, norm_type, max_norm):
    torch = oracle("torch")
    gradients = several()
    theirs = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients]
    for p, g in zip(theirs, gradients, strict=True):
        p.grad = torch.tensor(g)
    ours = parameters(gradients, arena)
    norm = utils.clip_grad_norm_(iter(ours), max_norm, norm_type, foreach=True)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert norm.shape == () and norm.dtype == mg.float64 and not norm.requires_grad
    np.testing.assert_allclose(norm.item(), expected.item(), rtol=1e-12)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad, rtol=1e-12)
    np.testing.assert_allclose(
        utils.get_total_norm([mg.tensor(g) for g in gradients], norm_type).item(), expected.item(), rtol=1e-12
    )


@pytest.mark.oracle
def test_clipping_in_two_steps_and_by_value_are_torchs():
    torch = oracle("torch")
    gradients = several()
    ours = parameters(gradients)
    utils.clip_grads_with_norm_(ours, 0.7, utils.get_total_norm([p.grad for p in ours]))
    whole = parameters(gradients)
    utils.clip_grad_norm_(whole, 0.7)
    for p, q in zip(ours, whole, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())
    for arena in (False, True):
        ours = parameters(gradients, arena)
        utils.clip_grad_value_(ours, 0.3)
        for p, g in zip(ours, gradients, strict=True):
            np.testing.assert_array_equal(p.grad.numpy(), torch.tensor(g).clamp(-0.3, 0.3))


def test_a_single_parameter_duplicates_and_missing_gradients():
    (p,) = parameters([np.array([3.0, 4.0])])
    assert utils.clip_grad_norm_(p, 1.0).item() == 5.0
    np.testing.assert_allclose(p.grad.numpy(), [0.6, 0.8], rtol=1e-6)
    (p,) = parameters([np.array([3.0, 4.0])])
    bare = nn.Parameter(mg.zeros(3))
    assert utils.clip_grad_norm_([p, bare, p], 1.0).item() == 5.0  # once, though it stands there twice
    np.testing.assert_allclose(p.grad.numpy(), [0.6, 0.8], rtol=1e-6)
    assert bare.grad is None
    (empty,) = parameters([np.zeros((0, 2))])
    assert utils.clip_grad_norm_([p, empty], 1.0, float("inf")).item() == p.grad.numpy().max()
    assert utils.clip_grad_norm_([bare], 1.0).item() == 0.0 == utils.clip_grad_norm_([], 1.0).item()


def test_some_parameters_of_an_arena_are_clipped_alone():
    gradients = [np.full(1500, 1.0), np.full(3, 2.0), np.full(3, 3.0), np.full(3, 4.0)]
    a, b, c, d = parameters(gradients, arena=True)
    c.grad = None
    norm = utils.clip_grad_norm_([d, a], 1e-3)
    np.testing.assert_allclose(norm.item(), np.sqrt(1500 + 3 * 16))
    assert b.grad.numpy().tolist() == [2, 2, 2] and d.grad.numpy().max() < 1e-3
    assert a.arena.gradient[b.stop : c.stop].tolist()[:3] == [3, 3, 3]  # not listed, not touched


@pytest.mark.oracle
@pytest.mark.parametrize("arena", [False, True])
def test_the_norm_is_finite_where_torchs_overflows(arena):
    """Four gradients of 1e20 in float32: their squares are beyond it, their norm is 2e20."""
    torch = oracle("torch")
    gradient = np.full(4, 1e20, np.float32)
    assert torch.linalg.vector_norm(torch.tensor(gradient)).item() == float("inf")
    (p,) = parameters([gradient], arena)
    np.testing.assert_allclose(utils.clip_grad_norm_(p, 1.0).item(), 2e20, rtol=1e-6)
    np.testing.assert_allclose(p.grad.numpy(), 0.5, rtol=1e-6)


@pytest.mark.parametrize("tiny", [1e-25, 1e-35, 1e-40])
def test_the_norm_of_tiny_gradients_does_not_underflow(tiny):
    (p,) = parameters([np.full(4, tiny, np.float32)])
    np.testing.assert_allclose(utils.clip_grad_norm_(p, 1.0).item(), 2 * np.float32(tiny), rtol=1e-5)
    np.testing.assert_array_equal(p.grad.numpy(), np.full(4, tiny, np.float32))


@pytest.mark.parametrize("norm_type", [2.0, 3.0, float("inf")])
@pytest.mark.parametrize("arena", [False, True])
@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan")])
def test_a_norm_that_is_not_finite_leaves_the_gradients_and_tells(bad, arena, norm_type):
    """PyTorch would silently make them 0 and nan. The norm that comes back says what to do: skip the step."""
    gradients = [np.array([1.0, bad, 2.0]), np.array([3.0])]
    ours = parameters(gradients, arena)
    norm = utils.clip_grad_norm_(ours, 1.0, norm_type).item()
    assert np.isnan(norm) if np.isnan(bad) else norm == float("inf")
    for p, g in zip(ours, gradients, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), g)
    with pytest.raises(
        RuntimeError, match=r"total norm of order .* is (inf|nan), so the gradients cannot be clipped"
    ):
        utils.clip_grad_norm_(ours, 1.0, norm_type, error_if_nonfinite=True)


def test_zero_gradients_and_a_zero_max_norm():
    (p,) = parameters([np.zeros(3)])
    assert utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True).item() == 0.0
    assert p.grad.numpy().tolist() == [0, 0, 0]
    (p,) = parameters([np.ones(3)])
    assert utils.clip_grad_norm_(p, 0.0).item() > 0
    assert p.grad.numpy().tolist() == [0, 0, 0]
    (p,) = parameters([np.ones(3)])
    utils.clip_grad_norm_(p, float("inf"))
    assert p.grad.numpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", [mg.float16, mg.bfloat16])
def test_half_precision_gradients_have_a_norm_in_single(dtype):
    """100 gradients of 30,000: the norm, 300,000, is more than float16 holds."""
    (p,) = parameters([np.full(100, 30000.0)], dtype=dtype)
    norm = utils.clip_grad_norm_(p, 3.0)
    assert norm.dtype == mg.float32 and p.grad.dtype == dtype
    np.testing.assert_allclose(norm.item(), 3e5, rtol=1e-2)
    np.testing.assert_allclose(p.grad.float().numpy(), 0.3, rtol=1e-2)


def test_parameters_of_several_types_have_one_norm():
    single, double = parameters([np.array([3.0], np.float32)]), parameters([np.array([4.0])])
    norm = utils.clip_grad_norm_(single + double, 1.0)
    assert norm.item() == 5.0 and norm.dtype == mg.float64
    np.testing.assert_allclose(double[0].grad.numpy(), 0.8, rtol=1e-6)
    np.testing.assert_allclose(single[0].grad.numpy(), 0.6, rtol=1e-6)


def test_a_graph_that_needs_the_gradient_notices_the_clipping():
    (p,) = parameters([np.array([3.0, 4.0])])
    w = mg.ones(2, dtype=mg.float64, requires_grad=True)
    y = (w * p.grad).sum()
    utils.clip_grad_norm_(p, 1.0)
    with pytest.raises(RuntimeError, match="modified in place"):
        y.backward()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda p: utils.clip_grad_norm_(p, -1.0), "max_norm=-1.0; it must not be negative"),
        (lambda p: utils.clip_grad_norm_(p, float("nan")), "max_norm=nan"),
        (
            lambda p: utils.clip_grads_with_norm_(p, -1.0, mg.tensor(1.0)),
            "clip_grads_with_norm_: max_norm=-1.0",
        ),
        (lambda p: utils.clip_grad_norm_(p, 1.0, float("nan")), "norm_type=nan; it must be 0, positive, or"),
        (lambda p: utils.clip_grad_norm_(p, 1.0, -2.0), "norm_type=-2.0"),
        (lambda p: utils.clip_grad_value_(p, -1.0), "clip_value=-1.0"),
    ],
)
def test_clipping_refuses_what_makes_no_sense(call, match):
    (p,) = parameters([np.array([3.0, 4.0])])
    with pytest.raises(ValueError, match=match):
        call(p)
    assert p.grad.numpy().tolist() == [3, 4]


def test_clipping_an_arena_is_three_launches_and_no_read():
    with fake_cupy.installed() as device:
        model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 2)).to("cuda")
        mg.optim.SGD(model.parameters(), lr=0.1)
        model(mg.ones(4, 40, device="cuda")).sum().backward()
        utils.clip_grad_norm_(model.parameters(), 1.0)
        with device.counting() as step:
            norm = utils.clip_grad_norm_(model.parameters(), 1.0)
        assert step.launches == {"row_norms": 1, "total_norm": 1, "clip_norm": 1}
        assert step.host_reads == [] and step.uploads == []
        with device.counting() as step:
            utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
        assert len(step.host_reads) == 1
        assert norm.item() > 0


def test_the_pads_of_an_arena_stay_zero():
    a, b = parameters([np.full(5, 3.0), np.full(7, 4.0)], arena=True)
    utils.clip_grad_norm_([a, b], 1.0)
    utils.clip_grad_value_([a, b], 0.1)
    gradient = np.asarray(a.arena.gradient).copy()
    gradient[a.offset : a.offset + 5] = gradient[b.offset : b.offset + 7] = 0
    assert not gradient.any()
