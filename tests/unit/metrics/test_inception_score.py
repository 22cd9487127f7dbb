"""Inception score: closed forms, independent program, intervals, bad input."""

import math

import pytest
import torch

from latent_lab.metrics import AlreadyExtracted, InceptionScore
from latent_lab.metrics.functional import inception_score, inception_score_interval


def logits(count: int, classes: int = 12, seed: int = 0) -> torch.Tensor:
    return 3.0 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))


def test_sure_predictions_of_all_classes_equally_often_score_the_number_of_classes() -> None:
    sure = 1e4 * torch.eye(7).repeat(20, 1)
    found = inception_score(sure, splits=4)
    assert found.value == pytest.approx(7.0, rel=1e-12)
    assert found.deviation == pytest.approx(0.0, abs=1e-12)


def test_equal_predictions_score_one() -> None:
    assert inception_score(logits(1).repeat(50, 1), splits=5).value == pytest.approx(1.0, rel=1e-12)


def test_half_sure_predictions_of_two_classes_have_the_closed_form() -> None:
    p = 0.8
    rows = torch.tensor([[math.log(p / (1 - p)), 0.0], [0.0, math.log(p / (1 - p))]], dtype=torch.float64).repeat(10, 1)
    expected = math.exp(p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert inception_score(rows, splits=2).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("count", [100, 107])
def test_agrees_with_torch_fidelity_without_its_shuffle(count: int) -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_isc")
    theirs = fidelity.isc_features_to_metric(logits(count), splits=10, shuffle=False)
    ours = inception_score(logits(count))
    assert ours.value == pytest.approx(theirs["inception_score_mean"], rel=1e-10)
    assert ours.deviation == pytest.approx(theirs["inception_score_std"], rel=1e-8)


def test_the_seed_decides_the_order_and_the_global_random_state_is_left_alone() -> None:
    rows = logits(60)
    before = torch.random.get_rng_state()
    values = [inception_score(rows, shuffle_seed=seed).value for seed in (None, 0, 0, 1)]
    assert values[1] == values[2]
    assert len(set(values)) == 3
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_interval_is_as_wide_as_repeated_draws_spread() -> None:
    drawn = torch.tensor([inception_score(logits(200, seed=seed), splits=2).value for seed in range(150)])
    intervals = [inception_score_interval(logits(200, seed=seed), splits=2, num_resamples=60) for seed in range(10)]
    widths = torch.tensor([interval.high - interval.low for interval in intervals])
    # 95 % of a normal are 3.92 deviations wide; 150 draws know a deviation to 6 %, 60 resamples a quantile less well.
    assert widths.mean().item() == pytest.approx(3.92 * drawn.std().item(), rel=0.3)


def test_resampled_scores_are_those_of_the_resampled_rows() -> None:
    from latent_lab.metrics.functional.bootstrap import interval_of, resample

    rows = logits(50)
    value = inception_score(rows, splits=3).value
    drawn = [inception_score(rows[resample(50, number, 7)], splits=3).value for number in range(20)]
    expected = interval_of(torch.tensor(drawn, dtype=torch.float64), estimate=value, lowest=1.0)
    found = inception_score_interval(rows, splits=3, num_resamples=20, seed=7)
    assert found == pytest.approx(expected, rel=1e-10)


def test_the_metric_splits_rows_in_the_order_of_their_indices() -> None:
    rows = logits(40)
    metric = InceptionScore(AlreadyExtracted(12), splits=4)
    for part in torch.randperm(40, generator=torch.Generator().manual_seed(1)).split(7):
        metric.update(rows[part], part)
    expected = inception_score(rows, splits=4)
    assert metric.compute().item() == pytest.approx(expected.value)
    assert metric.deviation == pytest.approx(expected.deviation)
    assert metric.interval(seed=2) == pytest.approx(inception_score_interval(rows, splits=4, seed=2))


class Network:
    name = "mine"

    def __init__(self, num_classes: int | None) -> None:
        self.num_classes = num_classes

    def observe(self, images: torch.Tensor) -> object:
        return type("Observation", (), {"logits": images.flatten(1)})


def test_an_extractor_that_classifies_gives_its_class_scores() -> None:
    rows = logits(30)
    metric = InceptionScore(Network(12), splits=3)
    metric.update(rows.view(30, 3, 2, 2), torch.arange(30))
    assert metric.compute().item() == pytest.approx(inception_score(rows, splits=3).value)


def test_an_extractor_without_class_scores_is_refused() -> None:
    with pytest.raises(ValueError, match="needs class scores, and mine classifies nothing"):
        InceptionScore(Network(None))


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="10 splits needs at least as many images, got 9"):
        inception_score(logits(9))
    with pytest.raises(ValueError, match="at least 1 split, got 0"):
        inception_score(logits(9), splits=0)
    with pytest.raises(ValueError, match="logits must be finite, got NaN or infinity in 9 of 9 rows"):
        inception_score(torch.full((9, 3), torch.nan), splits=2)
