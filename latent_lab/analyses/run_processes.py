"""Gaussian processes of camera runs: where codes are rows of numbers, and which hyper-parameters a process has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from latent_lab.latent.spaces import AbstractLatentSpace
from latent_lab.priors.gaussian_process import FACE_VIDEOS, GaussianProcess
from latent_lab.priors.kernels import ProductKernel, SameObjectKernel, ScaledKernel, build_kernel
from latent_lab.priors.poses import Poses
from latent_lab.types import Latents

Geometry = Literal["tangent", "project"]
_LEAST_VARIANCE = 1e-12
"""Of runs whose observed codes are equal."""


@dataclass(frozen=True)
class Chart:
    """Codes of one run as rows of numbers in which a Gaussian process is at home, and back."""

    space: AbstractLatentSpace
    base: Float64[Tensor, "1 D"] | None
    """Where the tangent touches the space; none: codes as they are, projected on the way back."""

    @classmethod
    def around(cls, space: AbstractLatentSpace, codes: Latents, geometry: Geometry) -> Chart:
        """The chart of a run.

        Args:
            space: of the codes.
            codes: (n, D) of the observed frames.
            geometry: tangent (at the mean of these codes) or project.
        """
        return cls(space, space.project(codes.mean(0, keepdim=True)) if geometry == "tangent" else None)

    def flat(self, codes: Latents) -> Latents:
        """Rows of codes."""
        return codes if self.base is None else self.space.to_tangent(self.base, codes)

    def curved(self, rows: Latents) -> Latents:
        """Codes of rows."""
        return self.space.project(rows) if self.base is None else self.space.from_tangent(self.base, rows)


@dataclass(frozen=True)
class Start:
    """Hyper-parameters but for the variance."""

    length_scale: float
    translation_length_scale: float
    noise_share: float
    """Variance of the noise over that of the process."""

    def process(self, kernel: str, variance: float = 1.0) -> GaussianProcess:
        """A process with these and a variance."""
        made = build_kernel(
            kernel,
            variance=variance,
            length_scale=self.length_scale,
            translation_length_scale=self.translation_length_scale,
        )
        return GaussianProcess(made, noise=variance * self.noise_share)


def published_process(kernel: str, translation_length_scale: float) -> GaussianProcess:
    """A process with the numbers of the published program of the face videos."""
    made = build_kernel(
        kernel,
        variance=FACE_VIDEOS.variance,
        length_scale=FACE_VIDEOS.length_scale,
        translation_length_scale=translation_length_scale,
    )
    return GaussianProcess(made, noise=FACE_VIDEOS.noise)


def scaled_process(kernel: str, start: Start, poses: Poses, rows: Latents) -> GaussianProcess:
    """A process whose variance makes the observed codes most likely, in closed form.

    As the mean over frames was taken off the codes, the n frames count as n - 1.

    Args:
        kernel: its name.
        start: length scales and the share of noise.
        poses: of the n observed frames.
        rows: (n, D) their codes in a chart.
    """
    count = len(rows)
    scale = start.process(kernel).best_scale(poses, rows) * count / (count - 1)
    return start.process(kernel, max(scale, _LEAST_VARIANCE))


def fitted_process(
    kernel: str, start: Start, runs: Sequence[tuple[Poses, Latents]]
) -> tuple[GaussianProcess, dict[str, Any]]:
    """A process whose hyper-parameters make the codes of independent runs most likely, and how the search went.

    Args:
        kernel: its name.
        start: where the search begins.
        runs: poses and codes in a chart of each run.

    Raises:
        ValueError: if frames do not determine hyper-parameters.
    """
    process = start.process(kernel)
    assert isinstance(process.kernel, ScaledKernel)
    # Each run has a mean of its own, and nothing to do with the others.
    rows = torch.cat([codes - codes.mean(0) for _, codes in runs])
    numbers = torch.cat([torch.full((len(poses),), place) for place, (poses, _) in enumerate(runs)])
    poses = Poses(
        torch.cat([poses.rotations for poses, _ in runs]),
        torch.cat([poses.translations for poses, _ in runs if poses.translations is not None]),
        numbers.to(rows.device),
    )
    single = process.kernel.kernel
    process.kernel.kernel = ProductKernel(single, SameObjectKernel())
    with torch.enable_grad():
        fit = process.fit(poses, rows)
    process.kernel.kernel = single
    return process, {**described(process), "frames": len(rows), "runs": len(runs), **fit._asdict()}


def described(process: GaussianProcess) -> dict[str, Any]:
    """Hyper-parameters as plain data."""
    positive: dict[str, Any] = {
        name.rpartition(".")[2].removeprefix("log_"): parameter.detach().exp().tolist()
        for name, parameter in process.named_parameters()
    }
    doubled = [name for name, _ in process.named_parameters() if "kernels.1" in name]
    if doubled:
        positive["translation_length_scale"] = process.get_parameter(doubled[0]).detach().exp().item()
        positive["length_scale"] = process.get_parameter(doubled[0].replace("kernels.1", "kernels.0")).exp().item()
    return positive


__all__ = ["Chart", "Geometry", "Start", "described", "fitted_process", "published_process", "scaled_process"]
