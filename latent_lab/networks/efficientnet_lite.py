"""EfficientNet-Lite0: 1280 pooled features and ImageNet's classes (Tan & Le 2019; the Lite form by Google, 2020).

The Lite form replaces swish by ReLU6 and leaves out squeeze-and-excitation. Batch norms are folded into the
convolutions, and convolutions with stride 2 pad as TensorFlow's SAME does (the odd pixel at the bottom and on the
right), as the published weights expect. Module names are those of the weights file.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab.types import Features, Images


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: ceil(n / stride) outputs along each side."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        # With stride 1 and an odd kernel, SAME is the ordinary symmetric padding, which needs no copy.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', ceil(H / stride), ceil(W / stride))."""
        stride = self.stride[0]
        if stride > 1:
            height, width = (max((-(-n // stride) - 1) * stride + self.kernel_size[0] - n, 0) for n in x.shape[-2:])
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel, project back; added to the input where shapes allow."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self.expand = SameConv(in_channels, width, 1) if expansion != 1 else None
        self.dw = SameConv(width, width, kernel, stride, groups=width)
        self.project = SameConv(width, out_channels, 1)
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.dw(y), inplace=True))
        return x + y if self.has_skip else y


class EfficientNetLite0(nn.Module):
    """Images scaled by (byte - 127) / 128, of 224x224 pixels, to 1280 features and 1000 class scores."""

    num_features = 1280
    num_classes = 1000

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, stride=2)
        blocks: list[nn.Module] = []
        channels = 32
        for stage in STAGES:
            for place in range(stage.blocks):
                stride = stage.stride if place == 0 else 1
                blocks.append(InvertedResidual(channels, stage.channels, stage.kernel, stride, stage.expansion))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv(channels, self.num_features, 1)
        self.fc = nn.Linear(self.num_features, self.num_classes)

    def forward(self, scaled: Images) -> tuple[Features, Tensor]:
        """(N, 3, 224, 224) -> features (N, 1280) and class scores (N, 1000)."""
        x = F.relu6(self.stem(scaled), inplace=True)
        features = F.relu6(self.head(self.blocks(x)), inplace=True).mean((2, 3))
        return features, self.fc(features)
