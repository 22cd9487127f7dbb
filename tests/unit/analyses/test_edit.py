"""Attributes added and taken away: the formula, its options, what is measured and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from latent_lab.analyses import ANALYSES, Edit, Exemplars, HeldOut, write_report
from latent_lab.analyses import edit as module
from latent_lab.latent.spaces import Hypersphere
from latent_lab.networks.face_identity import DlibIdentity
from latent_lab.networks.label_regressor import LabelRegressor
from tests.unit.analyses.labelled import DIM, LayeredPainter, Painted, Painter, factorial, read
from tests.unit.analyses.toys import Noise, ToyAutoencoder, ToyDecoder

LEVEL = 2 / 255
"""Pictures are rounded to 8 bits before they are measured."""


class Reader(LabelRegressor):
    """Reads tone (coordinate 0), lit (coordinate 1, as probability) and mood, which it estimates poorly."""

    def __init__(self) -> None:
        super().__init__(("tone", "lit", "mood"), (False, True, False), 8, widths=[1])
        self.facts = {"quality": {"tone": {"r2": 1.0}, "lit": {"auc": 1.0}, "mood": {"r2": 0.1}}}

    def forward(self, images: Tensor) -> Tensor:
        latents = read(images)
        return torch.stack([latents[:, 0], 0.5 + 2 * latents[:, 1], 100 * latents[:, 0]], 1)

    def scores(self, images: Tensor) -> Tensor:
        return read(images)[:, [0, 1, 0]]


@pytest.fixture
def regressor(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(module, "load_regressor", lambda path: Reader())
    return "reader.safetensors"


def held_out() -> HeldOut:
    """The combinations, under another name, with the same as training images."""
    source = factorial()
    return HeldOut(Painted(source.latents, source.labels, "test"), source)


def test_edit_is_registered() -> None:
    assert ANALYSES["edit"] is Edit


def test_a_direction_moves_its_own_coordinate_by_exactly_the_sets_distance() -> None:
    model = Painter()
    result = Edit(attributes=("tone",), strengths=(-1.0, 0.5))(model, held_out())
    plain, minus, half = model.decoded
    # The lowest and the highest quarter are 0.4 apart in coordinate 0 and agree in all others.
    moved = torch.tensor([[0.4, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(minus, plain - moved, atol=1e-6, rtol=0)
    torch.testing.assert_close(half, plain + 0.5 * moved, atol=1e-6, rtol=0)
    assert result.numbers == {"length_tone": pytest.approx(0.4, abs=1e-6)}


def test_several_attributes_are_edited_in_one_call_however_they_are_written() -> None:
    for attributes in (("tone lit",), ("tone", "lit"), ("tone,lit",)):
        result = Edit(attributes=attributes)(Painter(), held_out())
        assert set(result.pictures) == {"edit_tone", "edit_lit"}
        assert result.numbers["length_lit"] == pytest.approx(0.5, abs=1e-6)


def test_changes_direction_and_leakage_are_measured_by_the_regressor(regressor: str) -> None:
    edit = Edit(attributes=("tone", "lit"), strengths=(-2.0, 2.0), regressor=regressor)
    numbers = edit(Painter(), held_out()).numbers
    assert numbers["change_tone_tone"] == pytest.approx(0.4, abs=LEVEL)
    assert numbers["change_tone_lit"] == pytest.approx(0.0, abs=1e-6)
    assert numbers["change_lit_lit"] == pytest.approx(1.0, abs=2 * LEVEL)
    assert numbers["right_way_tone"] == numbers["right_way_lit"] == 1.0
    # mood follows tone, but it is estimated poorly and does not count.
    assert numbers["leakage_tone"] == numbers["leakage_lit"] == pytest.approx(0.0, abs=1e-6)


def test_what_a_model_mixes_up_shows_as_leakage_in_standard_deviations(regressor: str) -> None:
    class Blurred(Painter):
        def decode(self, latents: Tensor) -> Tensor:
            mixed = latents.clone()
            mixed[:, 1] += 0.5 * latents[:, 0]
            return super().decode(mixed)

    result = Edit(attributes=("tone",), regressor=regressor)(Blurred(), held_out())
    tone = factorial().labels["tone"]
    lit = 2 * (factorial().latents[:, 1] + 0.5 * tone)
    expected = (0.4 / lit.std(correction=0)) / (0.4 / tone.std(correction=0))
    # Rounding to 8 bits moves the changes of 0.4 by at most one level.
    assert result.numbers["leakage_tone"] == pytest.approx(expected.item(), rel=0.03)


def test_tables_hold_every_strength_and_label_and_the_report_shows_them(regressor: str, tmp_path: Path) -> None:
    result = Edit(attributes=("tone",), strengths=(-1.0, 2.0), regressor=regressor)(Painter(), held_out())
    head, tone, *_, mood = result.tables["mean change by tone"]
    assert head == ["label", "held-out", "exemplars", "-1", "+1", "+2"]
    assert tone[:2] == ["tone", "r2 1.000"]
    assert tone[2:] == pytest.approx([0.4, -0.4, 0.4, 0.8], abs=LEVEL)
    assert mood[2] == ""
    report = write_report(result, tmp_path).read_text(encoding="utf-8")
    assert "| label | tone |" in report
    assert "| tone | r2 1.000 | 0.4 | -0.4" in report


def test_projected_codes_stay_on_the_sphere_and_printed_ones_leave_it() -> None:
    source = HeldOut(Noise(6), factorial())
    for renormalise in (True, False):
        model = Painter(Hypersphere(DIM))
        Edit(attributes=("lit",), strengths=(2.0,), renormalise=renormalise)(model, source)
        lengths = torch.linalg.vector_norm(model.decoded[1], dim=1)
        assert torch.allclose(lengths, torch.ones(6), atol=1e-6) is renormalise


def test_a_range_of_layers_leaves_the_others_alone() -> None:
    model = LayeredPainter()
    Edit(attributes=("tone",), strengths=(2.0,), layers="middle")(model, held_out())
    latents, styles = model.decoded[0], model.layered[0]
    moved = latents + 2.0 * torch.tensor([[0.4, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(styles[:, 1], moved, atol=1e-6, rtol=0)
    assert torch.equal(styles[:, 0], latents)
    assert torch.equal(styles[:, 2], latents)


def test_layers_need_a_decoder_that_has_them() -> None:
    with pytest.raises(TypeError, match="edit of the layers coarse needs a model with decode_layers"):
        Edit(attributes=("tone",), layers="coarse")(Painter(), held_out())


def test_a_ready_direction_needs_no_training_images(tmp_path: Path) -> None:
    path = tmp_path / "smile_delta.pt"
    torch.save(torch.full((1, DIM), 0.1), path)
    model = Painter()
    result = Edit(direction=str(path), strengths=(1.0,))(model, Noise(3))
    torch.testing.assert_close(model.decoded[1], model.decoded[0] + 0.1)
    assert set(result.pictures) == {"edit_smile_delta"}
    assert not Edit(direction=str(path)).needs_reference


def test_two_sets_of_images_stand_for_an_attribute() -> None:
    source, model = factorial(), Painter()
    bright, dark = (Painted(source.latents[rows], {}, name) for rows, name in (([6, 7], "bright"), ([0, 1], "dark")))
    result = Edit(strengths=(1.0,))(model, Exemplars(Noise(3), bright, dark))
    torch.testing.assert_close(model.decoded[1] - model.decoded[0], torch.tensor([[0.4, 0, 0, 0, 0, 0]]).expand(3, -1))
    assert set(result.pictures) == {"edit_bright"}
    assert "edit_tone" in Edit(attributes=("tone",))(model, Exemplars(Noise(3), bright, dark)).pictures


def test_a_row_shows_image_reconstruction_and_strengths() -> None:
    source = held_out()
    sheet = Edit(attributes=("tone",), strengths=(-1.0, 1.0), num=8, rows=2)(Painter(), source).pictures["edit_tone"]
    assert sheet.shape == (1, 3, 8 * (2 * 10 + 2), 8 * (4 * 10 + 2))
    # Coordinate 0 paints the upper half of the first channel.
    tile = lambda row, column: sheet[0, 0, 8 * (2 + 10 * row), 8 * (2 + 10 * column)].item()  # noqa: E731
    assert [tile(0, column) for column in range(4)] == pytest.approx([-0.2, -0.2, -0.6, 0.2], abs=LEVEL)


def test_images_are_evenly_spaced_and_batches_change_nothing(regressor: str) -> None:
    model = Painter()
    many = Edit(attributes=("tone",), num=4, regressor=regressor)(model, held_out())
    assert many.protocol["num"] == 4
    assert torch.equal(read(factorial().batch([0, 2, 4, 6], 8).images)[:, 0], model.decoded[0][:, 0])
    one = Edit(attributes=("tone",), num=4, regressor=regressor, batch_size=1)(Painter(), held_out())
    assert one.numbers == pytest.approx(many.numbers)


def test_what_is_doubtful_is_noted(regressor: str) -> None:
    source = factorial()
    notes = Edit(attributes=("tone",), regressor=regressor)(Painter(), HeldOut(source, source)).protocol["notes"]
    assert any("fewer than the 64 asked for" in note for note in notes)
    assert any("exemplars are among the images that are edited" in note for note in notes)


def test_identity_is_the_distance_of_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    class Embedding(DlibIdentity):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.sha256, self.canonical, self.box = "", False, (0.0, 0.0, 1.0, 1.0)

        def forward(self, images: Tensor) -> Tensor:
            return read(images)

    monkeypatch.setattr(module, "find_identity", lambda path, box: Embedding())
    result = Edit(attributes=("tone",), strengths=(1.0, 2.0), identity="dlib")(Painter(), held_out())
    numbers = result.numbers
    assert numbers["id_dlib_reconstruction"] == 0.0
    assert numbers["id_dlib_tone_+1"] == pytest.approx(0.4, abs=LEVEL)
    assert numbers["id_dlib_same_tone_+1"] == 1.0
    assert numbers["id_dlib_same_tone_+2"] == 0.0
    assert 0.3 < numbers["id_dlib_others"] < 0.6
    assert "same person, too" in result.protocol["notes"][-1]


def test_edit_says_what_it_lacks() -> None:
    with pytest.raises(TypeError, match="edit needs a model with encode"):
        Edit(attributes=("tone",))(ToyDecoder(), Noise(4))
    with pytest.raises(ValueError, match="needs to know what to change"):
        Edit()(ToyAutoencoder(), held_out())
    with pytest.raises(ValueError, match="labelled training images and was given none"):
        Edit(attributes=("tone",))(ToyAutoencoder(), Noise(4))
    with pytest.raises(ValueError, match="the source is empty"):
        Edit(attributes=("tone",))(ToyAutoencoder(), Noise(0))
    with pytest.raises(ValueError, match="two sets stand for one attribute"):
        Edit(attributes=("a", "b"))(ToyAutoencoder(), Exemplars(Noise(1), Noise(1), Noise(1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 0}, "num of at least 1"),
        ({"num_exemplars": 0}, "num_exemplars of at least 1"),
        ({"quantile": 0.6}, r"quantile in \(0, 0.5\]"),
        ({"strengths": ()}, "at least one finite strength"),
        ({"direction": "a.pt", "attributes": ("a", "b")}, "one direction stands for one attribute"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Edit(**options)


def test_a_video_goes_from_the_lowest_strength_to_the_highest_and_back(tmp_path: Path) -> None:
    model = Painter()
    edit = Edit(attributes=("tone", "lit"), strengths=(-1.0, 3.0), rows=3, video_frames=4)
    result = edit(model, held_out())
    assert {"edit_tone.gif", "edit_tone.webp", "edit_lit.gif", "edit_lit.webp"} <= set(result.files)
    # The sheets come first, then four frames of each attribute.
    plain, *tone = model.decoded[0], *model.decoded[-8:-4]
    moved = torch.tensor([[0.4, 0, 0, 0, 0, 0]])
    for frame, strength in zip(tone, (-1.0, 1.0, 3.0, 1.0), strict=True):
        torch.testing.assert_close(frame, plain[:3] + strength * moved, atol=1e-6, rtol=0)
    for name, write in result.files.items():
        write(tmp_path / name)
    with Image.open(tmp_path / "edit_tone.gif") as video:
        assert video.n_frames > 1
        assert video.width < video.height * 3


def test_without_negative_strengths_a_video_begins_with_the_reconstruction() -> None:
    model = Painter()
    Edit(attributes=("tone",), strengths=(2.0,), rows=2, video_frames=2)(model, held_out())
    torch.testing.assert_close(model.decoded[-2], model.decoded[0][:2])
