"""SplitVAE's residual block against the published one, run in Keras 2 in inference mode.

Tolerance as in golden/latent/README.md: 1e-5 for float32 layer outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from latent_lab.networks.split_vae import convolutional_block


def test_a_residual_block(latent_golden: Callable) -> None:
    golden = latent_golden("keras_ops")
    block = convolutional_block(4, 6, momentum=0.001).eval()
    layers = {"bn0": block.main[0], "conv0": block.main[2], "bn1": block.main[3], "conv1": block.main[5]}
    with torch.no_grad():
        for name, layer in {**layers, "shortcut": block.shortcut}.items():
            if name.startswith("bn"):
                layer.weight.copy_(golden[f"resblock_{name}_gamma"])
                layer.bias.copy_(golden[f"resblock_{name}_beta"])
                layer.running_mean.copy_(golden[f"resblock_{name}_moving_mean"])
                layer.running_var.copy_(golden[f"resblock_{name}_moving_var"])
            else:
                layer.weight.copy_(golden[f"resblock_{name}_kernel"].permute(3, 2, 0, 1))
                layer.bias.copy_(golden[f"resblock_{name}_bias"])
        ours = block(golden["resblock_x_nhwc"].permute(0, 3, 1, 2))
    torch.testing.assert_close(ours, golden["resblock_y_nhwc"].permute(0, 3, 1, 2), atol=1e-5, rtol=0)
