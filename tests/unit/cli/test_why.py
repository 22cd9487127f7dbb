"""`latent-lab why-fid` with a checkpoint and with two folders."""

from __future__ import annotations

import json

import pytest

FEW = ("--extractor", "random", "--factors", "resize,reference,covariance")


def test_a_checkpoint_is_compared_with_all_splits_of_its_data(latent_lab, checkpoint, folder):
    outcome = latent_lab("why-fid", "--ckpt", checkpoint, *FEW, "--num", "8", "--theirs", "5", "--out", "o")
    assert outcome.code == 0, outcome.error
    result = json.loads((folder / "o" / "result.json").read_text())
    assert {"fd_base", "fd_resize_tf1", "fd_reference_val_8", "fd_reference_test_8"} <= result["numbers"].keys()
    assert result["protocol"]["checkpoint"]["file"] == "model.ckpt"
    assert result["protocol"]["reference"]["split"] == "train"
    assert "to 5" in outcome.out
    assert (folder / "o" / "report.md").is_file()


def test_two_folders_need_no_model(latent_lab, photos, folder):
    outcome = latent_lab("why-fid", "--images", photos, "--reference", photos, *FEW)
    assert outcome.code == 0, outcome.error
    result = json.loads((folder / "results" / "why-fid" / "result.json").read_text())
    assert result["numbers"]["fd_base"] == pytest.approx(0.0, abs=1e-6)
    assert "of 3 images in photos 2 are cropped to their central squares" in outcome.error


def test_the_box_of_faces_is_an_option_as_of_test(latent_lab, photos):
    words = ["--images", photos, "--reference", photos, "--identity-box", "[0.5, 0, 0.25, 1]"]
    outcome = latent_lab("why-fid", *words)
    assert outcome.code == 2
    assert "with left < right and top < bottom, got [0.5, 0.0, 0.25, 1.0]" in outcome.error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "why-fid needs --ckpt FILE, or two folders of images"),
        (["--images", "photos"], "why-fid needs --ckpt FILE, or two folders of images"),
        (["--ckpt", "x.ckpt", "--images", "photos"], "takes a checkpoint or two folders, got both"),
        (["photos", "--images", "photos", "--reference", "photos"], "takes no bare word, got photos"),
        (["--images", "photos", "--reference", "nowhere"], "nowhere"),
        (
            ["--images", "photos", "--reference", "photos", "--map", "x.safetensors"],
            "--map says how a checkpoint is looked at, and two folders have none",
        ),
    ],
)
def test_mistakes_get_one_sentence(latent_lab, photos, words, message):
    outcome = latent_lab("why-fid", *words)
    assert outcome.code == 2
    assert message in outcome.error
