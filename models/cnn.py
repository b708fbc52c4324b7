"""Convolutional networks: a small one for 28x28 images, and ResNet-9 for CIFAR-10.

SmallCNN    two times (convolution 3x3, ReLU, pooling by 2), then a linear map: 20,490 parameters at 1x28x28
ResNet9     conv-BN-ReLU blocks with two residual pairs: what the CIFAR-10 speed runs train
"""

from __future__ import annotations

from minigrad import Tensor, nn
from minigrad.nn import functional as F


class SmallCNN(nn.Module):
    """(B, channels, size, size) -> (B, classes). `widths` are the channels of the two convolutions."""

    def __init__(
        self, channels: int = 1, size: int = 28, classes: int = 10, widths: tuple[int, int] = (16, 32),
        dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        first, second = widths
        self.conv1 = nn.Conv2d(channels, first, 3, padding=1)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(second * (size // 4) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2):  # bias and ReLU in one pass over the product
            x = F.max_pool2d(F.conv2d(x, conv.weight, conv.bias, padding=1, activation="relu"), 2)
        return self.head(self.dropout(x.flatten(1)))  # (B, classes)


def conv_bn_relu(inputs: int, outputs: int, pool: bool = False) -> nn.Sequential:
    """Convolution 3x3, batch norm, ReLU, and a pooling by 2 if asked for."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


class ResNet9(nn.Module):
    """(B, 3, 32, 32) -> (B, classes) logits: 6.6M parameters at width 64."""

    def __init__(self, channels: int = 3, classes: int = 10, width: int = 64):
        super().__init__()
        w = width
        self.prepare = conv_bn_relu(channels, w)
        self.layer1 = conv_bn_relu(w, 2 * w, pool=True)
        self.residual1 = nn.Sequential(conv_bn_relu(2 * w, 2 * w), conv_bn_relu(2 * w, 2 * w))
        self.layer2 = conv_bn_relu(2 * w, 4 * w, pool=True)
        self.layer3 = conv_bn_relu(4 * w, 8 * w, pool=True)
        self.residual3 = nn.Sequential(conv_bn_relu(8 * w, 8 * w), conv_bn_relu(8 * w, 8 * w))
        self.head = nn.Linear(8 * w, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.prepare(x))  # (B, 2w, 16, 16)
        x = x + self.residual1(x)
        x = self.layer3(self.layer2(x))  # (B, 8w, 4, 4)
        x = x + self.residual3(x)
        return self.head(F.max_pool2d(x, 4).flatten(1)) * 0.125  # (B, classes), tempered at the start
