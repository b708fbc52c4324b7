"""Reductions, scans, norms and order, beside the sample table: special points as PyTorch has them, types,
errors, and that training's sums are summed well.

Numerical differentiation has nothing to say at ties, zeros of norms and nans, so these stand here.
"""

import numpy as np
import pytest
from oracle import oracle

import minigrad as mg
from minigrad.backend import destination
from minigrad.ops.sums import TALL, WIDE, fold

nan, inf = np.nan, np.inf


def flat(results):
    return [t for r in results for t in flat(r)] if isinstance(results, (tuple, list)) else [results]


def host(t):
    return np.asarray(t.detach().numpy(force=True))


def run(m, fn, array, second):
    """The results of fn, their gradient in a fixed direction, and the gradient of that one."""
    x = m.tensor(np.array(array, dtype=float), requires_grad=True)
    ys = flat(fn(m, x))
    roots = [y for y in ys if y.requires_grad]
    grad = mg.grad if m is mg else m.autograd.grad
    seeds = [m.full_like(y, 1.5 + k) for k, y in enumerate(roots)]
    (g,) = grad(roots, x, seeds, create_graph=True)
    found = [host(y) for y in ys] + [host(g)]
    if second:
        weights = m.tensor(0.7 * np.arange(1, 1 + host(g).size).reshape(host(g).shape))
        (h,) = grad((g * weights).sum(), x, allow_unused=True) if g.requires_grad else (None,)
        found.append(np.zeros_like(found[-1]) if h is None else host(h))
    return found


def norms(p):
    return lambda m, x: x.norm(p, 1)


TIED = [[1.0, 3.0, 3.0], [3.0, 1.0, 1.0]]
HOLES = [[1.0, nan, 3.0], [3.0, 1.0, nan]]
ZEROS = [[0.0, 0.0], [1.0, 0.0], [1.0, -2.0]]
FIRST, SECOND = False, True

SPECIAL = {
    "amax at ties": (lambda m, x: (x.amax(1), x.amin(), x.amin(0)), TIED, SECOND),
    "max and min at ties": (lambda m, x: (x.max(), x.min(), x.aminmax(), x.aminmax(dim=1)), TIED, SECOND),
    "max along a dim at ties": (lambda m, x: (x.max(1), x.min(0)), TIED, SECOND),
    "amax with nan": (lambda m, x: (x.amax(1), x.amin(0)), HOLES, FIRST),
    "max with nan": (lambda m, x: x.max(), HOLES, SECOND),
    "min with nan": (lambda m, x: x.min(), HOLES, SECOND),
    "max along a dim with nan": (lambda m, x: (x.max(1), x.min(0)), HOLES, SECOND),
    "argmax with nan and ties": (lambda m, x: (x.argmax(), x.argmin(1), x.sum()), HOLES, FIRST),
    "median at ties": (lambda m, x: x.median(), [1.0, 2.0, 2.0, 3.0, 2.0], SECOND),
    "median with nan": (lambda m, x: x.median(), [1.0, nan, 2.0, nan, 2.0], SECOND),
    "median along a dim with nan": (lambda m, x: x.median(0).values, [1.0, nan, 2.0, 3.0, 5.0], SECOND),
    "nanmedian with nan": (lambda m, x: (x.nanmedian(), x.nanmedian(0)), [1.0, nan, 7.0, 3.0, 4.0], SECOND),
    "nansum with nan": (lambda m, x: (x.nansum(1), x.nansum(), x.nanmean(1)), HOLES, SECOND),
    "quantile with nan": (lambda m, x: m.quantile(x, 0.3, dim=1), [[nan, 2.0, 1.0], [3.0, 2.0, 1.0]], SECOND),
    "variance of one element": (lambda m, x: x.var(0), [[1.0, 2.0, 3.0]], SECOND),
    "variance of one element, correction=0": (lambda m, x: x.var(0, correction=0), [[1.0, 2.0, 3.0]], SECOND),
    "variance, too much correction": (lambda m, x: x.var(0, correction=5), [[1.0, 2.0], [2.0, 2.0]], SECOND),
    "deviation of equal elements": (lambda m, x: x.std(1), [[1.0, 1.0, 1.0], [1.0, 2.0, 4.0]], FIRST),
    "deviation of one element": (lambda m, x: x.std(0), [[1.0, 2.0, 3.0]], FIRST),
    "norm of zeros": (lambda m, x: (x.norm(), x.norm(dim=1), x.norm(2, 0, True)), np.zeros((2, 2)), FIRST),
    **{f"norm p={p} at zeros": (norms(p), ZEROS, FIRST) for p in (0.5, 1, 1.5, 2, 3, 4, -1)},
    **{f"norm p={p} at zeros": (norms(p), ZEROS, SECOND) for p in (1, 3, 4, inf, -inf)},
    **{f"norm p={p} at ties": (norms(p), [[1.0, -1.0], [2.0, 1.0]], SECOND) for p in (1, inf, -inf)},
    "logsumexp of infinities": (lambda m, x: x.logsumexp(1), [[-inf, 1.0], [-inf, -inf], [inf, 1.0]], SECOND),
    "logsumexp of nothing": (lambda m, x: (x.logsumexp(1), x.prod(1), x.sum(1)), np.zeros((2, 0)), SECOND),
    "logcumsumexp of -inf": (lambda m, x: x.logcumsumexp(1), [[-inf, 1.0, 2.0], [1.0, -inf, 2.0]], FIRST),
    "logcumsumexp of inf": (lambda m, x: x.logcumsumexp(1), [[inf, 1.0, 2.0], [1.0, inf, 2.0]], FIRST),
    "cumprod of zeros": (
        lambda m, x: x.cumprod(1),
        [[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [0.0, 0.0, 3.0]],
        SECOND,
    ),
    "prod of zeros": (lambda m, x: (x.prod(1), x.prod()), [[0.0, 1.0, 2.0], [1.0, 3.0, 2.0]], SECOND),
    "cummax at ties and nan": (lambda m, x: (x.cummax(1), x.cummin(0)), [*HOLES, [2.0, 2.0, 2.0]], SECOND),
    "sort at ties, with nan": (lambda m, x: m.sort(x, stable=True, dim=1), [*TIED, [nan, 2.0, 1.0]], SECOND),
    "sort downwards at ties": (
        lambda m, x: m.sort(x, stable=True, descending=True),
        [*TIED, [2.0, nan, 1.0]],
        SECOND,
    ),
    "topk with nan": (lambda m, x: m.topk(x, 2, dim=1), [[nan, 2.0, 1.0], [1.0, 3.0, 2.0]], SECOND),
    "mean of nothing": (lambda m, x: (x.mean(), x.sum(), x.norm(), x.prod()), [], FIRST),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.filterwarnings("ignore:(var|std).*degrees of freedom")
def test_special_points_are_as_in_torch(name):
    torch = oracle("torch")
    for ours, theirs in zip(run(mg, *SPECIAL[name]), run(torch, *SPECIAL[name]), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_second_gradients_at_a_zero_norm_are_finite():
    """Where torch has nan."""
    for fn in (*map(norms, (2, 1.5, 0.5, -1)), lambda m, x: x.std(1)):
        assert all(np.isfinite(a).all() for a in run(mg, fn, np.zeros((2, 2)), True)[1:])


def test_zero_norm_has_gradient_zero():
    x = mg.tensor([0.0, 2.0], requires_grad=True)
    mg.norm(x, 0).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0])


def test_third_derivatives_of_products_with_zeros_are_exact():
    x = mg.tensor([2.0, 0.0, 3.0, 0.0], dtype=mg.float64, requires_grad=True)
    for f in (lambda x: x.prod(), lambda x: x.cumprod(0)[-1]):
        (g,) = mg.grad(f(x), x, create_graph=True)
        (h,) = mg.grad(g[0], x, create_graph=True)
        (k,) = mg.grad(h[1], x)
        np.testing.assert_allclose(k.numpy(), [0, 0, 0, 3])  # d^3 (abcd) / da db d(d) = c


# types


@pytest.mark.oracle
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
)
def test_types_of_results_are_those_of_torch(dtype):
    torch = oracle("torch")
    values = np.array([[1, 0, 1], [1, 1, 0]])
    functions = """sum prod cumsum cumprod amax amin argmax argmin all any count_nonzero max min median sort
        argsort unique cummax cummin mean var std norm logsumexp nansum logcumsumexp topk""".split()
    arguments = dict(
        cumsum=(0,), cumprod=(1,), cummax=(1,), cummin=(0,), logsumexp=(1,), logcumsumexp=(1,), topk=(2,)
    )
    for name in functions:
        found = []
        for m in (mg, torch):
            x = m.tensor(values.tolist(), dtype=getattr(m, dtype))
            try:
                found.append(
                    [str(y.dtype).split(".")[1] for y in flat(getattr(m, name)(x, *arguments.get(name, ())))]
                )
            except (TypeError, RuntimeError) as error:
                found.append(type(error))
        ours, theirs = found
        if isinstance(theirs, list):
            assert ours == theirs, f"{name} of {dtype}: {ours}, torch {theirs}"
        elif name in ("mean", "var", "std", "norm"):
            assert ours is TypeError, f"{name} of {dtype}: {ours}, torch raises"


@pytest.mark.parametrize("dtype, eps", [(mg.float16, 2.0**-10), (mg.bfloat16, 2.0**-7)])
def test_short_floats_are_reduced_in_float32(dtype, eps):
    values = mg.tensor(np.random.default_rng(0).uniform(0.5, 1.5, (40, 300))).to(dtype)
    calls = [
        lambda x: x.sum(1),
        lambda x: x.mean(),
        lambda x: x.mean((0, 1)),
        lambda x: x.var(0),
        lambda x: x.std(1),
        lambda x: x.norm(dim=1),
        lambda x: x.norm(3, 0),
        lambda x: x.cumsum(1),
        lambda x: x.logsumexp(0),
        lambda x: x.prod(0),
        lambda x: x.logcumsumexp(1),
        lambda x: x.amax(1),
        lambda x: x.max(0),
        lambda x: x.sort(1),
        lambda x: x.median(1).values,
        lambda x: x.argmin(1),
        lambda x: x.expand(2, 40, 300).sum(0),
        lambda x: x.nanmean(),
    ]
    for k, call in enumerate(calls):
        for y, exact in zip(flat(call(values)), flat(call(values.double())), strict=True):
            np.testing.assert_allclose(host(y.double()), host(exact), rtol=eps, err_msg=str(k))


@pytest.mark.parametrize("dtype", [mg.float16, mg.bfloat16])
def test_short_floats_get_gradients_of_their_type(dtype):
    for call in ("sum", "mean", "var", "norm", "prod", "amax", "logsumexp", "cumsum", "cumprod"):
        x = mg.tensor([1.0, 2.0, 3.0], dtype=dtype, requires_grad=True)
        y = getattr(x, call)(*([0] if call in ("logsumexp", "cumsum", "cumprod") else []))
        y.sum().backward()
        assert x.grad.dtype is dtype and y.dtype is dtype
    x = mg.ones(3, dtype=dtype, requires_grad=True)
    x.expand(
        5000, 3
    ).sum().backward()  # broadcasting is undone in float32: a running sum of ones ends at 2048
    assert x.grad.tolist() == [5000 if dtype is mg.float16 else 4992] * 3


# accuracy and memory


@pytest.mark.parametrize(
    "shape, axes",
    [
        ((64, 100), (0,)),
        ((64, 100), (1,)),
        ((64, 100), (0, 1)),
        ((8, 5, 7), (0, 1)),
        ((8, 5, 7), (1, 2)),
        ((8, 5, 7), (1,)),
        ((8, 5, 7), (0, 2)),
        ((WIDE,), (0,)),
        ((2, WIDE + 1), (1,)),
        ((TALL + 1, 2), (0,)),
        ((50, 3000), (0, 1)),
        ((8, 5000, 4), (0, 1, 2)),
        ((3, 1, 6), (0,)),
        ((1, 6), (0,)),
        ((0, 3), (0,)),
        ((3, 0), (1,)),
        ((), ()),
        ((4,), ()),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_every_way_to_sum_gives_the_sum(shape, axes, dtype):
    x = np.random.default_rng(1).uniform(0, 0.5, shape).astype(dtype)
    for layout in (x, np.asfortranarray(x), x[..., ::-1] if shape else x):
        for keepdims in (False, True):
            exact = layout.astype(np.longdouble).sum(axis=axes, keepdims=keepdims)
            y = fold(layout, axes, exact.shape)
            assert y.shape == exact.shape and y.dtype == dtype
            np.testing.assert_allclose(
                y, exact.astype(float), rtol=8 * np.finfo(dtype).eps * max(1, np.log2(x.size + 1))
            )


def test_sums_write_into_the_memory_they_are_offered():
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    for layout, axes in ((x, (0,)), (x.T, (1,)), (np.asfortranarray(x), (0,)), (x.reshape(1, 2, 3), (0, 1))):
        slot = np.full(3, nan, np.float32)
        destination.array = slot
        try:
            assert fold(layout, axes, (3,)) is slot
        finally:
            destination.array = None
        np.testing.assert_array_equal(slot, [3, 5, 7])


def test_infinities_stay_in_their_row():
    x = mg.tensor([[inf, 1.0], [1.0, -inf], [nan, 2.0]])
    assert str(x.sum(1).tolist()) == "[inf, -inf, nan]"
    assert str(x.sum(0).tolist()) == "[nan, -inf]"


def test_expansions_are_read_only_views_and_their_gradients_are_written_out():
    x = mg.ones(3, 1, requires_grad=True)
    y = x.expand(3, 40)
    assert np.shares_memory(y.array, x.array) and not y.array.flags.writeable
    (g,) = mg.grad(y.sum(), x)
    np.testing.assert_array_equal(g.numpy(), np.full((3, 1), 40))


# errors


def wrong(kind, pattern, call):
    return pytest.param(kind, pattern, call, id=pattern[:40])


X, I = mg.ones(2, 3), mg.ones(2, 3, dtype=mg.int64)


@pytest.mark.parametrize(
    "kind, pattern, call",
    [
        wrong(IndexError, r"sum: dim 2 is out of range for a 2-d tensor; use -2 to 1", lambda: X.sum(2)),
        wrong(IndexError, r"mean: dim -3 is out of range", lambda: X.mean((0, -3))),
        wrong(IndexError, r"argmax: dim 1 is out of range for a 0-d", lambda: X.sum().argmax(1)),
        wrong(ValueError, r"sum: dim 1 appears more than once in dim=\(1, -1\)", lambda: X.sum((1, -1))),
        wrong(TypeError, r"sum: dim must be an int, not 1.5", lambda: X.sum(1.5)),
        wrong(TypeError, r"sum: list is no Tensor; make it one with minigrad.tensor", lambda: mg.sum([1, 2])),
        wrong(TypeError, r"mean: list is no Tensor", lambda: mg.mean([1, 2])),
        wrong(TypeError, r"mean: int64 input; use input.float\(\), or pass dtype=", lambda: I.mean()),
        wrong(TypeError, r"mean: dtype must be a floating type, not int64", lambda: X.mean(dtype=mg.int64)),
        wrong(TypeError, r"var: int64 input", lambda: I.var()),
        wrong(TypeError, r"std: int64 input", lambda: I.std(0)),
        wrong(TypeError, r"norm: int64 input", lambda: I.norm()),
        wrong(TypeError, r"var: give unbiased or correction, not both", lambda: X.var(0, True, correction=1)),
        wrong(ValueError, r"max: no element to choose, the input has shape \(0, 3\)", lambda: X[:0].max()),
        wrong(ValueError, r"min: no element to choose", lambda: X[:0].min(0)),
        wrong(ValueError, r"amax: no element to choose", lambda: X[:0].amax()),
        wrong(ValueError, r"argmin: no element to choose", lambda: X[:0].argmin(0)),
        wrong(ValueError, r"median: no element to choose", lambda: X[:0].median()),
        wrong(ValueError, r"norm: no element to choose", lambda: X[:0].norm(-inf)),
        wrong(TypeError, r"norm: order 'two'; it must be a number", lambda: X.norm("two")),
        wrong(IndexError, r"topk: k = 4, but dim -1 has 3 elements", lambda: X.topk(4)),
        wrong(
            IndexError,
            r"kthvalue: k = 0, but dim 1 has 3 elements; k counts from 1",
            lambda: X.kthvalue(0, 1),
        ),
        wrong(ValueError, r"quantile: q = 1.5; quantiles lie in \[0, 1\]", lambda: X.quantile(1.5)),
        wrong(
            ValueError,
            r"quantile: interpolation 'cubic'; use linear, lower",
            lambda: X.quantile(0.5, interpolation="cubic"),
        ),
        wrong(
            TypeError,
            r"bincount: whole numbers in a vector are needed, not float32\[2, 3\]",
            lambda: X.bincount(),
        ),
        wrong(ValueError, r"bincount: element -1 is negative", lambda: (-I[0]).bincount()),
        wrong(ValueError, r"bincount: minlength -2 is negative", lambda: I[0].bincount(minlength=-2)),
        wrong(ValueError, r"bincount: \(2,\) weights for \(3,\) elements", lambda: I[0].bincount(X[:, 0])),
        wrong(ValueError, r"histc: bins = 0 must be positive", lambda: X.histc(0)),
        wrong(ValueError, r"histc: the range \[nan, nan\] must be finite", lambda: (X * nan).histc(3)),
        wrong(ValueError, r"diff: n = -1; it must be 0 or more", lambda: X.diff(-1)),
        wrong(ValueError, r"diff: a 0-d tensor has no neighbours", lambda: X.sum().diff()),
    ],
)
def test_errors_name_the_function_the_values_and_the_cure(kind, pattern, call):
    with pytest.raises(kind, match=pattern):
        call()


def test_reductions_along_other_dims_of_an_empty_tensor_are_empty():
    x = mg.ones(0, 3)
    assert x.max(1).values.shape == x.argmax(1).shape == x.amax(1).shape == (0,)
    assert x.amax(1, keepdim=True).shape == (0, 1)


def test_named_results_have_pytorchs_names():
    x = mg.ones(2, 3)
    for result in (
        x.max(1),
        x.min(1),
        x.sort(),
        x.topk(2),
        x.median(1),
        x.kthvalue(1),
        x.cummax(0),
        x.cummin(0),
    ):
        assert result._fields == ("values", "indices") and result.values is result[0]
    assert x.aminmax()._fields == ("min", "max")
