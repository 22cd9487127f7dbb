"""Sheets of samples, reconstructions and interpolations: what is on them, and their numbers."""

from __future__ import annotations

import pytest
import torch

from latent_lab import images as conversions
from latent_lab.analyses import ANALYSES, Evaluate, Interpolate, Reconstruct, Sample
from latent_lab.analyses.reconstruct import over_and_under
from tests.unit.analyses.toys import Noise, ToyAutoencoder, ToyDecoder


def test_every_analysis_is_registered_under_its_name() -> None:
    assert {"evaluate", "sample", "reconstruct", "interpolate"} <= set(ANALYSES)
    assert all(analysis.name == name for name, analysis in ANALYSES.items())


def test_samples_are_the_first_ones_that_evaluation_counts() -> None:
    alone = Sample(num=8, seed=3)(ToyDecoder()).pictures["samples"]
    evaluated = Evaluate(num_samples=8, seed=3, num_pictures=8, metrics=("fd",))(ToyDecoder(), Noise(8))
    torch.testing.assert_close(evaluated.pictures["samples"], alone)


def test_samples_depend_on_the_seed_and_not_on_the_batch_size() -> None:
    first = Sample(num=8)(ToyDecoder())
    torch.testing.assert_close(Sample(num=8, batch_size=3)(ToyDecoder()).pictures["samples"], first.pictures["samples"])
    assert not torch.equal(Sample(num=8, seed=1)(ToyDecoder()).pictures["samples"], first.pictures["samples"])
    assert first.protocol["seed"] == 0


def test_columns_and_number_shape_the_sheet_and_small_images_are_enlarged() -> None:
    sheet = Sample(num=6, columns=3)(ToyDecoder(16)).pictures["samples"]
    assert sheet.shape == (1, 3, 4 * (2 * 18 + 2), 4 * (3 * 18 + 2))


def test_a_collapsed_model_has_no_deviation_between_samples() -> None:
    model = ToyDecoder()
    assert Sample(num=8)(model).numbers["std"] > 0.1
    torch.nn.init.zeros_(model.matrix)
    assert Sample(num=8)(model).numbers["std"] == 0.0


def test_each_row_of_inputs_is_over_the_row_of_its_reconstructions() -> None:
    above = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 4, 4) / 10
    sheet = over_and_under(above, -above, columns=3)
    tile = lambda row, column: sheet[0, 0, 2 + row * 6 + 1, 2 + column * 6 + 1].item()  # noqa: E731
    assert [tile(0, column) for column in range(3)] == pytest.approx([0.0, 0.1, 0.2])
    assert [tile(1, column) for column in range(3)] == pytest.approx([0.0, -0.1, -0.2])
    assert [tile(2, column) for column in range(3)] == pytest.approx([0.3, 0.4, 1.0])
    assert [tile(3, column) for column in range(3)] == pytest.approx([-0.3, -0.4, 1.0])


def test_reconstruct_shows_the_first_images_and_their_error() -> None:
    model, source = ToyAutoencoder(), Noise(20)
    result = Reconstruct(num=4, columns=2, batch_size=3)(model, source)
    images = source.batch(range(4), 16).images
    rebuilt = conversions.quantise(model.reconstruct(images).detach())
    assert result.numbers["rec_mse"] == pytest.approx((images - rebuilt).square().mean().item(), rel=1e-5)
    assert result.pictures["reconstructions"].shape == (1, 3, 4 * (4 * 18 + 2), 4 * (2 * 18 + 2))
    assert Reconstruct(num=50)(model, source).protocol["num"] == 20


def test_reconstruct_needs_a_model_that_encodes_and_images() -> None:
    with pytest.raises(TypeError, match="reconstruct needs a model with encode"):
        Reconstruct()(ToyDecoder(), Noise(4))
    with pytest.raises(ValueError, match="was given none"):
        Reconstruct()(ToyAutoencoder())
    with pytest.raises(ValueError, match="the source is empty"):
        Reconstruct()(ToyAutoencoder(), Noise(0))


def test_interpolations_between_samples_begin_and_end_at_the_samples() -> None:
    model = ToyDecoder()
    sheet = Interpolate(pairs=2, steps=5)(model).pictures["interpolations"]
    assert sheet.shape == (1, 3, 4 * (2 * 18 + 2), 4 * (5 * 18 + 2))
    longer = Interpolate(pairs=2, steps=9)(model).pictures["interpolations"]
    torch.testing.assert_close(sheet[..., : 4 * 18], longer[..., : 4 * 18])
    torch.testing.assert_close(sheet[..., -4 * 18 :], longer[..., -4 * 18 :])


def test_interpolations_between_images_are_framed_by_the_images() -> None:
    source = Noise(9)
    result = Interpolate(pairs=3, steps=4, seed=2)(ToyAutoencoder(), source)
    sheet = result.pictures["interpolations"]
    assert sheet.shape[-1] == 4 * ((4 + 2) * 18 + 2)
    corner = sheet[0, :, 8:72:4, 8:72:4]
    every = source.batch(range(9), 16).images
    assert min((corner - image).abs().max().item() for image in every) < 1e-6
    assert result.protocol["between"] == "encoded images"


def test_the_seed_chooses_the_pairs() -> None:
    for source in (None, Noise(9)):
        one, two = (Interpolate(pairs=2, steps=3, seed=seed)(ToyAutoencoder(), source) for seed in (0, 1))
        assert not torch.equal(one.pictures["interpolations"], two.pictures["interpolations"])


def test_step_ratio_is_small_for_smooth_paths_and_never_below_one() -> None:
    ratio = Interpolate(pairs=4, steps=16)(ToyDecoder()).numbers["largest_step_ratio"]
    assert 1.0 <= ratio < 2.0


def test_interpolating_images_needs_a_model_that_encodes_and_two_images() -> None:
    with pytest.raises(TypeError, match="interpolate needs a model with encode"):
        Interpolate()(ToyDecoder(), Noise(4))
    with pytest.raises(ValueError, match="at least 2 images, got a source with 1"):
        Interpolate()(ToyAutoencoder(), Noise(1))


@pytest.mark.parametrize(
    ("analysis", "options", "message"),
    [
        (Sample, {"num": 0}, "sample needs num of at least 1, got 0"),
        (Reconstruct, {"columns": 0}, "reconstruct needs columns of at least 1, got 0"),
        (Interpolate, {"steps": 1}, "at least 2 steps"),
        (Interpolate, {"pairs": 0}, "at least one pair"),
    ],
)
def test_impossible_options_are_refused(analysis: type, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        analysis(**options)
