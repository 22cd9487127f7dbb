"""Convolutions with the padding rule that Keras calls "same": networks published in Keras are then the same operators.

The output has ceil(n / stride) pixels. The zeros that are missing go half to either side, the odd one to the bottom and
to the right; PyTorch's symmetric padding is another, shifted operator there (kernel 3, stride 2, an even number of
pixels).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab.types import Images


class SameConv2d(nn.Conv2d):
    """A convolution from n to ceil(n / stride) pixels per side.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: pixels per side.
        stride: of the output's pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride)

    def forward(self, features: Images) -> Tensor:
        """The convolution of (N, C, H, W)."""
        top, bottom = self._zeros(features.shape[-2], 0)
        left, right = self._zeros(features.shape[-1], 1)
        if (top, left) == (bottom, right):
            return F.conv2d(features, self.weight, self.bias, self.stride, (top, left))
        return self._conv_forward(F.pad(features, (left, right, top, bottom)), self.weight, self.bias)

    def _zeros(self, pixels: int, axis: int) -> tuple[int, int]:
        outputs = -(-pixels // self.stride[axis])
        total = max(0, (outputs - 1) * self.stride[axis] + self.kernel_size[axis] - pixels)
        return total // 2, total - total // 2


class SameConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution from n to n * stride pixels per side: the adjoint of `SameConv2d`.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: pixels per side, at least `stride`.
        stride: factor of enlargement.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 2) -> None:
        if kernel_size < stride:
            raise ValueError(f"kernel_size must be at least the stride {stride}, got {kernel_size}")
        super().__init__(in_channels, out_channels, kernel_size, stride=stride)

    def forward(self, features: Images) -> Tensor:  # type: ignore[override]  # the size of the output is not a choice
        """The transposed convolution of (N, C, H, W)."""
        surplus = self.kernel_size[0] - self.stride[0]
        if surplus % 2 == 0:
            return F.conv_transpose2d(features, self.weight, self.bias, self.stride, surplus // 2)
        height, width = (pixels * self.stride[0] for pixels in features.shape[-2:])
        first = surplus // 2
        whole = F.conv_transpose2d(features, self.weight, self.bias, self.stride)
        return whole[..., first : first + height, first : first + width]


def glorot_uniform_(network: nn.Module) -> None:
    """Initial weights as Keras draws them: kernels from Glorot's uniform distribution, biases zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
