"""Any folder of images."""

from __future__ import annotations

from pathlib import Path

from latent_lab.data.base import AbstractImageData
from latent_lab.data.framing import Framing
from latent_lab.data.plans import PackingPlan, folder_plan


class ImageFolder(AbstractImageData):
    """A folder of image files of any sizes and formats, or one that `latent-lab prepare` has packed.

    Args:
        root: the folder; images may lie in folders below it.
        resolution: of the largest level, 4 * 2^k pixels. Smaller images are enlarged, and a report says how many.
        crop: "center" (the largest centred square), "none" (the whole image, stretched if it is not square), or a box
            [left, top, right, bottom] in pixels, such as [60, 20, 940, 900], the faces of StyleGAN's and CelebA-HQ's
            images of 1024 pixels for models of 64 (`latent.cropping` crops generated images so).
        shorter_side: brings the shorter side to this many pixels before the crop, which is then this large; none: does
            not.
        downscale: "bilinear" (antialiased triangle filter), "lanczos", or "box" (repeated 2x2 means).
        labels: CSV file with a column `file`; every column of numbers becomes a label, a column `split` can set splits.
            Given relative to the working folder or to `root`.
        split: "folders" (train/, val/, test/), "column" (of the labels file), "last" (the last `holdout` files in
            sorted order are both val and test), "hash" (of each name, 90 / 5 / 5), or "auto": the first of folders,
            column, hash that applies.
        holdout: number of images that "last" holds out, or their share if it is below 1.
        mirror: whether training images are mirrored with probability 1/2.
        max_bad_share: share of unreadable images up to which they are skipped; one is always tolerated, unless it is 0.
        cache_dir: folder for packs; none: the environment variable LATENT_LAB_CACHE or ~/.cache/latent_lab.
        num_workers: loader processes; 0 is fast, since packed images are memory-mapped.
        seed: of the order of training images.
        epoch_kimg: thousands of images in what Lightning calls an epoch.
        eval_batch_size: images per evaluation step over all devices.
    """

    def __init__(
        self,
        root: str | Path,
        resolution: int = 64,
        crop: list[int] | str = "center",
        shorter_side: int | None = None,
        downscale: str = "bilinear",
        labels: str | Path | None = None,
        split: str = "auto",
        holdout: int | float = 1000,
        mirror: bool = True,
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
        self.framing = Framing(crop=crop, shorter_side=shorter_side, downscale=downscale)
        self.labels = None if labels is None else Path(labels).expanduser()
        self.split = split
        self.holdout = holdout

    def plan(self) -> PackingPlan:
        """The folder's images."""
        assert self.root is not None
        labels = self.labels
        if labels is not None and not labels.is_file() and (self.root / labels).is_file():
            labels = self.root / labels
        return folder_plan(
            self.root, self.resolution, self.framing, labels=labels, split=self.split, holdout=self.holdout
        )


__all__ = ["ImageFolder"]
