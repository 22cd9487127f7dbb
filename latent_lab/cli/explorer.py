"""What the page of `latent-lab explore` does, without the page: one model looked at, and two joined by a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import nn

from latent_lab import images
from latent_lab.analyses.feeding import alpha_of, batches, device_of, prior_latents
from latent_lab.analyses.mix import growth_notes
from latent_lab.analyses.sample import STREAM
from latent_lab.data.framing import Framing
from latent_lab.data.readers import TooManyPixels, UnreadableImage, image_size, read_image
from latent_lab.latent.directions import (
    Axes,
    Direction,
    factorised_directions,
    principal_directions,
    reading_weights,
)
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractLayeredDecoder
from latent_lab.latent.mapped import mapped
from latent_lab.latent.maps import Map, NormalEquations, fit_ridge
from latent_lab.latent.styles import SCALES, mix, parse_layers, repeat, scales
from latent_lab.latent.views import Truncated, WSpaceView
from latent_lab.metrics.functional.mapping import explained_variance
from latent_lab.types import Images, Latents

ALL_LAYERS = "all"
AXES = "explore/axes"
"""Name of the random stream of the samples from which principal directions and deviations are taken."""
PAIRS = "explore/pairs"
"""Name of the random stream of the samples to which maps are fitted."""
MAX_BYTES = 20 * 2**20
"""Of an image file."""
MAX_PIXELS = 50_000_000
"""Of an image."""
_NUM_FOR_AXES = 4096
_UNIT = 1e-3
"""Directions whose length differs less from 1 are of unit length."""
_RIDGE = 0.01
"""Penalty of maps, in units of the mean variance of the source's coordinates."""
_LAST_SAMPLE = 2**31 - 1
_SHOWN_PIXELS = 160
"""Small pictures are enlarged to at most so many pixels per side."""
_HELD_OUT_SHARE = 4
"""Every so many-th pair judges a map instead of determining it."""

Picture: TypeAlias = UInt8[np.ndarray, "h w *C"]
"""As a browser shows it: RGB, or grey without channels, 0 ... 255."""


@dataclass(frozen=True)
class Axis:
    """A direction with a slider."""

    name: str
    direction: Direction
    """What strength 1 adds."""


class Explorer:
    """One model, sample by sample and photograph by photograph.

    Latents go in and come out on the CPU, so that pages may keep them.

    Args:
        name: of the model, for people.
        model: a decoder in evaluation mode, or a view of one.
        seed: of its samples, which are those of `latent-lab sample`.
        channels: of its images, 3 or 1.
        attributes: name -> direction (1, D); see `axes`.
        num_axes: number of principal directions, at most D.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        *,
        seed: int = 0,
        channels: int = 3,
        attributes: Mapping[str, Direction] | None = None,
        num_axes: int = 6,
    ) -> None:
        self.name = name
        self.model = model
        self.seed = seed
        self.channels = channels
        self.num_axes = num_axes
        self._attributes = dict(attributes or {})

    # ------------------------------------------------------------------------------------------- what it can do

    @property
    def encodes(self) -> bool:
        """Whether photographs have latents."""
        return isinstance(self.model, AbstractAutoencoder)

    @property
    def scales(self) -> tuple[str, ...]:
        """Names of the scales that can be mixed; none of a decoder with one latent for all layers."""
        if not isinstance(self.model, AbstractLayeredDecoder):
            return ()
        found = scales(self.model.layer_resolutions)
        return tuple(name for name in SCALES if found[name])

    @property
    def lacks(self) -> list[str]:
        """A sentence for each thing that this model cannot do."""
        inner = self.model
        while isinstance(inner, WSpaceView | Truncated):
            inner = inner.decoder
        kind = type(inner).__name__
        sentences = []
        if not self.encodes:
            sentences.append(f"{kind} has no encoder, so photographs cannot be reconstructed or edited.")
        if not self.scales:
            sentences.append(f"{kind} has one latent for all layers, so images cannot be mixed scale by scale.")
        else:
            sentences += [f"{note[0].upper()}{note[1:]}." for note in growth_notes(self.model)]
        if not self.axes and self.num_axes:
            sentences.append(f"No layer of {kind} reads this latent as it is, and no --direction was given: no moves.")
        return sentences

    @cached_property
    def axes(self) -> list[Axis]:
        """Attributes first, then the principal directions.

        Strength 1 adds one deviation of samples along directions of unit length, which are normals of hyperplanes and
        principal directions, and any other direction as long as it is.
        """
        samples = self._prior(AXES, range(_NUM_FOR_AXES))
        named = dict(self._attributes)
        principal = self._principal(samples) if self.num_axes else None
        if principal is not None:
            named |= {f"axis {place}": row[None] for place, row in enumerate(principal.directions, start=1)}
        return [Axis(name, direction * _step(direction, samples)) for name, direction in named.items()]

    @property
    def meaning_of_axes(self) -> str:
        """Where the principal directions come from, in words."""
        if self.model.latent_space.prior_law == "other":
            return "the directions in which samples vary most (GANSpace)"
        return "the directions that the layers which read the latent amplify most (SeFa)"

    # ---------------------------------------------------------------------------------------------- what it does

    @torch.no_grad()
    def sample(self, number: int) -> Latents:
        """The latent (1, D) of one of the fixed samples, counted from 0.

        Raises:
            ValueError: if there is no such sample.
        """
        if not 0 <= number <= _LAST_SAMPLE:
            raise ValueError(f"samples are numbered 0 to {_LAST_SAMPLE}, got {number}")
        return self._prior(STREAM, range(number, number + 1))

    @torch.no_grad()
    def samples(self, first: int, count: int) -> list[tuple[Picture, str]]:
        """Pictures of consecutive samples, with their numbers.

        Raises:
            ValueError: if there are no such samples.
        """
        if count < 1 or not 0 <= first <= _LAST_SAMPLE - count:
            raise ValueError(f"samples are numbered 0 to {_LAST_SAMPLE}, got {count} from {first} on")
        numbers = range(first, first + count)
        pictures = self.decode(self._prior(STREAM, numbers))
        return [(picture_of(one[None]), str(number)) for one, number in zip(pictures, numbers, strict=True)]

    @torch.no_grad()
    def picture(self, latents: Latents) -> Picture:
        """Of one latent (1, D)."""
        return picture_of(self.decode(latents))

    @torch.no_grad()
    def decode(self, latents: Latents) -> Images:
        """Images (N, C, R, R) of latents (N, D), clamped, on the CPU."""
        decoded: Images = self.model.decode(latents.to(device_of(self.model)))
        return decoded.float().clamp(-1.0, 1.0).cpu()

    @torch.no_grad()
    def photograph(self, file: str | Path) -> Images:
        """The largest centred square of an image file as the model sees it, (1, C, R, R).

        Raises:
            ValueError: as `read_photograph`.
        """
        seen = read_photograph(Path(file), self.model.resolution, grey=self.channels == 1)
        return images.fade_images(seen, alpha_of(self.model))

    @torch.no_grad()
    def encode(self, photograph: Images) -> Latents:
        """The latent (1, D) of a photograph."""
        latents: Latents = self.model.encode(photograph.to(device_of(self.model)))
        return latents.float().cpu()

    @torch.no_grad()
    def reconstruct(self, file: str | Path) -> tuple[Picture, Picture, float]:
        """A photograph as the model sees it, its reconstruction, and their mean squared error in the range [-1, 1].

        Raises:
            ValueError: as `read_photograph`.
        """
        seen = self.photograph(file)
        decoded = images.quantise(self.decode(self.encode(seen)))
        return picture_of(seen), picture_of(decoded), (decoded - seen).square().mean().item()

    @torch.no_grad()
    def mix(self, base: Latents, source: Latents, taken: Sequence[str]) -> Picture:
        """The base with some scales of the source.

        Args:
            base: (1, D).
            source: (1, D).
            taken: names of scales, as in `scales`; none: the base as it is.
        """
        layers = self.model.num_layers
        styles = repeat(base, layers)
        for scale in taken:
            styles = mix(styles, repeat(source, layers), parse_layers(scale, self.model.layer_resolutions))
        return picture_of(self.model.decode_layers(styles.to(device_of(self.model))))

    @torch.no_grad()
    def move(self, latents: Latents, strengths: Sequence[float], layers: str = ALL_LAYERS) -> Picture:
        """The picture of a latent that was moved along the axes and projected to the latent space.

        Args:
            latents: (1, D).
            strengths: of each of `axes`.
            layers: name of the scale whose layers see the moved latent, or all.
        """
        steps = zip(strengths, self.axes, strict=True)
        moved = latents + sum((by * axis.direction for by, axis in steps), torch.zeros_like(latents))
        # Where nothing moves, projecting would only round.
        moved = self.model.latent_space.project(moved) if any(strengths) else latents
        return self.picture(moved) if layers == ALL_LAYERS else self.mix(latents, moved, [layers])

    @torch.no_grad()
    def interpolate(self, start: Latents, end: Latents, share: float) -> Picture:
        """The picture at a share in [0, 1] of the way between two latents (1, D), on the space's own path."""
        return self.picture(self.model.latent_space.interpolate(start, end, share))

    # -------------------------------------------------------------------------------------------------- beneath

    def _prior(self, stream: str, indices: range) -> Latents:
        return prior_latents(self.model, self.seed, stream, indices).float().cpu()

    @torch.no_grad()
    def _principal(self, samples: Latents) -> Axes | None:
        """Principal directions; none if the prior has none and no layer reads the latent."""
        if self.model.latent_space.prior_law == "other":
            return principal_directions(samples, self.num_axes)
        if not isinstance(self.model, nn.Module):
            return None
        decoder: Any = self.model
        weights = reading_weights(decoder, decoder.decode, samples[:1].to(device_of(decoder)))
        return factorised_directions([one.cpu() for one in weights], self.num_axes) if weights else None


class Bridge:
    """Two models side by side: latents of the first one, decoded by both.

    Args:
        source: whose latents are decoded.
        fitted: map from its latent space to the target's.
        target: whose images stand beside.
        origin: sentences about where the map comes from.
        of_codes: whether the map was fitted to what the source's encoder says of images. Samples of the prior may lie
            where no image is encoded, and are then mapped to where the target never was; so the code of their picture
            is mapped in their place.

    Raises:
        ValueError: if the map is of other spaces.
    """

    def __init__(self, source: Explorer, fitted: Map, target: Explorer, origin: str, *, of_codes: bool) -> None:
        self.source = source
        self.target = target
        self.origin = origin
        self.of_codes = of_codes
        self._joined = mapped(source.model, fitted.to(device_of(target.model)), target.model)

    @torch.no_grad()
    def picture(self, latents: Latents) -> Picture:
        """The target's picture of a latent of the source (1, D)."""
        given = self.source.encode(self.source.decode(latents)) if self.of_codes else latents
        return picture_of(self._joined.decode(given.to(device_of(self.target.model))))


@torch.no_grad()
def fit_bridge(
    source: Explorer,
    target: Explorer,
    num: int,
    *,
    batch_size: int = 64,
) -> Bridge:
    """Joins two models by an affine map between latents of the same generated images.

    Samples of the source are encoded by the target; if that one does not encode, samples of the target by the source.
    A quarter of the pairs judges the map. A small ridge penalty keeps it from amplifying directions in which the codes
    hardly vary.

    Args:
        source: whose latents are mapped.
        target: to whose space.
        num: of pairs.
        batch_size: images at a time.

    Raises:
        ValueError: if neither model encodes, or both are of other channels.
    """
    if not (source.encodes or target.encodes):
        raise ValueError(f"neither {source.name} nor {target.name} encodes, so nothing says which latents correspond")
    if source.channels != target.channels:
        raise ValueError(f"{source.name} has {source.channels} channels, {target.name} {target.channels}: no map")
    drawing, encoding = (source, target) if target.encodes else (target, source)
    drawn, encoded = [], []
    for indices in batches(range(num), batch_size, f"the map from {source.name} to {target.name}"):
        latents = prior_latents(drawing.model, drawing.seed, PAIRS, indices)
        seen = images.resize(drawing.model.decode(latents).float().clamp(-1.0, 1.0), encoding.model.resolution)
        drawn.append(latents.float().cpu())
        encoded.append(encoding.encode(seen))
    codes, others = torch.cat(drawn), torch.cat(encoded)
    given, wanted = (codes, others) if target.encodes else (others, codes)
    held_out = torch.arange(num) % _HELD_OUT_SHARE == 0
    equations = NormalEquations.of(given[~held_out], wanted[~held_out])
    fitted = fit_ridge(equations, _RIDGE * given[~held_out].var(0).mean().item(), affine=True)
    share = explained_variance(wanted[held_out], fitted.map(given[held_out])).pooled
    origin = (
        f"An affine map, fitted to {int((~held_out).sum())} samples of {drawing.name} that {encoding.name} encodes; of "
        f"{int(held_out.sum())} others it explains {share:.0%} of the variance of {target.name}'s latents."
    )
    return Bridge(source, fitted.map, target, origin, of_codes=drawing is target)


def read_photograph(file: Path, resolution: int, *, grey: bool = False) -> Images:
    """The largest centred square of an image file, (1, C, R, R) in [-1, 1].

    Args:
        file: whose content counts, not its name.
        resolution: R.
        grey: whether colours become one channel of grey.

    Raises:
        ValueError: with a sentence for the person who chose the file, if it is too large or no image.
    """
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{file.name} is too large: it has {size / 2**20:.1f} MB, {MAX_BYTES // 2**20} MB is the most")
    try:
        # An image of a few bytes may claim any number of pixels.
        width, height = image_size(file)
    except TooManyPixels:
        raise ValueError(f"{file.name} is too large: {MAX_PIXELS // 10**6} megapixels is the most") from None
    except UnreadableImage:
        raise ValueError(f"{file.name} is not an image that can be read: choose a JPEG, PNG or WebP file") from None
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{file.name} is too large: it has {width} x {height} pixels, {MAX_PIXELS // 10**6} megapixels is the most"
        )
    try:
        pixels, _ = read_image(file)
    except UnreadableImage as error:
        raise ValueError(f"{file.name} cannot be read: {error}") from error
    framed = np.asarray(Image.fromarray(pixels).convert("L")) if grey else pixels
    level = Framing().levels(framed, [resolution])[resolution]
    return images.from_bytes(torch.from_numpy(np.stack([level])))


def _step(direction: Direction, samples: Latents) -> float:
    """What strength 1 multiplies a direction by."""
    is_unit = abs(direction.norm().item() - 1.0) < _UNIT
    return (samples @ direction.T).std().item() if is_unit else 1.0


def picture_of(image: Images) -> Picture:
    """One image (1, C, R, R) in [-1, 1] as bytes, small ones with enlarged pixels."""
    shown = images.enlarge(image.float().cpu(), max(1, _SHOWN_PIXELS // image.shape[-1]))
    pixels = images.to_bytes(shown)[0].permute(1, 2, 0).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


__all__ = ["Axis", "Bridge", "Explorer", "Picture", "fit_bridge", "picture_of", "read_photograph"]
