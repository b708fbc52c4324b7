"""A multilayer perceptron: linear maps with a nonlinearity between them.

h_0 = x,   h_k = relu(h_{k-1} W_k^T + b_k),   logits = h_{L-1} W_L^T + b_L
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from minigrad import Tensor, nn
from minigrad.nn import functional as F


class MLP(nn.Module):
    """MLP([64, 64, 10]): 64 inputs, one hidden layer of 64, 10 logits. (B, ...) -> (B, sizes[-1])."""

    def __init__(self, sizes: Sequence[int], activation: str = "relu"):
        if len(sizes) < 2:
            raise ValueError(f"MLP: sizes {list(sizes)}; it takes at least an input and an output size")
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList([nn.Linear(i, o) for i, o in pairwise(sizes)])

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1)  # (B, sizes[0])
        *hidden, last = self.layers
        for layer in hidden:
            h = F.linear(
                h, layer.weight, layer.bias, activation=self.activation
            )  # product, then one fused kernel
        return last(h)  # (B, sizes[-1])
