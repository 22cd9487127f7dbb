"""Published weights of StyleGAN's first version: NVIDIA's own files, and three layouts of torch programs.

Nothing in a file is run. What a network consists of is read off its names and shapes; truncation is no part of it
(`Truncated` around the model), but the mean of w comes along.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from latent_lab.growth import FIRST_RESOLUTION, GrowthSchedule, Stage, images_of, phase_of
from latent_lab.importers.base import AbstractImporter, Converted, schedule_of
from latent_lab.importers.pickled_arrays import PickledNetwork, is_named_arrays, read_pickled_arrays
from latent_lab.importers.stylegan_layouts import (
    DiscriminatorLayout,
    GeneratorLayout,
    GenforceDiscriminator,
    GenforceGenerator,
    LernapparatGenerator,
    NvidiaDiscriminator,
    NvidiaGenerator,
    RosinalityGenerator,
)
from latent_lab.importers.torch_files import PublishedTensors, checked_entries, read_torch
from latent_lab.models import StyleGAN
from latent_lab.networks.stylegan import (
    FUSED_FROM,
    StyleGANDiscriminator,
    StyleGANGenerator,
    StyleGANMapping,
    StyleGANSynthesis,
    published_stylegan_widths,
)

_SAMPLES_OF_W = 10_240
_LARGEST_FILE = 4 * 2**30
_PUBLISHED_KIMG = 600
"""Length of every fade and of every rest in the published schedule."""

_SETTINGS: Mapping[str, Any] = {
    "blur_filter": [1, 2, 1],
    "const_input_layer": True,
    "label_size": 0,
    "mapping_lrmul": 0.01,
    "mapping_nonlinearity": "lrelu",
    "mbstd_group_size": 4,
    "mbstd_num_features": 1,
    "nonlinearity": "lrelu",
    "normalize_latents": True,
    "use_instance_norm": True,
    "use_noise": True,
    "use_pixel_norm": False,
    "use_styles": True,
    "use_wscale": True,
}
"""What a network of NVIDIA's program does unless its settings say otherwise, and what is all that ours does."""


@dataclass
class _Generators:
    """What files have in common once they are opened."""

    average: GeneratorLayout
    level_of_detail: float = 0.0
    """Of the averaged generator: doublings to its full resolution that it has not begun yet, in part or whole."""
    current: GeneratorLayout | None = None
    discriminator: DiscriminatorLayout | None = None
    fused_from: int = FUSED_FROM
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the model."""
    dropped: Sequence[str] = ()


class _StyleGANFormat(AbstractImporter):
    """A format whose files hold a StyleGAN."""

    def read(self, path: Path) -> StyleGAN:
        """The model."""
        model = self.convert(path).model
        assert isinstance(model, StyleGAN)
        return model


@dataclass(frozen=True)
class StyleGANPickle(_StyleGANFormat):
    """A pickle of NVIDIA's program (.pkl), such as karras2019stylegan-ffhq-1024x1024.pkl: G, D and the averaged Gs.

    The file holds source text of the networks, which the original class compiles and runs; here it is dropped unread.
    A snapshot from within training keeps its state of growth.
    """

    name: ClassVar[str] = "stylegan_tf"

    def convert(self, path: Path) -> Converted:
        """The model and what was dropped."""
        content = read_pickled_arrays(path)
        if (
            not isinstance(content, tuple)
            or len(content) != 3
            or not all(isinstance(network, PickledNetwork) for network in content)
        ):
            raise ValueError(
                f"{path} holds a {type(content).__name__} where the three networks G, D and Gs belong: arrays by name "
                "are of the format stylegan_arrays"
            )
        published = dict(zip(("G", "D", "Gs"), content, strict=True))
        tensors = {entry: _variables(network, entry, path) for entry, network in published.items()}
        generators = _nvidia(tensors, path)
        generators.fused_from = _fused_from(published["Gs"], generators.average.resolution, path)
        generators.dropped = ["source text of G, D and Gs (not read)"]
        return _converted(generators, path)


@dataclass(frozen=True)
class StyleGANArrays(_StyleGANFormat):
    """Arrays of NVIDIA's variables by name: .npz, or a pickled dictionary of arrays.

    Names are those of the program, such as G_synthesis/4x4/Conv/weight and dlatent_avg for a single generator, or those
    with Gs/, G/ and D/ before them.
    """

    name: ClassVar[str] = "stylegan_arrays"

    fused_from: int = FUSED_FROM
    """Pixels from which on upsampling and convolution are one step."""

    def convert(self, path: Path) -> Converted:
        """The model and what was dropped."""
        networks: dict[str, list[tuple[str, np.ndarray]]] = {}
        for name, value in _named_arrays(path).items():
            owner, _, rest = name.partition("/")
            entry, variable = (owner, rest) if owner in ("G", "D", "Gs") else ("Gs", name)
            networks.setdefault(entry, []).append((variable, value))
        if "Gs" not in networks:
            raise ValueError(f"{path} has no variables of an averaged generator, such as Gs/dlatent_avg or dlatent_avg")
        tensors = {entry: _by_name(variables, entry, path) for entry, variables in networks.items()}
        generators = _nvidia(tensors, path)
        generators.fused_from = self.fused_from
        return _converted(generators, path)


@dataclass(frozen=True)
class StyleGANGenforce(_StyleGANFormat):
    """A checkpoint in the layout of genforce/genforce (.pth), into which NVIDIA's weights go without loss."""

    name: ClassVar[str] = "stylegan_genforce"

    fused_from: int = FUSED_FROM
    """Pixels from which on upsampling and convolution are one step."""

    def convert(self, path: Path) -> Converted:
        """The model and what was dropped."""
        entries = checked_entries(read_torch(path), path, ["generator_smooth"], ["generator", "discriminator"])
        tensors = {name: PublishedTensors(content, name, path) for name, content in entries.items()}
        average = GenforceGenerator(tensors["generator_smooth"])
        level = tensors["generator_smooth"].take("synthesis.lod", ()).item()
        current = GenforceGenerator(tensors["generator"]) if "generator" in tensors else None
        discriminator = None
        if "discriminator" in tensors:
            discriminator = GenforceDiscriminator(tensors["discriminator"], average.top)
        return _converted(_Generators(average, level, current, discriminator, self.fused_from), path)


@dataclass(frozen=True)
class StyleGANRosinality(_StyleGANFormat):
    """A checkpoint of rosinality/style-based-gan-pytorch (.model, .pt): a training's, or the averaged generator alone.

    The program scales its weights in other ways, which is undone exactly; its normalisation, and biases before the
    blur, are options of the model. Both layers of a resolution get the same noise map there, so they do here. Its
    discriminator is another network and stays behind.
    """

    name: ClassVar[str] = "stylegan_rosinality"

    resolution: int | None = None
    """Pixels per side up to which it was trained, which the file does not say; null: up to the last block whose scales
    of noise are no longer 0, as they are at first."""

    def convert(self, path: Path) -> Converted:
        """The model and what was dropped."""
        content = read_torch(path)
        dropped = []
        if isinstance(content, Mapping) and "g_running" in content:
            others = ["generator", "discriminator", "g_optimizer", "d_optimizer"]
            entries = checked_entries(content, path, ["g_running"], others)
            if "discriminator" in entries:
                dropped.append(
                    "discriminator (another network: its channels change in other convolutions, and it compares the "
                    "whole batch)"
                )
            if states := [name for name in ("g_optimizer", "d_optimizer") if name in entries]:
                dropped.append(f"{', '.join(states)} (state of training)")
        else:
            entries = {"g_running": content}
        average = RosinalityGenerator(PublishedTensors(entries["g_running"], "g_running", path))
        resolution = self.resolution or average.trained
        if resolution is None:
            raise ValueError(f"{path} does not tell its resolution, all scales of noise are 0: give it by --resolution")
        if phase_of(resolution) > average.top:
            raise ValueError(f"{path} has blocks up to {average.resolution} px, got resolution {resolution}")
        current = None
        if "generator" in entries:
            current = RosinalityGenerator(PublishedTensors(entries["generator"], "generator", path))
            current.drop_beyond(resolution)
        average.drop_beyond(resolution)
        options = {"bias_before_blur": True, "norm_epsilon": 1e-5}
        generators = _Generators(
            average, current=current, fused_from=average.fused_from, options=options, dropped=dropped
        )
        return _converted(generators, path)


@dataclass(frozen=True)
class StyleGANLernapparat(_StyleGANFormat):
    """A generator in the layout of lernapparat's port (.pt), made of NVIDIA's files for inference.

    Its file has no noise maps and no to-RGB below the last resolution: images are good at that resolution alone, and
    differ from NVIDIA's by the noise.
    """

    name: ClassVar[str] = "stylegan_lernapparat"

    fused_from: int = FUSED_FROM
    """Pixels from which on upsampling and convolution are one step."""

    def convert(self, path: Path) -> Converted:
        """The model and what was dropped."""
        average = LernapparatGenerator(PublishedTensors(read_torch(path), "the generator", path))
        return _converted(_Generators(average, fused_from=self.fused_from), path)


# From layouts to a model


def _converted(found: _Generators, path: Path) -> Converted:
    """The model of the layouts; of the real networks nothing is made before all shapes are found good."""
    average = found.average
    widths, latent_dim, channels = average.widths, average.latent_dim, average.channels
    sizes = None if widths == published_stylegan_widths(average.resolution) else widths
    with torch.device("meta"):
        synthesis = StyleGANSynthesis(
            latent_dim,
            average.resolution,
            widths=widths,
            bias_before_blur=found.options.get("bias_before_blur", False),
            channels=channels,
        )
        generator = StyleGANGenerator(StyleGANMapping(latent_dim, average.mapping_layers), synthesis, latent_dim)
        discriminator = StyleGANDiscriminator(average.resolution, widths=widths, channels=channels)
    state, missing = average.state(generator)
    of_current = found.current.state(generator)[0] if found.current else state
    of_discriminator = found.discriminator.state(discriminator)[0] if found.discriminator else None

    schedule, images_seen = _growth(average.resolution, found.level_of_detail, path)
    model = StyleGAN(
        schedule,
        latent_dim=latent_dim,
        widths=sizes,
        max_resolution=None if schedule.resolution == average.resolution else average.resolution,
        mapping_layers=average.mapping_layers,
        fused_from=found.fused_from,
        image_channels=channels,
        **found.options,
    )
    network = cast("StyleGANGenerator", model.generator_average.network)
    for ours, published in ((network, state), (model.generator, of_current)):
        ours.load_state_dict({**_supplied(ours, missing, one_noise=average.one_noise), **published})
        if "w_average" in missing:
            _average_w(ours, latent_dim)
    absent = _described(missing, average)
    if found.current is None:
        absent.append("the generator before averaging (here: the averaged one)")
    if of_discriminator is None:
        absent.append("a discriminator for this model (here: one at the start of its training)")
    else:
        model.discriminator.load_state_dict(of_discriminator)
    model.advance(images_seen)
    layouts = [average, found.current, found.discriminator]
    dropped = [*found.dropped, *(what for layout in layouts if layout is not None for what in layout.dropped)]
    return Converted(model, dropped, absent=absent)


def _supplied(generator: StyleGANGenerator, missing: Sequence[str], *, one_noise: bool) -> dict[str, Tensor]:
    """What stands where a program has no tensor: no colours, no bias, and noise that was drawn with the network."""
    state = generator.state_dict()
    supplied = {}
    for name in missing:
        if noise := re.fullmatch(r"synthesis\.noise_(\d+)", name):
            number = int(noise[1])
            supplied[name] = state[f"synthesis.noise_{number // 2 * 2 if one_noise else number}"]
        else:
            supplied[name] = torch.zeros_like(state[name])
    return supplied


def _described(missing: Sequence[str], layout: GeneratorLayout) -> list[str]:
    """What a program does not have, as far as images could depend on it."""
    described = []
    if any(name.startswith("synthesis.noise_") for name in missing):
        described.append(f"maps of noise (here: drawn, one for each {'resolution' if layout.one_noise else 'layer'})")
    if any(name.startswith("synthesis.to_rgb.") for name in missing):
        described.append(f"to-RGB below {layout.resolution} px (here: 0)")
    if "w_average" in missing:
        described.append(f"the mean of w (here: of {_SAMPLES_OF_W:,} samples)")
    return described


@torch.no_grad()
def _average_w(generator: StyleGANGenerator, latent_dim: int) -> None:
    latents = torch.randn(_SAMPLES_OF_W, latent_dim, generator=torch.Generator().manual_seed(0))
    generator.w_average.copy_(generator.mapping(latents).mean(0))


def _growth(resolution: int, level_of_detail: float, path: Path) -> tuple[GrowthSchedule, int]:
    """A schedule that stands where a network stood, and the number of images at which it does.

    Within a fade the number is that of the published schedule, which begins at 8 pixels.

    Args:
        resolution: full, in pixels.
        level_of_detail: resolution 2^-level of it, the fraction being what has not faded in yet.
        path: for messages.

    Raises:
        ValueError: if there is no such level.
    """
    top = phase_of(resolution)
    if not (math.isfinite(level_of_detail) and 0 <= level_of_detail <= top):
        raise ValueError(
            f"{path}: the level of detail (lod) must be in [0, {top}] at {resolution} px, got {level_of_detail}"
        )
    phase = top - math.floor(level_of_detail)
    now = FIRST_RESOLUTION << phase
    alpha = 1.0 - level_of_detail % 1
    if alpha == 1.0:
        return schedule_of(now), 0
    before = _PUBLISHED_KIMG * (1 + 2 * max(0, phase - 2))
    stages = [
        Stage(now // 2, before, batch_size=32, learning_rate=1e-3),
        Stage(now, 2 * _PUBLISHED_KIMG, batch_size=32, fade_kimg=_PUBLISHED_KIMG, learning_rate=1e-3),
    ]
    return GrowthSchedule(stages), images_of(before + alpha * _PUBLISHED_KIMG)


# NVIDIA's variables


def _nvidia(tensors: Mapping[str, PublishedTensors], path: Path) -> _Generators:
    average = NvidiaGenerator(tensors["Gs"])
    level = tensors["Gs"].take("lod", ()).item() if "lod" in tensors["Gs"] else 0.0
    current = NvidiaGenerator(tensors["G"]) if "G" in tensors else None
    discriminator = NvidiaDiscriminator(tensors["D"], average.top) if "D" in tensors else None
    if current is not None and (current.top, current.mapping_layers) != (average.top, average.mapping_layers):
        raise ValueError(f"{path}: G and Gs are of different sizes: it is damaged")
    return _Generators(average, level, current, discriminator)


def _variables(network: PickledNetwork, entry: str, path: Path) -> PublishedTensors:
    """All variables of a network and its components, once its settings are found to be those of ours.

    Raises:
        ValueError: with one sentence, otherwise.
    """
    wanted = set() if entry == "D" else {"mapping", "synthesis"}
    if set(network.components) - wanted:
        raise ValueError(
            f"{entry} of {path} has the component {min(set(network.components) - wanted)!r}: it is another network"
        )
    variables = list(network.variables.items())
    for part, component in network.components.items():
        if component.components:
            raise ValueError(f"{entry} of {path} has components within components: it is another network")
        variables += [(f"{part}/{name}", value) for name, value in component.variables.items()]
    for one in (network, *network.components.values()):
        for setting, value in _SETTINGS.items():
            if setting in one.settings and one.settings[setting] != value:
                raise ValueError(
                    f"{entry} of {path} was built with {setting} = {one.settings[setting]!r}, this format is of "
                    f"networks with {value!r}"
                )
    return _by_name([(name, value.numbers()) for name, value in variables], entry, path)


def _fused_from(network: PickledNetwork, resolution: int, path: Path) -> int:
    """Pixels from which on convolutions change the resolution in one step, by the generator's settings."""
    synthesis = network.components.get("synthesis", network)
    setting = {**network.settings, **synthesis.settings}.get("fused_scale", "auto")
    places = {"auto": FUSED_FROM, True: 2 * FIRST_RESOLUTION, False: max(FUSED_FROM, 2 * resolution)}
    if not isinstance(setting, bool | str) or setting not in places:
        raise ValueError(f"Gs of {path} was built with fused_scale = {setting!r}, where auto, True or False belongs")
    return places[setting]


def _by_name(variables: Sequence[tuple[str, np.ndarray]], entry: str, path: Path) -> PublishedTensors:
    """Variables of a network, with the program's G_mapping/Dense0/weight as mapping/Dense0/weight.

    Raises:
        ValueError: with one sentence, if there are two of one name.
    """
    found: dict[str, Tensor] = {}
    for name, value in variables:
        short = name.removeprefix("G_") if name.startswith(("G_mapping/", "G_synthesis/")) else name
        if short in found:
            raise ValueError(f"{entry} of {path} has two variables {short}: it is damaged")
        found[short] = torch.from_numpy(value)
    return PublishedTensors(found, entry, path)


def _named_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name of a .npz file or of a pickled dictionary.

    Raises:
        ValueError: with one sentence, if it is neither.
    """
    if not zipfile.is_zipfile(path):
        content = read_pickled_arrays(path)
        if not is_named_arrays(content) or not content:
            raise ValueError(
                f"{path} holds a {type(content).__name__} where arrays by name belong: whole networks are of the "
                "format stylegan_tf"
            )
        return {name: value.numbers() for name, value in content.items()}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST_FILE:
                raise ValueError(f"it unpacks to more than {_LARGEST_FILE // 2**30} GiB")
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name], dtype=np.float32) for name in file.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a .npz file of arrays by name, or is damaged ({reason})") from None
