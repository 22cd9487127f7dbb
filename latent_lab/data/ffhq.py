"""FFHQ: 70,000 aligned portraits up to 1024 pixels, as a folder of images."""

from __future__ import annotations

from pathlib import Path

from latent_lab.data.base import AbstractImageData
from latent_lab.data.framing import Framing
from latent_lab.data.plans import PackingPlan, files_plan
from latent_lab.data.readers import list_images
from latent_lab.data.splits import by_last


class FFHQ(AbstractImageData):
    """FFHQ, split as published: the first 60,000 portraits train, the last 10,000 are both val and test.

    Args:
        root: folder of the published images (images1024x1024, thumbnails128x128 or in-the-wild ones aligned alike);
            their numbers are their names, in folders below it or not.
        resolution: of the largest level, 4 * 2^k pixels, up to 1024.
        through: every image is brought to this many pixels first, as the Automodulator's program does (512; its first
            version 256); none: to each level directly.
        holdout: number of images, the last in sorted order, that are held out.
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
        root: str | Path = "data/ffhq",
        resolution: int = 256,
        through: int | None = None,
        holdout: int = 10_000,
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
        if through is not None and through < resolution:
            raise ValueError(f"through must be at least the resolution {resolution} or null, got {through}")
        self.through = through
        self.holdout = holdout

    def plan(self) -> PackingPlan:
        """The folder's portraits."""
        assert self.root is not None
        if not self.root.exists():
            raise ValueError(
                f"FFHQ is not at {str(self.root)!r}: get images1024x1024 (or thumbnails128x128) as "
                "https://github.com/NVlabs/ffhq-dataset says and put the folder there"
            )
        names = list_images(self.root)
        return files_plan(
            self.root,
            names,
            by_last(names, self.holdout),
            self.resolution,
            Framing(crop="center", shorter_side=self.through),
            settings={"source": "FFHQ"},
        )


__all__ = ["FFHQ"]
