"""Indexing, beside the sample table: any key as PyTorch has it, views and writing through them, what is
refused, sums in a fixed order, and the same on a device."""

import fake_cupy
import numpy as np
import pytest
import test_ops
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle
from samples import indexing as samples

import minigrad as mg

# ----------------------------------------------------------------------------------- any key, against PyTorch

SHAPES = st.lists(st.integers(0, 4), min_size=0, max_size=4).map(tuple)


@st.composite
def slices(draw):
    ends = st.none() | st.integers(-5, 5)
    return slice(draw(ends), draw(ends), draw(st.none() | st.integers(1, 3)))


@st.composite
def whole_numbers(draw, size):
    """An array of indices that mostly fit a dim of some size, in one of a few shapes."""
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 1), (2, 3), (0,)] if size else [(0,)]))
    low, high = draw(st.sampled_from([(0, size - 1), (-size, size - 1)])) if size else (0, 0)
    count = int(np.prod(shape))
    flat = draw(st.lists(st.integers(low, high), min_size=count, max_size=count))
    return np.array(flat, draw(st.sampled_from([np.int64, np.int32]))).reshape(shape)


@st.composite
def keys(draw, shape):
    """An index of a tensor of this shape; a few do not fit."""
    items, left, dots = [], list(shape), False
    while left and draw(st.integers(0, 9)):
        kind = draw(st.sampled_from("islnebmw"))
        if kind == "n":
            items.append(None)
        elif kind == "e" and not dots:
            items.append(...)
            dots = True
            for _ in range(draw(st.integers(0, len(left)))):
                left.pop(0)
        elif kind == "m":
            ndim = draw(st.integers(1, len(left)))
            size = int(np.prod(left[:ndim]))
            flat = draw(st.lists(st.booleans(), min_size=size, max_size=size))
            items.append(np.array(flat, bool).reshape(left[:ndim]))
            del left[:ndim]
        elif kind == "i":
            size = left.pop(0)
            items.append(draw(st.integers(-size, max(size - 1, 0))))
        elif kind == "s":
            left.pop(0)
            items.append(draw(slices()))
        elif kind in "wl":
            array = draw(whole_numbers(left.pop(0)))
            items.append(array.tolist() if kind == "l" and array.ndim == 1 else array)
    if len(items) == 1 and draw(st.booleans()) and not isinstance(items[0], list):
        return items[0]
    return tuple(items)


def as_tensors(m, key):
    if isinstance(key, tuple):
        return tuple(as_tensors(m, k) for k in key)
    return m.tensor(key) if isinstance(key, np.ndarray) else key


def outcome(function):
    """("value", what it returns) or ("error", None)."""
    try:
        return "value", function()
    except (IndexError, ValueError, TypeError, RuntimeError) as error:
        return "error", error


@pytest.mark.oracle
@settings(max_examples=400)
@given(st.data())
def test_any_key_reads_as_in_torch(data):
    torch = oracle("torch")
    shape = data.draw(SHAPES)
    key = data.draw(keys(shape))
    values = np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)

    def read(m):
        x = m.tensor(values, dtype=m.float64).requires_grad_()
        y = x[as_tensors(m, key)]
        y.backward(m.tensor(np.arange(1.0, 1.0 + np.prod(y.shape)).reshape(tuple(y.shape)), dtype=m.float64))
        return y.detach().numpy(), x.grad.numpy(), y._base is not None if m is torch else y.is_view

    kind, ours = outcome(lambda: read(mg))
    expected, theirs = outcome(lambda: read(torch))
    if kind != expected == "value" and not theirs[0].size:
        return  # torch does not look at indices where there is nothing to take
    assert kind == expected, (ours, theirs)
    if kind == "value":
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
        assert ours[2] == theirs[2] or not ours[0].size, "a view in one, a copy in the other"


@pytest.mark.oracle
@settings(max_examples=400)
@given(st.data())
def test_any_key_writes_as_in_torch(data):
    """Also as part of a graph; no place is named twice, since then PyTorch does not say what stays."""
    torch = oracle("torch")
    shape = data.draw(SHAPES)
    key = data.draw(keys(shape))
    places = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    kind, named = outcome(lambda: torch.tensor(places)[as_tensors(torch, key)])
    if kind == "value" and named.unique().numel() != named.numel():
        return
    target = tuple(named.shape) if kind == "value" else (2,)
    cut = data.draw(st.integers(0, len(target)))
    value_shape = tuple(data.draw(st.sampled_from([n, 1])) for n in target[cut:])
    values = np.arange(100.0, 100.0 + np.prod(value_shape)).reshape(value_shape)
    recorded = data.draw(st.booleans())

    def write(m):
        x = m.tensor(places, dtype=m.float64).requires_grad_(recorded)
        v = m.tensor(values, dtype=m.float64).requires_grad_(recorded)
        y = x * 2.0
        y[as_tensors(m, key)] = v
        if recorded:
            (y * m.tensor(places + 1.0)).sum().backward()
        return [t.numpy() for t in ((y.detach(), x.grad, v.grad) if recorded else (y,))]

    kind, ours = outcome(lambda: write(mg))
    expected, theirs = outcome(lambda: write(torch))
    if kind != expected == "value" and not named.numel():
        return  # as above
    assert kind == expected, (ours, theirs)
    if kind == "value":
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------------ views and writing


def test_basic_keys_are_views_and_advanced_ones_copies():
    x = mg.zeros(3, 4)
    for key in (1, slice(1, 2), (..., 0), (0, 0), None, ...):
        y = x[key]
        y.fill_(1.0)
        assert x[key].tolist() == y.tolist()
        x.zero_()
    for key in ([0, 1], mg.tensor([0]), x > -1, (slice(None), [0]), True):
        x[key].fill_(1.0)
        assert not x.any()


def test_writing_counts_as_a_change_of_base_and_views():
    x = mg.zeros(3)
    view = x[1:]
    before = x._version
    x[0] = 1.0
    view[0] = 2.0
    view[mg.tensor([1])] = 3.0
    x[x > 2.5] = 4.0
    assert x._version == view._version == before + 4
    assert x.tolist() == [1.0, 2.0, 4.0]


def test_values_are_cast_to_the_dtype_of_the_tensor():
    x = mg.zeros(3, dtype=mg.int64)
    x[0] = 2.7
    x[1:] = mg.tensor(3.9)
    assert x.tolist() == [2, 3, 3]
    y = mg.zeros(2, dtype=mg.bool)
    y[1] = 5
    assert y.tolist() == [False, True]


def test_dtypes_pass_through():
    for d in (mg.bool, mg.uint8, mg.int32, mg.float16, mg.bfloat16):
        x = mg.tensor([0, 1, 1]).to(d)
        i = mg.tensor([2, 0])
        for y in (x[i], x[1:], x.gather(0, i), x.index_select(0, i), x.take(i), x.masked_select(x > 0)):
            assert y.dtype is d


def test_iteration_and_membership():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert [row.tolist() for row in x] == [[1.0, 2.0], [3.0, 4.0]]
    _, b = x
    assert b.tolist() == [3.0, 4.0]
    with pytest.raises(TypeError, match="0-d"):
        iter(mg.tensor(1.0))


def test_a_0d_index_tensor_is_an_int_and_gives_a_view():
    x = mg.zeros(3, 2)
    x[mg.tensor(1)].fill_(5.0)
    assert x[:, 0].tolist() == [0.0, 5.0, 0.0]


def test_changing_an_index_after_use_is_found():
    x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    i = mg.tensor([0, 2])
    y = x[i].sum()
    i[0] = 1
    with pytest.raises(RuntimeError, match="take needs was modified in place"):
        y.backward()


# --------------------------------------------------------------------------------------------------- refusals

I, J = [0, 5], [0, -9]
OUT_OF_RANGE = {
    "indexing": (lambda m, x, i: x[i], I),
    "indexing rows and columns": (lambda m, x, i: x[i, m.tensor([0, 0])], I),
    "indexing int": (lambda m, x, i: x[5], I),
    "indexing ints": (lambda m, x, i: x[0, -9], J),
    "indexing list": (lambda m, x, i: x[:, [0, -9]], J),
    "indexing assignment": (lambda m, x, i: x.__setitem__(i, 0.0), J),
    "index_select": (lambda m, x, i: x.index_select(0, i), I),
    "index_select negative": (lambda m, x, i: x.index_select(0, i), [-1]),
    "index_add": (lambda m, x, i: x.index_add(0, i, m.zeros(2, 4)), I),
    "index_copy": (lambda m, x, i: x.index_copy(0, i, m.zeros(2, 4)), I),
    "index_fill": (lambda m, x, i: x.index_fill(0, i, 0.0), I),
    "index_put": (lambda m, x, i: x.index_put((i,), m.zeros(4)), I),
    "gather": (lambda m, x, i: x.gather(0, i[:, None]), I),
    "gather negative": (lambda m, x, i: x.gather(0, i[:, None]), [-1]),
    "scatter": (lambda m, x, i: x.scatter(0, i[:, None], 1.0), I),
    "scatter_add": (lambda m, x, i: x.scatter_add(0, i[:, None], m.zeros(2, 1)), I),
    "scatter_reduce": (lambda m, x, i: x.scatter_reduce(0, i[:, None], m.zeros(2, 1), "amax"), I),
    "take": (lambda m, x, i: x.take(i), [0, 12]),
    "put": (lambda m, x, i: x.put(i, m.zeros(2)), [0, -13]),
    "take_along_dim": (lambda m, x, i: x.take_along_dim(i[:, None], 0), I),
}


@pytest.mark.parametrize("case", OUT_OF_RANGE)
def test_an_index_out_of_range_is_named(case):
    function, index = OUT_OF_RANGE[case]
    name = case.split()[0]
    bad = next(i for i in reversed(index) if i)
    with pytest.raises(IndexError) as caught:
        function(mg, mg.zeros(3, 4), mg.tensor(index))
    told = str(caught.value)
    if "int" in case.split()[-1]:
        name = "getitem"  # NumPy finds it, the operation tells
    assert name in told and str(bad) in told and any(f"size {n}" in told for n in (3, 4, 12)), told


@pytest.mark.oracle
@pytest.mark.parametrize("case", [c for c in OUT_OF_RANGE if c != "take_along_dim"])  # torch does not look
def test_torch_refuses_the_same_indices(case):
    torch = oracle("torch")
    function, index = OUT_OF_RANGE[case]
    with pytest.raises((IndexError, RuntimeError)):
        function(torch, torch.zeros(3, 4), torch.tensor(index))


REFUSED = {
    "negative step": (lambda m, x: x[::-1], ValueError, r"step -1; steps must be positive, flip\(\)"),
    "step 0": (lambda m, x: x[::0], ValueError, "step 0; steps must be positive"),
    "too many": (lambda m, x: x[0, 0, 0], IndexError, "too many indices"),
    "too many with a tensor": (lambda m, x: x[0, m.tensor([0]), 0], IndexError, r"3 indices for .*\(3, 4\)"),
    "two Ellipses": (lambda m, x: x[..., 0, ...], IndexError, "llipsis"),
    "two Ellipses and a tensor": (
        lambda m, x: x[..., m.tensor([0]), ...],
        IndexError,
        "more than one Ellipsis",
    ),
    "float": (lambda m, x: x[1.0], IndexError, "float is no index; use ints"),
    "string": (lambda m, x: x["a"], IndexError, "str is no index"),
    "float tensor": (lambda m, x: x[m.tensor([1.0])], IndexError, r"a float32 index; .*\.long\(\)"),
    "mask of another size": (
        lambda m, x: x[m.tensor([True, False])],
        IndexError,
        r"mask of shape \(2,\).*\(3, 4\)",
    ),
    "shapes of indices": (
        lambda m, x: x[m.tensor([0, 1]), m.tensor([0, 1, 2])],
        IndexError,
        r"\(2,\) and \(3,\) cannot be broadcast",
    ),
    "value shape": (
        lambda m, x: x.__setitem__(0, m.zeros(3)),
        ValueError,
        r"value of shape \(3,\) for a part of shape \(4,\)",
    ),
    "value shape in a graph": (
        lambda m, x: (x.requires_grad_() * 1).__setitem__([0, 1], m.zeros(3)),
        ValueError,
        "broadcast",
    ),
    "value no tensor": (lambda m, x: x.__setitem__(0, "a"), TypeError, "str operand; make it a Tensor"),
    "write to expanded": (lambda m, x: x[:1].expand(3, 4).__setitem__(0, 1.0), ValueError, "expanded.*clone"),
    "gather ranks": (lambda m, x: x.gather(0, m.tensor([0])), ValueError, r"gather: index of shape \(1,\)"),
    "gather sizes": (lambda m, x: x.gather(0, m.zeros(3, 5).long()), ValueError, r"shape \(3, 5\)"),
    "gather float index": (lambda m, x: x.gather(0, x), TypeError, r"the index is float32.*\.long\(\)"),
    "gather dim": (lambda m, x: x.gather(2, x.long()), IndexError, "dim 2 is out of range for a 2-d"),
    "gather sparse_grad": (lambda m, x: x.gather(0, x.long(), sparse_grad=True), ValueError, "sparse_grad"),
    "scatter dtypes": (
        lambda m, x: x.scatter(0, x.long(), x.double()),
        TypeError,
        "float64 values for a float32",
    ),
    "scatter source": (lambda m, x: x.scatter(0, x.long(), x[:2]), ValueError, r"source's \(2, 4\)"),
    "scatter reduce": (
        lambda m, x: x.scatter(0, x.long(), 1.0, reduce="max"),
        ValueError,
        "reduce='max'; use",
    ),
    "scatter_reduce": (
        lambda m, x: x.scatter_reduce(0, x.long(), x, "median"),
        ValueError,
        "use 'sum', 'prod'",
    ),
    "index_add shape": (
        lambda m, x: x.index_add(0, m.tensor([0, 1]), m.zeros(3, 4)),
        ValueError,
        r"source has shape \(3, 4\); for this index it must be \(2, 4\)",
    ),
    "index_select matrix": (lambda m, x: x.index_select(0, x.long()), ValueError, "must be a vector"),
    "index_fill vector": (lambda m, x: x.index_fill(0, m.tensor([0]), m.zeros(2)), ValueError, "0-d tensor"),
    "index_put dtypes": (
        lambda m, x: x.index_put((m.tensor([0]),), x.double()[0]),
        TypeError,
        "index_put: float64",
    ),
    "put count": (lambda m, x: x.put(m.tensor([0, 1]), m.zeros(3)), ValueError, "3 values for 2 indices"),
    "masked_fill int mask": (
        lambda m, x: x.masked_fill(x.long(), 0.0),
        TypeError,
        r"mask is int64; .*\.bool\(\)",
    ),
    "masked_fill shape": (
        lambda m, x: x.masked_fill(m.zeros(3, 5) > 0, 0.0),
        ValueError,
        "cannot be broadcast",
    ),
    "masked_fill value": (lambda m, x: x.masked_fill(x > 0, x), ValueError, "value has shape"),
    "masked_scatter count": (
        lambda m, x: x.masked_scatter(x == 0, m.zeros(5)),
        ValueError,
        "12 places to fill, but source has 5",
    ),
    "take_along_dim ranks": (
        lambda m, x: x.take_along_dim(x[0].long()[None, None], 1),
        ValueError,
        "as many dims",
    ),
    "searchsorted side": (lambda m, x: m.searchsorted(x[0], x, side="up"), ValueError, "side='up'"),
    "searchsorted shapes": (lambda m, x: m.searchsorted(x, x[0]), ValueError, r"\(3, 4\) for an input"),
    "bucketize": (lambda m, x: m.bucketize(x, x), ValueError, "must be a vector"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_indexing_refuses(case):
    function, kind, text = REFUSED[case]
    with pytest.raises(kind, match=text):
        function(mg, mg.zeros(3, 4))


# which torch accepts: it ignores a second Ellipsis, and writes to expanded tensors in some forms
OURS_ALONE = ("gather sparse_grad", "write to expanded", "two Ellipses", "two Ellipses and a tensor")


@pytest.mark.oracle
@pytest.mark.parametrize("case", [c for c in REFUSED if c not in OURS_ALONE])
def test_torch_refuses_the_same(case):
    torch = oracle("torch")
    with pytest.raises((IndexError, ValueError, TypeError, RuntimeError)):
        REFUSED[case][0](torch, torch.zeros(3, 4))


# -------------------------------------------------------------------------------------- sums in a fixed order


def test_sums_by_index_are_added_in_the_order_of_the_index():
    rng = np.random.default_rng(0)
    g, index = rng.standard_normal((500, 3)).astype(np.float32), rng.integers(0, 7, 500)
    expected = np.zeros((7, 3), np.float32)
    for row, place in zip(g, index, strict=True):
        expected[place] += row
    for _ in range(2):
        y = mg.zeros(7, 3).index_add(0, mg.tensor(index), mg.tensor(g))
        np.testing.assert_array_equal(y.numpy(), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype):
    d = getattr(mg, dtype)
    x = mg.zeros(2, dtype=d).index_add(0, mg.zeros(4000).long(), mg.ones(4000, dtype=d))
    assert x.dtype is d and x.tolist() == [4000.0, 0.0]


@given(
    st.sampled_from(["add", "maximum", "minimum"]),
    st.lists(st.integers(0, 5), max_size=40),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=50)
def test_the_scan_of_a_device_is_the_loop_of_the_cpu(how, index, inner, seed):
    from minigrad.ops.index import collected, scanned

    places = np.array(index, np.int64)
    g = np.random.default_rng(seed).standard_normal((len(index), inner))
    expected = collected(g, places, 0, 6, how)
    if g.size:
        np.testing.assert_allclose(scanned(np, g, places, 6, how), expected, rtol=1e-13, atol=1e-14)


def test_scatter_reduce_of_integers():
    x = mg.tensor([5, 5, 5])
    i, s = mg.tensor([0, 0, 1]), mg.tensor([1, 2, 9])
    for reduce, expected in dict(
        sum=[8, 14, 5], prod=[10, 45, 5], mean=[2, 7, 5], amax=[5, 9, 5], amin=[1, 5, 5]
    ).items():
        assert x.scatter_reduce(0, i, s, reduce).tolist() == expected


# ------------------------------------------------------------------------------------------------ on a device

READING = ("mask", "nonzero", "prod", "multiply", "0-d tensor between")


@pytest.fixture
def device():
    with fake_cupy.installed() as device:
        yield device


@pytest.mark.parametrize("sample", samples.SAMPLES, ids=lambda s: s.name)
def test_a_device_has_the_same_values_and_gradients_and_is_not_read(device, sample):
    exact, _, exact_gradients = test_ops.gradient(mg, sample, create_graph=False)
    with device.counting() as work:
        outputs, gradients = test_ops.gradients_on_device(sample)
    for ours, theirs in zip(outputs + gradients, exact + exact_gradients, strict=True):
        if theirs is not None:
            test_ops.assert_close(ours.detach().cpu().numpy(), test_ops.host(theirs), 1e-12, sample.name)
    if not any(word in sample.name for word in READING):
        assert work.host_reads == []
