"""Samples that torch's own test data (its OpInfo table) asked for: arguments and shapes at the edge."""

import numpy as np

from . import Sample, integers, normal, positive

SAMPLES = [
    Sample(
        "quantile of q that has a gradient",
        lambda m, x, q: (m.quantile(x, q, 1), m.quantile(x, q[1]), x.quantile(q, dim=0, keepdim=True)),
        normal(4, 5),
        np.array([0.13, 0.52, 0.77]),
    ),
    Sample(
        "cosine_similarity along a dim that is broadcast",
        lambda m, x, y: m.nn.functional.cosine_similarity(x, y, dim=-2),
        normal(1, 3, 4),
        normal(2, 1, 4),
        float32=None,  # the gradient of the second one is 0 but for rounding
    ),
    Sample("diff 0 times", lambda m, x, y: m.diff(x, 0, prepend=y), normal(3, 4), normal(3, 1), no_grad=(1,)),
    Sample(
        "pinv with bounds",
        lambda m, x: (
            m.linalg.pinv(x, rtol=0.01),
            m.linalg.pinv(x, atol=0.02, rtol=1e-3),
            m.linalg.pinv(x, atol=m.tensor([0.01, 0.02], dtype=m.float64)),
            m.linalg.pinv(x, 0.01),
        ),
        normal(2, 4, 3),
    ),
    Sample(
        "take_along_dim counting back",
        lambda m, x, i: x.take_along_dim(i - 4, 1),
        normal(3, 4),
        integers(4, 3, 2),
    ),
    Sample(
        "the kink of elu",
        lambda m, x: (m.nn.functional.elu(x), m.nn.functional.elu(x, 0.8), m.nn.functional.selu(x)),
        np.array([-1.5, -0.0, 0.0, 2.0]),
        smooth=False,
    ),
    Sample(
        "shapes in place",
        lambda m, x: (
            (x * 2).unsqueeze_(1).transpose_(0, 2).squeeze_(1) * (x * 3).t_(),
            (x + x.cos()).swapaxes_(0, 1),
        ),
        positive(2, 3),
    ),
]
