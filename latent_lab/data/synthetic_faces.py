"""Drawn faces as a data set: identity, age, expression, light and pose of every image are known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from latent_lab import images
from latent_lab.data import synthetic_renderer
from latent_lab.data.base import AbstractImageData
from latent_lab.data.framing import halvings, resolutions_up_to
from latent_lab.data.plans import PackedRow, PackingPlan
from latent_lab.data.readers import OddFile
from latent_lab.data.splits import Split
from latent_lab.data.synthetic_renderer import (
    LABEL_NAMES,
    FaceFactors,
    camera_to_object,
    render,
    sample_factors,
)
from latent_lab.types import Images


class SyntheticFaces(AbstractImageData):
    """Faces drawn from known factors, built in. They are drawn once, in seconds, and packed like any other data.

    Labels are the factors, poses the cameras. Training images are not mirrored, since labels such as yaw have a side.

    Args:
        num_images: training images.
        num_val: validation images.
        num_test: test images.
        resolution: of the largest level, 4 * 2^k pixels; smaller ones are its repeated 2x2 means.
        framing: portrait (head and shoulders before a background) or face (the middle half of each side, about what
            CelebA's usual crops show), in which a mouth or glasses are twice as large.
        num_identities: number of persons that all images show, shared by the splits; none: every image its own person.
        faces_seed: of the faces. It is not `seed`, so that runs with different seeds are tested on the same faces.
        mirror: whether training images (not their labels) are mirrored with probability 1/2.
        cache_dir: folder for packs; none: the environment variable LATENT_LAB_CACHE or ~/.cache/latent_lab.
        num_workers: loader processes; 0 is fast, since packed images are memory-mapped.
        seed: of the order of training images.
        epoch_kimg: thousands of images in what Lightning calls an epoch.
        eval_batch_size: images per evaluation step over all devices.
    """

    def __init__(
        self,
        num_images: int = 4000,
        num_val: int = 500,
        num_test: int = 500,
        resolution: int = 32,
        framing: Literal["portrait", "face"] = "portrait",
        num_identities: int | None = None,
        faces_seed: int = 0,
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
        self.framing = framing
        self.sizes = {"train": num_images, "val": num_val, "test": num_test}
        self.num_identities = num_identities
        self.faces_seed = faces_seed

    def plan(self) -> PackingPlan:
        """All faces: first the training images, then val, then test."""
        total = sum(self.sizes.values())
        starts = np.cumsum([0, *self.sizes.values()]).tolist()
        parts = zip(self.sizes, starts, starts[1:], strict=False)
        return drawn_plan(
            lambda places: sample_factors(self.faces_seed, places, num_identities=self.num_identities),
            names=[f"face {place}" for place in range(total)],
            split={part: range(first, last) for part, first, last in parts},
            resolution=self.resolution,
            framing=self.framing,
            settings={
                "source": "synthetic faces",
                "faces_seed": self.faces_seed,
                "num_identities": self.num_identities,
            },
        )


def drawn_plan(
    factors_at: Callable[[Sequence[int]], FaceFactors],
    *,
    names: Sequence[str],
    split: Split,
    resolution: int,
    framing: Literal["portrait", "face"],
    settings: Mapping[str, Any],
    more_labels: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> PackingPlan:
    """The plan for faces that are drawn.

    Args:
        factors_at: the factors of the faces at given places.
        names: of the faces.
        split: their places.
        resolution: of the largest level, 4 * 2^k pixels; smaller ones are its repeated 2x2 means.
        framing: see `SyntheticFaces`.
        settings: plain data for the recipe, which decide the factors.
        more_labels: numbers of each face by name, before the factors among the labels.
    """
    resolutions = resolutions_up_to(resolution)
    factors = factors_at(range(len(names)))
    numbers = [np.asarray(column, dtype=np.float32)[:, None] for column in more_labels.values()]

    def draw(places: range) -> Sequence[PackedRow | OddFile]:
        pixels = images.to_bytes(_framed(factors.select(slice(places.start, places.stop)), resolution, framing)).numpy()
        return [PackedRow(halvings(face, resolutions), codec="drawn") for face in pixels]

    return PackingPlan(
        names=names,
        split=split,
        resolutions=resolutions,
        read=draw,
        settings={**settings, "crop": "none" if framing == "portrait" else "middle half", "downscale": "box"},
        fingerprint=_drawing_digest(),
        label_names=(*more_labels, *LABEL_NAMES),
        labels=np.concatenate([*numbers, factors.labels().numpy()], axis=1),
        pose=camera_to_object(factors).numpy(),
    )


def _framed(factors: FaceFactors, resolution: int, framing: Literal["portrait", "face"]) -> Images:
    """Drawn faces (N, 3, R, R)."""
    if framing == "portrait":
        return render(factors, resolution)
    first = resolution // 2
    middle = slice(first, first + resolution)
    return render(factors, 2 * resolution)[:, :, middle, middle]


def _drawing_digest() -> str:
    """Digest of the renderer's code: another code may draw other faces."""
    return hashlib.sha256(Path(synthetic_renderer.__file__).read_bytes()).hexdigest()


__all__ = ["SyntheticFaces", "drawn_plan"]
