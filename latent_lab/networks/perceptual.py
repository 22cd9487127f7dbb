"""Perceptual distances between pairs of images: LPIPS, shift-tolerant LPIPS, and one on a random network.

All of them compare feature maps that are normalised at each pixel (Zhang et al. 2018):
d(a, b) = sum over layers of the mean over pixels of sum_c w_c (fa_c - fb_c)^2, with fa = phi(a) / |phi(a)|.
They take float images in [-1, 1] of any size, clamp them, and are differentiable; they do not round to 8 bits,
because path lengths compare images that differ by less than one level.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from latent_lab import images as conversions
from latent_lab.networks.features import random_convolutions, sha256_of_weights
from latent_lab.networks.pretrained import (
    FrozenNetwork,
    PublishedWeights,
    as_rgb,
    find_weights,
    last_line,
    obtain_weights,
    sha256_of,
    undisturbed_randomness,
)
from latent_lab.networks.vgg import VGG16
from latent_lab.types import Images, Scores

_TORCHVISION = "https://download.pytorch.org/models/"
LPIPS_TRUNKS = {
    "alex": PublishedWeights(
        "LPIPS's trunk AlexNet (torchvision)",
        ("alexnet-owt-7be5be79.pth",),
        "7be5be79",
        _TORCHVISION + "alexnet-owt-7be5be79.pth",
        licence="BSD-3-Clause",
        purpose="--perceptual lpips_alex",
    ),
    "vgg": VGG16,
    "squeeze": PublishedWeights(
        "LPIPS's trunk SqueezeNet 1.1 (torchvision)",
        ("squeezenet1_1-b8a52dc0.pth",),
        "b8a52dc0",
        _TORCHVISION + "squeezenet1_1-b8a52dc0.pth",
        licence="BSD-3-Clause",
        purpose="--perceptual lpips_squeeze",
    ),
}
ST_LPIPS_ALEX = PublishedWeights(
    title="ST-LPIPS with the AlexNet trunk",
    file_names=("stlpips_alex.safetensors",),
    sha256="3c3a0d4850e219bc2572dabb1466fac2e8cf0c3d4f9825c9441c3d285a084363",
    origin="PyPI's stlpips-pytorch 0.0.2, converted",
    licence="BSD-2-Clause",
    purpose="--perceptual st_lpips_alex",
)
PERCEPTUAL_DISTANCES = ("lpips_alex", "lpips_vgg", "lpips_squeeze", "st_lpips_alex", "random_l2")
"""Names that `find_perceptual` knows, besides "auto"."""


class AbstractPerceptualDistance(FrozenNetwork):
    """One number for each pair of images; 0 for equal ones."""

    min_resolution: int
    """Smaller images are enlarged to this many pixels per side first."""

    def forward(self, a: Images, b: Images) -> Scores:
        """Distances (N,) of the pairs, float32.

        Args:
            a: (N, 1 or 3, H, W) in [-1, 1]; values outside are clamped.
            b: the same shape.

        Raises:
            ValueError: if shapes differ, there are neither one nor three channels, or a value is not finite.
        """
        return self._distance(a, b, clamp=True)

    def unclamped(self, a: Images, b: Images) -> Scores:
        """Distances (N,) of the pairs with values outside [-1, 1] as they are, as NVIDIA's path lengths compare
        them.
        """
        return self._distance(a, b, clamp=False)

    def _distance(self, a: Images, b: Images, *, clamp: bool) -> Scores:
        if a.shape != b.shape:
            raise ValueError(
                f"a perceptual distance compares images of one shape, got {tuple(a.shape)}, {tuple(b.shape)}"
            )
        with torch.autocast(a.device.type, enabled=False):
            return self.compare(self._prepare(a, clamp), self._prepare(b, clamp))

    def _prepare(self, images: Images, clamp: bool) -> Tensor:
        prepared = as_rgb(images)
        if clamp:
            prepared = prepared.clamp(-1.0, 1.0)
        small = min(prepared.shape[-2:]) < self.min_resolution
        return conversions.resize(prepared, self.min_resolution) if small else prepared

    @abstractmethod
    def compare(self, a: Images, b: Images) -> Scores:
        """Distances of float32 colour images that are large enough."""

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        return {
            **super().describe(),
            "resize": f"smaller images enlarged to {self.min_resolution} px, clean; others as they are",
        }


def _unit(maps: Tensor) -> Tensor:
    """Feature vectors of each pixel divided by their length."""
    return maps / (torch.linalg.vector_norm(maps, dim=1, keepdim=True) + 1e-10)


class LPIPS(AbstractPerceptualDistance):
    """Learned perceptual distance, version 0.1 (Zhang et al. 2018), by the package lpips.

    The package has the linear heads; the trunk is a torchvision file. A trunk with another digest than the published
    one gives another name.

    Args:
        net: "alex", "vgg" or "squeeze".
        path: the trunk's file.
        sha256: its digest.
    """

    min_resolution = 32

    def __init__(self, net: str, path: Path, sha256: str) -> None:
        super().__init__()
        published = LPIPS_TRUNKS[net]
        self.canonical = published.matches(sha256)
        self.name = f"lpips_{net}" if self.canonical else f"lpips_{net}_{sha256[:8]}"
        if importlib.util.find_spec("lpips") is None:
            raise ValueError(f"the perceptual distance {self.name} needs the package lpips: pip install lpips")
        import lpips

        heads = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
        self.sha256 = sha256_of(path, heads)
        with undisturbed_randomness(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision's note that `pretrained` has another spelling now
            network = lpips.LPIPS(net=net, version="0.1", pretrained=False, pnet_rand=True, verbose=False)
        network.load_state_dict(torch.load(heads, map_location="cpu", weights_only=True), strict=False)
        self._load_trunk(network.net, path, published.title)
        self.network = network
        self.freeze()

    @staticmethod
    def _load_trunk(trunk: nn.Module, path: Path, title: str) -> None:
        """Torchvision calls a layer `features.3.weight`; the package cuts the trunk into slices: `slice2.3.weight`."""
        renamed = {name: f"features.{name.split('.', 1)[1]}" for name in trunk.state_dict()}
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            missing = sorted(set(renamed.values()) - set(weights))
            if not missing:
                trunk.load_state_dict({name: weights[published] for name, published in renamed.items()})
        except Exception as error:
            raise ValueError(f"{path} does not hold {title} ({type(error).__name__}): {last_line(error)}") from error
        if missing:
            raise ValueError(
                f"{path} does not hold {title}: {missing[0]} and {len(missing) - 1} more tensors are missing"
            )

    def compare(self, a: Images, b: Images) -> Scores:
        """The package's forward pass."""
        return self.network(a, b).flatten()

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        return {**super().describe(), "version": "0.1"}


class ShiftTolerantLPIPS(AbstractPerceptualDistance):
    """Shift-tolerant LPIPS with the AlexNet trunk (Ghildyal & Liu, ECCV 2022): every reduction is blurred first.

    Args:
        path: the safetensors file with trunk and heads.
        sha256: its digest.
    """

    name = "st_lpips_alex"
    canonical = False
    min_resolution = 64
    # in channels, out channels, kernel, padding; the stride is always 1, reductions are `_halve_blurred`
    _CONVOLUTIONS = ((3, 64, 11, 2), (64, 192, 5, 2), (192, 384, 3, 1), (384, 256, 3, 1), (256, 256, 3, 1))
    shift: Tensor
    scale: Tensor
    blur: Tensor

    def __init__(self, path: Path, sha256: str) -> None:
        super().__init__()
        from safetensors.torch import load_file

        self.sha256 = sha256
        with undisturbed_randomness():
            self.convs = nn.ModuleList(nn.Conv2d(i, o, k, padding=p) for i, o, k, p in self._CONVOLUTIONS)
        self.lins = nn.ParameterList(nn.Parameter(torch.zeros(o)) for _, o, _, _ in self._CONVOLUTIONS)
        # ImageNet's mean and deviation of each colour for pixels in [-1, 1], as LPIPS 0.1 has them.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)
        binomial = torch.tensor([1.0, 2.0, 1.0]) / 4.0
        self.register_buffer("blur", torch.outer(binomial, binomial)[None, None], persistent=False)
        try:
            self.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{path} does not hold {ST_LPIPS_ALEX.title}: {last_line(error)}") from error
        self.freeze()

    def _halve_blurred(self, x: Tensor) -> Tensor:
        """Half the size after a binomial filter, edges mirrored two pixels wide."""
        channels = x.shape[1]
        padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
        return F.conv2d(padded, self.blur.expand(channels, 1, 3, 3), stride=2, groups=channels)

    def _maps(self, images: Images) -> list[Tensor]:
        x = (images - self.shift) / self.scale
        first, second, third, fourth, fifth = self.convs
        maps = [F.relu(self._halve_blurred(first(x)))]
        maps.append(F.relu(second(self._halve_blurred(F.max_pool2d(maps[-1], 3, stride=1)))))
        maps.append(F.relu(third(self._halve_blurred(F.max_pool2d(maps[-1], 3, stride=1)))))
        maps.append(F.relu(fourth(maps[-1])))
        maps.append(F.relu(fifth(maps[-1])))
        return maps

    def compare(self, a: Images, b: Images) -> Scores:
        """Sum over the five maps, weighted by the learned heads."""
        total = a.new_zeros(len(a))
        for of_a, of_b, head in zip(self._maps(a), self._maps(b), self.lins, strict=True):
            difference = (_unit(of_a) - _unit(of_b)).square()
            total = total + torch.einsum("nchw,c->nhw", difference, head).mean((1, 2))
        return total


class RandomDistance(AbstractPerceptualDistance):
    """Squared difference of normalised maps of a small random network. Not LPIPS in any form; not for quoting."""

    name = "random_l2"
    canonical = False
    min_resolution = 16

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(random_convolutions())
        self.sha256 = sha256_of_weights(self.layers)
        self.freeze()

    def compare(self, a: Images, b: Images) -> Scores:
        """Sum over three maps of the mean over pixels of the squared difference."""
        total = a.new_zeros(len(a))
        for layer in self.layers:
            a, b = F.relu(layer(a)), F.relu(layer(b))
            total = total + (_unit(a) - _unit(b)).square().sum(1).mean((1, 2))
        return total


@functools.cache
def _lpips(net: str, path: Path, sha256: str) -> AbstractPerceptualDistance:
    return LPIPS(net, path, sha256)


@functools.cache
def _st_lpips(path: Path, sha256: str) -> AbstractPerceptualDistance:
    return ShiftTolerantLPIPS(path, sha256)


@functools.cache
def _random() -> AbstractPerceptualDistance:
    return RandomDistance()


def _choose(path: str | Path | None) -> str:
    if path is not None:
        raise ValueError(
            f"perceptual distance 'auto' looks for weights by itself, got the path {path}: name the distance that it "
            f"belongs to, {', '.join(PERCEPTUAL_DISTANCES[:-1])}"
        )
    if find_weights(LPIPS_TRUNKS["alex"]) is not None:
        return "lpips_alex"
    return "st_lpips_alex" if find_weights(ST_LPIPS_ALEX) else "random_l2"


def find_perceptual(
    name: str = "auto", path: str | Path | None = None, *, download: bool = False
) -> AbstractPerceptualDistance:
    """The named perceptual distance, loaded once per process.

    Args:
        name: "lpips_alex", "lpips_vgg", "lpips_squeeze", "st_lpips_alex", "random_l2", or "auto": lpips_alex,
            st_lpips_alex or random_l2, the first whose weights are on this machine. The choice shows in the name of
            every result.
        path: weights file (for LPIPS the trunk), or a folder that holds it; otherwise the folder LATENT_LAB_WEIGHTS
            and torch hub's cache.
        download: whether absent weights may be downloaded; "auto" downloads nothing.

    Raises:
        ValueError: if the name is unknown or the weights are absent.
    """
    if name not in ("auto", *PERCEPTUAL_DISTANCES):
        raise ValueError(f"unknown perceptual distance {name!r}: use auto, {', '.join(PERCEPTUAL_DISTANCES)}")
    if name == "auto":
        name = _choose(path)
    if name == "random_l2":
        if path is not None:
            raise ValueError(
                f"the perceptual distance random_l2 has no weights file, got the path {path}: leave it out"
            )
        return _random()
    if name == "st_lpips_alex":
        file = obtain_weights(ST_LPIPS_ALEX, path, download=download).resolve()
        return _st_lpips(file, sha256_of(file))
    net = name.removeprefix("lpips_")
    file = obtain_weights(LPIPS_TRUNKS[net], path, download=download).resolve()
    return _lpips(net, file, sha256_of(file))


__all__ = [
    "LPIPS",
    "LPIPS_TRUNKS",
    "PERCEPTUAL_DISTANCES",
    "ST_LPIPS_ALEX",
    "AbstractPerceptualDistance",
    "RandomDistance",
    "ShiftTolerantLPIPS",
    "find_perceptual",
]
