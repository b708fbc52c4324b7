"""Losses."""

from __future__ import annotations

from ... import ops
from ...tensor import Tensor
from .activation import log_softmax


def nll_loss(input: Tensor, target: Tensor) -> Tensor:
    """-mean(input[i, target[i]])"""
    picked = ops.pick(input, target.array)
    return ops.sum_to(picked, ()) * (-1 / len(target))


def cross_entropy(input: Tensor, target: Tensor) -> Tensor:
    """-mean(log_softmax(input)[i, target[i]])"""
    return nll_loss(log_softmax(input, 1), target)
