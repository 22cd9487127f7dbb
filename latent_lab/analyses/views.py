"""What objects look like from views that training lacks: predictions, and what the nearest views that it has give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_lab.analyses.base import AbstractAnalysis, Result, file_stem
from latent_lab.analyses.feeding import (
    HeldOut,
    as_tensor,
    batches,
    device_of,
    real_images,
    share,
    situation,
    spread,
)
from latent_lab.analyses.sample import magnification
from latent_lab.images import quantise
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractViewDecoder
from latent_lab.latent.rotations import Matrices, check_rotations
from latent_lab.metrics import ReconstructionError
from latent_lab.metrics.functional import mean_squared_error
from latent_lab.metrics.functional.bootstrap import LEVEL, mean_interval
from latent_lab.networks.perceptual import AbstractPerceptualDistance, find_perceptual
from latent_lab.plotting import labelled_rows
from latent_lab.priors.rotations import geodesic_angle
from latent_lab.types import Images, ImageSource

PREDICTION = "prediction"
BASELINES = {
    "nearest_code": "code of the nearest view of the object in training, decoded",
    "interpolated_codes": "codes of the nearest view and of the nearest on its other side, interpolated by the angles",
    "nearest_image": "image of the nearest view of the object in training",
}
"""Name -> what stands for the image."""
RECONSTRUCTION = "reconstruction"

_BLOCK = 256
_SAME_ANGLE = 1e-6


class KnownViews(NamedTuple):
    """Which views of which objects are known."""

    objects: Int[Tensor, "M"]
    rotations: Float[Tensor, "M 3 3"]


class Neighbours(NamedTuple):
    """Between which known views others lie."""

    nearest: Int[Tensor, "N"]
    """Place of the nearest known view of the same object."""
    beyond: Int[Tensor, "N"]
    """Place of the nearest one on the other side; the same as `nearest` where there is none."""
    part: Float[Tensor, "N"]
    """Share of the way from the first to the second, in [0, 1)."""


def find_neighbours(objects: Int[Tensor, "N"], rotations: Matrices, known: KnownViews) -> Neighbours:
    """The known views next to others, by the angle between cameras.

    A view b lies on the other side of the nearest one, a, if it is farther from a than from the view itself.

    Args:
        objects: (N,).
        rotations: (N, 3, 3).
        known: M views.

    Raises:
        ValueError: if an object has no known view.
    """
    other = objects.unsqueeze(1) != known.objects
    if other.all(1).any():
        lost = int(objects[other.all(1)][0])
        raise ValueError(f"no training image shows the object {lost}: views are predicted of objects seen in training")
    # Rounded, so that of two views equally far to both sides the first one counts on every machine.
    angles = (geodesic_angle(rotations, known.rotations) / _SAME_ANGLE).round() * _SAME_ANGLE
    angles = angles.masked_fill(other, torch.inf)
    to_nearest, nearest = angles.min(1)
    from_nearest = geodesic_angle(known.rotations[nearest], known.rotations)
    behind = angles.masked_fill(from_nearest <= angles + _SAME_ANGLE, torch.inf)
    to_beyond, beyond = behind.min(1)
    alone = to_beyond.isinf() | (to_nearest == 0)
    part = (to_nearest / (to_nearest + to_beyond)).masked_fill(alone, 0.0)
    return Neighbours(nearest, torch.where(alone, nearest, beyond), part)


@dataclass(frozen=True)
class Views(AbstractAnalysis):
    """Predictions of views that training lacks, beside what the nearest views in training give.

    Split test has pairs of object and view of which each is seen in training, but not together; split unseen_views has
    views from which training shows no object. A model that cannot predict views is measured by its baselines alone.
    """

    name = "views"
    requires = AbstractAutoencoder
    needs_images = True
    needs_reference = True

    num: int | None = None
    """How many images, evenly spaced over the source; none: all."""
    num_objects: int = 3
    """Objects in the picture, evenly spaced."""
    num_views: int = 12
    """Views of each in the picture, at most."""
    perceptual: str | None = "auto"
    """lpips_alex, lpips_vgg, lpips_squeeze, st_lpips_alex or random_l2; auto: the best found; null: squares alone."""
    perceptual_path: str | None = None
    """Its weights file (of LPIPS the trunk), or a folder that holds it."""
    download: bool = False
    """Whether weights that are asked for by name may be downloaded."""
    num_resamples: int = 200
    """Resamples from which intervals are made."""
    seed: int = 0
    """Of the resamples."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        least = {"num": 1, "num_objects": 1, "num_views": 1, "num_resamples": 2, "batch_size": 1}
        for option, smallest in least.items():
            value = getattr(self, option)
            if value is not None and value < smallest:
                raise ValueError(f"views needs {option} of at least {smallest}, got {value}")

    @torch.no_grad()
    def run(self, model: AbstractAutoencoder, source: ImageSource | None) -> Result:
        """Numbers: errors of predictions and baselines, and what each baseline errs more than predictions do.

        `views_mse` is the mean squared error of predictions in [-1, 1] units, after rounding to 8 bits,
        `views_mse_nearest_code` and so on that of a baseline, `views_mse_reconstruction` that of the images' own codes,
        `views_mse_gain_nearest_code` the mean difference, positive where predictions are better. Perceptual distances
        have the same endings.

        Raises:
            ValueError: if images have no known object or pose, or training does not show an object.
        """
        reference = source.reference if isinstance(source, HeldOut) else None
        if source is None or reference is None:
            raise ValueError(
                "views compares with training images from known views: name a data set instead of a folder"
            )
        known = _known_views(model, reference)
        device = device_of(model)
        perceptual = None
        if self.perceptual is not None:
            perceptual = find_perceptual(self.perceptual, self.perceptual_path, download=self.download).to(device)
        places = spread(len(source), self.num)
        errors = self._errors(model, source, reference, known, places, perceptual)
        numbers, intervals = self._summary(errors)
        split = str(source.recipe.get("split", "images"))
        protocol: dict[str, Any] = {
            **situation(model),
            "num": len(places),
            "num_known": len(reference),
            "reference": dict(reference.recipe),
            "methods": dict(BASELINES),
            "nearest": "angle between cameras",
            "intervals": {"level": LEVEL, "num_resamples": self.num_resamples, "seed": self.seed},
        }
        if perceptual is not None:
            protocol["perceptual"] = perceptual.describe()
        picture = self._picture(model, source, reference, known)
        return Result(self.name, numbers, protocol, {f"views_{file_stem(split)}": picture}, intervals=intervals)

    def _errors(
        self,
        model: AbstractAutoencoder,
        source: ImageSource,
        reference: ImageSource,
        known: KnownViews,
        places: Sequence[int],
        perceptual: AbstractPerceptualDistance | None,
    ) -> dict[tuple[str, str], ReconstructionError]:
        """Of each measure and method."""
        measures: dict[str, Any] = {"mse": mean_squared_error}
        if perceptual is not None:
            measures[perceptual.name] = perceptual
        methods = [RECONSTRUCTION, *BASELINES]
        if isinstance(model, AbstractViewDecoder):
            methods.insert(0, PREDICTION)
        errors = {
            (measure, method): ReconstructionError(measures[measure]) for measure in measures for method in methods
        }
        device = device_of(model)
        # Float64 sums do not exist on Apple's GPUs; NCCL exchanges only what is on a GPU.
        for error in errors.values():
            error.to(device if device.type == "cuda" else torch.device("cpu"))
        for piece in batches(share(len(places)), self.batch_size):
            truth, found = _all_methods(model, source, reference, known, [places[one] for one in piece])
            for (_, method), error in errors.items():
                error.update(quantise(truth), quantise(found[method]), as_tensor(piece))
        return errors

    def _summary(
        self, errors: dict[tuple[str, str], ReconstructionError]
    ) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
        numbers: dict[str, float] = {}
        intervals: dict[str, tuple[float, float]] = {}

        def add(name: str, values: Tensor) -> None:
            numbers[name] = values.mean().item()
            interval = mean_interval(values, num_resamples=self.num_resamples, seed=self.seed)
            intervals[name] = (interval.low, interval.high)

        rows: dict[tuple[str, str], Tensor] = {}
        for key, error in errors.items():
            with error.synchronised():
                rows[key] = error.table("errors").clone()
        for (measure, method), values in rows.items():
            add(f"views_{measure}" + ("" if method == PREDICTION else f"_{method}"), values)
        for measure in dict.fromkeys(measure for measure, _ in rows):
            for method in BASELINES:
                if (measure, PREDICTION) in rows:
                    add(f"views_{measure}_gain_{method}", rows[measure, method] - rows[measure, PREDICTION])
        return numbers, intervals

    def _picture(
        self, model: AbstractAutoencoder, source: ImageSource, reference: ImageSource, known: KnownViews
    ) -> Images:
        """For some objects: their held-out images in the order of the views, predictions, baselines."""
        objects, views = _labels(model, source, ("object", "view"))
        different = objects.unique().tolist()
        blocks: dict[str, Images] = {}
        shown = [different[place] for place in spread(len(different), self.num_objects)]
        rows_of = {
            one: sorted((objects == one).nonzero()[:, 0].tolist(), key=lambda place: int(views[place])) for one in shown
        }
        columns = min(self.num_views, max(map(len, rows_of.values())))
        for one, rows in rows_of.items():
            chosen = [rows[place] for place in spread(len(rows), columns)]
            truth, found = _all_methods(model, source, reference, known, chosen)
            methods = [method for method in (PREDICTION, *BASELINES) if method in found]
            for name, images in (("truth", truth), *((method, found[method]) for method in methods)):
                blank = truth.new_ones(columns - len(chosen), *truth.shape[1:])
                blocks[f"{one}: {name.replace('_', ' ')}"] = torch.cat([quantise(images), blank]).cpu()
        return labelled_rows(blocks, columns, factor=magnification(model.resolution))


def _all_methods(
    model: AbstractAutoencoder, source: ImageSource, reference: ImageSource, known: KnownViews, places: Sequence[int]
) -> tuple[Images, dict[str, Images]]:
    """The images of some places, and what each method makes of their objects and poses."""
    batch = source.batch(places, model.resolution)
    truth = real_images(model, source, places)
    (objects,) = _labels(model, source, ("object",), places)
    assert batch.pose is not None
    near = find_neighbours(objects, batch.pose[:, :3, :3], known)
    nearest = real_images(model, reference, near.nearest.tolist())
    code = model.encode(nearest)
    beyond = model.encode(real_images(model, reference, near.beyond.tolist()))
    found = {
        RECONSTRUCTION: model.reconstruct(truth),
        "nearest_code": model.decode(code),
        "interpolated_codes": model.decode(model.latent_space.interpolate(code, beyond, near.part)),
        "nearest_image": nearest,
    }
    if isinstance(model, AbstractViewDecoder):
        found[PREDICTION] = model.predict_views(objects.to(truth.device), batch.pose.to(truth.device))
    return truth, found


def _labels(
    model: AbstractAutoencoder, source: ImageSource, names: Sequence[str], places: Sequence[int] | None = None
) -> tuple[Tensor, ...]:
    """Columns of labels as whole numbers, of all images or of some places.

    Raises:
        ValueError: if there are no such labels.
    """
    if not set(names) <= set(source.label_names):
        raise ValueError(
            "views needs images of objects seen from known views, and these have no labels object and view: take the "
            "data set MultiViewImages or SyntheticViews"
        )
    places = range(len(source)) if places is None else places
    columns = [source.label_names.index(name) for name in names]
    rows = []
    for start in range(0, len(places), _BLOCK):
        labels = source.batch(places[start : start + _BLOCK], model.resolution).labels
        assert labels is not None
        rows.append(labels[:, columns].long())
    return torch.cat(rows).unbind(1)


def _known_views(model: AbstractAutoencoder, reference: ImageSource) -> KnownViews:
    """Of all training images.

    Raises:
        ValueError: if their objects or poses are not known.
    """
    (objects,) = _labels(model, reference, ("object",))
    rotations = []
    for start in range(0, len(reference), _BLOCK):
        pose = reference.batch(range(start, min(start + _BLOCK, len(reference))), model.resolution).pose
        if pose is None:
            raise ValueError("views needs poses, and these images have none: take MultiViewImages or SyntheticViews")
        rotations.append(pose[:, :3, :3].double())
    check_rotations(torch.cat(rotations))
    return KnownViews(objects, torch.cat(rotations))


__all__ = ["BASELINES", "KnownViews", "Neighbours", "Views", "find_neighbours"]
