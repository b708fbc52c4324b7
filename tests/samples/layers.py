"""Samples of nn.functional: affine maps, activations, softmax, dropout's scaling, losses."""

import numpy as np

from . import Sample, distinct, integers, nonzero, normal, positive, uniform


def of(name, *inputs, label="", args=(), **kwargs):
    """A sample of nn.functional.<name>(*inputs, *args, **kwargs)."""
    known = ("second", "no_grad", "oracle", "float32", "rtol")
    table = {key: kwargs.pop(key) for key in known if key in kwargs}
    said = ", ".join([*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())])
    return Sample(
        " ".join(filter(None, [name, label, said])),
        lambda m, *tensors: getattr(m.nn.functional, name)(*tensors, *args, **kwargs),
        *inputs,
        **table,
    )


# ---------------------------------------------------------------------------------------------- affine maps

LINEAR = [
    of("linear", normal(3, 4), normal(5, 4), normal(5), label="matrix"),
    of("linear", normal(3, 4), normal(5, 4), label="without bias"),
    of("linear", normal(4), normal(5, 4), normal(5), label="vector"),
    of("linear", normal(2, 3, 4), normal(5, 4), normal(5), label="3-d"),
    of("linear", normal(2, 1, 3, 4), normal(5, 4), label="4-d without bias"),
    of("linear", normal(0, 4), normal(5, 4), normal(5), label="no rows"),
    of("linear", normal(1, 1), normal(1, 1), normal(1), label="size 1"),
    Sample(
        "linear of transposed input and weight",
        lambda m, x, w, b: m.nn.functional.linear(x.t(), w.t(), b),
        normal(4, 3),
        normal(4, 5),
        normal(5),
    ),
    of("bilinear", normal(3, 4), normal(3, 2), normal(5, 4, 2), normal(5), label="matrix"),
    of("bilinear", normal(2, 3, 4), normal(2, 3, 2), normal(5, 4, 2), label="3-d without bias"),
    of("bilinear", normal(4), normal(2), normal(5, 4, 2), normal(5), label="vectors"),
] + [
    Sample(
        f"linear activation={name!r} {label}",
        lambda m, *t, name=name: m.nn.functional.linear(*t, activation=name),
        *inputs,
        reference=lambda m, *t, name=name: (
            m.nn.functional.gelu(m.nn.functional.linear(*t), approximate="tanh")
            if name == "gelu_tanh"
            else getattr(m.nn.functional, name)(m.nn.functional.linear(*t))
        ),
    )
    for name in ("relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid")
    for label, inputs in (
        ("matrix", (normal(3, 4), normal(5, 4), normal(5))),
        ("3-d", (normal(2, 3, 4), normal(5, 4), normal(5))),
        ("without bias", (normal(3, 4), normal(5, 4))),
    )
]

# ---------------------------------------------------------------------------------------------- activations

POINTWISE = [
    *[
        of(name, nonzero(3, 4))
        for name in """relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid tanh logsigmoid tanhshrink
        softplus softsign softshrink hardshrink hardtanh hardswish""".split()
    ],
    # torch takes 1/6 in float32 for the gradient, and has no second one
    *[of("hardsigmoid", x, label=label, second=False, rtol=1e-7)
      for label, x in (("", nonzero(3, 4)), ("far out", np.array([-9.0, 3.5, 7.0, -4.0])))],
    *[of(name, lambda rng: rng.uniform(3.1, 9.0, (3, 4)) * rng.choice([-1, 1], (3, 4)), label="far out")
      for name in "relu6 gelu silu mish softplus logsigmoid hardtanh hardswish elu".split()],
    of("leaky_relu", nonzero(3, 4), negative_slope=0.2),
    of("leaky_relu", nonzero(3, 4), negative_slope=-1.5),
    of("elu", nonzero(3, 4), alpha=0.7),
    of("celu", nonzero(3, 4), alpha=0.5),
    of("celu", nonzero(3, 4), alpha=-2.0),
    of("gelu", normal(3, 4), approximate="none"),
    of("gelu", normal(3, 4), approximate="tanh"),
    of("gelu", uniform(-9, 9, 12), approximate="tanh", label="far out"),
    of("softplus", normal(3, 4), beta=2.5),
    of("softplus", uniform(-6, 6, 12), beta=2, threshold=3),
    of("softplus", uniform(-900, 900, 12), label="where e^x overflows"),
    of("logsigmoid", uniform(-900, 900, 12), label="where e^x overflows"),
    of("silu", uniform(-900, 900, 12), label="where e^x overflows"),
    of("mish", uniform(-900, 900, 12), label="where e^x overflows"),
    of("hardtanh", nonzero(3, 4), min_val=-0.6, max_val=1.2),
    of("threshold", nonzero(3, 4), args=(0.5, 20.0)),
    of("threshold", nonzero(3, 4), threshold=-0.7, value=-3.0),
    of("hardshrink", nonzero(3, 4), lambd=0.9),
    of("softshrink", nonzero(3, 4), lambd=0.9),
    of("softshrink", nonzero(3, 4), lambd=0),
    of("glu", normal(3, 4)),
    of("glu", normal(4, 3), dim=0),
    of("glu", normal(2, 4, 3), dim=-2),
    of("prelu", nonzero(3, 4), normal(1), label="one weight"),
    of("prelu", nonzero(3, 4), normal(4), label="a weight for each column"),
    of("prelu", nonzero(2, 3, 4, 2), normal(3), label="a weight for each channel"),
    of("prelu", np.array(-0.7), normal(1), label="0-d"),
    *[of(name, np.array(0.8), label="0-d") for name in "gelu silu softplus leaky_relu elu hardswish".split()],
    *[of(name, normal(0, 3), label="empty") for name in "gelu silu softplus leaky_relu elu".split()],
    *[
        Sample(
            f"{name} of a transposed view",
            lambda m, x, name=name: getattr(m.nn.functional, name)(x.t()),
            nonzero(3, 4),
        )
        for name in "gelu silu softplus leaky_relu elu hardswish mish".split()
    ],
]  # fmt: skip

SOFTMAX = [
    sample
    for name in ("softmax", "log_softmax", "softmin")
    for sample in (
        of(name, normal(3, 4), dim=-1),
        of(name, normal(3, 4), dim=0),
        of(name, normal(2, 3, 4), dim=1),
        of(name, normal(2, 3, 4), dim=-3),
        of(name, normal(5), dim=0, label="vector"),
        of(name, np.array(0.3), dim=0, label="0-d"),
        of(name, normal(3, 1), dim=1, label="one class"),
        of(name, normal(0, 4), dim=1, label="no rows"),
        of(name, normal(17, 37), dim=1, label="longer rows"),
        of(name, uniform(-900, 900, 3, 4), dim=1, label="where e^x overflows", float32=None),
        Sample(
            f"{name} of a transposed view",
            lambda m, x, name=name: getattr(m.nn.functional, name)(x.t(), dim=-1),
            normal(3, 4),
        ),
        Sample(
            f"{name} computed in float64",
            lambda m, x, name=name: getattr(m.nn.functional, name)(x, dim=-1, dtype=m.float64),
            normal(3, 4),
            float32=None,
        ),
    )
] + [
    Sample("softmax of minigrad and of a Tensor", lambda m, x: m.softmax(x, 0) + x.softmax(-1), normal(3, 4)),
    Sample(
        "log_softmax of minigrad and of a Tensor",
        lambda m, x: m.log_softmax(x, 0) + x.log_softmax(-1),
        normal(3, 4),
    ),
    Sample(
        "softmax masked with -inf",
        lambda m, x: m.nn.functional.softmax(m.cat([x, x.new_full((3, 1), float("-inf"))], 1), 1),
        normal(3, 4),
    ),
]

# --------------------------------------------------------------------------------------------------- losses

REDUCTIONS = ("none", "mean", "sum")


def pairs(name, first, second, **kwargs):
    """A loss of input and target of one shape, by every reduction; the target has a gradient too."""
    return [of(name, first, second, reduction=r, **kwargs) for r in REDUCTIONS]


def signs(*shape):
    return lambda rng: rng.choice([-1, 1], shape).astype(np.float64)


REGRESSION = [
    *pairs("mse_loss", normal(3, 4), normal(3, 4)),
    of("mse_loss", np.array(0.3), np.array(-0.4), label="0-d"),
    of("mse_loss", normal(3, 4), normal(3, 4), weight=None),
    *pairs("l1_loss", distinct(3, 4), np.zeros((3, 4))),
    *[pairs(f, distinct(3, 4), np.zeros((3, 4)))[1] for f in ("smooth_l1_loss", "huber_loss")],
    *[of("smooth_l1_loss", distinct(3, 4), np.zeros((3, 4)), beta=0.45, reduction=r) for r in REDUCTIONS],
    of("smooth_l1_loss", distinct(3, 4), np.zeros((3, 4)), beta=0.0),
    *[of("huber_loss", distinct(3, 4), np.zeros((3, 4)), delta=0.45, reduction=r) for r in REDUCTIONS],
    *[
        Sample(
            f"{name} weighted reduction={r!r}",
            lambda m, x, t, w, name=name, r=r: getattr(m.nn.functional, name)(x, t, reduction=r, weight=w),
            distinct(3, 4),
            normal(3, 4),
            positive(3, 4),
        )
        for name in ("mse_loss", "l1_loss", "huber_loss")
        for r in REDUCTIONS
    ],
    *[of("poisson_nll_loss", normal(3, 4), positive(3, 4), reduction=r) for r in REDUCTIONS],
    of("poisson_nll_loss", positive(3, 4), positive(3, 4), log_input=False),
    of("poisson_nll_loss", positive(3, 4), positive(3, 4), log_input=False, eps=1e-2, full=True),
    of("poisson_nll_loss", normal(3, 4), uniform(0, 5, 3, 4), full=True),
    *[of("gaussian_nll_loss", normal(3, 4), normal(3, 4), positive(3, 4), reduction=r) for r in REDUCTIONS],
    of("gaussian_nll_loss", normal(3, 4), normal(3, 4), positive(3, 4), full=True),
    of("gaussian_nll_loss", normal(3, 4), normal(3, 4), positive(3), label="one variance a row"),
    of("gaussian_nll_loss", normal(3, 4), normal(3, 4), positive(3, 1), label="one variance a row, kept"),
    of("gaussian_nll_loss", normal(3, 4), normal(3, 4), args=(0.7,), label="a number"),
]

BINARY = [
    *pairs("binary_cross_entropy", uniform(0.05, 0.95, 3, 4), uniform(0, 1, 3, 4)),
    *pairs("binary_cross_entropy_with_logits", normal(3, 4), uniform(0, 1, 3, 4)),
    of("binary_cross_entropy_with_logits", uniform(-900, 900, 12), uniform(0, 1, 12), label="far out"),
    *[
        Sample(
            f"{name} weighted reduction={r!r} {label}",
            lambda m, x, t, w, name=name, r=r: getattr(m.nn.functional, name)(x, t, weight=w, reduction=r),
            uniform(0.05, 0.95, 3, 4), uniform(0, 1, 3, 4), weight, no_grad=(2,),
        )
        for name in ("binary_cross_entropy", "binary_cross_entropy_with_logits")
        for label, weight in (("full", positive(3, 4)), ("broadcast", positive(4)))
        for r in REDUCTIONS
    ],
    *[
        Sample(
            f"binary_cross_entropy_with_logits pos_weight reduction={r!r}",
            lambda m, x, t, w, v, r=r: m.nn.functional.binary_cross_entropy_with_logits(
                x, t, w, pos_weight=v, reduction=r
            ),
            normal(3, 4), uniform(0, 1, 3, 4), positive(3, 4), positive(4), no_grad=(2, 3),
        )
        for r in REDUCTIONS
    ],
    *[of("soft_margin_loss", normal(3, 4), signs(3, 4), reduction=r, no_grad=(1,)) for r in REDUCTIONS],
    *[of("multilabel_soft_margin_loss", normal(3, 4), uniform(0, 1, 3, 4), reduction=r) for r in REDUCTIONS],
    of("multilabel_soft_margin_loss", normal(3, 4), uniform(0, 1, 3, 4), positive(4), no_grad=(2,)),
]  # fmt: skip

DISTRIBUTIONS = [
    *[of("kl_div", normal(3, 4), positive(3, 4), reduction=r) for r in ("none", "sum", "batchmean")],
    *[
        of("kl_div", normal(3, 4), normal(3, 4), reduction=r, log_target=True)
        for r in ("none", "sum", "batchmean")
    ],
    of("kl_div", normal(4), np.array([0, 0.5, 0.5, 0]), reduction="sum", no_grad=(1,), label="zeros in it"),
    of("kl_div", np.array(0.2), np.array(0.7), reduction="batchmean", label="0-d"),
]

MARGINS = [
    *[of("margin_ranking_loss", normal(6), normal(6), signs(6), reduction=r) for r in REDUCTIONS],
    of("margin_ranking_loss", normal(6), normal(6), signs(6), margin=0.4, no_grad=(2,)),
    *[of("hinge_embedding_loss", normal(3, 4), signs(3, 4), reduction=r, no_grad=(1,)) for r in REDUCTIONS],
    of("hinge_embedding_loss", normal(3, 4), signs(3, 4), margin=0.3, no_grad=(1,)),
    *[
        of("cosine_embedding_loss", normal(5, 4), normal(5, 4), signs(5), reduction=r, no_grad=(2,))
        for r in REDUCTIONS
    ],
    of("cosine_embedding_loss", normal(5, 4), normal(5, 4), signs(5), margin=-0.3, no_grad=(2,)),
    of("cosine_embedding_loss", normal(4), normal(4), np.array(1.0), no_grad=(2,), label="vectors"),
    *[of("triplet_margin_loss", normal(5, 4), normal(5, 4), normal(5, 4), reduction=r) for r in REDUCTIONS],
    of("triplet_margin_loss", normal(5, 4), normal(5, 4), normal(5, 4), swap=True, margin=2.0, p=3.0),
    of("cosine_similarity", normal(3, 4), normal(3, 4)),
    of("cosine_similarity", normal(3, 4), normal(3, 1), dim=0, label="broadcast"),
    of("pairwise_distance", normal(3, 4), normal(3, 4)),
    of("pairwise_distance", normal(3, 4), normal(3, 4), p=1.0, keepdim=True),
    of("pairwise_distance", normal(3, 4), normal(4), p=3.0, eps=1e-3, label="broadcast"),
    of("normalize", normal(3, 4)),
    of("normalize", normal(3, 4), p=1.0, dim=0),
    of("normalize", normal(2, 3, 4), p=3.0, dim=-1),
    of("normalize", normal(3, 4), dim=1, eps=5.0, label="short vectors"),
    of("one_hot", integers(4, 3, 2)),
    of("one_hot", integers(4, 3, 2), args=(6,)),
    of("one_hot", np.array(2), args=(3,), label="0-d"),
    of("one_hot", np.zeros((0, 2), np.int64), args=(3,), label="empty"),
]

SHAPES = {  # scores and targets of the class losses
    "(N, C)": (normal(5, 4), integers(4, 5)),
    "(C)": (normal(4), np.array(2)),
    "(N, C, d)": (normal(3, 4, 2), integers(4, 3, 2)),
    "(N, C, d1, d2)": (normal(2, 4, 3, 2), integers(4, 2, 3, 2)),
}


def class_losses(name, **options):
    """A class loss over shapes, reductions, weights and ignored targets."""
    for label, (x, t) in SHAPES.items():
        for r in REDUCTIONS:
            yield of(name, x, t, label=label, reduction=r, **options)
            yield of(name, x, t, label=label, reduction=r, ignore_index=2 if label != "(C)" else 1, **options)
            yield Sample(
                f"{name} {label} weighted ignoring 1 reduction={r!r} {options or ''}",
                lambda m, x, t, w, r=r: getattr(m.nn.functional, name)(
                    x, t, w, reduction=r, ignore_index=1, **options
                ),
                x, t, positive(4), no_grad=(2,),
            )  # fmt: skip


PROBABILITIES = [
    Sample(
        f"cross_entropy of probabilities {label} reduction={r!r} label_smoothing={s} {'weighted' * weighted}",
        lambda m, x, t, w, r=r, s=s, weighted=weighted: m.nn.functional.cross_entropy(
            x, t, w if weighted else None, reduction=r, label_smoothing=s
        ),
        x, t, positive(4), no_grad=(2,),
    )
    for label, x, t in (
        ("(N, C)", normal(5, 4), positive(5, 4)),
        ("(C)", normal(4), positive(4)),
        ("(N, C, d)", normal(3, 4, 2), positive(3, 4, 2)),
    )
    for r in REDUCTIONS
    for s, weighted in ((0.0, False), (0.2, True))
]  # fmt: skip

CLASSES = [
    *class_losses("nll_loss"),
    *class_losses("cross_entropy"),
    *class_losses("cross_entropy", label_smoothing=0.3),
    *PROBABILITIES,
    of("cross_entropy", normal(5, 4), integers(4, 5), label_smoothing=1.0),
    of("cross_entropy", normal(5, 1), np.zeros(5, np.int64), label="one class"),
    of("cross_entropy", normal(5, 4), np.array([-100, 1, -100, 0, 3]), label="ignoring by default"),
    of("cross_entropy", uniform(-900, 900, 5, 4), integers(4, 5), label="where e^x overflows"),
    of("cross_entropy", normal(33, 70), integers(70, 33), label="longer rows"),
    of("cross_entropy", normal(0, 4), np.zeros(0, np.int64), reduction="sum", label="no rows"),
    of("cross_entropy", normal(5, 4), np.full(5, -100), reduction="sum", label="all ignored"),
    Sample(
        "cross_entropy of a transposed view",
        lambda m, x, t: m.nn.functional.cross_entropy(x.t(), t),
        normal(4, 5),
        integers(4, 5),
    ),
]

# dropout without chance: p = 0, p = 1, evaluation
DROPOUT = [
    of("dropout", normal(3, 4), p=0.0),
    of("dropout", normal(3, 4), p=1.0),
    of("dropout", normal(5), p=0.5, training=False),
    of("dropout1d", normal(2, 3, 4), p=1.0),
    of("dropout2d", normal(2, 3, 4, 2), p=0.0),
    of("dropout3d", normal(2, 3, 4, 2, 2), p=1.0),
]

SAMPLES = [
    *LINEAR,
    *POINTWISE,
    *SOFTMAX,
    *REGRESSION,
    *BINARY,
    *DISTRIBUTIONS,
    *MARGINS,
    *CLASSES,
    *DROPOUT,
]
