from __future__ import annotations

import json

import pytest
import torch


@pytest.fixture
def regressor(latent_lab, checkpoint, folder):
    words = ("--ckpt", checkpoint, "--labels", "smiling yaw eyeglasses", "--kimg", "0.2", "--out", "r.safetensors")
    outcome = latent_lab("train-regressor", *words)
    assert outcome.code == 0, outcome.error
    assert "eyeglasses" in outcome.out
    return folder / "r.safetensors"


def test_edit_by_labels_measures_with_a_trained_regressor(latent_lab, checkpoint, regressor, folder):
    words = ("--attributes", "smiling yaw", "--regressor", regressor, "--num", "4", "--out", "o")
    outcome = latent_lab("edit", "--ckpt", checkpoint, *words)
    assert outcome.code == 0, outcome.error
    result = json.loads((folder / "o" / "result.json").read_text())
    assert {"change_smiling_yaw", "right_way_yaw", "length_smiling"} <= set(result["numbers"])
    assert result["protocol"]["data"]["split"] == "test"
    assert result["protocol"]["attributes"]["yaw"]["reference"]["split"] == "train"
    assert result["protocol"]["regressor"]["data"]["split"] == "train"
    assert (folder / "o" / "edit_smiling.png").is_file()
    assert "mean change by yaw" in (folder / "o" / "report.md").read_text()


def test_ones_own_images_are_edited_along_directions_of_training_images(latent_lab, checkpoint, photos, folder):
    outcome = latent_lab("edit", "--ckpt", checkpoint, "--attributes", "age", "--images", photos, "--out", "o")
    assert outcome.code == 0, outcome.error
    assert json.loads((folder / "o" / "result.json").read_text())["protocol"]["data"]["num_images"] == 3


def test_two_folders_make_a_direction(latent_lab, checkpoint, photos, folder):
    words = ("--with-dir", photos, "--without-dir", photos / "a.png", "--strengths", "1,2", "--out", "o")
    outcome = latent_lab("edit", "--ckpt", checkpoint, *words)
    assert outcome.code == 0, outcome.error
    facts = json.loads((folder / "o" / "result.json").read_text())["protocol"]["attributes"]["photos"]
    assert (facts["num_with"], facts["num_without"]) == (3, 1)


def test_a_directions_file_and_own_images_need_no_data(latent_lab, checkpoint, photos, folder):
    torch.save(torch.zeros(1, 8), folder / "smile.pt")
    content = torch.load(checkpoint, weights_only=True)
    content["latent_lab"]["data"] = None
    torch.save(content, checkpoint)
    outcome = latent_lab("edit", "--ckpt", checkpoint, "--direction", "smile.pt", "--images", photos, "--out", "o")
    assert outcome.code == 0, outcome.error
    assert (folder / "o" / "edit_smile.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--with-dir", "a"), "needs both --with-dir and --without-dir"),
        (("--with-dir", "a", "--without-dir", "b", "--direction", "c"), "got both: leave one out"),
        (("--attributes", "smile"), "have no label smile"),
        ((), "needs to know what to change"),
    ],
)
def test_edit_says_what_is_wrong_in_one_sentence(latent_lab, checkpoint, words, message):
    outcome = latent_lab("edit", "--ckpt", checkpoint, *words)
    assert outcome.code == 2
    assert message in outcome.error


def test_the_regressor_takes_the_data_of_a_configuration(latent_lab, tiny, folder):
    words = ("--config", tiny, "--labels", "yaw", "--kimg", "0.1", "--out", "r.safetensors")
    outcome = latent_lab("train-regressor", *words)
    assert outcome.code == 0, outcome.error
    assert (folder / "r.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "r.safetensors"), "one of --config NAME.yaml and --ckpt FILE"),
        (("--ckpt", "model.ckpt"), "needs --out FILE.safetensors, got none"),
        (("--ckpt", "model.ckpt", "--out", "r.pt"), "got r.pt"),
        (("--ckpt", "model.ckpt", "--out", "r.safetensors", "--labels", "smile"), "have no label smile"),
        (("model.ckpt",), "takes no bare word"),
    ],
)
def test_train_regressor_says_what_is_wrong_in_one_sentence(latent_lab, checkpoint, words, message):
    outcome = latent_lab("train-regressor", *words)
    assert outcome.code == 2
    assert message in outcome.error
