"""Linear separability of a linear decoder's two spaces, by classifiers whose answers are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from latent_lab import distributed
from latent_lab.analyses import ANALYSES, Result, Separability
from latent_lab.analyses import separability as module
from latent_lab.networks.label_regressor import LabelRegressor
from tests.unit.analyses.mapped_toys import ToyMappedDecoder
from tests.unit.analyses.toys import ToyDecoder

HERE = __name__


class Sides(nn.Module):
    """Linear in the image, and so in the latents of a linear decoder."""

    names = ("left", "upper")

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images[..., :8].mean((1, 2, 3)), images[:, :, :8].mean((1, 2, 3))], dim=1)


class Hash(nn.Module):
    """Two answers that have nothing to do with anything, and one that is always yes."""

    def forward(self, images: Tensor) -> Tensor:
        chaos = (1e6 * images[:, 0, 0, :2]).sin()
        return torch.cat([chaos, torch.ones(len(images), 1)], dim=1)


class NoModule:
    pass


class Demanding(nn.Module):
    def __init__(self, file: str) -> None:
        super().__init__()


def run(classifier: str, **options: object) -> Result:
    return Separability(classifier=f"{HERE}.{classifier}", num_samples=2000, **options)(ToyMappedDecoder())


def test_it_is_an_analysis_by_name():
    assert ANALYSES["separability"] is Separability


def test_a_space_in_which_attributes_are_linear_is_perfectly_separable():
    numbers = run("Sides").numbers
    assert numbers == {
        "separability_z_2k": pytest.approx(1.0),
        "entropy_z_left": pytest.approx(0.0, abs=1e-9),
        "entropy_z_upper": pytest.approx(0.0, abs=1e-9),
        "separability_w_2k": pytest.approx(1.0),
        "entropy_w_left": pytest.approx(0.0, abs=1e-9),
        "entropy_w_upper": pytest.approx(0.0, abs=1e-9),
    }


def test_random_attributes_double_the_score_each_and_certain_ones_do_not_count():
    result = run("Hash", kept_share=1.0)
    # 2000 samples for 5 coordinates: a fit to noise explains about 1 %.
    assert 3.8 < result.numbers["separability_z_2k"] < 4.0
    assert result.numbers["entropy_w_2"] == 0.0
    assert result.protocol["share_of_positives"]["2"] == 1.0
    assert result.protocol["notes"] == ["hardly anything but one answer for 2: any space separates them well"]


def test_attributes_can_be_chosen():
    assert set(run("Sides", attributes=("upper",)).numbers) == {
        "separability_z_2k",
        "entropy_z_upper",
        "separability_w_2k",
        "entropy_w_upper",
    }
    with pytest.raises(ValueError, match="does not know lower: it knows left, upper"):
        run("Sides", attributes=("lower",))


def test_a_decoder_without_w_has_one_score():
    numbers = Separability(classifier=f"{HERE}.Sides", num_samples=50)(ToyDecoder()).numbers
    assert set(numbers) == {"separability_z_50", "entropy_z_left", "entropy_z_upper"}


def test_the_batch_size_changes_no_number():
    analysis = {"num_samples": 100, "classifier": f"{HERE}.Sides"}
    whole = Separability(**analysis)(ToyDecoder()).numbers
    assert Separability(**analysis, batch_size=7)(ToyDecoder()).numbers == pytest.approx(whole, abs=1e-6)


def test_a_process_without_samples_of_its_own_finds_what_the_others_find(monkeypatch: pytest.MonkeyPatch):
    analysis = Separability(classifier=f"{HERE}.Sides", num_samples=30)
    gather, everything, sent = distributed.gather_ragged, [], []

    def record(rows: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        everything.append(gather(rows, index))
        return everything[-1]

    monkeypatch.setattr(distributed, "gather_ragged", record)
    alone = analysis(ToyMappedDecoder()).numbers
    calls = iter(everything)

    def receive(rows: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        sent.append((rows, index))
        return next(calls)

    monkeypatch.setattr(distributed, "gather_ragged", receive)
    monkeypatch.setattr(module, "share", lambda count: range(0))
    assert analysis(ToyMappedDecoder()).numbers == alone
    for (rows, index), (all_rows, _) in zip(sent, everything, strict=True):
        assert index.tolist() == [0]
        torch.testing.assert_close(rows, all_rows[:1])


def test_few_samples_for_many_coordinates_are_remarked():
    notes = Separability(classifier=f"{HERE}.Sides", num_samples=20)(ToyMappedDecoder()).protocol["notes"]
    assert notes[-1:] == ["10 samples for 5 coordinates: any labels are separable to some extent; take more"]


def test_the_yes_or_no_labels_of_a_regressor_are_attributes(tmp_path: Path):
    path = tmp_path / "labels.safetensors"
    regressor = LabelRegressor(["smiling", "yaw", "glasses"], [True, False, True], 8)
    regressor.facts = {"quality": {"smiling": {"auc": 0.95}}}
    regressor.save(path)
    result = Separability(classifier=str(path), num_samples=400)(ToyMappedDecoder())
    assert set(result.protocol["share_of_positives"]) == {"smiling", "glasses"}
    assert len(result.protocol["classifier"]["sha256"]) == 64
    assert "the regressor estimates glasses poorly: their entropies mean little" in result.protocol["notes"]
    assert 1.0 <= result.numbers["separability_w_400"] <= 4.0


def test_a_regressor_without_yes_or_no_labels_is_refused(tmp_path: Path):
    path = tmp_path / "labels.safetensors"
    LabelRegressor(["yaw"], [False], 8).save(path)
    with pytest.raises(ValueError, match="no label that is a yes or no, only yaw"):
        Separability(classifier=str(path))(ToyMappedDecoder())


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (None, "separability needs a classifier: name a file"),
        ("/nowhere/labels.safetensors", "there is no label regressor at /nowhere"),
        ("nonsense", r"there is no classifier nonsense .* or package\.module\.Class"),
        (f"{HERE}.Missing", r"there is no classifier .*Missing"),
        (f"{HERE}.Demanding", "is built without arguments"),
        (f"{HERE}.NoModule", r"must be an nn\.Module"),
    ],
)
def test_what_is_no_classifier_is_refused(classifier: str | None, message: str):
    with pytest.raises(ValueError, match=message):
        Separability(classifier=classifier)(ToyMappedDecoder())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kept_share": 0.0}, "kept_share above 0 and at most 1"),
        ({"kept_share": 1.5}, "kept_share above 0 and at most 1"),
        ({"num_samples": 1}, "num_samples of at least 2"),
        ({"batch_size": 0}, "batch_size of at least 1"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Separability(**options)
