"""What `fit` finds out of its analyses before it trains."""

from __future__ import annotations

import pytest

from latent_lab.cli.progress import ConsoleProgress

ABSENT = "[{name: evaluate, every_kimg: 1, options: {extractor: inception, extractor_path: gone.pth}}]"


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("analyses", "sentence"),
    [
        (ABSENT, "the FID Inception network of 2015-12-05 were expected at gone.pth"),
        (
            "[{name: evaluate, options: {reference_statistics: gone.npz}}]",
            "no file of reference statistics at gone",
        ),
        ("[{name: mix}]", "mix needs a model with decode_layers"),
        ("[{name: sample}, {name: evalute}]", "run.analyses.1: there is no analysis evalute: did you mean evaluate?"),
        (
            "[{name: evaluate, options: {num_sample: 9}}]",
            "analysis evaluate has no option num_sample (run.analyses.0.options.num_sample): did you mean",
        ),
        (
            "[{name: evaluate, options: {num_samples: many}}]",
            "run.analyses.0.options.num_samples must be a whole number, got many",
        ),
        (
            "[{name: evaluate, options: {metrics: [fid]}}]",
            "run.analyses.0.options: metrics must be some of fd, kd",
        ),
    ],
)
def test_what_would_fail_while_training_is_said_before(latent_lab, tiny, folder, analyses, sentence, words):
    outcome = latent_lab("fit", "--config", "tiny", "--run.analyses", analyses, *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert sentence in outcome.error
    assert outcome.error.count("\n") == 1
    assert not (folder / "runs").exists()
    assert not (folder / "cache").exists()


def test_networks_that_take_the_place_of_absent_ones_are_named(latent_lab, tiny, monkeypatch):
    monkeypatch.setattr("latent_lab.networks.features.find_weights", lambda *_: None)
    analyses = "[{name: evaluate, options: {metrics: [fd]}}]"
    outcome = latent_lab("fit", "--config", "tiny", "--run.analyses", analyses, "--dry-run")
    assert outcome.code == 0, outcome.error
    assert "note: evaluate measures with random and gives no FID" in outcome.error


def test_analyses_show_their_progress_while_training(latent_lab, tiny, monkeypatch):
    heard = []
    monkeypatch.setattr(ConsoleProgress, "update", lambda _, task: heard.append((task.what, task.done, task.total)))
    analyses = "[{name: evaluate, options: {metrics: [fd], extractor: random, num_samples: 4, num_reconstructions: 2}}]"
    outcome = latent_lab("fit", "--config", "tiny", "--run.analyses", analyses)
    assert outcome.code == 0, outcome.error
    assert ("samples of the prior", 4, 4) in heard
    assert '"val/fd_random_4"' in (tiny.parent / "runs" / "tiny" / "metrics.jsonl").read_text()
