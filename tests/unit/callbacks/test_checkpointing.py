from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from latent_lab.callbacks import checkpointing
from latent_lab.models.saving import write_atomically
from tests.contract.recipes import train


def test_a_full_disk_in_mid_run_is_a_warning_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []

    def fill_the_disk_at_the_second_save(content: Any, path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(content, path)

    monkeypatch.setattr(checkpointing, "write_atomically", fill_the_disk_at_the_second_save)
    with pytest.warns(UserWarning, match=r"could not be saved to .*: No space left on device; training goes on"):
        last = train("Pioneer", tmp_path, tmp_path / "cache", images=96)  # the second save is that of the new phase
    assert torch.load(last, weights_only=True)["latent_lab"]["images_seen"] == 96


def test_a_full_disk_at_the_end_is_an_error_of_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []

    def fill_the_disk_after_the_first_save(content: Any, path: Path) -> None:
        calls.append(path)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(content, path)

    monkeypatch.setattr(checkpointing, "write_atomically", fill_the_disk_after_the_first_save)
    with pytest.raises(OSError, match="free some space and use --resume auto"):
        train("Pioneer", tmp_path, tmp_path / "cache", images=32)
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["latent_lab"]["images_seen"] == 0


def test_leftovers_of_a_killed_save_are_removed(tmp_path: Path):
    leftover = tmp_path / "checkpoints" / ".last.ckpt.123.tmp"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    train("Pioneer", tmp_path, tmp_path / "cache", images=16)
    assert not leftover.exists()
