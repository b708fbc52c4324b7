"""Losses as modules."""

from __future__ import annotations

from typing import Any

from . import functional as F
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
