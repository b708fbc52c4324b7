"""Samples of nn.functional: orders of pixels and channels, p-norm pools, unpooling, interpolation, LRN,
margins of classes, distances of all pairs; and their modules."""

import numpy as np

from . import Sample, distinct, integers, normal, positive
from .layers import of


def module(text, *inputs, **kwargs):
    """A sample of a module that has no parameters: nn.<text>(*inputs)"""
    return Sample(
        f"nn.{text}", lambda m, *tensors: eval(f"m.nn.{text}", {"m": m})(*tensors), *inputs, **kwargs
    )


ARRANGED = [
    of("pixel_shuffle", normal(2, 8, 2, 3), upscale_factor=2),
    of("pixel_shuffle", normal(9, 2, 3), upscale_factor=3, label="without batch"),
    of("pixel_shuffle", normal(2, 1, 4, 2, 2), args=(2,), label="two leading dims"),
    of("pixel_unshuffle", normal(2, 2, 4, 6), downscale_factor=2),
    of("pixel_unshuffle", normal(1, 6, 3), args=(3,), label="without batch"),
    of("channel_shuffle", normal(2, 6, 3), args=(2,), second=False),  # torch's has no second gradient
    of("channel_shuffle", normal(2, 6, 2, 2), groups=3, second=False),
    module("PixelShuffle(2)", normal(1, 4, 2, 2)),
    module("PixelUnshuffle(2)", normal(1, 1, 4, 4)),
    module("ChannelShuffle(2)", normal(1, 4, 3), second=False),
]

POOLS = [
    of("lp_pool1d", positive(2, 3, 7), norm_type=2, kernel_size=3),
    of("lp_pool1d", positive(3, 7), norm_type=1.5, kernel_size=2, stride=3, label="without batch"),
    of("lp_pool1d", positive(2, 3, 8), norm_type=3, kernel_size=3, stride=2, ceil_mode=True),
    of("lp_pool2d", positive(2, 3, 6, 7), norm_type=2, kernel_size=3, rtol=1e-9),
    of("lp_pool2d", positive(2, 3, 6, 7), norm_type=3.0, kernel_size=(2, 3), stride=(1, 2), rtol=1e-9),
    of("lp_pool2d", positive(3, 5, 5), norm_type=2, kernel_size=2, ceil_mode=True, label="without batch"),
    of(
        "lp_pool2d",
        lambda rng: -rng.uniform(0.5, 2, (1, 2, 4, 4)),
        norm_type=1,
        kernel_size=2,
        label="negative",
    ),
    module("LPPool1d(2, 3, stride=2)", positive(2, 3, 7)),
    module("LPPool2d(3.0, 2)", positive(2, 3, 4, 4)),
]


def unpooled(dims, kernel, stride=None, padding=0, output_size=None):
    def fn(m, x):
        F = m.nn.functional
        pool, back = getattr(F, f"max_pool{dims}d"), getattr(F, f"max_unpool{dims}d")
        y, places = pool(x, kernel, stride, padding, return_indices=True)
        return back(y, places, kernel, stride, padding, output_size)

    return fn


UNPOOLED = [
    Sample("max_unpool1d", unpooled(1, 2), distinct(2, 3, 8)),
    Sample("max_unpool1d without batch, output_size", unpooled(1, 2, output_size=[9]), distinct(3, 9)),
    Sample("max_unpool2d", unpooled(2, 2), distinct(2, 2, 6, 4)),
    Sample("max_unpool2d stride, padding", unpooled(2, (3, 2), (3, 2), (1, 1), [8, 6]), distinct(1, 2, 8, 6)),
    Sample("max_unpool2d output_size", unpooled(2, 2, output_size=[5, 7]), distinct(1, 2, 5, 7)),
    Sample(
        "nn.MaxUnpool2d",
        lambda m, x: m.nn.MaxUnpool2d(2)(*m.nn.MaxPool2d(2, return_indices=True)(x)),
        distinct(2, 2, 4, 4),
    ),
    Sample(
        "nn.MaxUnpool1d",
        lambda m, x: m.nn.MaxUnpool1d(2)(*m.nn.MaxPool1d(2, return_indices=True)(x), output_size=[2, 3, 9]),
        distinct(2, 3, 9),
    ),
]

INTERPOLATED = [
    of("interpolate", normal(2, 3, 5), size=9, mode="linear", align_corners=False),
    of("interpolate", normal(2, 3, 5), size=3, mode="linear", align_corners=True),
    of("interpolate", normal(2, 3, 5), scale_factor=2.5, mode="linear"),
    of("interpolate", normal(2, 3, 5), scale_factor=0.7, mode="linear", recompute_scale_factor=True),
    of("interpolate", normal(2, 3, 4, 5), size=(7, 3), mode="bilinear", align_corners=False),
    of("interpolate", normal(2, 3, 4, 5), size=(7, 3), mode="bilinear", align_corners=True),
    of("interpolate", normal(2, 3, 4, 5), scale_factor=(2, 1.5), mode="bilinear"),
    of("interpolate", normal(2, 3, 4, 5), size=(4, 5), mode="bilinear", label="as it is"),
    of("interpolate", normal(2, 3, 4, 5), size=1, mode="bilinear", align_corners=True, label="one pixel"),
    of("interpolate", normal(0, 3, 4, 5), size=2, mode="bilinear", label="no examples"),
    module("Upsample(scale_factor=2, mode='bilinear')", normal(2, 3, 4, 5)),
    module("UpsamplingBilinear2d(scale_factor=2)", normal(2, 3, 4, 5)),
]

NORMALIZED = [
    of("local_response_norm", normal(2, 7, 3), size=3, alpha=0.5),
    of("local_response_norm", normal(2, 7, 3, 2), size=4, alpha=0.5, beta=0.6, k=2.0),
    of("local_response_norm", normal(2, 2, 3), size=5, label="more than there are", alpha=1.0),
    of("local_response_norm", normal(0, 7, 3), size=3, label="no examples"),
    module("LocalResponseNorm(3, alpha=0.3)", normal(2, 5, 4, 3)),
]

REDUCTIONS = ("none", "mean", "sum")

LOSSES = [
    # torch's have no second gradient
    *[of("multi_margin_loss", normal(4, 5), integers(5, 4), reduction=r, second=False) for r in REDUCTIONS],
    of("multi_margin_loss", normal(4, 5), integers(5, 4), p=2, margin=0.7, second=False),
    of("multi_margin_loss", normal(5), np.array(2), p=2, label="one example", second=False),
    *[
        Sample(
            f"multi_margin_loss weighted p={p}",
            lambda m, x, t, w, p=p: m.nn.functional.multi_margin_loss(x, t, p=p, weight=w),
            normal(4, 5),
            integers(5, 4),
            positive(5),
            second=False,
            no_grad=(2,),
        )
        for p in (1, 2)
    ],
    *[
        of(
            "multilabel_margin_loss",
            normal(3, 4),
            np.array([[3, 0, -1, 1], [2, -1, 0, 0], [-1, 1, 2, 3]]),
            reduction=r,
            second=False,
        )
        for r in REDUCTIONS
    ],
    of("multilabel_margin_loss", normal(4), np.array([1, 3, -1, 2]), label="one example", second=False),
    of("triplet_margin_with_distance_loss", normal(3, 4), normal(3, 4), normal(3, 4), margin=2.0),
    Sample(
        "triplet_margin_with_distance_loss of another distance",
        lambda m, a, p, n: m.nn.functional.triplet_margin_with_distance_loss(
            a,
            p,
            n,
            distance_function=lambda x, y: ((x - y) ** 2).sum(-1),
            swap=True,
            reduction="sum",
            margin=30.0,
        ),
        normal(3, 4),
        normal(3, 4),
        normal(3, 4),
    ),
    module("MultiMarginLoss(p=2)", normal(3, 4), integers(4, 3), second=False),
    module("MultiLabelMarginLoss()", normal(2, 3), np.array([[0, -1, 1], [1, 2, -1]]), second=False),
    module("TripletMarginWithDistanceLoss(margin=3.0)", normal(3, 4), normal(3, 4), normal(3, 4)),
    # torch's pdist has no second gradient
    *[of("pdist", normal(5, 3), p=p, second=False) for p in (2.0, 1.0, 1.5, 3.0, float("inf"))],
    of("pdist", normal(1, 3), label="one row", second=False),
]

PADDED = [
    module(f"{name}Pad3d({given})", normal(2, 2, 4, 4, 4))
    for name, given in (
        ("Zero", "1"),
        ("Constant", "(1, 0, 2, 1, 0, 1), 0.5"),
        ("Reflection", "(1, 2, 0, 1, 1, 1)"),
        ("Replication", "(1, 2, 0, 1, 1, 1)"),
        ("Circular", "(1, 2, 0, 1, 1, 1)"),
    )
]

SAMPLES = ARRANGED + POOLS + UNPOOLED + INTERPOLATED + NORMALIZED + LOSSES + PADDED
