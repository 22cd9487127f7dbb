"""Where attribute directions come from: labels, sets of images, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latent_lab.analyses.directions import choose_exemplars, difference_of_means, read_direction
from tests.unit.analyses.labelled import DIM, Painted, Painter, factorial


def many(count: int = 200) -> Painted:
    rng = torch.Generator().manual_seed(0)
    latents = torch.rand(count, DIM, generator=rng) - 0.5
    return Painted(latents, {"tone": latents[:, 0], "lit": (latents[:, 1] > 0).float()})


def test_a_yes_or_no_divides_by_itself() -> None:
    source = many()
    chosen = choose_exemplars(source, "lit", 16, seed=0)
    assert len(chosen.present) == len(set(chosen.present)) == 16
    assert source.labels["lit"][chosen.present].min() == 1
    assert source.labels["lit"][chosen.absent].max() == 0
    assert chosen.rule == "lit = 1 against 0"


def test_of_other_numbers_the_highest_and_the_lowest_quarter_are_taken() -> None:
    source = many()
    chosen = choose_exemplars(source, "tone", 1000, seed=0)
    tone = source.labels["tone"]
    assert (len(chosen.present), len(chosen.absent)) == (50, 50)
    assert set(chosen.present) == set(tone.topk(50).indices.tolist())
    assert set(chosen.absent) == set((-tone).topk(50).indices.tolist())


def test_a_label_that_is_mostly_one_value_has_that_value_as_its_low_side() -> None:
    beard = torch.tensor([0.0] * 9 + [0.7])
    chosen = choose_exemplars(Painted(torch.zeros(10, DIM), {"beard": beard}), "beard", 4, seed=0)
    assert chosen.present == [9]
    assert 9 not in chosen.absent


def test_the_draw_depends_on_seed_and_label_alone() -> None:
    source = many()
    again, other = (choose_exemplars(source, "lit", 16, seed=seed) for seed in (0, 1))
    assert choose_exemplars(source, "lit", 16, seed=0) == again
    assert again.present != other.present
    assert choose_exemplars(source, "lit", 8, seed=0).present == again.present[:8]


def test_unknown_labels_are_left_out_and_absent_ones_refused() -> None:
    nan = torch.nan
    source = Painted(torch.zeros(4, DIM), {"lit": torch.tensor([1.0, 0.0, nan, nan]), "x": torch.full((4,), nan)})
    chosen = choose_exemplars(source, "lit", 9, seed=0)
    assert (chosen.present, chosen.absent) == ([0], [1])
    with pytest.raises(ValueError, match="no label smile: there are lit, x"):
        choose_exemplars(source, "smile", 9, seed=0)
    with pytest.raises(ValueError, match="label x is unknown for all 4 images"):
        choose_exemplars(source, "x", 9, seed=0)
    with pytest.raises(ValueError, match="same for all images, so none is with it"):
        choose_exemplars(Painted(torch.zeros(2, DIM), {"lit": torch.zeros(2)}), "lit", 9, seed=0)
    with pytest.raises(ValueError, match="have no labels"):
        choose_exemplars(Painted(torch.zeros(2, DIM), {}), "lit", 9, seed=0)


def test_sets_are_compared_in_their_other_labels_too() -> None:
    chosen = choose_exemplars(factorial(), "tone", 8, seed=0)
    assert chosen.differences == pytest.approx({"tone": 0.4, "lit": 0.0}, abs=1e-6)


def test_direction_is_the_difference_of_mean_codes_whatever_the_batch_size() -> None:
    source = many()
    present, absent = [0, 1, 2], [3, 4, 5, 6, 7]
    expected = source.latents[present].mean(0) - source.latents[absent].mean(0)
    for batch_size in (2, 64):
        delta = difference_of_means(Painter(), (source, present), (source, absent), batch_size)
        assert delta.shape == (1, DIM)
        torch.testing.assert_close(delta[0], expected, atol=1e-6, rtol=0)


def test_directions_are_read_from_safetensors_and_from_files_of_the_published_kind(tmp_path: Path) -> None:
    direction = torch.randn(1, DIM, generator=torch.Generator().manual_seed(0))
    torch.save(direction, tmp_path / "smile_delta", _use_new_zipfile_serialization=False)
    torch.save({"delta": direction[0]}, tmp_path / "smile.pt")
    save_file({"direction": direction}, tmp_path / "smile.safetensors")
    for name in ("smile_delta", "smile.pt", "smile.safetensors"):
        assert torch.equal(read_direction(tmp_path / name, DIM), direction)


def test_files_that_hold_no_direction_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no direction at"):
        read_direction(tmp_path / "absent.pt", DIM)
    torch.save(torch.zeros(1, 512), tmp_path / "large.pt")
    with pytest.raises(ValueError, match=r"shape \(1, 6\), .* got \(1, 512\)"):
        read_direction(tmp_path / "large.pt", DIM)
    torch.save(Path("code"), tmp_path / "code.pt")
    with pytest.raises(ValueError, match="holds no plain tensor, so it was not opened"):
        read_direction(tmp_path / "code.pt", DIM)
    torch.save(torch.full((1, DIM), torch.nan), tmp_path / "nan.pt")
    with pytest.raises(ValueError, match="not finite"):
        read_direction(tmp_path / "nan.pt", DIM)
