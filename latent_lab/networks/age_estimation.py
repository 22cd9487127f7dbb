"""Estimators of the age that images show, by name: this is where they are asked for.

`find_age_estimator` gives dlib's age predictor, the oracle of drawn discs, a label regressor of this package, or a
network of the user's own. They judge what translators make, so they stand apart from them: an estimator is frozen, sees
images without their history, and returns plain numbers, so no gradient reaches it or comes out of it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from latent_lab import images as conversions
from latent_lab.networks.drawn_age import measured_age
from latent_lab.networks.extraction import sha256_of_weights
from latent_lab.networks.face_age import expected_age
from latent_lab.networks.features import DlibAgeExtractor, find_extractor
from latent_lab.networks.label_regressor import load_regressor
from latent_lab.networks.own_network import build_own, fill
from latent_lab.networks.pretrained import FrozenNetwork
from latent_lab.types import Images, Scores

AGE_ESTIMATORS = ("drawn", "dlib_age", "regressor")
"""Names that `find_age_estimator` knows, besides import paths of a user's own networks."""
_PIECE = 64


@runtime_checkable
class AgeEstimator(Protocol):
    """Tells ages of images; whatever else has this method can take a network's place."""

    label: str
    """How it is called in names of numbers."""

    def __call__(self, images: Images) -> Scores:
        """Ages in years (N,), float32, finite, without gradient, of images (N, C, R, R) in [-1, 1]."""

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""


class AbstractAgeEstimator(FrozenNetwork):
    """What every estimator does: images are rounded to 8 bits as a viewer of the saved files would see them."""

    canonical = False

    @property
    def label(self) -> str:
        """How it is called in names of numbers."""
        return self.name

    def forward(self, images: Images) -> Scores:
        """Ages in years (N,), float32; nothing is differentiated through it.

        Args:
            images: (N, 1 or 3, R, R) in [-1, 1], N may be 0; values outside are clamped.

        Raises:
            TypeError: if the images are not of a floating-point type.
            ValueError: if they are not finite or plainly of another range, or an age is no finite number.
        """
        ages = self.estimates(images)
        broken = int(ages.isnan().sum())
        if broken:
            raise ValueError(
                f"the age estimator {self.name} gave NaN or infinite ages for {broken} of {len(ages)} images: its "
                "weights are damaged, or it was not made for images in [-1, 1]"
            )
        return ages

    def estimates(self, images: Images) -> Scores:
        """Ages as `forward` gives them, but NaN for images of which the network gives no finite number.

        Args:
            images: as `forward` takes them.

        Raises:
            TypeError: if the images are not of a floating-point type.
            ValueError: if they are not finite or plainly of another range, or the network gives another number of ages.
        """
        conversions.check_range(images, "images whose age is to be estimated")
        ages = [torch.empty(0, device=images.device)]
        with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
            for piece in images.detach().split(_PIECE):
                found = self.see(conversions.quantise(piece))
                if tuple(found.shape) not in ((len(piece),), (len(piece), 1)):
                    raise ValueError(
                        f"{self.name} must give one age for each image, ({len(piece)},) or ({len(piece)}, 1), got "
                        f"{tuple(found.shape)}"
                    )
                ages.append(found.reshape(-1).float())
        # Copied outside of inference mode, so that whoever gets them may do with them what they like.
        return torch.cat(ages).clone().nan_to_num(nan=torch.nan, posinf=torch.nan, neginf=torch.nan)

    @abstractmethod
    def see(self, images: Images) -> Tensor:
        """Ages (N,) or (N, 1) of images that are rounded already."""


class DrawnAgeEstimator(AbstractAgeEstimator):
    """The oracle of `SyntheticAgeing`: it measures what an image shows, whoever made it; see `drawn_age`."""

    name = "age_drawn"
    sha256 = "none: no weights"

    def see(self, images: Images) -> Tensor:
        """The measured age."""
        return measured_age(images)


class DlibAgeEstimator(AbstractAgeEstimator):
    """dlib's age predictor: the expected age, of 0 to 80 years, of its scores.

    Args:
        extractor: with its weights, and the box of the face.
    """

    def __init__(self, extractor: DlibAgeExtractor) -> None:
        super().__init__()
        self.extractor = extractor
        self.name = extractor.name.replace("dlib_age", "age_dlib")
        self.sha256 = extractor.sha256
        self.freeze()

    def see(self, images: Images) -> Tensor:
        """The expectation over the scores' softmax."""
        scores = self.extractor.observe(images).logits
        assert scores is not None
        return expected_age(scores)

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        return {**super().describe(), "box": list(self.extractor.box)}


class RegressorAgeEstimator(AbstractAgeEstimator):
    """A label regressor that `latent-lab train-regressor` has trained on images with ages.

    Args:
        path: of its file.
        column: the label that is the age.

    Raises:
        ValueError: if there is no such file, or it does not estimate this label.
    """

    def __init__(self, path: str | Path, column: str = "age") -> None:
        super().__init__()
        self.regressor = load_regressor(path)
        if column not in self.regressor.names:
            raise ValueError(
                f"the label regressor {path} estimates {', '.join(self.regressor.names)}, and not {column}: train one "
                f"with --labels {column}"
            )
        self.column = self.regressor.names.index(column)
        self.sha256 = self.regressor.sha256 or sha256_of_weights(self.regressor)
        self.name = f"{column}_regressor"
        self.freeze()

    def see(self, images: Images) -> Tensor:
        """The label's estimate."""
        return self.regressor(images)[:, self.column]

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol, the estimator's own error on held-out images among it."""
        quality = self.regressor.facts.get("quality", {}).get(self.regressor.names[self.column], {})
        return {**super().describe(), "resolution": self.regressor.resolution, "quality": quality}


class OwnAgeEstimator(AbstractAgeEstimator):
    """A network of the user's that maps images (N, 3, R, R) in [-1, 1] to ages (N,) or (N, 1) in years.

    With an integer attribute `input_resolution` it gets images of that many pixels per side.

    Args:
        class_path: import path of an nn.Module class, or of a function that returns a module; called without arguments.
        path: a file with its state dict, if it has not its weights already.

    Raises:
        ValueError: if it cannot be imported, built or filled.
    """

    def __init__(self, class_path: str, path: Path | None = None) -> None:
        super().__init__()
        network: nn.Module = build_own(class_path)
        if path is not None:
            fill(network, path, class_path)
        self.network = network
        self.class_path = class_path
        self.input_resolution = getattr(network, "input_resolution", None)
        self.sha256 = sha256_of_weights(network)
        self.name = f"age_{class_path.rpartition('.')[2]}_{self.sha256[:8]}"
        self.freeze()

    def see(self, images: Images) -> Tensor:
        """The network's own output.

        Raises:
            ValueError: if it does not return a tensor.
        """
        if self.input_resolution is not None:
            images = conversions.resize(images, int(self.input_resolution))
        found = self.network(images.expand(-1, 3, -1, -1))
        if not isinstance(found, Tensor):
            raise ValueError(f"{self.class_path} must give a tensor of ages (N,), got {type(found).__name__}")
        return found

    def describe(self) -> dict[str, Any]:
        """Plain data for a result's protocol."""
        return {**super().describe(), "class_path": self.class_path}


def find_age_estimator(
    name: str, path: str | Path | None = None, *, box: str | Sequence[float] | None = None
) -> AbstractAgeEstimator:
    """The named estimator.

    Args:
        name: "drawn" (the oracle of `SyntheticAgeing`), "dlib_age", "regressor", or the import path of a user's own
            nn.Module class or function, see `OwnAgeEstimator`.
        path: of "regressor" its file; of the others a weights file.
        box: of "dlib_age", where the face is; see `find_extractor`.

    Raises:
        ValueError: if the name is unknown, weights are absent, or a user's network is unfit.
    """
    if box is not None and name != "dlib_age":
        raise ValueError(f"a box is for the age estimator dlib_age, got one for {name}: leave it out")
    if name == "drawn":
        if path is not None:
            raise ValueError(f"the age estimator drawn has no weights file, got the path {path}: leave it out")
        return DrawnAgeEstimator()
    if name == "dlib_age":
        extractor = find_extractor("dlib_age", path, box=box)
        assert isinstance(extractor, DlibAgeExtractor)
        return DlibAgeEstimator(extractor)
    if name == "regressor":
        if path is None:
            raise ValueError(
                "the age estimator regressor needs the path of a file that `latent-lab train-regressor` has written"
            )
        return RegressorAgeEstimator(path)
    if "." not in name:
        raise ValueError(
            f"unknown age estimator {name!r}: use {', '.join(AGE_ESTIMATORS)}, or the import path of your own network"
        )
    own = None if path is None else Path(path).expanduser()
    if own is not None and not own.is_file():
        raise ValueError(f"the weights of {name} were expected in the file {own}, which does not exist")
    return OwnAgeEstimator(name, own)


__all__ = [
    "AGE_ESTIMATORS",
    "AbstractAgeEstimator",
    "AgeEstimator",
    "DlibAgeEstimator",
    "DrawnAgeEstimator",
    "OwnAgeEstimator",
    "RegressorAgeEstimator",
    "find_age_estimator",
]
