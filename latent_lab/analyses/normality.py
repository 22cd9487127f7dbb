"""Are the codes of real images distributed as the prior says? Tests, spectra and figures for any number of models.

The test of Henze and Zirkler, which Tonelli's thesis (2022) compares models by, cannot tell in latent spaces of usual
width; beside it stand tests that can. Spherical latents are tested for uniformity instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab import distributed
from latent_lab.analyses.base import Result, Table
from latent_lab.analyses.feeding import as_tensor, batches, share
from latent_lab.analyses.set_numbers import count_name
from latent_lab.analyses.spaces import AbstractSpacesAnalysis, Participant, number_name
from latent_lab.metrics.functional import (
    HenzeZirkler,
    MonteCarloTest,
    NormalityNull,
    SphereNull,
    active_subspace,
    bhep,
    bootstrap,
    coordinate_normality,
    expected_potential,
    henze_zirkler,
    mardia,
    mean_interval,
    normality_null,
    projected_normality,
    projected_uniformity,
    sphere_null,
    sphere_uniformity,
    unit_directions,
)
from latent_lab.metrics.functional.active_subspace import whiten
from latent_lab.metrics.functional.bootstrap import LEVEL
from latent_lab.metrics.functional.normality import CoordinateTest
from latent_lab.plotting import Panel, panels, sorted_curves
from latent_lab.progress import phase
from latent_lab.types import Latents

STREAM = "normality/cycle"
"""Name of the random stream of the latents that are decoded and encoded again."""
PRINCIPAL = (2, 5, 10)
RANDOM_DIM = 5
_LEAST = 21
"""Codes: 2 * 10 + 1 for ten principal axes, 20 for D'Agostino's test."""
_DRAWS_AT_ONCE = 8
_PRIOR_SAMPLES = 2_000
_BINS = 60
_QUANTILES = 400
_BAND = (0.05, 0.95)


class _Codes(NamedTuple):
    """Codes that are tested."""

    prefix: str
    """Of the names of their numbers."""
    title: str
    """For people."""
    rows: Latents


@dataclass
class _Found:
    """What is known of one set of codes."""

    numbers: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    eigenvalues: list[float] = field(default_factory=list)
    """Of the covariance, largest first."""

    def test(self, name: str, test: MonteCarloTest) -> None:
        """A statistic with its p-value and its distance from what the prior gives."""
        self.numbers[name] = test.statistic
        self.numbers[f"{name}_p"] = test.p_value
        self.numbers[f"{name}_deviations"] = test.deviations


@dataclass(frozen=True)
class Normality(AbstractSpacesAnalysis):
    """Tests whether codes of held-out images have the law of the prior, and what part of the space they fill.

    The same tests are made of samples of the prior that were decoded and encoded again. A number's name ends in the
    count of codes: statistics of other counts or dimensions do not compare, p-values and deviations do.
    """

    name = "normality"

    num: int | None = 5_000
    """Held-out images, evenly spaced over the source; none: all."""
    cycle: bool = True
    """Whether as many samples of the prior are decoded, encoded again, and tested, too."""
    num_draws: int = 199
    """Simulated data sets that tests without a known law are compared with: the smallest p-value is 1 / (1 +
    num_draws)."""
    num_projections: int = 10
    """Random projections on 5 dimensions."""
    coordinate_test: CoordinateTest = "dagostino"
    """Test of single coordinates: dagostino, shapiro (at most 5,000 images), anderson."""
    level: float = 0.05
    """At which coordinates are rejected, after Holm's correction."""
    num_resamples: int = 200
    """Resamples of intervals; 0: no intervals."""
    seed: int = 0
    """Of simulations, projections, resamples and samples of the prior."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        if self.num is not None and self.num < _LEAST:
            raise ValueError(f"normality needs num of at least {_LEAST} images, got {self.num}")
        for option, least in (("num_draws", 2), ("num_projections", 1), ("num_resamples", 0), ("batch_size", 1)):
            if getattr(self, option) < least:
                raise ValueError(f"normality needs {option} of at least {least}, got {getattr(self, option)}")
        if self.num_resamples == 1:
            raise ValueError("normality needs num_resamples of at least 2, or 0 for no intervals, got 1")
        if not 0 < self.level < 1:
            raise ValueError(f"normality needs a level between 0 and 1, got {self.level}")
        if self.coordinate_test not in get_args(CoordinateTest):
            known = ", ".join(get_args(CoordinateTest))
            raise ValueError(f"normality needs a coordinate_test of {known}, got {self.coordinate_test!r}")

    @torch.no_grad()
    def compare(self, participants: Sequence[Participant]) -> Result:
        """Numbers of every model, N as in "1k" at the end of each; `cycle_` before those of decoded and encoded samples
        of the prior, `prior_` before those of the samples themselves where the prior's law is not known:

            hz, hz_p: Henze and Zirkler's statistic and its p-value; hz_excess: HZ - 1 with all its digits
            bhep: the same with a kernel as wide as distances are; mardia_skewness, mardia_kurtosis. Each with _p
                (simulated) and _deviations: how many deviations of the simulated statistics it lies above their mean
            hz_principal_K: HZ of the K leading principal axes; hz_random_5: mean HZ of random 5-dimensional
                projections; hz_principal_p, hz_random_p: smallest p-value of these, after Holm's correction over both
            coordinates_rejected: share of the coordinates whose own test rejects, after Holm
            rayleigh, bingham, ajne, gine, gine_combined, potential: for spherical latents, instead of all above, with
                _p and _deviations; projections_p: smallest p-value of one-dimensional projections, after Holm
            rank, participation_ratio, entropy_rank, collapsed: dimensions that codes fill, and collapsed coordinates
            mean_length: of codes; length_of_mean: of their mean; coordinate_variance: mean over coordinates

        Raises:
            ValueError: if there are fewer than 21 images, or codes that are not finite or all equal.
        """
        numbers: dict[str, float] = {}
        intervals: dict[str, tuple[float, float]] = {}
        remarks: dict[tuple[str, str], list[str]] = {}
        rows: dict[str, list[list[str | float]]] = {}
        histograms: dict[str, Panel] = {}
        quantiles: dict[str, Panel] = {}
        spectra: dict[str, list[float]] = {}
        for one in participants:
            law = one.model.latent_space.prior_law
            for codes in self._sets(one):
                with phase(f"{self.name} of {one.name}"):
                    found = self._examine(codes.rows, spherical=law == "sphere")
                suffix = count_name(len(codes.rows))
                for name, value in found.numbers.items():
                    numbers[number_name(participants, one, f"{codes.prefix}{name}_{suffix}")] = value
                for name, ends in found.intervals.items():
                    intervals[number_name(participants, one, f"{codes.prefix}{name}_{suffix}")] = ends
                for note in found.notes:
                    remarks.setdefault((one.name, note), []).append(codes.title)
                for title, cells in _cells(found.numbers).items():
                    rows.setdefault(title, []).append([one.name, codes.title, len(codes.rows), one.dim, *cells])
                if not codes.prefix:
                    histograms[one.name] = _histogram(codes.rows, one.prior(_PRIOR_SAMPLES, self.seed, STREAM))
                    quantiles[one.name] = _quantile_panel(codes.rows, spherical=law == "sphere")
                    spectra[one.name] = [value for value in found.eigenvalues if value > 0]
        pictures = {
            "histograms": panels(histograms, x="coordinate", y="density"),
            "spectra": sorted_curves(
                spectra, title="variances of codes along their principal axes", x="axis", y="variance"
            ),
            "quantiles": panels(quantiles, x="expected quantile", y="quantile of codes", diagonal=True),
        }
        protocol = {
            "num": len(self._held_out(participants[0])),
            "chosen": "evenly spaced over the source",
            "codes": "posterior means where there is a posterior, projected to the space",
            "cycle": {"stream": STREAM, "seed": self.seed, "images": "not rounded"} if self.cycle else None,
            "null": {"draws": self.num_draws, "seed": self.seed, "of": "normal or uniform data of the same size"},
            "projections": {"principal": list(PRINCIPAL), "random": self.num_projections, "random_dim": RANDOM_DIM},
            "coordinate_test": {"test": self.coordinate_test, "level": self.level, "correction": "Holm"},
            "intervals": {"level": LEVEL, "num_resamples": self.num_resamples, "seed": self.seed},
            "notes": [f"{who} ({'; '.join(codes)}): {note}" for (who, note), codes in remarks.items()],
        }
        if not self.num_resamples:
            protocol.pop("intervals")
        tables: dict[str, Table] = {
            title: [["model", "codes", "N", "D", *_HEADS[title]], *body] for title, body in rows.items()
        }
        return Result(self.name, numbers, protocol, pictures, tables, intervals)

    # ------------------------------------------------------------------------------------------------ what is tested

    def _sets(self, one: Participant) -> Iterator[_Codes]:
        held_out = self._held_out(one)
        yield _Codes("", "held-out", held_out)
        if one.model.latent_space.prior_law == "other":
            samples = one.prior(len(held_out), self.seed, STREAM)
            yield _Codes("prior_", "samples of the prior", samples)
        if self.cycle:
            cycled = one.cycled(len(held_out), self.seed, STREAM, self.batch_size)
            yield _Codes("cycle_", "prior, decoded and encoded again", cycled)

    def _held_out(self, one: Participant) -> Latents:
        codes = one.codes("held_out", self.num, self.batch_size)
        if len(codes) < _LEAST:
            raise ValueError(
                f"normality needs at least {_LEAST} images, got {len(codes)}: name a larger data set, or hold out more "
                "of a folder (--data.split last --data.holdout 0.3)"
            )
        return codes

    # ---------------------------------------------------------------------------------------------------- the tests

    def _examine(self, codes: Latents, *, spherical: bool) -> _Found:
        found = _Found()
        if spherical:
            self._test_uniformity(codes, found)
        else:
            self._test_normality(codes, found)
        self._measure(codes, found)
        return found

    def _test_normality(self, codes: Latents, found: _Found) -> None:
        number, dim = codes.shape
        hz = henze_zirkler(codes)
        found.numbers |= {"hz": hz.statistic, "hz_excess": hz.excess, "hz_p": hz.p_value}
        found.notes += _what_hz_cannot_say(hz)
        # With one vector more than dimensions all are equally far from the mean, whatever their law.
        enough = number > hz.rank + 1
        if enough:
            # Within what codes span all statistics are what they would be without the missing dimensions.
            spanned = codes if hz.rank == dim else whiten(codes.double()).rows
            null = self._normality_null(number, hz.rank)
            found.test("bhep", bhep(spanned, null=null))
            moments = mardia(spanned, null=null)
            found.test("mardia_skewness", moments.skewness)
            found.test("mardia_kurtosis", moments.kurtosis)
            if hz.singular:
                found.notes.append(f"BHEP and Mardia's tests are made in the {hz.rank} dimensions that codes span")
        else:
            found.notes.append(
                f"BHEP, Mardia's tests and random projections are left out, as {number} codes are too few for {dim} "
                "dimensions"
            )
        projected = projected_normality(
            codes,
            principal=PRINCIPAL,
            num_random=self.num_projections if enough else 0,
            random_dim=RANDOM_DIM,
            seed=self.seed,
        )
        principal = [place for place, name in enumerate(projected.names) if name.startswith("principal")]
        random = [place for place, name in enumerate(projected.names) if name.startswith("random")]
        for place in principal:
            found.numbers[f"hz_{projected.names[place]}"] = projected.statistics[place].item()
        if principal:
            found.numbers["hz_principal_p"] = projected.adjusted[principal].min().item()
        if random:
            width = min(RANDOM_DIM, hz.rank)
            found.numbers[f"hz_random_{width}"] = projected.statistics[random].mean().item()
            found.numbers["hz_random_p"] = projected.adjusted[random].min().item()
        coordinates = coordinate_normality(codes, test=self.coordinate_test)
        found.numbers["coordinates_rejected"] = coordinates.rejected(self.level)
        if coordinates.constant:
            found.notes.append(f"{coordinates.constant} coordinates are constant and not tested one by one")

    def _test_uniformity(self, codes: Latents, found: _Found) -> None:
        number, dim = codes.shape
        tests = sphere_uniformity(codes, null=self._sphere_null(number, dim))
        for name, test in tests._asdict().items():
            found.test(name, test)
        found.numbers["potential_of_uniform"] = expected_potential(dim)
        found.numbers["projections_p"] = projected_uniformity(codes, seed=self.seed).p_value

    def _measure(self, codes: Latents, found: _Found) -> None:
        space = active_subspace(codes)
        found.eigenvalues = space.eigenvalues.tolist()
        lengths = torch.linalg.vector_norm(codes.double(), dim=1)
        found.numbers |= {
            "rank": space.numerical_rank,
            "participation_ratio": space.participation_ratio,
            "entropy_rank": space.entropy_rank,
            "collapsed": len(space.collapsed),
            "mean_length": lengths.mean().item(),
            "length_of_mean": torch.linalg.vector_norm(codes.double().mean(0)).item(),
            "coordinate_variance": space.variances.mean().item(),
        }
        if self.num_resamples:
            options = {"num_resamples": self.num_resamples, "seed": self.seed}
            squares = codes.double().square().sum(1)

            def variance(rows: Tensor) -> float:
                return (squares[rows].mean() - codes[rows].double().mean(0).square().sum()).item() / codes.shape[1]

            found.intervals["mean_length"] = mean_interval(lengths, **options)[:2]
            found.intervals["coordinate_variance"] = bootstrap(
                variance, (len(codes),), estimate=space.variances.mean().item(), lowest=0.0, **options
            )[:2]

    def _normality_null(self, number: int, dim: int) -> NormalityNull:
        columns = self._drawn(lambda draws: torch.stack(normality_null(number, dim, numbers=draws, seed=self.seed), 1))
        return NormalityNull(*columns.unbind(1))

    def _sphere_null(self, number: int, dim: int) -> SphereNull:
        return SphereNull(self._drawn(lambda draws: sphere_null(number, dim, numbers=draws, seed=self.seed).statistics))

    def _drawn(self, draw: Callable[[range], Float[Tensor, "B S"]]) -> Float[Tensor, "R S"]:
        """Statistics of all simulated data sets, in whose simulation ranks share."""
        # A process without a draw of its own repeats another's, which counts once.
        mine = share(self.num_draws) or range(1)
        parts = [draw(draws) for draws in batches(mine, _DRAWS_AT_ONCE, "simulating the null")]
        return distributed.gather_ragged(torch.cat(parts), as_tensor(mine))[0]


def _what_hz_cannot_say(test: HenzeZirkler) -> list[str]:
    if test.singular:
        return [
            f"{test.num_vectors} codes span {test.rank} of {test.dim} dimensions, so that the Henze-Zirkler statistic "
            "is 4 N by convention and says nothing about normality"
        ]
    if not test.informative:
        return [
            f"in {test.dim} dimensions the Henze-Zirkler statistic is 1 to rounding for most data, normal or not, so "
            "that only a p-value of next to 0 says anything"
        ]
    return []


# -------------------------------------------------------------------------------------------------------------- tables

_NORMALITY, _PROJECTIONS = "Tests of normality", "Henze-Zirkler tests of projections"
_UNIFORMITY, _EXTENT = "Tests of uniformity on the sphere", "What codes fill"
_HEADS: Mapping[str, Sequence[str]] = {
    _NORMALITY: (
        "HZ - 1",
        "p",
        "BHEP, deviations above normal",
        "p",
        "skewness, deviations",
        "p",
        "kurtosis, deviations",
        "p",
        "coordinates rejected",
    ),
    _PROJECTIONS: (
        *(f"HZ, {width} principal axes" for width in PRINCIPAL),
        "smallest p",
        f"mean HZ, {RANDOM_DIM} (or all) random axes",
        "smallest p",
    ),
    _UNIFORMITY: (
        "Rayleigh, deviations above uniform",
        "p",
        "Bingham, deviations",
        "p",
        "Giné (combined), deviations",
        "p",
        "potential, deviations",
        "p",
        "projections, smallest p",
    ),
    _EXTENT: (
        "rank",
        "participation ratio",
        "entropy rank",
        "collapsed coordinates",
        "mean length",
        "length of the mean",
        "variance of a coordinate",
    ),
}


def _cells(numbers: Mapping[str, float]) -> dict[str, list[str | float]]:
    """Rows of the tables that the numbers belong to; empty cells where a test was not made."""

    def of(*names: str) -> list[str | float]:
        return [float(numbers[name]) if name in numbers else "" for name in names]

    def tests(*names: str) -> list[str | float]:
        return of(*(f"{name}_{part}" for name in names for part in ("deviations", "p")))

    extent = of("rank", "participation_ratio", "entropy_rank", "collapsed", "mean_length", "length_of_mean")
    cells: dict[str, list[str | float]] = {}
    if "hz" in numbers:
        principal = of(*(f"hz_principal_{width}" for width in PRINCIPAL), "hz_principal_p")
        cells[_NORMALITY] = [
            *of("hz_excess", "hz_p"),
            *tests("bhep", "mardia_skewness", "mardia_kurtosis"),
            *of("coordinates_rejected"),
        ]
        random = [f"hz_random_{width}" for width in range(1, RANDOM_DIM + 1) if f"hz_random_{width}" in numbers]
        cells[_PROJECTIONS] = [*principal, *(of(*random) or [""]), *of("hz_random_p")]
    else:
        cells[_UNIFORMITY] = [*tests("rayleigh", "bingham", "gine_combined", "potential"), *of("projections_p")]
    cells[_EXTENT] = [*extent, *of("coordinate_variance")]
    return cells


# ------------------------------------------------------------------------------------------------------------- figures


def _histogram(codes: Latents, samples: Float[Tensor, "M D"]) -> Panel:
    """Densities of the first coordinate, of single coordinates (a band), and of the prior, over 4 deviations."""
    deviation = max(codes.std().item(), samples.std().item())
    centre = samples.mean().item()
    edges = torch.linspace(centre - 4 * deviation, centre + 4 * deviation, _BINS + 1)
    width = (edges[1] - edges[0]).item()

    def density(values: Tensor) -> Tensor:
        return torch.histogram(values.flatten(), edges).hist / (values.numel() * width)

    of_coordinates = torch.stack([density(column) for column in codes.T])
    low, high = of_coordinates.quantile(torch.tensor(_BAND), 0).tolist()
    return Panel(
        x=((edges[1:] + edges[:-1]) / 2).tolist(),
        lines={"prior": density(samples).tolist(), "coordinate 0": of_coordinates[0].tolist()},
        band=(low, high),
        band_label="9 of 10 coordinates",
    )


def _quantile_panel(codes: Latents, *, spherical: bool) -> Panel:
    """Quantiles of coordinates against the normal law's, or against the law that uniformity on the sphere gives them.

    Coordinates are standardised, as tests of normality do not see means and covariances; those on the sphere, whose
    mean and variance are part of the law, are only scaled by sqrt(D).
    """
    from scipy.special import betaincinv, ndtri

    number = min(len(codes), _QUANTILES)
    shares = (torch.arange(number, dtype=torch.float64) + 0.5) / number
    if spherical:
        rows = unit_directions(codes)
        half, scale = (rows.shape[1] - 1) / 2, math.sqrt(rows.shape[1])
        rows, x = rows * scale, scale * (2.0 * torch.from_numpy(betaincinv(half, half, shares.numpy())) - 1.0)
    else:
        rows = codes.double()
        rows, x = rows - rows.mean(0), torch.from_numpy(ndtri(shares.numpy()))
        deviations = rows.std(0)
        rows = rows[:, deviations > 0] / deviations[deviations > 0]
    found = rows.quantile(shares, 0)
    low, high = found.quantile(torch.tensor(_BAND, dtype=found.dtype), 1).tolist()
    return Panel(
        x=x.tolist(),
        lines={"median of coordinates": found.median(1).values.tolist(), "coordinate 0": found[:, 0].tolist()},
        band=(low, high),
        band_label="9 of 10 coordinates",
    )


__all__ = ["Normality"]
