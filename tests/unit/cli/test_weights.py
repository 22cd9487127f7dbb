"""`latent-lab weights`: what is known, what is found, and packing it."""

from __future__ import annotations

import hashlib

import pytest

from latent_lab.cli.errors import InputError
from latent_lab.cli.weights import pack
from latent_lab.networks.known_weights import KNOWN_WEIGHTS
from latent_lab.networks.pretrained import PublishedWeights


def known(name: str, content: bytes) -> PublishedWeights:
    return PublishedWeights(title=name, file_names=(f"{name}.pth",), sha256=hashlib.sha256(content).hexdigest())


def test_the_list_names_every_file_with_its_digest_and_how_to_get_it(latent_lab, folder, monkeypatch):
    monkeypatch.setenv("LATENT_LAB_WEIGHTS", str(folder))
    outcome = latent_lab("weights", "list")
    assert outcome.code == 0
    for weights in KNOWN_WEIGHTS:
        assert weights.file_names[0] in outcome.out
        assert weights.sha256 in outcome.out
        assert weights.licence in outcome.out
    assert "get it from https://" in outcome.out


def test_files_of_the_right_digest_are_collected_and_others_left(tmp_path):
    (tmp_path / "here" / "below").mkdir(parents=True)
    (tmp_path / "here" / "below" / "right.pth").write_bytes(b"right")
    (tmp_path / "here" / "wrong.pth").write_bytes(b"something else")
    wanted = [known("right", b"right"), known("wrong", b"wrong"), known("absent", b"absent")]
    out = tmp_path / "weights"
    packing = pack([tmp_path / "here"], out, wanted)
    assert (out / "right.pth").read_bytes() == b"right"
    assert [one.title for one in packing.missing] == ["wrong", "absent"]
    assert sorted(path.name for path in out.iterdir()) == ["right.pth"]
    again = pack([tmp_path / "here"], out, wanted[:1])
    assert "was there already" in again.lines[0]


def test_a_source_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file or folder"):
        pack([tmp_path / "nowhere"], tmp_path / "out", [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["weights", "pack"], "weights pack takes files or folders, and a folder"),
        (["weights", "burn"], "weights has no command burn"),
        (["weights", "list", "more"], "weights list takes nothing more"),
    ],
)
def test_wrong_words_are_one_sentence(words, message, latent_lab):
    outcome = latent_lab(*words)
    assert outcome.code == 2
    assert message in outcome.error
