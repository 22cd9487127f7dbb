"""`latent-lab statistics` of a folder and of a checkpoint's data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from latent_lab.metrics.statistics_files import read_statistics
from latent_lab.networks.features import find_extractor

RANDOM = ("--extractor", "random")


def test_a_folder_needs_no_model(latent_lab, photos, folder):
    outcome = latent_lab("statistics", "--images", photos, *RANDOM, "--resolution", "12", "--out", "photos.npz")
    assert outcome.code == 0, outcome.error
    found = read_statistics(folder / "photos.npz", find_extractor("random"))
    assert found.moments.num_vectors == 3
    assert found.features is None
    assert found.protocol["resolution"] == 12
    assert found.protocol["data"]["source"] == "photos"
    assert found.notes == ()
    assert "3 images for 64 features: the covariance lacks full rank" in outcome.error


def test_a_checkpoint_gives_its_training_images_at_its_resolution(latent_lab, checkpoint, folder):
    outcome = latent_lab("statistics", "--ckpt", checkpoint, *RANDOM, "--keep-features", "true", "--out", "faces.npz")
    assert outcome.code == 0, outcome.error
    found = read_statistics(folder / "faces.npz", find_extractor("random"))
    assert found.features is not None
    assert found.features.shape == (16, 64)
    assert found.protocol["resolution"] == 8
    assert found.protocol["data"]["split"] == "train"
    with np.load(folder / "faces.npz") as archive:
        assert json.loads(str(archive["protocol"]))["extractor"]["label"] == "random"


def test_another_resize_protocol_is_told_apart(latent_lab, photos, folder):
    assert latent_lab("statistics", "--images", photos, *RANDOM, "--resize", "tf1", "--out", "tf1.npz").code == 0
    with pytest.raises(ValueError, match="resize protocol tf1"):
        read_statistics(folder / "tf1.npz", find_extractor("random"))
    read_statistics(folder / "tf1.npz", find_extractor("random", resize="tf1"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "photos"], "needs --out FILE.npz, got none"),
        (["--images", "photos", "--out", "x.txt"], "needs --out FILE.npz, got x.txt"),
        (["--out", "x.npz"], "needs one of --images PATH and --ckpt FILE"),
        (["--images", "photos", "--ckpt", "x.ckpt", "--out", "x.npz"], "needs one of --images PATH and --ckpt FILE"),
        (["photos", "--out", "x.npz"], "takes no bare word, got photos"),
        (["--images", "nowhere", "--out", "x.npz"], "nowhere"),
        (["--images", "photos", "--split", "val", "--out", "x.npz"], "take neither --data nor --split"),
        (["--images", "photos", "--resolution", "big", "--out", "x.npz"], "positive whole number of pixels, got big"),
        (["--images", "photos", "--num", "1", "--out", "x.npz"], "num must be at least 2, got 1"),
        (["--ckpt", "x.ckpt", "--resolution", "8", "--out", "x.npz"], "leave --resolution out"),
    ],
)
def test_mistakes_get_one_sentence(latent_lab, photos, folder, words, message):
    outcome = latent_lab("statistics", *words)
    assert outcome.code == 2
    assert message in outcome.error
    assert not list(folder.glob("*.npz"))
