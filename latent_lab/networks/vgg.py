"""VGG-16 (Simonyan & Zisserman 2015) in torchvision's layout, whose last hidden layer measures precision and recall."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from latent_lab.networks.pretrained import PublishedWeights
from latent_lab.types import Features, Images

VGG16 = PublishedWeights(
    title="torchvision's VGG16 of ImageNet",
    file_names=("vgg16-397923af.pth",),
    sha256="397923af",
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    licence="BSD-3-Clause",
    purpose="--extractor vgg16, --perceptual lpips_vgg",
)

# Channels of the 3x3 convolutions of each stage; a stage ends with the largest of 2x2 pixels.
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_LAST_SIDE = 7


class VGG16Network(nn.Module):
    """Normalised images of 224 x 224 pixels to 4096 features and 1000 class scores.

    Features are those of the second fully connected layer after its ReLU. Names of layers are torchvision's; its two
    dropouts keep their places in the numbering and do nothing here.
    """

    num_features = 4096
    num_classes = 1000

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage in _STAGES:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * _LAST_SIDE**2, self.num_features),
            nn.ReLU(inplace=True),
            nn.Identity(),
            nn.Linear(self.num_features, self.num_features),
            nn.ReLU(inplace=True),
            nn.Identity(),
            nn.Linear(self.num_features, self.num_classes),
        )

    def forward(self, normalised: Images) -> tuple[Features, Tensor]:
        """(N, 3, 224, 224) -> features (N, 4096) and class scores (N, 1000)."""
        features = self.classifier[:-1](self.features(normalised).flatten(1))
        return features, self.classifier[-1](features)


def build_vgg16(weights: Mapping[str, Tensor]) -> VGG16Network:
    """The network with weights in torchvision's layout.

    Raises:
        RuntimeError: if tensors are missing, unknown, or of other shapes.
    """
    # Initial weights of its 138 million parameters would take seconds to draw.
    with torch.device("meta"):
        network = VGG16Network()
    network.load_state_dict(weights, assign=True)
    network.features.to(memory_format=torch.channels_last)
    return network


__all__ = ["VGG16", "VGG16Network", "build_vgg16"]
