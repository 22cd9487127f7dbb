"""Sliced Wasserstein distance: closed form, pyramids, equal sets."""

import pytest
import torch

from latent_lab.metrics import SlicedWasserstein
from latent_lab.metrics.functional import (
    laplacian_pyramid,
    pyramid_resolutions,
    sliced_wasserstein,
    sliced_wasserstein_interval,
    sliced_wasserstein_of_points,
)
from latent_lab.metrics.functional.sliced_wasserstein import _up


def pictures(count: int, resolution: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, resolution, resolution, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_shifted_points_are_as_far_apart_as_the_shift_projected() -> None:
    points = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    moved = points + torch.tensor([3.0, 4.0])
    # The mean of |cos| over directions of the plane is 2 / pi.
    value = sliced_wasserstein_of_points(points, moved, repeats=8, directions=512)
    assert value == pytest.approx(5.0 * 2 / torch.pi, rel=0.03)


def test_equal_sets_are_at_distance_zero_on_every_level() -> None:
    assert sliced_wasserstein(pictures(6), pictures(6)) == {32: 0.0, 16: 0.0}


def test_blurred_images_differ_most_on_the_finest_level() -> None:
    sharp = pictures(40)
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1)
    other = pictures(40, seed=1)
    assert sliced_wasserstein(sharp, blurred)[32] > 1.5 * sliced_wasserstein(sharp, other)[32]


def test_a_pyramid_adds_up_to_its_image() -> None:
    image = pictures(2, 64)
    fine, middle, coarse = laplacian_pyramid(image)
    assert [level.shape[-1] for level in (fine, middle, coarse)] == pyramid_resolutions(64) == [64, 32, 16]
    torch.testing.assert_close(fine + _up(middle + _up(coarse)), image, atol=1e-5, rtol=0)


def test_the_metric_rounds_to_bytes_and_reports_the_mean_over_levels() -> None:
    metric = SlicedWasserstein(32)
    metric.update(pictures(5), torch.arange(5), real=True)
    metric.update(pictures(5, seed=1) * 3.0, torch.arange(5), real=False)
    value = metric.compute().item()
    assert value == pytest.approx(sum(metric.levels.values()) / 2)
    assert metric.fake[0].dtype == torch.uint8


def test_different_numbers_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many square images"):
        sliced_wasserstein(pictures(4), pictures(5))


@pytest.mark.parametrize("resolution", [8, 24, 40])
def test_sizes_without_a_pyramid_are_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"16, 32, 64 ... pixels, got {resolution}"):
        SlicedWasserstein(resolution)


def test_every_level_has_an_interval_around_it_that_is_narrower_for_paired_images() -> None:
    # Images of very different contrast: which of them are drawn matters less if both sets draw the same.
    real = pictures(10) * torch.linspace(0.1, 1.0, 10).view(-1, 1, 1, 1)
    fake = real**3
    values = sliced_wasserstein(real, fake, seed=3)
    free, paired = (
        sliced_wasserstein_interval(real, fake, paired=paired, num_resamples=10, seed=3) for paired in (False, True)
    )
    for found in (free, paired):
        assert list(found.levels) == list(values)
        for size, value in values.items():
            assert found.levels[size].low < value < found.levels[size].high
        assert found.mean.low < sum(values.values()) / 2 < found.mean.high
    for size in values:
        assert paired.levels[size].high - paired.levels[size].low < free.levels[size].high - free.levels[size].low


def test_the_metric_gives_the_intervals_of_the_function() -> None:
    metric = SlicedWasserstein(16, seed=1)
    for real, seed in ((True, 0), (False, 1)):
        metric.update(pictures(5, 16, seed), torch.arange(5), real=real)
    found = metric.intervals(num_resamples=4)
    expected = sliced_wasserstein_interval(metric.table("real"), metric.table("fake"), num_resamples=4, seed=1)
    assert found == expected
    assert metric.interval(num_resamples=4) == expected.mean == expected.levels[16]
