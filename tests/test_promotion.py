"""Type promotion is torch's, for every function, pair of dtypes, tensors with dims, 0-d tensors and numbers.

The result has torch's dtype and values, or both libraries refuse; where minigrad does what torch refuses, the
table MORE says so.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg

DTYPES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split()
NUMBERS = (True, 2, 2.0)
UNARY = """exp exp2 expm1 log log2 log10 log1p sigmoid sqrt rsqrt square reciprocal sin cos tan asin acos atan
    sinh cosh tanh asinh acosh atanh abs sign sgn floor ceil round trunc frac relu neg positive erf erfc
    erfinv logit nan_to_num isnan isinf isfinite signbit isposinf isneginf logical_not bitwise_not deg2rad
    rad2deg clone""".split()
BINARY = """add sub mul div floor_divide remainder fmod pow atan2 hypot logaddexp logaddexp2 xlogy copysign
    maximum minimum fmax fmin eq ne lt le gt ge isclose logical_and logical_or logical_xor bitwise_and
    bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift heaviside float_power""".split()
OPERATORS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b, "**": lambda a, b: a**b, "&": lambda a, b: a & b,
    "<": lambda a, b: a < b, "==": lambda a, b: a == b,
}  # fmt: skip

# what torch refuses: numbers where it wants tensors, integers where it has no kernel
MORE = """atan2 hypot logaddexp logaddexp2 maximum minimum fmax fmin isclose logical_and logical_or
    logical_xor""".split()


def made(m: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    return m.tensor([1, 0, 2, 1] if shape else 1, dtype=getattr(m, dtype))


def outcome(function: Callable) -> Any:
    """The result, or None when the library refuses."""
    try:
        return function()
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError):  # NotImplementedError is a RuntimeError
        return None


def assert_same(call: Callable, what: Any, more: bool = False) -> None:
    torch = oracle("torch")
    ours, theirs = outcome(lambda: call(mg)), outcome(lambda: call(torch))
    if theirs is None and more:
        return
    assert (ours is None) == (theirs is None), f"{what}: minigrad gives {ours}, torch {theirs}"
    if ours is None:
        return
    assert ours.dtype.name == str(theirs.dtype).removeprefix("torch."), what
    assert tuple(ours.shape) == tuple(theirs.shape), what
    eps = mg.finfo(ours.dtype).eps if ours.dtype.is_floating_point else 0
    np.testing.assert_allclose(
        ours.double().numpy(), theirs.double().numpy(), rtol=4 * eps, atol=4 * eps, err_msg=str(what)
    )


@pytest.mark.oracle
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_tensor(name):
    for dtype in DTYPES:
        for shape in ((4,), ()):
            assert_same(lambda m, d=dtype, s=shape: getattr(m, name)(made(m, d, s)), (name, dtype, shape))


@pytest.mark.oracle
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_tensors(name):
    for a in DTYPES:
        for b in DTYPES:
            for first, second in (((4,), (4,)), ((4,), ()), ((), (4,)), ((), ())):
                # the second operand has no zeros: integers are divided by it
                def call(m, a=a, b=b, first=first, second=second):
                    return getattr(m, name)(made(m, a, first), m.ones(second, dtype=getattr(m, b)))

                assert_same(call, (name, a, b, first, second), name in MORE)


@pytest.mark.oracle
@pytest.mark.parametrize("name", [*BINARY, *OPERATORS])
def test_functions_of_a_tensor_and_a_number(name):
    for dtype in DTYPES:
        for number in NUMBERS:
            for shape in ((4,), ()):

                def call(m, d=dtype, n=number, s=shape):
                    return (OPERATORS[name] if name in OPERATORS else getattr(m, name))(made(m, d, s), n)

                assert_same(call, (name, dtype, number, shape), name in MORE)


@pytest.mark.oracle
@pytest.mark.parametrize("symbol", OPERATORS)
def test_reflected_operators(symbol):
    for dtype in DTYPES:
        for number in NUMBERS:

            def call(m, d=dtype, n=number):
                return OPERATORS[symbol](n, m.ones(4, dtype=getattr(m, d)))

            assert_same(call, (number, symbol, dtype))


@pytest.mark.oracle
def test_where_clamp_and_casts():
    for a in DTYPES:
        for b in DTYPES:
            for shape in ((4,), ()):

                def where(m, a=a, b=b, shape=shape):
                    return m.where(m.tensor([True, False, True, False]), made(m, a, (4,)), made(m, b, shape))

                def clamp(m, a=a, b=b, shape=shape):
                    return m.clamp(made(m, a, (4,)), made(m, b, shape))

                assert_same(where, ("where", a, b, shape))
                assert_same(clamp, ("clamp", a, b, shape))
            assert_same(lambda m, a=a, b=b: made(m, a, (4,)).to(getattr(m, b)), ("to", a, b))
        for number in NUMBERS:
            assert_same(
                lambda m, a=a, n=number: m.where(made(m, "bool", (4,)), made(m, a, (4,)), n),
                ("where", a, number),
            )
            assert_same(
                lambda m, a=a, n=number: made(m, a, (4,)).clamp(max=n), ("clamp", a, number), more=a == "bool"
            )


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["add_", "mul_", "div_", "pow_", "copy_", "lt_", "bitwise_and_", "clamp_"])
def test_in_place_results_keep_the_dtype_or_are_refused(name):
    for a in DTYPES:
        for b in DTYPES:

            def call(m, a=a, b=b):
                return getattr(made(m, a, (4,)), name)(m.ones(4, dtype=getattr(m, b)))

            assert_same(call, (name, a, b))


@pytest.mark.oracle
def test_result_type_promote_types_and_can_cast():
    torch = oracle("torch")
    for a in DTYPES:
        for b in DTYPES:
            assert_same_type(
                mg.promote_types(a, b), torch.promote_types(getattr(torch, a), getattr(torch, b))
            )
            assert mg.can_cast(a, b) == torch.can_cast(getattr(torch, a), getattr(torch, b)), (a, b)
            for first, second in (((4,), (4,)), ((4,), ()), ((), (4,)), ((), ())):
                ours = mg.result_type(made(mg, a, first), made(mg, b, second))
                assert_same_type(ours, torch.result_type(made(torch, a, first), made(torch, b, second)))
        for number in NUMBERS:
            assert_same_type(
                mg.result_type(made(mg, a, ()), number), torch.result_type(made(torch, a, ()), number)
            )
    assert mg.result_type(1, 2.0) is mg.float32


def assert_same_type(ours: Any, theirs: Any) -> None:
    assert ours.name == str(theirs).removeprefix("torch.")


def test_the_default_dtype_is_what_integers_become():
    mg.set_default_dtype(mg.float64)
    try:
        assert (mg.tensor([1, 2]) / 2).dtype is mg.float64
        assert mg.tensor([1, 2]).exp().dtype is mg.float64
        assert (mg.tensor([1, 2]) * 0.5).dtype is mg.float64
        assert mg.tensor(0.5).dtype is mg.float64 and mg.zeros(2).dtype is mg.float64
    finally:
        mg.set_default_dtype(mg.float32)
    assert (mg.tensor([1, 2]) / 2).dtype is mg.float32
    with pytest.raises(TypeError, match=r"set_default_dtype: .*int64 is not a floating type"):
        mg.set_default_dtype(mg.int64)


def test_finfo_and_iinfo():
    assert mg.finfo(mg.float32).eps == np.finfo(np.float32).eps and mg.finfo().bits == 32
    assert mg.finfo(mg.bfloat16).eps == 2.0**-7 and mg.finfo(mg.float16).max == 65504
    assert (mg.iinfo(mg.uint8).min, mg.iinfo(mg.uint8).max, mg.iinfo("int16").bits) == (0, 255, 16)
    with pytest.raises(TypeError, match="finfo: int64 is not a floating type"):
        mg.finfo(mg.int64)
    with pytest.raises(TypeError, match="iinfo: float32 is not an integer type"):
        mg.iinfo(mg.float32)
