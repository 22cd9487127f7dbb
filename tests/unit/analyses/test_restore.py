"""Restoration by reconstruction: errors in closed form for models that copy and models that ignore their input."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from latent_lab import distributed
from latent_lab import images as conversions
from latent_lab.analyses import ANALYSES, Restore, Result
from latent_lab.analyses.damages import parse_damage
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import Gaussian
from tests.unit.analyses.toys import Noise, ToyAutoencoder, ToyDecoder

EVERY = Restore().damages


class Copier(nn.Module, AbstractAutoencoder):
    """Latents are the pixels."""

    resolution = 16

    @property
    def latent_space(self) -> Gaussian:
        return Gaussian(3 * 16 * 16)

    def encode(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def decode(self, latents: Tensor) -> Tensor:
        return latents.unflatten(1, (3, 16, 16))


class Ignorant(Copier):
    """Decodes black whatever it is given."""

    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(torch.full_like(latents, -1.0))


def run(model: AbstractAutoencoder, source: Noise, **options) -> Result:
    return Restore(**options)(model, source)


def test_it_is_registered() -> None:
    assert ANALYSES["restore"] is Restore


def test_a_model_that_copies_restores_nothing_and_harms_nothing() -> None:
    numbers = run(Copier(), Noise(6)).numbers
    assert numbers["rec_mse"] == 0
    for damage in EVERY:
        assert numbers[f"mse_{damage}"] == numbers[f"mse_{damage}_damaged_input"] > 0
        if f"mse_{damage}_inside" in numbers:
            assert numbers[f"mse_{damage}_inside"] == numbers[f"mse_{damage}_inside_damaged_input"]
            assert numbers[f"mse_{damage}_outside"] == numbers[f"mse_{damage}_inside_clean_input"] == 0


def test_a_model_that_ignores_its_input_is_not_harmed_by_damage() -> None:
    source = Noise(6)
    numbers = run(Ignorant(), source, damages=("left", "noise:0.5")).numbers
    squares = (source.batch(range(6), 16).images.double() + 1).square()
    assert numbers["rec_mse"] == numbers["mse_left"] == numbers["mse_noise_0.5"]
    assert numbers["rec_mse"] == pytest.approx(squares.mean().item(), rel=1e-6)
    assert numbers["mse_left_inside"] == pytest.approx(squares[..., :8].mean().item(), rel=1e-6)
    assert numbers["mse_left_outside"] == pytest.approx(squares[..., 8:].mean().item(), rel=1e-6)
    assert numbers["mse_left_inside"] == numbers["mse_left_inside_clean_input"]


@pytest.mark.parametrize("fill", [-1.0, 1.0])
def test_the_damaged_inputs_own_error_is_that_of_the_fill(fill: float) -> None:
    source = Noise(5)
    numbers = run(Copier(), source, damages=("square",), fill=fill).numbers
    square = source.batch(range(5), 16).images.double()[..., 4:12, 4:12]
    expected = (square - fill).square().mean().item()
    assert numbers["mse_square_inside_damaged_input"] == pytest.approx(expected, rel=1e-6)
    assert numbers["mse_square_damaged_input"] == pytest.approx(expected / 4, rel=1e-6)


def test_whole_errors_are_means_of_the_parts_by_area() -> None:
    numbers = run(ToyAutoencoder(), Noise(9), damages=("square", "top")).numbers
    for damage, inside in (("square", 0.25), ("top", 0.5)):
        whole = inside * numbers[f"mse_{damage}_inside"] + (1 - inside) * numbers[f"mse_{damage}_outside"]
        assert numbers[f"mse_{damage}"] == pytest.approx(whole, rel=1e-9)
        clean = inside * numbers[f"mse_{damage}_inside_clean_input"]
        clean += (1 - inside) * numbers[f"mse_{damage}_outside_clean_input"]
        assert numbers["rec_mse"] == pytest.approx(clean, rel=1e-9)


def test_numbers_are_those_of_all_images_at_once() -> None:
    model, source = ToyAutoencoder(), Noise(30)
    places = [place * 30 // 20 for place in range(20)]
    numbers = run(model, source, num=20, seed=3, damages=("random_square",)).numbers
    clean = source.batch(places, 16).images
    damaged, missing = parse_damage("random_square").apply(clean, places, seed=3)
    error = (conversions.quantise(model.reconstruct(damaged).detach()) - clean).double().square()
    assert numbers["mse_random_square"] == pytest.approx(error.mean().item(), rel=1e-6)
    inside = error.masked_select(missing.expand_as(error)).mean().item()
    assert numbers["mse_random_square_inside"] == pytest.approx(inside, rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_changes_no_number(batch_size: int) -> None:
    model, source = ToyAutoencoder(), Noise(20)
    assert run(model, source, batch_size=batch_size).numbers == pytest.approx(
        dict(run(model, source).numbers), rel=1e-9
    )


def test_every_image_is_seen_once_over_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, source = ToyAutoencoder(), Noise(3)
    alone = run(model, source).numbers
    tables: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(distributed, "world_size", lambda: 4)

    def gather(rows: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        tables.append((rows, index))
        return rows, index

    monkeypatch.setattr(distributed, "gather_ragged", gather)
    for rank in range(4):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        run(model, source)
    # The fourth process has nothing to do, and its table is empty.
    assert [index.tolist() for _, index in tables] == [[0], [1], [2], []]
    means = torch.cat([rows for rows, _ in tables]).mean(0).tolist()
    assert means == pytest.approx(list(alone.values()), rel=1e-9)


def test_the_sheet_has_rows_of_inputs_and_results() -> None:
    result = run(ToyAutoencoder(), Noise(20), damages=("left", "noise:0.1"), num_pictures=5)
    # Rows of 16 + 2 pixels and a border of 2, enlarged four times.
    assert result.pictures["restorations"].shape == (1, 3, (6 * 18 + 2) * 4, (5 * 18 + 2) * 4)
    assert result.protocol["rows"] == [
        "images",
        "reconstructed",
        "left",
        "left, restored",
        "noise_0.1",
        "noise_0.1, restored",
    ]
    json.dumps(result.protocol)


def test_it_needs_a_model_that_encodes_and_images() -> None:
    with pytest.raises(TypeError, match="restore needs a model with encode"):
        Restore()(ToyDecoder(), Noise(4))
    with pytest.raises(ValueError, match="the source is empty"):
        Restore()(ToyAutoencoder(), Noise(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damages": ()}, "restore needs damages, each once, got none"),
        ({"damages": ("left", "left")}, "each once, got left, left"),
        ({"damages": ("scratch",)}, "damages are square"),
        ({"fill": 2.0}, "fill must be between"),
        ({"num": 0}, "restore needs num of at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Restore(**options)
