"""Linear separability of latent spaces: whether hyperplanes tell apart what a classifier sees in the images."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latent_lab import distributed
from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import as_tensor, batches, device_of, prior_latents, share, situation
from latent_lab.analyses.set_numbers import count_name
from latent_lab.latent.interfaces import AbstractDecoder, AbstractMappedDecoder
from latent_lab.metrics.functional import attribute_entropy, most_confident, separability_score
from latent_lab.networks.label_regressor import LabelRegressor, load_regressor
from latent_lab.types import Images, ImageSource, Latents

STREAM = "separability/latents"
"""Name of the random stream of the latents."""


@dataclass(frozen=True)
class Classifier:
    """Something that sees K binary attributes in images."""

    log_odds: Callable[[Images], Float[Tensor, "N K"]]
    """Of images (N, C, R, R) in [-1, 1]: positive where the attribute is seen."""
    names: tuple[str, ...] | None
    """Of the attributes; none: they are numbered."""
    facts: Mapping[str, Any]
    """Plain data for the protocol."""
    notes: tuple[str, ...] = ()


def find_classifier(name: str, device: torch.device) -> Classifier:
    """The yes-or-no labels of a regressor's file, or a module by its class.

    Args:
        name: file of `latent-lab train-regressor`, or package.module.Class: an nn.Module that is built without
            arguments and turns images (N, C, R, R) in [-1, 1] into log odds (N, K); it may have `names` of the K
            attributes.
        device: where it computes.

    Raises:
        ValueError: if there is no such file or class, it takes arguments, or it has no binary label.
    """
    if name.endswith(".safetensors") or Path(name).expanduser().is_file():
        return _of_regressor(load_regressor(name).to(device), name)
    module, _, of_class = name.rpartition(".")
    try:
        network: Any = getattr(importlib.import_module(module), of_class)()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(
            f"there is no classifier {name} ({error}): name a file of `latent-lab train-regressor` that exists, or "
            "package.module.Class, an nn.Module that is built without arguments"
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"a classifier must be an nn.Module, and {name} is none")
    network = network.to(device).requires_grad_(False).eval()
    names = getattr(network, "names", None)
    return Classifier(network, None if names is None else tuple(names), {"class": name})


def _of_regressor(regressor: LabelRegressor, path: str) -> Classifier:
    binary = regressor.binary.nonzero()[:, 0]
    names = tuple(regressor.names[column] for column in binary.tolist())
    if not names:
        raise ValueError(
            f"{path} estimates no label that is a yes or no, only {', '.join(regressor.names)}: train it on others"
        )
    poor = [name for name in names if name not in regressor.reliable]
    notes = (f"the regressor estimates {', '.join(poor)} poorly: their entropies mean little",) if poor else ()
    return Classifier(lambda images: regressor.scores(images)[:, binary], names, regressor.describe(), notes)


@dataclass(frozen=True)
class Separability(AbstractAnalysis):
    """Linear separability of the latent space, and of W where latents are mapped: 1 is perfect (Karras et al. 2019).

    For each attribute a linear support vector machine predicts from the latent what a classifier sees in the image; see
    `metrics.functional.separability`. Published: 200,000 samples, of which each attribute keeps the half of which its
    classifier, trained on CelebA-HQ, is surest; 40 attributes. Numbers of other classifiers do not compare.
    """

    name = "separability"
    requires = AbstractDecoder

    classifier: str | None = None
    """File of `latent-lab train-regressor`, whose yes-or-no labels count, or package.module.Class: an nn.Module built
    without arguments, images in [-1, 1] to log odds."""
    attributes: tuple[str, ...] = ()
    """Labels that count, separated by commas; none: all of the classifier."""
    num_samples: int = 10_000
    """Samples of the prior. Few for many latent coordinates make spaces look more separable than they are."""
    kept_share: float = 0.5
    """Share of the samples that is kept for each attribute, those of which the classifier is surest."""
    seed: int = 0
    """Of the latents."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", tuple(self.attributes))
        if not 0 < self.kept_share <= 1:
            raise ValueError(f"separability needs a kept_share above 0 and at most 1 (all), got {self.kept_share}")
        if self.num_samples < 2:
            raise ValueError(f"separability needs num_samples of at least 2, got {self.num_samples}")
        if self.batch_size < 1:
            raise ValueError(f"separability needs batch_size of at least 1, got {self.batch_size}")

    @torch.no_grad()
    def run(self, model: AbstractDecoder, source: ImageSource | None) -> Result:
        """Numbers, for z and, where there is one, w: `separability_z_10k`, the score, and `entropy_z_LABEL`, in bits.

        Raises:
            ValueError: if there is no classifier, or it does not know an attribute.
        """
        if self.classifier is None:
            raise ValueError(
                "separability needs a classifier: name a file of `latent-lab train-regressor`, or a class of your own "
                "(package.module.Class)"
            )
        classifier = find_classifier(self.classifier, device_of(model))
        latents, log_odds = self._observe(model, classifier)
        columns = self._columns(classifier, log_odds.shape[1])
        numbers: dict[str, float] = {}
        notes = list(classifier.notes)
        for symbol, points in latents.items():
            entropies = {
                name: attribute_entropy(points, log_odds[:, column], self.kept_share)
                for name, column in columns.items()
            }
            numbers[f"separability_{symbol}_{count_name(self.num_samples)}"] = separability_score(entropies.values())
            numbers |= {f"entropy_{symbol}_{name}": bits for name, bits in entropies.items()}
        kept = max(1, int(self.kept_share * self.num_samples))
        balance = {name: self._share_of_positives(log_odds[:, column]) for name, column in columns.items()}
        if one_sided := [name for name, positives in balance.items() if not 0.01 <= positives <= 0.99]:
            notes.append(f"hardly anything but one answer for {', '.join(one_sided)}: any space separates them well")
        dim = model.latent_space.dim
        if kept < 10 * dim:
            notes.append(f"{kept} samples for {dim} coordinates: any labels are separable to some extent; take more")
        protocol: dict[str, Any] = {
            **situation(model),
            "num_samples": self.num_samples,
            "num_kept": kept,
            "share_of_positives": balance,
            "machine": "linear, squared hinge, C = 1, primal, on the samples that are judged",
            "classifier": dict(classifier.facts),
            "seed": self.seed,
            "stream": STREAM,
            "notes": notes,
        }
        return Result(self.name, numbers, protocol)

    def _observe(self, model: AbstractDecoder, classifier: Classifier) -> tuple[dict[str, Latents], Tensor]:
        """Points of each space and the classifier's log odds (N, K) of their images, of all ranks, on the CPU."""
        # A process without a sample of its own takes one that another has, too; gathering counts it once.
        mine = share(self.num_samples) or range(1)
        symbol = model.latent_space.symbol
        rows: dict[str, list[Tensor]] = {symbol: []}
        if isinstance(model, AbstractMappedDecoder):
            rows["w"] = []
        seen: list[Tensor] = []
        for indices in batches(mine, self.batch_size):
            latents = prior_latents(model, self.seed, STREAM, indices)
            rows[symbol].append(latents.cpu())
            if isinstance(model, AbstractMappedDecoder):
                rows["w"].append(model.map(latents).float().cpu())
            images = model.decode(latents).float().clamp(-1.0, 1.0)
            seen.append(classifier.log_odds(images).float().cpu())
        index = as_tensor(mine)
        points = {name: distributed.gather_ragged(torch.cat(parts), index)[0] for name, parts in rows.items()}
        return points, distributed.gather_ragged(torch.cat(seen), index)[0]

    def _columns(self, classifier: Classifier, count: int) -> dict[str, int]:
        """Columns of the log odds by the name of the attribute, as far as they count."""
        names = classifier.names or tuple(str(number) for number in range(count))
        unknown = [name for name in self.attributes if name not in names]
        if unknown:
            raise ValueError(f"the classifier does not know {', '.join(unknown)}: it knows {', '.join(names)}")
        return {name: names.index(name) for name in self.attributes or names}

    def _share_of_positives(self, log_odds: Tensor) -> float:
        kept = log_odds[most_confident(log_odds, self.kept_share)]
        return (kept > 0).double().mean().item()
