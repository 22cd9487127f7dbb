"""References that cannot be one: commands say so in one sentence, and earlier results stay."""

from __future__ import annotations

import pytest
import torch

from latent_lab.metrics.functional import moments
from latent_lab.metrics.statistics_files import write_statistics
from latent_lab.networks.features import find_extractor


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--reference-statistics", "damaged.npz"], "damaged.npz is damaged or no .npz file"),
        (["--reference-statistics", "other.npz"], "other.npz was made with random and resize protocol tf1 to 32x32"),
        (["--reference-statistics", "wide.npz"], "mu in wide.npz is of 9 features, this extractor has 64"),
        (["--reference-statistics", "gone.npz"], "there is no file of reference statistics at gone.npz"),
    ],
)
def test_it_is_said_in_one_sentence_and_nothing_is_lost(latent_lab, checkpoint, folder, words, sentence):
    statistics = moments(torch.randn(70, 64, generator=torch.Generator().manual_seed(0)))
    write_statistics("other.npz", statistics, protocol={"extractor": find_extractor("random", resize="tf1").describe()})
    write_statistics("wide.npz", moments(torch.eye(9)), protocol={})
    content = (folder / "other.npz").read_bytes()
    (folder / "damaged.npz").write_bytes(content[: len(content) // 2])
    (folder / "o").mkdir()
    (folder / "o" / "result.json").write_text("earlier")
    outcome = latent_lab("test", "--ckpt", checkpoint, "--extractor", "random", "--out", "o", *words)
    assert (outcome.code, outcome.out) == (2, "")
    # The line before it may say that the data is packed.
    assert sentence in outcome.error.splitlines()[-1]
    assert (folder / "o" / "result.json").read_text() == "earlier"


@pytest.mark.parametrize(
    "words",
    [
        ("statistics", "--images", "empty", "--out", "x.npz"),
        ("why-fid", "--images", "photos", "--reference", "empty"),
        ("why-fid", "--images", "empty", "--reference", "photos"),
    ],
)
def test_an_empty_folder_is_said_in_one_sentence(latent_lab, photos, folder, words):
    (folder / "empty").mkdir()
    outcome = latent_lab(*words)
    assert (outcome.code, outcome.out) == (2, "")
    # Lines before it tell of the photo that is none.
    assert outcome.error.splitlines()[-1].startswith("latent-lab: image folder 'empty' holds no image file")
    assert not (folder / "x.npz").exists()
