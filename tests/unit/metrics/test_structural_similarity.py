"""SSIM and MS-SSIM: closed forms, bounds, and torchmetrics as an independent program."""

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from latent_lab.images import to_unit
from latent_lab.metrics import ReconstructionError
from latent_lab.metrics.functional import multiscale_structural_similarity, structural_similarity


def pictures(count: int = 3, size: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_equal_images_have_similarity_one() -> None:
    x = pictures()
    torch.testing.assert_close(structural_similarity(x, x), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(multiscale_structural_similarity(x, x, num_scales=3), torch.ones(3, dtype=torch.float64))


def test_constant_images_differ_in_luminance_alone() -> None:
    a, b = torch.full((1, 1, 16, 16), -0.5), torch.full((1, 1, 16, 16), 0.5)
    x, y, c = 0.25, 0.75, 0.01**2
    expected = (2 * x * y + c) / (x * x + y * y + c)
    assert structural_similarity(a, b).item() == pytest.approx(expected, rel=1e-9)


def test_agrees_with_torchmetrics_where_the_window_lies_within_the_image() -> None:
    x, y = pictures(), (pictures() + 0.3 * pictures(seed=1)).clamp(-1, 1)
    _, places = structural_similarity_index_measure(
        to_unit(y).double(), to_unit(x).double(), data_range=1.0, reduction="none", sigma=1.5, return_full_image=True
    )
    # torchmetrics reflects images at their borders and counts these places, too.
    theirs = places[..., 5:-5, 5:-5].mean((1, 2, 3))
    # Both are computed in float64, from images that were converted in float32.
    torch.testing.assert_close(structural_similarity(x, y), theirs, rtol=1e-5, atol=0)


def test_one_scale_of_many_is_the_similarity_itself() -> None:
    x, y = pictures(), (pictures() + 0.3 * pictures(seed=1)).clamp(-1, 1)
    torch.testing.assert_close(multiscale_structural_similarity(x, y, num_scales=1), structural_similarity(x, y))


def test_images_that_are_too_small_for_all_scales_are_refused_with_what_fits() -> None:
    with pytest.raises(ValueError, match="needs images of 176 pixels or more, got 48: compare with num_scales=3"):
        multiscale_structural_similarity(pictures(), pictures())
    with pytest.raises(ValueError, match="SSIM needs images of 11 pixels or more, got 8"):
        structural_similarity(pictures(size=8), pictures(size=8))


def test_as_a_metric_larger_is_better() -> None:
    metric = ReconstructionError(structural_similarity)
    metric.update(pictures(), pictures(seed=1), torch.arange(3))
    assert metric.higher_is_better
    interval = metric.interval(num_resamples=50)
    assert interval.low <= metric.compute().item() <= interval.high
