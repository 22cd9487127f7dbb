"""Variable names of the published StyleGAN program, translated into ours."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

MAPPING = r"mapping/Dense(\d+)/(weight|bias)"
LAYER = r"synthesis/(\d+)x\d+/(Const|Conv|Conv0_up|Conv1)/(.*)"
OF_LAYER = {"weight": "convolution.weight", "bias": "bias", "Noise/weight": "noise_scale"}


def generator_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of our generator out of the variables of G or Gs, such as synthesis/8x8/Conv0_up/weight."""
    top = max(int(match[1]) for name in published if (match := re.fullmatch(LAYER, name)))
    state = {}
    for name, value in published.items():
        if match := re.fullmatch(MAPPING, name):
            state[f"mapping.layers.{2 * int(match[1])}.{match[2]}"] = _turned(value)
        elif match := re.fullmatch(r"synthesis/ToRGB_lod(\d+)/(weight|bias)", name):
            state[f"synthesis.to_rgb.{_doublings(top) - int(match[1])}.{match[2]}"] = _turned(value)
        elif match := re.fullmatch(r"synthesis/noise(\d+)", name):
            state[f"synthesis.noise_{match[1]}"] = value
        elif match := re.fullmatch(LAYER, name):
            pixels, place, variable = int(match[1]), match[2], match[3]
            layer = f"synthesis.layers.{2 * _doublings(pixels) + place.startswith('Conv') * (not place.endswith('up'))}"
            if variable == "const":
                state["synthesis.constant"] = value[0]
            elif variable == "StyleMod/weight":
                state[f"{layer}.adain.style.weight"] = _turned(value)
            elif variable == "StyleMod/bias":
                # The published scale is 1 + the layer's output; ours is the output.
                style = value.clone()
                style[: len(style) // 2] += 1
                state[f"{layer}.adain.style.bias"] = style
            else:
                state[f"{layer}.{OF_LAYER[variable]}"] = _turned(value)
        elif name == "dlatent_avg":
            state["w_average"] = value
        else:
            assert name.endswith("lod"), name
    return state


def discriminator_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of our discriminator out of the variables of D, such as 8x8/Conv1_down/weight."""
    top = max(int(name.partition("x")[0]) for name in published if name[0].isdigit())
    places = {"Conv0": "0", "Conv1_down": "2", "Conv": "0", "Dense0": "3", "Dense1": "5"}
    state = {}
    for name, value in published.items():
        if match := re.fullmatch(r"FromRGB_lod(\d+)/(weight|bias)", name):
            state[f"from_rgb.{_doublings(top) - int(match[1])}.0.{match[2]}"] = _turned(value)
        elif match := re.fullmatch(r"(\d+)x\d+/(\w+)/(weight|bias)", name):
            state[f"blocks.{_doublings(int(match[1]))}.{places[match[2]]}.{match[3]}"] = _turned(value)
        else:
            assert name == "lod", name
    return state


def _doublings(pixels: int) -> int:
    return int(math.log2(pixels)) - 2


def _turned(value: Tensor) -> Tensor:
    """Kernels from (H, W, in, out) to (out, in, H, W), dense weights from (in, out) to (out, in); vectors stay."""
    if value.ndim == 4:
        return value.permute(3, 2, 0, 1).contiguous()
    return value.T.contiguous() if value.ndim == 2 else value
