"""What every data set must do, whichever it is. Those of official layouts that take long to write are unit-tested."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latent_lab import data as registry
from latent_lab.cli.recipes import data_classes
from latent_lab.data import AbstractImageData
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.types import ImageSource
from tests.unit.data.idx import write_mnist

RESOLUTION = 8
GROWING = GrowthSchedule([Stage(4, 0.016, 8), Stage(8, 0.016, 4)])


def photographs(root: Path, names: list[str]) -> Path:
    """Noise, another one for each name."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def turntable(root: Path) -> Path:
    """Three objects from six sides."""
    lines = [f"{one}_{angle}.png,{one},{angle}" for one in range(3) for angle in range(0, 360, 60)]
    photographs(root, [line.split(",")[0] for line in lines])
    (root / "poses.csv").write_text("\n".join(["file,object,azimuth", *lines]) + "\n")
    return root


def layout(root: Path) -> Path:
    """Folders train, val and test."""
    return photographs(root, [f"{part}/{number}.png" for part in ("train", "val", "test") for number in range(5)])


RECIPES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ImageFolder": lambda folder: {"root": photographs(folder, [f"{n}.png" for n in range(12)]), "split": "hash"},
    "MNIST": lambda folder: {"root": write_mnist(folder, train=12, t10k=5)},
    "MultiViewImages": lambda folder: {"root": turntable(folder)},
    "SyntheticCameraRun": lambda folder: {"num_frames": 6, "num_runs": 2, "num_val_runs": 1, "num_test_runs": 1},
    "SyntheticFaces": lambda folder: {"num_images": 12, "num_val": 3, "num_test": 4},
    "SyntheticViews": lambda folder: {"num_objects": 3, "num_views": 6},
    "TinyImageNet": lambda folder: {"root": layout(folder)},
}


@pytest.fixture(scope="module", params=sorted(RECIPES))
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> AbstractImageData:
    folder = tmp_path_factory.mktemp(request.param) / "files"
    options = {"resolution": RESOLUTION, "cache_dir": cache, "epoch_kimg": 0.1, **RECIPES[request.param](folder)}
    return getattr(registry, request.param)(**options)


def everything(source: ImageSource) -> torch.Tensor:
    return source.batch(range(len(source)), RESOLUTION).images


def test_the_command_line_knows_it_and_says_what_it_is(data: AbstractImageData):
    assert data_classes()[type(data).__name__] is type(data)
    summary = (inspect.getdoc(type(data)) or "").split("\n\n")[0]
    assert summary.endswith(".")
    assert "\n" not in summary


def test_batches_hold_float_images_in_range_and_what_is_known_about_them(data: AbstractImageData):
    for split in ("train", "val", "test"):
        source = data.source(split)
        batch = source.batch(range(len(source)), RESOLUTION)
        assert batch.images.shape == (len(source), data.channels, RESOLUTION, RESOLUTION)
        assert batch.images.dtype == torch.float32
        assert -1 <= batch.images.min() <= batch.images.max() <= 1
        assert batch.index.tolist() == list(range(len(source)))
        if data.label_names:
            assert batch.labels is not None
            assert batch.labels.shape == (len(source), len(data.label_names))
        else:
            assert batch.labels is None


def test_poses_are_rigid(data: AbstractImageData):
    pose = data.source("train").batch([0, 1], RESOLUTION).pose
    if pose is None:
        return
    assert pose.dtype == torch.float32
    rotation = pose[:, :3, :3]
    # Single precision.
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(2, 3, 3), rtol=0, atol=1e-6)
    assert (torch.linalg.det(rotation) > 0).all()
    assert pose[:, 3].tolist() == [[0.0, 0.0, 0.0, 1.0]] * 2


def test_training_images_are_held_out_nowhere(data: AbstractImageData):
    train = set(data.source("train").names)
    for split in set(data.pack.splits) - {"train"}:
        assert not train & set(data.source(split).names)


def test_its_recipe_is_plain_and_builds_the_same_images(data: AbstractImageData):
    recipe = data.recipe
    assert recipe["class_path"] == f"{type(data).__module__}.{type(data).__qualname__}"
    again = type(data)(**recipe["init_args"])
    assert again.recipe == recipe
    for split in data.pack.splits:
        assert again.source(split).recipe == data.source(split).recipe


def test_packing_anew_gives_the_same_bits(data: AbstractImageData, tmp_path: Path):
    anew = type(data)(**{**data.recipe["init_args"], "cache_dir": str(tmp_path)})
    assert anew.pack.folder != data.pack.folder
    assert anew.pack.key == data.pack.key
    assert anew.pack.recipe == data.pack.recipe


def test_its_description_counts_every_split(data: AbstractImageData):
    text = data.describe()
    assert text.startswith(f"{type(data).__name__}: ")
    for split in data.pack.splits:
        assert f"{len(data.source(split))} {split}" in text


def test_training_batches_follow_the_schedule_from_anywhere(data: AbstractImageData):
    whole = list(data.training_loader(GROWING, max_images=32))
    assert [tuple(batch.images.shape[::3]) for batch in whole] == [(8, 4)] * 2 + [(4, 8)] * 4
    late = list(data.training_loader(GROWING, start=20, max_images=32))
    for one, other in zip(whole[3:], late, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.index, other.index)


def test_evaluation_batches_are_the_split_in_order(data: AbstractImageData):
    for split in data.pack.splits:
        batches = list(data.evaluation_loader(split, RESOLUTION))
        assert torch.equal(torch.cat([batch.images for batch in batches]), everything(data.source(split)))


def test_a_source_can_be_sent_to_another_process(data: AbstractImageData):
    source = data.source("test")
    assert torch.equal(everything(pickle.loads(pickle.dumps(source))), everything(source))


def test_an_unknown_split_is_answered_with_those_there_are(data: AbstractImageData):
    with pytest.raises(ValueError, match="split 'holdout' has no images; found train"):
        data.source("holdout")
