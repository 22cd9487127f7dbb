"""Style mixing: images that take some layers from one code and the rest from another, as grids and as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from latent_lab import distributed
from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import (
    as_tensor,
    batches,
    check_numpy_seeds,
    chosen_latents,
    device_of,
    prior_latents,
    real_images,
    share,
    situation,
)
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractLayeredDecoder, require
from latent_lab.latent.styles import SCALES, mix, parse_layers, repeat, scale_name
from latent_lab.networks.label_regressor import LabelRegressor, load_regressor
from latent_lab.types import Images, ImageSource, Latents, Styles

BASES, SOURCES = "mix/bases", "mix/sources"
"""Names of the random streams of the latents, where samples are mixed."""
LEAST_SHARE = 0.01
"""Floor of the denominators of ratios of transfers: what does not move at all counts as moving this much."""
_COLOUR_PATCHES = 4

Pictures = Float[Tensor, "V N C H W"]
"""The same N cells in V versions."""


def scale_words(analysis: str, option: str, words: Sequence[str]) -> tuple[str, ...]:
    """Layer ranges as an option names them, one in each entry, synonyms replaced.

    Args:
        analysis: who asks, for the message.
        option: name of the option.
        words: names or ranges; an entry may hold several with spaces between them.

    Raises:
        ValueError: if there is none, or one twice.
    """
    found = [scale_name(word) for entry in words for word in entry.split()]
    if not found or len(set(found)) < len(found):
        raise ValueError(
            f"{analysis} needs {option} to name layers, each once, such as coarse,middle,fine or 0-2,2-end, "
            f"got {', '.join(found) or 'none'}"
        )
    return tuple(found)


def layers_in_words(model: AbstractLayeredDecoder, layers: Mapping[str, range]) -> dict[str, str]:
    """What the ranges mean, for a protocol: "0-2, 4 to 8 px"."""
    pixels = model.layer_resolutions
    return {
        word: f"{chosen.start}-{chosen.stop}, {pixels[chosen.start]} to {pixels[chosen.stop - 1]} px"
        for word, chosen in layers.items()
    }


def growth_notes(model: AbstractLayeredDecoder) -> list[str]:
    """A remark if layers do not take part yet."""
    if model.layer_resolutions[-1] <= model.resolution:
        return []
    return [f"the model has grown to {model.resolution} px so far: its layers above have no effect yet"]


def decode_pictures(model: AbstractLayeredDecoder, styles: Styles, batch_size: int) -> Images:
    """Images of styles (N, L, D), so many at a time, clamped, float32, on the CPU."""
    pieces = [model.decode_layers(part).float().clamp(-1.0, 1.0).cpu() for part in styles.split(batch_size)]
    return torch.cat(pieces)


def shuffled_places(available: int, seed: int, by: str) -> list[int]:
    """All places of a source in a random order.

    Raises:
        ValueError: if the source has fewer than two images.
    """
    if available < 2:
        raise ValueError(f"{by} needs at least 2 images, got a source with {available}")
    return torch.randperm(available, generator=torch.Generator().manual_seed(seed)).tolist()


def pair_of(number: int, available: int) -> tuple[int, int]:
    """Two different places in 0 ... available - 1 for each pair number, base and source.

    All pairs occur once before one comes again; each image is a base equally often.
    """
    place, lap = number % available, number // available
    return place, (place + 1 + lap % (available - 1)) % available


@dataclass(frozen=True)
class _Moved:
    """What mixing changed in each of N pairs, all ranks' rows, float64 on the CPU; V counts source and mixtures."""

    colour: Float64[Tensor, "N V"]
    """Summed squared differences from the base of the mean colours of 4 x 4 patches."""
    structure: Float64[Tensor, "N V"]
    """1 - correlation with the base of the grey image's slopes."""
    labels: Float64[Tensor, "N V K"]
    """Difference of each label's estimate from the base's."""


@dataclass(frozen=True)
class Mix(AbstractAnalysis):
    """Grids of images whose bases (left) take some layers from sources (above), and how much moves with these layers.

    Real images are encoded if a source is given, else samples are mixed. A range a-b is the published figure's cut
    (a, b): the images that keep their own code there are the sources.
    """

    name = "mix"
    requires = AbstractLayeredDecoder

    scales: tuple[str, ...] = SCALES
    """Layers that are taken from the source, a grid each: coarse, middle, fine, or ranges such as 0-1,0-2,2-end."""
    num_sources: int = 4
    """Columns of a grid."""
    num_bases: int = 6
    """Rows of a grid."""
    num_pairs: int = 256
    """Random pairs of base and source that are measured."""
    regressor: str | None = None
    """File of a label regressor, which measures how far every label moves; null: pixels are measured alone."""
    pose_labels: tuple[str, ...] = ("yaw", "pitch", "roll")
    """Labels of pose, whose mean transfer is compared with that of the labels of colour."""
    colour_labels: tuple[str, ...] = ("skin_tone", "hair_colour")
    """Labels of colour; of either group, those that the regressor does not know are left out."""
    numpy_sources: tuple[int, ...] = ()
    """Where samples are mixed: shows the sources that StyleGAN's program draws from these seeds, not `num_sources`
    others. Published: 639,701,687,615,2268 with numpy_bases 888,829,1898,1733,1614,845 and scales 0-4,4-8,8-end."""
    numpy_bases: tuple[int, ...] = ()
    """The same of the bases."""
    seed: int = 0
    """Of the latents, or of the choice of images."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", scale_words("mix", "scales", self.scales))
        for option in ("numpy_sources", "numpy_bases"):
            object.__setattr__(self, option, check_numpy_seeds("mix", option, getattr(self, option)))
        for option in ("num_sources", "num_bases", "num_pairs", "batch_size"):
            if getattr(self, option) < 1:
                raise ValueError(f"mix needs {option} of at least 1, got {getattr(self, option)}")

    @torch.no_grad()
    def run(self, model: AbstractLayeredDecoder, source: ImageSource | None) -> Result:
        """Numbers, for every entry of `scales`, over pairs i of a base b, a source s and the base with s's layers, m:

            colour_shift: sqrt(sum_i |P(m) - P(b)|^2 / sum_i |P(s) - P(b)|^2), P the mean colours of 4 x 4 patches
            structure_shift: sum_i (1 - r(m, b)) / sum_i (1 - r(s, b)), r the correlation of the absolute slopes of the
                grey images over all pixels
            transfer of each label: sum_i (y(m) - y(b)) (y(s) - y(b)) / sum_i (y(s) - y(b))^2, y the regressor's
                estimate: the share of the way from base to source, by least squares

        In all of them 0 is nothing moved, 1 all; 0 where bases and sources do not differ. Of drawn faces at 32
        pixels, other poses alone give a colour_shift of 0.14 and a structure_shift of 0.51, other colours alone 0.96
        and 0.40.

        Then, if there is a regressor of such labels, `coarse_pose_over_colour` and `fine_colour_over_pose`: the mean
        transfer of one group of labels over that of the other, the denominator at least 0.01.

        Raises:
            TypeError: if real images are given and the model cannot encode.
            ValueError: if the source has fewer than two images or the model lacks such layers.
        """
        layers = {word: parse_layers(word, model.layer_resolutions) for word in self.scales}
        regressor = None if self.regressor is None else load_regressor(self.regressor).to(device_of(model))
        places = None if source is None else self._places(model, source)
        moved = self._measure(model, source, places, layers, regressor)
        transfers = self._transfers(moved, _labels_of(regressor))
        numbers: dict[str, float] = {}
        for row, word in enumerate(self.scales, start=1):
            numbers[f"colour_shift_{word}"] = _share(moved.colour[:, row].sum(), moved.colour[:, 0].sum()) ** 0.5
            numbers[f"structure_shift_{word}"] = _share(moved.structure[:, row].sum(), moved.structure[:, 0].sum())
            numbers |= {f"transfer_{word}_{label}": value for label, value in transfers[word].items()}
        ratios, notes = self._ratios(transfers, regressor)
        protocol: dict[str, Any] = {
            **situation(model),
            "mixed": "samples" if source is None else "encoded images",
            "layers": layers_in_words(model, layers),
            "num_pairs": self.num_pairs,
            "seed": self.seed,
            "curated": source is None and bool(self.numpy_sources or self.numpy_bases),
            "notes": [*growth_notes(model), *notes],
        }
        if source is None:
            protocol["streams"] = [BASES, SOURCES]
        if regressor is not None:
            protocol["regressor"] = regressor.describe()
        return Result(self.name, numbers | ratios, protocol, self._grids(model, source, places, layers))

    # ------------------------------------------------------------------------------------------------ numbers

    def _places(self, model: AbstractLayeredDecoder, source: ImageSource) -> list[int]:
        require(model, AbstractAutoencoder, by="mix")  # type: ignore[type-abstract]
        return shuffled_places(len(source), self.seed, "mix")

    def _pairs(
        self, model: Any, source: ImageSource | None, places: list[int] | None, indices: range
    ) -> tuple[Latents, Latents]:
        """Codes of the bases and of the sources of these pairs."""
        if source is None or places is None:
            return (
                prior_latents(model, self.seed, BASES, indices),
                prior_latents(model, self.seed, SOURCES, indices),
            )
        pairs = [pair_of(index, len(places)) for index in indices]
        needed = sorted({places[one] for pair in pairs for one in pair})
        codes = torch.cat(
            [
                model.encode(real_images(model, source, [needed[i] for i in piece]))
                for piece in batches(range(len(needed)), self.batch_size)
            ]
        )
        row = {place: number for number, place in enumerate(needed)}
        base, other = (codes[[row[places[one]] for one in column]] for column in zip(*pairs, strict=True))
        return base, other

    def _measure(
        self,
        model: AbstractLayeredDecoder,
        source: ImageSource | None,
        places: list[int] | None,
        layers: Mapping[str, range],
        regressor: LabelRegressor | None,
    ) -> _Moved:
        mine = share(self.num_pairs)
        versions = 1 + len(layers)
        colour = [torch.empty(0, versions, dtype=torch.float64)]
        structure = [torch.empty(0, versions, dtype=torch.float64)]
        labels = [torch.empty(0, versions, len(_labels_of(regressor)), dtype=torch.float64)]
        for indices in batches(mine, self.batch_size):
            base, other = (repeat(codes, model.num_layers) for codes in self._pairs(model, source, places, indices))
            styles = [base, other, *(mix(base, other, chosen) for chosen in layers.values())]
            pictures = torch.stack([model.decode_layers(one).float().clamp(-1.0, 1.0) for one in styles])
            colour.append(colour_differences(pictures).cpu())
            structure.append(structure_differences(pictures).cpu())
            if regressor is None:
                labels.append(labels[0].new_empty(len(indices), versions, 0))
            else:
                estimates = torch.stack([regressor(one).double() for one in pictures], dim=1)
                labels.append((estimates[:, 1:] - estimates[:, :1]).cpu())
        index = as_tensor(mine)
        return _Moved(*(distributed.gather_ragged(torch.cat(rows), index)[0] for rows in (colour, structure, labels)))

    def _transfers(self, moved: _Moved, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Of each label by entry of `scales`."""
        whole = moved.labels[:, 0]
        return {
            word: {
                label: _share((moved.labels[:, row, k] * whole[:, k]).sum(), whole[:, k].square().sum())
                for k, label in enumerate(names)
            }
            for row, word in enumerate(self.scales, start=1)
        }

    def _ratios(
        self, transfers: Mapping[str, Mapping[str, float]], regressor: LabelRegressor | None
    ) -> tuple[dict[str, float], list[str]]:
        """Ratios of the two groups' mean transfers, and remarks about labels that the regressor cannot tell."""
        if regressor is None:
            return {}, []
        names = regressor.names
        wanted = (*self.pose_labels, *self.colour_labels)
        unknown = [label for label in wanted if label not in names]
        poor = [label for label in wanted if label in names and label not in regressor.reliable]
        notes = [f"the regressor does not know {', '.join(unknown)}: left out of the ratios"] if unknown else []
        notes += [f"the regressor estimates {', '.join(poor)} poorly: their transfers mean little"] if poor else []
        groups = {
            "pose": [label for label in self.pose_labels if label in names],
            "colour": [label for label in self.colour_labels if label in names],
        }
        if not all(groups.values()):
            return {}, notes
        ratios = {}
        for word, over, under in (("coarse", "pose", "colour"), ("fine", "colour", "pose")):
            if word in transfers:
                above, below = (
                    sum(transfers[word][label] for label in groups[group]) / len(groups[group])
                    for group in (over, under)
                )
                ratios[f"{word}_{over}_over_{under}"] = above / max(below, LEAST_SHARE)
        return ratios, notes

    # ----------------------------------------------------------------------------------------------- pictures

    def _grids(
        self,
        model: AbstractLayeredDecoder,
        source: ImageSource | None,
        places: list[int] | None,
        layers: Mapping[str, range],
    ) -> dict[str, Float[Tensor, "1 C h w"]]:
        """A sheet for each entry of `scales`; real images frame what is decoded from their codes."""
        frames: list[Images] = []
        if source is None or places is None:
            sources = chosen_latents(model, self.num_sources, self.seed, SOURCES, self.numpy_sources)
            bases = chosen_latents(model, self.num_bases, self.seed, BASES, self.numpy_bases)
        else:
            encoder = require(model, AbstractAutoencoder, by="mix")  # type: ignore[type-abstract]
            chosen = [places[i % len(places)] for i in range(self.num_sources + self.num_bases)]
            photos = real_images(model, source, chosen)
            frames = [photos[: self.num_sources].cpu(), photos[self.num_sources :].cpu()]
            codes = torch.cat([encoder.encode(piece) for piece in photos.split(self.batch_size)])
            sources, bases = codes[: self.num_sources], codes[self.num_sources :]
        above = repeat(sources, model.num_layers)
        beside = repeat(bases, model.num_layers)
        heads = [*frames[:1], decode_pictures(model, above, self.batch_size)]
        edges = [*frames[1:], decode_pictures(model, beside, self.batch_size)]
        sheets = {}
        for word, chosen_layers in layers.items():
            mixed = mix(beside.repeat_interleave(len(sources), dim=0), above.repeat(len(bases), 1, 1), chosen_layers)
            cells = decode_pictures(model, mixed, self.batch_size).unflatten(0, (len(bases), len(sources)))
            sheets[f"mix_{word}"] = enlarge(_framed(heads, edges, cells), magnification(model.resolution))
        return sheets


def colour_differences(pictures: Pictures) -> Float64[Tensor, "N v"]:
    """Summed squared differences of mean colours of 4 x 4 patches from those of the first version, (N, V - 1)."""
    patches = torch.stack([F.adaptive_avg_pool2d(one.double(), _COLOUR_PATCHES).flatten(1) for one in pictures], dim=1)
    return (patches[:, 1:] - patches[:, :1]).square().sum(2)


def structure_differences(pictures: Pictures) -> Float64[Tensor, "N v"]:
    """1 - correlation with the first version of the absolute slopes of the grey images, (N, V - 1), in [0, 2].

    The slope at a pixel is the length of the vector of differences to its neighbours to the right and below. An even
    picture correlates with nothing.
    """
    grey = pictures.double().mean(2)
    across = grey[..., :-1, 1:] - grey[..., :-1, :-1]
    down = grey[..., 1:, :-1] - grey[..., :-1, :-1]
    slopes = (across.square() + down.square()).sqrt().flatten(2)
    slopes = F.normalize(slopes - slopes.mean(2, keepdim=True), dim=2)
    return 1.0 - (slopes[1:] * slopes[:1]).sum(2).T


def _labels_of(regressor: LabelRegressor | None) -> tuple[str, ...]:
    return () if regressor is None else regressor.names


def _share(part: Tensor, whole: Tensor) -> float:
    return (part / whole).item() if whole > 0 else 0.0


def _framed(
    heads: Sequence[Tensor], edges: Sequence[Tensor], cells: Float[Tensor, "B S C H W"]
) -> Float[Tensor, "1 C h w"]:
    """A sheet with rows of heads (S, C, H, W) over, and columns of edges (B, C, H, W) beside the cells."""
    corner = cells.new_ones(len(edges), *cells.shape[2:])
    rows = [torch.cat([corner, head]) for head in heads]
    rows += [torch.cat([*(edge[b : b + 1] for edge in edges), row]) for b, row in enumerate(cells)]
    return make_grid(torch.cat(rows), len(edges) + cells.shape[1])
