"""Gradients of a fused operation from its plain formula, for gradients that are to be differentiated again.

A fused operation has texts for its forward and its backward. Its higher derivatives come from the formula
that it fuses, written once, on Tensors: that is run again and differentiated, with everything recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import grad
from ..tensor import Tensor
from .shape import reshape


def gradients(formula: Callable, g: Tensor, needed: Sequence[Any], *inputs: Any) -> list[Tensor | None]:
    """The gradient of formula(*inputs) in direction g for each input; None where it is not needed.

    Each input stands in under another node: else one that was computed from another would count twice.
    """
    inside = list(inputs)
    asked = [k for k, wanted in enumerate(needed) if wanted is not False and isinstance(inputs[k], Tensor)]
    for k in asked:
        inside[k] = reshape(inputs[k], inputs[k].array.shape)
    found = grad(formula(*inside), [inside[k] for k in asked], g, create_graph=True, allow_unused=True)
    results: list[Tensor | None] = [None] * len(inputs)
    for k, d in zip(asked, found, strict=True):
        results[k] = d
    return results
