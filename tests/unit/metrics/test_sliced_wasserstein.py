"""Sliced Wasserstein distance: closed form, pyramids, equal sets."""

import pytest
import torch

from latent_lab.metrics import SlicedWasserstein
from latent_lab.metrics.functional import (
    laplacian_pyramid,
    pyramid_resolutions,
    sliced_wasserstein,
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
