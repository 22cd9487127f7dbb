"""Errors of reconstructions: values by hand, each image once."""

import math

import pytest
import torch

from latent_lab.metrics import MeanImageError, ReconstructionError
from latent_lab.metrics.functional import (
    mean_absolute_error,
    mean_squared_error,
    peak_signal_to_noise_ratio,
    root_mean_squared_error,
)


def test_errors_of_a_constant_difference_are_what_one_computes_by_hand() -> None:
    images = torch.zeros(2, 3, 4, 4)
    other = torch.tensor([0.5, -0.2]).view(2, 1, 1, 1).expand_as(images)
    torch.testing.assert_close(mean_squared_error(images, other).float(), torch.tensor([0.25, 0.04]))
    torch.testing.assert_close(root_mean_squared_error(images, other).float(), torch.tensor([0.5, 0.2]))
    torch.testing.assert_close(mean_absolute_error(images, other).float(), torch.tensor([0.5, 0.2]))
    assert peak_signal_to_noise_ratio(images, other)[0].item() == pytest.approx(10 * math.log10(4 / 0.25))


def test_psnr_depends_on_the_data_range_and_is_infinite_for_equal_images() -> None:
    images = torch.zeros(1, 1, 2, 2)
    narrow = peak_signal_to_noise_ratio(images, images + 0.5, data_range=1.0)
    assert (peak_signal_to_noise_ratio(images, images + 0.5) - narrow).item() == pytest.approx(20 * math.log10(2))
    assert peak_signal_to_noise_ratio(images, images).item() == math.inf


def test_an_image_that_comes_twice_counts_once() -> None:
    metric = ReconstructionError(mean_squared_error)
    images = torch.zeros(3, 1, 2, 2)
    other = images + torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1)
    metric.update(images, other, torch.tensor([4, 9, 2]))
    metric.update(images[2:], other[2:], torch.tensor([2]))
    assert metric.compute().item() == pytest.approx((0 + 1 + 4) / 3)


def test_a_mean_over_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image, got none"):
        ReconstructionError(mean_squared_error).compute()


def test_directions_of_improvement_are_declared() -> None:
    assert ReconstructionError(mean_squared_error).higher_is_better is False
    assert MeanImageError(4).higher_is_better is False


def test_mean_image_error_is_the_error_of_predicting_the_mean() -> None:
    images = torch.rand(9, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    metric = MeanImageError(4)
    for batch in images.split(4):
        metric.update(batch)
    expected = mean_squared_error(images, images.mean(0, keepdim=True).expand_as(images)).mean()
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-6)
