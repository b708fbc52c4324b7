"""Elementwise functions where numerical differentiation has nothing to say: corners, ties, infinities, nan,
16-bit types, and what is refused.

The table of smooth points is tests/samples/elementwise.py.
"""

import math

import fake_cupy
import numpy as np
import pytest
from oracle import oracle
from samples import elementwise

import kernels
import minigrad as mg

inf, nan = math.inf, math.nan
POINTS = np.array([0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, -1.5, 2, -2, 2.5, 3, 30, 800, -800, inf, -inf, nan])
FIRST, SECOND = (v.ravel() for v in np.meshgrid(POINTS, POINTS))

UNARY = """exp exp2 expm1 log log2 log10 log1p sigmoid sqrt rsqrt square reciprocal sin cos tan asin acos atan
    sinh cosh tanh asinh acosh atanh abs sign floor ceil round trunc frac relu neg erf erfc erfinv logit
    nan_to_num isnan isinf isfinite signbit isposinf isneginf logical_not""".split()
BINARY = """add sub mul div pow remainder fmod floor_divide atan2 hypot logaddexp logaddexp2 xlogy copysign
    maximum minimum fmax fmin eq ne lt le gt ge isclose logical_and logical_or logical_xor""".split()
CALLS = {
    **{f"pow {p}": lambda m, x, p=p: x**p for p in (-2, -1, -0.5, 0, 1 / 3, 0.5, 1, 2, 2.5, 3)},
    **{f"{b} pow": lambda m, x, b=b: b**x for b in (-2, -1, -0.5, 0, 0.5, 1, 2)},
    "clamp": lambda m, x: x.clamp(0, 1),
    "clamp min": lambda m, x: x.clamp(min=-1.0),
    "clamp max": lambda m, x: x.clamp(max=0.5),
    "clamp crossed": lambda m, x: x.clamp(2, 1),
    "nan_to_num numbers": lambda m, x: m.nan_to_num(x, 1.0, 2.0, 3.0),
    "round decimals": lambda m, x: m.round(x, decimals=1),
    "where log": lambda m, x: m.where(x > 0, x.log(), x),
    "where 1/x": lambda m, x: m.where(x != 0, 1 / x, 0.0),
    "double where": lambda m, x: m.where(x > 0, m.where(x > 0, x, 1.0).log(), 0.0),
}
PAIRS = {
    "div floor": lambda m, x, y: m.div(x, y, rounding_mode="floor"),
    "div trunc": lambda m, x, y: m.div(x, y, rounding_mode="trunc"),
    "clamp tensors": lambda m, x, y: m.clamp(x, y, y * 0 + 1),
    "clamp min tensor": lambda m, x, y: m.clamp(x, min=y),
    "clamp max tensor": lambda m, x, y: m.clamp(x, max=y),
    "lerp": lambda m, x, y: m.lerp(x, y, 0.25),
    "where": lambda m, x, y: m.where(x > y, x, y),
}


def value_and_gradients(m, f, *arrays):
    """f, its gradients for the gradient 1, and the gradients of those, all as arrays (None: no gradient)."""
    inputs = [m.tensor(a, requires_grad=True) for a in arrays]
    y = f(m, *inputs)
    if not y.requires_grad:
        return [y.numpy()]
    one = m.ones_like(y).requires_grad_()
    first = m.autograd.grad(y, inputs, one, create_graph=True, allow_unused=True)
    live = [g for g in first if g is not None and g.requires_grad]
    ones = [m.ones_like(g) for g in live]
    second = m.autograd.grad(live, [*inputs, one], ones, allow_unused=True) if live else ()
    return [None if t is None else t.detach().numpy(force=True) for t in (y, *first, *second)]


def assert_same(f, *arrays, orders=3):
    """torch has the same values, gradients and second gradients; where one has None, the other has zeros."""
    torch = oracle("torch")
    ours, theirs = value_and_gradients(mg, f, *arrays), value_and_gradients(torch, f, *arrays)
    kept = (1, 1 + len(arrays), len(ours))[orders - 1]
    assert (len(ours) == 1) == (len(theirs) == 1)
    for a, b in zip(ours[:kept], theirs[:kept]):
        a, b = (np.zeros_like(arrays[0]) if v is None else v for v in (a, b))
        # second gradients are differences of numbers of size 1 at these points
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-15)


@pytest.mark.oracle
@pytest.mark.parametrize("name", UNARY)
def test_unary_corners_equal_torch(name):
    assert_same(lambda m, x: getattr(m, name)(x), POINTS)


@pytest.mark.oracle
@pytest.mark.parametrize("name", BINARY)
def test_binary_corners_equal_torch(name):
    if name == "floor_divide":  # torch has no gradient there
        assert_same(lambda m, x, y: m.floor_divide(x.detach(), y.detach()), FIRST, SECOND)
    else:
        assert_same(lambda m, x, y: getattr(m, name)(x, y), FIRST, SECOND)


@pytest.mark.oracle
@pytest.mark.parametrize("name", CALLS)
def test_corners_of_calls_with_numbers_equal_torch(name):
    assert_same(CALLS[name], POINTS)


@pytest.mark.oracle
@pytest.mark.parametrize("name", PAIRS)
def test_corners_of_calls_with_tensors_equal_torch(name):
    assert_same(PAIRS[name], FIRST, SECOND)


@pytest.mark.oracle
def test_logit_with_eps_has_gradient_zero_outside():
    assert_same(lambda m, x: m.logit(x, eps=0.25), POINTS, orders=2)


@pytest.mark.oracle
def test_an_infinite_gradient_does_not_reach_what_was_not_chosen():
    """0 * inf is nan, so masks must not be products."""
    torch = oracle("torch")
    x = np.array([-1.0, 2.0, 0.5])
    functions = dict(
        relu=lambda m, x: m.relu(x),
        clamp=lambda m, x: x.clamp(0, 1),
        maximum=lambda m, x: m.maximum(x, x * 0),
        where=lambda m, x: m.where(x > 0, x, 0.0),
        floor=lambda m, x: x.floor(),
        fmin=lambda m, x: m.fmin(x, x * 0 + 1),
    )
    for name, f in functions.items():
        found = []
        for m in (mg, torch):
            t = m.tensor(x, requires_grad=True)
            found.append(m.autograd.grad(f(m, t), t, m.full_like(t, inf))[0].numpy(force=True))
        np.testing.assert_array_equal(*found, err_msg=name)


# ------------------------------------------------------------------------------------------ special functions


@pytest.mark.parametrize("machine", ["compiled", "numpy"])
def test_erf_and_erfc_are_accurate_far_into_their_tails(machine):
    x = np.concatenate([np.linspace(-7, 26, 1001), [1e-300, -1e-20, 1e-8, inf, -inf]])
    with kernels.use(machine):
        erf, erfc = mg.erf(mg.tensor(x)).numpy(), mg.erfc(mg.tensor(x)).numpy()
    np.testing.assert_allclose(erf, [math.erf(v) for v in x], rtol=1e-14)
    np.testing.assert_allclose(erfc, [math.erfc(v) for v in x], rtol=1e-13)


@pytest.mark.parametrize("machine", ["compiled", "numpy"])
def test_erfinv_inverts_erf_and_erfc(machine):
    near = np.concatenate([np.linspace(-0.99, 0.99, 199), [1e-300, -1e-12]])
    tail = 2.0 ** -np.arange(1.0, 53)  # 1 - tail is exact
    with kernels.use(machine):
        back, far = mg.erfinv(mg.tensor(near)).numpy(), mg.erfinv(mg.tensor(1 - tail)).numpy()
        ends = mg.erfinv(mg.tensor([1.0, -1.0, 0.0, 1.5])).numpy()
    np.testing.assert_allclose([math.erf(v) for v in back], near, rtol=1e-13)
    np.testing.assert_allclose([math.erfc(v) for v in far], tail, rtol=1e-10)
    np.testing.assert_array_equal(ends, np.array([inf, -inf, 0, nan], np.float32))


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_functions_are_within_two_roundings_of_torch(dtype):
    torch = oracle("torch")
    values = [0.1, 0.3, 0.75, 0.9]
    eps = mg.finfo(getattr(mg, dtype)).eps
    for name in UNARY:
        if name in ("acosh", "frac"):  # 1 is acosh's corner; frac of such values is the identity
            continue
        ours = getattr(mg, name)(mg.tensor(values, dtype=getattr(mg, dtype)))
        theirs = getattr(torch, name)(torch.tensor(values, dtype=getattr(torch, dtype)))
        assert ours.dtype.name == str(theirs.dtype).removeprefix("torch."), name
        np.testing.assert_allclose(
            ours.double().numpy(), theirs.double().numpy(), rtol=2 * eps, atol=2 * eps, err_msg=name
        )


# -------------------------------------------------------------------------------------------- integers, bools


def test_integer_powers_are_exact_and_negative_numbers_refused():
    x = mg.tensor([-3, -1, 0, 1, 2])
    assert (x**3).tolist() == [-27, -1, 0, 1, 8]
    assert (x ** mg.full((5,), -2)).tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(ValueError, match=r"pow: int64 tensor to the power -1.*\.float\(\)"):
        x**-1


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod"])
def test_integer_division_by_zero_raises(name):
    with pytest.raises(ZeroDivisionError, match=f"{name}: int64 division by zero"):
        getattr(mg, name)(mg.tensor([1, 2]), mg.tensor([1, 0]))
    with pytest.raises(ZeroDivisionError, match=f"{name}: int64 division by zero"):
        getattr(mg, name)(mg.tensor([1, 2]), 0)


def test_scalars_beyond_an_integer_type_wrap_in_arithmetic_but_compare_by_value():
    x = mg.tensor([200, 3], dtype=mg.uint8)
    assert (x + 300).tolist() == [244, 47]
    assert (x < 300).tolist() == [True, True]
    assert (x > -1).tolist() == [True, True]
    assert (x == 2**70).tolist() == [False, False]
    assert x.clamp(-5, 300).tolist() == [200, 3]


def test_comparison_with_what_is_no_number_is_by_identity():
    x = mg.tensor([1.0])
    assert (x == None) is False  # noqa: E711
    assert (x != "a") is True
    assert (x == [1.0]) is False
    assert 1.0 in x and 2.0 not in x
    with pytest.raises(TypeError):
        x < None  # noqa: B015


def test_isclose_allclose_and_equal():
    a, b = mg.tensor([1.0, inf, nan]), mg.tensor([1.0 + 1e-6, inf, nan])
    assert mg.isclose(a, b).tolist() == [True, True, False]
    assert mg.isclose(a, b, equal_nan=True).tolist() == [True, True, True]
    assert mg.isclose(a, b, rtol=0, atol=1e-8).tolist() == [False, True, False]
    assert mg.allclose(a[:2], b[:2]) is True and mg.allclose(a, b) is False
    assert mg.equal(a[:2], a[:2].clone()) is True and mg.equal(a, a) is False
    assert mg.equal(a, a[:2]) is False
    with pytest.raises(ValueError, match="isclose: rtol = -1"):
        mg.isclose(a, b, rtol=-1)


# ----------------------------------------------------------------------------------------------------- device

READS = {
    "where indices",
    "move",
    "cpu",
    "to device",
    "to device and dtype",
    "to keywords",
}  # what must know the values


def test_every_sample_runs_on_a_device_without_reading_it_back():
    for sample in elementwise.SAMPLES:
        results = {}
        with fake_cupy.installed() as device:
            for place in ("cpu", "cuda"):
                with device.counting() as step:
                    results[place] = outcome(sample, place)
                if place == "cuda" and sample.name not in READS:
                    assert not step.host_reads, f"{sample.name}: {step.host_reads}"
            for on_host, on_device in zip(results["cpu"], results["cuda"], strict=True):
                assert on_host.dtype is on_device.dtype
                np.testing.assert_allclose(
                    on_device.numpy(force=True), on_host.numpy(force=True), rtol=1e-6, err_msg=sample.name
                )


def outcome(sample, place):
    """The outputs of a sample on a device, and the gradients of its inputs."""
    inputs, leaves = [], []
    for k, array in enumerate(sample.arrays()):
        inputs.append(mg.tensor(array, device=place))
        if sample.differentiable(k, array):
            leaves.append(inputs[-1].requires_grad_())
    outputs = sample.fn(mg, *inputs)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    roots = [y for y in outputs if y.requires_grad]
    seeds = [mg.ones_like(y) for y in roots]
    found = mg.autograd.grad(roots, leaves, seeds, allow_unused=True) if roots else ()
    return [t.detach() for t in [*outputs, *found] if t is not None]


def test_a_number_on_the_host_joins_tensors_of_a_device_and_others_do_not():
    with fake_cupy.installed():
        x, s = mg.ones(2, device="cuda"), mg.tensor(3.0, requires_grad=True)
        y = x * s
        y.sum().backward()
        assert y.is_cuda and y.tolist() == [3, 3] and not s.grad.is_cuda and s.grad.item() == 2
        with pytest.raises(TypeError, match=r"mul: tensors on different devices cpu and cuda:0; move them"):
            x * mg.ones(2)


# ---------------------------------------------------------------------------------------------------- refused

REFUSED = {
    "numpy array on the left": (
        lambda x: np.ones(2) * x,
        TypeError,
        "mul: ndarray operand; make it a Tensor",
    ),
    "numpy array on the right": (lambda x: x + np.ones(2), TypeError, r"add: ndarray .*from_numpy"),
    "list": (lambda x: x - [1, 2], TypeError, "sub: list operand"),
    "string": (lambda x: x / "a", TypeError, "div: str operand"),
    "comparison with an array": (lambda x: x == np.ones(2), TypeError, "eq: ndarray operand"),
    "complex number": (lambda x: x * 1j, TypeError, "mul: complex numbers are not supported"),
    "rounding mode": (
        lambda x: mg.div(x, 2, rounding_mode="up"),
        ValueError,
        "rounding_mode is None, 'trunc' or",
    ),
    "alpha for integers": (lambda x: mg.add(x.long(), 1, alpha=0.5), TypeError, "add: alpha = 0.5 for int64"),
    "alpha that is a tensor": (
        lambda x: mg.add(x, 1, alpha=x),
        TypeError,
        "add: alpha is a number, not a Tensor",
    ),
    "integer addcdiv": (
        lambda x: mg.addcdiv(x.long(), x.long(), x.long()),
        TypeError,
        "addcdiv: int64 tensors",
    ),
    "integer lerp": (lambda x: mg.lerp(x.long(), x.long(), 0.5), TypeError, "lerp: int64 tensors"),
    "bool difference": (lambda x: (x > 0) - (x > 0), TypeError, "logical_xor|bools have no difference"),
    "bool minus number": (lambda x: (x > 0) - 1, TypeError, "sub: bools have no difference"),
    "bool negated": (lambda x: -(x > 0), TypeError, "neg: bools have no difference"),
    "bool division": (lambda x: (x > 0) // (x > 0), TypeError, "floor_divide: bools are not divided"),
    "bool relu": (lambda x: (x > 0).relu(), TypeError, "relu: bool tensor"),
    "integer frac": (lambda x: x.long().frac(), TypeError, "frac: int64 tensor"),
    "decimals of integers": (lambda x: x.long().round(decimals=1), TypeError, "round with decimals: int64"),
    "bits of floats": (lambda x: x & 1, TypeError, "bitwise_and: a float32 operand has no bits"),
    "inverted floats": (lambda x: ~x, TypeError, "~: a float32 operand has no bits"),
    "shifted by a float": (lambda x: x.long() << 1.5, TypeError, "bitwise_left_shift: a float operand"),
    "clamp without bounds": (lambda x: x.clamp(), ValueError, "clamp: give min, max or both"),
    "condition that is no bool": (
        lambda x: mg.where(x, x, x),
        TypeError,
        "where: the condition is a float32 tensor",
    ),
    "where with one branch": (lambda x: mg.where(x > 0, x), TypeError, "where: the forms are"),
    "heaviside of two dtypes": (
        lambda x: mg.heaviside(x, x.double()),
        TypeError,
        "heaviside: float32 and float64",
    ),
    "shapes": (lambda x: x * mg.ones(3), ValueError, r"mul\(float32\[2\], float32\[3\]\)"),
    "number instead of a tensor": (lambda x: mg.exp(2.0), TypeError, "exp: float argument; make it a Tensor"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_names_operation_and_cure(what):
    call, error, message = REFUSED[what]
    with pytest.raises(error, match=message):
        call(mg.tensor([1.0, 2.0]))
