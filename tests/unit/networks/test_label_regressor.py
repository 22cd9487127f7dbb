"""The network that estimates labels, and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latent_lab.networks.label_regressor import LabelRegressor, default_widths, load_regressor


def small(**options: object) -> LabelRegressor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LabelRegressor(["glasses", "age"], [True, False], 8, widths=[4, 8], **options).eval()


def noise(count: int = 3, channels: int = 3, resolution: int = 8) -> torch.Tensor:
    return torch.rand(count, channels, resolution, resolution, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_widths_follow_the_resolution_down_to_4_pixels() -> None:
    assert default_widths(4) == (32,)
    assert default_widths(8) == (32, 64)
    assert default_widths(32) == (32, 64, 128, 128)


def test_a_yes_or_no_is_a_probability_and_a_number_has_its_own_units() -> None:
    regressor = small()
    regressor.mean.copy_(torch.tensor([0.3, 40.0]))
    regressor.std.copy_(torch.tensor([0.4, 12.0]))
    scores, estimates = regressor.scores(noise()), regressor(noise())
    torch.testing.assert_close(estimates[:, 0], scores[:, 0].sigmoid())
    torch.testing.assert_close(estimates[:, 1], 40.0 + 12.0 * scores[:, 1])


def test_labels_are_standardised_to_the_scale_of_scores() -> None:
    regressor = small()
    regressor.mean.copy_(torch.tensor([0.3, 40.0]))
    regressor.std.copy_(torch.tensor([0.4, 12.0]))
    standard = regressor.standardise(torch.tensor([[1.0, 52.0], [0.0, 16.0]]))
    torch.testing.assert_close(standard, torch.tensor([[1.0, 1.0], [0.0, -2.0]]))


def test_images_of_other_sizes_are_resized_and_of_other_channels_refused() -> None:
    regressor = small()
    assert regressor(noise(resolution=16)).shape == (3, 2)
    with pytest.raises(ValueError, match="for images with 3 channels, got 1"):
        regressor(noise(channels=1))


def test_a_file_brings_back_the_same_network_with_its_facts(tmp_path: Path) -> None:
    regressor = small()
    regressor.facts = {"quality": {"glasses": {"auc": 0.99, "count": 5}, "age": {"r2": 0.1, "count": 5}}}
    regressor.save(tmp_path / "new" / "r.safetensors")
    loaded = load_regressor(tmp_path / "new" / "r.safetensors")
    assert torch.equal(loaded(noise()), regressor(noise()))
    assert (loaded.names, loaded.facts, loaded.widths) == (regressor.names, regressor.facts, (4, 8))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert len(loaded.describe()["sha256"]) == 64
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["r.safetensors"]


def test_estimates_count_from_a_quality_on_that_is_said() -> None:
    regressor = small()
    assert regressor.reliable == ()
    regressor.facts = {"quality": {"glasses": {"auc": 0.81, "count": 5}, "age": {"r2": 0.49, "count": 5}}}
    assert regressor.reliable == ("glasses",)


def test_loading_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    small().save(tmp_path / "r.safetensors")
    before = torch.get_rng_state()
    load_regressor(tmp_path / "r.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_other_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no label regressor at .*train-regressor"):
        load_regressor(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors", encoding="utf-8")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_regressor(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no label regressor"):
        load_regressor(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("names", "binary", "widths", "message"),
    [
        ([], [], [4], "at least one label"),
        (["a", "a"], [True, True], [4], "names of their own"),
        (["a", "b"], [True], [4], "yes or no for each of 2"),
        (["a"], [True], [4] * 5, "leave nothing of 8 px"),
    ],
)
def test_impossible_networks_are_refused(names: list, binary: list, widths: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelRegressor(names, binary, 8, widths=widths)
