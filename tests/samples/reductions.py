"""Samples of reductions, scans, norms and order.

Special points (ties, zeros of norms) are in tests/test_reductions.py: differences say nothing there.
"""

import numpy as np

from . import Sample, distinct, integers, nonzero, normal, positive

nan, inf = np.nan, np.inf


def table(name, fn, *cases):
    """fn(m, x, **options) for every (inputs, options)."""
    return [
        Sample(
            f"{name} {k} {', '.join(f'{o}={v}' for o, v in options.items())}".strip(),
            lambda m, x, options=options: fn(m, x, **options),
            make,
        )
        for k, (make, options) in enumerate(cases)
    ]


def named(name):
    return lambda m, x, **options: getattr(m, name)(x, **options)


DIMS = [
    (normal(3, 4), {}),
    (normal(), {}),
    (normal(), {"dim": 0}),
    (normal(), {"dim": -1, "keepdim": True}),
    (normal(1), {"dim": 0}),
    (normal(3, 4), {"dim": 0}),
    (normal(3, 4), {"dim": -1}),
    (normal(3, 4), {"dim": 1, "keepdim": True}),
    (normal(2, 3, 4), {"dim": (0, 1)}),
    (normal(2, 3, 4), {"dim": (1, 2), "keepdim": True}),
    (normal(2, 3, 4), {"dim": (-1, 0)}),
    (normal(2, 3, 4), {"dim": (0, 2), "keepdim": True}),
    (normal(2, 3, 4), {"dim": 1}),
    (normal(2, 3, 4), {"dim": [0, 1, 2]}),
    (normal(2, 3, 4, 2), {"dim": (0, 2, 3)}),
    (normal(2, 3), {"dim": ()}),
    (normal(2, 3), {"dim": None, "keepdim": True}),
    (normal(3, 1), {"dim": 1}),
]
EMPTY = [(normal(0, 3), {"dim": 0}), (normal(3, 0), {"dim": 1, "keepdim": True}), (normal(0), {})]
TRANSPOSED = [(normal(3, 4, 2), {"dim": 1}), (normal(3, 4, 2), {"dim": (0, 1)}), (normal(3, 4, 2), {})]


def transposed(name):
    return lambda m, x, **options: getattr(m, name)(x.transpose(0, 1), **options)


SAMPLES = [
    *table("sum", named("sum"), *DIMS, *EMPTY, (normal(200, 90), {"dim": 0}), (normal(200, 90), {"dim": 1})),
    *table("sum transposed", transposed("sum"), *TRANSPOSED),
    *table("mean", named("mean"), *DIMS, (normal(200, 90), {"dim": 0})),
    *table("mean transposed", transposed("mean"), *TRANSPOSED),
    Sample("sum method", lambda m, x: x.sum(1, True) + x.sum(), normal(3, 4)),
    Sample("sum dtype", lambda m, x: m.sum(x, dtype=m.float64), normal(3), float32=None),
    Sample("mean of integers by dtype", lambda m, x: x.mean(dtype=m.float64), integers(9, 5), float32=None),
    Sample("sum of integers", lambda m, x: (x.sum(), x.sum(0), x.bool().sum(1)), integers(3, 3, 4)),
    Sample("sum read-only", lambda m, x: x.expand(3, 4).sum(1), normal(3, 1)),
    *table("nansum", named("nansum"), *DIMS[:6], (np.array([[1.0, 2.0], [-1.0, 3.0]]), {"dim": (0, 1)})),
    *table("nanmean", named("nanmean"), *DIMS[:9]),
    *table(
        "var",
        named("var"),
        *[c for c in DIMS if c[1].get("dim") is None and c[0] is not DIMS[1][0]][:1],
        *DIMS[5:12],
    ),
    *table("std", named("std"), DIMS[0], *DIMS[5:12]),
    *table(
        "var",
        named("var"),
        (normal(3, 4), {"dim": 1, "correction": 0}),
        (normal(3, 4), {"correction": 2}),
        (normal(3, 4), {"dim": (0, 1), "unbiased": False, "keepdim": True}),
        (normal(5), {"correction": 0.5}),
        (normal(3, 4), {"unbiased": False}),
    ),
    *table(
        "std",
        named("std"),
        (normal(3, 4), {"dim": 1, "correction": 0}),
        (normal(3, 4), {"correction": 2}),
        (normal(3, 4), {"dim": (0, 1), "unbiased": False, "keepdim": True}),
        (normal(5), {"unbiased": True}),
    ),
    Sample(
        "var positional", lambda m, x: (x.var(False), x.var(1, False), x.var(1, True, True)), normal(3, 4)
    ),
    Sample(
        "std positional",
        lambda m, x: (m.std(x, 0), m.std(x, 1, False), m.std(x, 1, True, True)),
        normal(3, 4),
    ),
    Sample(
        "var_mean",
        lambda m, x: (
            m.var_mean(x, 1),
            m.var_mean(x),
            m.var_mean(x, dim=0, correction=0, keepdim=True),
            m.var_mean(x, False),
        ),
        normal(3, 4),
    ),
    Sample(
        "std_mean",
        lambda m, x: (m.std_mean(x, 1), m.std_mean(x), m.std_mean(x, 0, False, True)),
        normal(3, 4),
    ),
    *table(
        "prod",
        named("prod"),
        *[c for c in DIMS if not isinstance(c[1].get("dim", 0), (tuple, list, type(None)))],
    ),
    Sample("prod of nothing", lambda m, x: (x.prod(), x.prod(1)), normal(3, 0)),
    Sample(
        "prod one zero",
        lambda m, x: (x.prod(0), x.prod(), x.prod(1, keepdim=True)),
        np.array([[1.0, 0.0, 3.0], [2.0, 5.0, -1.5]]),
    ),
    Sample(
        "prod many zeros", lambda m, x: (x.prod(0), x.prod(1)), np.array([[0.0, 0.0, 3.0], [2.0, 0.0, 0.0]])
    ),
    Sample(
        "prod of integers",
        lambda m, x: (x.prod(), x.prod(1), x.prod(dtype=m.float64)),
        integers(5, 3, 4),
        float32=None,
    ),
    *table(
        "amax", named("amax"), *[(distinct(*make(np.random.default_rng(0)).shape), o) for make, o in DIMS]
    ),
    *table(
        "amin", named("amin"), *[(distinct(*make(np.random.default_rng(0)).shape), o) for make, o in DIMS]
    ),
    *table(
        "aminmax",
        named("aminmax"),
        (distinct(3, 4), {}),
        (distinct(3, 4), {"dim": 1, "keepdim": True}),
        (distinct(3, 4), {"dim": -2}),
        (distinct(), {}),
    ),
    *[
        s
        for name in ("max", "min")
        for s in table(
            name,
            named(name),
            (distinct(3, 4), {}),
            (distinct(), {}),
            (distinct(3, 4), {"dim": 0}),
            (distinct(), {"dim": 0}),
            (distinct(3, 4), {"dim": -1, "keepdim": True}),
            (distinct(2, 3, 4), {"dim": 1}),
            (normal(3, 0), {"dim": 0}),
        )
    ],
    Sample(
        "max of two",
        lambda m, a, b: (m.max(a, b), a.max(b), m.min(a, other=b), a.min(b)),
        normal(3, 4),
        normal(4),
    ),
    Sample(
        "max of integers",
        lambda m, x: (x.max(), x.max(1), x.min(0), x.amax(0), x.aminmax()),
        integers(90, 3, 4),
    ),
    *[
        Sample(
            name,
            lambda m, x, name=name: [
                getattr(m, name)(x),
                getattr(m, name)(x, 1),
                getattr(m, name)(x, dim=0, keepdim=True),
                getattr(m, name)(x, keepdim=True),
                getattr(x.sum(), name)(),
                getattr(x.sum(), name)(0),
            ],
            distinct(3, 4),
        )
        for name in ("argmax", "argmin")
    ],
    Sample("argmax of integers", lambda m, x: (x.argmax(), x.argmin(1), x.argmax(0)), integers(3, 4, 5)),
    *table(
        "median",
        named("median"),
        (distinct(5), {}),
        (distinct(3, 4), {}),
        (distinct(3, 4), {"dim": 1}),
        (distinct(3, 4), {"dim": 0, "keepdim": True}),
        (distinct(), {}),
        (distinct(), {"dim": 0}),
    ),
    *table("nanmedian", named("nanmedian"), (distinct(5), {}), (distinct(3, 4), {"dim": 1})),
    *table(
        "quantile",
        named("quantile"),
        *[
            (distinct(3, 7), {"q": q, "dim": dim, "keepdim": keepdim, "interpolation": kind})
            for q, dim, keepdim, kind in [
                (0.3, None, False, "linear"),
                (0.3, 1, False, "linear"),
                (0.5, 0, True, "linear"),
                (1.0, 1, False, "linear"),
                (0.3, 1, False, "lower"),
                (0.3, 1, True, "higher"),
                (0.3, 1, False, "midpoint"),
                (0.3, 1, False, "nearest"),
                (0.45, None, True, "nearest"),
            ]
        ],
    ),
    Sample(
        "quantiles",
        lambda m, x: (
            m.quantile(x, m.tensor([0.1, 0.6], dtype=m.float64), dim=1),
            x.quantile(m.tensor([0.0, 0.5, 1.0], dtype=m.float64), dim=0, keepdim=True),
        ),
        distinct(3, 7),
    ),
    *table("logsumexp", named("logsumexp"), *[c for c in DIMS if c[1].get("dim", ()) not in (None, ())]),
    Sample("logsumexp of large numbers", lambda m, x: m.logsumexp(x * 500, 1), normal(3, 4), float32=1e-3),
    Sample("logsumexp of integers", lambda m, x: m.logsumexp(x, 1), integers(5, 3, 4)),
    *[
        s
        for p in ("fro", 2, 1, 3, 2.5, 1.5, 0.5, -1, -2.5, inf, -inf, 0)
        for s in table(
            f"norm p={p}",
            lambda m, x, p=p, **options: m.norm(x, p, **options),
            (nonzero(3, 4), {}),
            (nonzero(3, 4), {"dim": 1}),
            (nonzero(2, 3, 4), {"dim": (0, 2), "keepdim": True}),
            (nonzero(), {}),
        )
    ],
    Sample(
        "norm method",
        lambda m, x: (x.norm(), x.norm(1), x.norm(3, dim=1), x.norm(dim=0), x.norm(2, 1, True)),
        normal(3, 4),
    ),
    Sample(
        "norm nuc",
        lambda m, x: (m.norm(x[0], "nuc"), x.norm("nuc", dim=(0, 2)), m.norm(x, "nuc", (1, 2), True)),
        normal(2, 3, 4),
    ),
    Sample("norm dtype", lambda m, x: m.norm(x, dtype=m.float64), normal(3), float32=None),
    Sample(
        "truth",
        lambda m, x: [
            x.all(),
            x.all(1),
            x.any(0),
            x.any(),
            x.bool().all(0, keepdim=True),
            x.any((0, 1)),
            x.all(dim=(0, 1), keepdim=True),
            m.all(x.to(m.uint8)),
            m.any(x.to(m.uint8), 1),
        ],
        integers(3, 3, 4),
    ),
    Sample(
        "truth of floats",
        lambda m, x: [m.all(x), m.any(x, -1), x[:, :0].all(1), x[:, :0].any()],
        normal(3, 4),
    ),
    Sample(
        "count_nonzero",
        lambda m, x: [
            m.count_nonzero(x),
            x.count_nonzero(0),
            x.count_nonzero(dim=(0, 1)),
            m.count_nonzero(x.to(m.float64), 1),
        ],
        integers(3, 3, 4),
    ),
    # scans
    *[
        s
        for name in ("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
        for s in table(
            name,
            named(name),
            (distinct(5), {"dim": 0}),
            (distinct(3, 4), {"dim": 1}),
            (distinct(3, 4), {"dim": 0}),
            (distinct(2, 5, 3), {"dim": -2}),
            (distinct(), {"dim": 0}),
            (normal(3, 0), {"dim": 1}),
            (distinct(1), {"dim": -1}),
            (distinct(9), {"dim": 0}),
            (normal(0, 3), {"dim": 1}),
        )
    ],
    Sample(
        "cumsum of integers",
        lambda m, x: (x.cumsum(0), m.cumsum(x.bool(), 1), m.cumsum(x, 1, dtype=m.float64)),
        integers(4, 3, 4),
        float32=None,
    ),
    Sample("cumprod of integers", lambda m, x: (x.cumprod(0), m.cumprod(x, 1)), integers(4, 3, 4)),
    Sample(
        "cumprod with zeros",
        lambda m, x: (x.cumprod(0), x.cumprod(1)),
        np.array([[1.0, 0.0, 3.0, 2.0], [0.0, 5.0, 0.0, -1.5], [2.0, 1.0, 4.0, 0.0]]),
    ),
    Sample("cummax of integers", lambda m, x: (m.cummax(x, 1), x.cummin(0)), integers(3, 3, 6)),
    Sample(
        "logcumsumexp of large numbers",
        lambda m, x: m.logcumsumexp(x * 300, 0),
        normal(7),
        float32=1e-3,
        second=False,
    ),
    *table(
        "diff",
        named("diff"),
        (normal(5), {}),
        (normal(3, 4), {"dim": 0}),
        (normal(3, 4), {"n": 2}),
        (normal(3, 4), {"n": 9}),
        (normal(3), {"n": 0}),
    ),
    Sample("diff with ends", lambda m, x, y: m.diff(x, 1, 0, y, y * 2), normal(3, 4), normal(1, 4)),
    Sample("diff of others", lambda m, x: (x.diff(), x.bool().diff(dim=0)), integers(3, 3, 4)),
    # order
    *table(
        "sort",
        named("sort"),
        (distinct(5), {}),
        (distinct(3, 4), {"dim": 0}),
        (distinct(3, 4), {"descending": True}),
        (distinct(2, 3, 4), {"dim": 1, "descending": True}),
        (distinct(), {}),
        (normal(3, 0), {}),
    ),
    Sample(
        "sort of integers",
        lambda m, x: (
            m.sort(x, stable=True),
            x.sort(dim=0, descending=True, stable=True),
            m.argsort(x, dim=1, stable=True),
            m.argsort(x, descending=True, stable=True),
        ),
        integers(4, 3, 9),
    ),
    Sample(
        "argsort",
        lambda m, x: (m.argsort(x), x.argsort(0), x.argsort(-1, True), x.sum().argsort()),
        distinct(3, 4),
    ),
    Sample("msort", lambda m, x: m.msort(x), distinct(5, 3)),
    *table(
        "topk",
        named("topk"),
        (distinct(6), {"k": 3}),
        (distinct(3, 5), {"k": 2, "dim": 0}),
        (distinct(), {"k": 1}),
        (distinct(3, 5), {"k": 2, "largest": False}),
        (distinct(3, 5), {"k": 5, "dim": 1}),
        (distinct(4), {"k": 0}),
    ),
    *table(
        "kthvalue",
        named("kthvalue"),
        (distinct(6), {"k": 3}),
        (distinct(3, 5), {"k": 2, "dim": 0, "keepdim": True}),
        (distinct(), {"k": 1}),
        (distinct(2, 3, 4), {"k": 3, "dim": 1}),
    ),
    Sample(
        "unique",
        lambda m, x: [
            m.unique(x),
            *m.unique(x, return_inverse=True, return_counts=True),
            *x.unique(return_counts=True),
            m.unique(x % 2, dim=0),
        ],
        integers(5, 4, 3),
    ),
    Sample(
        "unique slices",
        lambda m, x: m.unique(x, return_inverse=True, return_counts=True, dim=1),
        integers(2, 2, 9),
    ),
    Sample(
        "bincount",
        lambda m, x, w: (
            m.bincount(x),
            x.bincount(minlength=9),
            m.bincount(x, w),
            x[:0].bincount(),
            m.bincount(x, x),
        ),
        integers(6, 20),
        positive(20),
        no_grad=(1,),
        float32=None,
    ),
    Sample(
        "histc",
        lambda m, x: (m.histc(x, 10), x.histc(5, -1, 1), m.histc(x, bins=4, min=0, max=0)),
        normal(50),
        no_grad=(0,),
    ),
]
