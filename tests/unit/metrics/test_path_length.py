"""Perceptual path length: analytic for a linear generator, trimming as published, through the space's own paths."""

import numpy as np
import pytest
import torch

from latent_lab.latent.interfaces import AbstractDecoder
from latent_lab.latent.spaces import AbstractLatentSpace, Gaussian, Hypersphere
from latent_lab.metrics import PathLength
from latent_lab.metrics.functional import crop_face, path_distances, reduce_for_comparison, trimmed_mean
from latent_lab.metrics.functional.path_length import RECIPES, PathNoise, PathRecipe
from tests.unit.analyses.mapped_toys import ToyMappedDecoder


class Linear(AbstractDecoder):
    """Pixels are a fixed matrix times the latent, in float64 so that tiny steps are resolved."""

    def __init__(self, space: AbstractLatentSpace) -> None:
        self.space = space
        self.matrix = torch.randn(space.dim, 3 * 8 * 8, generator=torch.Generator().manual_seed(0))

    @property
    def latent_space(self) -> AbstractLatentSpace:
        return self.space

    @property
    def resolution(self) -> int:
        return 8

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return (latents @ self.matrix.to(latents)).view(-1, 3, 8, 8)


def squared(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).square().sum((1, 2, 3))


def pairs(space: AbstractLatentSpace, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return space.sample(count, rng), space.sample(count, rng)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_straight_paths_of_a_linear_generator_have_the_analytic_length(share: float) -> None:
    decoder = Linear(Gaussian(5))
    a, b = pairs(decoder.space, 7)
    lengths = path_distances(decoder, squared, a, b, torch.full((7,), share), epsilon=1e-2)
    expected = ((b - a) @ decoder.matrix).square().sum(1)
    torch.testing.assert_close(lengths, expected.double(), rtol=1e-3, atol=0)  # float32 differences of pixels


def test_paths_on_the_sphere_follow_great_circles() -> None:
    decoder = Linear(Hypersphere(5))
    decoder.matrix = torch.eye(5, 192)
    a, b = pairs(decoder.space, 7)
    lengths = path_distances(decoder, squared, a, b, torch.zeros(7), epsilon=1e-2)
    # An isometry: the squared speed is the squared angle, whatever the share.
    torch.testing.assert_close(lengths, decoder.space.distance(a, b).square().double(), rtol=2e-3, atol=0)


@pytest.mark.parametrize("count", [1, 2, 50, 101, 1000])
def test_trimming_keeps_what_numpy_keeps_between_its_lower_and_higher_percentiles(count: int) -> None:
    values = torch.rand(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    numbers = values.numpy()
    low = np.percentile(numbers, 1, method="lower")
    high = np.percentile(numbers, 99, method="higher")
    expected = numbers[(numbers >= low) & (numbers <= high)].mean()
    assert trimmed_mean(values) == pytest.approx(float(expected), rel=1e-12)


def test_face_crop_takes_the_published_rows_and_columns() -> None:
    rows = torch.arange(256.0).view(1, 1, 256, 1).expand(1, 1, 256, 256)
    cropped, turned = crop_face(rows), crop_face(rows.transpose(2, 3))
    assert (cropped[0, 0, 0, 0], cropped[0, 0, -1, 0]) == (96, 223)
    assert (turned[0, 0, 0, 0], turned[0, 0, 0, -1]) == (64, 191)


def test_the_crop_of_an_odd_height_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8 pixels, got 30"):
        crop_face(torch.zeros(1, 3, 30, 30))


@pytest.mark.parametrize(("pixels", "compared"), [(8, 8), (256, 256), (512, 256), (1024, 256)])
def test_pictures_above_256_pixels_are_reduced_by_means_of_blocks(pixels: int, compared: int) -> None:
    columns = torch.arange(float(pixels)).expand(1, 3, pixels, pixels) / pixels
    reduced = reduce_for_comparison(columns)
    assert reduced.shape == (1, 3, compared, compared)
    block = pixels // compared
    assert reduced[0, 0, 0, 1].item() == pytest.approx((block + (block - 1) / 2) / pixels)


def test_the_metric_averages_over_pairs_whatever_the_batches() -> None:
    decoder = Linear(Gaussian(5))
    a, b = pairs(decoder.space, 9)
    whole, pieces = PathLength(squared, epsilon=1e-2), PathLength(squared, epsilon=1e-2)
    whole.update(decoder, a, b, torch.zeros(9), torch.arange(9))
    for part in torch.arange(9).split(4):
        pieces.update(decoder, a[part], b[part], torch.zeros(len(part)), part)
    assert pieces.compute().item() == pytest.approx(whole.compute().item(), rel=1e-6)
    assert whole.higher_is_better is False


def test_published_recipes_say_where_paths_run_and_bear_their_names() -> None:
    assert {"ppl_zfull", "ppl_zend", "ppl_wfull", "ppl_wend", "ppl2_wend"} <= set(RECIPES)
    recipe = RECIPES["ppl2_wend"]
    assert (recipe.space, recipe.sampling, recipe.crop, recipe.epsilon) == ("w", "end", False, 1e-4)
    assert recipe.label("w", "lpips_vgg") == "ppl2_wend"
    assert recipe.label("w", "st_lpips_alex") == "ppl2_wend_st_lpips_alex"
    assert PathRecipe("z", "full", crop=True).label("z", "random_l2") == "ppl_z_full_crop_random_l2"


def test_the_interval_holds_the_length() -> None:
    decoder = Linear(Gaussian(5))
    a, b = pairs(decoder.space, 60)
    metric = PathLength(squared, epsilon=1e-2)
    metric.update(decoder, a, b, torch.zeros(60), torch.arange(60))
    interval = metric.interval(num_resamples=100)
    assert interval.low < metric.compute().item() < interval.high


def test_a_model_that_has_diverged_is_named() -> None:
    decoder = Linear(Gaussian(5))
    decoder.matrix[0, 0] = torch.nan
    a, b = pairs(decoder.space, 2)
    with pytest.raises(ValueError, match="NaN or infinite: the model has diverged"):
        PathLength(squared).update(decoder, a, b, torch.zeros(2), torch.arange(2))


def test_impossible_recipes_are_refused() -> None:
    with pytest.raises(ValueError, match="positive epsilon and at least 1 pair"):
        PathRecipe(epsilon=0.0)


@pytest.mark.parametrize("noise", ["pair", "batch"])
def test_noise_depends_on_the_places_of_pairs_and_not_on_who_decodes_them(noise: PathNoise) -> None:
    decoder = ToyMappedDecoder()
    a, b = pairs(decoder.space, 40)
    index = torch.arange(40)

    def of_squares(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return squared(x.square(), y.square())  # added noise that both have does not cancel

    def lengths(*parts: torch.Tensor, seed: int = 3) -> torch.Tensor:
        metric = PathLength(of_squares, epsilon=0.1, noise=noise, seed=seed)
        for part in parts:
            metric.update(decoder, a[part], b[part], torch.zeros(len(part)), part)
        return metric.table("lengths")

    together = lengths(index)
    # Larger and smaller batches, and the shares of two processes.
    for parts in (index.split(7), (index[::2], index[1::2])):
        torch.testing.assert_close(lengths(*parts), together, rtol=1e-5, atol=0)
    assert (lengths(index, seed=4) / together - 1.0).abs().max() > 0.01
