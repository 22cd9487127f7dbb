"""A small network that estimates the labels of images: the instrument with which edits and mixtures are measured.

It belongs to no model. It is trained by `latent-lab train-regressor`, kept as one safetensors file that says how it was
made and how well it estimates each label, and loaded by `load_regressor`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from latent_lab.images import resize
from latent_lab.networks.pretrained import sha256_of
from latent_lab.types import Images

FORMAT = "latent-lab label regressor"
RELIABLE: Mapping[str, float] = {"auc": 0.8, "r2": 0.5}
"""Held-out quality from which an estimate counts: the area under the curve of a yes or no, R^2 of a quantity."""

_FIRST_WIDTHS = (32, 64)
_WIDTH = 128

Labels = Float[Tensor, "N K"]


def default_widths(resolution: int) -> tuple[int, ...]:
    """32, 64, 128, 128 ...: one convolution for each halving down to 4 pixels, and the first one.

    Args:
        resolution: pixels per side, 4 * 2^k.
    """
    halvings = (resolution // 4).bit_length() - 1
    return (*_FIRST_WIDTHS, *([_WIDTH] * halvings))[: halvings + 1]


class LabelRegressor(nn.Module):
    """3x3 convolutions with batch norm, each but the first with stride 2, and one dense layer on what they leave.

    The dense layer sees where things are, so that positions such as a head's yaw are easy to read.

    Args:
        names: of the K labels.
        binary: for each label whether it is a yes or no (1 or 0), which is estimated as a probability; the others are
            numbers in their own units.
        resolution: pixels per side; images of other sizes are resized to it.
        channels: of the images.
        widths: channels after each convolution; by default `default_widths`.

    Raises:
        ValueError: if there is no label, a name comes twice, or the image is too small for so many convolutions.
    """

    mean: Tensor
    std: Tensor
    binary: Tensor

    def __init__(
        self,
        names: Sequence[str],
        binary: Sequence[bool],
        resolution: int,
        *,
        channels: int = 3,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        if not self.names:
            raise ValueError("a label regressor needs at least one label, got none: name data with labels")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"labels need names of their own, got {', '.join(self.names)}")
        if len(binary) != len(self.names):
            raise ValueError(f"binary must say yes or no for each of {len(self.names)} labels, got {len(binary)} words")
        widths = tuple(widths or default_widths(resolution))
        left = resolution >> (len(widths) - 1)
        if left < 1:
            raise ValueError(f"{len(widths)} convolutions leave nothing of {resolution} px: give fewer widths")
        self.resolution = resolution
        self.channels = channels
        self.widths = widths
        self.facts: dict[str, Any] = {}
        """Plain data on how it was made: under "quality" the held-out figures of each label, "data", "training"."""
        self.sha256: str | None = None
        """Digest of the file that it was loaded from."""
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(zip((channels, *widths), widths, strict=False)):
            convolution = nn.Conv2d(inputs, outputs, 3, stride=2 if number else 1, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.dense = nn.Linear(widths[-1] * left**2, len(self.names))
        self.register_buffer("binary", torch.tensor([bool(one) for one in binary]), persistent=False)
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("std", torch.ones(len(self.names)))

    def forward(self, images: Images) -> Labels:
        """Estimates (N, K) in the labels' own units: probabilities for a yes or no, numbers for the rest.

        Args:
            images: (N, C, H, W) in [-1, 1].

        Raises:
            ValueError: if the images have other channels than those that it was trained on.
        """
        scores = self.scores(images)
        return torch.where(self.binary, scores.sigmoid(), scores * self.std + self.mean)

    def scores(self, images: Images) -> Labels:
        """The same without bounds: log odds for a yes or no, standard deviations from the mean for the rest."""
        if images.shape[1] != self.channels:
            raise ValueError(
                f"this label regressor is for images with {self.channels} channels, got {images.shape[1]}: train one "
                "on images of the same kind"
            )
        return self.dense(self.layers(resize(images.float(), self.resolution)).flatten(1))

    def standardise(self, labels: Labels) -> Labels:
        """Labels (N, K) on the scale of `scores`; a yes or no stays 1 or 0."""
        return torch.where(self.binary, labels, (labels - self.mean) / self.std)

    @property
    def reliable(self) -> tuple[str, ...]:
        """Names of the labels whose held-out estimates reach `RELIABLE`."""
        quality = self.facts.get("quality", {})
        return tuple(
            name
            for name in self.names
            if any(quality.get(name, {}).get(measure, -1.0) >= least for measure, least in RELIABLE.items())
        )

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        return {"sha256": self.sha256, "resolution": self.resolution, **self.facts}

    def save(self, path: Path) -> None:
        """Writes one safetensors file with recipe and facts; it appears whole or not at all.

        Args:
            path: ends in .safetensors.
        """
        recipe = {
            "names": self.names,
            "binary": self.binary.tolist(),
            "resolution": self.resolution,
            "channels": self.channels,
            "widths": self.widths,
        }
        metadata = {"format": FORMAT, "recipe": json.dumps(recipe), "facts": json.dumps(self.facts)}
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            save_file(tensors, temporary, metadata=metadata)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def load_regressor(path: str | Path) -> LabelRegressor:
    """A trained regressor, on the CPU, in evaluation mode and without gradients.

    Raises:
        ValueError: if there is no such file or it holds something else.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"there is no label regressor at {path}: train one with `latent-lab train-regressor`")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or a damaged one: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} holds no label regressor: name a file that `latent-lab train-regressor` has written")
    recipe = json.loads(metadata["recipe"])
    with torch.random.fork_rng(devices=[]):
        regressor = LabelRegressor(**recipe)
    try:
        regressor.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit its own recipe: {str(error).splitlines()[-1].strip()}") from error
    regressor.facts = json.loads(metadata["facts"])
    regressor.sha256 = sha256_of(path)
    return regressor.requires_grad_(False).eval()


__all__ = ["RELIABLE", "LabelRegressor", "default_widths", "load_regressor"]
