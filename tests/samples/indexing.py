"""Samples of indexing: x[...] and x[...] = v, gather and scatter, masks, searching."""

import numpy as np

from samples import Sample, booleans, distinct, integers, normal

ROWS = np.array([2, 0, 2, 1])
GRID = np.array([[0, 2], [1, 1]])
BELOW = np.array([-1, 0, -3])


def get(name, key, *shape, **options):
    """x[key], where key is made of tensors by a function of m and the tensors given."""
    given = options.pop("given", ())
    return Sample(f"getitem {name}", lambda m, x, *t: x[key(m, *t)], normal(*shape), *given, **options)


BASIC = [
    get("int", lambda m: 1, 3, 4),
    get("negative int", lambda m: -2, 3, 4),
    get("int of a vector", lambda m: 2, 3),
    get("ints", lambda m: (1, -1), 3, 4),
    get("slice", lambda m: slice(1, 3), 4, 2),
    get("slice step", lambda m: slice(None, None, 2), 5, 2),
    get("slice from the end", lambda m: slice(-3, -1), 5, 2),
    get("slice beyond", lambda m: slice(1, 100), 3, 2),
    get("empty slice", lambda m: slice(2, 1), 3, 2),
    get("slices", lambda m: (slice(0, 2), slice(1, None, 2)), 3, 4),
    get("all", lambda m: slice(None), 3, 2),
    get("None", lambda m: None, 3, 2),
    get("None in the middle", lambda m: (slice(None), None, 1), 3, 2),
    get("Ellipsis", lambda m: ..., 3, 2),
    get("Ellipsis and int", lambda m: (..., 0), 2, 3, 4),
    get("int and Ellipsis", lambda m: (1, ..., slice(0, 2)), 2, 3, 4),
    get("Ellipsis for no dims", lambda m: (0, ..., 1), 2, 3),
    get("nothing", lambda m: (), 2, 3),
    get("Ellipsis of a number", lambda m: ...),
    get("None of a number", lambda m: (None, None)),
    get("0-d tensor", lambda m: m.tensor(1), 3, 4),
    get("0-d tensor and slice", lambda m: (slice(None), m.tensor(-1), slice(1, 3)), 2, 3, 4),
    Sample("getitem of a transpose", lambda m, x: x.transpose(0, 1)[1:, 0], normal(3, 4)),
    Sample("getitem twice", lambda m, x: x[1:][:, 1][0], normal(3, 4)),
    Sample("getitem of overlapping parts", lambda m, x: x[1:] * x[:-1], normal(5)),
    Sample("unpacking a tensor", lambda m, x: list(x), normal(3, 2)),
]

ADVANCED = [
    get("vector", lambda m, i: i, 3, 4, given=[ROWS]),
    get("negative vector", lambda m, i: i, 3, 4, given=[BELOW]),
    get("int32 vector", lambda m, i: i, 3, 4, given=[ROWS.astype(np.int32)]),
    get("matrix of indices", lambda m, i: i, 3, 4, given=[GRID]),
    get("empty vector", lambda m, i: i, 3, 4, given=[np.array([], np.int64)]),
    get("list", lambda m: [2, 0, 0], 3, 4),
    Sample(
        "getitem nested list",
        lambda m, x: x[[[2, 0], [1, 1]]],
        normal(3, 4),
        reference=lambda m, x: x[m.tensor([[2, 0], [1, 1]])],
    ),
    get("list of bools", lambda m: [True, False, True], 3, 4),
    Sample(
        "getitem list of tensors",
        lambda m, x: x[[m.tensor(2), m.tensor(0)]],
        normal(3, 4),
        reference=lambda m, x: x[[2, 0]],
    ),
    get("empty list", lambda m: [], 3, 4),
    get("range", lambda m: (slice(None), range(3)), 2, 4),
    get("array", lambda m: np.array([1, 1, 0]), 3, 4),
    get("second dim", lambda m, i: (slice(None), i), 2, 3, given=[ROWS]),
    get("second of three", lambda m, i: (slice(None), i, slice(1, 3)), 2, 3, 4, given=[GRID]),
    get("last dim after Ellipsis", lambda m, i: (..., i), 2, 4, 3, given=[GRID]),
    get("rows and columns", lambda m, i, j: (i, j), 3, 4, given=[ROWS, np.array([0, 3, 0, 1])]),
    get("rows and columns doubled", lambda m, i: (i, i), 3, 3, given=[ROWS]),
    get("broadcast rows and columns", lambda m, i, j: (i[:, None], j), 3, 4, given=[ROWS, np.array([0, 3])]),
    get("row list and column int", lambda m: ([0, 2], 1), 3, 4),
    get("neighbours behind a slice", lambda m, i: (slice(None), i, i), 2, 3, 3, given=[ROWS]),
    get("neighbours before a slice", lambda m, i: (i, i, slice(0, 1)), 3, 3, 2, given=[GRID]),
    get("apart", lambda m, i: (i, slice(None), i), 3, 2, 3, given=[ROWS]),
    get("apart in four dims", lambda m, i: (slice(None), i, slice(None), i), 2, 3, 2, 3, given=[GRID]),
    get("apart by None", lambda m, i: (slice(None), i, None, i), 2, 3, 3, given=[ROWS]),
    get("int before a slice and a vector", lambda m, i: (0, slice(None), i), 2, 4, 3, given=[ROWS]),
    get("int between", lambda m, i: (i, 1, i), 3, 2, 3, given=[ROWS]),
    get("0-d tensor between", lambda m, i: (i, m.tensor(1), slice(0, 1), i), 3, 2, 2, 3, given=[ROWS]),
    get("None and vector", lambda m, i: (None, i), 3, 2, given=[ROWS]),
    get("slice with a step and vector", lambda m, i: (slice(None, None, 2), i), 5, 3, given=[ROWS]),
    get("mask", lambda m, k: k, 3, 4, given=[booleans(3, 4)]),
    get("mask of a number", lambda m: m.tensor(True)),
    get("mask of rows", lambda m, k: k, 3, 4, given=[np.array([True, False, True])]),
    get("mask of columns", lambda m, k: (slice(None), k), 2, 3, given=[np.array([True, False, True])]),
    get("mask of the last two dims", lambda m, k: (slice(None), k), 2, 3, 4, given=[booleans(3, 4)]),
    get(
        "mask and vector",
        lambda m, k, i: (k, i),
        3,
        4,
        given=[np.array([True, False, True]), np.array([3, 0])],
    ),
    get("mask and slice", lambda m, k: (k, slice(1, 3)), 3, 4, given=[np.array([True, False, True])]),
    get("mask that is false", lambda m, k: k, 3, 4, given=[np.zeros((3, 4), bool)]),
    get("True", lambda m: True, 2, 3),
    get("False", lambda m: False, 2, 3),
    get("True and an int", lambda m: (True, 1), 2, 3),
    get("vector of an empty tensor", lambda m, i: (slice(None), i), 0, 3, given=[ROWS]),
    Sample("getitem vector of a transpose", lambda m, x, i: x.transpose(0, 1)[i, 0], normal(2, 3), ROWS),
    Sample("getitem mask of itself", lambda m, x: x[x > 0], distinct(3, 4)),
]


def put(name, key, value, *shape, given=(), **options):
    """x * 1 with [key] = value: a computed tensor that is rebound."""

    def assigned(m, x, *rest):
        y = x * 1
        y[key(m, *rest[len(value) :])] = rest[0] if value else 7
        return y

    return Sample(f"setitem {name}", assigned, normal(*shape), *value, *given, **options)


ASSIGNED = [
    put("int", lambda m: 1, [normal(4)], 3, 4),
    put("int, broadcast", lambda m: 1, [normal()], 3, 4),
    put("number", lambda m: (slice(None), 2), [], 3, 4),
    put("slices", lambda m: (slice(0, 2), slice(1, None, 2)), [normal(2, 1)], 3, 4),
    put("leading dims of size 1", lambda m: 0, [normal(1, 1, 4)], 3, 4),
    put("Ellipsis", lambda m: ..., [normal(3, 4)], 3, 4),
    put("everything", lambda m: slice(None), [normal(4)], 3, 4),
    put("a number's value", lambda m: ..., [normal()]),
    put("vector", lambda m, i: i, [normal(2, 4)], 3, 4, given=[np.array([2, 0])]),
    put("vector, number", lambda m, i: i, [], 3, 4, given=[ROWS]),
    put("vector, broadcast", lambda m, i: (slice(None), i), [normal(2)], 3, 4, given=[np.array([-1, 0])]),
    put("rows and columns", lambda m, i, j: (i, j), [normal(3)], 3, 4, given=[np.array([0, 1, 2]), BELOW]),
    put("apart", lambda m, i: (i, slice(None), i), [normal(2, 2)], 3, 2, 3, given=[np.array([2, 0])]),
    put("slice and vector", lambda m, i: (slice(1, None), i), [normal(2, 2)], 3, 4, given=[np.array([2, 0])]),
    put(
        "int and vector", lambda m, i: (1, slice(None), i), [normal(4, 2)], 2, 4, 3, given=[np.array([2, 0])]
    ),
    put(
        "mask",
        lambda m, k: k,
        [normal(3)],
        2,
        3,
        given=[np.array([[True, False, True], [False, True, False]])],
    ),
    put("mask, number", lambda m, k: k, [], 3, 4, given=[booleans(3, 4)]),
    put("mask of rows", lambda m, k: k, [normal(4)], 3, 4, given=[np.array([True, False, True])]),
    Sample("setitem into a constant", lambda m, v: into_constant(m, v, (1, slice(None))), normal(3)),
    Sample("setitem vector into a constant", lambda m, v: into_constant(m, v, [1, 0]), normal(2, 3)),
    Sample("setitem after use", lambda m, x, v: after_use(x, v), normal(3), normal(2)),
]


def into_constant(m, v, key):
    y = m.ones(2, 3, dtype=v.dtype, device=v.device)
    y[key] = v
    return y * y


def after_use(x, v):
    y = x + 1
    z = y.sum()
    y[1:] = v
    return z * y


ALONG = [
    Sample("index_select", lambda m, x, i: m.index_select(x, 0, i), normal(3, 4), ROWS),
    Sample("index_select dim=-1", lambda m, x, i: x.index_select(-1, i), normal(2, 3), ROWS),
    Sample("index_select middle", lambda m, x, i: x.index_select(1, i), normal(2, 3, 2), ROWS),
    Sample("index_select 0-d index", lambda m, x, i: x.index_select(0, i), normal(3, 2), np.array(1)),
    Sample("index_select of a number", lambda m, x, i: x.index_select(0, i), normal(), np.array([0])),
    Sample("index_select none", lambda m, x, i: x.index_select(0, i), normal(3, 2), np.array([], np.int64)),
    Sample("index_add", lambda m, x, i, s: m.index_add(x, 0, i, s), normal(3, 2), ROWS, normal(4, 2)),
    Sample(
        "index_add dim=1, alpha",
        lambda m, x, i, s: x.index_add(1, i, s, alpha=-0.5),
        normal(2, 3),
        ROWS,
        normal(2, 4),
    ),
    Sample("index_add_", lambda m, x, i, s: (x * 1).index_add_(0, i, s), normal(3, 2), ROWS, normal(4, 2)),
    Sample(
        "index_copy",
        lambda m, x, i, s: m.index_copy(x, 0, i, s),
        normal(3, 2),
        np.array([2, 0]),
        normal(2, 2),
    ),
    Sample(
        "index_copy dim=-1",
        lambda m, x, i, s: x.index_copy(-1, i, s),
        normal(2, 3),
        np.array([2, 0]),
        normal(2, 2),
    ),
    Sample("index_fill", lambda m, x, i: m.index_fill(x, 1, i, 2.5), normal(2, 3), np.array([2, 0])),
    Sample("index_fill negative", lambda m, x, i: x.index_fill(0, i, -1), normal(3), np.array([-1])),
    Sample("index_fill tensor", lambda m, x, i, v: x.index_fill(0, i, v), normal(3, 2), ROWS, normal()),
    Sample(
        "index_put", lambda m, x, i, v: m.index_put(x, (i,), v), normal(3, 4), np.array([2, 0]), normal(2, 4)
    ),
    Sample(
        "index_put accumulate",
        lambda m, x, i, v: x.index_put((i, i), v, accumulate=True),
        normal(3, 3),
        ROWS,
        normal(4),
    ),
    Sample(
        "index_put accumulate, broadcast",
        lambda m, x, i, v: x.index_put((i,), v, True),
        normal(3, 4),
        ROWS,
        normal(4),
    ),
    Sample(
        "index_put None and mask",
        lambda m, x, k, v: x.index_put((k,), v),
        normal(3, 4),
        np.array([True, False, True]),
        normal(4),
    ),
    Sample(
        "index_put_ accumulate",
        lambda m, x, i, v: (x * 1).index_put_((i,), v, accumulate=True),
        normal(3, 4),
        ROWS,
        normal(4, 4),
    ),
]

ELEMENTS = (
    [
        Sample("gather dim=0", lambda m, x, i: m.gather(x, 0, i), normal(3, 4), integers(3, 5, 2)),
        Sample("gather dim=1", lambda m, x, i: x.gather(1, i), normal(3, 4), integers(4, 3, 6)),
        Sample("gather dim=-1 smaller", lambda m, x, i: x.gather(-1, i), normal(3, 4), integers(4, 2, 1)),
        Sample("gather 3-d", lambda m, x, i: x.gather(1, i), normal(2, 3, 4), integers(3, 2, 5, 3)),
        Sample("gather of a number", lambda m, x, i: x.gather(0, i), normal(), np.array(0)),
        Sample("gather none", lambda m, x, i: x.gather(0, i), normal(3), np.array([], np.int64)),
        Sample("gather of a transpose", lambda m, x, i: x.t().gather(1, i), normal(4, 3), integers(4, 3, 2)),
        Sample("take", lambda m, x, i: m.take(x, i), normal(3, 4), integers(12, 2, 3)),
        Sample("take negative", lambda m, x, i: x.take(i), normal(3, 4), BELOW),
        Sample("take_along_dim", lambda m, x, i: m.take_along_dim(x, i, 1), normal(3, 4), integers(4, 3, 2)),
        Sample(
            "take_along_dim broadcast",
            lambda m, x, i: x.take_along_dim(i, 1),
            normal(3, 4),
            integers(4, 1, 2),
        ),
        Sample(
            "take_along_dim input broadcast",
            lambda m, x, i: x.take_along_dim(i, -1),
            normal(1, 4),
            integers(4, 3, 2),
        ),
        Sample("take_along_dim flat", lambda m, x, i: x.take_along_dim(i), normal(3, 4), integers(12, 5)),
        Sample("put", lambda m, x, i, s: x.put(i, s), normal(3, 4), np.array([1, 5, -1]), normal(3)),
        Sample(
            "put accumulate",
            lambda m, x, i, s: x.put(i, s, True),
            normal(3, 4),
            np.array([1, 1, -1]),
            normal(3),
        ),
        Sample("put_", lambda m, x, i, s: (x * 1).put_(i, s), normal(3), np.array([1, 2]), normal(2)),
        Sample(
            "scatter",
            lambda m, x, i, s: m.scatter(x, 1, i, s),
            normal(3, 4),
            np.array([[0, 2], [3, 1]]),
            normal(2, 2),
        ),
        Sample(
            "scatter larger source",
            lambda m, x, i, s: x.scatter(0, i, s),
            normal(3, 4),
            np.array([[0, 2, 1]]),
            normal(2, 4),
            oracle=False,
        ),
        Sample("scatter value", lambda m, x, i: x.scatter(1, i, value=1.5), normal(3, 4), integers(4, 3, 2)),
        Sample("scatter number", lambda m, x, i: x.scatter(1, i, -2.0), normal(3, 4), integers(4, 3, 2)),
        Sample(
            "scatter reduce=add",
            lambda m, x, i: x.scatter(1, i, 1.5, reduce="add"),
            normal(3, 4),
            integers(4, 3, 2),
            reference=lambda m, x, i: x.scatter_add(1, i, m.full(i.shape, 1.5, dtype=x.dtype)),
        ),
        Sample(
            "scatter reduce=multiply",
            lambda m, x, i, s: x.scatter(1, i, s, reduce="multiply"),
            normal(3, 4),
            integers(4, 3, 2),
            normal(3, 2),
            reference=lambda m, x, i, s: x.scatter_reduce(1, i, s, "prod"),
        ),
        Sample(
            "scatter_", lambda m, x, i, s: (x * 1).scatter_(0, i, s), normal(3), np.array([2, 0]), normal(2)
        ),
        Sample("scatter of a number", lambda m, x, i, s: x.scatter(0, i, s), normal(), np.array(0), normal()),
        Sample(
            "scatter none",
            lambda m, x, i, s: x.scatter(0, i, s),
            normal(3),
            np.array([], np.int64),
            normal(0),
        ),
        Sample(
            "scatter_add",
            lambda m, x, i, s: m.scatter_add(x, 0, i, s),
            normal(3, 4),
            integers(3, 5, 4),
            normal(5, 4),
        ),
        Sample(
            "scatter_add dim=-1",
            lambda m, x, i, s: x.scatter_add(-1, i, s),
            normal(2, 3, 4),
            integers(4, 2, 3, 6),
            normal(2, 3, 6),
        ),
        Sample(
            "scatter_add part of the source",
            lambda m, x, i, s: x.scatter_add(-1, i, s),
            normal(2, 3, 4),
            integers(4, 2, 2, 6),
            normal(2, 3, 7),
            oracle=False,
        ),
        Sample(
            "scatter_add_",
            lambda m, x, i, s: (x * 1).scatter_add_(0, i, s),
            normal(3),
            np.array([0, 0, 2]),
            normal(3),
        ),
    ]
    + [
        Sample(
            f"scatter_reduce {reduce} include_self={include}",
            lambda m, x, i, s, reduce=reduce, include=include: m.scatter_reduce(
                x, 1, i, s, reduce, include_self=include
            ),
            distinct(3, 4),
            integers(3, 3, 5),
            lambda rng: rng.permutation(15).reshape(3, 5) * 0.1 - 0.7321,
        )
        for reduce in ("sum", "prod", "mean", "amax", "amin")
        for include in (True, False)
    ]
    + [
        Sample(
            "scatter_reduce amax with ties",
            lambda m, x, i, s: x.scatter_reduce(0, i, s, "amax"),
            np.array([1.0, 0.0, 5.0]),
            np.array([0, 0, 1, 1, 2]),
            np.array([1.0, 1.0, 3.0, 3.0, 5.0]),
            smooth=False,
        ),
    ]
)

MASKED = [
    Sample("masked_fill", lambda m, x, k: m.masked_fill(x, k, 3.5), normal(3, 4), booleans(3, 4)),
    Sample("masked_fill broadcast", lambda m, x, k: x.masked_fill(k, -1), normal(3, 4), booleans(3, 1)),
    Sample("masked_fill tensor", lambda m, x, k, v: x.masked_fill(k, v), normal(3, 4), booleans(4), normal()),
    Sample(
        "masked_fill -inf",
        lambda m, x, k: x.masked_fill(k, float("-inf")).exp(),
        normal(3, 4),
        booleans(3, 4),
    ),
    Sample("masked_fill_", lambda m, x, k: (x * 1).masked_fill_(k, 2.0), normal(3, 4), booleans(3, 4)),
    Sample("masked_select", lambda m, x, k: m.masked_select(x, k), normal(3, 4), booleans(3, 4)),
    Sample("masked_select broadcast", lambda m, x, k: x.masked_select(k), normal(3, 1), booleans(4)),
    Sample(
        "masked_scatter", lambda m, x, k, s: x.masked_scatter(k, s), normal(3, 4), booleans(3, 4), normal(12)
    ),
    Sample(
        "masked_scatter rows",
        lambda m, x, k, s: m.masked_scatter(x, k, s),
        normal(3, 2),
        booleans(3, 1),
        normal(4, 2),
    ),
    Sample(
        "masked_scatter_", lambda m, x, k, s: (x * 1).masked_scatter_(k, s), normal(4), booleans(4), normal(4)
    ),
]

SEARCHED = [
    Sample("nonzero", lambda m, k: m.nonzero(k), booleans(3, 4)),
    Sample("nonzero as_tuple", lambda m, k: k.nonzero(as_tuple=True), booleans(3, 4)),
    Sample("nonzero of a number", lambda m, k: (m.nonzero(k), k.nonzero(as_tuple=True)), np.array(2)),
    Sample("nonzero of floats", lambda m, x: m.argwhere(x), np.array([[0.0, 1.0], [-2.0, 0.0]])),
    Sample(
        "searchsorted",
        lambda m, s, v: m.searchsorted(s, v),
        np.array([1.0, 2.0, 2.0, 4.0]),
        np.array([[0.5, 2.0], [3.0, 5.0]]),
        no_grad=(0, 1),
    ),
    Sample(
        "searchsorted right",
        lambda m, s, v: m.searchsorted(s, v, right=True),
        np.array([1.0, 2.0, 2.0, 4.0]),
        np.array([2.0, 4.0]),
        no_grad=(0, 1),
    ),
    Sample(
        "searchsorted rows",
        lambda m, s, v: m.searchsorted(s, v, side="right", out_int32=True),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.array([[1.0, 1.5], [3.0, 9.0]]),
        no_grad=(0, 1),
    ),
    Sample(
        "searchsorted sorter",
        lambda m, s, v: m.searchsorted(s, v, sorter=m.argsort(s)),
        np.array([3.0, 1.0, 2.0]),
        np.array([1.5, 2.5]),
        no_grad=(0, 1),
    ),
    Sample(
        "bucketize",
        lambda m, v, s: m.bucketize(v, s),
        normal(3, 4),
        np.array([-1.0, 0.0, 1.0]),
        no_grad=(0, 1),
    ),
    Sample(
        "bucketize right",
        lambda m, v, s: m.bucketize(v, s, right=True),
        np.array([0.0, 1.0, 1.5]),
        np.array([0.0, 1.0]),
        no_grad=(0, 1),
    ),
]

SAMPLES = BASIC + ADVANCED + ASSIGNED + ALONG + ELEMENTS + MASKED + SEARCHED
