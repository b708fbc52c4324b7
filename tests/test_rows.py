"""Rows kernels: reductions along rows and columns, the same on every machine, right against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle

import kernels
from kernels import KernelError, Rows
from kernels.layers import (
    BIAS_GRAD,
    BIAS_RELU_BACKWARD,
    CROSS_ENTROPY,
    CROSS_ENTROPY_BACKWARD,
    LOG_SOFTMAX,
    LOG_SOFTMAX_BACKWARD,
    SOFTMAX,
    SOFTMAX_BACKWARD,
    SUM_SQUARES,
)

MACHINES = ("compiled", "numpy")
SHAPES = [
    (5, 7),
    (3, 16),
    (4, 17),
    (300, 1),
    (1, 5000),
    (1000, 130),
    (2, 3, 33),
    (40,),
    (0, 5),
    (5, 0),
    (0, 0),
]

# Only + * / comparison and selection: the machines must agree to the bit.
STATISTICS = Rows(
    "statistics",
    "S x, col S w",
    "S y, row T mean, row T spread, row T top, row bool odd",
    scalars="eps",
    body="""
    T v = T(x) * T(w);
    T m = sum(v) / T(n);
    T d = v - m;
    T q = sum(d * d) / T(n) + eps;
    T far = max(abs(d));
    if (far > T(3)) { q = q * T(2); }
    mean = m;
    spread = sqrt(q);
    top = max(v) - min(v);
    odd = i % 2 == 1;
    y = j % 3 == 0 ? d / sqrt(q) : T(0);
""",
)

# The same along columns, as batch normalisation does it.
COLUMNS = Rows(
    "columns",
    "S x, row S w",
    "S y, col T mean, col T spread, col T top",
    axis=0,
    scalars="eps",
    body="""
    T v = T(x) * T(w);
    T m = sum(v) / T(rows);
    T d = v - m;
    T q = sum(d * d) / T(rows) + eps;
    T far = max(abs(d));
    if (far > T(3)) { q = q * T(2); }
    mean = m;
    spread = sqrt(q);
    top = max(v) - min(v);
    y = i % 3 == 0 ? d / sqrt(q) : T(j);
""",
)


def dtype(name):
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def normal(shape, name="float32", seed=0):
    return np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(dtype(name))


def run(kernel, *arrays, **call):
    """The outputs on each machine."""
    results = []
    for machine in MACHINES:
        with kernels.use(machine):
            out = kernel(*arrays, **call)
            results.append(out if isinstance(out, tuple) else (out,))
    return results


def same_bits(kernel, *arrays, **call):
    compiled, interpreted = run(kernel, *arrays, **call)
    for a, b in zip(compiled, interpreted, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        a, b = a.astype(np.float64), b.astype(np.float64)
        equal = (a == b) & (np.signbit(a) == np.signbit(b)) | (np.isnan(a) & np.isnan(b))
        assert equal.all(), (a[~equal][:5], b[~equal][:5])
    return compiled


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[-1]])
def test_reductions_along_rows_agree_to_the_bit_and_with_float64(shape, name):
    x, w = normal(shape, name, 1), normal(shape[-1:], name, 2)
    y, mean, spread, top, odd = same_bits(STATISTICS, x, w, scalars=[1e-3])
    v = x.astype(np.float64) * w.astype(np.float64)
    m = v.mean(-1)
    q = v.var(-1) + 1e-3
    q = np.where(np.abs(v - m[..., None]).max(-1, initial=0) > 3, 2 * q, q)
    tight = dict(rtol=3e-5, atol=3e-5)
    np.testing.assert_allclose(mean, m, **tight)
    np.testing.assert_allclose(spread, np.sqrt(q), **tight)
    np.testing.assert_allclose(top, v.max(-1) - v.min(-1), **tight)
    assert odd.ravel().tolist() == [k % 2 == 1 for k in range(odd.size)]
    expected = np.where(np.arange(shape[-1]) % 3 == 0, (v - m[..., None]) / np.sqrt(q)[..., None], 0)
    loose = {"float16": 2e-3, "bfloat16": 2e-2}.get(name, 1e-4)
    np.testing.assert_allclose(y.astype(np.float64), expected, rtol=loose, atol=loose)


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 7), (1, 3), (300, 1), (128, 16), (129, 300), (1000, 33), (2, 3, 5)])
def test_reductions_along_columns_agree_to_the_bit_and_with_float64(shape, name):
    x, w = normal(shape, name, 1), normal(shape[:-1], name, 2)
    y, mean, spread, top = same_bits(COLUMNS, x, w, scalars=[1e-3])
    v = (x.astype(np.float64) * w.astype(np.float64)[..., None]).reshape(-1, shape[-1])
    m = v.mean(0)
    q = v.var(0) + 1e-3
    q = np.where(np.abs(v - m).max(0) > 3, 2 * q, q)
    tight = dict(rtol=3e-5, atol=3e-5)
    np.testing.assert_allclose(mean, m, **tight)
    np.testing.assert_allclose(spread, np.sqrt(q), **tight)
    np.testing.assert_allclose(top, v.max(0) - v.min(0), **tight)
    thirds = np.arange(len(v))[:, None] % 3 == 0
    expected = np.where(thirds, (v - m) / np.sqrt(q), np.arange(shape[-1])).reshape(shape)
    loose = 2e-3 if name == "float16" else 1e-4
    np.testing.assert_allclose(y.astype(np.float64), expected, rtol=loose, atol=loose)


@settings(max_examples=40)
@given(st.integers(0, 400), st.integers(0, 70), st.sampled_from(["float32", "float64"]), st.integers(0, 99))
def test_sums_of_any_size_agree_to_the_bit(rows, n, name, seed):
    x = normal((rows, n), name, seed)
    x[np.random.default_rng(seed).random(x.shape) < 0.02] = np.random.default_rng(seed).choice(
        [-0.0, 1e30, -1e30]
    )
    (s,) = same_bits(SUM_SQUARES, x)
    (c,) = same_bits(BIAS_GRAD, x)
    exact = np.float64(x)
    np.testing.assert_allclose(c, exact.sum(0), rtol=1e-4, atol=1e-5 * max(1, np.abs(exact).sum()))
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(s, (exact**2).sum(-1).astype(name), rtol=1e-5)


def test_nans_infinities_and_zeros_reduce_alike():
    nan, inf = np.nan, np.inf
    x = np.array(
        [[1, nan, 2], [inf, 1, -inf], [-0.0, 0.0, -0.0], [-0.0] * 3, [-inf] * 3, [nan] * 3], np.float32
    )
    spread = Rows(
        "extremes", "S x", "row T a, row T b, row T s", "a = max(T(x)); b = min(T(x)); s = sum(T(x));"
    )
    a, b, s = same_bits(spread, x)
    np.testing.assert_array_equal(a, [nan, inf, 0, 0, -inf, nan])
    np.testing.assert_array_equal(b, [nan, -inf, 0, 0, -inf, nan])
    np.testing.assert_array_equal(s, [nan, nan, 0, 0, -inf, nan])
    columns = Rows("extremes0", "S x", "col T a, col T b", "a = max(T(x)); b = min(T(x));", axis=0)
    for got, expected in zip(same_bits(columns, np.ascontiguousarray(x.T)), (a, b)):
        np.testing.assert_array_equal(got, expected)


def test_threads_do_not_change_the_bits():
    x, w = normal((3000, 300), seed=1), normal(300, seed=2)  # three threads' worth
    before = kernels.get_num_threads()
    results = []
    try:
        with kernels.use("compiled"):
            for n in (1, 2, 3):
                kernels.set_num_threads(n)
                across = COLUMNS(x, np.ones(3000, np.float32), scalars=[1e-3])
                results.append([*STATISTICS(x, w, scalars=[1e-3]), *across, BIAS_GRAD(x)])
    finally:
        kernels.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_array_equal(a, b)


# -- the layers' texts -----------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 7), (64, 1000), (2, 3, 33), (4, 1)])
@pytest.mark.parametrize(
    ("kernel", "backward", "function"),
    [(SOFTMAX, SOFTMAX_BACKWARD, "softmax"), (LOG_SOFTMAX, LOG_SOFTMAX_BACKWARD, "log_softmax")],
)
def test_softmax_and_its_gradient_are_torchs(kernel, backward, function, shape, name):
    torch = oracle("torch")
    x, g = 5 * normal(shape, name, 1), normal(shape, name, 2)
    tx = torch.tensor(x.astype(np.float64), requires_grad=True)
    ty = getattr(torch, function)(tx, -1)
    ty.backward(torch.tensor(g.astype(np.float64)))
    tolerance = dict(rtol=1e-5, atol=1e-5) if name == "float32" else dict(rtol=1e-12, atol=1e-12)
    for (y,) in run(kernel, x):
        np.testing.assert_allclose(y, ty.detach(), **tolerance)
    for (gx,) in run(backward, g, ty.detach().numpy().astype(name)):
        np.testing.assert_allclose(gx, tx.grad, **tolerance)


@pytest.mark.parametrize("kernel", [SOFTMAX, LOG_SOFTMAX])
def test_softmax_does_not_overflow(kernel):
    x = np.array([[1e4, 0, -1e4], [-1e30, -1e30, -1e30]], np.float32)
    p = [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]
    for (y,) in run(kernel, x):
        np.testing.assert_allclose(y if kernel is SOFTMAX else np.exp(y), p, rtol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_and_its_gradient_are_torchs(smoothing, bias, index):
    torch = oracle("torch")
    R, C = 37, 50
    x, b, scale = normal((R, C), "float64", 1), normal(C, "float64", 2), normal(R, "float64", 3)
    target = np.random.default_rng(4).integers(0, C, R).astype(index)
    target[::5] = -1
    tx = torch.tensor(x, requires_grad=True)
    logits = tx + torch.tensor(b) if bias else tx
    loss = torch.nn.functional.cross_entropy(
        logits,
        torch.tensor(target.astype(np.int64)),
        ignore_index=-1,
        reduction="none",
        label_smoothing=smoothing,
    )
    loss.backward(torch.tensor(scale))
    flags = tuple(f for f, on in dict(smoothing=smoothing, bias=bias).items() if on)
    call = dict(flags=flags)
    if smoothing:
        call["scalars"] = dict(smoothing=smoothing, one_minus_smoothing=1 - smoothing)
    extra = [b] * bias
    for ours, lse in run(CROSS_ENTROPY, x, target, b if bias else None, **call):
        np.testing.assert_allclose(ours, loss.detach(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(lse, logits.logsumexp(-1).detach(), rtol=1e-12)
    for (gx,) in run(CROSS_ENTROPY_BACKWARD, x, target, lse, scale, *(extra or [None]), **call):
        np.testing.assert_allclose(gx, tx.grad, rtol=1e-12, atol=1e-12)


def test_bias_gradients_are_column_sums():
    g, y = normal((300, 70), seed=1), normal((300, 70), seed=2)
    gz, gb = same_bits(BIAS_RELU_BACKWARD, g, y)
    np.testing.assert_array_equal(gz, np.where(y > 0, g, 0))
    np.testing.assert_allclose(gb, np.where(y > 0, g, 0).sum(0, dtype=np.float64), rtol=1e-4, atol=1e-4)


# -- calls -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_an_output_may_be_the_input(machine):
    x = normal((50, 33))
    with kernels.use(machine):
        expected = SOFTMAX(x)
        assert SOFTMAX(x, x) is x
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("machine", MACHINES)
def test_arrays_with_gaps_or_overlaps_are_copied(machine):
    x = normal((50, 66))
    with kernels.use(machine):
        expected = SOFTMAX(np.ascontiguousarray(x[:, ::2]))
        np.testing.assert_array_equal(SOFTMAX(x[:, ::2]), expected)
        out = np.zeros((33, 50), np.float32)
        assert SOFTMAX(x[:, ::2], out.T).base is out
        np.testing.assert_array_equal(out.T, expected)
        flat = np.arange(120, dtype=np.float32)
        expected = SOFTMAX(flat[:100].reshape(10, 10).copy())
        np.testing.assert_array_equal(
            SOFTMAX(flat[:100].reshape(10, 10), flat[20:].reshape(10, 10)), expected
        )


@pytest.mark.parametrize("machine", MACHINES)
def test_every_second_call_takes_the_short_way_and_agrees(machine):
    x, target = normal((8, 10)), np.arange(8)
    with kernels.use(machine):
        first, second = (CROSS_ENTROPY(x, target) for _ in range(2))
        loss = np.zeros(8, np.float32)
        third = [CROSS_ENTROPY(x, target, None, None, loss) for _ in range(2)]
    np.testing.assert_array_equal(first, second)
    assert third[0][0] is loss and third[1][0] is loss
    np.testing.assert_array_equal(third[1], first)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("kernel", "args", "match"),
    [
        (SOFTMAX, (np.zeros((), "f4"),), r"needs a matrix of shape \(\.\.\., C\): x \(\)"),
        (SOFTMAX, (np.zeros((2, 0), "f4"),), "no largest or smallest of nothing"),
        (SOFTMAX, (np.zeros((2, 3), "f4"), np.zeros((3, 2), "f4")), r"'y' must have the shape \(2, 3\)"),
        (CROSS_ENTROPY, (np.zeros((2, 3), "f4"), np.zeros(3, "i8")), r"'target' must have the shape \(2,\)"),
        (BIAS_GRAD, (np.zeros((2, 3), "f4"), np.zeros(2, "f4")), r"'gb' must have the shape \(3,\)"),
        (
            BIAS_RELU_BACKWARD,
            (np.zeros((2, 3), "f4"), np.zeros(3, "f4")),
            r"'y' must have the shape \(2, 3\)",
        ),
    ],
)
def test_shapes_that_do_not_fit_raise(machine, kernel, args, match):
    with kernels.use(machine), pytest.raises(ValueError, match=match) as caught:
        kernel(*args)
    assert kernel.name in str(caught.value)


@pytest.mark.parametrize("machine", MACHINES)
def test_empty_matrices(machine):
    with kernels.use(machine):
        assert SOFTMAX(np.zeros((0, 0), "f4")).shape == (0, 0)
        assert SUM_SQUARES(np.zeros((3, 0), "f4")).tolist() == [0, 0, 0]
        assert BIAS_GRAD(np.zeros((0, 3), "f4"), np.full(3, 7, "f4")).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("declaration", "token", "match"),
    [
        (dict(inputs="S x", outputs="row T y", body="y = T(x);"), "y", "differs along it: reduce it first"),
        (
            dict(inputs="S x", outputs="row T y", body="T d = T(0); if (x > T(0)) d = T(1); y = d;"),
            "y",
            "reduce",
        ),
        (dict(inputs="S x", outputs="S y", body="if (i > 0) { y = sum(T(x)); }"), "sum", "inside a block"),
        (dict(inputs="S x", outputs="S y", body="y = i > 0 ? sum(T(x)) : T(0);"), "sum", "one side of a"),
        (dict(inputs="S x", outputs="row T y", body="y = sum(x > T(0));"), "sum", "reduces floats"),
        (dict(inputs="S x", outputs="col T y", body="y = sum(T(x));"), "col y", "cannot be an output"),
        (dict(inputs="row S x", outputs="row S y", body="y = x;"), "probe", "needs a matrix"),
        (dict(inputs="S x", outputs="S y", body="T sum = T(x); y = sum;"), "sum", "name of a function"),
        (dict(inputs="S x", outputs="S y", body="T m = sum(T(x)); y = m; m = T(1);"), "m", "another name"),
    ],
)
def test_a_rows_text_that_means_nothing_is_refused(declaration, token, match):
    with pytest.raises(KernelError, match=match) as caught:
        Rows("probe", **declaration)
    assert caught.value.token == token


def test_independent_reductions_share_a_pass():
    assert [
        len(STATISTICS.stages(STATISTICS.variant()).passes),
        len(SOFTMAX.stages(SOFTMAX.variant()).passes),
    ] == [3, 3]
    stages = CROSS_ENTROPY.stages(CROSS_ENTROPY.variant())
    assert [[s.op for s in p.steps if hasattr(s, "op") and s.op] for p in stages.passes] == [
        ["max", "sum"],
        ["sum"],
    ]
