"""Maps between spaces whose relation is known: rotated copies, unrelated ones, squares; domains, baselines, files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from latent_lab.analyses import HeldOut, MapSpaces, Participant, Result
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.mapped import mapped
from latent_lab.latent.maps import load_map
from latent_lab.latent.spaces import Gaussian
from latent_lab.metrics.functional.mapping import mean_image_errors, unit_error
from latent_lab.types import ImageBatch
from tests.unit.analyses.labelled import DIM
from tests.unit.analyses.linear_spaces import (
    HELD_OUT,
    REFERENCE,
    Reader,
    Squarer,
    first_half,
    normal,
    participant,
    plain,
    second_half,
    turned,
)
from tests.unit.analyses.toys import Noise, ToyAutoencoder, ToyDecoder


def run(models: Sequence[Participant], **options: Any) -> Result:
    quick = {"perceptual": "random_l2", "beside": (), "num_recovered": 0, "num_resamples": 20, "num_images": 40}
    return MapSpaces(**(quick | options))(models)


def test_a_rotated_copy_maps_back() -> None:
    result = run([plain(), turned()], beside=("orthogonal",))
    for kind in ("affine", "orthogonal"):
        assert result.numbers[f"plain_to_turned/r2_{kind}"] > 0.999
        assert result.intervals[f"plain_to_turned/r2_{kind}"][0] > 0.999
    assert result.numbers["plain_to_turned/m_mse_to_ideal_affine"] < 1e-6
    assert result.numbers["plain_to_turned/condition"] == pytest.approx(1.0, rel=1e-5)
    assert result.numbers["plain_to_turned/singular_max"] == pytest.approx(2.0, rel=1e-5)


def test_of_unrelated_codes_nothing_is_explained() -> None:
    result = run([first_half(), second_half()], num_resamples=200)
    # Three coordinates fitted to 400 unrelated pairs cost 3 / 400 of the variance on other images.
    low, high = result.intervals["first_to_second/r2_affine"]
    assert low <= -3 / 400 <= high
    assert max(abs(low), abs(high)) < 0.06
    relative = result.numbers["first_to_second/m_mse_relative_affine"]
    assert relative == pytest.approx(1.0, abs=0.02)


def test_shuffled_pairs_and_the_mean_image_are_what_no_map_gives() -> None:
    result = run([plain(), turned()])
    assert result.numbers["plain_to_turned/r2_shuffled_affine"] == pytest.approx(-DIM / 400, abs=0.02)
    assert result.numbers["plain_to_turned/m_mse_shuffled_affine"] == pytest.approx(
        result.numbers["turned/mean_image_mse"], rel=0.05
    )
    assert result.numbers["turned/random_image_mse"] == pytest.approx(
        2 * result.numbers["turned/mean_image_mse"], rel=0.15
    )


def test_numbers_of_images_are_those_of_the_mapped_model() -> None:
    source, target = first_half(), plain()
    result = run([source, target], num_images=200)
    write = result.files["map_first_to_plain.safetensors"]
    assert set(result.files) == {"map_first_to_plain.safetensors"}
    images = target.images("held_out", range(200))
    path = Path(torch.hub.get_dir()).parent / "map.safetensors"
    write(path)
    linear, facts = load_map(path)
    assert facts == {"map": "affine", "domain": "all", "source": "first", "target": "plain"}
    model = mapped(source.model, linear, target.model)
    moved, ideal = model.reconstruct(images), target.model.reconstruct(images)
    expected = {
        "first_to_plain/m_mse_affine": unit_error(images, moved),
        "first_to_plain/m_mse_to_ideal_affine": unit_error(ideal, moved),
        "first/r_mse": unit_error(images, source.model.reconstruct(images)),
    }
    assert {name: result.numbers[name] for name in expected} == pytest.approx(
        {name: errors.mean().item() for name, errors in expected.items()}, rel=1e-5
    )
    mean = REFERENCE.batch(range(400), 8).images.mean(0)
    assert result.numbers["plain/mean_image_mse"] == pytest.approx(
        mean_image_errors(images, mean).mean().item(), rel=1e-5
    )


def test_what_is_not_linear_is_the_gain_of_the_residual_map() -> None:
    square = participant("square", Squarer(torch.eye(DIM)))
    result = run([plain(), square, turned()], beside=("residual",), steps=200, num_shuffles=0)
    assert result.numbers["plain_to_square/r2_nonlinear_gain"] > 0.1
    assert result.intervals["plain_to_square/r2_nonlinear_gain"][0] > 0.1
    assert result.numbers["plain_to_turned/r2_nonlinear_gain"] == pytest.approx(0.0, abs=1e-3)


def test_codes_need_not_be_kept() -> None:
    models = [plain(), turned(), second_half()]
    kept = run(models, num_shuffles=0)
    fresh = [plain(), turned(), second_half()]
    summed = run(fresh, keep_codes=False)
    assert not [key for one in fresh for key in one._codes if key[0] == "reference"]
    for name, value in kept.numbers.items():
        assert summed.numbers[name] == pytest.approx(value, rel=1e-4, abs=1e-7)
    assert "codes were not kept: there are no shuffled pairs, and no residual map beside" in summed.protocol["notes"]


@pytest.mark.parametrize("kind", ["least_squares", "ridge", "published", "orthogonal", "descent", "residual"])
def test_every_kind_of_map_finds_a_copy(kind: str) -> None:
    copy = participant("copy", Reader(torch.eye(DIM)))
    steps = 600 if kind == "descent" else 40
    options = {"steps": steps, "descent_rate": 0.02, "kernel_penalty": 1e-6, "activity_penalty": 1e-6, "penalty": 1e-6}
    result = run([plain(), copy], kind=kind, num_shuffles=0, num_images=2, **options)
    assert result.numbers[f"plain_to_copy/r2_{kind}"] > 0.99


def test_the_condition_is_of_the_directions_that_a_map_uses() -> None:
    collapsed = participant("collapsed", Reader(torch.eye(DIM) * torch.tensor([1.0, 2.0, 4.0, 1.0, 1.0, 0.0])))
    result = run([plain(), collapsed], num_shuffles=0)
    assert result.numbers["plain_to_collapsed/condition"] == pytest.approx(4.0, rel=1e-4)
    assert "plain_to_collapsed uses 5 of 6 directions; condition is of these" in result.protocol["notes"]


# Domains


def test_a_support_set_is_chosen_by_a_reference_model_without_a_label() -> None:
    models = [plain(), turned(), first_half()]
    options = {"domain": "support", "num_support": 12, "num_shuffles": 0}
    chosen = run(models, support_model="first", without=("hat",), **options)
    assert chosen.protocol["fits"]["plain_to_turned"]["pairs"] == 12
    assert chosen.protocol["fits"]["plain_to_turned"]["pairs_per_dimension"] == 4.0
    assert chosen.numbers["plain_to_turned/r2_affine"] > 0.999
    analysis = MapSpaces(without=("hat",), support_model="first", **options)
    support = analysis.pairs(models, models[0], models[1]).support
    assert support is not None
    assert (support.indices % 2 == 0).all()
    with pytest.raises(ValueError, match="no label Wearing_Hat: there are hat"):
        run(models, without=("Wearing_Hat",), **options)
    with pytest.raises(ValueError, match="no support model x: there are plain, turned, first"):
        run(models, support_model="x", **options)


@pytest.mark.parametrize("domain", ["source_samples", "target_samples"])
@pytest.mark.parametrize("sample_codes", ["encoded", "drawn"])
def test_generated_images_train_a_map_across_resolutions(domain: str, sample_codes: str) -> None:
    large = participant("large", Reader(50.0 * torch.eye(DIM), resolution=16))
    small = participant("small", Reader(20.0 * torch.eye(DIM)[:, [3, 1, 2, 0, 4, 5]]))
    result = run([large, small], domain=domain, sample_codes=sample_codes, num_samples=50, num_shuffles=0)
    # Where numbers border on each other within an image, the reduction mixes them a little.
    assert result.numbers["large_to_small/r2_affine"] > 0.995


class Halves(AbstractAutoencoder):
    """The colour of either half of an image of 8 pixels, the left one first."""

    latent_space, resolution, _columns = Gaussian(6), 8, ((0, 4), (4, 8))

    def encode(self, images: Tensor) -> Tensor:
        return torch.cat([images[..., left:right].mean((2, 3)) for left, right in self._columns], 1)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.cat([part[:, :, None, None].expand(-1, -1, 8, 4) for part in latents.split(3, 1)], 3)


class RightHalf(Halves):
    """Trained on the right half alone, at 4 pixels."""

    latent_space, resolution = Gaussian(3), 4

    def encode(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))

    def decode(self, latents: Tensor) -> Tensor:
        return latents[:, :, None, None].expand(-1, -1, 4, 4)


class Coloured:
    """Images with halves of two colours, whole or cropped to the right one."""

    label_names: tuple[str, ...] = ()

    def __init__(self, cropped: bool) -> None:
        self.cropped = cropped
        self.recipe = {"crop": [4, 0, 8, 8] if cropped else "none"}

    def __len__(self) -> int:
        return 60

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        rows = torch.tensor(list(indices))
        images = Halves().decode(0.2 * normal(60, 6)[rows])
        return ImageBatch(images[..., :4, 4:] if self.cropped else images, rows)


def test_generated_images_are_cropped_for_a_model_that_sees_a_part_of_them() -> None:
    whole = Participant("whole", Halves(), Coloured(False), Coloured(False))
    part = Participant("part", RightHalf(), Coloured(True), Coloured(True))
    options = {"domain": "source_samples", "num_samples": 40, "num_shuffles": 0, "columns": 2}
    result = run([whole, part], sample_box=(4, 0, 8, 8), **options)
    assert result.numbers["whole_to_part/r2_affine"] > 0.999
    assert result.protocol["rows"]["map_whole_to_part"][0] == "originals as whole sees them"
    with pytest.raises(ValueError, match="another crop than part was trained on: give sample_box"):
        run([whole, part], **options)


# What else is written


def test_the_sheet_has_a_row_for_each_step_and_says_which() -> None:
    result = run([plain(), turned()], columns=3, num_shuffles=0)
    rows = result.protocol["rows"]["map_plain_to_turned"]
    assert rows == ["originals", "reconstructed by plain", "mapped to turned (affine)", "reconstructed by turned"]
    # Images of 16 pixels, four times enlarged, with borders of two.
    assert result.pictures["map_plain_to_turned"].shape == (1, 3, 4 * (4 * 18 + 2), 4 * (3 * 18 + 2))
    assert {"map_plain_to_turned", "singular_values"} == set(result.pictures)


def test_the_table_has_a_row_for_each_map() -> None:
    table = run([plain(), turned(), first_half()], beside=("orthogonal",)).tables["maps"]
    assert [row[:3] for row in table] == [
        ("from", "to", "map"),
        ("plain", "turned", "affine"),
        ("plain", "turned", "orthogonal"),
        ("plain", "first", "affine"),
        ("plain", "first", "orthogonal"),
    ]


def test_latents_of_samples_are_found_again() -> None:
    result = run([plain(), first_half()], num_recovered=20)
    assert result.numbers["plain/i_mse_20"] == pytest.approx(0.0, abs=1e-6)
    assert result.numbers["plain/i_mse_relative_20"] == pytest.approx(0.0, abs=1e-6)


def test_a_map_into_a_sphere_is_projected_before_it_is_decoded() -> None:
    source = participant("source", Reader(torch.eye(DIM), resolution=16))
    sphere = participant("sphere", ToyAutoencoder())
    result = run([source, sphere])
    model = mapped(source.model, load_written(result, "map_source_to_sphere"), sphere.model)
    shown = model.decode(source.codes("held_out", None)[:8])
    sheet = result.pictures["map_source_to_sphere"][..., ::4, ::4]
    torch.testing.assert_close(sheet[0, :, 2 + 2 * 18 : 18 + 2 * 18, 2:18], shown[0].clamp(-1, 1), atol=1e-5, rtol=0)


def load_written(result: Result, stem: str) -> Any:
    path = Path(torch.hub.get_dir()).parent / f"{stem}.safetensors"
    result.files[path.name](path)
    return load_map(path)[0]


def test_maps_are_written_beside_the_result(tmp_path: Path) -> None:
    run([plain(), turned()]).save(tmp_path / "out")
    assert load_map(tmp_path / "out" / "map_plain_to_turned.safetensors")[0].target_dim == DIM


def test_without_training_images_a_note_says_that_nothing_is_held_out() -> None:
    source, target = (participant(name, Reader(torch.eye(DIM)), reference=HELD_OUT) for name in "ab")
    assert "no training images apart" in run([source, target]).protocol["notes"][0]


def test_plain_models_and_a_source_do_as_well() -> None:
    result = MapSpaces(num_images=4, num_recovered=4, beside=(), num_resamples=0, perceptual="random_l2")(
        [ToyAutoencoder(), ToyAutoencoder()], HeldOut(Noise(9), Noise(20, seed=1))
    )
    assert result.numbers["ToyAutoencoder 1_to_ToyAutoencoder 2/r2_affine"] == pytest.approx(1.0)
    assert "map_ToyAutoencoder_1_to_ToyAutoencoder_2.safetensors" in result.files
    assert not result.intervals


# Bad input


def test_fewer_images_than_coordinates_are_refused() -> None:
    with pytest.raises(ValueError, match="5 pairs do not determine a map from 6 coordinates"):
        run([plain(), turned()], num_fit=5)
    assert math.isfinite(run([plain(), turned()], num_fit=5, kind="ridge").numbers["plain_to_turned/r2_ridge"])


def test_what_cannot_be_mapped_is_refused() -> None:
    with pytest.raises(ValueError, match="map takes at least 2 models, got 1"):
        run([plain()])
    with pytest.raises(TypeError, match="encode"):
        MapSpaces()([ToyDecoder(), ToyAutoencoder()], Noise(4))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"support_method": "some"}, "needs support_method of outliers, random"),
        ({"without": ("hat",)}, "set domain support"),
        ({"sample_box": (1, 2, 3)}, "left, top, right, bottom, got 3 numbers"),
        ({"keep_codes": False, "kind": "residual"}, "without kept codes"),
        ({"keep_codes": False, "domain": "support"}, "without kept codes"),
        ({"num_images": 1}, "num_images of at least 2, got 1"),
        ({"num_shuffles": -1}, "num_shuffles of 0"),
        ({"level": 1.0}, "level between 0 and 1"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MapSpaces(**options)
