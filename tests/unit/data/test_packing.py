from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from latent_lab import images
from latent_lab.data.framing import Framing
from latent_lab.data.packing import cached_pack, pack, prepare
from latent_lab.data.plans import folder_plan
from latent_lab.data.pyramid import is_pack, open_pack
from latent_lab.data.readers import read_image

NAMES = [f"{number:02d}.png" for number in range(12)]


def plan_of(root, **options):
    return folder_plan(root, 16, Framing(), split="last", holdout=4, **options)


def test_a_pack_holds_every_level_in_the_order_of_the_names(make_images, tmp_path):
    root = make_images(NAMES)
    made = pack(plan_of(root), tmp_path / "pack", max_bad_share=0.0)
    assert made.names == tuple(NAMES)
    for resolution in (4, 8, 16):
        stored = np.load(tmp_path / "pack" / f"images_{resolution}.npy")
        expected = [Framing().levels(read_image(root / name)[0], (resolution,))[resolution] for name in NAMES]
        np.testing.assert_array_equal(stored, np.stack(expected))


def test_a_batch_is_the_stored_level_in_minus_one_to_one(make_images, tmp_path):
    made = pack(plan_of(make_images(NAMES)), tmp_path / "pack", max_bad_share=0.0)
    batch = made.source("val").batch([3, 0], 8)
    stored = np.load(tmp_path / "pack" / "images_8.npy")[[11, 8]]
    torch.testing.assert_close(batch.images, images.from_bytes(torch.from_numpy(stored)), rtol=0, atol=0)
    assert batch.index.tolist() == [3, 0]
    assert batch.labels is None


def test_labels_follow_their_images_through_splits(make_images, tmp_path):
    root = make_images(NAMES)
    labels = tmp_path / "labels.csv"
    labels.write_text("file,number\n" + "".join(f"{name},{int(name[:2])}\n" for name in reversed(NAMES)))
    made = pack(plan_of(root, labels=labels), tmp_path / "pack", max_bad_share=0.0)
    assert made.source("test").label_names == ("number",)
    assert made.source("test").batch([1, 2], 4).labels.tolist() == [[9.0], [10.0]]


def test_unreadable_files_are_named_and_skipped_and_rows_close_up(make_images, tmp_path):
    root = make_images(NAMES)
    (root / "05.png").write_bytes(b"")
    (root / "11.png").write_text("text")
    made = pack(plan_of(root), tmp_path / "pack", max_bad_share=0.2)
    assert [str(odd) for odd in made.odd_files] == [
        "05.png (the file is empty)",
        "11.png (the content is not an image)",
    ]
    assert made.recipe["skipped"] == 2
    assert len(np.load(tmp_path / "pack" / "images_4.npy")) == 10
    assert made.source("val").names == ("08.png", "09.png", "10.png")


def test_one_unreadable_file_is_tolerated_in_a_small_set(make_images, tmp_path):
    root = make_images(NAMES)
    (root / "05.png").write_bytes(b"")
    assert len(pack(plan_of(root), tmp_path / "pack", max_bad_share=0.01).odd_files) == 1


def test_a_share_of_zero_tolerates_no_unreadable_file(make_images, tmp_path):
    root = make_images(NAMES)
    (root / "05.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 12 images are unreadable .* allows 0: 05\.png \(the file is empty\)"):
        pack(plan_of(root), tmp_path / "pack", max_bad_share=0.0)


def test_nothing_is_left_of_a_packing_that_failed(make_images, tmp_path):
    root = make_images(NAMES)
    for name in NAMES:
        (root / name).write_text("text")
    with pytest.raises(ValueError, match="none of the 12 images is readable"):
        pack(plan_of(root), tmp_path / "packs" / "one", max_bad_share=1.0)
    assert list((tmp_path / "packs").iterdir()) == []


def test_a_folder_that_cannot_be_written_says_what_to_set(make_images, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot be written \(Not a directory\): .* LATENT_LAB_CACHE"):
        pack(plan_of(make_images(NAMES)), tmp_path / "file" / "pack", max_bad_share=0.0)


def test_what_a_killed_process_left_is_removed_by_the_next_packing(make_images, tmp_path):
    # A process that has ended certainly runs no more.
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = tmp_path / "packs" / f".one.{int(dead.stdout)}.abcd"
    left.mkdir(parents=True)
    alive = tmp_path / "packs" / f".one.{os.getppid()}.abcd"
    alive.mkdir()
    pack(plan_of(make_images(NAMES)), tmp_path / "packs" / "one", max_bad_share=0.0)
    assert not left.exists()
    assert alive.exists()


def test_the_process_that_packs_second_uses_the_pack_of_the_first(make_images, tmp_path):
    plan = plan_of(make_images(NAMES))
    first = pack(plan, tmp_path / "pack", max_bad_share=0.0)
    assert pack(plan, tmp_path / "pack", max_bad_share=0.0) == first


def test_a_pack_in_the_cache_is_not_made_again(make_images, tmp_path, monkeypatch):
    plan = plan_of(make_images(NAMES))
    first = cached_pack(plan, tmp_path, max_bad_share=0.0)
    monkeypatch.setattr("latent_lab.data.packing.pack", None)
    assert cached_pack(plan, tmp_path, max_bad_share=0.0) == first


def test_a_stricter_run_refuses_what_a_tolerant_one_packed(make_images, tmp_path):
    root = make_images(NAMES)
    (root / "05.png").write_bytes(b"")
    cached_pack(plan_of(root), tmp_path, max_bad_share=0.01)
    with pytest.raises(ValueError, match="1 of 12 images are unreadable"):
        cached_pack(plan_of(root), tmp_path, max_bad_share=0.0)


def test_the_key_changes_with_files_settings_splits_and_labels(make_images, tmp_path):
    root = make_images(NAMES)
    keys = {plan_of(root).key, folder_plan(root, 16, Framing(), split="last", holdout=5).key}
    keys |= {folder_plan(root, 16, Framing(downscale="box"), split="last", holdout=4).key}
    keys |= {folder_plan(root, 8, Framing(), split="last", holdout=4).key}
    os.utime(root / "03.png", ns=(0, 0))
    keys |= {plan_of(root).key}
    for number in range(2):
        labels = tmp_path / f"{number}.csv"
        labels.write_text(f"file,age\n03.png,{number}\n")
        keys |= {plan_of(root, labels=labels).key}
    assert len(keys) == 7


def test_the_hash_is_that_of_the_content_wherever_and_whenever_it_was_made(make_images, tmp_path):
    root = make_images(NAMES)
    first = pack(plan_of(root), tmp_path / "first", max_bad_share=0.0)
    os.utime(root / "03.png", ns=(0, 0))
    second = pack(plan_of(root), tmp_path / "second", max_bad_share=0.0)
    assert first.key != second.key
    assert first.recipe["hash"] == second.recipe["hash"]
    assert first.source("train").recipe["hash"] != first.source("val").recipe["hash"]


def test_a_recipe_is_plain_data_without_a_path_of_this_machine(make_images, tmp_path):
    recipe = pack(plan_of(make_images(NAMES)), tmp_path / "pack", max_bad_share=0.0).source("train").recipe
    assert str(tmp_path) not in json.dumps(recipe)
    assert recipe["split"] == "train"
    assert recipe["num_images"] == 8
    assert recipe["codecs"] == {"PNG": 12}


def test_a_source_may_be_sent_to_another_process(make_images, tmp_path):
    source = pack(plan_of(make_images(NAMES)), tmp_path / "pack", max_bad_share=0.0).source("train")
    before = source.batch([0, 1], 16)
    sent = pickle.dumps(source)
    assert len(sent) < 2000  # the pixels stay on disk
    torch.testing.assert_close(pickle.loads(sent).batch([0, 1], 16).images, before.images, rtol=0, atol=0)


def test_places_outside_of_the_split_are_refused(make_images, tmp_path):
    source = pack(plan_of(make_images(NAMES)), tmp_path / "pack", max_bad_share=0.0).source("train")
    with pytest.raises(IndexError, match=r"places must be in 0 \.\.\. 7, got -1 \.\.\. 8"):
        source.batch([-1, 8], 4)


def test_a_level_that_was_not_packed_is_refused_with_those_that_were(make_images, tmp_path):
    source = pack(plan_of(make_images(NAMES)), tmp_path / "pack", max_bad_share=0.0).source("train")
    with pytest.raises(ValueError, match="one of the packed ones, 4, 8, 16, got 32"):
        source.batch([0], 32)


def test_a_pack_of_another_version_asks_to_be_prepared_again(make_images, tmp_path):
    made = pack(plan_of(make_images(NAMES)), tmp_path / "pack", max_bad_share=0.0)
    index = json.loads((made.folder / "index.json").read_text())
    (made.folder / "index.json").write_text(json.dumps({**index, "version": 0}))
    with pytest.raises(ValueError, match=r"version 0.*latent-lab prepare"):
        open_pack(made.folder)


def test_prepare_packs_a_folder_with_a_report_of_its_odd_files(make_images, tmp_path):
    root = make_images(NAMES)
    (root / "05.png").write_bytes(b"")
    summary = prepare(root, tmp_path / "out", resolution=32, split="last", holdout=4)
    assert is_pack(tmp_path / "out")
    assert summary.num_images == 11
    assert summary.split_sizes == {"train": 7, "val": 4, "test": 4}
    assert summary.num_bytes == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    report = (tmp_path / "out" / "report.txt").read_text()
    assert "skipped: 05.png (the file is empty)" in report
    assert "11 images are smaller than 32 px and were enlarged." in report


def test_preparing_the_same_again_does_nothing(make_images, tmp_path):
    root = make_images(NAMES)
    first = prepare(root, tmp_path / "out", resolution=8)
    before = (tmp_path / "out" / "index.json").stat().st_mtime_ns
    assert prepare(root, tmp_path / "out", resolution=8) == first
    assert (tmp_path / "out" / "index.json").stat().st_mtime_ns == before


def test_prepare_overwrites_nothing(make_images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(ValueError, match="is not empty: name a new folder"):
        prepare(make_images(NAMES), tmp_path / "out", resolution=8)
