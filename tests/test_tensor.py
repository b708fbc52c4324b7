"""The Tensor itself: changing in place and versions, conversion, leaving minigrad, printing."""

import copy
import pickle

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(values, requires_grad=True)


# ------------------------------------------------------------------------------------------ changing in place


def test_in_place_methods_change_the_memory_that_views_see():
    x = mg.zeros(2, 3)
    row, memory = x[0], x.array
    row.add_(1)
    x.mul_(2).sub_(1)
    assert x.array is memory and x.tolist() == [[1, 1, 1], [-1, -1, -1]] and row.tolist() == [1, 1, 1]
    x += 1
    x *= mg.tensor([1.0, 2.0, 3.0])
    x /= 2
    x -= 0.5
    assert x.array is memory and row.tolist() == [0.5, 1.5, 2.5]
    i = mg.tensor([5, 6])
    i //= 2
    i **= 2
    i %= 5
    i &= 5
    i |= 2
    i ^= 1
    i <<= 2
    i >>= 1
    assert i.tolist() == [((2**2 % 5 & 5 | 2) ^ 1) * 2, ((3**2 % 5 & 5 | 2) ^ 1) * 2] and i.dtype is mg.int64


NAMES = """exp exp2 expm1 log log2 log10 log1p sigmoid sqrt rsqrt reciprocal sin cos tan asin acos atan sinh
    cosh tanh asinh atanh erf erfc erfinv relu abs floor ceil trunc frac sign square round logit nan_to_num
    neg negative arcsin absolute sgn fix deg2rad rad2deg""".split()
WITH_OTHER = """add sub mul div pow remainder fmod floor_divide true_divide divide multiply subtract
    atan2 hypot xlogy copysign eq ne lt le gt ge not_equal less less_equal greater greater_equal
    clamp_min clamp_max""".split()


@pytest.mark.parametrize("name", NAMES)
def test_in_place_functions_equal_their_plain_form(name):
    x = mg.tensor([0.25, 0.5, 0.75])
    plain = getattr(x, name)()
    assert getattr(x, f"{name}_")() is x
    assert x.tolist() == plain.tolist()


@pytest.mark.parametrize("name", WITH_OTHER)
def test_in_place_functions_of_two_equal_their_plain_form(name):
    x, y = mg.tensor([0.25, 0.5, 0.75]), mg.tensor([0.75, 0.5, 0.25])
    plain = getattr(x, name)(y)
    assert getattr(x, f"{name}_")(y) is x
    assert x.dtype is mg.float32 and x.tolist() == plain.float().tolist()


def test_in_place_forms_with_further_arguments():
    x = mg.tensor([1.0, 2.0, 3.0])
    assert x.clone().clamp_(1.5, 2.5).tolist() == [1.5, 2, 2.5]
    assert x.clone().clip_(max=2).tolist() == [1, 2, 2]
    assert x.clone().addcmul_(x, x, value=2).tolist() == [3, 10, 21]
    assert x.clone().addcdiv_(x, x, value=0.5).tolist() == [1.5, 2.5, 3.5]
    assert x.clone().lerp_(x * 0, 0.5).tolist() == [0.5, 1, 1.5]
    assert x.clone().add_(x, alpha=-1).tolist() == [0, 0, 0]
    assert x.clone().copy_(mg.tensor(7)).tolist() == [7, 7, 7]
    assert x.clone().fill_(mg.tensor(4.0)).zero_().tolist() == [0, 0, 0]
    i = mg.tensor([1, 2])
    assert i.copy_(mg.tensor([1.7, -2.7])).tolist() == [1, -2] and i.fill_(2.7).tolist() == [2, 2]
    assert mg.tensor([True, False]).logical_not_().tolist() == [False, True]
    assert mg.tensor([1, 2]).bitwise_not_().tolist() == [-2, -3]
    assert mg.tensor([1.0, 0.0]).logical_and_(mg.tensor([2.0, 2.0])).tolist() == [1, 0]


def test_in_place_on_a_graph_tensor_rebinds_it_and_gradients_follow():
    x = leaf(1.0, 2.0)
    y = x * 3
    y += 1
    y.mul_(x).clamp_(max=13)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [6 * 1 + 1, 0])
    z = x.detach().clone()
    z.copy_(x * 2)  # a tensor outside the graph enters it
    assert z.requires_grad
    x.grad = None
    (z * z).sum().backward()
    assert x.grad.tolist() == [8, 16]


def test_overwritten_values_get_no_gradient_and_the_new_ones_do():
    x, y = leaf(1.0, 2.0), leaf(5.0)
    z = x * 3
    z.fill_(2)
    (z * x).sum().backward()
    assert x.grad.tolist() == [2, 2]
    z = x * 3
    z.copy_(y)
    z.sum().backward()
    assert y.grad.tolist() == [2] and x.grad.tolist() == [2, 2]


def test_what_a_graph_still_needs_is_guarded_by_versions():
    x = leaf(1.0, 2.0)
    w = mg.tensor([3.0, 4.0])
    y = (x * w).sum()
    w.add_(1)
    with pytest.raises(RuntimeError, match="a tensor that mul needs was modified in place after it was used"):
        y.backward()
    base = mg.ones(2, 2)
    y = (x * base[0]).sum()
    base.zero_()  # the view's memory changes through its base
    with pytest.raises(RuntimeError, match="modified in place"):
        y.backward()
    w = mg.tensor([3.0, 4.0])
    y = (x + w).sum()
    w.add_(1)  # a sum needs none of its operands
    y.backward()
    assert x.grad.tolist() == [1, 1]


IN_PLACE_REFUSED = {
    "leaf": (
        lambda: leaf(1.0).add_(1),
        RuntimeError,
        r"add_: a leaf that requires gradients .*use no_grad\(\)",
    ),
    "leaf operator": (lambda: leaf(1.0).__imul__(2), RuntimeError, r"\*=: a leaf that requires gradients"),
    "view in a graph": (lambda: (leaf(1.0, 2.0) * 2)[0].add_(1), RuntimeError, "add_: a view in a graph"),
    "random fill of a leaf": (
        lambda: leaf(1.0).uniform_(),
        RuntimeError,
        "uniform_: a leaf that requires gradients",
    ),
    "shape": (lambda: mg.ones(2).add_(mg.ones(3, 2)), ValueError, r"add_: the result has shape \(3, 2\)"),
    "category": (
        lambda: mg.tensor([1]).add_(1.5),
        TypeError,
        "add_: a float32 result does not fit into a int64",
    ),
    "integer division": (
        lambda: mg.tensor([1]).__itruediv__(2),
        TypeError,
        "/=: a float32 result does not fit",
    ),
    "bools": (
        lambda: mg.tensor([True]).add_(1),
        TypeError,
        "add_: a int64 result does not fit into a bool tensor",
    ),
    "fill_ with a vector": (
        lambda: mg.ones(2).fill_(mg.ones(2)),
        ValueError,
        r"fill_: the value has shape \(2,\)",
    ),
    "fill_ with a string": (lambda: mg.ones(2).fill_("a"), TypeError, "fill_: str operand"),
    "copy_ of a list": (
        lambda: mg.ones(2).copy_([1, 2]),
        TypeError,
        "copy_: list argument; make it a Tensor",
    ),
    "copy_ that does not fit": (
        lambda: mg.ones(2).copy_(mg.ones(3)),
        ValueError,
        r"copy_: .*\(3,\) does not broadcast",
    ),
}


@pytest.mark.parametrize("what", IN_PLACE_REFUSED)
def test_in_place_changes_that_are_refused(what):
    call, error, message = IN_PLACE_REFUSED[what]
    with pytest.raises(error, match=message):
        call()


def test_under_no_grad_a_leaf_changes_and_stays_a_leaf():
    x = leaf(1.0, 2.0)
    with mg.no_grad():
        x.sub_(0.5)
        x *= 2
    assert x.tolist() == [1, 3] and x.requires_grad and x.is_leaf


# ------------------------------------------------------------------------------------------------- conversion


def test_to_returns_the_tensor_itself_unless_something_changes():
    x = mg.ones(2)
    assert x.to(mg.float32) is x and x.to("cpu") is x and x.float() is x and x.cpu() is x and x.to(x) is x
    assert x.to(mg.float32, copy=True) is not x and x.to("cpu", mg.float32, False, True) is not x
    assert x.to(mg.float64).dtype is mg.float64 and x.to("cpu", "float16").dtype is mg.float16
    assert x.to(mg.zeros(1, dtype=mg.int32)).dtype is mg.int32 and x.to(dtype=mg.bool).dtype is mg.bool
    assert x.to(None, mg.float64).dtype is mg.float64 and x.to(torch_style()).dtype is mg.float64
    kinds = dict(double="float64", float="float32", half="float16", bfloat16="bfloat16", bool="bool")
    kinds |= dict(long="int64", int="int32", short="int16", char="int8", byte="uint8")
    for name, dtype in kinds.items():
        assert getattr(x, name)().dtype.name == dtype
    assert x.type() == "minigrad.FloatTensor" and x.type(mg.float64).type() == "minigrad.DoubleTensor"
    assert x.type_as(mg.zeros(1, dtype=mg.int8)).dtype is mg.int8
    with pytest.raises(TypeError, match="to: arguments"):
        x.to("cpu", mg.float32, 3)
    with pytest.raises(TypeError, match="dtype: 'elephant' is not supported"):
        x.to("elephant")


def torch_style() -> str:
    return "torch.float64"


def test_casts_between_floats_carry_gradients_and_to_integers_do_not():
    x = leaf(1.5, 2.5)
    y = x.double() * 2
    y.sum().backward()
    assert x.grad.dtype is mg.float32 and x.grad.tolist() == [2, 2]
    assert not x.long().requires_grad and not x.bool().requires_grad
    h = x.half()
    h.sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_clone_is_differentiable_and_has_memory_of_its_own():
    x = leaf(1.0, 2.0)
    y = x.clone()
    y.sum().backward()
    assert x.grad.tolist() == [1, 1] and y.array is not x.array
    assert mg.ones(3, 2).permute(1, 0).clone().array.shape == (2, 3)


def test_leaving_minigrad():
    x = mg.tensor([[1.0, 2.0]])
    assert x.numpy() is x.array and np.asarray(x) is x.array and np.asarray(x, np.float64).dtype == np.float64
    assert mg.tensor(2.5).item() == 2.5 and mg.tensor([[3]]).item() == 3 and mg.tensor(True).item() is True
    assert type(mg.tensor(2.5, dtype=mg.bfloat16).item()) is float
    assert x.tolist() == [[1.0, 2.0]] and mg.tensor(3).tolist() == 3
    assert mg.tensor([1.5], dtype=mg.bfloat16).tolist() == [1.5]
    assert float(mg.tensor(2)) == 2.0 and int(mg.tensor(2.7)) == 2 and bool(mg.tensor([0.0])) is False
    assert [10, 20, 30][mg.tensor(1)] == 20 and f"{mg.tensor(0.123456):.2f}" == "0.12"
    assert round(float(mg.tensor(1.25)), 1) == 1.2
    assert mg.is_tensor(x) and not mg.is_tensor(1) and mg.is_floating_point(x) and not x.is_complex()
    assert mg.is_nonzero(mg.tensor(2)) and not mg.is_nonzero(mg.tensor([0.0]))
    w = leaf(1.0)
    assert w.numpy(force=True).tolist() == [1.0]


LEAVING_REFUSED = {
    "item": (lambda: mg.ones(2).item(), ValueError, r"item: a tensor of shape \(2,\) has not one element"),
    "truth": (
        lambda: bool(mg.ones(2)),
        ValueError,
        r"truth of a tensor of shape \(2,\) is ambiguous; use .any\(\)",
    ),
    "truth of nothing": (lambda: bool(mg.ones(0)), ValueError, "ambiguous"),
    "float index": (lambda: [1][mg.tensor(0.0)], TypeError, "a float32 tensor is no index"),
    "numpy of a leaf": (lambda: leaf(1.0).numpy(), RuntimeError, r"numpy: .*use .detach\(\).numpy\(\)"),
    "asarray of a leaf": (
        lambda: np.asarray(leaf(1.0)),
        RuntimeError,
        "numpy: this tensor requires gradients",
    ),
    "length of a number": (lambda: len(mg.tensor(1.0)), TypeError, r"len\(\) of a 0-d tensor"),
}


@pytest.mark.parametrize("what", LEAVING_REFUSED)
def test_leaving_is_refused_with_the_cure(what):
    call, error, message = LEAVING_REFUSED[what]
    with pytest.raises(error, match=message):
        call()


def test_tensors_are_hashable_and_compare_elementwise():
    x, y = mg.ones(2), mg.ones(2)
    assert len({x, y, x}) == 2 and (x == y).tolist() == [True, True]
    assert [t is x for t in [y, x]].index(True) == 1


def test_deepcopy_copies_memory_and_keeps_what_a_leaf_is():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    other = copy.deepcopy(x)
    x.grad.zero_()
    with mg.no_grad():
        x.zero_()
    assert other.tolist() == [1, 2] and other.grad.tolist() == [2, 4] and other.requires_grad
    with pytest.raises(RuntimeError, match="deepcopy: only leaves"):
        copy.deepcopy(x * 2)
    assert copy.deepcopy(mg.float16) is mg.float16 and pickle.loads(pickle.dumps(mg.bfloat16)) is mg.bfloat16


# --------------------------------------------------------------------------------------------------- printing

RNG = np.random.default_rng(0)
PRINTED = [
    np.array(1.5, "f4"),
    np.array(3),
    np.arange(5.0, dtype="f4"),
    np.array([1.0, 2.5, 1000.0]),
    np.array([True, False]),
    np.array([1e-5, 1], "f4"),
    np.array([1e5, 1], "f4"),
    np.array([[1e9, 1]], "f4"),
    np.array([1e-20], "f4"),
    np.array([np.nan, np.inf, -1], "f4"),
    np.zeros(3, "f4"),
    np.array([-0.5, 0.25], "f2"),
    np.array([]),
    np.zeros((2, 0), "f4"),
    np.zeros(0, "i8"),
    np.arange(12).reshape(3, 4),
    np.arange(2000),
    np.arange(100) * 1000,
    np.arange(4, dtype="u1"),
    RNG.normal(size=(2, 3, 4)).astype("f4"),
    RNG.normal(size=(2, 2, 2, 2)),
    RNG.normal(size=(30, 50)),
    RNG.normal(size=40).astype("f4"),
    np.ones((3, 2000), "f4"),
    np.ones((2000, 3), "f4"),
]


@pytest.mark.oracle
def test_tensors_print_as_in_torch():
    torch = oracle("torch")
    for array in PRINTED:
        assert repr(mg.tensor(array)) == repr(torch.tensor(array)).replace("torch.", "minigrad.")


def test_print_shows_what_values_do_not():
    x = leaf(1.0, 2.0)
    assert repr(x) == "tensor([1., 2.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 4.], grad_fn=<mul>)"
    assert repr(mg.tensor([1.0], dtype=mg.bfloat16)) == "tensor([1.], dtype=minigrad.bfloat16)"
    assert repr(mg.Parameter(mg.ones(2))) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    assert str(mg.ones(2).shape) == "minigrad.Size([2])" and repr(mg.float32) == "minigrad.float32"
    long = repr(mg.ones(13, dtype=mg.float64, requires_grad=True))
    assert long.split("\n")[-1] == "       dtype=minigrad.float64, requires_grad=True)"


def test_print_options():
    x = mg.tensor([1.23456, 100.0])
    try:
        mg.set_printoptions(precision=2)
        assert repr(x) == "tensor([  1.23, 100.00])"
        mg.set_printoptions(precision=1, sci_mode=True)
        assert repr(x) == "tensor([1.2e+00, 1.0e+02])"
        mg.set_printoptions(threshold=3, edgeitems=1)
        assert repr(mg.arange(4)) == "tensor([0,  ..., 3])"
    finally:
        mg.set_printoptions(precision=4, threshold=1000, edgeitems=3, linewidth=80)


def test_printing_a_large_tensor_reads_its_ends_only():
    import fake_cupy

    with fake_cupy.installed() as device:
        x = mg.ones(1000, 1000, device="cuda")
        with device.counting() as step:
            text = repr(x)
        assert "device='cuda:0'" in text and len(step.host_reads) == 1
