"""Damages: what is missing where, how noise is distributed, and on what it depends."""

from __future__ import annotations

import pytest
import torch

from latent_lab.analyses.damages import KINDS, parse_damage
from latent_lab.images import quantise
from tests.unit.analyses.toys import Noise

R = 16


def images(places: list[int], resolution: int = R) -> torch.Tensor:
    return Noise(100).batch(places, resolution).images


@pytest.mark.parametrize(
    ("kind", "rows", "columns"),
    [
        ("left", (0, 16), (0, 8)),
        ("right", (0, 16), (8, 16)),
        ("top", (0, 8), (0, 16)),
        ("bottom", (8, 16), (0, 16)),
        ("square", (4, 12), (4, 12)),
        ("square:0.0625", (6, 10), (6, 10)),
    ],
)
def test_what_is_missing(kind: str, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    clean = images([3, 4])
    damaged, missing = parse_damage(kind).apply(clean, [3, 4], seed=0, fill=-1.0)
    expected = torch.zeros(2, 1, R, R, dtype=torch.bool)
    expected[:, :, slice(*rows), slice(*columns)] = True
    assert torch.equal(missing, expected)
    assert (damaged.masked_select(missing) == -1.0).all()
    assert torch.equal(damaged.masked_fill(missing, 0), clean.masked_fill(missing, 0))


def test_random_squares_have_their_area_and_lie_everywhere_in_the_image() -> None:
    places = list(range(100))
    _, missing = parse_damage("random_square").apply(images(places), places, seed=0)
    assert (missing.sum((1, 2, 3)) == 64).all()
    hit = missing.any(0)[0]
    assert hit.all(), "corners included"
    assert len({tuple(mask.flatten().tolist()) for mask in missing}) > 40, "of 81 possible ones"


@pytest.mark.parametrize("share", ["0.001", "0.999"])
def test_some_pixel_is_missing_and_some_is_left(share: str) -> None:
    _, missing = parse_damage(f"square:{share}").apply(images([0]), [0], seed=0)
    assert 0 < missing.sum() < R * R


def test_noise_is_normal_where_nothing_is_clamped() -> None:
    grey = torch.zeros(8, 3, 32, 32)
    damaged, missing = parse_damage("noise:0.1").apply(grey, list(range(8)), seed=0)
    assert not missing.any()
    # 24,576 values give the deviation to 0.5 %, the mean to 0.0007; 8 bits add a deviation of 0.002.
    assert damaged.std().item() == pytest.approx(0.1, rel=0.02)
    assert damaged.mean().abs().item() < 0.003
    assert not torch.equal(damaged[0], damaged[1])


def test_salt_and_pepper_replace_whole_pixels() -> None:
    clean = torch.full((8, 3, 32, 32), 0.2)
    damaged, missing = parse_damage("salt_and_pepper:0.2").apply(clean, list(range(8)), seed=0)
    assert not missing.any()
    assert (damaged == damaged[:, :1]).all()
    shares = [(damaged[:, 0] == value).float().mean().item() for value in (-1.0, 1.0)]
    # 8192 pixels, standard error 0.0033.
    assert shares == pytest.approx([0.1, 0.1], abs=0.012)
    assert (damaged.masked_select((damaged != -1) & (damaged != 1)) == quantise(clean)[0, 0, 0, 0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_damaged_alike_in_any_company(kind: str) -> None:
    damage, places = parse_damage(kind), [5, 17, 2]
    together, _ = damage.apply(images(places), places, seed=1)
    for row, place in enumerate(places):
        alone, _ = damage.apply(images([place]), [place], seed=1)
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("kind", ["random_square", "noise", "salt_and_pepper"])
def test_the_seed_decides_what_is_random(kind: str) -> None:
    one, two = (parse_damage(kind).apply(images([1]), [1], seed=seed)[0] for seed in (0, 1))
    assert not torch.equal(one, two)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scratch", "damages are square, random_square, left, right, top, bottom, noise, salt_and_pepper"),
        ("left:0.3", "left is half of the image and takes no amount, got 'left:0.3': write left"),
        ("square:1", "the amount of square must be a number above 0 and below 1, got 'square:1'"),
        ("noise:-1", "the amount of noise must be a number above 0, got 'noise:-1'"),
        ("noise:much", "got 'noise:much': write for example noise:0.25"),
        ("noise:inf", "must be a number above 0"),
    ],
)
def test_impossible_damages_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_damage(text)
