"""Samples of linear_cross_entropy: two rows of scores at a time, and all at once, as in torch."""

import numpy as np

from . import Sample, integers, normal, positive

REDUCTIONS = ("none", "mean", "sum")


def sample(label, *inputs, size=None, names=(), **options):
    """F.linear_cross_entropy(x, w, t, **named tensors, **options), `size` rows at a time."""

    def fn(m, x, w, t, *more):
        given = dict(zip(names, more, strict=True), **options)
        if size is not None and hasattr(m.nn.functional, "residual_layer_norm"):  # torch: the plain formula
            given["options"] = m.nn.LinearCrossEntropyOptions(batch_chunk_size=size)
        return m.nn.functional.linear_cross_entropy(x, w, t, **given)

    data = tuple(3 + k for k, name in enumerate(names) if name == "weight")
    said = " ".join(f"{k}={v!r}" for k, v in options.items())
    return Sample(f"linear_cross_entropy {label} by {size} {said}", fn, *inputs, no_grad=data)


X, W, B, T = normal(5, 3), normal(4, 3), normal(4), integers(4, 5)
BOTH = dict(names=("linear_bias", "weight"))

SAMPLES = (
    [
        sample(label, *inputs, size=size, reduction=r, **options)
        for r in REDUCTIONS
        for size in (2, None)
        for label, inputs, options in (
            ("plain", (X, W, T), {}),
            ("biased", (X, W, T, B), dict(names=("linear_bias",))),
            ("smoothed", (X, W, T), dict(label_smoothing=0.3)),
            ("biased, weighted, ignoring 1", (X, W, T, B, positive(4)), dict(ignore_index=1, **BOTH)),
            (
                "biased, weighted, smoothed, ignoring 1",
                (X, W, T, B, positive(4)),
                dict(ignore_index=1, label_smoothing=0.2, **BOTH),
            ),
        )
    ]
    + [
        sample("of probabilities", X, W, positive(5, 4), size=2, reduction=r, label_smoothing=s)
        for r in REDUCTIONS
        for s in (0.0, 0.2)
    ]
    + [
        sample(f"of windows {r}", X, normal(4, 2, 2, 3), integers(4, 5, 2, 2), size=2, reduction=r)
        for r in REDUCTIONS
    ]
    + [
        sample(
            "of biased windows", X, normal(4, 2, 3), integers(4, 5, 2), normal(4, 2), names=("linear_bias",)
        ),
        sample("of probabilities of windows", X, normal(4, 2, 3), positive(5, 4, 2)),
        sample("of one example", normal(3), W, np.array(2), size=1),
        sample("of no rows", normal(0, 3), W, np.zeros(0, np.int64), size=1, reduction="sum"),
        sample("ignoring by default", X, W, np.array([-100, 1, -100, 0, 3]), size=2),
        sample("ignoring whole chunks", X, W, np.array([-100, -100, 1, 0, 3]), size=2),
        sample("all ignored", X, W, np.full(5, -100), size=2, reduction="sum"),
        sample("one row at a time", X, W, T, B, size=1, names=("linear_bias",)),
        sample("of few inputs", normal(200, 3), normal(40, 3), integers(40, 200)),  # in chunks by itself
        Sample(
            "linear_cross_entropy of views",
            lambda m, x, w, t: m.nn.functional.linear_cross_entropy(x.t(), w.t(), t),
            normal(3, 150),
            normal(3, 7),
            integers(7, 150),
        ),
        Sample(
            "linear_cross_entropy of an input that is the weight",
            lambda m, x, t: m.nn.functional.linear_cross_entropy(x[:, :2] * 2, x, t),
            normal(150, 2),
            integers(150, 150),
        ),
    ]
)
