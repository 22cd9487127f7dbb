"""Tiny-ImageNet: 100,000 photographs of 200 classes at 64 x 64 pixels, with 10,000 each to validate and test."""

from __future__ import annotations

from pathlib import Path

from latent_lab.data.base import AbstractImageData
from latent_lab.data.framing import Framing
from latent_lab.data.plans import PackingPlan, folder_plan


class TinyImageNet(AbstractImageData):
    """Tiny-ImageNet in its official layout; classes are not read.

    Args:
        root: folder with train/, val/ and test/, or one that holds it as tiny-imagenet-200/.
        resolution: of the largest level, 4 to 64 pixels; larger ones are enlarged. AGE: 32.
        mirror: whether training images are mirrored with probability 1/2 (AGE: no).
        max_bad_share: share of unreadable images up to which they are skipped; one is always tolerated, unless it is 0.
        cache_dir: folder for packs; none: the environment variable LATENT_LAB_CACHE or ~/.cache/latent_lab.
        num_workers: loader processes; 0 is fast, since packed images are memory-mapped.
        seed: of the order of training images.
        epoch_kimg: thousands of images in what Lightning calls an epoch.
        eval_batch_size: images per evaluation step over all devices.
    """

    def __init__(
        self,
        root: str | Path = "data/tiny-imagenet-200",
        resolution: int = 32,
        mirror: bool = False,
        max_bad_share: float = 0.01,
        cache_dir: str | Path | None = None,
        num_workers: int = 0,
        seed: int = 0,
        epoch_kimg: float = 10.0,
        eval_batch_size: int = 64,
    ) -> None:
        self.record_recipe(locals())
        super().__init__(
            root=root,
            resolution=resolution,
            mirror=mirror,
            seed=seed,
            epoch_kimg=epoch_kimg,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            cache_dir=cache_dir,
            max_bad_share=max_bad_share,
        )

    def plan(self) -> PackingPlan:
        """The folders' parts, each image as a whole, bilinear to each level."""
        assert self.root is not None
        return folder_plan(_find(self.root), self.resolution, Framing(crop="none"), split="folders")


def _find(root: Path) -> Path:
    for folder in (root, root / "tiny-imagenet-200"):
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            return folder
    raise ValueError(
        f"Tiny-ImageNet needs folders train and val in {str(root)!r}, and they are not there: get "
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip and unpack it into that folder"
    )


__all__ = ["TinyImageNet"]
