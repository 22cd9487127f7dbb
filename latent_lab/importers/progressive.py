"""What published checkpoints of the Pioneer family (Pioneer, Balanced Pioneer, Automodulator) have in common.

Their files always hold blocks for 4 to 1024 pixels, of which only those up to the `phase` in the file were ever
trained. The decoder counts its blocks from 4 pixels up, the encoder from 1024 pixels down. Spectral vectors are no part
of the networks' state: Pioneer never saved them, Balanced Pioneer keeps them in a file of their own.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latent_lab.growth import FIRST_RESOLUTION, GrowthSchedule, Stage, phase_of
from latent_lab.importers.torch_files import PublishedTensors, in_short, read_torch
from latent_lab.networks.layers import SpectralConv2d
from latent_lab.networks.pioneer import published_widths

NETWORKS = {"G_state_dict": "generator", "G_running_state_dict": "averaged generator", "D_state_dict": "encoder"}
"""Entry of the file -> what it is."""
PROGRESS = ("iteration", "phase", "alpha")
OPTIMISERS = ("optimizerG", "optimizerD", "optimizerA")

SpectralVectors = Literal["stored", "converged"]

SLOTS = (0, 2)
"""Places in a block of the two convolutions that are spectrally normalised; activations lie between and behind them."""

_PUBLISHED_FADE = 1_200_000
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Progress:
    """Where a published run stood when its file was written."""

    images_seen: int
    phase: int
    alpha: float
    """Weight of the newest blocks; 1 where nothing fades."""

    @property
    def resolution(self) -> int:
        """Pixels per side."""
        return FIRST_RESOLUTION * 2**self.phase

    def at(self, resolution: int | None, path: Path) -> Progress:
        """The same for a smaller model of the same blocks, without fade.

        Raises:
            ValueError: with one sentence, if the resolution is none or was never trained.
        """
        if resolution is None or resolution == self.resolution:
            return self
        phase = phase_of(resolution)
        if phase > self.phase:
            raise ValueError(
                f"{path} was trained up to {self.resolution} px and its blocks for {resolution} px are as they were "
                f"drawn: give a resolution of at most {self.resolution}, or none"
            )
        return Progress(self.images_seen, phase, 1.0)

    def schedule(self) -> GrowthSchedule:
        """One that stands at this phase and alpha after so many images; further training would go on at its last row.

        The original's rows are in the configurations; a file tells no more than this.
        """

        def stage(resolution: int, images: float, fade: float = 0.0) -> Stage:
            return Stage(resolution, images / 1000, batch_size=16, fade_kimg=fade / 1000, learning_rate=1e-3)

        if self.alpha >= 1:
            return GrowthSchedule([stage(self.resolution, self.images_seen)])
        # Of all fades that have this alpha now, the one whose length is nearest to the published one.
        faded = max(1, min(round(self.alpha * _PUBLISHED_FADE), self.images_seen - 1)) if self.alpha else 0
        fade = faded / self.alpha if self.alpha else _PUBLISHED_FADE
        return GrowthSchedule(
            [stage(self.resolution // 2, self.images_seen - faded), stage(self.resolution, fade, fade)]
        )


def progress_of(entries: Mapping[str, Any], blocks: int, path: Path) -> Progress:
    """Images, phase and alpha of a checkpoint.

    Raises:
        ValueError: with one sentence, if they are no such numbers.
    """
    images, phase, alpha = (entries[name] for name in PROGRESS)
    if isinstance(images, bool) or not isinstance(images, int) or images < 2:
        raise ValueError(f"{path}: iteration must be a number of images from 2 on, got {images!r}: it is not trained")
    if isinstance(phase, bool) or not isinstance(phase, int) or not 0 <= phase < blocks:
        raise ValueError(f"{path}: phase must be a whole number from 0 to {blocks - 1}, got {phase!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise ValueError(f"{path}: alpha must be a number, got {alpha!r}")
    # The programs fade only for 0 <= alpha < 1, and never at 4 pixels.
    return Progress(images, phase, float(alpha) if phase > 0 and 0 <= alpha < 1 else 1.0)


def number_of_blocks(tensors: PublishedTensors) -> int:
    """Of a network, counted by its first convolutions.

    Raises:
        ValueError: if there is none, or there is a gap.
    """
    numbers = {int(name.split(".")[1]) for name in tensors.names(r"progression\.\d+\..*")}
    if not numbers or numbers != set(range(len(numbers))):
        found = ", ".join(map(str, sorted(numbers))) or "none"
        raise ValueError(f"{tensors.what} must have blocks progression.0, progression.1, ..., it has {found}")
    return len(numbers)


def encoder_shape(tensors: PublishedTensors, blocks: int) -> tuple[int, list[int]]:
    """Latent dimensions, and channels at 4, 8, ... pixels, of an encoder's state."""
    widths = [tensors.peek(f"from_rgb.{blocks - 1 - phase}.weight", 4).shape[0] for phase in range(blocks)]
    return tensors.peek(f"progression.{blocks - 1}.conv.2.conv.weight_orig", 4).shape[0], widths


def generator_widths(tensors: PublishedTensors, blocks: int) -> list[int]:
    """Channels at 4, 8, ... pixels of a decoder's state."""
    return [tensors.peek(f"to_rgb.{phase}.weight", 4).shape[1] for phase in range(blocks)]


def unless_published(widths: Sequence[int], latent_dim: int, phase: int) -> list[int] | None:
    """The widths up to a phase for a recipe: none where they are the published ones."""
    trained = list(widths[: phase + 1])
    return None if trained == published_widths(latent_dim, FIRST_RESOLUTION * 2**phase) else trained


def add_spectral_vectors(tensors: PublishedTensors, vectors: Sequence[Any]) -> None:
    """Puts the vectors (cout, 1) of a network, two for each block in its own order, beside its weights."""
    for number, vector in enumerate(vectors):
        tensors.add(f"progression.{number // 2}.conv.{SLOTS[number % 2]}.conv.weight_u", vector)


def read_spectral_vectors(path: Path) -> list[Any]:
    """The list in a file of spectral vectors.

    Raises:
        ValueError: with one sentence, if it is no such file.
    """
    vectors = read_torch(path)
    if not isinstance(vectors, list | tuple):
        raise ValueError(f"{path} holds a {type(vectors).__name__} where a list of spectral vectors belongs")
    return list(vectors)


def spectral_file(path: Path, given: str | None) -> Path | None:
    """The file of spectral vectors: the given one, else the one beside a checkpoint that bears its name, if any.

    Raises:
        FileNotFoundError: if one is given that is not there.
    """
    if given is not None:
        chosen = Path(given).expanduser()
        if not chosen.is_file():
            raise FileNotFoundError(f"there is no file {chosen} of spectral vectors")
        return chosen
    beside = path.with_name(re.sub(r"_state(\.pth)?$", "", path.name) + "_SNU")
    return beside if beside.is_file() else None


def encoder_name(blocks: int) -> Callable[[str], str]:
    """Our names of an encoder's tensors -> published ones."""

    def translate(name: str) -> str:
        kind, number, rest = name.split(".", 2)
        number = str(blocks - 1 - int(number))
        return f"from_rgb.{number}.{rest}" if kind == "from_rgb" else f"progression.{number}.{convolution_name(rest)}"

    return translate


def convolution_name(name: str) -> str:
    """Our "2.weight" -> "conv.2.conv.weight_orig", where the program keeps a weight and what it makes of it apart."""
    slot, parameter = name.split(".")
    parameter = {"weight": "weight_orig", "u": "weight_u"}.get(parameter, parameter)
    return f"conv.{slot}.conv.{parameter}"


def load(
    module: nn.Module, tensors: PublishedTensors, published: Callable[[str], str], vectors: SpectralVectors
) -> None:
    """Gives a network its published weights.

    Args:
        module: ours.
        tensors: those of the file; what is used counts as taken.
        published: our name of a tensor -> the published one.
        vectors: `converged`: spectral vectors are not taken, but computed from the weights.

    Raises:
        ValueError: with one sentence, if a tensor is not there or has another shape.
    """
    state = {}
    for name, value in module.state_dict().items():
        if name.rpartition(".")[2] != "u":
            state[name] = tensors.take(published(name), value.shape)
        elif vectors == "stored":
            state[name] = tensors.take(published(name), (len(value), 1)).flatten()
        else:
            state[name] = value
    module.load_state_dict(state)
    if vectors == "stored":
        _warn_of_vectors_that_never_moved(state, tensors.what)
        return
    for layer in module.modules():
        if isinstance(layer, SpectralConv2d):
            layer.converge()


def _warn_of_vectors_that_never_moved(state: Mapping[str, Tensor], what: str) -> None:
    """Each forward pass of the programs normalises the vectors; where they are not, there was none that was kept."""
    vectors = {name: value for name, value in state.items() if name.endswith(".u")}
    norms = {name: torch.linalg.vector_norm(value).item() for name, value in vectors.items()}
    unmoved = {name: norm for name, norm in norms.items() if abs(norm - 1) > _UNIT_TOLERANCE}
    if unmoved:
        name, norm = next(iter(unmoved.items()))
        warnings.warn(
            f"{len(unmoved)} of {len(vectors)} spectral vectors of {what} are not of length 1 "
            f"({name.removesuffix('.u')}: {norm:.3f}): it was never run before it was saved, or was trained on several "
            "GPUs, where the program loses them; if its images look wrong, compare with --spectral-vectors converged",
            stacklevel=2,
        )


def drop_untrained(tensors: PublishedTensors, blocks: int, progress: Progress, *, downwards: bool) -> list[str]:
    """Drops the blocks of a network that the chosen phase does not use, and says so.

    Args:
        tensors: of a network whose used part was taken.
        blocks: number of blocks in the file.
        progress: of the model that is made.
        downwards: whether blocks are counted from the largest resolution down.
    """
    unused = range(progress.phase + 1, blocks)
    numbers = "|".join(str(blocks - 1 - phase if downwards else phase) for phase in unused)
    dropped = in_short(tensors.drop(rf"(progression|to_rgb|from_rgb|noise)\.({numbers})\..*")) if unused else []
    return [f"{', '.join(dropped)} of {tensors.entry} (beyond {progress.resolution} px)"] if dropped else []
