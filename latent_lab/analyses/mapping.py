"""Maps from one model's latent space to another's as analyses fit and judge them: pairs of codes, maps, errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab import distributed
from latent_lab.analyses.feeding import alpha_of, as_tensor, batches, device_of, prior_latents, share, spread
from latent_lab.analyses.set_numbers import Numbers, Resampling
from latent_lab.analyses.spaces import AbstractSpacesAnalysis, Participant, number_name
from latent_lab.images import fade_images, resize
from latent_lab.latent.cropping import cropped
from latent_lab.latent.maps import (
    LinearMap,
    Map,
    NormalEquations,
    OtherLatents,
    fit_by_descent,
    fit_least_squares,
    fit_orthogonal,
    fit_published,
    fit_residual,
    fit_ridge,
    minibatches,
)
from latent_lab.latent.support import SUPPORT_METHODS, Support, choose_support
from latent_lab.metrics import MeanImageError
from latent_lab.metrics.functional.bootstrap import mean_interval
from latent_lab.metrics.functional.mapping import (
    derangement,
    explained_gain_interval,
    explained_variance,
    explained_variance_interval,
    latent_errors,
    mean_image_errors,
    unit_error,
)
from latent_lab.metrics.functional.reconstruction import PairMeasure, relative_error_interval
from latent_lab.progress import phase
from latent_lab.types import Images, Latents, Scores

Kind = Literal["affine", "least_squares", "ridge", "published", "orthogonal", "descent", "residual"]
Domain = Literal["all", "support", "source_samples", "target_samples"]
SampleCodes = Literal["encoded", "drawn"]
MeanImage: TypeAlias = Float[Tensor, "1 _ _ _"]
"""As one model sees images."""
ImageScores: TypeAlias = Float[Tensor, "I"]
"""One number for each of the images that are decoded, which are some of those whose codes are compared."""
CLOSED_FORMS = ("affine", "least_squares", "ridge", "published", "orthogonal")
"""Maps that are read from sums of products alone."""
SUPPORT_PER_DIMENSION = 4
"""Images of a support set for each coordinate of the source, unless a number is asked for."""


@dataclass(frozen=True)
class Pairs:
    """What a map is fitted to: sums over pairs of codes, and the codes themselves where they are kept."""

    equations: NormalEquations
    source: Latents | None = None
    target: OtherLatents | None = None
    support: Support | None = None
    """How the pairs were chosen, if they were."""

    @classmethod
    def of(cls, source: Latents, target: OtherLatents, support: Support | None = None) -> Pairs:
        """Of codes (N, D) and (N, E) of the same N images."""
        return cls(NormalEquations.of(source, target), source, target, support)

    def codes(self) -> tuple[Latents, OtherLatents]:
        """Both models' codes.

        Raises:
            ValueError: if they were not kept.
        """
        if self.source is None or self.target is None:
            raise ValueError("this needs pairs of codes one by one, and they were not kept: set keep_codes")
        return self.source, self.target

    def shuffled(self, seed: int) -> Pairs:
        """The same codes in pairs that do not belong together."""
        source, target = self.codes()
        return Pairs.of(source, target[derangement(len(target), seed)])


class Fitted(NamedTuple):
    """A map with what a protocol says of its fit."""

    map: Map
    facts: dict[str, Any]


@dataclass(frozen=True)
class MapSettings:
    """How maps are fitted."""

    penalty: float = 1e-3
    kernel_penalty: float = 1e-4
    activity_penalty: float = 1e-4
    scaled: bool = True
    steps: int = 2000
    descent_rate: float = 5e-4
    fit_batch_size: int = 256
    residual_width: int = 256
    seed: int = 0

    def fit(self, kind: Kind, pairs: Pairs) -> Fitted:
        """The map of this kind.

        Raises:
            ValueError: if the pairs do not determine it, or a model's codes are all equal.
        """
        if kind == "descent":
            source, target = pairs.codes()
            some = minibatches(source, target, batch_size=self.fit_batch_size, steps=self.steps, seed=self.seed)
            fitted = fit_by_descent(
                some,
                learning_rate=self.descent_rate,
                kernel_penalty=self.kernel_penalty,
                activity_penalty=self.activity_penalty,
                seed=self.seed,
            )
            return Fitted(fitted, {"pairs": len(source), "steps": self.steps})
        if kind == "residual":
            source, target = pairs.codes()
            linear = self.linear_part(pairs)
            network = fit_residual(
                source,
                target,
                linear_of(linear.map),
                width=self.residual_width,
                steps=self.steps,
                batch_size=self.fit_batch_size,
                seed=self.seed,
            )
            return Fitted(network, {**linear.facts, "width": self.residual_width, "steps": self.steps})
        fit = {
            "affine": lambda: fit_least_squares(pairs.equations, affine=True),
            "least_squares": lambda: fit_least_squares(pairs.equations),
            "ridge": lambda: fit_ridge(pairs.equations, self.penalty, affine=True),
            "published": lambda: fit_published(
                pairs.equations, kernel_penalty=self.kernel_penalty, activity_penalty=self.activity_penalty
            ),
            "orthogonal": lambda: fit_orthogonal(pairs.equations, scaled=self.scaled),
        }[kind]()
        facts = {"pairs": fit.num_pairs, "rank": fit.rank, "condition_of_codes": fit.condition}
        return Fitted(fit.map, {**facts, "r2_of_fit": fit.explained_share})

    def linear_part(self, pairs: Pairs) -> Fitted:
        """The linear map to which a residual one adds: affine, with a penalty where there are few pairs."""
        enough = pairs.equations.num_pairs > pairs.equations.source_dim
        return self.fit("affine" if enough else "ridge", pairs)


def linear_of(fitted: Map) -> LinearMap:
    """The map itself or, of a residual one, its linear part."""
    return fitted if isinstance(fitted, LinearMap) else fitted.linear


@dataclass(frozen=True)
class AbstractMapping(AbstractSpacesAnalysis):
    """What analyses of maps between latent spaces share: how pairs come about, how maps are fitted and judged.

    Rows are codes, so y = x M + b. Errors of codes are means over images and coordinates of squared differences; errors
    of images are in units of the [0, 1] range, as published: a quarter of those in [-1, 1].
    """

    least = 2

    kind: Kind = "affine"
    """affine (least squares with a bias), least_squares (without, as in the paper), ridge, published (the penalised
    objective of its program in closed form), orthogonal (rotation, scale and shift), descent (the program's own way:
    Adam on batches), or residual (affine and a small network)."""
    domain: Domain = "all"
    """Images that maps are fitted to: all training images, a support set of these, source_samples (generated by the
    source), or target_samples."""
    num_fit: int | None = None
    """Training images that are encoded, evenly spaced; none: all."""
    support_method: str = "outliers"
    """outliers (the published study's), random, k_centre, leverage or principal_extremes."""
    support_model: str | None = None
    """Name of the model by whose codes the support set is chosen; none: the source."""
    num_support: int | None = None
    """Images in the support set; none: four for each coordinate of the source."""
    without: tuple[str, ...] = ()
    """Labels, such as Wearing_Hat, that no image of the support set may have."""
    num_samples: int = 5000
    """Generated images, where maps are fitted to these."""
    sample_codes: SampleCodes = "encoded"
    """Codes of generated images for the model that made them: encoded, or drawn (the latents themselves, as
    published)."""
    sample_box: tuple[int, ...] | None = None
    """Left, top, right, bottom of the part of generated images that the other model sees, in their pixels, where both
    were not trained on the same crop."""
    penalty: float = 1e-3
    """Of ridge: weight of |M|^2, in units of the source's variance."""
    kernel_penalty: float = 1e-4
    """Of published and descent; 1.5e-3 is published where one of the models is a GAN."""
    activity_penalty: float = 1e-4
    """Of published and descent, in the same way."""
    scaled: bool = True
    """Whether the orthogonal map has a scale."""
    steps: int = 2000
    """Of descent and of the residual network."""
    descent_rate: float = 5e-4
    """Learning rate of descent."""
    fit_batch_size: int = 256
    """Pairs for each of these steps."""
    num_held_out: int | None = None
    """Held-out images whose codes are predicted, evenly spaced; none: all."""
    num_images: int = 256
    """Of these, how many are decoded and compared as images."""
    num_shuffles: int = 3
    """Maps fitted to pairs that do not belong together, as a baseline; 0: none."""
    seed: int = 0
    """Of samples, shuffles, support sets and steps."""
    batch_size: int = 64
    """Images at a time."""
    num_resamples: int = 200
    """Resamples from which intervals are made; 0: no intervals."""
    level: float = 0.95
    """Share of the resampled values inside an interval."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "without", tuple(self.without))
        if self.support_method not in SUPPORT_METHODS:
            raise ValueError(
                f"{self.name} needs support_method of {', '.join(SUPPORT_METHODS)}, got {self.support_method!r}"
            )
        if self.sample_box is not None and len(self.sample_box) != 4:
            raise ValueError(f"sample_box must be left, top, right, bottom, got {len(self.sample_box)} numbers")
        for option in ("num_samples", "num_images", "num_fit", "num_held_out"):
            value = getattr(self, option)
            if value is not None and value < 2:
                raise ValueError(f"{self.name} needs {option} of at least 2, got {value}")
        for option in ("steps", "fit_batch_size", "batch_size", "num_support"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise ValueError(f"{self.name} needs {option} of at least 1, got {value}")
        if self.num_shuffles < 0:
            raise ValueError(f"{self.name} needs num_shuffles of 0 (none) or more, got {self.num_shuffles}")
        if self.without and self.domain != "support":
            raise ValueError(f"without filters the images of a support set: set domain support, got {self.domain}")
        if not 0.0 < self.level < 1.0 or self.num_resamples < 0 or self.num_resamples == 1:
            raise ValueError(
                f"{self.name} needs a level between 0 and 1 and num_resamples of 0 or at least 2, got {self.level} and "
                f"{self.num_resamples}"
            )

    def settings(self) -> MapSettings:
        """How maps are fitted."""
        return MapSettings(
            penalty=self.penalty,
            kernel_penalty=self.kernel_penalty,
            activity_penalty=self.activity_penalty,
            scaled=self.scaled,
            steps=self.steps,
            descent_rate=self.descent_rate,
            fit_batch_size=self.fit_batch_size,
            seed=self.seed,
        )

    def resampling(self) -> Resampling:
        """How intervals are made."""
        return Resampling(self.level, self.num_resamples, self.seed)

    # ------------------------------------------------------------------------------------------------------- pairs

    def pairs(self, participants: Sequence[Participant], source: Participant, target: Participant) -> Pairs:
        """Pairs of codes of the images of the domain.

        Raises:
            ValueError: if there is no such support model or label, or generated images show other parts of pictures
                than the other model was trained on.
        """
        if self.domain in ("source_samples", "target_samples"):
            with phase(f"samples for {source.name} and {target.name}"):
                return self._generated(source, target)
        given, wanted = (one.codes("reference", self.num_fit, self.batch_size) for one in (source, target))
        if self.domain == "all":
            return Pairs.of(given, wanted)
        support = self._support(participants, source)
        return Pairs.of(given[support.indices], wanted[support.indices], support)

    def _support(self, participants: Sequence[Participant], source: Participant) -> Support:
        chooser = source
        if self.support_model is not None:
            known = {one.name: one for one in participants}
            if self.support_model not in known:
                raise ValueError(f"there is no support model {self.support_model}: there are {', '.join(known)}")
            chooser = known[self.support_model]
        codes = chooser.codes("reference", self.num_fit, self.batch_size)
        allowed = self._allowed(chooser)
        available = len(codes) if allowed is None else int(allowed.sum())
        num = min(self.num_support or SUPPORT_PER_DIMENSION * source.dim, available)
        return choose_support(codes, self.support_method, num, seed=self.seed, allowed=allowed)

    def _allowed(self, chooser: Participant) -> Tensor | None:
        """Which training images have none of the labels of `without`; unknown labels (NaN) count as absent."""
        if not self.without:
            return None
        found = chooser.labels("reference", self.num_fit)
        names = () if found is None else found[0]
        missing = [name for name in self.without if name not in names]
        if found is None or missing:
            known = ", ".join(names) or "none"
            raise ValueError(f"the training images have no label {', '.join(missing)}: there are {known}")
        return ~(found[1][:, [names.index(name) for name in self.without]] > 0.5).any(1)

    @torch.no_grad()
    def _generated(self, source: Participant, target: Participant) -> Pairs:
        """Codes of generated images: one model decodes, and both encode what it makes."""
        maker, other = (source, target) if self.domain == "source_samples" else (target, source)
        seen_by_other = self._view(maker, other)
        mine = share(self.num_samples)
        rows = [torch.empty(0, maker.dim + other.dim)]
        for indices in batches(mine, self.batch_size):
            latents = prior_latents(maker.model, self.seed, "map/samples", indices)
            images = maker.model.decode(latents).float().clamp(-1.0, 1.0)
            own = latents if self.sample_codes == "drawn" else maker.model.encode(images)
            seen = seen_by_other(images).to(device_of(other.model))
            theirs = other.model.encode(fade_images(seen, alpha_of(other.model)))
            rows.append(torch.cat([own.float().cpu(), theirs.float().cpu()], dim=1))
        codes = distributed.gather_ragged(torch.cat(rows), as_tensor(mine))[0]
        made, found = codes[:, : maker.dim], codes[:, maker.dim :]
        return Pairs.of(made, found) if maker is source else Pairs.of(found, made)

    def _view(self, maker: Participant, other: Participant) -> Callable[[Images], Images]:
        """How the other model sees images that one model makes."""
        if self.sample_box is not None:
            return cropped(maker.model, self.sample_box, other.model.resolution).crop
        if not see_alike(maker, other):
            raise ValueError(
                f"{maker.name} makes images of another crop than {other.name} was trained on: give sample_box, the "
                "part of its images that the other one sees, or fit to real images"
            )
        return lambda images: resize(images, other.model.resolution, "bilinear")

    # ------------------------------------------------------------------------------------------------------ judging

    def held_out(self, one: Participant) -> Latents:
        """Codes of the held-out images."""
        return one.codes("held_out", self.num_held_out, self.batch_size)

    def judge_codes(self, found: Numbers, name: str, kind: str, codes: Latents, estimates: Latents) -> None:
        """Adds L-MSE and R^2 of estimates (N, E) of codes (N, E), with intervals."""
        errors = latent_errors(codes, estimates)
        resampling = self.resampling()
        found.add(f"{name}/l_mse_{kind}", errors.mean().item(), resampling.of(mean_interval, errors))
        share_explained = explained_variance(codes, estimates).pooled
        found.add(f"{name}/r2_{kind}", share_explained, resampling.of(explained_variance_interval, codes, estimates))

    def judge_gain(self, found: Numbers, name: str, codes: Latents, estimates: Latents, linear: Latents) -> None:
        """Adds the share of the target that depends on the source in another than a linear way."""
        num_resamples = max(self.num_resamples, 2)
        gain, interval = explained_gain_interval(
            codes, estimates, linear, level=self.level, num_resamples=num_resamples, seed=self.seed
        )
        found.add(f"{name}/r2_nonlinear_gain", gain, interval if self.num_resamples else None)

    @torch.no_grad()
    def decoded_errors(
        self,
        target: Participant,
        estimates: Mapping[str, Latents],
        mean: MeanImage,
        measures: Mapping[str, PairMeasure] | None = None,
    ) -> dict[str, ImageScores]:
        """Errors of images (n,), float64, one for each of `num_images` held-out ones, on all ranks.

        `own`: reconstructions by the target itself; `mean`: the mean training image; `random`: another held-out image;
        for each set of estimates NAME: `NAME to original` and `NAME to ideal`, the target's reconstruction; for
        each measure MEASURE, too: `own MEASURE` and `NAME MEASURE`, against the originals.

        Args:
            target: whose decoder it is.
            estimates: name -> codes (N, E) for all held-out codes, projected to the space before they are decoded.
            mean: (1, C, R, R) what the mean image is, as the target sees images.
            measures: name -> further measure of pairs of images.
        """
        codes = self.held_out(target)
        places = target.places("held_out", self.num_held_out)
        rows = spread(len(codes), self.num_images)
        partner = derangement(len(rows), self.seed).tolist() if len(rows) > 1 else [0]
        device, space = device_of(target.model), target.model.latent_space

        def decoded(latents: Latents) -> Images:
            images: Images = target.model.decode(latents.to(device)).float()
            return images

        columns: dict[str, list[Tensor]] = {}

        def note(name: str, scores: Tensor) -> None:
            columns.setdefault(name, []).append(scores.double().cpu())

        mine = share(len(rows))
        with phase(f"decoding by {target.name}"):
            for indices in batches(mine, self.batch_size):
                chosen = [rows[index] for index in indices]
                images = target.images("held_out", [places[row] for row in chosen])
                ideal = decoded(codes[chosen])
                note("own", unit_error(images, ideal))
                note("mean", mean_image_errors(images, mean[0].to(device)))
                others = target.images("held_out", [places[rows[partner[index]]] for index in indices])
                note("random", unit_error(images, others))
                for label, measure in (measures or {}).items():
                    note(f"own {label}", measure(images, ideal))
                for name, guesses in estimates.items():
                    mapped = decoded(space.project(guesses[chosen].to(device)))
                    note(f"{name} to original", unit_error(images, mapped))
                    note(f"{name} to ideal", unit_error(ideal, mapped))
                    for label, measure in (measures or {}).items():
                        note(f"{name} {label}", measure(images, mapped))
        names = ["own", "mean", "random", *(f"own {label}" for label in measures or {})]
        for name in estimates:
            names += [f"{name} to original", f"{name} to ideal", *(f"{name} {label}" for label in measures or {})]
        nothing = torch.empty(0, dtype=torch.float64)
        table = torch.stack([torch.cat([nothing, *columns.get(name, [])]) for name in names], dim=1)
        everywhere = distributed.gather_ragged(table, as_tensor(mine))[0]
        return dict(zip(names, everywhere.unbind(1), strict=True))

    def mean_images(self, participants: Sequence[Participant]) -> dict[str, MeanImage]:
        """Name of each model -> mean training image (1, C, R, R) as it sees images."""
        found: dict[tuple[int, int], MeanImage] = {}
        means = {}
        for one in participants:
            key = id(one.reference), one.model.resolution
            if key not in found:
                places = one.places("reference", self.num_fit)
                channels = one.reference.batch([0], one.model.resolution).images.shape[1]
                mean = MeanImageError(one.model.resolution, channels=channels).to(sums_device(one))
                for indices in batches(share(len(places)), self.batch_size, "mean image"):
                    mean.update(one.images("reference", [places[index] for index in indices]))
                found[key] = mean.mean_image()
            means[one.name] = found[key]
        return means

    def add_image_numbers(
        self,
        found: Numbers,
        participants: Sequence[Participant],
        target: Participant,
        errors: Mapping[str, Scores],
        incoming: Mapping[str, str],
    ) -> None:
        """Adds means of `decoded_errors`: those of the target itself, and for each estimate those under its name.

        Args:
            found: where numbers go.
            participants: all models.
            target: whose errors these are.
            errors: from `decoded_errors`.
            incoming: name of an estimate -> prefix and suffix of its numbers, "A_to_B/{}_affine".
        """
        resampling = self.resampling()

        def add(name: str, scores: Scores) -> None:
            found.add(name, scores.mean().item(), resampling.of(mean_interval, scores))

        for label, number in (("own", "r_mse"), ("mean", "mean_image_mse"), ("random", "random_image_mse")):
            add(number_name(participants, target, number), errors[label])
        for name, pattern in incoming.items():
            original, ideal = errors[f"{name} to original"], errors[f"{name} to ideal"]
            add(pattern.format("m_mse"), original)
            relative = original.mean() / errors["mean"].mean()
            interval = resampling.of(relative_error_interval, original, errors["mean"])
            found.add(pattern.format("m_mse_relative"), relative.item(), interval)
            add(pattern.format("m_mse_to_ideal"), ideal)

    def protocol(self, participants: Sequence[Participant], found: Numbers) -> dict[str, Any]:
        """What was held out, and in which units errors are."""
        first = participants[0]
        if any(one.reference is one.held_out for one in participants):
            found.notes.append(
                "there are no training images apart from the held-out ones: maps are fitted to what they are judged by"
            )
        protocol: dict[str, Any] = {
            "num_held_out": len(first.places("held_out", self.num_held_out)),
            "num_images": min(self.num_images, len(first.places("held_out", self.num_held_out))),
            "units": "errors of images in units of the [0, 1] range, a quarter of those in [-1, 1], not rounded",
            "estimates": "judged as maps give them; projected to the target's space before they are decoded",
            "mean_image": "of the training images that maps are fitted to, as the target sees them",
            "random_image": "another held-out image in place of the right one",
        }
        if self.num_resamples:
            protocol["intervals"] = {"level": self.level, "num_resamples": self.num_resamples, "seed": self.seed}
        return protocol


def see_alike(one: Participant, other: Participant) -> bool:
    """Whether both see the same part of pictures, perhaps at different resolutions."""
    return one.held_out is other.held_out or one.held_out.recipe == other.held_out.recipe


def sums_device(one: Participant) -> torch.device:
    """Where float64 sums are kept: Apple's GPUs have none, and NCCL exchanges only what is on a GPU."""
    device = device_of(one.model)
    return device if device.type == "cuda" else torch.device("cpu")


@torch.no_grad()
def accumulated(
    source: Participant, targets: Sequence[Participant], num: int | None, batch_size: int
) -> list[NormalEquations]:
    """Equations of the maps from one model to each of the others over training images, whose codes are not kept.

    One pass over the images; every rank encodes its share of them with all models. Codes that a participant already
    has are used as they are.

    Args:
        source: the model that is mapped.
        targets: the others.
        num: evenly spaced training images; none: all.
        batch_size: images at a time.
    """
    device = sums_device(source)
    found = [NormalEquations(source.dim, target.dim, device) for target in targets]
    places = source.places("reference", num)
    with phase(f"encoding with {', '.join(one.name for one in (source, *targets))}"):
        for indices in batches(share(len(places)), batch_size):
            codes = [one.codes_of("reference", num, indices) for one in (source, *targets)]
            for equations, target in zip(found, codes[1:], strict=True):
                equations.add(codes[0], target)
    for equations in found:
        equations.reduce()
    return found
