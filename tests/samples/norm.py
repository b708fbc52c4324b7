"""Samples of normalization: along rows, channels, groups; every combination of weight and bias."""

from . import Sample, normal, positive


def with_none(name, label, places, *inputs, fixed=0, **kwargs):
    """F.<name> of `fixed` data after the input, and tensors at the named arguments `places`.

    torch cannot differentiate a bias without a weight; there the weight is 1.
    """

    def fn(m, x, *t, **more):
        given = dict(zip(places, t[fixed:], strict=True))
        return getattr(m.nn.functional, name)(x, *t[:fixed], **given, **more, **kwargs)

    def reference(m, x, *t):
        return fn(m, x, *t, weight=m.ones_like(t[-1]))

    said = f"{name} {label}"
    data = tuple(range(1, fixed + 1))
    return Sample(said, fn, *inputs, no_grad=data, reference=reference if places == ("bias",) else None)


ROWS = [
    with_none(name, label, places, *inputs, **kwargs)
    for name, affine in (("layer_norm", ("weight", "bias")), ("rms_norm", ("weight",)))
    for label, places, inputs, kwargs in (
        ("plain", (), (normal(3, 5),), dict(normalized_shape=(5,))),
        ("of a vector", (), (normal(6),), dict(normalized_shape=[6])),
        ("eps", (), (normal(2, 3, 5),), dict(normalized_shape=(5,), eps=0.5)),
        ("weighted", ("weight",), (normal(4, 5), normal(5)), dict(normalized_shape=(5,))),
        (
            "two dims",
            affine,
            (normal(3, 2, 4), *[normal(2, 4) for _ in affine]),
            dict(normalized_shape=(2, 4)),
        ),
        ("all dims", affine, (normal(2, 4), *[normal(2, 4) for _ in affine]), dict(normalized_shape=(2, 4))),
        (
            "3-d affine",
            affine,
            (normal(2, 3, 17), *[normal(17) for _ in affine]),
            dict(normalized_shape=(17,)),
        ),
        ("no rows", affine, (normal(0, 5), *[normal(5) for _ in affine]), dict(normalized_shape=(5,))),
    )
] + [
    with_none("layer_norm", "bias alone", ("bias",), normal(4, 5), normal(5), normalized_shape=(5,)),
    Sample(
        "layer_norm of a transposed input",
        lambda m, x, w, b: m.nn.functional.layer_norm(x.transpose(0, 2), (3,), w, b),
        normal(3, 2, 4),
        normal(3),
        normal(3),
    ),
    Sample(
        "layer_norm whose weight is its input",
        lambda m, x: m.nn.functional.layer_norm(x, (5,), x * 2, x),
        normal(5),
    ),
]

AFFINE = (("plain", ()), ("affine", ("weight", "bias")), ("weight", ("weight",)), ("bias", ("bias",)))

BATCH = (
    [
        with_none(
            "batch_norm",
            f"training {label} {list(shape)}",
            places,
            normal(*shape),
            *[normal(shape[1]) for _ in places],
            running_mean=None,
            running_var=None,
            training=True,
        )
        for shape in ((5, 3), (4, 3, 2), (2, 3, 4, 5), (2, 1, 2, 1, 3))
        for label, places in AFFINE
    ]
    + [
        with_none(
            "batch_norm",
            f"evaluation {label} {list(shape)}",
            places,
            normal(*shape),
            normal(shape[1]),
            positive(shape[1]),
            *[normal(shape[1]) for _ in places],
            fixed=2,
            eps=0.1,
        )
        for shape in ((5, 3), (2, 3, 4, 5), (0, 3))
        for label, places in AFFINE
    ]
    + [
        Sample(
            f"batch_norm moves the running statistics {list(shape)} {momentum}",
            lambda m, x, mean, var, w, b, momentum=momentum: (
                m.nn.functional.batch_norm(x, mean, var, w, b, True, momentum, 0.1),
                mean,
                var,
            ),
            normal(*shape),
            normal(shape[1]),
            positive(shape[1]),
            normal(shape[1]),
            normal(shape[1]),
            no_grad=(1, 2),
        )
        for shape in ((5, 3), (4, 3, 2), (2, 3, 4, 5))
        for momentum in (0.1, 1.0)
    ]
    + [
        Sample(
            "batch_norm of channels last",
            lambda m, x, w, b: m.nn.functional.batch_norm(
                x.permute(0, 3, 1, 2), None, None, w, b, training=True
            ),
            normal(2, 3, 4, 5),
            normal(5),
            normal(5),
        ),
        Sample(
            "batch_norm of one large mean",
            lambda m, x: m.nn.functional.batch_norm(x + 100, None, None, training=True),
            normal(3, 2, 4),
            rtol=1e-9,
        ),
    ]
)

GROUPS = [
    with_none("group_norm", f"{label} {list(shape)} {groups}", places, normal(*shape),
              *[normal(shape[1]) for _ in places], num_groups=groups)
    for shape, groups in (((3, 8), 2), ((2, 6, 5), 3), ((2, 4, 3, 2), 1), ((2, 3, 2, 2), 3))
    for label, places in AFFINE
] + [
    with_none("instance_norm", f"{label} {list(shape)}", places, normal(*shape),
              *[normal(shape[1]) for _ in places])
    for shape in ((2, 3, 5), (2, 3, 4, 2))
    for label, places in AFFINE
] + [
    Sample(
        f"instance_norm with running statistics use_input_stats={own}",
        lambda m, x, mean, var, w, b, own=own: (
            m.nn.functional.instance_norm(x, mean, var, w, b, own, 0.3, 0.1),
            mean,
            var,
        ),
        normal(2, 3, 5),
        normal(3),
        positive(3),
        normal(3),
        normal(3),
        no_grad=(1, 2),
    )
    for own in (True, False)
]  # fmt: skip

SAMPLES = ROWS + BATCH + GROUPS
