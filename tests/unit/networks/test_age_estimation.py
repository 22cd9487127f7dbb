"""Estimators of age: what they are asked, what they answer, and that no gradient passes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latent_lab.data.synthetic_ageing import draw_discs, sample_discs
from latent_lab.networks.age_estimation import AgeEstimator, find_age_estimator
from latent_lab.networks.label_regressor import LabelRegressor


class Brightness(nn.Module):
    """Fifty years at grey, a hundred at white."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(50.0))

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1] == 3
        return self.scale * (images.mean((1, 2, 3)) + 1.0)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module `own_ages` in which networks can be put."""
    module: Any = ModuleType("own_ages")
    module.Brightness = Brightness
    monkeypatch.setitem(sys.modules, "own_ages", module)
    return module


def grey(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 8, 8).clone()


def test_a_network_of_the_users_is_an_estimator(own: Any):
    estimator = find_age_estimator("own_ages.Brightness")
    assert isinstance(estimator, AgeEstimator)
    # Rounded to 8 bits, as a saved file would be: a level is a fifth of a year here.
    torch.testing.assert_close(estimator(grey(-1.0, 0.0, 1.0)), torch.tensor([0.0, 50.0, 100.0]), atol=0.2, rtol=0)
    assert estimator.label.startswith("age_Brightness_")
    assert estimator.describe()["class_path"] == "own_ages.Brightness"


def test_its_weights_come_from_a_file(own: Any, tmp_path: Path):
    torch.save({"scale": torch.tensor(10.0)}, tmp_path / "weights.pt")
    estimator = find_age_estimator("own_ages.Brightness", tmp_path / "weights.pt")
    assert estimator(grey(1.0)).item() == pytest.approx(20.0)
    assert estimator.label != find_age_estimator("own_ages.Brightness").label


def test_it_gets_grey_images_in_three_channels_and_in_pieces(own: Any):
    estimator = find_age_estimator("own_ages.Brightness")
    images = torch.linspace(-1, 1, 150)[:, None, None, None].expand(-1, 1, 4, 4)
    ages = estimator(images)
    assert ages.shape == (150,)
    assert (ages.diff() > 0).all()
    assert estimator(images[:0]).shape == (0,)


def test_it_gets_the_size_that_it_asks_for(own: Any):
    class Sized(Brightness):
        input_resolution = 16

        def forward(self, images: Tensor) -> Tensor:
            return images.new_full((len(images), 1), float(images.shape[-1]))

    own.Sized = Sized
    assert find_age_estimator("own_ages.Sized")(grey(0.0, 0.5)).tolist() == [16.0, 16.0]


def test_no_gradient_passes_in_either_direction(own: Any):
    estimator = find_age_estimator("own_ages.Brightness").train()
    images = grey(0.5).requires_grad_()
    ages = estimator(images)
    assert not ages.requires_grad
    assert not any(parameter.requires_grad for parameter in estimator.parameters())
    assert not estimator.training
    # What comes out is an ordinary number: using it in a loss gives the images nothing.
    loss = (ages.sum() - 30.0) ** 2 + 0.0 * images.sum()
    loss.backward()
    assert images.grad is not None
    assert not images.grad.any()


def test_nan_is_refused_with_the_number_of_images(own: Any):
    class Broken(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).masked_fill(images[:, 0, 0, 0] > 0, torch.nan)

    own.Broken = Broken
    estimator = find_age_estimator("own_ages.Broken")
    with pytest.raises(ValueError, match=r"age_Broken_\w+ gave NaN or infinite ages for 2 of 3 images: its weights"):
        estimator(grey(-0.5, 0.5, 0.7))
    # Who wants to know which ones asks for the estimates as they are.
    assert estimator.estimates(grey(-0.5, 0.5, 0.7)).isnan().tolist() == [False, True, True]


def test_images_that_are_nan_are_refused():
    with pytest.raises(ValueError, match="images whose age is to be estimated contain NaN"):
        find_age_estimator("drawn")(torch.full((1, 3, 8, 8), torch.nan))


def test_another_shape_is_refused(own: Any):
    class Classes(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            return images.new_zeros(len(images), 100)

    own.Classes = Classes
    with pytest.raises(ValueError, match=r"must give one age for each image, \(2,\) or \(2, 1\), got \(2, 100\)"):
        find_age_estimator("own_ages.Classes")(grey(0.0, 0.0))


def test_the_oracle_of_drawn_discs():
    estimator = find_age_estimator("drawn")
    ages = torch.tensor([15.0, 35.0, 65.0])
    found = estimator(draw_discs(sample_discs(0, range(3)), ages, 64))
    torch.testing.assert_close(found, ages, atol=0.6, rtol=0)
    assert estimator.label == "age_drawn"


def test_a_label_regressor_that_estimates_age(tmp_path: Path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        regressor = LabelRegressor(["glasses", "age"], [True, False], 8, widths=[4, 8]).eval()
    regressor.mean.copy_(torch.tensor([0.0, 40.0]))
    regressor.facts = {"quality": {"age": {"r2": 0.9, "count": 10}}}
    regressor.save(tmp_path / "labels.safetensors")
    estimator = find_age_estimator("regressor", tmp_path / "labels.safetensors")
    images = grey(-1.0, 1.0)
    torch.testing.assert_close(estimator(images), regressor(images)[:, 1].detach())
    assert estimator.describe()["quality"] == {"r2": 0.9, "count": 10}


def test_a_regressor_of_other_labels_is_refused(tmp_path: Path):
    LabelRegressor(["glasses"], [True], 8, widths=[4, 8]).save(tmp_path / "labels.safetensors")
    with pytest.raises(ValueError, match="estimates glasses, and not age: train one with --labels age"):
        find_age_estimator("regressor", tmp_path / "labels.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("oracle",), "unknown age estimator 'oracle': use drawn, dlib_age, regressor, or the import path of your own"),
        (("regressor",), "needs the path of a file that `latent-lab train-regressor` has written"),
        (("drawn", "x.pt"), "has no weights file, got the path x.pt"),
        (("nowhere_at_all.Network",), "nowhere_at_all.Network cannot be imported"),
        (
            ("torch.nn.ReLU", "x.pt"),
            "the weights of torch.nn.ReLU were expected in the file x.pt, which does not exist",
        ),
    ],
)
def test_what_cannot_be_found_is_said_in_one_sentence(arguments: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        find_age_estimator(*arguments)


def test_a_box_is_for_dlib_only():
    with pytest.raises(ValueError, match="a box is for the age estimator dlib_age, got one for drawn"):
        find_age_estimator("drawn", box="ffhq")


def test_dlibs_ages_of_real_faces_are_right_to_a_decade(shared: Path):
    from latent_lab.data.readers import read_image
    from latent_lab.images import from_bytes

    folder = shared / "data"
    weights, faces = folder / "weights_age_gender", folder / "faces_utk128"
    if not weights.is_dir() or not faces.is_dir():
        pytest.skip("dlib's weights or UTKFace are not here")
    rows = (faces / "labels.csv").read_text().splitlines()[1:]
    adults = [row.split(",")[:2] for row in rows if 20 <= int(row.split(",")[1]) < 60][::200]
    pixels = [torch.from_numpy(read_image(faces / "images" / name)[0].copy()).permute(2, 0, 1) for name, _ in adults]
    ages = torch.tensor([float(age) for _, age in adults])
    estimator = find_age_estimator("dlib_age", weights, box="utkface")
    error = (estimator(from_bytes(torch.stack(pixels))) - ages).abs()
    assert estimator.label == "age_dlib"
    assert error.mean() < 10.0
