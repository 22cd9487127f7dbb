"""Images of objects from known views: turntables, grids of cameras, camera runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from latent_lab.data.base import AbstractImageData
from latent_lab.data.framing import Framing
from latent_lab.data.plans import PackingPlan, files_plan
from latent_lab.data.readers import list_images
from latent_lab.data.splits import Split
from latent_lab.data.view_splits import hold_out_views
from latent_lab.data.view_tables import ViewTable, read_views

VIEW_LABELS = ("object", "view")
"""The first labels of every data set of views: numbers from 0 of the object and of the view. Equal views of a data set
have equal poses; in a camera run the view is the frame."""

HoldOut: TypeAlias = Literal["pairs", "none"]


class MultiViewImages(AbstractImageData):
    """A folder of images of objects from known views, such as a turntable's, or of a run of a camera past one scene.

    Poses are camera-to-object; labels are `object` and `view`, numbers from 0. Images are never mirrored, since a
    mirrored object is another object. Besides train, val and test (pairs of object and view that training lacks), the
    split "unseen_views" has the views that no object shows in training.

    Args:
        root: the folder; images may lie in folders below it.
        views: CSV table with the columns file, object, and azimuth (degrees, of the camera around the object,
            counter-clockwise from above; elevation may be added) or a camera-to-object rotation (r11 ... r33, or
            quaternion qw qx qy qz; position tx ty tz may be added). Or a file of camera poses, for a run:
            transforms.json, ARKit's JSON, COLMAP's images.txt, .npy, or a table without a head of time, frame, position
            and the rotation's columns. Given relative to `root` or to the working folder.
        resolution: of the largest level, 4 * 2^k pixels. Smaller images are enlarged, and a report says how many.
        crop: "center" (the largest centred square), "none" (the whole image, stretched if it is not square), or a box
            [left, top, right, bottom] in pixels.
        downscale: "bilinear" (antialiased triangle filter), "lanczos", or "box" (repeated 2x2 means).
        holdout: "pairs" holds out views and pairs as below; "none" has all images, in order of object and view, as
            train, val and test alike: for runs on which a model of other data is tried.
        unseen_share: share of the views that are held out of all objects, evenly spread over the views.
        heldout_share: share of the other (object, view) pairs that are held out at random, half val, half test; every
            object and every other view remain in training.
        split_seed: of the choice of pairs. It is not `seed`, so that runs with different seeds are tested on the same
            images.
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
        views: str | Path = "poses.csv",
        resolution: int = 32,
        crop: list[int] | str = "center",
        downscale: str = "bilinear",
        holdout: HoldOut = "pairs",
        unseen_share: float = 0.1,
        heldout_share: float = 0.2,
        split_seed: int = 0,
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
            mirror=False,
            seed=seed,
            epoch_kimg=epoch_kimg,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            cache_dir=cache_dir,
            max_bad_share=max_bad_share,
        )
        if holdout not in get_args(HoldOut):
            raise ValueError(f"holdout must be one of {', '.join(get_args(HoldOut))}, got {holdout!r}")
        self.views = Path(views).expanduser()
        self.framing = Framing(crop=crop, downscale=downscale)
        self.holdout = holdout
        self.unseen_share = unseen_share
        self.heldout_share = heldout_share
        self.split_seed = split_seed

    def plan(self) -> PackingPlan:
        """The images with a known view, by object, then by view."""
        assert self.root is not None
        images = list_images(self.root)
        beside = self.root / self.views
        table = read_views(self.views if self.views.exists() and not beside.exists() else beside, images)
        return files_plan(
            self.root,
            table.files,
            self._split(table),
            self.resolution,
            self.framing,
            settings={
                "source": self.root.resolve().name,
                "objects": len(table.object_names),
                "views": len(np.unique(table.views)),
                "holdout": self.holdout,
                "split_seed": self.split_seed,
            },
            label_names=VIEW_LABELS,
            labels=np.stack([table.objects, table.views], axis=1).astype(np.float32),
            pose=table.poses.astype(np.float32),
            notes=(_counted(table), *table.notes),
        )

    def _split(self, table: ViewTable) -> Split:
        if self.holdout == "none":
            return {part: range(len(table.files)) for part in ("train", "val", "test")}
        return hold_out_views(
            table.objects.tolist(),
            table.views.tolist(),
            unseen_share=self.unseen_share,
            heldout_share=self.heldout_share,
            seed=self.split_seed,
        )


def _counted(table: ViewTable) -> str:
    return f"They show {len(table.object_names)} objects from {len(np.unique(table.views))} views."


__all__ = ["VIEW_LABELS", "HoldOut", "MultiViewImages"]
