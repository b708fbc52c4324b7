"""Samples of elementwise functions: arithmetic, powers, unary functions, comparison, choice, casts.

Corners (ties, zeros, infinities) are in tests/test_elementwise.py: numerical differentiation has nothing to
say there.
"""

import numpy as np

from . import Sample, booleans, distinct, integers, nonzero, normal, positive, uniform


def labelled(name, options):
    return " ".join([name, *[f"{k}={v}" for k, v in options.items()]])


def unary(name, make, **options):
    """The function of a matrix, a transposed and an expanded one, a 0-d and an empty tensor; its method."""

    def fn(m, matrix, transposed, expanded, point, empty, one):
        inputs = matrix, transposed.permute(1, 0), expanded.expand(2, 3), point, empty
        return (*[getattr(m, name)(x, **options) for x in inputs], getattr(one, name)(**options))

    return [Sample(labelled(name, options), fn, make(2, 3), make(3, 2), make(3), make(), make(0, 2), make(1))]


SHAPES = [((2, 3), (2, 3)), ((3,), (2, 1)), ((), (3,)), ((2, 3), ()), ((2, 0), (1,))]


def binary(name, first, second=None, **options):
    """The function of two tensors: equal shapes, broadcasting both ways, 0-d, empty, strided; its method."""
    second = second or first

    def fn(m, *inputs):
        a, b = inputs[:2]
        method = getattr(a, name)(b[0], **options)
        strided = getattr(m, name)(a.permute(1, 0), b.permute(1, 0), **options)
        pairs = zip(inputs[::2], inputs[1::2], strict=True)
        return (*[getattr(m, name)(a, b, **options) for a, b in pairs], method, strided)

    inputs = [make(*shape) for shapes in SHAPES for make, shape in zip((first, second), shapes, strict=True)]
    return [Sample(labelled(name, options), fn, *inputs)]


def calls(make, **functions):
    """One sample of each function of (m, x)."""
    return [Sample(name, fn, make) for name, fn in functions.items()]


def within(low, high):
    return lambda *shape: uniform(low, high, *shape)


def uneven(*shape):
    """Values that neither round nor divide to another whole number nearby."""
    return lambda rng: rng.integers(-3, 4, shape) + rng.choice([0.2, 0.3, 0.7, 0.8], shape)


large = within(-30, 30)  # where a naive e^x overflows or loses every digit

UNARY = dict(
    exp=normal, exp2=normal, expm1=normal, log=positive, log2=positive, log10=positive, log1p=within(-0.5, 2),
    sigmoid=normal, sqrt=positive, rsqrt=positive, square=normal, reciprocal=nonzero, sin=normal, cos=normal,
    tan=within(-1, 1), asin=within(-0.9, 0.9), acos=within(-0.9, 0.9), atan=normal, sinh=normal, cosh=normal,
    tanh=normal, asinh=normal, acosh=within(1.2, 3), atanh=within(-0.9, 0.9), abs=nonzero, sign=nonzero,
    floor=uneven, ceil=uneven, round=uneven, trunc=uneven, frac=uneven, relu=nonzero, neg=normal, erf=normal,
    erfc=normal, erfinv=within(-0.95, 0.95), logit=within(0.1, 0.9), deg2rad=normal, rad2deg=normal,
    nan_to_num=normal, positive=normal, clone=normal, isnan=normal, isinf=normal, isfinite=normal,
    signbit=nonzero, isposinf=normal, isneginf=normal, logical_not=normal,
)  # fmt: skip
SAMPLES = [sample for name, make in UNARY.items() for sample in unary(name, make)]
for alias, make in dict(
    sgn=nonzero, absolute=nonzero, negative=normal, fix=uneven, arcsin=within(-0.9, 0.9),
    arccos=within(-0.9, 0.9), arctan=normal, arcsinh=normal, arccosh=within(1.2, 3),
    arctanh=within(-0.9, 0.9),
).items():  # fmt: skip
    SAMPLES += unary(alias, make)
SAMPLES += [
    Sample("sigmoid large", lambda m, x: m.sigmoid(x), large(9)),
    Sample("tanh large", lambda m, x: m.tanh(x), large(9)),
    Sample("erfc tail", lambda m, x: m.erfc(x), within(1, 5)(9)),
    *unary("round", uneven, decimals=1),
    *unary("round", within(-300, 300), decimals=-2),
    *unary("logit", within(0.1, 0.9), eps=0.3),
    *unary("nan_to_num", normal, nan=1.0, posinf=2.0, neginf=3.0),
]  # fmt: skip

# ------------------------------------------------------------------------------------------------- arithmetic

BINARY = dict(
    add=(normal,), sub=(normal,), mul=(normal,), div=(normal, nonzero), pow=(positive, normal),
    remainder=(uneven, within(1.05, 1.15)), fmod=(uneven, within(1.05, 1.15)), atan2=(nonzero,),
    hypot=(nonzero,), logaddexp=(normal,), logaddexp2=(normal,), xlogy=(normal, positive),
    copysign=(nonzero,),
    maximum=(normal,), minimum=(normal,), fmax=(normal,), fmin=(normal,), eq=(normal,), ne=(normal,),
    lt=(normal,), le=(normal,), gt=(normal,), ge=(normal,), isclose=(normal,), logical_and=(normal,),
    logical_or=(normal,),
    logical_xor=(normal,),
)  # fmt: skip
SAMPLES += [sample for name, makers in BINARY.items() for sample in binary(name, *makers)]
for alias, makers in dict(
    subtract=(normal,), multiply=(normal,), divide=(normal, nonzero), true_divide=(normal, nonzero),
    arctan2=(nonzero,), not_equal=(normal,), less=(normal,), less_equal=(normal,), greater=(normal,),
    greater_equal=(normal,),
).items():  # fmt: skip
    SAMPLES += binary(alias, *makers)
SAMPLES += [
    *binary("add", normal, alpha=0.5),
    *binary("sub", normal, alpha=-2),
    Sample("rsub alpha=3", lambda m, a, b: m.rsub(a, b, alpha=3), normal(2, 3), normal(3)),
    *binary("div", uneven, within(1.05, 1.15), rounding_mode="floor"),
    *binary("div", uneven, within(1.05, 1.15), rounding_mode="trunc"),
    Sample("logaddexp large", lambda m, a, b: m.logaddexp(a, b), large(2, 3), large(2, 3)),
    *binary("isclose", normal, rtol=0.5, atol=0.5, equal_nan=True),
    Sample("floor_divide", lambda m, a, b: m.floor_divide(a, b), uneven(2, 3), within(1.05, 1.15)(3),
           no_grad=(0, 1)),
    Sample("heaviside", lambda m, a, b: m.heaviside(a, b), nonzero(2, 3), normal(3), no_grad=(0, 1)),
    Sample("float_power", lambda m, a, b: m.float_power(a, b), positive(2, 3), normal(3), float32=None),
    Sample("x + x", lambda m, x: x + x, normal(3)),
    Sample("x * x * x", lambda m, x: x * x * x, normal(2, 3)),
    *calls(nonzero(2, 3), **{
        "x + 2": lambda m, x: x + 2, "2 + x": lambda m, x: 2 + x, "x - 2.5": lambda m, x: x - 2.5,
        "2 - x": lambda m, x: 2 - x, "x * 3": lambda m, x: x * 3, "3 * x": lambda m, x: 3 * x,
        "x / 4": lambda m, x: x / 4, "4 / x": lambda m, x: 4 / x, "-x": lambda m, x: -x,
        "+x": lambda m, x: +x,
        "abs(x)": lambda m, x: abs(x), "True * x": lambda m, x: True * x,
        "x * 1e30": lambda m, x: x * 1e30 * 1e-30,
        "x % 1.1": lambda m, x: x % 1.1, "x ** 2": lambda m, x: x**2, "x ** 3": lambda m, x: x**3,
        "x ** -1": lambda m, x: x**-1, "x ** -2.0": lambda m, x: x**-2.0, "x ** 0": lambda m, x: x**0,
        "x ** 1": lambda m, x: x**1, "add number": lambda m, x: m.add(x, 2, alpha=3),
        "rsub number": lambda m, x: m.rsub(x, 2), "div number": lambda m, x: m.div(x, 4.0),
    }),
    *calls(positive(2, 3), **{
        "x ** 0.5": lambda m, x: x**0.5, "x ** 2.7": lambda m, x: x**2.7, "2 ** x": lambda m, x: 2**x,
        "pow 0.3 x": lambda m, x: m.pow(0.3, x), "xlogy number": lambda m, x: m.xlogy(x, 2.0),
    }),
    Sample("negative base", lambda m, x, p: x**p, nonzero(2, 3), np.array([2.0, 3.0, -1.0]), no_grad=(1,)),
    Sample("x // 1.1", lambda m, x: x // 1.1, uneven(4), no_grad=(0,)),
    Sample("7 // x", lambda m, x: 7 // x, uneven(4), no_grad=(0,)),
    Sample("7 % x", lambda m, x: 7 % x, uneven(4), no_grad=(0,)),
    Sample("addcmul", lambda m, a, b, c: m.addcmul(a, b, c), normal(2, 3), normal(3), normal(2, 1)),
    Sample("addcmul value", lambda m, a, b, c: a.addcmul(b, c, value=0.5), normal(2, 3), normal(3), normal()),
    Sample("addcdiv", lambda m, a, b, c: m.addcdiv(a, b, c), normal(2, 3), normal(3), nonzero(2, 1)),
    Sample("addcdiv value", lambda m, a, b, c: a.addcdiv(b, c, value=-2), normal(2, 3), normal(3), nonzero()),
    Sample("lerp", lambda m, a, b, w: m.lerp(a, b, w), normal(2, 3), normal(2, 3), within(-1, 2)(2, 3)),
    Sample("lerp broadcast", lambda m, a, b, w: a.lerp(b, w), normal(2, 3), normal(3), within(0, 1)(2, 1)),
    Sample("lerp 0.2", lambda m, a, b: m.lerp(a, b, 0.2), normal(2, 3), normal(2, 3)),
    Sample("lerp 0.9", lambda m, a, b: m.lerp(a, b, 0.9), normal(2, 3), normal(2, 3)),
]  # fmt: skip

# ----------------------------------------------------------------------------------------- integers and bools

INTEGERS = "bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift".split()
SAMPLES += [sample for name in INTEGERS for sample in binary(name, lambda *shape: integers(9, *shape))]
SAMPLES += [
    Sample(f"{name} bool", lambda m, a, b, name=name: getattr(m, name)(a, b), booleans(2, 3), booleans(3))
    for name in INTEGERS[:3]
]
SAMPLES += [
    Sample("bitwise_not int", lambda m, x: m.bitwise_not(x), integers(9, 4)),
    Sample("bitwise_not bool", lambda m, x: x.bitwise_not(), booleans(4)),
    *calls(integers(9, 2, 3), **{
        "i & 3": lambda m, x: x & 3, "3 & i": lambda m, x: 3 & x, "i | 8": lambda m, x: x | 8,
        "i ^ 5": lambda m, x: x ^ 5, "~i": lambda m, x: ~x, "i << 2": lambda m, x: x << 2,
        "1 << i": lambda m, x: 1 << x,
        "i >> 1": lambda m, x: x >> 1, "i // 2": lambda m, x: x // 2,
        "(i - 4) // 3": lambda m, x: (x - 4) // 3,
        "(i - 4) % 3": lambda m, x: (x - 4) % 3, "(4 - i) % -3": lambda m, x: (4 - x) % -3,
        "fmod int": lambda m, x: m.fmod(x - 4, 3),
        "trunc int": lambda m, x: m.div(x - 4, 3, rounding_mode="trunc"),
        "i / 2": lambda m, x: x / 2, "i ** 2": lambda m, x: x**2, "2 ** i": lambda m, x: 2**x,
        "(i - 4) ** (i - 3)": lambda m, x: (x - 4) ** (x - 3),
        "(i - 4) ** -1s": lambda m, x: (x - 4) ** (x * 0 - 1),
        "i ** 0.5": lambda m, x: x**0.5,
        "abs int": lambda m, x: (x - 4).abs(), "sign int": lambda m, x: (x - 4).sign(),
        "floor int": lambda m, x: x.floor(), "round int": lambda m, x: x.round(),
        "square int": lambda m, x: x.square(),
        "relu int": lambda m, x: (x - 4).relu(), "clamp int": lambda m, x: x.clamp(2, 5),
        "clamp int by a float": lambda m, x: x.clamp(min=2.5),
        "addcmul int": lambda m, x: m.addcmul(x, x, x, value=2),
        "add int": lambda m, x: m.add(x, x, alpha=2),
        "isnan int": lambda m, x: m.isnan(x), "nan_to_num int": lambda m, x: m.nan_to_num(x),
        "i == 3": lambda m, x: x == 3, "i < 2.5": lambda m, x: x < 2.5, "i >= 3": lambda m, x: x >= 3,
        "maximum int": lambda m, x: m.maximum(x, 8 - x),
    }),
    *calls(booleans(2, 3), **{
        "b + b": lambda m, x: x + x, "b * b": lambda m, x: x * x, "b + 1": lambda m, x: x + 1,
        "b * 1.5": lambda m, x: x * 1.5, "b / b": lambda m, x: x / True, "b ** 2": lambda m, x: x**2,
        "~b": lambda m, x: ~x, "b & True": lambda m, x: x & True,
        "b == True": lambda m, x: x == True,  # noqa: E712
        "sign bool": lambda m, x: x.sign(), "square bool": lambda m, x: x.square(),
        "isfinite bool": lambda m, x: x.isfinite(), "maximum bool": lambda m, x: m.maximum(x, ~x),
    }),
]  # fmt: skip

SAMPLES += [  # float32 results
    Sample("exp int", lambda m, x: x.exp(), integers(9, 4), rtol=1e-6),
    Sample("exp bool", lambda m, x: x.exp(), booleans(4), rtol=1e-6),
    Sample("erf int", lambda m, x: m.erf(x), integers(9, 4), rtol=1e-6),
    Sample("atan2 int", lambda m, x: m.atan2(x, x + 1), integers(9, 4), rtol=1e-6),
]

# ----------------------------------------------------------------------------------------------------- choice

SAMPLES += [
    Sample("where", lambda m, c, a, b: m.where(c, a, b), booleans(2, 3), normal(2, 3), normal(2, 3)),
    Sample("where method", lambda m, c, a, b: a.where(c, b), booleans(2, 3), normal(2, 3), normal(2, 3)),
    Sample("where broadcast", lambda m, c, a, b: m.where(c, a, b), booleans(2, 1), normal(3), normal()),
    Sample("where wide", lambda m, c, a, b: m.where(c, a, b), booleans(4, 2, 3), normal(2, 1), normal(3)),
    Sample("where 0-d", lambda m, c, a, b: m.where(c, a, b), booleans(), normal(), normal()),
    Sample("where 0-d condition", lambda m, c, a, b: m.where(c, a, b), booleans(), normal(2, 3), normal(3)),
    Sample("where empty", lambda m, c, a, b: m.where(c, a, b), booleans(0), normal(0), normal(1)),
    Sample("where number", lambda m, c, a: m.where(c, a, 2.0), booleans(2, 3), normal(2, 3)),
    Sample("where number first", lambda m, c, a: m.where(c, 2, a), booleans(2, 3), normal(3)),
    Sample("where numbers", lambda m, c: m.where(c, 1.5, 2), booleans(2, 3)),
    Sample("where whole numbers", lambda m, c: m.where(c, 1, 2), booleans(2, 3)),
    Sample("where indices", lambda m, c: m.where(c), booleans(4, 3)),
    Sample("where strided", lambda m, c, a, b: m.where(c.permute(1, 0), a, b.permute(1, 0)), booleans(3, 2),
           normal(2, 3), normal(3, 2)),
    *calls(distinct(4, 3), **{
        "clamp": lambda m, x: m.clamp(x, -0.31, 0.27), "clamp min": lambda m, x: x.clamp(min=-0.31),
        "clamp max": lambda m, x: x.clamp(max=0.27), "clip": lambda m, x: m.clip(x, -0.31, 0.27),
        "clamp crossed": lambda m, x: x.clamp(0.27, -0.31), "clamp_min": lambda m, x: m.clamp_min(x, 0.01),
        "clamp_max": lambda m, x: m.clamp_max(x, 0.01),
        "clamp strided": lambda m, x: x.permute(1, 0).clamp(-0.31, 0.27),
    }),
    Sample("clamp 0-d", lambda m, x: x.clamp(0, 1), np.array(0.5)),
    Sample("clamp empty", lambda m, x: x.clamp(0, 1), normal(0)),
    Sample("clamp tensors", lambda m, x, a, b: m.clamp(x, a, b), normal(4, 3), normal(4, 3), normal(4, 3)),
    Sample("clamp broadcast", lambda m, x, a, b: m.clamp(x, a, b), normal(4, 3), normal(3), normal()),
    Sample("clamp min tensor", lambda m, x, a: m.clamp(x, min=a), normal(4, 3), normal(3)),
    Sample("clamp max tensor", lambda m, x, a: x.clamp(max=a), normal(4, 3), normal(3)),
    Sample("clamp_min tensor", lambda m, x, a: m.clamp_min(x, a), normal(4, 3), normal(4, 3)),
    Sample("clamp_max tensor", lambda m, x, a: m.clamp_max(x, a), normal(4, 3), normal(4, 3)),
]  # fmt: skip

# ------------------------------------------------------------------------------------------------------ casts


def on_the_host(m, x):
    """A tensor that is moved, to the device where it is."""
    return m.ops.move(x, m.device("cpu"))


def cast_before(m, x):
    """A tensor whose values in another type, here its own, are at hand: autocast's view of a parameter."""
    return m.ops.stand_in(x, x.array)


# numerical differentiation takes steps of 1e-6: float32 must resolve them
small = within(-1e-3, 1e-3)
SAMPLES += [
    Sample("move", on_the_host, normal(2, 3), reference=lambda torch, x: x.clone()),
    Sample("stand_in", cast_before, normal(2, 3), reference=lambda torch, x: x.clone()),
    Sample("copy_", lambda m, x, y: x.clone().copy_(y) * x, normal(2, 3), normal(3)),
    Sample("fill_", lambda m, x, y: (x * 2).fill_(y) * x, normal(2, 3), normal()),
    Sample("zero_", lambda m, x: (x * 2).zero_() + x, normal(2, 3)),
    *calls(normal(2, 3), **{
        "to itself": lambda m, x: x.to(x.dtype), "to copy": lambda m, x: x.to(x.dtype, copy=True),
        "cpu": lambda m, x: x.cpu(), "type_as": lambda m, x: x.type_as(x),
        "to other": lambda m, x: x.to(x), "to device": lambda m, x: x.to("cpu"),
        "to device and dtype": lambda m, x: x.to("cpu", x.dtype),
        "to keywords": lambda m, x: x.to(device="cpu"),
        "long": lambda m, x: (x * 4).long(), "bool": lambda m, x: x.bool(),
        "int8": lambda m, x: (x * 4).to(m.int8),
    }),
    Sample("float", lambda m, x: x.float(), small(2, 3), rtol=1e-6, second=False),
    Sample("float and double", lambda m, x: x.float().double() * x, small(2, 3), rtol=1e-6, float32=None),
    Sample("mixed dtypes", lambda m, x, y: x.float() * y, small(2, 3), small(3), rtol=1e-6, float32=None),
    Sample("0-d float64 is weak", lambda m, x, s: x.float() * s, small(3), small(), rtol=1e-6, second=False),
    Sample("double", lambda m, i: i.double() / 3, integers(9, 4), float32=None),
]  # fmt: skip
