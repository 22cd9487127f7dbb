"""Early stopping as a setting of a run."""

from __future__ import annotations

import pytest
import yaml

from latent_lab.models.loading import read_checkpoint

SAMPLES = "run: {analyses: [{name: sample, every_kimg: 0.016, options: {num: 4}}]}\n"


@pytest.fixture
def plans(folder):
    (folder / "plans.yaml").write_text(SAMPLES)
    return "plans"


def test_it_is_off_unless_asked_for_and_needs_no_more_than_a_metric(latent_lab, tiny, plans):
    def recorded(*words):
        outcome = latent_lab("fit", "--dry-run", "--config", "tiny", "--config", plans, *words)
        assert outcome.code == 0, outcome.error
        return yaml.safe_load(outcome.out.split("\n\n")[0])["run"]["early_stopping"]

    assert recorded() is None
    expected = {"metric": "val/fid", "mode": "min", "min_delta": 1.0, "patience": 3}
    assert recorded("--run.early_stopping.metric", "val/fid") == expected


def test_a_run_ends_early_and_can_be_measured_at_its_best(latent_lab, tiny, plans, folder):
    # No untrained network's deviation of samples changes by 100, so the first of two further evaluations ends it.
    words = ["--run.early_stopping.metric", "prior/std", "--run.early_stopping.min_delta", "100"]
    words += ["--run.early_stopping.patience", "1", "--run-dir", "early"]
    outcome = latent_lab("fit", "--config", "tiny", "--config", plans, *words)
    assert outcome.code == 0, outcome.error
    assert "stopped early: prior/std was best" in outcome.error
    checkpoints = folder / "early" / "checkpoints"
    assert read_checkpoint(checkpoints / "last.ckpt")["latent_lab"]["images_seen"] == 32
    assert latent_lab("sample", "--ckpt", checkpoints / "best.ckpt", "--num", "2", "--out", "o").code == 0


def test_a_metric_that_nothing_gives_ends_the_run_with_one_sentence(latent_lab, tiny, plans):
    outcome = latent_lab("fit", "--config", "tiny", "--config", plans, "--run.early_stopping.metric", "val/fid")
    assert outcome.code == 3
    message = "run.early_stopping.metric val/fid is no number of the analyses of this run, which give prior/std: write"
    assert message in outcome.error
    assert "Traceback" not in outcome.error


def test_a_misspelt_mode_is_refused_before_anything_is_written(latent_lab, tiny, plans, folder):
    words = ["--run.early_stopping.metric", "prior/std", "--run.early_stopping.mode", "lower"]
    outcome = latent_lab("fit", "--config", "tiny", "--config", plans, *words)
    assert outcome.code == 2
    assert "run.early_stopping.mode must be one of min, max, got lower" in outcome.error
    assert not (folder / "runs").exists()


def test_a_run_without_analyses_cannot_stop_early(latent_lab, tiny, folder):
    outcome = latent_lab("fit", "--config", "tiny", "--run.early_stopping.metric", "val/fid")
    assert outcome.code == 2
    assert "run.early_stopping watches a number of an analysis that is run while training" in outcome.error
    assert not (folder / "runs").exists()
