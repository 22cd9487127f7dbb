"""Drawn discs that age by known rules: domains in which the age of any image, generated ones included, can be measured.

What they show at an age, and the oracle that reads it off, is in `networks.drawn_age`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab import images
from latent_lab.data.base import AbstractImageData
from latent_lab.data.framing import halvings, resolutions_up_to
from latent_lab.data.plans import PackedRow, PackingPlan
from latent_lab.data.readers import OddFile
from latent_lab.distributed import IndexedRandom
from latent_lab.networks import drawn_age
from latent_lab.types import Images

AGES = (15.0, 25.0, 35.0, 45.0, 55.0, 65.0)
"""Nominal ages of the six domains of the published chain."""

_WHITE, _RED, _BLUE = (0.95, 0.95, 0.95), (0.95, 0.08, 0.08), (0.08, 0.08, 0.95)
_DARKEST, _BRIGHTEST = 0.15, 0.35
_PALEST = 0.4
_FARTHEST = 0.12


class Discs(NamedTuple):
    """What N discs look like, beside their age."""

    background: Float[Tensor, "N 3"]
    """RGB in [0, 1], dark."""
    place: Float[Tensor, "N 2"]
    """Middle of the disc, x and y, in units of half the image's side."""


def sample_discs(seed: int, indices: range) -> Discs:
    """Persons; a row depends on seed and index alone.

    Args:
        seed: of all of them.
        indices: one for each.
    """
    uniform = IndexedRandom(seed, "synthetic_ageing/person").uniform(indices, 6)
    hue = _PALEST + (1.0 - _PALEST) * uniform[:, :3]
    brightness = _DARKEST + (_BRIGHTEST - _DARKEST) * uniform[:, 3:4]
    background = brightness * hue / hue.amax(1, keepdim=True)
    return Discs(background, _FARTHEST * (2.0 * uniform[:, 4:] - 1.0))


def draw_discs(discs: Discs, ages: Float[Tensor, "N"], resolution: int) -> Images:
    """These persons at these ages in years, (N, 3, R, R) in [-1, 1]; every edge covers pixels in part."""
    centres = (2.0 * torch.arange(resolution) + 1.0) / resolution - 1.0
    x = centres[None, None, :] - discs.place[:, 0, None, None]
    y = centres[None, :, None] - discs.place[:, 1, None, None]
    distance = (x.square() + y.square()).sqrt()
    pictures = discs.background[:, :, None, None].expand(-1, -1, resolution, resolution)
    for radius, colour in (
        (drawn_age.disc_radius(ages), _WHITE),
        (drawn_age.red_radius(ages), _RED),
        (drawn_age.blue_radius(ages), _BLUE),
    ):
        # Half a pixel on either side of the edge is covered in part; a disc without size covers nothing.
        covered = ((radius[:, None, None] - distance) * resolution / 2.0 + 0.5).clamp(0.0, 1.0)
        covered = covered * (radius > 0)[:, None, None]
        pictures = torch.lerp(pictures, torch.tensor(colour)[None, :, None, None], covered[:, None])
    return images.from_unit(pictures)


class SyntheticAgeing(AbstractImageData):
    """Drawn discs of known age, built in, for tests of translation between ages (`networks.drawn_age` has the rules).

    Labels are `identity` (a number of its own for every image) and `age` in years; every split has equally many images
    of each nominal age. The estimator `drawn` measures the age of any such image exactly.

    Args:
        num_images: training images of all ages together.
        num_val: validation images.
        num_test: test images.
        resolution: of the largest level, 4 * 2^k pixels; smaller ones are its repeated 2x2 means.
        ages: nominal ages in years, one for each domain.
        spread: ages differ from the nominal one by up to so many years, evenly.
        discs_seed: of persons and ages. It is not `seed`, so that runs with different seeds see the same images.
        mirror: whether training images are mirrored with probability 1/2.
        cache_dir: folder for packs; none: the environment variable LATENT_LAB_CACHE or ~/.cache/latent_lab.
        num_workers: loader processes; 0 is fast, since packed images are memory-mapped.
        seed: of the order of training images.
        epoch_kimg: thousands of images in what Lightning calls an epoch.
        eval_batch_size: images per evaluation step over all devices.
    """

    def __init__(
        self,
        num_images: int = 3000,
        num_val: int = 600,
        num_test: int = 600,
        resolution: int = 32,
        ages: Sequence[float] = AGES,
        spread: float = 2.0,
        discs_seed: int = 0,
        mirror: bool = False,
        cache_dir: str | Path | None = None,
        num_workers: int = 0,
        seed: int = 0,
        epoch_kimg: float = 10.0,
        eval_batch_size: int = 64,
    ) -> None:
        self.record_recipe(locals())
        super().__init__(
            root=None,
            resolution=resolution,
            mirror=mirror,
            seed=seed,
            epoch_kimg=epoch_kimg,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            cache_dir=cache_dir,
        )
        if min(num_images, num_val, num_test) < 1:
            raise ValueError(
                f"num_images, num_val and num_test must be at least 1, got {num_images}, {num_val} and {num_test}"
            )
        if not ages:
            raise ValueError("ages must name at least one nominal age, such as 25, got none")
        if spread < 0:
            raise ValueError(f"spread must not be negative, got {spread} years")
        self.sizes = {"train": num_images, "val": num_val, "test": num_test}
        self.ages = tuple(float(age) for age in ages)
        self.spread = spread
        self.discs_seed = discs_seed

    def plan(self) -> PackingPlan:
        """All discs: first the training images, then val, then test; nominal ages take turns in each."""
        total = sum(self.sizes.values())
        resolutions = resolutions_up_to(self.resolution)
        nominal = torch.tensor([self.ages[number % len(self.ages)] for n in self.sizes.values() for number in range(n)])
        uniform = IndexedRandom(self.discs_seed, "synthetic_ageing/age").uniform(range(total))[:, 0]
        ages = nominal + self.spread * (2.0 * uniform - 1.0)
        split, first = {}, 0
        for name, count in self.sizes.items():
            split[name] = range(first, first + count)
            first += count

        def draw(places: range) -> Sequence[PackedRow | OddFile]:
            chosen = sample_discs(self.discs_seed, places)
            pixels = images.to_bytes(draw_discs(chosen, ages[list(places)], self.resolution)).numpy()
            return [PackedRow(halvings(disc, resolutions), codec="drawn") for disc in pixels]

        return PackingPlan(
            names=[f"disc {place}" for place in range(total)],
            split=split,
            resolutions=resolutions,
            read=draw,
            settings={
                "source": "synthetic ageing",
                "discs_seed": self.discs_seed,
                "ages": list(self.ages),
                "spread": self.spread,
                "downscale": "box",
            },
            fingerprint=_drawing_digest(),
            label_names=("identity", "age"),
            labels=torch.stack([torch.arange(total, dtype=torch.float32), ages], dim=1).numpy(),
        )


def _drawing_digest() -> str:
    """Digest of the code that draws: another code may draw other discs."""
    files = (Path(__file__), Path(drawn_age.__file__))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


__all__ = ["AGES", "Discs", "SyntheticAgeing", "draw_discs", "sample_discs"]
