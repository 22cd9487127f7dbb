from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

import latent_lab
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint
from latent_lab.models.saving import save_model, write_atomically
from tests.contract.recipes import build_model


def on_a_full_disk(path: Path) -> None:
    """What is written to this path meets the system's own "no space left"."""
    path.with_name(f".{path.name}.{os.getpid()}.tmp").symlink_to("/dev/full")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, as Linux has it")
def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path):
    path = tmp_path / "last.ckpt"
    write_atomically({"step": torch.tensor(1)}, path)
    on_a_full_disk(path)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically({"step": torch.tensor(2)}, path)
    assert caught.value.errno == errno.ENOSPC
    assert torch.load(path, weights_only=True) == {"step": torch.tensor(1)}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_grows_too_large_is_reported_as_such(tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        # The limit lies within a tensor, so the system first writes a part of it.
        with pytest.raises(OSError, match="File too large"):
            write_atomically({"weights": torch.zeros(10_000)}, tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_zip_writer_itself_is_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(content: Any, file: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="unexpected pos 64"):
        write_atomically({}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_read_again(tmp_path: Path):
    content = {"weights": torch.arange(100_000.0), "name": "x"}
    write_atomically(content, tmp_path / "a.ckpt")
    again = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(again["weights"], content["weights"])
    assert again["name"] == "x"


def test_a_saved_model_is_a_checkpoint_that_loads_by_itself(tmp_path: Path):
    model = build_model("SplitVAE")
    save_model(model, tmp_path / "new" / "model.ckpt", imported={"format": "none"})
    again = latent_lab.load(tmp_path / "new" / "model.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))
    described = read_checkpoint(tmp_path / "new" / "model.ckpt")[CHECKPOINT_KEY]
    assert described["images_seen"] == 0
    assert described["data"] is None
    assert described["imported"] == {"format": "none"}
