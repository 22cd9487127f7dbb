"""How four programs name, arrange and scale the tensors of StyleGAN's first version.

| | NVIDIA | genforce | lernapparat | rosinality |
|---|---|---|---|---|
| kernels | (H, W, in, out) | (out, in, H, W) | (out, in, H, W) | (out, in, H, W), fused: (in, out, H, W) |
| gain of styles and to-RGB | 1 | 1 | 1 | sqrt 2 |
| 1 + the scale of a style | at run time | at run time | at run time | in the bias |
| mapping's multiplier 0.01 | at run time | at run time | at run time | in weights and biases |
| fused upsampling | sum of four shifts | same | same | their mean |
| bias of the constant | yes | yes | yes | no |
| bias of upsampling layers | after the blur | same | same | before it |
| noise | for each layer | same | same | for each resolution |
| stored noise, mean of w | yes | yes | no | no |
| to-RGB | of all resolutions | same | of the last | of all |

A layout says what one of our tensors is called in a file and what has to be done to it, and knows every name that its
files may hold.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from latent_lab.growth import FIRST_RESOLUTION
from latent_lab.importers.torch_files import PublishedTensors
from latent_lab.networks.stylegan import FUSED_FROM

LARGEST = 1024
"""Pixels per side of the largest published networks."""


class Part(NamedTuple):
    """One tensor of ours: a dense layer of the mapping, the fourth style's bias ..."""

    kind: str
    number: int = 0
    """Of the layer, or doublings from 4 pixels."""
    parameter: str = ""


class Layout(ABC):
    """The tensors of one network of a file.

    Args:
        tensors: those of the file.

    Raises:
        ValueError: with one sentence, if a name is none of this layout's.
    """

    known: ClassVar[str]
    """Matches every name that a file of any size may hold."""
    constants: ClassVar[str] = r"(?!)"
    """Matches names of blur kernels, which are the same in all networks."""
    levels: ClassVar[str] = r"(?!)"
    """Matches names of single networks' levels of detail."""
    turned: ClassVar[bool] = False
    """Whether kernels are (H, W, in, out) and dense weights (in, out)."""

    def __init__(self, tensors: PublishedTensors) -> None:
        self.tensors = tensors
        if foreign := [name for name in tensors.names(r"(?s).*") if not re.fullmatch(self.known, name)]:
            raise ValueError(
                f"{tensors.what} has {foreign[0]}, which no network of this layout has: it is another network, or "
                "damaged"
            )
        self.dropped: list[str] = []

    @abstractmethod
    def name_of(self, part: Part) -> str | None:
        """Of a tensor in the file; none, if the program has no such tensor."""

    @staticmethod
    @abstractmethod
    def part_of(name: str) -> Part:
        """What a tensor of our network is."""

    def arranged(self, part: Part, name: str, shape: Sequence[int]) -> Tensor:
        """A tensor of the file in our arrangement and scale.

        Args:
            part: what it is.
            name: in the file.
            shape: ours.

        Raises:
            ValueError: with one sentence, if it is not there or has another shape.
        """
        if not (self.turned and part.parameter.endswith("weight")):
            return self.tensors.take(name, shape)
        if len(shape) == 2:
            return self.tensors.take(name, (shape[1], shape[0])).T
        outputs, inputs, height, width = shape
        return self.tensors.take(name, (height, width, inputs, outputs)).permute(3, 2, 0, 1)

    def state(self, network: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
        """State of one of our networks, of which sizes alone count, and names in it that the program does not have.

        Raises:
            ValueError: with one sentence, if a tensor is not there, has another shape, or is left over.
        """
        state, absent = {}, []
        for ours, wanted in network.state_dict().items():
            part = self.part_of(ours)
            name = self.name_of(part)
            if name is None:
                absent.append(ours)
            else:
                state[ours] = self.arranged(part, name, wanted.shape).contiguous()
        self._drop_constants()
        if levels := self.tensors.drop(self.levels):
            self.dropped.append(f"{', '.join(levels)} of {self.tensors.entry} (levels of detail of single networks)")
        self.tensors.finish()
        return state, absent

    def _drop_constants(self) -> None:
        names = self.tensors.names(self.constants)
        kernel = torch.tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(kernel, kernel)
        for name in names:
            found = self.tensors.peek(name, 4)
            if found.shape[-2:] != kernel.shape or not torch.allclose(found.float(), kernel.expand_as(found)):
                raise ValueError(
                    f"{self.tensors.what}: {name} is not the blur kernel of StyleGAN: it is another network"
                )
            self.tensors.drop(re.escape(name))
        if names:
            self.dropped.append(f"{len(names)} blur kernels of {self.tensors.entry} (constants)")


class GeneratorLayout(Layout):
    """Mapping and synthesis of a file."""

    dense: ClassVar[str]
    """Matches the weight of a dense layer of the mapping."""
    block: ClassVar[str]
    """Matches names of a resolution's tensors; its group is the number of the resolution, or its pixels."""
    block_is_pixels: ClassVar[bool] = False
    scale_is_whole: ClassVar[bool] = False
    """Whether 1 is in the bias of styles."""
    one_noise: ClassVar[bool] = False
    """Whether both layers of a resolution get the same noise."""

    def __init__(self, tensors: PublishedTensors) -> None:
        super().__init__(tensors)
        self.mapping_layers = len(tensors.names(self.dense))
        found = {int(match[1]) for name in tensors.names(r".*") if (match := re.fullmatch(self.block, name))}
        phases = [FIRST_RESOLUTION << number if self.block_is_pixels else number for number in range(len(found))]
        if not found or found != set(phases):
            raise ValueError(
                f"{tensors.what} must have blocks {', '.join(map(str, phases)) or 'from 4 pixels on'}, it has "
                f"{', '.join(map(str, sorted(found))) or 'none'}: it is another network, or damaged"
            )
        self.top = len(found) - 1
        if self.resolution > LARGEST:
            raise ValueError(f"{tensors.what} is of {self.resolution} px, the largest published are of {LARGEST} px")

    @property
    def resolution(self) -> int:
        """Pixels per side of its last block."""
        return FIRST_RESOLUTION << self.top

    @property
    def widths(self) -> list[int]:
        """Channels at 4, 8, ... pixels."""
        parts = [Part("layer", 2 * phase + 1, "bias") for phase in range(self.top + 1)]
        return [self._shape(part, 1)[0] for part in parts]

    @property
    def latent_dim(self) -> int:
        """Dimensions of W, which must be those of Z."""
        return self._shape(Part("dense", 0, "weight"), 2)[0]

    @property
    def channels(self) -> int:
        """Of images."""
        return self._shape(Part("to_rgb", self.top, "bias"), 1)[0]

    @override
    @staticmethod
    def part_of(name: str) -> Part:
        match name.split("."):
            case ["mapping", "layers", number, parameter]:
                return Part("dense", int(number) // 2, parameter)  # activations count, too
            case ["synthesis", "layers", number, *parameter]:
                return Part("layer", int(number), ".".join(parameter))
            case ["synthesis", "to_rgb", phase, parameter]:
                return Part("to_rgb", int(phase), parameter)
            case ["synthesis", "constant"]:
                return Part("constant")
            case ["synthesis", noise]:
                return Part("noise", int(noise.removeprefix("noise_")))
        return Part("w_average")

    @override
    def arranged(self, part: Part, name: str, shape: Sequence[int]) -> Tensor:
        if part.kind == "constant":
            return self.tensors.take(name, (1, *shape))[0]
        value = super().arranged(part, name, shape)
        if part.parameter == "adain.style.bias" and not self.scale_is_whole:
            value = value.clone()
            value[: len(value) // 2] += 1.0
        return value

    def _shape(self, part: Part, dimensions: int) -> torch.Size:
        name = self.name_of(part)
        assert name is not None
        return self.tensors.peek(name, dimensions).shape


class DiscriminatorLayout(Layout):
    """The discriminator of a file.

    Args:
        tensors: those of the file.
        top: doublings from 4 pixels to its resolution.
    """

    def __init__(self, tensors: PublishedTensors, top: int) -> None:
        super().__init__(tensors)
        self.top = top

    @override
    @staticmethod
    def part_of(name: str) -> Part:
        match name.split("."):
            case ["from_rgb", phase, _, parameter]:
                return Part("from_rgb", int(phase), parameter)
            case ["blocks", phase, place, parameter]:
                return Part(f"place {place}", int(phase), parameter)
        raise AssertionError(name)


# NVIDIA


_SIDES = r"(\d+)x\1"
_OF_LAYER = {
    "convolution.weight": "weight",
    "bias": "bias",
    "noise_scale": "Noise/weight",
    "adain.style.weight": "StyleMod/weight",
    "adain.style.bias": "StyleMod/bias",
}


class NvidiaGenerator(GeneratorLayout):
    """Variables of G or Gs of NVlabs/stylegan, such as synthesis/8x8/Conv0_up/weight."""

    dense = r"mapping/Dense\d+/weight"
    block = rf"synthesis/{_SIDES}/.*"
    block_is_pixels = True
    levels = r"(synthesis/)?lod"
    turned = True
    known = (
        rf"synthesis/{_SIDES}/(Const|Conv|Conv0_up|Conv1)/(weight|bias|Noise/weight|StyleMod/(weight|bias))"
        r"|synthesis/4x4/Const/const|synthesis/ToRGB_lod\d+/(weight|bias)|synthesis/noise\d+"
        rf"|mapping/Dense\d+/(weight|bias)|dlatent_avg|{levels}"
    )

    @override
    def name_of(self, part: Part) -> str | None:
        match part:
            case ("dense", number, parameter):
                return f"mapping/Dense{number}/{parameter}"
            case ("layer", number, parameter):
                side = FIRST_RESOLUTION << number // 2
                place = (("Const", "Conv") if number < 2 else ("Conv0_up", "Conv1"))[number % 2]
                return f"synthesis/{side}x{side}/{place}/{_OF_LAYER[parameter]}"
            case ("to_rgb", phase, parameter):
                return f"synthesis/ToRGB_lod{self.top - phase}/{parameter}"
            case ("noise", number, _):
                return f"synthesis/noise{number}"
            case ("constant", _, _):
                return "synthesis/4x4/Const/const"
        return "dlatent_avg"


class NvidiaDiscriminator(DiscriminatorLayout):
    """Variables of D of NVlabs/stylegan, such as 8x8/Conv1_down/weight."""

    levels = "lod"
    turned = True
    known = rf"{_SIDES}/(Conv|Conv0|Conv1_down|Dense0|Dense1)/(weight|bias)|FromRGB_lod\d+/(weight|bias)|lod"

    @override
    def name_of(self, part: Part) -> str:
        if part.kind == "from_rgb":
            return f"FromRGB_lod{self.top - part.number}/{part.parameter}"
        side = FIRST_RESOLUTION << part.number
        first = part.number == 0
        place = {
            "place 0": "Conv" if first else "Conv0",
            "place 2": "Conv1_down",
            "place 3": "Dense0",
            "place 5": "Dense1",
        }[part.kind]
        return f"{side}x{side}/{place}/{part.parameter}"


# genforce


class GenforceGenerator(GeneratorLayout):
    """Tensors of genforce/genforce, which are NVIDIA's under other names."""

    dense = r"mapping\.dense\d+\.weight"
    block = r"synthesis\.output(\d+)\.weight"
    constants = r"synthesis\.layer\d+\.blur\.kernel"
    levels = r"synthesis\.lod"
    known = (
        r"synthesis\.layer\d+\.(const|weight|bias|apply_noise\.(weight|noise)|style\.(weight|bias)|blur\.kernel)"
        r"|synthesis\.output\d+\.(weight|bias)|mapping\.dense\d+\.(weight|bias)|truncation\.w_avg|synthesis\.lod"
    )

    @override
    def name_of(self, part: Part) -> str | None:
        match part:
            case ("dense", number, parameter):
                return f"mapping.dense{number}.{parameter}"
            case ("layer", number, "noise_scale"):
                return f"synthesis.layer{number}.apply_noise.weight"
            case ("layer", number, parameter):
                return f"synthesis.layer{number}.{parameter.removeprefix('convolution.').removeprefix('adain.')}"
            case ("to_rgb", phase, parameter):
                return f"synthesis.output{phase}.{parameter}"
            case ("noise", number, _):
                return f"synthesis.layer{number}.apply_noise.noise"
            case ("constant", _, _):
                return "synthesis.layer0.const"
        return "truncation.w_avg"


class GenforceDiscriminator(DiscriminatorLayout):
    """Tensors of genforce/genforce, which counts layers from the largest resolution down."""

    constants = r"layer\d+\.blur\.kernel"
    levels = "lod"
    known = r"layer\d+\.(weight|bias|blur\.kernel)|input\d+\.(weight|bias)|lod"

    @override
    def name_of(self, part: Part) -> str:
        if part.kind == "from_rgb":
            return f"input{self.top - part.number}.{part.parameter}"
        place = {"place 0": 0, "place 2": 1, "place 3": 1, "place 5": 2}[part.kind]
        return f"layer{2 * (self.top - part.number) + place}.{part.parameter}"


# lernapparat


class LernapparatGenerator(GeneratorLayout):
    """Tensors of lernapparat's port, made of NVIDIA's files for inference: no noise maps, no to-RGB but the last.

    The port normalises with 1e-5 added to the variance; the weights come from networks with 1e-8, which is what they
    are imported with.
    """

    dense = r"g_mapping\.dense\d+\.weight"
    block = rf"g_synthesis\.blocks\.{_SIDES}\.epi1\.style_mod\.lin\.bias"
    block_is_pixels = True
    constants = rf"g_synthesis\.blocks\.{_SIDES}\.conv0_up\.intermediate\.kernel"
    known = (
        rf"g_synthesis\.blocks\.{_SIDES}\.(const|bias|(conv|conv0_up|conv1)\.(weight|bias|intermediate\.kernel)"
        r"|epi[12]\.(top_epi\.noise\.weight|style_mod\.lin\.(weight|bias)))"
        r"|g_synthesis\.torgb\.(weight|bias)|g_mapping\.dense\d+\.(weight|bias)|truncation\.avg_latent"
    )

    @override
    def name_of(self, part: Part) -> str | None:
        match part:
            case ("dense", number, parameter):
                return f"g_mapping.dense{number}.{parameter}"
            case ("layer", number, parameter):
                return f"{self._block(number // 2)}.{self._of_layer(number, parameter)}"
            case ("to_rgb", phase, parameter):
                return f"g_synthesis.torgb.{parameter}" if phase == self.top else None
            case ("constant", _, _):
                return f"{self._block(0)}.const"
            case ("w_average", _, _) if "truncation.avg_latent" in self.tensors:
                return "truncation.avg_latent"
        return None

    @staticmethod
    def _block(phase: int) -> str:
        side = FIRST_RESOLUTION << phase
        return f"g_synthesis.blocks.{side}x{side}"

    @staticmethod
    def _of_layer(number: int, parameter: str) -> str:
        epilogue = f"epi{number % 2 + 1}"
        if parameter == "noise_scale":
            return f"{epilogue}.top_epi.noise.weight"
        if parameter.startswith("adain"):
            return f"{epilogue}.style_mod.lin.{parameter.rpartition('.')[2]}"
        if number == 0:
            return "bias"
        convolution = "conv" if number == 1 else ("conv0_up", "conv1")[number % 2]
        return f"{convolution}.{parameter.rpartition('.')[2]}"


# rosinality


class RosinalityGenerator(GeneratorLayout):
    """Tensors of rosinality/style-based-gan-pytorch, a program of its own whose weights are scaled in other ways.

    Its normalisation adds 1e-5 to the variance, and biases of upsampling layers stand before the blur.
    """

    dense = r"style\.\d+\.linear\.weight_orig"
    block = r"generator\.to_rgb\.(\d+)\.conv\.bias"
    constants = r"generator\.progression\.\d+\.conv1\.[12]\.weight(_flip)?"
    known = (
        r"generator\.progression\.\d+\.(conv1\.input|conv1\.1\.conv\.(weight_orig|bias)|conv1\.0\.(weight|bias)"
        r"|conv1\.[12]\.weight(_flip)?|conv2\.conv\.(weight_orig|bias)|noise[12]\.weight_orig"
        r"|adain[12]\.style\.linear\.(weight_orig|bias))"
        r"|generator\.to_rgb\.\d+\.conv\.(weight_orig|bias)|style\.\d+\.linear\.(weight_orig|bias)"
    )
    scale_is_whole = True
    one_noise = True

    def __init__(self, tensors: PublishedTensors) -> None:
        super().__init__(tensors)
        fused = tensors.names(r"generator\.progression\.\d+\.conv1\.0\.weight")
        self._fused = sorted(int(name.split(".")[2]) for name in fused)

    @override
    def name_of(self, part: Part) -> str | None:
        parameter = "weight_orig" if part.parameter.endswith("weight") else "bias"
        match part:
            case ("dense", number, _):
                return f"style.{2 * number + 1}.linear.{parameter}"
            case ("layer", 0, "bias"):
                return None
            case ("layer", number, of_layer):
                return f"generator.progression.{number // 2}.{self._of_layer(number, of_layer)}"
            case ("to_rgb", phase, _):
                return f"generator.to_rgb.{phase}.conv.{parameter}"
            case ("constant", _, _):
                return "generator.progression.0.conv1.input"
        return None

    @property
    def fused_from(self) -> int:
        """Pixels from which on upsampling and convolution are one step: there the convolution comes first.

        Raises:
            ValueError: if smaller resolutions are fused and larger ones are not.
        """
        fused = [phase for phase in self._fused if phase <= self.top]
        if not fused:
            return max(FUSED_FROM, 2 * self.resolution)
        if fused != list(range(fused[0], self.top + 1)):
            raise ValueError(f"{self.tensors.what} has plain upsampling above fused upsampling: it is another network")
        return FIRST_RESOLUTION << fused[0]

    @property
    def trained(self) -> int | None:
        """Pixels per side of the largest block that was trained; none, if nothing was.

        Scales of noise are 0 at the start, and do not stay 0 in training.
        """
        scales = {phase: f"generator.progression.{phase}.noise2.weight_orig" for phase in range(self.top + 1)}
        moved = [phase for phase, name in scales.items() if self.tensors.peek(name, 4).any()]
        return FIRST_RESOLUTION << moved[-1] if moved else None

    def drop_beyond(self, resolution: int) -> None:
        """Leaves the blocks above a resolution out."""
        phase = (resolution // FIRST_RESOLUTION).bit_length() - 1
        numbers = "|".join(map(str, range(phase + 1, self.top + 1)))
        if numbers:
            self.tensors.drop(rf"generator\.(progression|to_rgb)\.({numbers})\..*")
            self.dropped.append(f"blocks {numbers.replace('|', ', ')} of {self.tensors.entry} (beyond {resolution} px)")
        self.top = phase

    @override
    def arranged(self, part: Part, name: str, shape: Sequence[int]) -> Tensor:
        match part:
            case ("layer", number, "convolution.weight") if number % 2 == 0 and number // 2 in self._fused:
                outputs, inputs, height, width = shape
                # Ours is the sum of the kernel's shifts, theirs the mean.
                return self.tensors.take(name, (inputs, outputs, height, width)).transpose(0, 1) / 4
            case ("layer", _, "noise_scale"):
                return self.tensors.take(name, (1, *shape, 1, 1)).flatten() * math.sqrt(2 / shape[0])
            case ("layer", _, "adain.style.weight") | ("to_rgb", _, "weight"):
                return super().arranged(part, name, shape) * math.sqrt(2)
            case ("dense", _, _):
                return super().arranged(part, name, shape) * 100
        return super().arranged(part, name, shape)

    def _of_layer(self, number: int, parameter: str) -> str:
        half = number % 2 + 1
        if parameter == "noise_scale":
            return f"noise{half}.weight_orig"
        kind = "bias" if parameter.endswith("bias") else "weight_orig"
        if parameter.startswith("adain"):
            return f"adain{half}.style.linear.{kind}"
        if half == 2:
            return f"conv2.conv.{kind}"
        return f"conv1.0.{kind.removesuffix('_orig')}" if number // 2 in self._fused else f"conv1.1.conv.{kind}"
