"""Maps between latent spaces: closed forms, sums over batches, descent, residual networks, files, bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from latent_lab.latent.maps import (
    Fit,
    LinearMap,
    NormalEquations,
    ResidualMap,
    fit_by_descent,
    fit_least_squares,
    fit_orthogonal,
    fit_published,
    fit_residual,
    fit_ridge,
    load_map,
    minibatches,
    save_map,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(dim: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(dim, dim, seed=seed))[0]


def noisy_pairs(count: int = 300) -> tuple[Tensor, Tensor]:
    source = normal(count, 6) * torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 0.1]) + 2.0
    return source, source @ normal(6, 4, seed=1) + 0.3 * normal(count, 4, seed=2) + 1.0


def test_least_squares_agrees_with_a_factorisation_of_the_codes_themselves() -> None:
    source, target = noisy_pairs()
    fit = fit_least_squares(NormalEquations.of(source, target))
    torch.testing.assert_close(fit.map.matrix, torch.linalg.lstsq(source, target).solution, rtol=1e-10, atol=1e-11)
    assert not fit.map.bias.any()
    singular = torch.linalg.svdvals(source)
    assert fit.condition == pytest.approx((singular[0] / singular[-1]).item(), rel=1e-9)
    assert fit.rank == 6
    assert fit.mean_squared_error == pytest.approx((target - fit.map(source)).square().mean().item(), rel=1e-9)


def test_an_affine_map_is_least_squares_with_a_column_of_ones() -> None:
    source, target = noisy_pairs()
    fit = fit_least_squares(NormalEquations.of(source, target), affine=True)
    solution = torch.linalg.lstsq(torch.cat([source, source.new_ones(len(source), 1)], 1), target).solution
    torch.testing.assert_close(fit.map.matrix, solution[:-1], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(fit.map.bias, solution[-1], rtol=1e-9, atol=1e-10)
    explained = 1 - (target - fit.map(source)).square().sum() / (target - target.mean(0)).square().sum()
    assert fit.explained_share == pytest.approx(explained.item(), rel=1e-9)


def test_batches_shares_and_large_means_give_the_equations_of_the_whole() -> None:
    source, target = noisy_pairs()
    whole = NormalEquations.of(source, target)
    parts = [NormalEquations(6, 4) for _ in range(3)]
    for number, rows in enumerate(torch.arange(300).split(37)):
        parts[number % 2].add(source[rows], target[rows])
    parts[2].add(source[:0], target[:0])
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0].num_pairs == 300
    torch.testing.assert_close(parts[0].source_scatter, whole.source_scatter, rtol=1e-12, atol=1e-10)
    # Raw sums of squares would lose 12 of 16 digits to a mean of 10^6.
    far = NormalEquations.of(source + 1e6, target)
    torch.testing.assert_close(far.source_scatter, whole.source_scatter, rtol=1e-8, atol=1e-6)


def test_the_reversed_equations_are_those_of_exchanged_pairs() -> None:
    source, target = noisy_pairs()
    there = fit_least_squares(NormalEquations.of(target, source))
    back = fit_least_squares(NormalEquations.of(source, target).reversed())
    torch.testing.assert_close(back.map.matrix, there.map.matrix, rtol=1e-10, atol=1e-11)


def test_a_rotated_copy_of_a_space_maps_back_exactly_by_every_kind_of_map() -> None:
    source = normal(2000, 16) * torch.linspace(0.5, 2.0, 16)
    target = 3.0 * source @ rotation(16) + normal(16, seed=5)
    train, test = NormalEquations.of(source[:1000], target[:1000]), slice(1000, None)
    variance = (target[test] - target[test].mean(0)).square().mean()
    fits = {
        "affine": fit_least_squares(train, affine=True),
        "ridge": fit_ridge(train, 1e-6, affine=True),
        "orthogonal": fit_orthogonal(train),
    }
    for name, fit in fits.items():
        explained = 1 - (target[test] - fit.map(source[test])).square().mean() / variance
        assert explained > 0.999, name
    torch.testing.assert_close(fits["orthogonal"].map.matrix, 3.0 * rotation(16), rtol=0, atol=1e-10)


def test_ridge_is_least_squares_of_codes_to_which_the_penalty_was_appended() -> None:
    source, target = noisy_pairs()
    appended = torch.cat([source, (300 * 0.2) ** 0.5 * torch.eye(6, dtype=torch.float64)])
    expected = torch.linalg.lstsq(appended, torch.cat([target, target.new_zeros(6, 4)])).solution
    fit = fit_ridge(NormalEquations.of(source, target), 0.2)
    torch.testing.assert_close(fit.map.matrix, expected, rtol=1e-10, atol=1e-11)


def test_the_published_objective_has_no_gradient_at_its_minimiser() -> None:
    source, target = noisy_pairs()
    matrix = fit_published(NormalEquations.of(source, target), kernel_penalty=1e-3, activity_penalty=2e-3).map.matrix
    matrix.requires_grad_()
    mapped = source @ matrix
    loss = (target - mapped).square().mean() + 1e-3 * matrix.square().sum() + 2e-3 / 300 * mapped.square().sum()
    (gradient,) = torch.autograd.grad(loss, matrix)
    assert gradient.abs().max() < 1e-10


def test_collapsed_coordinates_lower_the_rank_and_are_mapped_to_nothing() -> None:
    source, target = noisy_pairs()
    source[:, 2] = 0.0
    fit = fit_least_squares(NormalEquations.of(source, target))
    assert fit.rank == 5
    assert fit.map.matrix[2].abs().max() < 1e-12
    doubled = torch.cat([source, source], 1).float()  # float32 copies: equal to the last bit, or nearly so
    again = fit_least_squares(NormalEquations.of(doubled, target.float()))
    assert again.rank == 5
    assert again.mean_squared_error == pytest.approx(fit.mean_squared_error, rel=1e-5)


def test_narrow_and_wide_orthogonal_maps_have_orthonormal_rows_or_columns() -> None:
    source, target = noisy_pairs()
    down = fit_orthogonal(NormalEquations.of(source, target), scaled=False).map.matrix
    up = fit_orthogonal(NormalEquations.of(target, source), scaled=False).map.matrix
    torch.testing.assert_close(down.T @ down, torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(up @ up.T, torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)


def test_descent_comes_near_the_closed_form_of_the_published_objective() -> None:
    source = normal(100, 4).float()
    target = source @ normal(4, 3, seed=1).float() + 0.3 * normal(100, 3, seed=2).float()
    exact = fit_published(NormalEquations.of(source, target)).map.matrix

    def descended() -> Tensor:
        pairs = minibatches(source, target, batch_size=100, steps=250)
        return fit_by_descent(pairs, learning_rate=0.02).matrix

    assert (descended() - exact).norm() / exact.norm() < 0.03
    assert torch.equal(descended(), descended())


def test_minibatches_show_every_pair_before_any_comes_again() -> None:
    source = torch.arange(12.0)[:, None]
    pairs = list(minibatches(source, -source, batch_size=5, steps=5))
    assert [len(one) for one, _ in pairs] == [5] * 5
    for first in (0, 2):
        assert len(torch.cat([pairs[first][0], pairs[first + 1][0]]).unique()) == 10
    assert all(torch.equal(one, -other) for one, other in pairs)
    ((whole, _),) = minibatches(source, -source, batch_size=100, steps=1)
    assert len(whole) == 12


def test_a_residual_network_learns_what_is_not_linear_and_nothing_where_all_is() -> None:
    source = normal(2000, 4).float()
    linear_part = source @ normal(4, 3, seed=1).float()
    noise = 0.3 * normal(2000, 3, seed=3).float()
    settings = {"steps": 300, "width": 32, "batch_size": 128, "learning_rate": 5e-3}
    for bend, gains in ((1.0, True), (0.0, False)):
        target = linear_part + bend * source[:, :3].square() + noise
        linear = fit_least_squares(NormalEquations.of(source[:1500], target[:1500]), affine=True).map
        residual = fit_residual(
            source[:1500], target[:1500], linear, steps=300, width=32, batch_size=128, learning_rate=5e-3
        )
        errors = [(target[1500:] - map_(source[1500:])).square().mean().item() for map_ in (linear, residual)]
        if gains:
            assert errors[1] < 0.5 * errors[0]
        else:
            assert errors[1] == pytest.approx(errors[0], rel=0.05)
    again = fit_residual(source[:1500], target[:1500], linear, **settings)
    assert torch.equal(again(source), residual(source))


def test_an_inverse_undoes_a_map_and_maps_can_be_chained() -> None:
    forward = LinearMap(normal(5, 5), normal(5, seed=1))
    points = normal(7, 5, seed=2)
    torch.testing.assert_close(forward.inverse()(forward(points)), points, atol=1e-10, rtol=0)
    narrow = LinearMap(normal(5, 3, seed=3))
    torch.testing.assert_close(forward.then(narrow)(points), narrow(forward(points)), atol=1e-12, rtol=0)
    # Of a map to fewer coordinates, the pseudo-inverse is undone by the map.
    codes = normal(7, 3, seed=4)
    torch.testing.assert_close(narrow(narrow.inverse()(codes)), codes, atol=1e-12, rtol=0)


def test_maps_keep_the_dtype_of_codes() -> None:
    assert LinearMap(normal(5, 3))(normal(2, 5).float()).dtype == torch.float32


def test_saved_maps_come_back_with_their_facts(tmp_path: Path) -> None:
    source, target = normal(50, 4).float(), normal(50, 3, seed=1).float()
    linear = fit_least_squares(NormalEquations.of(source, target), affine=True).map
    residual = fit_residual(source, target, linear, steps=20, width=8)
    for number, fitted in enumerate((linear, residual)):
        path = tmp_path / f"{number}.safetensors"
        save_map(path, fitted, {"source": "a", "target": "b"})
        loaded, facts = load_map(path)
        assert facts["source"] == "a"
        assert torch.equal(loaded(source), fitted(source))
        assert isinstance(loaded, LinearMap if number == 0 else ResidualMap)
    assert {path.name for path in tmp_path.iterdir()} == {"0.safetensors", "1.safetensors"}


def test_files_that_hold_no_map_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no map at"):
        load_map(tmp_path / "absent.safetensors")
    save_file({"direction": torch.zeros(1, 4)}, tmp_path / "direction.safetensors")
    with pytest.raises(ValueError, match="holds direction, which is no map"):
        load_map(tmp_path / "direction.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors here")
    with pytest.raises(ValueError, match="no safetensors file"):
        load_map(tmp_path / "text.safetensors")


def fit(source: Tensor, target: Tensor) -> Fit:
    return fit_least_squares(NormalEquations.of(source, target))


def test_bad_pairs_are_refused_in_one_sentence() -> None:
    source, target = noisy_pairs()
    with pytest.raises(ValueError, match="5 pairs do not determine a map from 6 coordinates: give at least 6 pairs"):
        fit(source[:5], target[:5])
    assert fit_least_squares(NormalEquations.of(source[:5], target[:5]), minimum_norm=True).rank == 5
    assert fit_ridge(NormalEquations.of(source[:5], target[:5]), 0.1).num_pairs == 5
    with pytest.raises(ValueError, match=r"got \(300, 6\) and \(299, 4\): encode the same images with both"):
        fit(source, target[1:])
    broken = target.clone()
    broken[3, 1] = torch.nan
    with pytest.raises(ValueError, match="1 of 300 codes of the target are not finite"):
        fit(source, broken)
    with pytest.raises(ValueError, match="all 300 codes of the target are equal: a space that has collapsed"):
        fit(source, torch.full_like(target, 0.1))
    with pytest.raises(ValueError, match="needs pairs of codes, got none"):
        fit_least_squares(NormalEquations(6, 4))
    with pytest.raises(ValueError, match="at least 2 pairs of codes, got 1"):
        fit_ridge(NormalEquations.of(source[:1], target[:1]), 0.1)
    with pytest.raises(ValueError, match="of 6 and 4 coordinates, got codes of 4 and 6"):
        NormalEquations(6, 4).add(target, source)
    with pytest.raises(ValueError, match="penalty must be positive, got 0"):
        fit_ridge(NormalEquations.of(source, target), 0)
    with pytest.raises(ValueError, match="needs batches of pairs, got none"):
        fit_by_descent([])
