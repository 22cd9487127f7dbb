from __future__ import annotations

import pytest
import torch

from latent_lab.data import ImageFolder, prepare
from latent_lab.growth import GrowthSchedule, Stage

NAMES = [f"{number:02d}.png" for number in range(12)]
GROWING = GrowthSchedule([Stage(4, 0.02, 4), Stage(8, 0.02, 2)])


def folder(root, **options) -> ImageFolder:
    return ImageFolder(root, **{"resolution": 8, "split": "last", "holdout": 4, "epoch_kimg": 0.02, **options})


def test_training_batches_grow_with_the_schedule(make_images):
    batches = list(folder(make_images(NAMES), epoch_kimg=0.04).training_loader(GROWING))
    assert [tuple(batch.images.shape) for batch in batches] == [(4, 3, 4, 4)] * 5 + [(2, 3, 8, 8)] * 10


def test_training_batches_show_training_images_only(make_images):
    data = folder(make_images(NAMES), mirror=False)
    train = data.source("train").batch(range(8), 4).images.flatten(1)
    for batch in data.training_loader(GROWING):
        assert (torch.cdist(batch.images.flatten(1), train).min(dim=1).values < 1e-6).all()


def test_worker_processes_give_the_same_batches(make_images):
    root = make_images(NAMES)
    alone = list(folder(root).training_loader(GROWING))
    with_workers = list(folder(root, num_workers=2).training_loader(GROWING))
    for one, other in zip(alone, with_workers, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.index, other.index)


def test_two_seeds_order_the_same_images_differently(make_images):
    root = make_images(NAMES)
    one, other = (next(iter(folder(root, seed=seed).training_loader(GROWING))) for seed in (0, 1))
    assert not torch.equal(one.images, other.images)


def test_evaluation_batches_are_the_split_in_order(make_images):
    data = folder(make_images(NAMES), eval_batch_size=3)
    batches = list(data.evaluation_loader("val", 4))
    assert [batch.index.tolist() for batch in batches] == [[0, 1, 2], [3]]
    assert torch.equal(batches[1].images, data.source("val").batch([3], 4).images)


def test_evaluation_without_a_model_is_at_the_largest_resolution(make_images):
    assert next(iter(folder(make_images(NAMES)).val_dataloader())).images.shape[-1] == 8


def test_a_schedule_beyond_the_packed_resolution_is_refused(make_images):
    schedule = GrowthSchedule([Stage(8, 1.0, 4), Stage(16, 1.0, 4)])
    with pytest.raises(ValueError, match="the schedule grows to 16 px, but the data's resolution is 8"):
        folder(make_images(NAMES)).training_loader(schedule)


def test_the_second_run_reads_the_pack_of_the_first(make_images, private_cache, capsys):
    root = make_images(NAMES)
    folder(root).prepare_data()
    assert "Packing 12 images" in capsys.readouterr().err
    folder(root).prepare_data()
    assert capsys.readouterr().err == ""
    assert len(list((private_cache / "packs").iterdir())) == 1


def test_a_cache_folder_can_be_given(make_images, tmp_path, private_cache):
    folder(make_images(NAMES), cache_dir=tmp_path / "mine").setup()
    assert (tmp_path / "mine" / "packs").is_dir()
    assert not private_cache.exists()


def test_the_recipe_builds_the_same_data_again(make_images):
    data = folder(make_images(NAMES), crop=[0, 0, 16, 16])
    assert data.recipe["class_path"] == "latent_lab.data.image_folder.ImageFolder"
    again = ImageFolder(**data.recipe["init_args"])
    assert again.source("test").recipe == data.source("test").recipe


def test_the_recipe_holds_plain_data_only(make_images):
    arguments = folder(make_images(NAMES)).recipe["init_args"]
    assert isinstance(arguments["root"], str)
    assert all(value is None or isinstance(value, bool | int | float | str | list) for value in arguments.values())


def test_a_prepared_folder_is_used_as_it_is(make_images, tmp_path, private_cache):
    prepare(make_images(NAMES), tmp_path / "out", resolution=16, split="last", holdout=3)
    data = ImageFolder(tmp_path / "out", resolution=8)
    assert len(data.source("val")) == 3
    assert not private_cache.exists()


def test_a_prepared_folder_that_is_too_small_says_how_to_prepare_it(make_images, tmp_path):
    prepare(make_images(NAMES), tmp_path / "out", resolution=8)
    with pytest.raises(ValueError, match=r"resolution 16 is more than the 8 px .* --resolution 16"):
        ImageFolder(tmp_path / "out", resolution=16).setup()


def test_images_of_all_sizes_below_any_folder_are_used(make_images):
    make_images(["deep/er/A.JPG"], size=(50, 9))
    make_images(["ünï.png"], size=(3, 70))
    root = make_images(["c.webp"], size=(8, 8))
    data = ImageFolder(root, resolution=8)
    assert sum(len(data.source(split)) for split in ("train", "val", "test")) == 3
    assert "2 images" not in data.describe()
    assert "1 images are smaller than 8 px and were enlarged." in data.describe()


def test_labels_are_found_beside_the_images(make_images):
    root = make_images(NAMES)
    (root / "labels.csv").write_text("file,age\n" + "".join(f"{name},{int(name[:2])}\n" for name in NAMES))
    data = folder(root, labels="labels.csv")
    assert data.label_names == ("age",)
    assert data.source("val").batch([0], 4).labels.tolist() == [[8.0]]


def test_the_description_names_odd_files_and_the_shared_held_out_part(make_images):
    root = make_images(NAMES)
    (root / "02.png").write_bytes(b"")
    text = folder(root).describe()
    assert text.startswith("ImageFolder: 7 train, 4 val, 4 test images up to 8 px, no labels")
    assert "1 unreadable files were skipped: 02.png (the file is empty)." in text
    assert "The same held-out images serve as val and test." in text


def test_an_unknown_split_is_answered_with_those_there_are(make_images):
    with pytest.raises(ValueError, match=r"'training' has no images; found train \(8\), val \(4\), test \(4\)"):
        folder(make_images(NAMES)).source("training")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 48}, "use 32 or 64"),
        ({"epoch_kimg": 0.0}, "epoch_kimg must be positive, got 0"),
        ({"eval_batch_size": 0}, "eval_batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must not be negative, got -1"),
        ({"max_bad_share": 2.0}, "max_bad_share must be a share between 0 and 1, got 2"),
        ({"crop": "centre"}, 'crop must be "center", "none" or a box'),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(tmp_path, **options)
