"""Published parameter names of the Automodulator, translated into ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor


def decoder_state(published: Mapping[str, Tensor], *, mapping_layers: int = 0) -> dict[str, Tensor]:
    """State of our decoder out of G_state_dict or G_running_state_dict, with or without the prefix `module.`.

    Left out is what takes part in nothing: aliases of the AdaIN layers, the label embedding, gains (constantly 1) and
    the noise scales of block 0. Of the two mapping layers as many as asked for are taken.
    """
    state = {}
    for full_name, value in published.items():
        name = full_name.removeprefix("module.")
        if match := re.fullmatch(r"progression\.(\d+)\.conv\.(.+)\.(bias|weight|weight_orig)", name):
            number, layer, parameter = match.groups()
            kind = "adain.style" if layer.endswith("mod") else "convolution"
            # Block 0: conv.1, conv.3. Others: conv.0.0 and conv.0.3 (or conv.0.2) first, conv.1 and conv.3 second.
            second = number != "0" and not layer.startswith("0.")
            state[f"blocks.{number}.{int(second)}.{kind}.{parameter.removesuffix('_orig')}"] = value
        elif match := re.fullmatch(r"noise\.(\d+)\.([01])\.noise_scale", name):
            if match[1] != "0":
                state[f"blocks.{match[1]}.{match[2]}.noise_scale"] = value
        elif match := re.fullmatch(r"z_preprocess\.([01])\.0\.(bias|weight_orig)", name):
            if int(match[1]) < mapping_layers:
                state[f"mapping.{2 * int(match[1])}.{match[2].removesuffix('_orig')}"] = value
        elif name.startswith("to_rgb."):
            state[name] = value
        else:
            assert re.match(r"adanorm_blocks|support|label_embed|.*\.weight_gain$", name), name
    return state


def encoder_state(
    published: Mapping[str, Tensor], spectral: Sequence[Tensor] | Mapping[int, Tensor]
) -> dict[str, Tensor]:
    """State of our encoder out of D_state_dict and the spectral vectors (SNU).

    The published encoder counts its nine blocks from 1024 pixels downwards; here it is from 4 pixels up.

    Args:
        published: names with or without the prefix `module.`.
        spectral: vectors (C, 1), two for each published block, by their place among the 18.
    """
    state = {}
    for full_name, value in published.items():
        name = full_name.removeprefix("module.")
        if match := re.fullmatch(r"progression\.(\d)\.conv\.([02])\.conv\.(bias|weight_orig)", name):
            number, slot, parameter = int(match[1]), int(match[2]), match[3]
            state[f"blocks.{8 - number}.{slot}.{parameter.removesuffix('_orig')}"] = value
            state[f"blocks.{8 - number}.{slot}.u"] = spectral[2 * number + slot // 2].flatten()
        else:
            match = re.fullmatch(r"from_rgb\.(\d)\.(bias|weight)", name)
            assert match, name
            state[f"from_rgb.{8 - int(match[1])}.{match[2]}"] = value
    return state
