"""Labels drawn from the model's own distribution: what the true Fisher is an expectation over.

    sample_labels    classes   ~ softmax(logits)
    sample_values    values    ~ normal(outputs, C / 2): exp(-loss) of the mean squared error over C outputs

With the true labels in their place one has the empirical Fisher, another matrix. [Kunstner et al. 2019]
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from kernels.draws import GUMBEL

from . import random
from .backend import Array, device_of, empty, to_device
from .grad_mode import no_grad
from .ops.layers import quarters
from .tensor import Tensor


def draw(where: Any) -> Array:
    """The next draw of the counter stream: [seed, offset], on a device."""
    seed, _ = random.philox_state()
    return to_device(np.array([seed, random.next_offset()], np.uint64), where)


@no_grad()
def sample_labels(logits: Tensor) -> Tensor:
    """Labels drawn from softmax(logits): (..., C) -> (...), int64, on the device and from its counter stream.

    The largest of logits + Gumbel noise is such a draw. TypeError for logits that are no floats.
    """
    a, kind, where = _floats("sample_labels", logits)
    noise = empty((-(-a.size // 4) * 4,), kind, where)
    GUMBEL(draw(where), *quarters(noise))
    return Tensor(a.astype(kind) + noise[: a.size].reshape(a.shape)).argmax(-1)


@no_grad()
def sample_values(outputs: Tensor) -> Tensor:
    """outputs + sqrt(C / 2) z, z standard normal, from the host stream: (..., C) -> (..., C).

    TypeError for outputs that are no floats.
    """
    a, kind, where = _floats("sample_values", outputs)
    z = random.host().standard_normal(a.shape).astype(kind)
    return Tensor((a + to_device(z, where) * kind.type(sqrt(a.shape[-1] / 2))).astype(a.dtype))


def _floats(name: str, outputs: Any) -> tuple[Array, np.dtype, Any]:
    """The array of (..., C) outputs, the type that their noise is drawn in, and where."""
    if not isinstance(outputs, Tensor) or not outputs.dtype.is_floating_point or not outputs.ndim:
        given = type(outputs).__name__
        if isinstance(outputs, Tensor):
            given = f"{outputs.dtype.name}{list(outputs.shape)}"
        raise TypeError(f"{name}: logits are {given}; they are a floating Tensor of shape (..., C)")
    a = outputs.array
    return a, np.dtype("float64" if a.dtype == np.float64 else "float32"), device_of(a)
