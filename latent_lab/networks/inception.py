"""The Inception network of 2015-12-05, by which FID, KID and the Inception score are defined.

It is the network of Szegedy et al. 2016 (arXiv 1512.00567) as TensorFlow's frozen graph has it: averages over 3x3
pixels leave padding out, and the last block takes maxima instead. Names of layers are those of the published file.
Two rearrangements make it faster and change nothing but rounding: batch norms are folded into the convolutions, and a
1x1 convolution after an average is done before it, on fewer channels (both are linear, and an average keeps biases).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab.types import Features, Images

_BATCH_NORM_EPSILON = 1e-3


class _Conv(nn.Conv2d):
    """Convolution with its batch norm in weight and bias, and ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], *, stride: int = 1, padded: bool = True
    ) -> None:
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        super().__init__(inputs, outputs, (rows, columns), stride, (rows // 2, columns // 2) if padded else 0)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x), inplace=True)

    def before_average(self, x: Tensor) -> Tensor:
        """relu(conv(average of x)) for a 1x1 convolution, as relu(average of conv(x))."""
        averaged = F.avg_pool2d(super().forward(x), 3, stride=1, padding=1, count_include_pad=False)
        return F.relu(averaged, inplace=True)


def _halved(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


class _BlockA(nn.Module):
    """35 x 35 pixels: 1x1, 5x5, twice 3x3, and an average."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inputs, 64, 1)
        self.branch5x5_1 = _Conv(inputs, 48, 1)
        self.branch5x5_2 = _Conv(48, 64, 5)
        self.branch3x3dbl_1 = _Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3)
        self.branch3x3dbl_3 = _Conv(96, 96, 3)
        self.branch_pool = _Conv(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool.before_average(x)], 1)


class _BlockB(nn.Module):
    """From 35 to 17 pixels per side."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(inputs, 384, 3, stride=2, padded=False)
        self.branch3x3dbl_1 = _Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2, padded=False)

    def forward(self, x: Tensor) -> Tensor:
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), twice, _halved(x)], 1)


class _BlockC(nn.Module):
    """17 x 17 pixels: 7x7 filters as rows and columns."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inputs, 192, 1)
        self.branch7x7_1 = _Conv(inputs, width, 1)
        self.branch7x7_2 = _Conv(width, width, (1, 7))
        self.branch7x7_3 = _Conv(width, 192, (7, 1))
        self.branch7x7dbl_1 = _Conv(inputs, width, 1)
        self.branch7x7dbl_2 = _Conv(width, width, (7, 1))
        self.branch7x7dbl_3 = _Conv(width, width, (1, 7))
        self.branch7x7dbl_4 = _Conv(width, width, (7, 1))
        self.branch7x7dbl_5 = _Conv(width, 192, (1, 7))
        self.branch_pool = _Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool.before_average(x)], 1)


class _BlockD(nn.Module):
    """From 17 to 8 pixels per side."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = _Conv(inputs, 192, 1)
        self.branch3x3_2 = _Conv(192, 320, 3, stride=2, padded=False)
        self.branch7x7x3_1 = _Conv(inputs, 192, 1)
        self.branch7x7x3_2 = _Conv(192, 192, (1, 7))
        self.branch7x7x3_3 = _Conv(192, 192, (7, 1))
        self.branch7x7x3_4 = _Conv(192, 192, 3, stride=2, padded=False)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), self.branch7x7x3_4(seven), _halved(x)], 1)


class _BlockE(nn.Module):
    """8 x 8 pixels: 3x3 filters as a row beside a column; the second such block takes maxima for averages."""

    def __init__(self, inputs: int, *, takes_maxima: bool) -> None:
        super().__init__()
        self.takes_maxima = takes_maxima
        self.branch1x1 = _Conv(inputs, 320, 1)
        self.branch3x3_1 = _Conv(inputs, 384, 1)
        self.branch3x3_2a = _Conv(384, 384, (1, 3))
        self.branch3x3_2b = _Conv(384, 384, (3, 1))
        self.branch3x3dbl_1 = _Conv(inputs, 448, 1)
        self.branch3x3dbl_2 = _Conv(448, 384, 3)
        self.branch3x3dbl_3a = _Conv(384, 384, (1, 3))
        self.branch3x3dbl_3b = _Conv(384, 384, (3, 1))
        self.branch_pool = _Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        if self.takes_maxima:
            pooled = self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1))
        else:
            pooled = self.branch_pool.before_average(x)
        rows_and_columns = [self.branch3x3_2a(once), self.branch3x3_2b(once)]
        rows_and_columns += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)]
        return torch.cat([self.branch1x1(x), *rows_and_columns, pooled], 1)


class InceptionNetwork(nn.Module):
    """Images of 299 x 299 pixels, scaled by (byte - 128) / 128, to 2048 pooled features and 1008 class scores.

    The scores leave out the biases of the last layer, as the Inception score of Salimans et al. 2016 does.
    """

    num_features = 2048
    num_classes = 1008

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2, padded=False)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, padded=False)
        self.Mixed_5b = _BlockA(192, 32)
        self.Mixed_5c = _BlockA(256, 64)
        self.Mixed_5d = _BlockA(288, 64)
        self.Mixed_6a = _BlockB(288)
        self.Mixed_6b = _BlockC(768, 128)
        self.Mixed_6c = _BlockC(768, 160)
        self.Mixed_6d = _BlockC(768, 160)
        self.Mixed_6e = _BlockC(768, 192)
        self.Mixed_7a = _BlockD(768)
        self.Mixed_7b = _BlockE(1280, takes_maxima=False)
        self.Mixed_7c = _BlockE(2048, takes_maxima=True)
        self.fc = nn.Linear(self.num_features, self.num_classes)

    def forward(self, scaled: Images) -> tuple[Features, Tensor]:
        """(N, 3, 299, 299) -> features (N, 2048) and class scores (N, 1008), both in float32 or wider."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(scaled)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_halved(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(_halved(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        # The last map may be of half precision; means and scores are not.
        features = x.to(self.fc.weight.dtype).mean((2, 3))
        return features, F.linear(features, self.fc.weight)


def folded(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published tensors with every batch norm folded into its convolution, computed in float64.

    (w * x - mean) gamma / sigma + beta = (w gamma / sigma) * x + (beta - mean gamma / sigma), sigma^2 = variance +
    epsilon. What is no layer of convolution and batch norm is passed on as it is.

    Raises:
        KeyError: if a convolution has no batch norm.
    """
    result: dict[str, Tensor] = {}
    for name, value in weights.items():
        layer, _, part = name.rpartition(".conv.")
        if part == "weight":
            gamma, beta, mean, variance = (
                weights[f"{layer}.bn.{of}"].double() for of in ("weight", "bias", "running_mean", "running_var")
            )
            scale = gamma / (variance + _BATCH_NORM_EPSILON).sqrt()
            result[f"{layer}.weight"] = (value.double() * scale[:, None, None, None]).float()
            result[f"{layer}.bias"] = (beta - mean * scale).float()
        elif ".bn." not in name:
            result[name] = value
    return result


def build_inception(weights: Mapping[str, Tensor]) -> InceptionNetwork:
    """The network with weights in the layout of the published file.

    Raises:
        KeyError: if a convolution has no batch norm.
        RuntimeError: if tensors are missing, unknown, or of other shapes.
    """
    with torch.device("meta"):
        network = InceptionNetwork()
    network.load_state_dict(folded(weights), assign=True)
    return network.to(memory_format=torch.channels_last)


__all__ = ["InceptionNetwork", "build_inception", "folded"]
