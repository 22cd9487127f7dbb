"""Accelerators that are not on this machine, or nowhere."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("name", ["gpu", "cuda", "mps"])
@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["sample", "--ckpt", "model.ckpt"], "--accelerator"),
        (["test", "--ckpt", "model.ckpt"], "--accelerator"),
        (["explore", "model.ckpt"], "--accelerator"),
        (["train-regressor", "--config", "tiny", "--out", "r.safetensors"], "--accelerator"),
        (["chain", "build", "--config", "chain_synthetic", "--out", "chain"], "--accelerator"),
        (["fit", "--config", "tiny"], "--trainer.accelerator"),
        (["check", "--config", "tiny"], "--trainer.accelerator"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_gpu_that_is_not_there_gets_one_sentence(latent_lab, tiny, checkpoint, folder, name, words, option):
    before = set(folder.iterdir())
    outcome = latent_lab(*words, option, name)
    assert outcome.code == 2
    assert f"{option} {name} asks for a GPU, and PyTorch finds none on this machine" in outcome.error
    assert outcome.error.count("\n") == 1
    assert set(folder.iterdir()) == before


def test_an_accelerator_that_is_none_gets_one_sentence(latent_lab, tiny):
    outcome = latent_lab("fit", "--config", "tiny", "--trainer.accelerator", "xpu")
    assert outcome.code == 2
    assert "--trainer.accelerator must be one of auto, cpu, cuda, gpu, mps, got xpu: did you mean" in outcome.error


def test_what_a_run_on_gpus_would_do_is_told_without_one(latent_lab, tiny):
    outcome = latent_lab("fit", "--config", "tiny", "--config", "trainer/ddp.yaml", "--dry-run")
    assert outcome.code == 0
    assert "accelerator: gpu" in outcome.out
