"""Losses as modules."""

from __future__ import annotations

import math
from typing import Any

from ..tensor import Tensor
from . import functional as F
from .linear import Linear
from .module import Module
from .wrapped import OfFunction


class Loss(OfFunction):
    """A function of an input and a target."""

    inputs = 2


class MSELoss(Loss):
    function, without = F.mse_loss, ("weight",)


class L1Loss(Loss):
    function, without = F.l1_loss, ("weight",)


class SmoothL1Loss(Loss):
    function = F.smooth_l1_loss


class HuberLoss(Loss):
    function, without = F.huber_loss, ("weight",)


class PoissonNLLLoss(Loss):
    function = F.poisson_nll_loss


class GaussianNLLLoss(Loss):
    function, inputs = F.gaussian_nll_loss, 3

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(full, eps, reduction)


class BCELoss(Loss):
    function = F.binary_cross_entropy


class BCEWithLogitsLoss(Loss):
    function = F.binary_cross_entropy_with_logits


class SoftMarginLoss(Loss):
    function = F.soft_margin_loss


class MultiLabelSoftMarginLoss(Loss):
    function = F.multilabel_soft_margin_loss


class KLDivLoss(Loss):
    function = F.kl_div


class NLLLoss(Loss):
    function = F.nll_loss


class CrossEntropyLoss(Loss):
    function = F.cross_entropy

    def forward(self, input: Any, target: Any) -> Any:
        return F.cross_entropy(
            input,
            target,
            self.weight,
            self.size_average,
            self.ignore_index,
            self.reduce,
            self.reduction,
            self.label_smoothing,
        )


class LinearCrossEntropyLoss(Module):
    """A linear map to the scores of num_classes classes, and their cross-entropy: (N, in_features), (N) -> ()

    In less memory than the two apart: see functional.linear_cross_entropy, whose arguments the others are.
    out_features=(d1, ...) makes scores (N, num_classes, d1, ...). The map is the Linear `linear`, whose rows
    are the classes, and for each class the d1 ... .
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: F.LinearCrossEntropyOptions | None = None,
    ) -> None:
        super().__init__()
        name = "LinearCrossEntropyLoss"
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise ValueError(f"{name}: weight {list(weight.shape)}; it is [{num_classes}], one a class")
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"{name}: label_smoothing={label_smoothing}; it lies in [0, 1]")
        self.register_buffer("weight", weight)
        self.num_classes, self.out_features = num_classes, tuple(out_features)
        self.reduction, self.ignore_index = reduction, ignore_index
        self.label_smoothing, self.options = label_smoothing, options
        size = math.prod(self.out_features, start=num_classes)
        self.linear = Linear(in_features, size, bias=bias, device=device, dtype=dtype)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        w, b = self.linear.weight, self.linear.bias
        if self.out_features:
            w = w.reshape(self.num_classes, *self.out_features, -1)
            b = None if b is None else b.reshape(self.num_classes, *self.out_features)
        return F.linear_cross_entropy(
            input,
            w,
            target,
            linear_bias=b,
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )

    def extra_repr(self) -> str:
        return (
            f"in_features={self.linear.in_features}, num_classes={self.num_classes}, "
            f"out_features={self.out_features}, bias={self.linear.bias is not None}, "
            f"reduction={self.reduction}, ignore_index={self.ignore_index}, "
            f"label_smoothing={self.label_smoothing}, options={self.options}"
        )


class MarginRankingLoss(Loss):
    function, inputs = F.margin_ranking_loss, 3


class HingeEmbeddingLoss(Loss):
    function = F.hinge_embedding_loss


class CosineEmbeddingLoss(Loss):
    function, inputs = F.cosine_embedding_loss, 3


class TripletMarginLoss(Loss):
    function, inputs = F.triplet_margin_loss, 3


class TripletMarginWithDistanceLoss(Loss):
    function, inputs = F.triplet_margin_with_distance_loss, 3


class MultiMarginLoss(Loss):
    function = F.multi_margin_loss


class MultiLabelMarginLoss(Loss):
    function = F.multilabel_margin_loss
