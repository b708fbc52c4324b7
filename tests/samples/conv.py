"""Samples of nn.functional: convolutions and their transposes, unfold and fold, pools, padding, enlarging."""

import numpy as np

from . import Sample, distinct, normal

TABLE = ("smooth", "float32", "oracle", "reference")  # what is said of a sample, not to the function


def of(name, *inputs, label="", **kwargs):
    """A sample of nn.functional.<name>(*inputs, **kwargs)."""
    table = {key: kwargs.pop(key) for key in TABLE if key in kwargs}
    said = ", ".join([f"{key}={value!r}" for key, value in kwargs.items()])
    return Sample(
        " ".join(filter(None, [name, label, said])),
        lambda m, *tensors: getattr(m.nn.functional, name)(*tensors, **kwargs),
        *inputs,
        **table,
    )


# ---------------------------------------------------------------------------------------------- convolutions

IMAGE, KERNEL, BIAS = normal(2, 3, 7, 6), normal(4, 3, 3, 2), normal(4)

# options -> weight shape
OPTIONS = [
    (dict(), (4, 3, 3, 2)),
    (dict(stride=2), (4, 3, 3, 2)),
    (dict(stride=(1, 3)), (4, 3, 3, 2)),
    (dict(stride=3, padding=(2, 1)), (4, 3, 3, 2)),
    (dict(padding=1), (4, 3, 3, 3)),
    (dict(padding=(0, 2)), (4, 3, 3, 2)),
    (dict(padding="same"), (4, 3, 3, 3)),
    (dict(padding="same", dilation=(3, 2)), (4, 3, 3, 4)),
    (dict(padding="valid"), (4, 3, 3, 2)),
    (dict(dilation=2), (4, 3, 3, 2)),
    (dict(dilation=(3, 1), stride=2, padding=2), (4, 3, 2, 3)),
    (dict(dilation=3, stride=2, padding=3), (4, 3, 3, 3)),
    (dict(groups=3), (6, 1, 3, 2)),
    (dict(groups=3, stride=2, padding=1), (3, 1, 3, 3)),
    (dict(padding=4), (2, 3, 2, 2)),
    (dict(), (5, 3, 1, 1)),
    (dict(stride=2), (5, 3, 1, 1)),
    (dict(padding=1), (5, 3, 1, 1)),
    (dict(groups=3), (6, 1, 1, 1)),
    (dict(), (2, 3, 7, 6)),
    (dict(stride=4), (2, 3, 2, 2)),
]

CONVOLUTIONS = [
    of("conv2d", IMAGE, normal(*shape), normal(shape[0]), label=f"weight {shape}", **options)
    for options, shape in OPTIONS
] + [
    of("conv2d", IMAGE, KERNEL, label="without bias"),
    of("conv2d", normal(3, 7, 6), KERNEL, BIAS, label="unbatched", padding=1),
    of("conv2d", normal(0, 3, 7, 6), KERNEL, BIAS, label="empty batch"),
    of("conv2d", normal(1, 1, 1, 1), normal(1, 1, 1, 1), normal(1), label="size 1"),
    of("conv2d", normal(5, 4, 2, 2), normal(3, 4, 2, 2), normal(3), label="one pixel out"),
    of("conv2d", normal(9, 4, 3, 3), normal(18, 4, 3, 3), normal(18), label="many small images", padding=1),
    of("conv2d", normal(2, 4, 5, 37), normal(19, 4, 3, 3), normal(19), label="wide image", padding=1),
    of("conv2d", normal(2, 4, 6, 6), normal(6, 2, 3, 3), normal(6), label="two groups", groups=2, stride=2),
    of(
        "conv2d",
        IMAGE,
        normal(4, 3, 2, 4),
        BIAS,
        label="even weight",
        padding="same",
        # torch warns that it copies
        reference=lambda m, x, w, b: m.nn.functional.conv2d(m.nn.functional.pad(x, (1, 2, 0, 1)), w, b),
    ),
    Sample(
        "conv2d of transposed views",
        lambda m, x, w, b: m.nn.functional.conv2d(
            x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), b, padding=1, stride=2
        ),
        normal(2, 5, 6, 3),
        normal(3, 3, 3, 4),
        BIAS,
    ),
    Sample(
        "conv2d of an expanded image",
        lambda m, x, w, b: m.nn.functional.conv2d(x.expand(2, 3, 5, 6), w, b),
        normal(1, 3, 1, 6),
        KERNEL,
        BIAS,
    ),
    Sample(
        "conv2d whose weight has no gradient",
        lambda m, x, w, b: m.nn.functional.conv2d(x, w.detach(), b),
        IMAGE,
        KERNEL,
        BIAS,
        no_grad=(1,),
    ),
    Sample(
        "conv2d whose image has no gradient",
        lambda m, x, w, b: m.nn.functional.conv2d(x, w, b, stride=2),
        IMAGE,
        KERNEL,
        BIAS,
        no_grad=(0,),
    ),
]

FUSED = [
    Sample(
        f"conv2d activation={name!r} {label}",
        lambda m, *t, name=name, o=options: m.nn.functional.conv2d(*t, **o, activation=name),
        *inputs,
        reference=lambda m, *t, name=name, o=options: getattr(m.nn.functional, name)(
            m.nn.functional.conv2d(*t, **o)
        ),
    )
    for name in ("relu", "gelu", "silu", "tanh", "sigmoid")
    for label, options, inputs in (
        ("with bias", dict(padding=1), (IMAGE, KERNEL, BIAS)),
        ("without bias", dict(stride=2), (IMAGE, KERNEL)),
        ("unbatched", dict(), (normal(3, 7, 6), KERNEL, BIAS)),
    )
]

SEQUENCES = [
    of("conv1d", normal(2, 4, 9), normal(6, 4 // options.get("groups", 1), 3), normal(6), **options)
    for options in (
        dict(),
        dict(stride=2, padding=1),
        dict(dilation=3, padding=4),
        dict(padding="same"),
        dict(padding="valid", stride=(3,)),
        dict(groups=2),
    )
] + [
    of("conv1d", normal(4, 9), normal(6, 4, 2), label="unbatched without bias"),
    of("conv1d", normal(0, 4, 9), normal(6, 4, 2), normal(6), label="empty batch"),
    Sample(
        "conv1d activation='relu'",
        lambda m, *t: m.nn.functional.conv1d(*t, padding=1, activation="relu"),
        normal(2, 4, 9),
        normal(6, 4, 3),
        normal(6),
        reference=lambda m, *t: m.nn.functional.relu(m.nn.functional.conv1d(*t, padding=1)),
    ),
]

TRANSPOSED = [
    of("conv_transpose2d", normal(2, 4, 4, 3), normal(*shape), label=f"weight {shape}", **options)
    for options, shape in (
        (dict(), (4, 3, 3, 2)),
        (dict(stride=2), (4, 3, 3, 2)),
        (dict(stride=2, padding=1, output_padding=1), (4, 3, 3, 3)),
        (dict(stride=(3, 2), padding=(1, 0), output_padding=(2, 1)), (4, 3, 2, 3)),
        (dict(stride=3), (4, 2, 2, 2)),
        (dict(dilation=2), (4, 3, 3, 2)),
        (dict(dilation=3, output_padding=2), (4, 3, 2, 2)),
        (dict(groups=2), (4, 3, 3, 2)),
        (dict(groups=4, stride=2), (4, 1, 3, 3)),
        (dict(), (4, 5, 1, 1)),
        (dict(padding=2), (4, 2, 4, 4)),
    )
] + [
    of("conv_transpose2d", normal(2, 4, 4, 3), normal(4, 3, 3, 2), normal(3), label="with bias", stride=2),
    of("conv_transpose2d", normal(4, 4, 3), normal(4, 3, 3, 2), normal(3), label="unbatched"),
    of("conv_transpose2d", normal(0, 4, 4, 3), normal(4, 3, 3, 2), normal(3), label="empty batch"),
    of("conv_transpose1d", normal(2, 4, 5), normal(4, 3, 3), normal(3)),
    of("conv_transpose1d", normal(2, 4, 5), normal(4, 3, 3), stride=2, padding=1, output_padding=1),
    of("conv_transpose1d", normal(2, 4, 5), normal(4, 3, 3), normal(6), groups=2, dilation=2),
    of("conv_transpose1d", normal(4, 5), normal(4, 3, 3), normal(3), label="unbatched", stride=3),
]

COLUMNS = [
    *[
        of("unfold", normal(2, 3, 6, 5), **options)
        for options in (
            dict(kernel_size=2),
            dict(kernel_size=(3, 2), padding=1),
            dict(kernel_size=(2, 3), stride=2, padding=(0, 1)),
            dict(kernel_size=2, dilation=(3, 2), stride=(1, 2), padding=1),
            dict(kernel_size=1, stride=3),
        )
    ],
    of("unfold", normal(3, 6, 5), label="unbatched", kernel_size=3),
    *[
        of("fold", normal(2, 3 * taps, length), **options)
        for taps, length, options in (
            (4, 20, dict(output_size=(6, 5), kernel_size=2)),
            (6, 36, dict(output_size=(6, 5), kernel_size=(3, 2), padding=1)),
            (6, 9, dict(output_size=(6, 5), kernel_size=(2, 3), stride=2, padding=(0, 1))),
            (4, 15, dict(output_size=(6, 5), kernel_size=2, dilation=(3, 2), stride=(1, 2), padding=1)),
        )
    ],
    of("fold", normal(12, 16), label="unbatched", output_size=5, kernel_size=2),
]

# ----------------------------------------------------------------------------------------------------- pools

PLANES = distinct(2, 3, 7, 6)
ODD = np.array([[np.nan, 1.0, 2.0, np.nan, 5.0, np.nan], [0.0, -np.inf, 2.0, 2.0, 1.0, np.inf]])
TIES = np.array([[1.0, 1.0, 0.0, 2.0], [1.0, 0.0, 2.0, 2.0], [-np.inf] * 4, [-np.inf] * 4]).reshape(
    1, 1, 4, 4
)

WINDOWS = (
    dict(kernel_size=2),
    dict(kernel_size=3, stride=1),
    dict(kernel_size=(3, 2), stride=2),
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=(2, 3), stride=(3, 1), padding=(1, 0)),
    dict(kernel_size=2, ceil_mode=True),
    dict(kernel_size=3, stride=2, padding=1, ceil_mode=True),
    dict(kernel_size=2, stride=4, padding=1, ceil_mode=True),
    dict(kernel_size=(7, 6)),
    dict(kernel_size=1, stride=3),
)

MAXIMA = [
    *[of("max_pool2d", PLANES, **options) for options in WINDOWS],
    *[of("max_pool2d", PLANES, return_indices=True, **options) for options in WINDOWS],
    of("max_pool2d", PLANES, kernel_size=2, dilation=2),
    of("max_pool2d", PLANES, kernel_size=(3, 2), dilation=(2, 3), padding=(1, 1), stride=2),
    of("max_pool2d", PLANES, kernel_size=3, dilation=2, ceil_mode=True, stride=2, return_indices=True),
    of("max_pool2d", distinct(3, 7, 6), label="unbatched", kernel_size=2, return_indices=True),
    of("max_pool2d", normal(0, 3, 7, 6), label="empty batch", kernel_size=2),
    of("max_pool2d", distinct(1, 1, 17, 17), label="more taps than a byte counts", kernel_size=17),
    of("max_pool2d", distinct(2, 2, 20, 19), label="wide taps", kernel_size=17, stride=2, padding=8),
    of("max_pool2d", TIES, label="ties", kernel_size=2, return_indices=True, smooth=False, float32=None),
    of("max_pool1d", distinct(2, 3, 9), kernel_size=2),
    of("max_pool1d", distinct(2, 3, 9), kernel_size=3, stride=2, padding=1, dilation=2, ceil_mode=True),
    of("max_pool1d", distinct(2, 3, 9), kernel_size=(3,), return_indices=True),
    of("max_pool1d", distinct(3, 9), label="unbatched", kernel_size=4, stride=1),
    of("max_pool1d", ODD, label="nan and inf", kernel_size=2, stride=1, return_indices=True, smooth=False,
       float32=None),
    Sample(
        "max_pool2d of a transposed view",
        lambda m, x: m.nn.functional.max_pool2d(x.permute(0, 3, 1, 2), 2),
        distinct(2, 6, 5, 3),
    ),
]  # fmt: skip

MEANS = [
    *[of("avg_pool2d", normal(2, 3, 7, 6), **options) for options in WINDOWS],
    *[
        of("avg_pool2d", normal(2, 3, 7, 6), count_include_pad=False, **options)
        for options in WINDOWS
        if "padding" in options or "ceil_mode" in options
    ],
    of("avg_pool2d", normal(2, 3, 7, 6), kernel_size=3, padding=1, ceil_mode=True, divisor_override=5),
    of("avg_pool2d", normal(2, 3, 7, 6), kernel_size=2, divisor_override=-3),
    of("avg_pool2d", normal(3, 7, 6), label="unbatched", kernel_size=2),
    of("avg_pool2d", normal(0, 3, 7, 6), label="empty batch", kernel_size=2),
    of("avg_pool1d", normal(2, 3, 9), kernel_size=2),
    of("avg_pool1d", normal(2, 3, 9), kernel_size=3, stride=2, padding=1, ceil_mode=True),
    of("avg_pool1d", normal(3, 9), label="unbatched", kernel_size=4, padding=2, count_include_pad=False),
]

ADAPTIVE = [
    *[
        of(f"adaptive_{kind}_pool2d", distinct(2, 3, 6, 8), output_size=size, label=label)
        for kind in ("avg", "max")
        for label, size in (
            ("divides", (3, 2)),
            ("one", 1),
            ("all", (6, 8)),
            ("overlaps", (4, 5)),
            ("enlarges", (7, 8)),
            ("one dim divides", (2, 3)),
            ("one dim stays", (None, 4)),
        )
    ],
    *[
        of(f"adaptive_{kind}_pool1d", distinct(2, 3, 8), output_size=size)
        for kind in ("avg", "max")
        for size in (4, 3, 1)
    ],
    of("adaptive_avg_pool2d", normal(3, 6, 5), label="unbatched", output_size=2),
    of("adaptive_max_pool2d", distinct(3, 6, 5), label="unbatched", output_size=2, return_indices=True),
    of("adaptive_max_pool2d", distinct(2, 3, 6, 8), output_size=(3, 2), return_indices=True),
    of("adaptive_max_pool1d", distinct(2, 3, 8), output_size=5, return_indices=True),
    of("adaptive_max_pool1d", ODD, label="nan and inf", output_size=4, return_indices=True, smooth=False,
       float32=None),
    of("adaptive_max_pool1d", np.ones((1, 2, 7)), label="ties", output_size=3, return_indices=True,
       smooth=False),
]  # fmt: skip

# ------------------------------------------------------------------------------------- padding and enlarging

PADDING = [
    *[
        of("pad", normal(2, 3, 4), pad=pad, **options)
        for pad in (
            (1, 2),
            (0, 1, 2, 0),
            (1, 1, 0, 2, 3, 0),
            (-1, 2),
            (1, -3),
            (-1, -2, 1, -1),
            (-2, -2),
            (0, 0),
        )
        for options in (dict(), dict(mode="constant", value=1.5))
    ],
    of("pad", np.array([1.0, 2.0]), pad=(0, 1), label="vector"),
    *[
        of("pad", normal(2, 4, 5), pad=pad, mode=mode)
        for mode in ("reflect", "replicate", "circular")
        for pad in ((1, 2), (4, 4), (3, 0), (2, 1, 0, 3), (-1, 2), (3, -2), (-1, -1), (2, -1, -2, 1), (0, 0))
    ],
    *[
        of("pad", normal(2, 3, 4, 5), pad=(1, 2, 3, 1), mode=mode, label="4-d")
        for mode in ("reflect", "replicate", "circular")
    ],
    *[
        of("pad", normal(1, 2, 3, 4, 3), pad=(1, 2, 0, 1, 2, 1), mode=mode, label="5-d")
        for mode in ("reflect", "replicate", "circular")
    ],
    of("pad", normal(2, 5), pad=(2, 1), mode="reflect", label="2-d"),
    of("pad", normal(2, 1), pad=(7, 3), mode="replicate", label="far"),
    of("pad", normal(2, 3), pad=(3, 3), mode="circular", label="once round"),
    *[
        Sample(
            f"pad mode={mode!r} of a transposed view",
            lambda m, x, mode=mode: m.nn.functional.pad(x.permute(0, 2, 1), (1, 2), mode=mode),
            normal(2, 4, 3),
        )
        for mode in ("constant", "reflect", "replicate", "circular")
    ],
]

ENLARGING = [
    *[
        of("interpolate", normal(2, 3, 4, 6), mode=mode, **options)
        for mode in ("nearest", "nearest-exact")
        for options in (
            dict(scale_factor=2),
            dict(scale_factor=(3, 1)),
            dict(scale_factor=(1.5, 2.3)),
            dict(scale_factor=0.5),
            dict(size=(8, 6)),
            dict(size=(5, 13)),
            dict(size=(3, 2)),
            dict(size=7),
            dict(scale_factor=1.7, recompute_scale_factor=True),
        )
    ],
    of("interpolate", normal(2, 3, 5), scale_factor=3),
    of("interpolate", normal(2, 3, 5), size=7),
]

SAMPLES = [
    *CONVOLUTIONS,
    *FUSED,
    *SEQUENCES,
    *TRANSPOSED,
    *COLUMNS,
    *MAXIMA,
    *MEANS,
    *ADAPTIVE,
    *PADDING,
    *ENLARGING,
]
