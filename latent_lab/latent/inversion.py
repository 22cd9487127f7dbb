"""Inversion of any decoder: latents of given images by optimisation, and wrappers that make a decoder an autoencoder.

For each image x on its own,

    minimise over z   mean over values of (x - G(z))^2 + v d(x, G(z)) + w E(z)

from one start or several; the best end is kept. E is the energy of the space's prior, |z|^2 / L of normal latents and
a Mahalanobis distance in W; d is a perceptual distance. The published comparison used BFGS (Tonelli 2022, figure 2.3)
and tells neither starts nor steps; a prior term and gradient steps are Creswell and Bharath's (2016, 2018), stochastic
clipping is Lipton and Tripathi's (2017), the start from a learned encoder Zhu et al.'s (2016); W, W+, the start from
the mean of W and the perceptual term are Abdal, Qin and Wonka's (Image2StyleGAN, 2019).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from latent_lab import images as conversions
from latent_lab.distributed import IndexedRandom
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder
from latent_lab.latent.spaces import AbstractLatentSpace
from latent_lab.latent.views import LayersView
from latent_lab.types import Images, Indices, Latents, Scores

Optimiser = Literal["lbfgs", "adam"]
Clipping = Literal["project", "stochastic"]
Encoder: TypeAlias = Callable[[Images], Latents]
"""Any map of images (N, C, R, R) to latents (N, L), such as the method `encode` of a model."""
Distance: TypeAlias = Callable[[Images, Images], Scores]
"""How unlike pairs of images look, (N,), differentiable: LPIPS, for example."""

GIVEN_START = -1
"""In `Inversion.winner`: the start that was passed in; restarts from the prior are numbered from 0."""

# L-BFGS stops where steps no longer change the loss beyond float32's precision.
_HISTORY = 20
_TOLERANCE_GRADIENT = 1e-9
_TOLERANCE_CHANGE = 1e-12
_WALL = 1e6


@dataclass(frozen=True)
class InversionSettings:
    """How latents are sought."""

    optimiser: Optimiser = "lbfgs"
    """lbfgs (each image and start alone; strong Wolfe line search, with a box L-BFGS-B) or adam (many at a time)."""
    steps: int = 200
    """Iterations from each start."""
    restarts: int = 4
    """Starts drawn from the prior for each image, besides the start that is given; where the space has a centre, as W
    has its mean, the first of them is there."""
    prior_weight: float = 0.0
    """w of the term w E(z) beside the mean squared error in [-1, 1] units; E is the space's `prior_energy`."""
    perceptual_weight: float = 0.0
    """v of the term v d(x, G(z)), for which `invert` needs a distance."""
    clip: float | None = None
    """Coordinates stay in [-clip, clip]; null: no box. Before projection, in spaces that have one."""
    clipping: Clipping = "project"
    """What becomes of a coordinate that leaves the box: project (onto its face), or stochastic (drawn anew, evenly in
    the box; adam only)."""
    learning_rate: float = 0.05
    """Of adam."""
    seed: int = 0
    """Of restarts and of stochastic clipping."""

    def __post_init__(self) -> None:
        if self.optimiser not in ("lbfgs", "adam"):
            raise ValueError(f"optimiser must be lbfgs or adam, got {self.optimiser!r}")
        if self.clipping not in ("project", "stochastic"):
            raise ValueError(f"clipping must be project or stochastic, got {self.clipping!r}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.restarts < 0:
            raise ValueError(f"restarts must not be negative, got {self.restarts}")
        if self.prior_weight < 0:
            raise ValueError(f"prior_weight must not be negative, got {self.prior_weight}: 0 leaves the prior out")
        if self.perceptual_weight < 0:
            raise ValueError(
                f"perceptual_weight must not be negative, got {self.perceptual_weight}: 0 leaves the distance out"
            )
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"clip must be positive or null (no box), got {self.clip}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.clipping == "stochastic" and (self.clip is None or self.optimiser != "adam"):
            raise ValueError("stochastic clipping needs a box and small steps: give clip a number and optimiser adam")


@dataclass(frozen=True)
class Inversion:
    """The best latents found for some images."""

    latents: Latents
    """(N, L) points of the decoder's space."""
    loss: Scores
    """(N,) what was minimised, all terms included."""
    error: Scores
    """(N,) mean over channels and pixels of (x - G(z))^2, in [-1, 1] units, not quantised."""
    winner: Indices
    """(N,) which start led here: `GIVEN_START`, or the number of the restart."""


def best_of(first: Inversion, second: Inversion) -> Inversion:
    """For each image the inversion with the smaller loss: the first if they are equal, any rather than NaN."""
    better = (second.loss < first.loss) | first.loss.isnan()
    return Inversion(
        latents=torch.where(better[:, None], second.latents, first.latents),
        loss=torch.where(better, second.loss, first.loss),
        error=torch.where(better, second.error, first.error),
        winner=torch.where(better, second.winner, first.winner),
    )


def invert(
    decoder: AbstractDecoder,
    images: Images,
    settings: InversionSettings = InversionSettings(),
    *,
    start: Latents | None = None,
    index: Sequence[int] | None = None,
    distance: Distance | None = None,
) -> Inversion:
    """Latents whose images are as near as possible to given ones.

    With one latent for every layer (`LayersView`), what stands for the starts of the prior is the best that
    `invert_layers` finds with one for all layers.

    Every start counts as a result, too, so a loss is never above that of its start (projected into space and box). The
    decoder should be in evaluation mode; its parameters are read and get no gradient. Gradients are switched on within,
    also for callers that have switched them off.

    Args:
        decoder: whose latents are sought; images in one batch must not depend on each other.
        images: (N, C, R, R) in [-1, 1].
        settings: optimiser, restarts, prior, box.
        start: (N, L) one more start for each image, from a learned encoder, for example.
        index: (N,) global number of each image, on which its restarts depend; none: numbers made from the images' 8-bit
            content, so that an image has the same restarts in any company.
        distance: of the perceptual term.

    Raises:
        ValueError: if there is no start at all, or one that is no number, or a number of rows does not fit, or a
            perceptual term has a weight and no distance.
    """
    if settings.perceptual_weight > 0 and distance is None:
        raise ValueError("perceptual_weight needs a distance of images: pass one to the inversion, or leave it at 0")
    layers = layers_view(decoder)
    if layers is not None and settings.restarts > 0:
        refined = invert_layers(layers, images, settings, index=index, distance=distance)[1]
        if start is None:
            return refined
        alone = replace(settings, restarts=0)
        return best_of(refined, invert(decoder, images, alone, start=start, index=index, distance=distance))
    count, dim = len(images), decoder.latent_space.dim
    if start is None and settings.restarts == 0:
        raise ValueError("an inversion needs a start: give restarts at least 1, or a start for each image")
    if start is not None and tuple(start.shape) != (count, dim):
        raise ValueError(f"start must have one row of {dim} for each of {count} images, got {tuple(start.shape)}")
    if start is not None and not torch.isfinite(start).all():
        raise ValueError("start holds values that are no numbers: look at the encoder that made it")
    if index is not None and len(index) != count:
        raise ValueError(f"index must have one number for each of {count} images, got {len(index)}")
    # Within inference mode no gradient could be had, and its tensors cannot take part in one.
    with torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone()
        numbers = [_fingerprint(image) for image in images] if index is None else list(index)
        task = _Task(decoder, images, numbers, settings, distance)
        best: Inversion | None = None
        for which, points in _starts(task, start):
            found = task.improve(points, which)
            best = found if best is None else best_of(best, found)
    assert best is not None
    return best


def invert_layers(
    decoder: LayersView,
    images: Images,
    settings: InversionSettings = InversionSettings(),
    *,
    index: Sequence[int] | None = None,
    distance: Distance | None = None,
) -> tuple[Inversion, Inversion]:
    """The best latents for all layers at once (W), and the best for each layer alone (W+) that are found from there.

    The second loss is never above the first.

    Args:
        decoder: the view of one latent for every layer.
        images: as for `invert`.
        settings: of both searches, whose steps add up.
        index: as for `invert`.
        distance: as for `invert`.

    Returns:
        Both in the decoder's space, the first with the same latent in every layer; winners are starts of the first.
    """
    shared = invert(decoder.decoder, images, settings, index=index, distance=distance)
    start = decoder.latent_space.repeat(shared.latents)
    of_layers = invert(decoder, images, replace(settings, restarts=0), start=start, index=index, distance=distance)
    return replace(shared, latents=start), replace(of_layers, winner=shared.winner)


def layers_view(decoder: AbstractDecoder) -> LayersView | None:
    """The view of one latent for every layer that a decoder is, perhaps with an encoder around it."""
    inner: Any = decoder
    while isinstance(inner, _Wrapped):
        inner = inner.decoder
    return inner if isinstance(inner, LayersView) else None


def _starts(task: _Task, start: Latents | None) -> Iterator[tuple[int, Latents]]:
    if start is not None:
        yield GIVEN_START, start.detach().clone().to(task.images)
    centre = task.space.centre
    for restart in range(task.settings.restarts):
        if restart == 0 and centre is not None:
            yield restart, centre.to(task.images).expand(len(task.images), -1)
            continue
        random = IndexedRandom(task.settings.seed, f"inversion/start/{restart}")
        rows = [torch.randn(task.space.num_normals, generator=random.generator(number)) for number in task.numbers]
        yield restart, task.space.from_normal(torch.stack(rows).to(task.images))


def _fingerprint(image: Tensor) -> int:
    pixels = conversions.to_bytes(image[None]).cpu().contiguous().numpy()
    return int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:8], "little")


class _Task:
    """Some images, and what is to be minimised for each of them."""

    def __init__(
        self,
        decoder: AbstractDecoder,
        images: Images,
        numbers: Sequence[int],
        settings: InversionSettings,
        distance: Distance | None,
    ) -> None:
        self.decoder = decoder
        self.space = decoder.latent_space
        self.images = images
        self.numbers = numbers
        self.settings = settings
        self.distance = distance

    def errors(self, points: Latents, rows: slice = slice(None)) -> tuple[Scores, Scores]:
        """Loss and mean squared error (n,) at points that are not yet projected, for some of the images."""
        latents = self.space.project(points)
        made, wanted = self.decoder.decode(latents).to(self.images), self.images[rows]
        loss = error = (made - wanted).square().mean((1, 2, 3))
        if self.settings.prior_weight > 0:
            loss = loss + self.settings.prior_weight * self.space.prior_energy(latents)
        if self.settings.perceptual_weight > 0 and self.distance is not None:
            # Where the decoder overflows the error says so already, and nothing else takes such images.
            loss = loss + self.settings.perceptual_weight * self.distance(made.nan_to_num(), wanted).to(loss)
        return loss, error

    def improve(self, points: Latents, which: int) -> Inversion:
        """The best of the starts and of what the optimiser makes of them."""
        points = self._into_box(points)
        improved = self._adam(points, which) if self.settings.optimiser == "adam" else self._lbfgs(points)
        return best_of(self._inversion(points, which), self._inversion(improved, which))

    @torch.no_grad()
    def _inversion(self, points: Latents, which: int) -> Inversion:
        loss, error = self.errors(points)
        winner = torch.full((len(points),), which, dtype=torch.int64, device=points.device)
        return Inversion(self.space.project(points), loss, error, winner)

    def _into_box(self, points: Latents) -> Latents:
        clip = self.settings.clip
        return points if clip is None else points.clamp(-clip, clip)

    def _adam(self, points: Latents, which: int) -> Latents:
        """All images at once: Adam works on each coordinate alone, so they stay independent. Best iterate of each."""
        points = points.clone().requires_grad_()
        optimizer = torch.optim.Adam([points], lr=self.settings.learning_rate)
        best, lowest = points.detach().clone(), torch.full((len(points),), torch.inf).to(points)
        for step in range(self.settings.steps + 1):
            loss, _ = self.errors(points)
            lower = loss.detach() < lowest
            best = torch.where(lower[:, None], points.detach(), best)
            lowest = torch.where(lower, loss.detach(), lowest)
            if step == self.settings.steps:
                break
            (points.grad,) = torch.autograd.grad(loss.sum(), [points])
            optimizer.step()
            self._clip(points, which, step)
        return best

    @torch.no_grad()
    def _clip(self, points: Latents, which: int, step: int) -> None:
        clip = self.settings.clip
        if clip is None:
            return
        outside = points.abs() > clip
        if self.settings.clipping == "project" or not outside.any():
            points.clamp_(-clip, clip)
            return
        random = IndexedRandom(self.settings.seed, f"inversion/clip/{which}/{step}")
        rows = [torch.rand(points.shape[1], generator=random.generator(number)) for number in self.numbers]
        points.copy_(torch.where(outside, clip * (2.0 * torch.stack(rows).to(points) - 1.0), points))

    def _lbfgs(self, points: Latents) -> Latents:
        search = self._lbfgs_free if self.settings.clip is None else self._lbfgs_in_box
        return torch.cat([search(points[row : row + 1], slice(row, row + 1)) for row in range(len(points))])

    def _lbfgs_free(self, point: Latents, row: slice) -> Latents:
        point = point.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [point],
            max_iter=self.settings.steps,
            history_size=_HISTORY,
            tolerance_grad=_TOLERANCE_GRADIENT,
            tolerance_change=_TOLERANCE_CHANGE,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Any:
            loss = self.errors(point, row)[0].sum()
            (gradient,) = torch.autograd.grad(loss, [point])
            # On a plateau the line search may go so far that the decoder overflows: there is a wall, it turns back.
            point.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
            return loss.detach().nan_to_num(_WALL, _WALL)

        optimizer.step(closure)
        return point.detach()

    def _lbfgs_in_box(self, point: Latents, row: slice) -> Latents:
        def value_and_gradient(coordinates: np.ndarray) -> tuple[float, np.ndarray]:
            here = torch.from_numpy(coordinates[None]).to(point).requires_grad_()
            loss = self.errors(here, row)[0].sum()
            (gradient,) = torch.autograd.grad(loss, [here])
            return loss.item(), gradient[0].double().cpu().numpy()

        clip = self.settings.clip
        found = minimize(
            value_and_gradient,
            point[0].double().cpu().numpy(),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-clip, clip)] * point.shape[1],  # type: ignore[operator]
            options={
                "maxiter": self.settings.steps,
                "maxcor": _HISTORY,
                "gtol": _TOLERANCE_GRADIENT,
                "ftol": _TOLERANCE_CHANGE,
            },
        )
        return self._into_box(torch.from_numpy(found.x[None]).to(point))


class _Wrapped(nn.Module, AbstractAutoencoder):
    """A decoder seen through its own interface; as a module it moves and switches modes together with the decoder."""

    def __init__(self, decoder: AbstractDecoder) -> None:
        super().__init__()
        self.decoder: Any = decoder
        # Else an analysis would take a decoder in evaluation mode for one in training, and leave it so.
        self.training = getattr(decoder, "training", False)

    @property
    def latent_space(self) -> AbstractLatentSpace:
        """The decoder's."""
        space: AbstractLatentSpace = self.decoder.latent_space
        return space

    @property
    def resolution(self) -> int:
        """The decoder's."""
        resolution: int = self.decoder.resolution
        return resolution

    @property
    def now(self) -> Any:
        """Where the decoder's growth stands; None if it does not grow."""
        return getattr(self.decoder, "now", None)

    def decode(self, latents: Latents) -> Images:
        """The decoder's images."""
        images: Images = self.decoder.decode(latents)
        return images


class Recoded(_Wrapped):
    """A decoder with somebody else's encoder: together they are an autoencoder.

    Args:
        decoder: makes images.
        encoder: finds latents; a network, or the method `encode` of a model in evaluation mode. What it returns is
            projected to the decoder's space.
    """

    def __init__(self, decoder: AbstractDecoder, encoder: Encoder) -> None:
        super().__init__(decoder)
        self.encoder = encoder

    def encode(self, images: Images) -> Latents:
        """The encoder's latents, projected."""
        return self.latent_space.project(self.encoder(images))


class Inverted(_Wrapped):
    """A decoder whose encoder is an optimisation.

    Args:
        decoder: makes images.
        settings: of the optimisation.
        start: gives one more start for each image; with one, the inversion is called hybrid.
        distance: of the perceptual term.
    """

    def __init__(
        self,
        decoder: AbstractDecoder,
        settings: InversionSettings = InversionSettings(),
        start: Encoder | None = None,
        distance: Distance | None = None,
    ) -> None:
        super().__init__(decoder)
        self.settings = settings
        self.start = start
        # Not a part of this module: what measures is no part of a model.
        self.distance: Distance | None = None if distance is None else partial(distance)

    def encode(self, images: Images) -> Latents:
        """The best latents found; each image's depend on the image alone."""
        start = None if self.start is None else self.start(images)
        return invert(self.decoder, images, self.settings, start=start, distance=self.distance).latents
