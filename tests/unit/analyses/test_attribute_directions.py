"""Directions of attributes in several spaces: probes, methods, transport, edits, files, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latent_lab.analyses import ANALYSES, Directions, Edit, Participant, Result, write_report
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import Gaussian, PerLayer
from latent_lab.networks.label_regressor import LabelRegressor
from tests.unit.analyses.labelled import DIM, Painted, read
from tests.unit.analyses.linear_spaces import Reader, normal, rotation

QUICK: dict[str, Any] = {"num_resamples": 10, "rows": 2, "num_edited": 12}


def labelled(count: int, seed: int, name: str) -> Painted:
    """Number 0 says whether it is lit, number 1 is the tone, and `mixed` depends on numbers 0 and 2."""
    latents = 0.2 * normal(count, DIM, seed=seed)
    labels = {
        "lit": (latents[:, 0] > 0.0).float(),
        "tone": latents[:, 1],
        "mixed": (latents[:, 0] + latents[:, 2] > 0.0).float(),
        "identity": torch.arange(count).float(),
        "rare": (torch.arange(count) < 3).float(),
    }
    return Painted(latents, labels, name)


HELD_OUT, REFERENCE = labelled(200, 1, "held_out"), labelled(400, 2, "reference")


def participant(name: str, model: Any, **sources: Painted) -> Participant:
    return Participant(name, model, **{"held_out": HELD_OUT, "reference": REFERENCE, **sources})


def plain() -> Participant:
    return participant("plain", Reader(torch.eye(DIM)))


def turned() -> Participant:
    return participant("turned", Reader(2.0 * rotation(), bias=1.0, resolution=16))


def run(models: list[Participant], **options: Any) -> Result:
    return Directions(**(QUICK | options))(models)


@pytest.fixture(scope="module")
def both() -> Result:
    return run([plain(), turned()], attributes=("lit,tone,mixed",))


@pytest.fixture
def regressor(monkeypatch: pytest.MonkeyPatch) -> str:
    """Reads numbers 0 and 1 off the picture."""

    class Reads(LabelRegressor):
        def __init__(self) -> None:
            super().__init__(("lit", "tone"), (False, False), 8, widths=[1])
            self.facts = {"quality": {"lit": {"r2": 1.0}, "tone": {"r2": 1.0}}}

        def forward(self, images: Tensor) -> Tensor:
            return read(images)[:, :2]

        def scores(self, images: Tensor) -> Tensor:
            return self(images)

    monkeypatch.setattr("latent_lab.analyses.attribute_directions.load_regressor", lambda path: Reads())
    return "regressor.safetensors"


def column(result: Result, table: str, key: tuple[str, str], head: str) -> Any:
    names, *rows = result.tables[table]
    return next(row for row in rows if tuple(row[:2]) == key)[list(names).index(head)]


def test_it_is_registered() -> None:
    assert ANALYSES["directions"] is Directions


@pytest.mark.parametrize("method", ["mean", "svm"])
@pytest.mark.parametrize("attribute", ["lit", "tone", "mixed"])
def test_linear_attributes_are_told_on_held_out_images(both: Result, method: str, attribute: str) -> None:
    name = f"plain/auc_{method}_{attribute}_200"
    assert both.numbers[name] > 0.98
    low, high = both.intervals[name]
    assert 0.95 < low <= high <= 1.0


def test_every_method_finds_the_coordinate_that_decides(both: Result) -> None:
    for head in ("AUC mean", "AUC svm", "AUC logistic"):
        assert column(both, "probes on held-out images", ("plain", "lit"), head) > 0.98
    assert column(both, "cosines of directions", ("plain", "lit"), "svm · logistic") > 0.98
    # Axes of codes that vary alike in all directions have no reason to be the coordinates.
    assert column(both, "probes on held-out images", ("plain", "lit"), "AUC pca") > 0.5
    assert column(both, "probes on held-out images", ("plain", "lit"), "AUC sefa") == ""
    assert "no layer of plain reads its latents as they are, so it has no sefa directions" in both.protocol["notes"]


def test_a_conditional_direction_leaves_its_conditions_alone() -> None:
    result = run([plain()], attributes=("mixed",), conditions=("lit",))
    writers = {name.rpartition("/")[2]: writer for name, writer in result.files.items()}
    assert "plain_lit_svm.npy" not in writers
    assert column(result, "probes on held-out images", ("plain", "mixed"), "conditional leaves alone") == "lit"
    # What is left of numbers 0 + 2 without 0 is number 2, and that alone tells less.
    assert 0.6 < column(result, "probes on held-out images", ("plain", "mixed"), "AUC conditional") < 0.95
    alone = run([plain()], attributes=("lit",))
    assert column(alone, "probes on held-out images", ("plain", "lit"), "AUC conditional") == ""


def test_directions_carried_into_a_rotated_copy_are_its_own(both: Result) -> None:
    for attribute in ("lit", "tone", "mixed"):
        for method in ("mean", "svm"):
            assert both.numbers[f"plain_to_turned/cosine_{method}_{attribute}"] > 0.999
        assert both.numbers[f"plain_to_turned/correlation_svm_{attribute}_200"] > 0.999
        own = both.numbers[f"turned/auc_svm_{attribute}_200"]
        for number in ("auc_svm", "auc_mapped_svm"):
            assert both.numbers[f"plain_to_turned/{number}_{attribute}_200"] == pytest.approx(own, abs=1e-3)


def test_normals_are_carried_either_way_and_both_are_shown(both: Result) -> None:
    by_inverse = run([plain(), turned()], attributes=("lit",), normals_by="pseudo_inverse")
    ways = [f"AUC carried by {way} (svm)" for way in ("reverse_map", "pseudo_inverse")]
    cells = [[column(one, "carried from plain", ("turned", "lit"), way) for way in ways] for one in (both, by_inverse)]
    # Of an exact map they are the same.
    assert cells[0] == pytest.approx(cells[1], abs=1e-3)
    assert by_inverse.protocol["normals"].endswith("the pseudo-inverse of the map")


def test_a_space_without_the_attribute_is_told_nothing() -> None:
    blind = participant("blind", Reader(torch.eye(DIM)[:, 3:]))
    result = run([plain(), blind], attributes=("lit",))
    assert result.numbers["blind/auc_svm_lit_200"] == pytest.approx(0.5, abs=0.15)
    assert result.numbers["plain_to_blind/auc_svm_lit_200"] == pytest.approx(0.5, abs=0.15)


def test_strength_one_moves_as_far_as_the_means_are_apart(regressor: str) -> None:
    result = run([plain(), turned()], attributes=("lit",), regressor=regressor, strengths=(1.0,))
    latents, lit = REFERENCE.latents[:, 0], REFERENCE.labels["lit"] == 1
    apart = (latents[lit].mean() - latents[~lit].mean()).item()
    # Pictures are rounded to 8 bits, and a few are clamped.
    for space in ("plain", "turned", "plain_to_turned"):
        assert result.numbers[f"{space}/change_lit"] == pytest.approx(apart, rel=0.03)
        assert result.numbers[f"{space}/right_way_lit"] == 1.0
        assert result.numbers[f"{space}/leakage_lit"] < 0.15
    table = result.tables["edits by mean directions"]
    assert [row[0] for row in table[1:]] == ["plain", "turned", "plain to turned"]


def test_normals_are_edited_along_as_far_as_means(regressor: str) -> None:
    changes = {
        edited: run([plain()], attributes=("lit",), regressor=regressor, edited=edited).numbers["change_lit"]
        for edited in ("mean", "svm", "logistic")
    }
    assert changes["svm"] == pytest.approx(changes["mean"], rel=0.1)
    assert changes["logistic"] == pytest.approx(changes["mean"], rel=0.1)


def test_labels_that_the_regressor_does_not_know_are_noted(regressor: str) -> None:
    result = run([plain()], attributes=("mixed",), regressor=regressor)
    assert any("the regressor does not know mixed" in note for note in result.protocol["notes"])


def test_sheets_have_a_block_for_each_way_and_are_as_large_as_the_largest_model(both: Result) -> None:
    sheet = both.pictures["directions_lit"]
    # Three ways of two rows, images of 16 pixels four times enlarged; margins of two pixels are, too.
    assert sheet.shape[2] == 3 * 4 * (2 + 2 * (16 + 2))
    assert both.protocol["columns"] == ["image", "reconstruction", "-2", "-1", "+1", "+2"]
    assert {"auc", "carried"} < set(both.pictures)


def test_without_attributes_the_labels_that_codes_tell_best_are_taken() -> None:
    result = run([plain()], num_attributes=2)
    assert set(result.protocol["attributes"]) < {"lit", "tone", "mixed"}
    assert len(result.protocol["attributes"]) == 2


def test_quantities_are_divided_by_the_training_images_quarters(both: Result) -> None:
    low, high = REFERENCE.labels["tone"].double().quantile(torch.tensor([0.25, 0.75]).double()).tolist()
    assert both.protocol["attributes"]["tone"] == f"tone from {high:.6g} on against up to {low:.6g}"


def test_files_hold_directions_that_edit_takes(both: Result, tmp_path: Path) -> None:
    write_report(both, tmp_path)
    names = {path.name for path in (tmp_path / "directions").iterdir()}
    assert {"plain_lit_mean.npy", "turned_tone_svm.npy", "plain_to_turned_lit_logistic.npy"} < names
    array = np.load(tmp_path / "directions" / "plain_lit_svm.npy", allow_pickle=False)
    assert array.shape == (1, DIM)
    assert array.dtype == np.float32
    assert np.linalg.norm(array) == pytest.approx(1.0, abs=1e-6)
    difference = np.load(tmp_path / "directions" / "plain_lit_mean.npy")
    path = str(tmp_path / "directions" / "plain_lit_mean.npy")
    edited = Edit(direction=path, attributes=("lit",), num=4)(plain().model, HELD_OUT)
    assert edited.numbers["length_lit"] == pytest.approx(np.linalg.norm(difference), rel=1e-6)


class _Dense(nn.Module, AbstractAutoencoder):
    """A decoder whose first layer amplifies one direction most."""

    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.styles = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(layers))
        for layer in self.styles:
            layer.weight.data = torch.diag(torch.tensor([5.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
        self.matrix, self.pixels, self.layers = torch.eye(DIM), 8, layers

    latent_space = property(lambda self: PerLayer(Gaussian(DIM), self.layers) if self.layers > 1 else Gaussian(DIM))
    resolution = Reader.resolution

    def encode(self, images: Tensor) -> Tensor:
        return read(images).repeat(1, self.layers)

    def decode(self, latents: Tensor) -> Tensor:
        parts = latents.view(len(latents), self.layers, DIM).unbind(1)
        codes = torch.stack([layer(part) for layer, part in zip(self.styles, parts, strict=True)]).mean(0)
        return codes.repeat_interleave(3 * 64 // DIM, dim=1).view(-1, 3, 8, 8)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_axis_that_weights_amplify_most_is_a_direction(layers: int) -> None:
    result = run([participant("dense", _Dense(layers))], attributes=("lit",))
    assert column(result, "probes on held-out images", ("dense", "lit"), "AUC sefa") > 0.98
    assert column(result, "probes on held-out images", ("dense", "lit"), "axes (pca, sefa)").endswith(", 0")
    # Of equal layers, the difference of means has the same part in each.
    assert column(result, "cosines of directions", ("dense", "lit"), "mean · sefa") > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantile": 0.6}, r"a quantile in \(0, 0.5\]"),
        ({"penalty": 0.0}, "a penalty above 0"),
        ({"strengths": ()}, "at least one finite strength"),
        ({"num_resamples": 1}, "num_resamples of at least 2, or 0"),
        ({"rows": 0}, "rows of at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Directions(**options)


def test_images_need_labels_that_divide_them() -> None:
    bare = Painted(HELD_OUT.latents, {})
    with pytest.raises(ValueError, match="directions needs labelled images: name data with labels"):
        run([participant("plain", plain().model, held_out=bare, reference=bare)])
    with pytest.raises(ValueError, match="the training images have no label hat: there are lit, tone"):
        run([plain()], attributes=("hat",))
    same = Painted(HELD_OUT.latents, {"lit": torch.ones(200)})
    with pytest.raises(ValueError, match="label lit is the same for all training images"):
        run([participant("plain", plain().model, held_out=same, reference=same)], attributes=("lit",))


def test_a_lack_of_training_images_is_noted() -> None:
    result = run([participant("plain", plain().model, held_out=REFERENCE)], attributes=("lit",))
    assert any("judged by the images that they were found by" in note for note in result.protocol["notes"])


def test_an_attribute_that_no_held_out_image_has_is_noted_and_not_judged() -> None:
    none = Painted(HELD_OUT.latents, {"lit": torch.zeros(200)})
    result = run([participant("plain", plain().model, held_out=none)], attributes=("lit",))
    assert result.numbers == {}
    assert "lit is the same for all held-out images, so nothing is judged by it" in result.protocol["notes"]
