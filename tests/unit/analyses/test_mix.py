"""Style mixing of a linear decoder, whose layers' shares in every colour channel are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from latent_lab import distributed
from latent_lab.analyses import Mix
from latent_lab.analyses import mix as module
from latent_lab.analyses.mix import LEAST_SHARE, colour_differences, pair_of, structure_differences
from latent_lab.data.synthetic_renderer import FaceFactors, render, sample_factors
from latent_lab.networks.label_regressor import LabelRegressor
from tests.unit.analyses.layered_toys import SHARES, ChannelMeans, ToyLayeredAutoencoder, ToyLayeredDecoder
from tests.unit.analyses.toys import Noise, ToyAutoencoder

SCALES = ("coarse", "middle", "fine")
PLAIN = (1.0, 1.0, 1.0)
NONE = (0.0, 0.0, 0.0)
TILE = 4 * 18  # an image of 16 pixels and an edge of 2, four times enlarged


@pytest.fixture
def regressor(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(module, "load_regressor", lambda path: ChannelMeans())
    return "regressor.safetensors"


def tile(sheet: Tensor, row: int, column: int) -> Tensor:
    """One image of a sheet at its own size."""
    top, left = 8 + row * TILE, 8 + column * TILE
    return sheet[0, :, top : top + 64 : 4, left : left + 64 : 4]


# --------------------------------------------------------------------------------------------------------- numbers


def test_transfers_are_the_layers_shares_in_what_a_label_measures(regressor: str):
    numbers = Mix(regressor=regressor, num_pairs=20)(ToyLayeredDecoder()).numbers
    for layer, scale in enumerate(SCALES):
        for channel, label in enumerate(ChannelMeans().names):
            assert numbers[f"transfer_{scale}_{label}"] == pytest.approx(SHARES[layer][channel], rel=1e-4)


def test_a_regressor_is_read_from_its_file_and_described(tmp_path: Path):
    path = tmp_path / "labels.safetensors"
    LabelRegressor(["yaw", "skin_tone"], [False, False], 8).save(path)
    result = Mix(regressor=str(path), num_pairs=2, scales=("fine",))(ToyLayeredDecoder())
    assert {"transfer_fine_yaw", "transfer_fine_skin_tone", "fine_colour_over_pose"} < set(result.numbers)
    assert len(result.protocol["regressor"]["sha256"]) == 64


def test_ratios_compare_the_mean_transfers_of_the_two_groups(regressor: str):
    options = {"pose_labels": ("yaw", "smiling"), "colour_labels": ("skin_tone",), "num_pairs": 20}
    numbers = Mix(regressor=regressor, **options)(ToyLayeredDecoder()).numbers
    assert numbers["coarse_pose_over_colour"] == pytest.approx((0.7 + 0.1) / 2 / 0.2, rel=1e-4)
    assert numbers["fine_colour_over_pose"] == pytest.approx(0.3 / ((0.1 + 0.7) / 2), rel=1e-4)


def test_a_group_that_does_not_move_is_counted_as_moving_a_little(regressor: str):
    model = ToyLayeredDecoder(((1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 1.0, 1.0)))
    numbers = Mix(regressor=regressor, num_pairs=8)(model).numbers
    assert numbers["coarse_pose_over_colour"] == pytest.approx(1 / LEAST_SHARE, rel=1e-4)
    assert numbers["fine_colour_over_pose"] == pytest.approx(1 / LEAST_SHARE, rel=1e-4)


def test_labels_that_the_regressor_cannot_tell_are_remarked(regressor: str):
    notes = Mix(regressor=regressor, num_pairs=4)(ToyLayeredDecoder()).protocol["notes"]
    assert notes == [
        "the regressor does not know pitch, roll, hair_colour: left out of the ratios",
        "the regressor estimates skin_tone poorly: their transfers mean little",
    ]


def test_without_labels_of_both_groups_there_are_no_ratios(regressor: str):
    numbers = Mix(regressor=regressor, num_pairs=4, colour_labels=("hair_colour",))(ToyLayeredDecoder()).numbers
    assert not [name for name in numbers if "_over_" in name]
    assert "transfer_coarse_yaw" in numbers


def test_a_layer_that_decides_everything_moves_all_and_the_others_nothing():
    numbers = Mix(num_pairs=20)(ToyLayeredDecoder((NONE, PLAIN, NONE))).numbers
    for scale, expected in (("coarse", 0.0), ("middle", 1.0), ("fine", 0.0)):
        assert numbers[f"colour_shift_{scale}"] == pytest.approx(expected, abs=1e-6)
        assert numbers[f"structure_shift_{scale}"] == pytest.approx(expected, abs=1e-6)
    assert len(numbers) == 6


def test_the_colour_shift_of_a_linear_decoder_is_its_layers_share():
    model = ToyLayeredDecoder(((0.5,) * 3, (0.3,) * 3, (0.2,) * 3))
    numbers = Mix(num_pairs=20, scales=("0-1", "1-end", "fine"))(model).numbers
    assert numbers["colour_shift_0-1"] == pytest.approx(0.5, rel=1e-5)
    assert numbers["colour_shift_1-end"] == pytest.approx(0.5, rel=1e-5)
    assert numbers["colour_shift_fine"] == pytest.approx(0.2, rel=1e-5)


def test_a_collapsed_model_moves_nothing():
    numbers = Mix(num_pairs=4)(ToyLayeredDecoder((NONE, NONE, NONE))).numbers
    assert [numbers[f"colour_shift_{scale}"] for scale in SCALES] == [0.0] * 3


def test_colour_is_compared_in_patches_and_blind_to_details_within_them():
    picture = torch.zeros(1, 3, 16, 16)
    stripes = picture.clone()
    stripes[..., ::2], stripes[..., 1::2] = 0.5, -0.5
    red = picture.clone()
    red[:, 0] = 0.5
    found = colour_differences(torch.stack([picture, stripes, red]))
    assert found.tolist() == [[0.0, pytest.approx(16 * 0.25)]]


def test_structure_is_blind_to_brightness_contrast_and_sign():
    rng = torch.Generator().manual_seed(0)
    picture = torch.rand(2, 3, 16, 16, generator=rng)
    other = torch.rand(2, 3, 16, 16, generator=rng)
    found = structure_differences(torch.stack([picture, 0.3 * picture - 0.2, -picture, other]))
    torch.testing.assert_close(found[:, :2], torch.zeros(2, 2, dtype=torch.float64), atol=1e-6, rtol=0)
    assert (found[:, 2] > 0.7).all()


def test_of_drawn_faces_poses_move_structure_and_colours_move_colour():
    base, source = sample_factors(0, range(64)), sample_factors(1, range(64))

    def taken(*names: str) -> FaceFactors:
        return dataclasses.replace(base, **{name: getattr(source, name) for name in names})

    posed = taken("yaw", "pitch", "roll")
    coloured = taken("skin_tone", "hair_colour", "hat_colour", "clothes_colour", "background_top", "background_bottom")
    pictures = torch.stack([render(factors, 32) for factors in (base, source, posed, coloured)])
    whole, pose, colour = colour_differences(pictures).sum(0).sqrt().tolist()
    assert pose / whole < 0.25
    assert colour / whole > 0.8
    whole, pose, colour = structure_differences(pictures).sum(0).tolist()
    assert pose / whole > 0.4
    assert pose > colour


def test_the_batch_size_changes_no_number(regressor: str):
    for model, source in ((ToyLayeredDecoder(), None), (ToyLayeredAutoencoder(), Noise(5))):
        whole = Mix(regressor=regressor, num_pairs=10)(model, source).numbers
        pieces = Mix(regressor=regressor, num_pairs=10, batch_size=3)(model, source).numbers
        assert pieces == pytest.approx(whole, rel=1e-6)


def test_the_number_of_processes_changes_no_number(regressor: str, monkeypatch: pytest.MonkeyPatch):
    model, analysis = ToyLayeredDecoder(), Mix(regressor=regressor, num_pairs=3, batch_size=2)
    alone = analysis(model).numbers
    gather, sent = distributed.gather_ragged, {}
    # Four processes, the last of them without a pair: each one's rows first, then all of them together.
    for rank in range(4):
        sent[rank] = []
        monkeypatch.setattr(module, "share", lambda count, rank=rank: range(rank, count, 4))

        def send(rows: Tensor, index: Tensor, rank: int = rank) -> tuple[Tensor, Tensor]:
            sent[rank].append((rows, index))
            return gather(rows, index)

        monkeypatch.setattr(distributed, "gather_ragged", send)
        analysis(model)
    calls = iter([[sent[rank][call] for rank in reversed(range(4))] for call in range(3)])

    def receive(rows: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        parts = next(calls)
        return gather(torch.cat([rows for rows, _ in parts]), torch.cat([index for _, index in parts]))

    monkeypatch.setattr(distributed, "gather_ragged", receive)
    assert analysis(model).numbers == pytest.approx(alone, rel=1e-12)


def test_pairs_of_images_are_different_images_and_all_occur():
    pairs = [pair_of(number, 4) for number in range(12)]
    assert len(set(pairs)) == 12
    assert all(a != b for a, b in pairs)
    assert pair_of(0, 2) == (0, 1)
    assert pair_of(5, 2) == (1, 0)


# -------------------------------------------------------------------------------------------------------- pictures


def test_sources_are_above_and_bases_beside_their_mixtures():
    model = ToyLayeredDecoder((NONE, PLAIN, NONE))
    result = Mix(num_sources=2, num_bases=3, num_pairs=2)(model)
    assert set(result.pictures) == {"mix_coarse", "mix_middle", "mix_fine"}
    coarse, middle = result.pictures["mix_coarse"], result.pictures["mix_middle"]
    assert coarse.shape == (1, 3, 4 * TILE + 8, 3 * TILE + 8)
    assert (tile(coarse, 0, 0) == 1).all()
    for row in (1, 2, 3):
        for column in (1, 2):
            assert torch.equal(tile(coarse, row, column), tile(coarse, row, 0))
            assert torch.equal(tile(middle, row, column), tile(middle, 0, column))
    assert not torch.equal(tile(coarse, 0, 1), tile(coarse, 0, 2))


def test_a_cell_is_decoded_from_the_builders_styles():
    model = ToyLayeredDecoder()
    sheet = Mix(num_sources=1, num_bases=1, num_pairs=1, seed=3, scales=("hi",))(model).pictures["mix_coarse"]
    base, source = (
        model.latent_space.from_normal(distributed.IndexedRandom(3, stream).normal(range(1), 5))
        for stream in ("mix/bases", "mix/sources")
    )
    torch.testing.assert_close(tile(sheet, 1, 1), model.decode_layers(model.styles(hi=source, rest=base))[0])
    torch.testing.assert_close(tile(sheet, 0, 1), model.decode(source)[0])
    torch.testing.assert_close(tile(sheet, 1, 0), model.decode(base)[0])


def test_the_published_sources_and_bases_are_those_of_numpys_seeds():
    model = ToyLayeredDecoder()
    options = {"numpy_sources": (639, 701, 687), "numpy_bases": (888, 829), "scales": ("1-end",), "num_pairs": 1}
    result = Mix(**options)(model)
    sheet = result.pictures["mix_1-end"]
    assert sheet.shape == (1, 3, 3 * TILE + 8, 4 * TILE + 8)
    source, base = (torch.from_numpy(np.random.RandomState(seed).randn(1, 5)).float() for seed in (687, 829))
    torch.testing.assert_close(tile(sheet, 2, 3), model.decode_layers(model.styles(coarse=base, rest=source))[0])
    assert result.protocol["curated"]


def test_real_images_frame_what_is_decoded_from_their_codes():
    model, source = ToyLayeredAutoencoder(), Noise(9)
    result = Mix(num_sources=2, num_bases=3, num_pairs=2, scales=("fine",))(model, source)
    sheet = result.pictures["mix_fine"]
    assert sheet.shape == (1, 3, 5 * TILE + 8, 4 * TILE + 8)
    photos = source.batch(range(9), 16).images
    shown = [tile(sheet, 0, column) for column in (2, 3)] + [tile(sheet, row, 0) for row in (2, 3, 4)]
    places = [int((photos - one).abs().amax((1, 2, 3)).argmin()) for one in shown]
    assert len(set(places)) == 5
    rebuilt = model.reconstruct(photos[places]).clamp(-1, 1)
    found = [tile(sheet, 1, column) for column in (2, 3)] + [tile(sheet, row, 1) for row in (2, 3, 4)]
    torch.testing.assert_close(torch.stack(found), rebuilt.detach())
    assert all((tile(sheet, row, column) == 1).all() for row in (0, 1) for column in (0, 1))
    assert result.protocol["mixed"] == "encoded images"


def test_the_seed_chooses_latents_and_images():
    for model, source in ((ToyLayeredDecoder(), None), (ToyLayeredAutoencoder(), Noise(30))):
        one, two = (Mix(num_pairs=2, seed=seed)(model, source).pictures["mix_fine"] for seed in (0, 1))
        assert not torch.equal(one, two)


# --------------------------------------------------------------------------------------------------------- options


def test_the_protocol_says_which_layers_a_scale_has():
    result = Mix(num_pairs=1, scales=("hi 1-end",))(ToyLayeredDecoder())
    assert result.protocol["layers"] == {"coarse": "0-1, 4 to 4 px", "1-end": "1-3, 8 to 16 px"}
    assert result.protocol["notes"] == []


def test_layers_of_a_growing_model_that_do_nothing_yet_are_remarked():
    notes = Mix(num_pairs=1)(ToyLayeredDecoder(resolution=8)).protocol["notes"]
    assert notes == ["the model has grown to 8 px so far: its layers above have no effect yet"]


def test_real_images_need_a_model_that_encodes_and_two_of_them():
    with pytest.raises(TypeError, match="mix needs a model with encode"):
        Mix()(ToyLayeredDecoder(), Noise(4))
    with pytest.raises(ValueError, match="mix needs at least 2 images, got a source with 1"):
        Mix()(ToyLayeredAutoencoder(), Noise(1))


def test_models_without_layers_are_refused_in_one_sentence():
    with pytest.raises(TypeError, match=r"mix needs a model with decode_layers, .* one latent per layer .* qualifies"):
        Mix()(ToyAutoencoder())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "mix needs scales to name layers, each once, .* got none"),
        ({"scales": ("coarse", "hi")}, "got coarse, coarse"),
        ({"num_pairs": 0}, "mix needs num_pairs of at least 1, got 0"),
        ({"num_bases": 0}, "mix needs num_bases of at least 1, got 0"),
        ({"numpy_bases": (1, -2)}, "mix needs numpy_bases from 0 to .*, got 1, -2"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        Mix(**options)


def test_layers_that_the_model_lacks_are_refused():
    with pytest.raises(ValueError, match="layers 2-9 are not among the 3 layers"):
        Mix(scales=("2-9",))(ToyLayeredDecoder())
