"""Maps from one model's latent space to others': how much of these it explains, and what the images look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.analyses.base import Result, Table, file_stem
from latent_lab.analyses.feeding import as_tensor, batches, device_of, prior_latents, share, spread
from latent_lab.analyses.mapping import (
    CLOSED_FORMS,
    AbstractMapping,
    Fitted,
    Kind,
    MeanImage,
    Pairs,
    accumulated,
    linear_of,
    see_alike,
    sums_device,
)
from latent_lab.analyses.sample import magnification
from latent_lab.analyses.set_numbers import Numbers, count_name
from latent_lab.analyses.spaces import Participant, number_name
from latent_lab.images import enlarge, make_grid, resize
from latent_lab.latent.mapped import mapped
from latent_lab.latent.maps import RESOLVED, save_map
from latent_lab.metrics import LatentRecovery
from latent_lab.metrics.functional.bootstrap import mean_interval
from latent_lab.metrics.functional.mapping import explained_variance
from latent_lab.networks.perceptual import AbstractPerceptualDistance, find_perceptual
from latent_lab.plotting import sorted_curves
from latent_lab.progress import phase
from latent_lab.types import Images, Latents


@dataclass(frozen=True)
class MapSpaces(AbstractMapping):
    """Maps from the first model's latent space to that of each other one, judged on held-out images.

    Each map is written beside the result, `map_SOURCE_to_TARGET.safetensors`; with it the source's latents are decoded
    by the target (`latent_lab.mapped`).
    """

    name = "map"

    beside: tuple[Kind, ...] = ("orthogonal", "residual")
    """Further kinds of maps, whose errors of codes are reported beside."""
    keep_codes: bool = True
    """Whether codes of training images are kept in memory; without, maps of closed form are fitted in one pass over
    any number of images, and there are no shuffled pairs."""
    num_recovered: int = 256
    """Samples of each prior whose latents are sought after decoding (I-MSE); 0: none."""
    columns: int = 8
    """Held-out images on each sheet, evenly spaced."""
    perceptual: str = "auto"
    """lpips_alex, lpips_vgg, lpips_squeeze, st_lpips_alex or random_l2; auto: the best whose weights are found."""
    perceptual_path: str | None = None
    """Its weights file (of LPIPS the trunk), or a folder that holds it."""
    download: bool = False
    """Whether weights that are asked for by name may be downloaded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "beside", tuple(self.beside))
        if self.columns < 1 or self.num_recovered < 0 or self.num_recovered == 1:
            raise ValueError(
                f"{self.name} needs columns of at least 1 and num_recovered of 0 (none) or at least 2, got "
                f"{self.columns} and {self.num_recovered}"
            )
        if not self.keep_codes and (self.domain != "all" or self.kind not in CLOSED_FORMS):
            raise ValueError(
                f"without kept codes, maps are fitted to all images and are of kind {', '.join(CLOSED_FORMS)}, "
                f"got domain {self.domain} and kind {self.kind}"
            )

    @torch.no_grad()
    def compare(self, participants: Sequence[Participant]) -> Result:
        """Numbers. Of each model NAME, over held-out images or samples of its prior:

            NAME/r_mse: error of its own reconstructions (R-MSE)
            NAME/mean_image_mse, NAME/random_image_mse: error of the mean training image, and of another image
            NAME/i_mse_COUNT, NAME/i_mse_relative_COUNT: error of encode(decode(z)), and its share of Var(z)

        Of each map A_to_B of KIND:

            l_mse_KIND, r2_KIND: error of codes, and the share of their variance that is explained; of the kinds in
                `beside`, too
            r2_shuffled_KIND: the same of maps fitted to pairs that do not belong together, their mean
            r2_nonlinear_gain: R^2 of the residual map minus that of its linear part
            m_mse_KIND: error of the decoded image against the original (M-MSE as the published program has it)
            m_mse_relative_KIND: its share of the mean image's error
            m_mse_to_ideal_KIND: against the target's own reconstruction (M-MSE as the thesis describes it)
            m_mse_shuffled_KIND: against the original, by maps fitted to shuffled pairs
            DISTANCE_KIND: perceptual distance to the original, beside B/DISTANCE of B's own reconstructions
            condition, singular_max, singular_min: of the matrix M

        Raises:
            ValueError: if there are fewer pairs than coordinates, or as `AbstractMapping.pairs`.
        """
        source, *targets = participants
        perceptual = find_perceptual(self.perceptual, self.perceptual_path, download=self.download)
        found = Numbers()
        protocol = self.protocol(participants, found)
        if self.keep_codes:
            training = [self.pairs(participants, source, target) for target in targets]
        else:
            equations = accumulated(source, targets, self.num_fit, self.batch_size)
            training = [Pairs(one) for one in equations]
            found.notes.append("codes were not kept: there are no shuffled pairs, and no residual map beside")
        means = self.mean_images(participants)
        self.add_image_numbers(found, participants, source, self.decoded_errors(source, {}, means[source.name]), {})
        files: dict[str, Callable[[Path], None]] = {}
        pictures: dict[str, Images] = {}
        fits: dict[str, Any] = {}
        curves: dict[str, list[float]] = {}
        sheets: dict[str, list[str]] = {}
        for target, pairs in zip(targets, training, strict=True):
            name = f"{source.name}_to_{target.name}"
            fitted = self._judge(found, participants, source, target, pairs, means[target.name], perceptual)
            curves[name] = self._judge_matrix(found, name, fitted)
            fits[name] = {**fitted.facts, **_support_facts(pairs)}
            stem = f"map_{file_stem(name)}"
            files[f"{stem}.safetensors"] = partial(save_map, fitted=fitted.map, facts=self._facts(source, target))
            pictures[stem], sheets[stem] = self._sheet(source, target, fitted)
        if self.num_recovered:
            for one in participants:
                self._recover(found, participants, one)
        pictures["singular_values"] = sorted_curves(
            curves, title="Singular values of the maps", x="number", y="singular value"
        )
        protocol |= {"fits": fits, "perceptual": perceptual.describe(), "rows": sheets, "curated": False}
        protocol["notes"] = found.notes
        tables = {"maps": self._table(found, source, targets)}
        return Result(self.name, found.values, protocol, pictures, tables, found.intervals, files)

    def _judge(
        self,
        found: Numbers,
        participants: Sequence[Participant],
        source: Participant,
        target: Participant,
        pairs: Pairs,
        mean: MeanImage,
        perceptual: AbstractPerceptualDistance,
    ) -> Fitted:
        """The map to one target; all its numbers."""
        name, settings = f"{source.name}_to_{target.name}", self.settings()
        given, wanted = self.held_out(source), self.held_out(target)
        with phase(f"maps from {source.name} to {target.name}"):
            fitted = settings.fit(self.kind, pairs)
            estimates: dict[str, Latents] = {self.kind: fitted.map(given)}
            for kind in dict.fromkeys((self.kind, *self.beside)):
                if pairs.source is None and kind not in CLOSED_FORMS:
                    continue
                one = fitted if kind == self.kind else settings.fit(kind, pairs)
                self.judge_codes(found, name, kind, wanted, one.map(given))
                if kind == "residual":
                    self.judge_gain(found, name, wanted, one.map(given), linear_of(one.map)(given))
            shuffles = range(self.num_shuffles) if pairs.source is not None else range(0)
            for number in shuffles:
                estimates[f"shuffled {number}"] = settings.fit(self.kind, pairs.shuffled(self.seed + number)).map(given)
        measures = {perceptual.name: perceptual.to(device_of(target.model))}
        errors = self.decoded_errors(target, estimates, mean, measures)
        pattern = f"{name}/{{}}_{self.kind}"
        self.add_image_numbers(found, participants, target, errors, {self.kind: pattern})
        for label in measures:
            for distance, scores in (
                (number_name(participants, target, label), errors[f"own {label}"]),
                (f"{name}/{label}_{self.kind}", errors[f"{self.kind} {label}"]),
            ):
                found.add(distance, scores.mean().item(), self.resampling().of(mean_interval, scores))
        if shuffles:
            unrelated = [f"shuffled {number}" for number in shuffles]
            shares = [explained_variance(wanted, estimates[one]).pooled for one in unrelated]
            found.add(f"{name}/r2_shuffled_{self.kind}", sum(shares) / len(shares))
            image_errors = torch.stack([errors[f"{one} to original"].mean() for one in unrelated])
            found.add(f"{name}/m_mse_shuffled_{self.kind}", image_errors.mean().item())
        return fitted

    def _judge_matrix(self, found: Numbers, name: str, fitted: Fitted) -> list[float]:
        """Adds extremes of the matrix's singular values; all that are more than rounding."""
        singular = torch.linalg.svdvals(linear_of(fitted.map).matrix.double())
        kept = singular[singular > RESOLVED * singular[0]]
        if len(kept) < len(singular):
            found.notes.append(f"{name} uses {len(kept)} of {len(singular)} directions; condition is of these")
        found.add(f"{name}/condition", (kept[0] / kept[-1]).item())
        found.add(f"{name}/singular_max", kept[0].item())
        found.add(f"{name}/singular_min", kept[-1].item())
        values: list[float] = kept.tolist()
        return values

    def _table(self, found: Numbers, source: Participant, targets: Sequence[Participant]) -> Table:
        """A row for each map; images are compared for the first kind alone."""
        columns = {
            "L-MSE": "l_mse",
            "R2": "r2",
            "R2 shuffled": "r2_shuffled",
            "M-MSE": "m_mse",
            "M-MSE / mean image": "m_mse_relative",
            "M-MSE to ideal": "m_mse_to_ideal",
            "M-MSE shuffled": "m_mse_shuffled",
        }
        rows: list[Sequence[str | float]] = [("from", "to", "map", *columns)]
        for target in targets:
            for kind in dict.fromkeys((self.kind, *self.beside)):
                name = f"{source.name}_to_{target.name}"
                cells = [found.values.get(f"{name}/{number}_{kind}", "") for number in columns.values()]
                if any(cells):
                    rows.append((source.name, target.name, kind, *cells))
        return rows

    def _recover(self, found: Numbers, participants: Sequence[Participant], one: Participant) -> None:
        """I-MSE of one model."""
        recovery = LatentRecovery(one.dim).to(sums_device(one))
        with phase(f"latents of {one.name} found again"):
            for indices in batches(share(self.num_recovered), self.batch_size):
                latents = prior_latents(one.model, self.seed, "map/recovered", indices)
                recovery.update(one.model, latents, as_tensor(indices))
        recovery.compute()
        assert recovery.estimate is not None
        intervals = recovery.intervals(**self.resampling().arguments()) if self.num_resamples else None
        value, relative, _ = recovery.estimate
        count = count_name(self.num_recovered)
        found.add(number_name(participants, one, f"i_mse_{count}"), value, intervals and intervals[0])
        found.add(number_name(participants, one, f"i_mse_relative_{count}"), relative, intervals and intervals[1])

    def _sheet(self, source: Participant, target: Participant, fitted: Fitted) -> tuple[Images, list[str]]:
        """Originals, the source's reconstruction, the mapped decoding, the ideal one; and what the rows are called."""
        codes, ideal = self.held_out(source), self.held_out(target)
        rows = spread(len(codes), self.columns)
        places = target.places("held_out", self.num_held_out)
        shown = [places[row] for row in rows]
        model = mapped(source.model, fitted.map.to(device_of(target.model)), target.model)
        parts = {
            "originals": target.images("held_out", shown),
            f"reconstructed by {source.name}": source.decode(codes[rows]),
            f"mapped to {target.name} ({self.kind})": model.decode(codes[rows].to(device_of(target.model))),
            f"reconstructed by {target.name}": target.decode(ideal[rows]),
        }
        if not see_alike(source, target):
            parts = {f"originals as {source.name} sees them": source.images("held_out", shown), **parts}
        largest = max(part.shape[-1] for part in parts.values())
        tiles: list[Float[Tensor, "_ _ _ _"]] = [
            resize(part.float().cpu(), largest, "bilinear") for part in parts.values()
        ]
        fitted.map.to("cpu")
        return enlarge(make_grid(torch.cat(tiles), len(rows)), magnification(largest)), list(parts)

    def _facts(self, source: Participant, target: Participant) -> dict[str, str]:
        """What is kept with a map's file."""
        facts: dict[str, str] = {"map": self.kind, "domain": self.domain}
        for role, one in (("source", source), ("target", target)):
            facts[role] = one.name
            facts |= {f"{role}_{key}": str(one.facts[key]) for key in ("file", "sha256") if key in one.facts}
        return facts


def _support_facts(pairs: Pairs) -> dict[str, float]:
    """How well a support set determines a map."""
    if pairs.support is None:
        return {}
    return {"pairs_per_dimension": pairs.support.pairs_per_dimension, "condition_of_support": pairs.support.condition}


__all__ = ["MapSpaces"]
