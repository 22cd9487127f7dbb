from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from latent_lab.cli.errors import BAD_INPUT, OUR_MISTAKE, closest, report, sentence_of
from latent_lab.growth import Stage


def caught(action) -> BaseException:
    with pytest.raises(BaseException) as information:
        action()
    return information.value


def test_a_value_error_of_the_package_is_the_users_sentence():
    assert "batch_size must be at least 1" in (sentence_of(caught(lambda: Stage(4, 1.0, 0))) or "")


def test_a_value_error_of_torch_is_not():
    assert sentence_of(caught(lambda: torch.distributions.Normal(0.0, -1.0, validate_args=True))) is None


def test_a_value_error_of_the_standard_library_called_from_elsewhere_is_not():
    assert sentence_of(caught(lambda: json.loads("{"))) is None


def test_a_key_error_is_our_mistake():
    assert sentence_of(caught(lambda: {}["x"])) is None


def test_a_missing_file_is_named():
    assert sentence_of(caught(lambda: Path("nowhere.txt").read_text())) == "No such file or directory: nowhere.txt"


def test_a_full_disk_is_said_in_words():
    assert "disk is full (x.ckpt)" in (sentence_of(OSError(errno.ENOSPC, "No space left on device", "x.ckpt")) or "")


def test_what_this_package_says_around_a_full_disk_is_kept():
    error = OSError(errno.ENOSPC, "the checkpoint at 3.0 kimg could not be saved: No space left on device")
    assert sentence_of(error) == "the checkpoint at 3.0 kimg could not be saved: No space left on device"


def test_a_report_of_bad_input_is_one_line_and_exit_code_2(capsys):
    assert report(caught(lambda: Stage(4, 1.0, 0))) == BAD_INPUT
    shown = capsys.readouterr().err
    assert shown.startswith("latent-lab: batch_size must be at least 1, got 0")
    assert shown.count("\n") == 1


def test_a_report_of_our_mistake_keeps_its_traceback(capsys):
    assert report(caught(lambda: {}["x"])) == OUR_MISTAKE
    assert "Traceback" in capsys.readouterr().err


def test_tracebacks_of_bad_input_are_shown_on_request(monkeypatch, capsys):
    monkeypatch.setenv("LATENT_LAB_TRACEBACK", "1")
    assert report(caught(lambda: Stage(4, 1.0, 0))) == BAD_INPUT
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "known", "words"),
    [
        ("pioner", ["Pioneer", "GammaVAE"], "did you mean Pioneer?"),
        ("zzz", ["Pioneer", "GammaVAE"], "there are GammaVAE, Pioneer"),
        ("zzz", [], "there are none"),
        (
            "zzz",
            [f"n{i:02d}" for i in range(13)],
            "there are n00, n01, n02, n03, n04, n05, n06, n07, n08, n09, n10, n11, ...",
        ),
    ],
)
def test_unknown_names_are_answered_with_known_ones(word, known, words):
    assert closest(word, known) == words
