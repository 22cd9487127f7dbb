"""LSUN: millions of photographs of one category, as the published LMDB or as a folder of images."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latent_lab.data.base import AbstractImageData
from latent_lab.data.framing import Framing, resolutions_up_to
from latent_lab.data.plans import PackedRow, PackingPlan, files_plan
from latent_lab.data.readers import OddFile, UnreadableImage, list_images, read_image
from latent_lab.data.splits import by_last

FRAMING = Framing(crop="center", shorter_side="resolution")
"""Published: for every resolution anew, the shorter side is brought to it and the centre cut out."""


class LSUN(AbstractImageData):
    """One category of LSUN; the last images are held out and are both val and test.

    Args:
        root: the category's LMDB folder (bedroom_train_lmdb or car, with data.mdb), a folder that holds it, or a folder
            of images. The LMDB needs the package `lmdb`. None: data/lsun_ and the category.
        category: scenes such as bedroom or church_outdoor, objects such as car or cat.
        resolution: of the largest level, 4 * 2^k pixels.
        max_images: use only the first so many; none: all. A million images at 256 pixels are packed into 262 GB.
        holdout: number of images that are held out.
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
        root: str | Path | None = None,
        category: str = "bedroom",
        resolution: int = 128,
        max_images: int | None = 200_000,
        holdout: int = 1000,
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
            root=f"data/lsun_{category}" if root is None else root,
            resolution=resolution,
            mirror=mirror,
            seed=seed,
            epoch_kimg=epoch_kimg,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            cache_dir=cache_dir,
            max_bad_share=max_bad_share,
        )
        if max_images is not None and max_images < 2:
            raise ValueError(f"max_images must be at least 2 or null, got {max_images}")
        self.category = category
        self.max_images = max_images
        self.holdout = holdout

    def plan(self) -> PackingPlan:
        """The records of the LMDB or the images of the folder."""
        assert self.root is not None
        if not self.root.exists():
            raise ValueError(
                f"LSUN's {self.category} images are not at {str(self.root)!r}: get their LMDB as "
                "https://github.com/fyu/lsun says (objects: http://dl.yf.io/lsun/objects) and unpack it there, or put "
                "a folder of images there"
            )
        database = _find_database(self.root, self.category)
        return self._folder_plan(self.root) if database is None else self._database_plan(database)

    @property
    def _source(self) -> str:
        return f"LSUN {self.category}"

    def _folder_plan(self, root: Path) -> PackingPlan:
        names = list_images(root)[: self.max_images]
        split = by_last(names, self.holdout)
        return files_plan(root, names, split, self.resolution, FRAMING, settings={"source": self._source})

    def _database_plan(self, database: Path) -> PackingPlan:
        environment = _open_database(database)
        with environment.begin() as transaction:
            keys = _first_keys(transaction, self.max_images)
        names = [key.decode("latin-1") for key in keys]
        resolutions = resolutions_up_to(self.resolution)

        def read_one(content: bytes, name: str) -> PackedRow | OddFile:
            try:
                pixels, codec = read_image(io.BytesIO(content))
            except UnreadableImage as error:
                return OddFile(name, str(error))
            levels = FRAMING.levels(pixels, resolutions)
            return PackedRow(levels, codec, enlarged=FRAMING.enlarges(pixels, resolutions[-1]))

        def read(places: range) -> Sequence[PackedRow | OddFile]:
            with environment.begin() as transaction:
                return [read_one(transaction.get(keys[place]), names[place]) for place in places]

        status = (database / "data.mdb").stat()
        return PackingPlan(
            names=names,
            split=by_last(names, self.holdout),
            resolutions=resolutions,
            read=read,
            settings={"source": self._source, **FRAMING.settings},
            fingerprint=f"{status.st_size} {status.st_mtime_ns}",
        )


def _find_database(root: Path, category: str) -> Path | None:
    candidates = (root, root / f"{category}_train_lmdb", root / category, *sorted(root.glob("*_lmdb")))
    return next((folder for folder in candidates if (folder / "data.mdb").is_file()), None)


def _open_database(folder: Path) -> Any:
    try:
        lmdb = importlib.import_module("lmdb")
    except ModuleNotFoundError:
        raise ValueError(
            f"{str(folder)!r} is an LMDB, and the package lmdb is not installed: run `pip install lmdb`, or export "
            "the images to a folder"
        ) from None
    return lmdb.open(str(folder), readonly=True, lock=False, readahead=False)


def _first_keys(transaction: Any, count: int | None) -> list[bytes]:
    keys: list[bytes] = []
    for key in transaction.cursor().iternext(values=False):
        if count is not None and len(keys) == count:
            break
        keys.append(bytes(key))
    return keys


__all__ = ["LSUN"]
