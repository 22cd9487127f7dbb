"""Fréchet distance: closed form, invariance, independent programs, and how moments are accumulated."""

import numpy as np
import pytest
import torch
from torch import nn

from latent_lab.metrics import AlreadyExtracted, FrechetDistance
from latent_lab.metrics.functional import (
    Moments,
    accumulate,
    empty_sums,
    frechet_distance,
    merge_sums,
    moments,
    moments_from_sums,
)


def gaussian(mean: list[float], deviations: list[float]) -> Moments:
    return Moments(
        torch.tensor(mean, dtype=torch.float64), torch.diag(torch.tensor(deviations, dtype=torch.float64) ** 2), 1000
    )


def features(count: int, width: int, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=rng)
    return torch.randn(count, width, generator=rng) @ mixing / width**0.5 + 0.1 * seed


def test_distance_of_axis_aligned_gaussians_is_the_closed_form() -> None:
    a, b = gaussian([0.0, 1.0, -2.0], [1.0, 2.0, 0.5]), gaussian([1.0, 1.0, 0.0], [3.0, 2.0, 1.5])
    # |difference of means|² + sum of (difference of deviations)²
    assert frechet_distance(a, b).value == pytest.approx(5.0 + 4.0 + 0.0 + 1.0, abs=1e-9)


def test_metric_with_an_identity_extractor_gives_the_closed_form_of_the_sample_moments() -> None:
    x = features(500, 1, 1).double()
    metric = FrechetDistance(AlreadyExtracted(1))
    metric.update(x, real=True)
    metric.update(3.0 * x + 2.0, real=False)
    expected = (2.0 * x.mean() + 2.0) ** 2 + (2.0 * x.std()) ** 2
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-9)


def test_a_rotation_of_both_sets_changes_nothing() -> None:
    a, b = features(200, 8, 1).double(), features(300, 8, 2).double()
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))).Q
    plain = frechet_distance(moments(a), moments(b)).value
    assert frechet_distance(moments(a @ rotation), moments(b @ rotation)).value == pytest.approx(plain, rel=1e-9)


def test_order_of_the_sets_does_not_matter() -> None:
    a, b = moments(features(40, 16, 1)), moments(features(300, 16, 2))
    assert frechet_distance(a, b).value == pytest.approx(frechet_distance(b, a).value, rel=1e-9)


@pytest.mark.parametrize("count", [400, 12])
def test_equal_sets_are_at_distance_zero_and_never_below(count: int) -> None:
    a = moments(features(count, 32, 1))
    estimate = frechet_distance(a, a)
    assert 0.0 <= estimate.value < 1e-6
    assert abs(estimate.raw) < 1e-6


def test_fewer_vectors_than_features_agree_with_singular_values_of_the_centred_data() -> None:
    a, b = features(20, 64, 1).double(), features(30, 64, 2).double()
    # tr((Sa^½ Sb Sa^½)^½) is the nuclear norm of A Bᵀ / sqrt((n - 1)(m - 1)) for centred data A, B.
    across = (a - a.mean(0)) @ (b - b.mean(0)).T / (19 * 29) ** 0.5
    ma, mb = moments(a), moments(b)
    expected = (ma.mean - mb.mean).square().sum() + ma.covariance.trace() + mb.covariance.trace()
    expected -= 2 * torch.linalg.svdvals(across).sum()
    assert frechet_distance(ma, mb).value == pytest.approx(expected.item(), rel=1e-7)


def test_agrees_with_torch_fidelity() -> None:
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = features(400, 48, 1).double(), features(500, 48, 2).double()
    theirs = fid.fid_statistics_to_metric(
        fid.fid_features_to_statistics(a), fid.fid_features_to_statistics(b), verbose=False
    )["frechet_inception_distance"]
    assert frechet_distance(moments(a), moments(b)).value == pytest.approx(theirs, rel=1e-6)


def test_agrees_with_scipys_general_matrix_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    a, b = moments(features(400, 24, 1)), moments(features(500, 24, 2))
    root = linalg.sqrtm((a.covariance @ b.covariance).numpy()).real
    expected = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2.0 * np.trace(root)
    assert frechet_distance(a, b).value == pytest.approx(expected.item(), rel=1e-6)


class Flatten(nn.Module):
    num_features = 12

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).double()


def test_agrees_with_torchmetrics_on_the_same_network() -> None:
    pytest.importorskip("torch_fidelity")
    from torchmetrics.image.fid import FrechetInceptionDistance

    rng = torch.Generator().manual_seed(0)
    real, fake = torch.rand(60, 3, 2, 2, generator=rng), torch.rand(80, 3, 2, 2, generator=rng) ** 2
    theirs = FrechetInceptionDistance(feature=Flatten(), normalize=False, input_img_size=(3, 2, 2)).set_dtype(
        torch.float64
    )
    ours = FrechetDistance(Flatten())
    for batch, is_real in ((real, True), (fake, False)):
        theirs.update(batch, real=is_real)
        ours.update(batch, real=is_real)
    assert ours.compute().item() == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_batches_add_up_to_the_whole() -> None:
    a, b = features(90, 10, 1), features(70, 10, 2)
    metric = FrechetDistance(AlreadyExtracted(10))
    for batch in a.split(7):
        metric.update(batch, real=True)
    for batch in b.split(11):
        metric.update(batch, real=False)
    assert metric.compute().item() == pytest.approx(frechet_distance(moments(a), moments(b)).value, rel=1e-9)


def test_the_extractor_is_no_part_of_the_metric() -> None:
    metric = FrechetDistance(Flatten())
    assert not list(metric.parameters())
    assert not metric.state_dict()
    assert len(list(metric.modules())) == 1
    assert metric.clone()._extractor is metric._extractor


def test_one_image_is_refused_in_one_sentence() -> None:
    metric = FrechetDistance(AlreadyExtracted(3))
    metric.update(torch.zeros(1, 3), real=True)
    metric.update(torch.zeros(5, 3), real=False)
    with pytest.raises(ValueError, match="at least 2 feature vectors, got 1"):
        metric.compute()


def test_moments_are_those_of_numpy() -> None:
    rows = features(300, 37, 1)
    wide = rows.double().numpy()
    found = moments(rows)
    torch.testing.assert_close(found.mean, torch.from_numpy(wide.mean(0)))
    torch.testing.assert_close(found.covariance, torch.from_numpy(np.cov(wide, rowvar=False)))
    assert found.num_vectors == 300


def test_badly_centred_features_keep_their_digits() -> None:
    # About 0, sums of squares would be 1e6 times the variance and lose six of the sixteen digits.
    a, b = features(600, 16, 1).double(), features(500, 16, 2).double()
    expected = frechet_distance(moments(a), moments(b)).value
    metric = FrechetDistance(AlreadyExtracted(16))
    for rows, real in ((a, True), (b, False)):
        for batch in (rows + 1e3).split(13):
            metric.update(batch, real=real)
    assert metric.compute().item() == pytest.approx(expected, rel=1e-9)


def test_parts_merge_to_the_whole_whatever_their_sizes() -> None:
    rows = features(100, 11, 3).double() + 1e3
    parts = [accumulate(empty_sums(11), part) for part in (rows[:60], rows[60:60], rows[60:61], rows[61:])]
    found, whole = moments_from_sums(merge_sums(parts)), moments(rows)
    torch.testing.assert_close(found.mean, whole.mean, rtol=1e-13, atol=0.0)
    torch.testing.assert_close(found.covariance, whole.covariance, rtol=1e-9, atol=1e-11)
    assert found.num_vectors == 100


def test_an_unknown_number_of_vectors_changes_nothing() -> None:
    a, b = moments(features(400, 16, 1)), moments(features(300, 16, 2))
    unknown = a._replace(num_vectors=None)
    assert frechet_distance(unknown, b).value == pytest.approx(frechet_distance(a, b).value, rel=1e-9)


def test_features_that_never_vary_are_no_trouble() -> None:
    a, b = features(200, 8, 1).double(), features(300, 8, 2).double()
    expected = frechet_distance(moments(a), moments(b)).value
    a, b = (torch.cat([rows, torch.full((len(rows), 2), 0.5)], 1) for rows in (a, b))
    assert frechet_distance(moments(a), moments(b)).value == pytest.approx(expected, rel=1e-7)


def test_nearly_equal_sets_may_be_raw_below_zero_and_are_reported_at_zero() -> None:
    a = moments(features(300, 32, 1))
    estimate = frechet_distance(a, a._replace(covariance=a.covariance * (1.0 + 1e-15)))
    assert abs(estimate.raw) < 1e-6
    assert estimate.value == max(0.0, estimate.raw)


def test_different_widths_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="compares equally many features, got 8 and 9"):
        frechet_distance(moments(features(20, 8, 1)), moments(features(20, 9, 1)))


def test_features_that_are_not_numbers_are_refused_in_one_sentence() -> None:
    rows = features(20, 4, 1)
    rows[3, 2] = float("nan")
    with pytest.raises(ValueError, match="must be finite, got NaN or infinity among 20"):
        moments(rows)
