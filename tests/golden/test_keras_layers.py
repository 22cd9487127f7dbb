"""Layers with Keras's padding rule against Keras 2; kernels are (height, width, in, out), images (N, H, W, C).

Tolerance as in golden/latent/README.md: 1e-5 for float32 layer outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from latent_lab.networks.same_padding import SameConv2d, SameConvTranspose2d


@pytest.fixture(scope="module")
def golden(latent_golden: Callable) -> Mapping[str, Tensor]:
    return latent_golden("keras_ops")


def check(golden: Mapping[str, Tensor], case: str, layer: torch.nn.Module) -> None:
    with torch.no_grad():
        layer.weight.copy_(golden[f"{case}_kernel"].permute(3, 2, 0, 1))
        layer.bias.copy_(golden[f"{case}_bias"])
        ours = layer(golden[f"{case}_x_nhwc"].permute(0, 3, 1, 2))
    torch.testing.assert_close(ours, golden[f"{case}_y_nhwc"].permute(0, 3, 1, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("case", "kernel_size", "stride"),
    [("conv_k4s2", 4, 2), ("conv_k3s2", 3, 2), ("conv_k3s2_odd", 3, 2), ("conv_k5s1", 5, 1)],
)
def test_convolutions(golden: Mapping, case: str, kernel_size: int, stride: int) -> None:
    check(golden, case, SameConv2d(3, 5, kernel_size, stride))


@pytest.mark.parametrize(("case", "kernel_size"), [("convT_k4s2", 4), ("convT_k3s2", 3)])
def test_transposed_convolutions(golden: Mapping, case: str, kernel_size: int) -> None:
    check(golden, case, SameConvTranspose2d(3, 5, kernel_size, stride=2))
