"""CelebA: 202,599 aligned portraits of 178 x 218 pixels with 40 attributes and an official partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from latent_lab.data.base import AbstractImageData
from latent_lab.data.framing import Framing
from latent_lab.data.plans import PackingPlan, files_plan
from latent_lab.data.readers import list_images
from latent_lab.data.splits import by_column

CROPS: Mapping[str, Framing] = {
    "pioneer": Framing(crop="center", shorter_side=128),
    "thesis": Framing(crop=(25, 45, 153, 173)),
    "age": Framing(resize_to=(64, 78), crop=(0, 7, 64, 71), downscale="lanczos"),
}
"""The published crops."""

_IMAGE_FOLDERS = ("img_align_celeba", "Img/img_align_celeba", "img_align_celeba/img_align_celeba")
_TABLE_FOLDERS = ("", "Anno", "Eval")


class CelebA(AbstractImageData):
    """CelebA in its official layout; the attributes are labels 0 / 1, the persons' numbers a label `identity`.

    Args:
        root: folder with img_align_celeba/, list_eval_partition.txt, list_attr_celeba.txt and, if there,
            identity_CelebA.txt (text files also in Anno/ and Eval/).
        resolution: of the largest level, 4 * 2^k pixels, up to 128 ("age": 64) without enlargement.
        crop: "pioneer" (shorter side to 128 bilinear, centre 128 x 128), "thesis" (the 128 x 128 pixels at x 25, y 45)
            or "age" (to 64 x 78 by a Lanczos filter, rows 7 to 70).
        mirror: whether training images are mirrored with probability 1/2 (published: yes; AGE: no).
        max_bad_share: share of unreadable images up to which they are skipped; one is always tolerated, unless it is 0.
        cache_dir: folder for packs; none: the environment variable LATENT_LAB_CACHE or ~/.cache/latent_lab.
        num_workers: loader processes; 0 is fast, since packed images are memory-mapped.
        seed: of the order of training images.
        epoch_kimg: thousands of images in what Lightning calls an epoch.
        eval_batch_size: images per evaluation step over all devices.
    """

    def __init__(
        self,
        root: str | Path = "data/celeba",
        resolution: int = 64,
        crop: Literal["pioneer", "thesis", "age"] = "pioneer",
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
        if crop not in CROPS:
            raise ValueError(f"crop of CelebA must be one of {', '.join(CROPS)}, got {crop!r}")
        self.crop = crop

    def plan(self) -> PackingPlan:
        """The official partition with the official attributes."""
        assert self.root is not None
        folder = _image_folder(self.root)
        names = list_images(folder)
        partition = {file: words[0] for file, words in _read_table(self.root, "list_eval_partition.txt").items()}
        label_names, labels = _read_labels(self.root, names)
        return files_plan(
            folder,
            names,
            by_column(names, [partition.get(name, "") for name in names], what="list_eval_partition.txt"),
            self.resolution,
            CROPS[self.crop],
            settings={"source": "CelebA", "preset": self.crop},
            label_names=label_names,
            labels=labels,
        )


def _image_folder(root: Path) -> Path:
    for name in _IMAGE_FOLDERS:
        if any((root / name).glob("*.*")):
            return root / name
    raise ValueError(
        f"CelebA needs {str(root / 'img_align_celeba')!r}, which is not there: get img_align_celeba.zip and the "
        "list_*.txt files from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and unpack them into that folder; a "
        "folder of your own is prepared by `latent-lab prepare FOLDER --out DIR`"
    )


def _find_table(root: Path, name: str) -> Path | None:
    candidates = (root / folder / name for folder in _TABLE_FOLDERS)
    return next((path for path in candidates if path.is_file()), None)


def _read_table(root: Path, name: str) -> dict[str, list[str]]:
    """File name -> the other words of its line."""
    path = _find_table(root, name)
    if path is None:
        raise ValueError(
            f"CelebA needs {name} in {str(root)!r} or its folders Anno/ and Eval/, which is not there: get it from "
            "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
        )
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {words[0]: words[1:] for words in lines if len(words) > 1 and "." in words[0]}


def _read_labels(root: Path, names: Sequence[str]) -> tuple[tuple[str, ...], Float32[np.ndarray, "N K"]]:
    """Attributes as 0 / 1 and, if known, the persons' numbers; NaN for images that a table does not list."""
    attributes = _read_table(root, "list_attr_celeba.txt")
    label_names = _attribute_names(root)
    unknown = ["nan"] * len(label_names)
    # The file writes -1 and 1.
    columns = [(np.array([attributes.get(name, unknown) for name in names], dtype=np.float32) + 1) / 2]
    if _find_table(root, "identity_CelebA.txt") is not None:
        persons = _read_table(root, "identity_CelebA.txt")
        columns.append(np.array([persons.get(name, ["nan"]) for name in names], dtype=np.float32))
        label_names = (*label_names, "identity")
    return label_names, np.concatenate(columns, axis=1)


def _attribute_names(root: Path) -> tuple[str, ...]:
    path = _find_table(root, "list_attr_celeba.txt")
    assert path is not None
    return tuple(path.read_text(encoding="utf-8").splitlines()[1].split())


__all__ = ["CROPS", "CelebA"]
