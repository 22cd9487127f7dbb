"""Published checkpoints of the Automodulator (AaltoVision/automodulator)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from latent_lab.growth import FIRST_RESOLUTION
from latent_lab.importers import progressive
from latent_lab.importers.base import AbstractImporter, Converted
from latent_lab.importers.progressive import NETWORKS, OPTIMISERS, PROGRESS, Progress, SpectralVectors
from latent_lab.importers.torch_files import PublishedTensors, checked_entries, read_torch
from latent_lab.models import Automodulator
from latent_lab.networks.automodulator import published_decoder_widths
from latent_lab.networks.pioneer import published_widths

_ROBUST_LOSSES = tuple(f"adaptive_loss_{phase}" for phase in range(9))
_MAPPING_GAIN = 0.01
"""Of the mapping's layers; our layers multiply by it, too, so it is taken out of the weights."""


@dataclass(frozen=True)
class AutomodulatorState(AbstractImporter):
    """A checkpoint of the Automodulator (`.pth`), with the small or the large decoder.

    Widths, latents, trained resolution and the kind of upsampling are read off the file, spectral vectors are in it (in
    the oldest ones: in a `_SNU` file beside it). The robust loss's parameters come along, for further training.
    """

    name: ClassVar[str] = "automodulator"

    mapping_layers: int = 0
    """Dense layers between a code and its modulations, 0 or 1; the file does not say whether the one that it
    holds was in use, but in no published model it was."""
    evaluation_noise: bool = True
    """Layer noise in evaluation mode, as the published program has it unless told otherwise."""
    spectral: str | None = None
    """A file of spectral vectors, where the checkpoint has none; null: the one beside it that bears its name."""
    spectral_vectors: SpectralVectors = "stored"
    """Converged: computed from the weights."""
    resolution: int | None = None
    """Pixels per side of the model, at most those that were trained; null: those."""

    def read(self, path: Path) -> Automodulator:
        """The model; a warning if spectral vectors look as if they had never been used."""
        model = self.convert(path).model
        assert isinstance(model, Automodulator)
        return model

    def convert(self, path: Path) -> Converted:
        """The model and what was dropped."""
        if self.mapping_layers not in (0, 1):
            raise ValueError(f"mapping_layers must be 0 or 1, got {self.mapping_layers}")
        entries = checked_entries(read_torch(path), path, (*NETWORKS, *PROGRESS), (*OPTIMISERS, "SNU", *_ROBUST_LOSSES))
        states = {name: PublishedTensors(entries[name], name, path) for name in NETWORKS}
        decoders = [states["G_state_dict"], states["G_running_state_dict"]]
        encoder = states["D_state_dict"]
        blocks = progressive.number_of_blocks(encoder)
        progress = progressive.progress_of(entries, blocks, path).at(self.resolution, path)
        further_files = self._add_spectral_vectors(entries, encoder, blocks, path)

        dropped = []
        for decoder in decoders:
            dropped += _without_aliases_and_gains(decoder, blocks, self.mapping_layers)
        model = self._model(decoders[0], encoder, blocks, progress)
        progressive.load(model.encoder, encoder, progressive.encoder_name(blocks), self.spectral_vectors)
        for decoder, ours in zip(decoders, (model.generator, model.generator_average.network), strict=True):
            progressive.load(ours, decoder, _decoder_name(_first_adain_place(decoder)), self.spectral_vectors)
        for name, tensors in states.items():
            dropped += progressive.drop_untrained(tensors, blocks, progress, downwards=NETWORKS[name] == "encoder")
            tensors.finish()
        dropped += _load_robust_losses(model, entries, progress, path)
        if "SNU" in entries and (further_files or self.spectral_vectors == "converged"):
            dropped.append("SNU (other spectral vectors were asked for)")
        if optimisers := [name for name in OPTIMISERS if name in entries]:
            dropped.append(f"{', '.join(optimisers)} (state of training)")
        # Its maps are those of this phase already, and are not to be overwritten by those of smaller resolutions.
        model._robust_phase = progress.phase
        model.advance(progress.images_seen)
        return Converted(model, dropped, further_files)

    def _model(
        self, decoder: PublishedTensors, encoder: PublishedTensors, blocks: int, progress: Progress
    ) -> Automodulator:
        latent_dim, encoder_widths = progressive.encoder_shape(encoder, blocks)
        decoder_widths = progressive.generator_widths(decoder, blocks)
        largest = FIRST_RESOLUTION * 2 ** (blocks - 1)
        sizes = {
            small: published_decoder_widths(latent_dim, largest, small=small) == decoder_widths
            and published_widths(latent_dim, largest) == encoder_widths
            for small in (False, True)
        }
        if not any(sizes.values()) and decoder_widths != encoder_widths:
            raise ValueError(
                f"{decoder.what} has {decoder_widths} channels at 4 to {largest} px, the encoder {encoder_widths}: it "
                "is neither of the two published sizes"
            )
        return Automodulator(
            progress.schedule(),
            latent_dim=latent_dim,
            widths=None if any(sizes.values()) else decoder_widths[: progress.phase + 1],
            small=sizes[True],
            mapping_layers=self.mapping_layers,
            layer_noise=bool(decoder.names(r"noise\..*")),
            evaluation_noise=self.evaluation_noise,
            upsampling="bilinear" if _first_adain_place(decoder) == 2 else "nearest",
            average_decay_per_step=0.999,
            gradient_through_power_iteration=True,
        )

    def _add_spectral_vectors(
        self, entries: Mapping[str, Any], encoder: PublishedTensors, blocks: int, path: Path
    ) -> list[Path]:
        """Hands the encoder its vectors; returns the further file that they came from, if any."""
        if self.spectral_vectors == "converged":
            return []
        snu = progressive.spectral_file(path, self.spectral)
        if "SNU" in entries and self.spectral is None:
            vectors, origin, further = entries["SNU"], path, []
        elif snu is not None:
            vectors, origin, further = progressive.read_spectral_vectors(snu), snu, [snu]
        else:
            raise ValueError(
                f"{path} has no spectral vectors (SNU), and there is no _SNU file beside it: name it with --spectral, "
                "or have them computed with --spectral-vectors converged"
            )
        if not isinstance(vectors, Sequence) or len(vectors) != 2 * blocks:
            raise ValueError(
                f"{origin} must hold a list of {2 * blocks} spectral vectors, two for each block of the encoder; it is "
                f"{f'one of {len(vectors)}' if isinstance(vectors, Sequence) else type(vectors).__name__}"
            )
        progressive.add_spectral_vectors(encoder, vectors)
        return further


def _without_aliases_and_gains(decoder: PublishedTensors, blocks: int, mapping_layers: int) -> list[str]:
    """Folds gains into weights and drops, by name, what takes part in nothing or stands there twice.

    Raises:
        ValueError: with one sentence, if it is a file of the experiment on flip invariance, or a second name stands for
            another tensor.
    """
    if decoder.names(r"support.*"):
        raise ValueError(
            f"{decoder.what} has a supporting block (flip invariance), which no published model has: this format is of "
            "decoders without"
        )
    dropped = []
    aliases = {"adanorm_blocks.0": "progression.0.conv.3"}
    for number in range(1, blocks):
        aliases[f"adanorm_blocks.{2 * number - 1}"] = f"progression.{number}.conv.0.{_first_adain_place(decoder)}"
        aliases[f"adanorm_blocks.{2 * number}"] = f"progression.{number}.conv.3"
    for alias, original in aliases.items():
        for parameter in ("weight", "bias"):
            second, first = f"{alias}.mod.{parameter}", f"{original}.mod.{parameter}"
            if second not in decoder:
                continue
            wanted = decoder.peek(first, 2 if parameter == "weight" else 1)
            if not torch.equal(decoder.take(second, wanted.shape), wanted.float()):
                raise ValueError(f"{decoder.what}: {second} differs from {first}, of which it is a second name")
            dropped.append(second)
    report = [f"{len(dropped)} tensors adanorm_blocks.* of {decoder.entry} (second names)"] if dropped else []

    for gain in decoder.names(r".*\.weight_gain"):
        weight = gain.replace("weight_gain", "weight_orig")
        of_mapping = gain.startswith("z_preprocess")
        factor = decoder.take(gain, (1,)) / (_MAPPING_GAIN if of_mapping else 1.0)
        decoder.add(weight, decoder.peek(weight, 2 if of_mapping else 4) * factor)

    unused = "|".join(str(number) for number in range(mapping_layers, 2))
    idle = [
        name
        for pattern in (rf"z_preprocess\.({unused})\..*", r"label_embed\.weight", r"noise\.0\..*")
        for name in decoder.drop(pattern)
    ]
    if idle:
        report.append(f"{', '.join(idle)} of {decoder.entry} (take part in nothing)")
    return report


def _first_adain_place(decoder: PublishedTensors) -> int:
    """Of the first AdaIN in its block: with bilinear upsampling no blur stands before it."""
    return 2 if "progression.1.conv.0.2.mod.weight" in decoder else 3


def _decoder_name(first_adain_place: int) -> Callable[[str], str]:
    """Our names of a decoder's tensors -> published ones."""

    def translate(name: str) -> str:
        kind, number, rest = name.split(".", 2)
        if kind == "to_rgb":
            return name
        if kind == "mapping":
            # Ours counts the activations between the layers, too.
            return f"z_preprocess.{int(number) // 2}.0.{'weight_orig' if rest == 'weight' else rest}"
        place, layer = rest.split(".", 1)
        if layer == "noise_scale":
            return f"noise.{number}.{place}.noise_scale"
        is_first = number != "0" and place == "0"
        parameter = layer.rpartition(".")[2]
        if layer.startswith("adain"):
            where = f"0.{first_adain_place}" if is_first else "3"
            return f"progression.{number}.conv.{where}.mod.{parameter}"
        where = "0.0" if is_first else "1"
        return f"progression.{number}.conv.{where}.conv.{'weight_orig' if parameter == 'weight' else parameter}"

    return translate


def _load_robust_losses(model: Automodulator, entries: Mapping[str, Any], progress: Progress, path: Path) -> list[str]:
    """Gives the robust loss the parameters of all trained resolutions and names those that stay behind.

    The program keeps them as rows (1, 3 r r), channel by channel, ours are maps (3, r, r).
    """
    found = [name for name in _ROBUST_LOSSES if name in entries]
    if not found:
        return []
    maps = list(zip(model.robust.raw_shapes, model.robust.raw_scales, strict=True))
    for name, (raw_shape, raw_scale) in zip(_ROBUST_LOSSES, maps, strict=False):
        if name not in found:
            raise ValueError(f"{path} has {found[0]}, but no {name}: it is damaged")
        content = entries[name]
        # A stray comma in the program makes each a tuple of one.
        tensors = PublishedTensors(content[0] if isinstance(content, tuple) and content else content, name, path)
        row = (1, raw_shape.numel())
        with torch.no_grad():
            raw_shape.copy_(tensors.take("latent_alpha", row).view_as(raw_shape))
            raw_scale.copy_(tensors.take("latent_scale", row).view_as(raw_scale))
        tensors.finish()
    beyond = [name for name in found if name not in _ROBUST_LOSSES[: len(maps)]]
    return [f"{', '.join(beyond)} (beyond {progress.resolution} px)"] if beyond else []
