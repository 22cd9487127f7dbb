"""Random images that keep some layers of a given one, of a linear decoder whose layers are known."""

from __future__ import annotations

import pytest
import torch

from latent_lab.analyses import Condition
from tests.unit.analyses.layered_toys import ToyLayeredAutoencoder, ToyLayeredDecoder
from tests.unit.analyses.test_mix import NONE, PLAIN, TILE, tile
from tests.unit.analyses.toys import Noise

SMALL = {"num": 2, "completions": 3}


def test_a_row_is_an_image_its_reconstruction_and_its_completions():
    model, source = ToyLayeredAutoencoder(), Noise(4)
    result = Condition(**SMALL)(model, source)
    assert set(result.pictures) == {"condition_coarse", "condition_middle", "condition_fine"}
    sheet = result.pictures["condition_coarse"]
    assert sheet.shape == (1, 3, 2 * TILE + 8, 5 * TILE + 8)
    photos = source.batch([0, 2], 16).images
    rebuilt = model.reconstruct(photos).clamp(-1, 1).detach()
    for row in (0, 1):
        torch.testing.assert_close(tile(sheet, row, 0), photos[row])
        torch.testing.assert_close(tile(sheet, row, 1), rebuilt[row])


def test_what_decides_everything_makes_all_completions_the_reconstruction():
    result = Condition(**SMALL)(ToyLayeredAutoencoder((PLAIN, NONE, NONE)), Noise(4))
    coarse, fine = result.pictures["condition_coarse"], result.pictures["condition_fine"]
    for column in (2, 3, 4):
        assert torch.equal(tile(coarse, 0, column), tile(coarse, 0, 1))
    assert result.numbers["diversity_coarse"] == pytest.approx(0.0, abs=1e-6)
    assert not torch.equal(tile(fine, 0, 2), tile(fine, 0, 3))
    assert result.numbers["diversity_fine"] == pytest.approx(result.numbers["diversity_free"], rel=1e-6)


def test_diversity_is_the_share_of_the_random_layers():
    shares = ((0.5,) * 3, (0.3,) * 3, (0.2,) * 3)
    # Noise is far from what the toy decodes, and its codes are large: latents near 0 keep every pixel within [-1, 1].
    model = ToyLayeredAutoencoder(shares)
    model.encode = lambda images: torch.zeros(len(images), 5)  # type: ignore[method-assign]
    numbers = Condition(**SMALL)(model, Noise(4)).numbers
    for kept, random in (("coarse", 0.5), ("middle", 0.7), ("fine", 0.8)):
        assert numbers[f"diversity_{kept}"] == pytest.approx(random * numbers["diversity_free"], rel=1e-5)


def test_layers_that_are_not_kept_share_one_random_code():
    seen = []

    class Watched(ToyLayeredAutoencoder):
        def decode_layers(self, styles: torch.Tensor) -> torch.Tensor:
            seen.append(styles)
            return super().decode_layers(styles)

    Condition(kept=("1-2",), **SMALL)(Watched(), Noise(4))
    own, random, completed = seen
    assert torch.equal(completed[:, 0], completed[:, 2])
    assert torch.equal(completed[:, 0], random[:, 0])
    assert torch.equal(completed[:, 1], own[:, 1].repeat_interleave(3, dim=0))


def test_neither_the_batch_size_nor_the_other_layers_asked_for_change_a_picture():
    model, source = ToyLayeredAutoencoder(), Noise(4)
    whole = Condition(**SMALL)(model, source)
    piece = Condition(kept=("fine",), batch_size=2, **SMALL)(model, source)
    torch.testing.assert_close(piece.pictures["condition_fine"], whole.pictures["condition_fine"])
    assert piece.numbers["diversity_fine"] == pytest.approx(whole.numbers["diversity_fine"], rel=1e-6)


def test_the_seed_draws_other_completions():
    model, source = ToyLayeredAutoencoder(), Noise(4)
    one, two = (Condition(seed=seed, **SMALL)(model, source).pictures["condition_fine"] for seed in (0, 1))
    assert torch.equal(tile(one, 0, 1), tile(two, 0, 1))
    assert not torch.equal(tile(one, 0, 2), tile(two, 0, 2))


def test_it_needs_layers_an_encoder_and_images():
    with pytest.raises(TypeError, match="condition needs a model with encode"):
        Condition()(ToyLayeredDecoder(), Noise(4))
    with pytest.raises(ValueError, match="was given none"):
        Condition()(ToyLayeredAutoencoder())
    with pytest.raises(ValueError, match="the source is empty"):
        Condition()(ToyLayeredAutoencoder(), Noise(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kept": ()}, "condition needs kept to name layers, each once, .* got none"),
        ({"completions": 1}, "condition needs completions of at least 2, got 1"),
        ({"num": 0}, "condition needs num of at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        Condition(**options)
