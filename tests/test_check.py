"""gradcheck finds wrong gradients and names them; products with Jacobians and Hessians are PyTorch's."""

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad.autograd import op
from minigrad.check import GradcheckError


def leaf(*shape, seed=0):
    return mg.tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape), requires_grad=True)


@op
def right(x):
    return x * x * x


right.vjp(x=lambda g, x: g * x * x * 3.0)


@op
def wrong(x):
    return x * x * x


wrong.vjp(x=lambda g, x: g * x * x * 2.0)


@op
def wrong_in_one_place(x):
    return x * x * x


wrong_in_one_place.vjp(x=lambda g, x: g * x * x * mg.tensor([3.0, 3.0, 3.5], dtype=mg.float64))


@op
def wrong_again(x):
    return x * x * x


wrong_again.vjp(
    x=lambda g, x: g * x.detach() * x * 3.0
)  # right, but its own gradient is half of what it should be


both_modes = pytest.mark.parametrize("fast_mode", [False, True])


@both_modes
def test_right_gradients_pass(fast_mode):
    assert mg.gradcheck(right, leaf(3), fast_mode=fast_mode)
    assert mg.gradgradcheck(right, leaf(3), fast_mode=fast_mode)
    function = lambda a, b, k: (a @ b * k, a.sum(1))  # noqa: E731
    assert mg.gradcheck(function, (leaf(2, 3), leaf(3, 2, seed=1), 3.0), fast_mode=fast_mode)
    assert mg.gradgradcheck(function, (leaf(2, 3), leaf(3, 2, seed=1), 3.0), fast_mode=fast_mode)


@both_modes
def test_wrong_gradients_fail(fast_mode):
    with pytest.raises(GradcheckError, match="by backward"):
        mg.gradcheck(wrong, leaf(3), fast_mode=fast_mode)
    assert mg.gradcheck(wrong, leaf(3), fast_mode=fast_mode, raise_exception=False) is False


@both_modes
def test_the_worst_entry_is_named(fast_mode):
    x = mg.tensor([1.0, 1.0, 2.0], dtype=mg.float64, requires_grad=True)
    with pytest.raises(GradcheckError) as caught:
        mg.gradcheck(lambda a, b: (b * 1.0, wrong_in_one_place(a)), (x, leaf(2)), fast_mode=fast_mode)
    told = str(caught.value)
    assert "d outputs[1][2] / d inputs[0][2] is 14 by backward, 12 by differences" in told


@both_modes
def test_wrong_second_gradients_fail_where_first_ones_pass(fast_mode):
    assert mg.gradcheck(wrong_again, leaf(3), fast_mode=fast_mode)
    with pytest.raises(GradcheckError):
        mg.gradgradcheck(wrong_again, leaf(3), fast_mode=fast_mode)
    assert not mg.gradgradcheck(wrong_again, leaf(3), fast_mode=fast_mode, raise_exception=False)


@both_modes
def test_a_missing_gradient_is_a_wrong_one(fast_mode):
    with pytest.raises(GradcheckError, match="is 0 by backward, 2 by differences"):
        mg.gradcheck(lambda x: x.detach() * 2.0, leaf(2), fast_mode=fast_mode)
    with pytest.raises(GradcheckError, match="is 0 by backward, 2 by differences"):
        mg.gradcheck(lambda x, y: x.detach() * 2.0 + y, (leaf(2), leaf(2)), fast_mode=fast_mode)
    assert mg.gradcheck(lambda x: mg.ones(2, dtype=mg.float64), leaf(2), fast_mode=fast_mode)


def test_nan_fails():
    with pytest.raises(GradcheckError):
        mg.gradcheck(lambda x: (x - 1.5).log(), leaf(2))


def test_gradients_that_differ_from_pass_to_pass_fail():
    passes = []

    def drifting(x):
        y = x * 1.0
        y.register_hook(lambda g: g * (1.0 + 1e-9 * (passes.append(0) or len(passes))))
        return y * y

    with pytest.raises(GradcheckError, match=r"two backward passes.*nondet_tol is 0\.0"):
        mg.gradcheck(drifting, leaf(2))
    assert mg.gradcheck(drifting, leaf(2), nondet_tol=1e-6)


def test_tolerances_count():
    assert mg.gradcheck(wrong, leaf(3), atol=10.0)
    assert mg.gradcheck(wrong, leaf(3), rtol=0.5)
    assert not mg.gradcheck(right, leaf(3), eps=0.1, raise_exception=False)


def test_nothing_of_the_caller_is_touched():
    x = leaf(3)
    before = x.tolist()
    mg.gradcheck(right, x)
    mg.gradgradcheck(right, x)
    assert x.grad is None and x.tolist() == before and x._version == 0


def test_what_gradcheck_refuses():
    with pytest.raises(TypeError, match=r"gradcheck: inputs\[1\] is float32; .*\.double\(\)"):
        mg.gradcheck(lambda a, b: a * b, (leaf(2), mg.ones(2, requires_grad=True)))
    with pytest.raises(ValueError, match=r"no input requires gradients; call requires_grad_\(\)"):
        mg.gradcheck(right, mg.ones(2, dtype=mg.float64))
    with pytest.raises(ValueError, match="no output of func requires gradients"):
        mg.gradgradcheck(lambda x: x.detach(), leaf(2))


# ------------------------------------------------------------------------------------- products and matrices


def vector_valued(x, y):
    return x.exp() * y.sum(), (x * y[0]).sin().sum(0)


def single_input(x):
    return (x * x).sum(1) * x[0, 0]


def number_valued(x, y):
    return (x**3).sum() * (y * y).sum() + x.sum()


def number_of_one(x):
    return (x**3).sum() + x[0, 0] * x[1, 1]


def unused(x, y):
    return (x * x).sum()


def inputs(m, count):
    rng = np.random.default_rng(0)
    made = [m.tensor(rng.standard_normal((2, 2))) for _ in range(2)]
    return made[0] if count == 1 else tuple(made)


def likes(m, t):
    rng = np.random.default_rng(1)
    draw = lambda a: m.tensor(rng.standard_normal(tuple(a.shape)))  # noqa: E731
    return tuple(draw(a) for a in t) if isinstance(t, tuple) else draw(t)


def plain(result):
    if isinstance(result, tuple):
        return [plain(r) for r in result]
    return result.detach().numpy()


def assert_equal(ours, theirs):
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_equal(a, b)
    else:
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


PRODUCTS = [
    ("vjp", vector_valued, 2),
    ("vjp", single_input, 1),
    ("vjp", number_valued, 2),
    ("jvp", vector_valued, 2),
    ("jvp", single_input, 1),
    ("jvp", unused, 2),
    ("hvp", number_valued, 2),
    ("hvp", number_of_one, 1),
    ("hvp", unused, 2),
    ("vhp", number_valued, 2),
    ("vhp", number_of_one, 1),
]


@pytest.mark.oracle
@pytest.mark.parametrize("name, function, count", PRODUCTS)
def test_products_equal_torch(name, function, count):
    torch = oracle("torch")

    def compute(m, product):
        x = inputs(m, count)
        y = function(*x) if count > 1 else function(x)
        return product(function, x, likes(m, y if name == "vjp" else x))

    ours = compute(mg, getattr(mg, name))
    theirs = compute(torch, getattr(torch.autograd.functional, name))
    assert not any(t.requires_grad for part in ours for t in (part if isinstance(part, tuple) else (part,)))
    assert_equal(plain(ours), plain(theirs))


MATRICES = [
    ("jacobian", vector_valued, 2),
    ("jacobian", single_input, 1),
    ("jacobian", number_valued, 2),
    ("jacobian", unused, 2),
    ("hessian", number_valued, 2),
    ("hessian", number_of_one, 1),
    ("hessian", unused, 2),
]


@pytest.mark.oracle
@pytest.mark.parametrize("name, function, count", MATRICES)
def test_matrices_equal_torch(name, function, count):
    torch = oracle("torch")
    ours = getattr(mg, name)(function, inputs(mg, count))
    theirs = getattr(torch.autograd.functional, name)(function, inputs(torch, count))
    assert_equal(plain(ours), plain(theirs))


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["vjp", "jvp", "hvp", "jacobian", "hessian"])
def test_create_graph_makes_them_differentiable(name):
    torch = oracle("torch")

    def gradient(m, compute):
        x = inputs(m, 1).requires_grad_()
        given = () if name in ("jacobian", "hessian") else (likes(m, x),)
        function = (lambda t: (t**3) * t[0, 0]) if name in ("vjp", "jvp", "jacobian") else number_of_one
        result = compute(function, x, *given, create_graph=True)
        (result if isinstance(result, m.Tensor) else result[1]).sum().backward()
        return x.grad.detach().numpy()

    ours = gradient(mg, getattr(mg, name))
    theirs = gradient(torch, getattr(torch.autograd.functional, name))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_the_names_of_torch_autograd():
    """torch.autograd.functional's functions, and gradcheck, under the names they have there."""
    from minigrad.autograd import functional, gradcheck, gradgradcheck

    assert (functional.hvp, functional.jacobian, gradcheck) == (mg.hvp, mg.jacobian, mg.gradcheck)
    assert mg.autograd.functional.vjp is mg.vjp and gradgradcheck is mg.gradgradcheck


def test_a_hessian_is_symmetric_and_its_products_agree():
    x = inputs(mg, 1)
    h = mg.hessian(number_of_one, x).reshape(4, 4).numpy()
    np.testing.assert_array_equal(h, h.T)
    v = likes(mg, x)
    np.testing.assert_allclose(
        mg.hvp(number_of_one, x, v)[1].numpy().ravel(), h @ v.numpy().ravel(), rtol=1e-12
    )


def test_recording_may_be_off_around_them():
    x = inputs(mg, 1)
    with mg.no_grad():
        assert_equal(plain(mg.hvp(number_of_one, x, x)), plain(mg.hvp(number_of_one, x, x)))
        assert not mg.is_grad_enabled()
    assert x.grad is None and not x.requires_grad


def test_v_may_be_left_out_for_one_element():
    x = mg.tensor(2.0, dtype=mg.float64)
    cube = lambda t: t**3  # noqa: E731
    assert [t.item() for t in (mg.vjp(cube, x)[1], mg.jvp(cube, x)[1], mg.hvp(cube, x)[1])] == [
        12.0,
        12.0,
        12.0,
    ]


def test_what_they_refuse():
    x, y = inputs(mg, 2)
    with pytest.raises(ValueError, match="jvp: v may only be left out for a single element"):
        mg.jvp(single_input, x)
    with pytest.raises(ValueError, match=r"vjp: v has shapes \[\(2, 2\)\]; they must be \[\(2,\)\]"):
        mg.vjp(single_input, x, x)
    with pytest.raises(ValueError, match="hvp: the function must return one Tensor with one element"):
        mg.hvp(single_input, x, x)
    with pytest.raises(TypeError, match=r"vjp: inputs\[0\] is float"):
        mg.vjp(lambda t: t, (2.0,))
    with pytest.raises(ValueError, match="vectorize=True"):
        mg.jacobian(single_input, x, vectorize=True)
    for compute in (
        lambda: mg.vjp(unused, (x, y), mg.ones((), dtype=mg.float64), strict=True),
        lambda: mg.jacobian(unused, (x, y), strict=True),
        lambda: mg.hessian(unused, (x, y), strict=True),
    ):
        with pytest.raises(RuntimeError, match=r"does not depend on inputs\[1\]; strict=False gives zeros"):
            compute()
