"""Arrays in Keras's layout, put into our layers by the importers, against Keras 2.

Tolerance as in golden/latent/README.md: 1e-5 for float32 layer outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from latent_lab.importers.keras_arrays import Flattened, state_from
from latent_lab.networks.same_padding import SameConv2d, SameConvTranspose2d
from latent_lab.networks.split_vae import convolutional_block


@pytest.fixture(scope="module")
def golden(latent_golden: Callable) -> Mapping[str, Tensor]:
    return latent_golden("keras_ops")


def loaded(network: nn.Module, golden: Mapping[str, Tensor], names: list[str], **options: object) -> nn.Module:
    arrays = [golden[name].numpy() for name in names]
    network.load_state_dict(state_from(network, arrays, "the golden file", **options), strict=True)
    return network.eval().requires_grad_(False)


def assert_images(ours: Tensor, keras: Tensor) -> None:
    torch.testing.assert_close(ours, keras.permute(0, 3, 1, 2), atol=1e-5, rtol=0)


def test_a_residual_block_with_its_moments_at_the_end(golden: Mapping) -> None:
    layers = ["bn0_gamma", "bn0_beta", "conv0_kernel", "conv0_bias", "bn1_gamma", "bn1_beta", "conv1_kernel"]
    layers += ["conv1_bias", "shortcut_kernel", "shortcut_bias"]
    moments = ["bn0_moving_mean", "bn0_moving_var", "bn1_moving_mean", "bn1_moving_var"]
    names = [f"resblock_{name}" for name in (*layers, *moments)]
    block = loaded(convolutional_block(4, 6, momentum=0.001), golden, names)
    assert_images(block(golden["resblock_x_nhwc"].permute(0, 3, 1, 2)), golden["resblock_y_nhwc"])


@pytest.mark.parametrize(
    ("case", "layer"),
    [
        ("conv_k4s2", lambda: SameConv2d(3, 5, 4, 2)),
        ("conv_k3s2", lambda: SameConv2d(3, 5, 3, 2)),
        ("conv_k5s1", lambda: SameConv2d(3, 5, 5)),
        ("convT_k4s2", lambda: SameConvTranspose2d(3, 5, 4)),
        ("convT_k3s2", lambda: SameConvTranspose2d(3, 5, 3)),
    ],
)
def test_convolutions(golden: Mapping, case: str, layer: Callable[[], nn.Module]) -> None:
    ours = loaded(layer(), golden, [f"{case}_kernel", f"{case}_bias"])
    assert_images(ours(golden[f"{case}_x_nhwc"].permute(0, 3, 1, 2)), golden[f"{case}_y_nhwc"])


def test_a_dense_layer_whose_outputs_are_an_image(golden: Mapping) -> None:
    network = nn.Sequential(nn.Linear(4, 12), nn.Unflatten(1, (3, 2, 2)))
    names = ["dense_reshape_kernel", "dense_reshape_bias"]
    loaded(network, golden, names, flattened={"0": Flattened(3, inputs=False)})
    assert_images(network(golden["dense_reshape_x"]), golden["dense_reshape_y_nhwc"])
