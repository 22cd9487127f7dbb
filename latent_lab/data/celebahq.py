"""CelebA-HQ: 30,000 aligned portraits up to 1024 pixels, as the published H5 pyramid or as a folder of images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from latent_lab.data.base import AbstractImageData
from latent_lab.data.framing import Framing, resolutions_up_to
from latent_lab.data.plans import PackedRow, PackingPlan, files_plan
from latent_lab.data.readers import OddFile, list_images

FIRST_TEST_IMAGE = 182_637
"""Index, from 0, in the original CelebA of the first image of its official test part."""
_TRAIN_SHARE = 0.9
_H5_SUFFIXES = (".h5", ".hdf5")


class CelebAHQ(AbstractImageData):
    """CelebA-HQ, split as the published programs split it.

    With the list of original indices, images of CelebA's official test part (index 182,637 and above) are held out;
    without it the first nine tenths (27,000 of 30,000) train. What is held out is both val and test.

    Args:
        root: the H5 file of the progressive-GAN tools (keys data4x4, data8x8, ..., uint8), a folder with one, or a
            folder of images.
        resolution: of the largest level, 4 * 2^k pixels, up to 1024.
        image_list: the published image_list.txt (columns idx, orig_idx, ...); none: looked for beside the images.
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
        root: str | Path = "data/celebahq",
        resolution: int = 256,
        image_list: str | Path | None = None,
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
        self.image_list = None if image_list is None else Path(image_list).expanduser()

    def plan(self) -> PackingPlan:
        """The levels of the H5 file as they are, or the images of the folder."""
        assert self.root is not None
        if not self.root.exists():
            raise ValueError(
                f"CelebA-HQ is not at {str(self.root)!r}: make its H5 file with the tools of "
                "https://github.com/tkarras/progressive_growing_of_gans and put it there, or a folder of its images"
            )
        file = self.root if self.root.is_file() else _h5_file(self.root)
        original = _original_indices(self.image_list or (file or self.root / "x").parent / "image_list.txt")
        if self.image_list is not None and not original:
            raise ValueError(
                f"image_list {str(self.image_list)!r} has no rows of CelebA-HQ and CelebA indices: give the published "
                "image_list.txt, or null"
            )
        return self._folder_plan(original) if file is None else self._h5_plan(file, original)

    def _h5_plan(self, file: Path, original: dict[int, int]) -> PackingPlan:
        resolutions = resolutions_up_to(self.resolution)
        total = _check_h5(file, resolutions)

        def read(places: range) -> Sequence[PackedRow | OddFile]:
            with h5py.File(file, "r") as pyramid:
                part = slice(places.start, places.stop)
                levels = {size: pyramid[f"data{size}x{size}"][part] for size in resolutions}
            return [
                PackedRow({size: levels[size][row] for size in resolutions}, codec="H5") for row in range(len(places))
            ]

        status = file.stat()
        return PackingPlan(
            names=[f"{file.name}/{place}" for place in range(total)],
            split=_split(list(range(total)), original),
            resolutions=resolutions,
            read=read,
            settings={"source": "CelebA-HQ", "crop": "none", "downscale": "as stored", **_split_settings(original)},
            fingerprint=f"{file.name} {status.st_size} {status.st_mtime_ns}",
        )

    def _folder_plan(self, original: dict[int, int]) -> PackingPlan:
        assert self.root is not None
        names = list_images(self.root)
        return files_plan(
            self.root,
            names,
            _split([_number_of(name, place) for place, name in enumerate(names)], original),
            self.resolution,
            # Published: everything passes through 256 pixels.
            Framing(crop="center", shorter_side=max(256, self.resolution)),
            settings={"source": "CelebA-HQ", **_split_settings(original)},
        )


def _h5_file(folder: Path) -> Path | None:
    return next((path for path in sorted(folder.iterdir()) if path.suffix.lower() in _H5_SUFFIXES), None)


def _check_h5(file: Path, resolutions: tuple[int, ...]) -> int:
    """Number of images, if every level is there with the right shape."""
    try:
        with h5py.File(file, "r") as pyramid:
            found = {name: pyramid[name].shape for name in pyramid if isinstance(pyramid[name], h5py.Dataset)}
            kinds = {pyramid[name].dtype for name in found}
    except OSError as error:
        raise ValueError(f"{str(file)!r} is not a readable H5 file ({error}): make it again") from None
    total = next((shape[0] for name, shape in found.items() if name == f"data{resolutions[-1]}x{resolutions[-1]}"), 0)
    wrong = [size for size in resolutions if found.get(f"data{size}x{size}") != (total, 3, size, size)]
    if wrong or not total or any(kind != np.uint8 for kind in kinds):
        names = ", ".join(sorted(found)) or "nothing"
        raise ValueError(
            f"{str(file)!r} must hold uint8 levels data4x4 ... data{resolutions[-1]}x{resolutions[-1]} of shape "
            f"(N, 3, R, R), found {names}: make it again, or ask for a resolution that is there"
        )
    return total


def _original_indices(image_list: Path) -> dict[int, int]:
    """CelebA-HQ index -> original CelebA index; empty without a list."""
    if not image_list.is_file():
        return {}
    lines = (line.split() for line in image_list.read_text(encoding="utf-8").splitlines())
    return {int(words[0]): int(words[1]) for words in lines if len(words) > 1 and (words[0] + words[1]).isdigit()}


def _split(numbers: list[int], original: dict[int, int]) -> dict[str, list[int]]:
    """Places for train, val and test of images with these CelebA-HQ indices."""
    if original:
        train = [
            place for place, number in enumerate(numbers) if original.get(number, FIRST_TEST_IMAGE) < FIRST_TEST_IMAGE
        ]
        held_out = [place for place, number in enumerate(numbers) if original.get(number, -1) >= FIRST_TEST_IMAGE]
    else:
        boundary = round(_TRAIN_SHARE * len(numbers))
        train, held_out = list(range(boundary)), list(range(boundary, len(numbers)))
    return {"train": train, "val": held_out, "test": list(held_out)}


def _split_settings(original: dict[int, int]) -> dict[str, str]:
    return {"split_rule": "original CelebA index" if original else "first nine tenths"}


def _number_of(name: str, place: int) -> int:
    """The CelebA-HQ index in a file name such as 00017.jpg or img17.png; else the place in sorted order."""
    digits = re.findall(r"\d+", Path(name).stem)
    return int(digits[-1]) if digits else place


__all__ = ["FIRST_TEST_IMAGE", "CelebAHQ"]
