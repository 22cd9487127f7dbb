"""Whether two pictures show the same person: the face embedding of dlib (King 2017).

The embedding sees a chip of 150 x 150 pixels with the eyes at fixed places (at 32 % and 67 % of its width, 31 % of its
height). Images here are aligned already, so the chip is a fixed box of the image, given in shares of its sides; a box
may reach out of the image, whose edge is then repeated.

Distances of this embedding are called `id_dlib` and never ArcFace or FaceNet: numbers of papers with those are others.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from latent_lab import images as conversions
from latent_lab.networks.pretrained import (
    FrozenNetwork,
    PublishedWeights,
    as_rgb,
    obtain_weights,
    sha256_of,
    undisturbed_randomness,
)
from latent_lab.types import Features, Images, OtherImages, Scores

DLIB_FACE = PublishedWeights(
    title="dlib's face recognition network, version 1 (fp16 safetensors)",
    file_names=("dlib_face_resnet_v1.fp16.safetensors",),
    sha256="69f42712d4f1a3b439837f291186f536b6477a2fe95249fab45bf811ce4c0cd4",
    origin="PyPI's face_recognition_models 0.3.0, converted",
    licence="CC0-1.0",
    purpose="identity distances, --extractor dlib_identity",
)

Box: TypeAlias = tuple[float, float, float, float]
"""left, top, right, bottom in shares of width and height."""

BOXES: Mapping[str, Box] = {
    # In the aligned images of 178 x 218 pixels the chip is (32.8, 75.6, 146.8, 189.6). Their largest centred square
    # begins at row 20; the narrow crop is 128 pixels wide, begins at (25, 45) and ends above the chip's lower edge.
    "celeba": (32.8 / 178, 55.6 / 178, 146.8 / 178, 169.6 / 178),
    "celeba_narrow": (7.8 / 128, 30.6 / 128, 121.8 / 128, 144.6 / 128),
    "ffhq": (19.0 / 128, 31.7 / 128, 110.3 / 128, 123.1 / 128),
    # Cut by dlib itself.
    "utkface": (0.0, 0.0, 1.0, 1.0),
}
"""The chip in images framed as CelebA's centred square, its narrow crop of the latent-space study, FFHQ, and UTKFace's
aligned and cropped faces."""

SAME_PERSON = 0.6
"""Euclidean distance below which dlib takes two pictures for the same person."""

_CHIP = 150
_MEAN = (122.782, 117.001, 104.298)
_SCALE = 256.0


class DlibResidual(nn.Module):
    """Two 3x3 convolutions beside a shortcut; where resolution halves, the shortcut is a mean of 2x2 pixels.

    dlib adds what differs in size as if the smaller one ended in zeros, in channels and in pixels.
    """

    def __init__(self, inputs: int, outputs: int, *, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2 if halves else 1, padding=0 if halves else 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        y = self.conv2(F.relu(self.conv1(x)))
        if not self.halves:
            return F.relu(y + x)
        shortcut = F.avg_pool2d(x, 2)
        shape = [max(sizes) for sizes in zip(y.shape[1:], shortcut.shape[1:], strict=True)]
        return F.relu(_filled(y, shape) + _filled(shortcut, shape))


def _filled(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Zeros after channels, rows and columns up to the given shape (C, H, W)."""
    channels, rows, columns = (wanted - found for wanted, found in zip(shape, x.shape[1:], strict=True))
    return F.pad(x, (0, columns, 0, rows, 0, channels))


def scaled_for_dlib(chips: Images) -> Images:
    """(byte - mean) / 256 of chips (N, 3, H, W) in [-1, 1], as dlib's networks see them."""
    return (conversions.to_unit(chips) * 255.0 - chips.new_tensor(_MEAN).view(1, 3, 1, 1)) / _SCALE


class DlibFaceNetwork(nn.Module):
    """dlib's residual network of 29 convolutions with its affine layers folded in: chips to 128 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        blocks, inputs = [], 32
        for outputs, first_halves, count in ((32, False, 3), (64, True, 4), (128, True, 3), (256, True, 3)):
            for number in range(count):
                blocks.append(DlibResidual(inputs, outputs, halves=first_halves and number == 0))
                inputs = outputs
        blocks.append(DlibResidual(256, 256, halves=True))
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(256, 128, bias=False)

    def forward(self, chips: Images) -> Features:
        """(N, 128) of chips (N, 3, 150, 150) in [-1, 1]."""
        features = F.max_pool2d(F.relu(self.stem(scaled_for_dlib(chips))), 3, stride=2)
        return self.fc(self.blocks(features).mean((2, 3)))


class DlibIdentity(FrozenNetwork):
    """128 numbers for each face, such that pictures of one person are less than `SAME_PERSON` apart.

    Args:
        path: the safetensors file.
        sha256: its digest.
        box: where the chip is in the images.
    """

    name = "id_dlib"

    def __init__(self, path: Path, sha256: str, box: Box) -> None:
        super().__init__()
        from safetensors.torch import load_file

        self.sha256 = sha256
        self.canonical = DLIB_FACE.matches(sha256)
        self.box = box
        with undisturbed_randomness():
            network = DlibFaceNetwork()
        try:
            network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"{path} does not hold {DLIB_FACE.title}: {str(error).splitlines()[-1]}") from error
        self.network = network
        self.freeze()

    def forward(self, images: Images) -> Features:
        """(N, 128), float32, of images (N, 1 or 3, R, R) in [-1, 1], which are rounded to 8 bits first."""
        with torch.autocast(images.device.type, enabled=False):
            return self.network(cut(conversions.quantise(as_rgb(images)), self.box, _CHIP))

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        return {**super().describe(), "box": list(self.box), "chip": _CHIP, "same_person_below": SAME_PERSON}


def cut(images: Images, box: Box, size: int) -> OtherImages:
    """The box of each image as size x size pixels, bilinear; antialiased where it is reduced, edges repeated outside.

    Args:
        images: (N, C, R, R) in [-1, 1].
        box: left, top, right, bottom in shares of the image.
        size: pixels per side of the result.
    """
    left, top, right, bottom = box
    # Brings a larger image to about the scale of the result first, so that sampling skips no pixel.
    wanted = round(size / min(right - left, bottom - top))
    if images.shape[-1] > wanted:
        images = conversions.resize(images, wanted)
    centres = (torch.arange(size, dtype=images.dtype, device=images.device) + 0.5) / size
    x = 2.0 * (left + (right - left) * centres) - 1.0
    y = 2.0 * (top + (bottom - top) * centres) - 1.0
    grid = torch.stack([x.expand(size, size), y[:, None].expand(size, size)], dim=-1)
    places = grid.expand(len(images), -1, -1, -1)
    return F.grid_sample(images, places, mode="bilinear", padding_mode="border", align_corners=False)


def distance(a: Features, b: Features) -> Scores:
    """Euclidean distance of embeddings, row by row, (N,)."""
    return torch.linalg.vector_norm(a - b, dim=1)


class IdentityDistance:
    """How far apart the persons of two pictures are: a measure of pairs for `metrics.ReconstructionError`.

    The Euclidean distance of dlib's embeddings, about 0 to 1.5; below `SAME_PERSON` dlib takes two pictures for one
    person. It means something for aligned faces alone, with the chip where the embedding's box says: a box of other
    images gives numbers all the same.

    Args:
        embedding: of `find_identity`.
    """

    def __init__(self, embedding: DlibIdentity) -> None:
        self.embedding = embedding
        self.name = embedding.name

    def __call__(self, images: Images, reconstructions: Images) -> Scores:
        """Distances (N,) of the pairs (N, 1 or 3, R, R) in [-1, 1], which are rounded to 8 bits first."""
        return distance(self.embedding(images), self.embedding(reconstructions))

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        return self.embedding.describe()


def find_identity(path: str | Path | None = None, box: str | Sequence[float] = "celeba") -> DlibIdentity:
    """Dlib's embedding, loaded once per process.

    Args:
        path: weights file, or a folder that holds it; otherwise the folder LATENT_LAB_WEIGHTS and torch hub's cache.
        box: one of `BOXES`, or left, top, right, bottom in shares of the image.

    Raises:
        ValueError: if the weights are absent or the box is none.
    """
    chosen = box_of(box)
    file = obtain_weights(DLIB_FACE, path).resolve()
    return _identity(file, sha256_of(file), chosen)


def box_of(box: str | Sequence[float]) -> Box:
    """One of `BOXES` by its name, or four numbers, checked.

    Raises:
        ValueError: if the name is unknown, or the numbers are no box.
    """
    if isinstance(box, str):
        if box not in BOXES:
            raise ValueError(
                f"the box must be one of {', '.join(BOXES)}, or [left, top, right, bottom] in shares, got {box}"
            )
        return BOXES[box]
    if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(
            f"a box must be [left, top, right, bottom] in shares of the image with left < right and top < bottom, got "
            f"{list(box)}"
        )
    left, top, right, bottom = (float(edge) for edge in box)
    return left, top, right, bottom


@functools.cache
def _identity(path: Path, sha256: str, box: Box) -> DlibIdentity:
    return DlibIdentity(path, sha256, box)


__all__ = [
    "BOXES",
    "DLIB_FACE",
    "SAME_PERSON",
    "Box",
    "DlibFaceNetwork",
    "DlibIdentity",
    "DlibResidual",
    "IdentityDistance",
    "box_of",
    "cut",
    "distance",
    "find_identity",
    "scaled_for_dlib",
]
