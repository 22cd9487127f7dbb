"""Feature extractors for distances between sets of images: Inception (FID), EfficientNet-Lite0, and a random network.

An extractor takes float images in [-1, 1] of any size. It rounds them to 8 bits as a viewer of the saved files would
see them, resizes by a named protocol, and computes in float32 with autocast off. Extractors are kept in a cache of
the process and must not become submodules of a model: they would enter its parameters and checkpoints.

Resize protocols: `clean` is the antialiased bicubic filter of Pillow in float (Parmar et al. 2022); `tf1` is the
bilinear resize of the original FID program, without antialias and half-pixel centres, kept to reproduce published
numbers.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab import images as conversions
from latent_lab.networks.efficientnet_lite import EfficientNetLite0
from latent_lab.networks.pretrained import (
    FrozenNetwork,
    PublishedWeights,
    as_rgb,
    find_weights,
    obtain_weights,
    sha256_of,
    undisturbed_randomness,
)
from latent_lab.types import Features, Images

INCEPTION = PublishedWeights(
    title="the FID Inception network of 2015-12-05",
    # torch-fidelity and pytorch-fid publish the same file under two names.
    file_names=("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"),
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
)
EFFICIENTNET_LITE0 = PublishedWeights(
    title="EfficientNet-Lite0 (ImageNet, batch norm folded, fp16)",
    file_names=("efficientnet_lite0.fp16.safetensors",),
    sha256="1109a716bbb9f0243d26af53a08c1ce3abc0f903ec4d69daf89c6cd448a3bb83",
)
EXTRACTORS = ("inception", "efflite0", "random")
"""Names that `find_extractor` knows, besides "auto"."""
RESIZE_PROTOCOLS = ("clean", "tf1")
_RANDOM_SEED = 20150105


class AbstractExtractor(FrozenNetwork):
    """Images of any size to one row of features each."""

    num_features: int
    """Number F of features."""
    resize: str
    """Name of the resize protocol."""
    input_resolution: int
    """Pixels per side that the network itself sees."""

    def forward(self, images: Images) -> Features:
        """Features (N, F), float32.

        Args:
            images: (N, 1 or 3, H, W) in [-1, 1]; values outside are clamped, never wrapped.

        Raises:
            ValueError: if there are neither one nor three channels, or a value is not finite.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self.extract(conversions.quantise(as_rgb(images)))

    @abstractmethod
    def extract(self, images: Images) -> Features:
        """Features of float32 colour images that are already rounded to 8 bits."""

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        size = self.input_resolution
        return {
            **super().describe(),
            "num_features": self.num_features,
            "resize": f"{self.resize} to {size}x{size}",
            "quantised": "8 bits",
        }


class EfficientNetLiteExtractor(AbstractExtractor):
    """1280 features of EfficientNet-Lite0. Its distances are `fd_efflite0` and `kd_efflite0`: never FID or KID.

    Args:
        path: the safetensors file.
        sha256: its digest.
    """

    name = "efflite0"
    canonical = False
    num_features = EfficientNetLite0.num_features
    resize = "clean"
    input_resolution = 224
    _CPU_PIECE = 4

    def __init__(self, path: Path, sha256: str) -> None:
        super().__init__()
        from safetensors.torch import load_file

        self.sha256 = sha256
        with undisturbed_randomness():
            network = EfficientNetLite0()
        weights = {name: value.float() for name, value in load_file(path).items() if not name.startswith("fc.")}
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"{path} does not hold {EFFICIENTNET_LITE0.title}: {str(error).splitlines()[-1]}"
            ) from error
        # Pixel-major memory suits the 1x1 convolutions that do most of the work; results are the same.
        self.network = network.to(memory_format=torch.channels_last)
        self.freeze()

    def extract(self, images: Images) -> Features:
        """(byte - 127) / 128 of the resized images, through the network."""
        resized = conversions.resize(images, self.input_resolution)
        scaled = ((resized * 127.5 + 0.5) / 128.0).contiguous(memory_format=torch.channels_last)
        # A CPU is twice as fast on pieces whose widest maps stay in its caches; pieces do not change the numbers.
        pieces = scaled.split(self._CPU_PIECE) if scaled.device.type == "cpu" else (scaled,)
        return torch.cat([self.network(piece) for piece in pieces])


class InceptionExtractor(AbstractExtractor):
    """2048 pooled features of the Inception network that FID and KID are defined with (the TensorFlow graph of 2015).

    The network is torch-fidelity's. torchvision's Inception has other weights and another graph; its file is refused.
    A file of the right layout with another digest is accepted, and then neither the extractor nor a result bears the
    usual name.

    Args:
        path: the .pth file.
        sha256: its digest.
        resize: "clean" or "tf1".
    """

    num_features = 2048
    input_resolution = 299
    # fmt: off
    _STAGES = (
        "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2",
        "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e",
        "Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool",
    )
    # fmt: on

    def __init__(self, path: Path, sha256: str, resize: str) -> None:
        super().__init__()
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise ValueError(
                "the Inception extractor needs the package torch-fidelity: pip install torch-fidelity"
            ) from error

        self.sha256 = sha256
        self.resize = resize
        self.canonical = INCEPTION.matches(sha256)
        self.name = "inception" if self.canonical else f"inception_{sha256[:8]}_{resize}"
        try:
            # torch-fidelity unpickles without restriction, so the file is first shown to hold tensors and nothing else.
            weights = torch.load(path, map_location="cpu", weights_only=True)
            with undisturbed_randomness(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))
        except Exception as error:
            raise ValueError(
                f"{path} does not hold {INCEPTION.title} ({type(error).__name__}); torchvision's Inception is another "
                f"network, the right file is {INCEPTION.url}"
            ) from error
        assert len(weights) == len(network.state_dict())
        # torch-fidelity's own forward takes bytes and always resizes by tf1; its stages one by one take any resize.
        self.network = nn.Sequential(*(getattr(network, stage) for stage in self._STAGES))
        self.freeze()

    def extract(self, images: Images) -> Features:
        """(byte - 128) / 128 of the resized images, through the network."""
        scaled = (self._resized(images) * 127.5 - 0.5) / 128.0
        return self.network(scaled).flatten(1)

    def _resized(self, images: Images) -> Tensor:
        if self.resize == "clean":
            return conversions.resize(images, self.input_resolution)
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

        size = (self.input_resolution, self.input_resolution)
        return interpolate_bilinear_2d_like_tensorflow1x(images, size=size, align_corners=False)


def random_convolutions() -> list[nn.Conv2d]:
    """Three convolutions with stride 2 and fixed random weights (He et al. 2015's scale), the same on every machine."""
    rng = torch.Generator().manual_seed(_RANDOM_SEED)
    with undisturbed_randomness():
        layers = [nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False) for i, o in ((3, 32), (32, 64), (64, 64))]
    with torch.no_grad():
        for layer in layers:
            shape = layer.weight.shape
            layer.weight.copy_(torch.randn(shape, generator=rng) * (2.0 / shape[1:].numel()) ** 0.5)
    return layers


def sha256_of_weights(module: nn.Module) -> str:
    """The sha256 of a module's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class RandomExtractor(AbstractExtractor):
    """64 features of a small random network: it needs no file and runs anywhere. Its numbers are not for quoting."""

    name = "random"
    canonical = False
    num_features = 64
    resize = "clean"
    input_resolution = 32

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(random_convolutions())
        self.sha256 = sha256_of_weights(self.layers)
        self.freeze()

    def extract(self, images: Images) -> Features:
        """Means over the third map."""
        x = conversions.resize(images, self.input_resolution)
        for layer in self.layers:
            x = F.relu(layer(x))
        return x.mean((2, 3))


@functools.cache
def _efficientnet_lite(path: Path, sha256: str) -> AbstractExtractor:
    return EfficientNetLiteExtractor(path, sha256)


@functools.cache
def _inception(path: Path, sha256: str, resize: str) -> AbstractExtractor:
    return InceptionExtractor(path, sha256, resize)


@functools.cache
def _random() -> AbstractExtractor:
    return RandomExtractor()


def _choose(path: str | Path | None) -> str:
    if path is not None:
        raise ValueError(
            f"extractor 'auto' looks for weights by itself, got the path {path}: name the extractor that it belongs "
            f"to, {' or '.join(EXTRACTORS[:2])}"
        )
    if find_weights(INCEPTION) is not None and importlib.util.find_spec("torch_fidelity") is not None:
        return "inception"
    return "efflite0" if find_weights(EFFICIENTNET_LITE0) else "random"


def find_extractor(
    name: str = "auto", path: str | Path | None = None, *, resize: str = "clean", download: bool = False
) -> AbstractExtractor:
    """The named extractor, loaded once per process.

    Args:
        name: "inception", "efflite0", "random", or "auto": the first of these whose weights are on this machine. The
            choice shows in the extractor's name and thereby in every result.
        path: weights file, or a folder that holds it; otherwise the folder LATENT_LAB_WEIGHTS and torch hub's cache.
        resize: "clean", or for inception also "tf1".
        download: whether absent weights may be downloaded; "auto" downloads nothing.

    Raises:
        ValueError: if the name or the resize is unknown, or the weights are absent.
    """
    if name not in ("auto", *EXTRACTORS):
        raise ValueError(f"unknown extractor {name!r}: use auto, {', '.join(EXTRACTORS)}")
    if resize not in RESIZE_PROTOCOLS:
        raise ValueError(f"unknown resize protocol {resize!r}: use {' or '.join(RESIZE_PROTOCOLS)}")
    if name == "auto":
        name = _choose(path)
    if name != "inception" and resize != "clean":
        raise ValueError(f"resize protocol {resize!r} exists for the extractor inception alone, got {name}: use clean")
    if name == "random":
        if path is not None:
            raise ValueError(f"the random extractor has no weights file, got the path {path}: leave it out")
        return _random()
    weights = INCEPTION if name == "inception" else EFFICIENTNET_LITE0
    file = obtain_weights(weights, path, download=download).resolve()
    digest = sha256_of(file)
    return _inception(file, digest, resize) if name == "inception" else _efficientnet_lite(file, digest)


__all__ = [
    "EFFICIENTNET_LITE0",
    "EXTRACTORS",
    "INCEPTION",
    "RESIZE_PROTOCOLS",
    "AbstractExtractor",
    "EfficientNetLiteExtractor",
    "InceptionExtractor",
    "RandomExtractor",
    "find_extractor",
    "random_convolutions",
    "sha256_of_weights",
]
