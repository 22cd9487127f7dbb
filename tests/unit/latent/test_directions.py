"""Directions: means, hyperplanes, conditions, spectra, their way through maps, and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab.latent.directions import (
    Hyperplane,
    boundary_of_scores,
    edit_path,
    factorised_directions,
    logistic_normal,
    mean_difference,
    midway_hyperplane,
    orthogonalised,
    principal_directions,
    pull_back_hyperplane,
    read_direction,
    reading_weights,
    support_vector_normal,
    transport_direction,
    transport_hyperplane,
)
from latent_lab.latent.maps import LinearMap, NormalEquations, fit_least_squares

DIM = 6


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def divided(count: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, labels by the side of a plane that misses the origin, and its normal."""
    codes, truth = normal(count, DIM), F.normalize(normal(1, DIM, seed=1), dim=1)
    return codes, (codes @ truth.T)[:, 0] > 0.3, truth


def test_a_mean_difference_is_that_of_the_means() -> None:
    present, absent = normal(5, DIM), normal(9, DIM, seed=1)
    torch.testing.assert_close(mean_difference(present, absent)[0], present.mean(0) - absent.mean(0))
    with pytest.raises(ValueError, match="got 5 with and 0 without"):
        mean_difference(present, absent[:0])


@pytest.mark.parametrize(
    "fit",
    [
        support_vector_normal,
        lambda codes, labels: support_vector_normal(codes, labels, loss="squared_hinge"),
        logistic_normal,
    ],
    ids=["hinge", "squared_hinge", "logistic"],
)
def test_hyperplanes_find_the_plane_that_divided_codes(fit) -> None:
    codes, labels, truth = divided()
    plane = fit(codes, labels)
    assert plane.normal.norm().item() == pytest.approx(1.0, abs=1e-6)
    assert F.cosine_similarity(plane.normal, truth).item() > 0.99
    assert plane.offset == pytest.approx(-0.3, abs=0.08)
    assert plane.accuracy(codes, labels) > 0.97


def test_a_boundary_of_scores_is_fitted_to_extremes_and_tested_on_the_rest() -> None:
    codes, _, truth = divided(2000)
    scores = 5.0 * (codes @ truth.T)[:, 0] + 2.0
    found = boundary_of_scores(codes, scores, share=0.1)
    assert F.cosine_similarity(found.hyperplane.normal, truth).item() > 0.9
    assert found.validation_accuracy == 1.0
    assert 0.8 < found.remaining_accuracy < 1.0
    again = boundary_of_scores(codes, scores, share=0.1)
    assert torch.equal(again.hyperplane.normal, found.hyperplane.normal)
    with pytest.raises(ValueError, match=r"0\.001 of 2000 codes are 2 of each side, 1 for training"):
        boundary_of_scores(codes, scores, share=0.001)


def test_a_conditional_direction_moves_no_condition_and_depends_on_their_span_alone() -> None:
    direction, conditions = normal(1, DIM), normal(3, DIM, seed=1)
    left = orthogonalised(direction, conditions)
    assert (left @ conditions.T).abs().max() < 1e-6
    assert left.norm().item() == pytest.approx(1.0, abs=1e-6)
    dependent = torch.cat([conditions, normal(2, 3, seed=2) @ conditions])
    torch.testing.assert_close(orthogonalised(direction, dependent), left, atol=1e-5, rtol=0)
    torch.testing.assert_close(orthogonalised(direction, conditions[:0]), F.normalize(direction, dim=1))
    with pytest.raises(ValueError, match="a combination of its 3 conditions"):
        orthogonalised(torch.ones(1, 3) @ conditions, conditions)


def test_principal_directions_are_the_axes_of_stretched_codes() -> None:
    axes = principal_directions(normal(5000, 3) * torch.tensor([1.0, 3.0, 2.0]), 2)
    torch.testing.assert_close(axes.directions.abs(), torch.eye(3)[[1, 2]], atol=0.1, rtol=0)
    assert axes.strengths.tolist() == pytest.approx([9.0, 4.0], rel=0.1)
    assert (axes.directions.amax(1) > 0.9).all()


def test_factorised_directions_are_those_that_weights_amplify_most() -> None:
    left, right = torch.linalg.qr(normal(20, 4))[0], torch.linalg.qr(normal(4, 4, seed=1))[0]
    weight = left @ torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0])) @ right
    axes = factorised_directions([weight[:7], weight[7:]], 3)
    assert axes.strengths.tolist() == pytest.approx([16.0, 9.0, 4.0], rel=1e-5)
    torch.testing.assert_close((axes.directions * right[:3]).sum(1).abs(), torch.ones(3), atol=1e-5, rtol=0)
    gains = factorised_directions([weight * torch.linspace(1, 9, 20)[:, None]], unit_rows=True)
    torch.testing.assert_close(gains.strengths, factorised_directions([weight], unit_rows=True).strengths)
    with pytest.raises(ValueError, match=r"with one D, got \(20, 4\), \(20, 3\)"):
        factorised_directions([weight, weight[:, :3]])


def test_paths_add_multiples_or_arrive_at_distances_from_the_plane() -> None:
    codes, direction = normal(2, DIM), F.normalize(normal(1, DIM, seed=1), dim=1)
    strengths = torch.tensor([-1.0, 0.0, 2.0])
    torch.testing.assert_close(edit_path(codes, direction, strengths)[1, 2], codes[1] + 2.0 * direction[0])
    plane = Hyperplane(direction, 0.4)
    path = edit_path(codes, direction, strengths, hyperplane_offset=0.4)
    torch.testing.assert_close(plane.distance(path.flatten(0, 1)).view(2, 3), strengths.expand(2, -1))


def test_editing_then_mapping_is_mapping_then_editing_by_the_transported_direction() -> None:
    fitted = LinearMap(normal(DIM, 4, seed=2), normal(4, seed=3))
    codes, direction = normal(5, DIM), normal(1, DIM, seed=1)
    moved = fitted(codes) + transport_direction(direction, fitted)
    torch.testing.assert_close(fitted(codes + direction), moved, atol=1e-5, rtol=0)


@pytest.mark.parametrize("width", [DIM, 9])
def test_a_transported_hyperplane_divides_mapped_codes_alike(width: int) -> None:
    fitted = LinearMap(normal(DIM, width, seed=2), normal(width, seed=3))
    plane = Hyperplane(F.normalize(normal(1, DIM, seed=1), dim=1), 0.2)
    codes = normal(300, DIM)
    there = transport_hyperplane(plane, fitted)
    assert there.normal.norm().item() == pytest.approx(1.0, abs=1e-6)
    scores, mapped_scores = plane.distance(codes), there.distance(fitted(codes))
    ratio = mapped_scores / scores
    torch.testing.assert_close(ratio, ratio[:1].expand(300), atol=0, rtol=1e-2)
    # What displacements do, n M, is another direction unless M is orthogonal.
    assert F.cosine_similarity(there.normal, transport_direction(plane.normal, fitted)).item() < 0.95


def test_a_hyperplane_that_the_map_loses_is_refused() -> None:
    matrix = torch.diag(torch.tensor([0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="loses what this hyperplane divides by"):
        transport_hyperplane(Hyperplane(torch.tensor([[1.0, 0.0, 0.0]]), 0.0), LinearMap(matrix))


def test_pulling_back_through_an_exact_map_is_transport() -> None:
    matrix, bias = normal(DIM, DIM, seed=3), normal(DIM, seed=4)
    forwards = LinearMap(matrix, bias)
    plane = Hyperplane(F.normalize(normal(1, DIM), dim=1), 0.3)
    pulled = pull_back_hyperplane(plane, forwards.inverse())
    transported = transport_hyperplane(plane, forwards)
    torch.testing.assert_close(pulled.normal, transported.normal)
    assert pulled.offset == pytest.approx(transported.offset, abs=1e-5)
    codes = normal(50, DIM, seed=5)
    assert ((plane.distance(codes) > 0) == (pulled.distance(forwards(codes)) > 0)).all()


def test_what_the_target_forgets_and_adds_is_nothing_to_a_hyperplane_that_is_pulled_back() -> None:
    codes, noise = normal(4000, 3), normal(4000, 3, seed=1)
    # The target keeps number 0, and of number 1 a trace in much noise, which the pseudo-inverse would magnify.
    target = torch.stack([codes[:, 0], 0.02 * codes[:, 1] + noise[:, 1], noise[:, 2]], 1)
    equations = NormalEquations.of(codes, target)
    plane = Hyperplane(F.normalize(torch.tensor([[1.0, 1.0, 0.0]]), dim=1), 0.0)
    labels = plane.distance(codes) > 0
    fits = fit_least_squares(equations, affine=True).map, fit_least_squares(equations.reversed(), affine=True).map
    assert pull_back_hyperplane(plane, fits[1]).accuracy(target, labels) == pytest.approx(0.75, abs=0.03)
    assert transport_hyperplane(plane, fits[0]).accuracy(target, labels) < 0.6


def test_a_map_back_that_tells_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="tells nothing of what this hyperplane divides by"):
        pull_back_hyperplane(
            Hyperplane(torch.tensor([[1.0, 0.0]]), 0.0), LinearMap(torch.tensor([[0.0, 1.0], [0.0, 2.0]]))
        )


def test_interfacegan_boundaries_are_read_from_npy_files_and_code_is_not(tmp_path: Path) -> None:
    boundary = F.normalize(normal(1, DIM), dim=1)
    np.save(tmp_path / "smile.npy", boundary.double().numpy())
    assert torch.equal(read_direction(tmp_path / "smile.npy", DIM), boundary)
    np.save(tmp_path / "code.npy", np.array([Path("code")], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="holds no plain tensor, so it was not opened"):
        read_direction(tmp_path / "code.npy", DIM)
    np.save(tmp_path / "counts.npy", np.zeros((1, DIM), dtype=np.int64))
    with pytest.raises(ValueError, match="must hold one float tensor"):
        read_direction(tmp_path / "counts.npy", DIM)


@pytest.mark.parametrize("shape", [(1, 512), (512,)])
def test_boundaries_of_the_published_sizes_become_one_row(shape: tuple[int, ...], tmp_path: Path) -> None:
    boundary = normal(*shape).numpy()
    np.save(tmp_path / "boundary.npy", boundary)
    assert torch.equal(read_direction(tmp_path / "boundary.npy", 512), torch.from_numpy(boundary).reshape(1, 512))


@pytest.mark.parametrize("shape", [(18, 512), (1, 18, 512), (1, 18 * 512), (18 * 512,)])
def test_directions_of_all_layers_become_one_row(shape: tuple[int, ...], tmp_path: Path) -> None:
    direction = normal(*shape)
    np.save(tmp_path / "wplus.npy", direction.numpy())
    assert torch.equal(read_direction(tmp_path / "wplus.npy", 18 * 512, 18), direction.reshape(1, -1))


@pytest.mark.parametrize("shape", [(1, 512), (512,)])
def test_a_direction_of_w_is_the_same_in_every_layer_of_w_plus(shape: tuple[int, ...], tmp_path: Path) -> None:
    direction = normal(*shape)
    np.save(tmp_path / "w.npy", direction.numpy())
    read = read_direction(tmp_path / "w.npy", 14 * 512, 14)
    assert torch.equal(read.view(14, 512), direction.reshape(1, 512).expand(14, -1))


def test_directions_of_layers_need_a_space_that_has_them(tmp_path: Path) -> None:
    np.save(tmp_path / "wplus.npy", normal(18, 512).numpy())
    with pytest.raises(ValueError, match=r"shape \(1, 512\), a direction .* got \(18, 512\)"):
        read_direction(tmp_path / "wplus.npy", 512)
    with pytest.raises(ValueError, match=r"shape \(1, 7168\), \(14, 512\) or \(512,\), a direction"):
        read_direction(tmp_path / "wplus.npy", 14 * 512, 14)


def test_a_midway_hyperplane_lies_between_the_means_across_the_direction() -> None:
    present, absent = normal(50, DIM) + 2.0, normal(50, DIM, seed=1)
    direction = 3.0 * normal(1, DIM, seed=2)
    plane = midway_hyperplane(direction, present, absent)
    torch.testing.assert_close(plane.normal, F.normalize(direction, dim=1))
    assert plane.distance((present.mean(0, keepdim=True) + absent.mean(0)) / 2).item() == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="needs a direction, got one of length 0"):
        midway_hyperplane(torch.zeros(1, DIM), present, absent)


class _Styled(nn.Module):
    """Two dense layers and a convolution read the latent, a further one reads something else."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.other = nn.Linear(DIM, 4), nn.Linear(DIM, 3)
        self.first = nn.ConvTranspose2d(DIM, 2, 2)
        self.later = nn.Linear(4, DIM)

    def forward(self, latents: Tensor) -> Tensor:
        return (
            self.later(self.dense(latents)) + self.other(latents).mean() + self.first(latents[..., None, None]).mean()
        )


def test_layers_that_read_the_latent_are_found_with_their_matrices() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = _Styled()
    found = reading_weights(decoder, decoder, normal(1, DIM))
    expected = [decoder.dense.weight, decoder.other.weight, decoder.first.weight.flatten(1).T]
    assert len(found) == 3
    for one, weight in zip(found, expected, strict=True):
        torch.testing.assert_close(one, weight.detach().double(), rtol=0, atol=1e-6)


def test_a_decoder_that_changes_its_latents_first_has_no_layer_that_reads_them() -> None:
    dense = nn.Linear(DIM, 4)
    assert reading_weights(dense, lambda latents: dense(2.0 * latents), normal(1, DIM)) == []


def test_bad_codes_and_labels_are_refused_in_one_sentence() -> None:
    codes, labels, _ = divided(20)
    with pytest.raises(ValueError, match="all 20 labels are yes"):
        support_vector_normal(codes, torch.ones(20))
    with pytest.raises(ValueError, match="got 20 codes and 19 labels"):
        logistic_normal(codes, labels[1:])
    codes[0, 0] = torch.inf
    with pytest.raises(ValueError, match="1 of 20 codes are not finite"):
        support_vector_normal(codes, labels)
