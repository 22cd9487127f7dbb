"""Is a latent space in order? Codes against the prior, dimensions in use, errors of both round trips, the KL gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latent_lab.analyses.base import Result, Table
from latent_lab.analyses.evaluate import Evaluate
from latent_lab.analyses.feeding import HeldOut
from latent_lab.analyses.normality import STREAM, Normality
from latent_lab.analyses.posterior import Posterior
from latent_lab.analyses.set_numbers import count_name
from latent_lab.analyses.spaces import AbstractSpacesAnalysis, Participant
from latent_lab.latent.interfaces import AbstractStochasticEncoder
from latent_lab.metrics.functional import active_subspace, bootstrap, latent_recovery, latent_recovery_interval
from latent_lab.metrics.functional.bootstrap import LEVEL
from latent_lab.objectives.age import moment_kl
from latent_lab.types import Latents

LAW = "Are codes distributed as the prior?"
IMAGES = "What comes back of images?"
POSTERIOR = "What does the posterior use?"
_UNKNOWN_LAW = "the prior's law is known by its samples alone, so the moment KL, which is to N(0, I), is left out"


@dataclass(frozen=True)
class LatentHealth(AbstractSpacesAnalysis):
    """The questions to ask first of an autoencoder, of held-out images and of samples that were decoded and encoded.

    It runs `normality`, the reconstruction errors of `evaluate`, and `posterior` where there is one, and adds the error
    of latents found again and AGE's KL gap, from the same codes.
    """

    name = "latent-health"
    most = 1

    num: int | None = 1_000
    """Held-out images, evenly spaced over the source, and as many samples of the prior; none: all."""
    num_draws: int = 99
    """Simulated data sets of the tests of `normality`: the smallest p-value is 1 / (1 + num_draws)."""
    num_pictures: int = 16
    """Images over their reconstructions."""
    num_resamples: int = 200
    """Resamples of intervals; 0: no intervals."""
    seed: int = 0
    """Of everything random."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        if self.num_pictures < 1:
            raise ValueError(f"latent-health needs num_pictures of at least 1, got {self.num_pictures}")
        # Whatever else is impossible is refused by the analyses that it consists of.
        self._normality()
        self._errors()
        self._posterior()

    def _normality(self) -> Normality:
        return Normality(
            num=self.num,
            num_draws=self.num_draws,
            num_resamples=self.num_resamples,
            seed=self.seed,
            batch_size=self.batch_size,
        )

    def _errors(self) -> Evaluate:
        return Evaluate(
            metrics=("rmse",),
            num_reconstructions=self.num,
            num_pictures=2 * self.num_pictures,
            num_resamples=self.num_resamples,
            seed=self.seed,
            batch_size=self.batch_size,
        )

    def _posterior(self) -> Posterior:
        return Posterior(num=self.num, batch_size=self.batch_size)

    @torch.no_grad()
    def compare(self, participants: Sequence[Participant]) -> Result:
        """Numbers, N as in "1k" at the end of each; those of the analyses it runs are in their sections:

            i_mse, i_mse_relative, latent_cosine: samples z of the prior beside encode(decode(z)), see
                `metrics.functional.latent_recovery`
            kl_real, kl_fake: `objectives.age.moment_kl` of codes of images and of decoded samples, less that of as many
                samples of the prior, in nats per dimension: 0 if their means and variances are the prior's
            kl_gap: kl_real - kl_fake, over which the two players of AGE (Ulyanov et al. 2018) contend: 0 if the encoder
                cannot tell images from samples by moments, far below 0 if samples have collapsed

        Raises:
            ValueError: if there are fewer than 21 images, or codes that are not finite or all equal.
        """
        one = participants[0]
        law = self._normality()([one])
        real = one.codes("held_out", self.num, self.batch_size)
        fake = one.cycled(len(real), self.seed, STREAM, self.batch_size)
        prior = one.prior(len(real), self.seed, STREAM)
        count = count_name(len(real))
        numbers, intervals = self._recovery(prior, fake)
        notes: list[str] = []
        if one.model.latent_space.prior_law == "other":
            notes.append(_UNKNOWN_LAW)
        else:
            gaps, of_gaps = self._gap(real, fake, prior)
            numbers |= gaps
            intervals |= of_gaps
        sections = {LAW: law, IMAGES: self._errors()(one.model, HeldOut(one.held_out, one.reference))}
        if isinstance(one.model, AbstractStochasticEncoder):
            sections[POSTERIOR] = self._posterior()(one.model, one.held_out)
            notes.append("codes are means of posteriors and vary less than the prior, by the posteriors' own variance")
        protocol: dict[str, Any] = {
            "num": len(real),
            "chosen": "evenly spaced over the source",
            "recovery": {"samples": len(real), "stream": STREAM, "seed": self.seed, "images": "not rounded"},
            "kl": "moment KL(q || N(0, I)), less that of as many samples of the prior, nats per dimension",
            "intervals": {"level": LEVEL, "num_resamples": self.num_resamples, "seed": self.seed},
            "notes": notes,
        }
        if not self.num_resamples:
            protocol.pop("intervals")
        tables: dict[str, Table] = {
            "Codes beside samples of the prior": _beside_the_prior(law.numbers, numbers, prior, count),
        }
        suffixed = {f"{name}_{count}": value for name, value in numbers.items()}
        with_count = {f"{name}_{count}": ends for name, ends in intervals.items()}
        return Result(self.name, suffixed, protocol, tables=tables, intervals=with_count, sections=sections)

    def _recovery(self, prior: Latents, fake: Latents) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
        names = ("i_mse", "i_mse_relative", "latent_cosine")
        numbers = dict(zip(names, latent_recovery(prior, fake), strict=True))
        if not self.num_resamples:
            return numbers, {}
        found = latent_recovery_interval(prior, fake, num_resamples=self.num_resamples, seed=self.seed)
        return numbers, {name: (one.low, one.high) for name, one in zip(names, found, strict=True)}

    def _gap(
        self, real: Latents, fake: Latents, prior: Latents
    ) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
        real, fake, prior = real.double(), fake.double(), prior.double()

        def kl(codes: Latents) -> float:
            return moment_kl(codes).item()

        floor = kl(prior)
        numbers = {"kl_real": kl(real) - floor, "kl_fake": kl(fake) - floor, "kl_gap": kl(real) - kl(fake)}
        if not self.num_resamples:
            return numbers, {}
        statistics: Mapping[str, tuple[Callable[..., float], int]] = {
            "kl_real": (lambda rows: kl(real[rows]) - floor, 1),
            "kl_fake": (lambda rows: kl(fake[rows]) - floor, 1),
            "kl_gap": (lambda rows, others: kl(real[rows]) - kl(fake[others]), 2),
        }
        intervals = {}
        for name, (statistic, sets) in statistics.items():
            # Rows that are drawn twice raise the divergence, which the estimate has not done.
            ends = bootstrap(
                statistic,
                (len(real),) * sets,
                estimate=numbers[name],
                num_resamples=self.num_resamples,
                seed=self.seed,
            )
            intervals[name] = (ends.low, ends.high)
        return numbers, intervals


def _beside_the_prior(law: Mapping[str, float], own: Mapping[str, float], prior: Latents, count: str) -> Table:
    """A row for each question, its answer for codes of images, for those of decoded samples, and for the prior."""
    space = active_subspace(prior)
    rows = prior.double()
    of_prior: dict[str, float] = {
        "participation_ratio": space.participation_ratio,
        "entropy_rank": space.entropy_rank,
        "collapsed": float(len(space.collapsed)),
        "coordinate_variance": space.variances.mean().item(),
        "mean_length": _lengths(rows).mean().item(),
        "length_of_mean": _lengths(rows.mean(0, keepdim=True)).item(),
    }
    texts = {
        "participation_ratio": f"dimensions in use: participation ratio (of {prior.shape[1]})",
        "entropy_rank": "dimensions in use: entropy rank",
        "collapsed": "collapsed coordinates",
        "coordinate_variance": "variance of a coordinate",
        "mean_length": "mean length",
        "length_of_mean": "length of the mean",
    }
    table: list[list[str | float]] = [["what", "images", "decoded samples", "samples of the prior"]]
    for name, text in texts.items():
        table.append([text, law[f"{name}_{count}"], law[f"cycle_{name}_{count}"], of_prior[name]])
    for name, (text, expected) in _TESTS.items():
        if f"{name}_{count}" in law:
            table.append([text, law[f"{name}_{count}"], law.get(f"cycle_{name}_{count}", ""), expected])
    if "kl_real" in own:
        table.append(["moment KL above the prior's, nats per dimension", own["kl_real"], own["kl_fake"], 0.0])
    return table


_SELDOM = "below 0.05 once in 20"
_TESTS: Mapping[str, tuple[str, str]] = {
    "projections_p": ("uniform on projections: smallest p-value", _SELDOM),
    "hz_principal_p": ("normal on principal axes: smallest p-value", _SELDOM),
    "hz_random_p": ("normal on random projections: smallest p-value", _SELDOM),
    "coordinates_rejected": ("share of coordinates that are not normal", "next to 0"),
}
"""Number of `normality` -> what it is, and what samples of the prior give."""


def _lengths(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1)


__all__ = ["LatentHealth"]
