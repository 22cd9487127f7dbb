"""Published checkpoints of Pioneer and of Balanced Pioneer (AaltoVision/pioneer, AaltoVision/balanced-pioneer)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from latent_lab.importers import progressive
from latent_lab.importers.base import AbstractImporter, Converted
from latent_lab.importers.progressive import NETWORKS, OPTIMISERS, PROGRESS, SpectralVectors
from latent_lab.importers.torch_files import PublishedTensors, checked_entries, read_torch
from latent_lab.models import Pioneer
from latent_lab.models.base import AdamSettings
from latent_lab.networks.pioneer import Normalisation, Upsampling

_LAYOUTS: dict[str, tuple[Normalisation, ...]] = {
    "conv.2.conv.weight_orig": ("spectral", "equalized"),
    "conv.3.conv.weight_orig": ("pixel_norm_equalized",),
    "conv.2.weight": ("none",),
    "conv.3.weight": ("pixel_norm",),
}
"""Name of the second convolution of a generator's block -> which generators call it so."""


@dataclass(frozen=True)
class PioneerState(AbstractImporter):
    """A `_state` file of Pioneer: widths, latents and trained resolution are read off the file.

    Pioneer does not save its spectral vectors; they are computed from the weights, on which alone they depend.
    """

    name: ClassVar[str] = "pioneer"

    encoder_last_activation: bool = True
    """LeakyReLU after the encoder's last convolution; all published weights have it."""
    resolution: int | None = None
    """Pixels per side of the model, at most those that were trained; null: those."""

    def read(self, path: Path) -> Pioneer:
        """The model."""
        return _pioneer(self.convert(path))

    def convert(self, path: Path) -> Converted:
        """The model and what was dropped."""
        file = _StateFile(path)
        if file.candidates != ("pixel_norm_equalized",):
            raise ValueError(
                f"{path} holds a generator without pixel norm and equalised learning rate, which is no Pioneer's: "
                "import it as balanced_pioneer"
            )
        return file.convert(
            normalisation="pixel_norm_equalized",
            vectors="converged",
            last_activation=self.encoder_last_activation,
            resolution=self.resolution,
            adam=AdamSettings(beta2=0.99),
        )


@dataclass(frozen=True)
class BalancedPioneerState(AbstractImporter):
    """A `_state` file of Balanced Pioneer, with the `_SNU` file of spectral vectors beside it.

    Widths, latents, trained resolution and the generator's regularisers (those of the ablation, too) are read off the
    files.
    """

    name: ClassVar[str] = "balanced_pioneer"

    spectral: str | None = None
    """The `_SNU` file; null: the one beside the checkpoint that bears its name."""
    spectral_vectors: SpectralVectors = "stored"
    """Converged: computed from the weights, no `_SNU` file needed."""
    normalisation: Literal["spectral", "equalized"] | None = None
    """Of the generator, where the names of its tensors leave it open; null: told by the number of spectral vectors,
    else by the deviation of its weights."""
    upsampling: Upsampling = "nearest"
    """Of the generator; the file does not say."""
    encoder_last_activation: bool = True
    """LeakyReLU after the encoder's last convolution; all published weights have it, newer trainings by default not."""
    resolution: int | None = None
    """Pixels per side of the model, at most those that were trained; null: those."""

    def read(self, path: Path) -> Pioneer:
        """The model; a warning if spectral vectors look as if they had never been used."""
        return _pioneer(self.convert(path))

    def convert(self, path: Path) -> Converted:
        """The model and what was dropped."""
        file = _StateFile(path)
        snu = progressive.spectral_file(path, self.spectral)
        vectors = None if snu is None else progressive.read_spectral_vectors(snu)
        if self.spectral_vectors == "stored":
            if snu is None or vectors is None:
                raise ValueError(
                    f"there is no _SNU file with the spectral vectors of {path} beside it: name it with --spectral, or "
                    "have them computed with --spectral-vectors converged"
                )
            file.add_spectral_vectors(vectors, snu)
        return file.convert(
            normalisation=self._normalisation(file, vectors),
            vectors=self.spectral_vectors,
            last_activation=self.encoder_last_activation,
            resolution=self.resolution,
            adam=AdamSettings(beta2=0.9),
            upsampling=self.upsampling,
            further_files=[snu] if snu is not None and self.spectral_vectors == "stored" else [],
        )

    def _normalisation(self, file: _StateFile, vectors: Sequence[Any] | None) -> Normalisation:
        if len(file.candidates) == 1:
            if self.normalisation is not None:
                raise ValueError(
                    f"the generator in {file.path} is {file.candidates[0]} by the names of its tensors: leave "
                    f"--normalisation {self.normalisation} out"
                )
            return file.candidates[0]
        if self.normalisation is not None:
            return self.normalisation
        if vectors is not None:
            return "spectral" if len(vectors) == file.all_vectors else "equalized"
        return file.normalisation_by_deviation()


class _StateFile:
    """The content of a `_state` file, on its way into a model.

    Args:
        path: of the file.

    Raises:
        ValueError: with one sentence, if it is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        entries = checked_entries(read_torch(path), path, (*NETWORKS, *PROGRESS), OPTIMISERS)
        self.states = {name: PublishedTensors(entries[name], name, path) for name in NETWORKS}
        self.optimisers = [name for name in OPTIMISERS if name in entries]
        self.blocks = progressive.number_of_blocks(self.states["D_state_dict"])
        self.progress = progressive.progress_of(entries, self.blocks, path)
        self.candidates = self._candidates()

    @property
    def all_vectors(self) -> int:
        """Number of spectral vectors where encoder and both generators have them."""
        return 3 * 2 * self.blocks

    def add_spectral_vectors(self, vectors: Sequence[Any], snu: Path) -> None:
        """Hands each network its vectors, of which there are those of G, G_running and D in this order, or D's alone.

        Raises:
            ValueError: with one sentence, if there are others.
        """
        of_one = 2 * self.blocks
        if len(vectors) not in (of_one, self.all_vectors):
            raise ValueError(
                f"{snu} holds {len(vectors)} spectral vectors where {self.all_vectors} belong, or {of_one} if the "
                f"generator has none: it is not that of {self.path}"
            )
        # In a file of the encoder's vectors alone, these are the last ones, too.
        progressive.add_spectral_vectors(self.states["D_state_dict"], vectors[-of_one:])
        if len(vectors) == self.all_vectors:
            progressive.add_spectral_vectors(self.states["G_state_dict"], vectors[:of_one])
            progressive.add_spectral_vectors(self.states["G_running_state_dict"], vectors[of_one : 2 * of_one])

    def convert(
        self,
        *,
        normalisation: Normalisation,
        vectors: SpectralVectors,
        last_activation: bool,
        resolution: int | None,
        adam: AdamSettings,
        upsampling: Upsampling = "nearest",
        further_files: Sequence[Path] = (),
    ) -> Converted:
        """The model; its recipe says how the published program trains.

        Raises:
            ValueError: with one sentence, if a tensor is missing, left over or of another shape.
        """
        progress = self.progress.at(resolution, self.path)
        latent_dim, widths = progressive.encoder_shape(self.states["D_state_dict"], self.blocks)
        model = Pioneer(
            progress.schedule(),
            latent_dim=latent_dim,
            widths=progressive.unless_published(widths, latent_dim, progress.phase),
            normalisation=normalisation,
            upsampling=upsampling,
            encoder_last_activation=last_activation,
            gradient_through_power_iteration=True,
            adam=adam,
            generator_steps=2,
            average_decay_per_step=0.999,
        )
        encoder_name = progressive.encoder_name(self.blocks)
        progressive.load(model.encoder, self.states["D_state_dict"], encoder_name, vectors)
        for name, generator in (
            ("G_state_dict", model.generator),
            ("G_running_state_dict", model.generator_average.network),
        ):
            progressive.load(generator, self.states[name], _generator_name(normalisation), vectors)
        model.advance(progress.images_seen)
        return Converted(model, self._dropped(progress), further_files)

    def _dropped(self, progress: progressive.Progress) -> list[str]:
        """Says what the model does without, and makes sure that this is all there is."""
        dropped = []
        for name, tensors in self.states.items():
            dropped += progressive.drop_untrained(tensors, self.blocks, progress, downwards=NETWORKS[name] == "encoder")
            if tensors.drop(r"label_embed\.weight"):
                dropped.append(f"label_embed.weight of {tensors.entry} (takes part in nothing)")
            tensors.finish()
        if self.optimisers:
            dropped.append(f"{', '.join(self.optimisers)} (state of training)")
        return dropped

    def _candidates(self) -> tuple[Normalisation, ...]:
        tensors = self.states["G_state_dict"]
        for name, candidates in _LAYOUTS.items():
            if f"progression.0.{name}" in tensors:
                return candidates
        raise ValueError(f"{tensors.what} is no Pioneer's generator: progression.0 has none of {', '.join(_LAYOUTS)}")

    def normalisation_by_deviation(self) -> Literal["spectral", "equalized"]:
        """Weights under equalised learning rate are drawn with deviation 1, others with sqrt(2 / fan_in).

        The block after the last trained one is still as it was drawn.
        """
        block = min(self.progress.phase + 1, self.blocks - 1)
        weight = self.states["G_state_dict"].peek(f"progression.{block}.conv.0.conv.weight_orig", 4)
        drawn = math.sqrt(2.0 / weight[0].numel())
        # Half way between the two on a logarithmic scale.
        return "equalized" if weight.std().item() > math.sqrt(drawn) else "spectral"


def _generator_name(normalisation: Normalisation) -> Callable[[str], str]:
    """Our names of a generator's tensors -> published ones."""
    plain = normalisation in ("none", "pixel_norm")

    def translate(name: str) -> str:
        kind, number, rest = name.split(".", 2)
        if kind == "to_rgb":
            return name
        slot, parameter = rest.split(".")
        if plain:
            return f"progression.{number}.conv.{slot}.{parameter}"
        return f"progression.{number}.{progressive.convolution_name(rest)}"

    return translate


def _pioneer(converted: Converted) -> Pioneer:
    assert isinstance(converted.model, Pioneer)
    return converted.model
