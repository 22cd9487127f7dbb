"""Whether the devices that a command asks for are there."""

from __future__ import annotations

import torch

from latent_lab.cli.errors import InputError, closest

ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")


def check_accelerator(name: str, option: str) -> None:
    """Refuses what this machine has not, before anything is read or written.

    Args:
        name: of the accelerator.
        option: with which it was named, for the message.

    Raises:
        InputError: if there is no such accelerator, or not here.
    """
    if name not in ACCELERATORS:
        known = ", ".join(ACCELERATORS)
        raise InputError(f"{option} must be one of {known}, got {name}: {closest(name, ACCELERATORS)}")
    cuda, metal = torch.cuda.is_available(), torch.backends.mps.is_available()
    if not {"gpu": cuda or metal, "cuda": cuda, "mps": metal}.get(name, True):
        raise InputError(
            f"{option} {name} asks for a GPU, and PyTorch finds none on this machine: write {option} cpu, or install a "
            "driver and a build of PyTorch that fit the GPU"
        )
