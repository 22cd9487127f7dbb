"""Principal components of streams: against scikit-learn, and between methods."""

from __future__ import annotations

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from latent_lab.metrics.functional import fix_signs, principal_axes


def features(n: int, width: int, seed: int = 0) -> Tensor:
    """Correlated, with a falling spectrum."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, width, generator=rng, dtype=torch.float64) * 0.9 ** torch.arange(width)
    return rows @ torch.linalg.qr(torch.randn(width, width, generator=rng, dtype=torch.float64)).Q + 3.0


@pytest.mark.parametrize("method", ["covariance", "randomised"])
def test_agrees_with_scikit_learn(method: str) -> None:
    rows = features(400, 60)
    theirs = PCA(6, svd_solver="full").fit(rows.numpy())
    ours = principal_axes(rows.split(90), 6, method=method)
    # Randomised axes converge by the ratio of variances to the power of the passes; here to 1e-8.
    rtol = 1e-9 if method == "covariance" else 1e-6
    torch.testing.assert_close(ours.mean, torch.from_numpy(theirs.mean_))
    torch.testing.assert_close(ours.variances, torch.from_numpy(theirs.explained_variance_), rtol=rtol, atol=0)
    torch.testing.assert_close(ours.explained, torch.from_numpy(theirs.explained_variance_ratio_), rtol=rtol, atol=0)
    torch.testing.assert_close(ours.axes, fix_signs(torch.from_numpy(theirs.components_)), rtol=0, atol=rtol * 10)
    assert ours.num_vectors == 400


@pytest.mark.parametrize("method", ["covariance", "randomised"])
def test_batches_do_not_matter_and_signs_are_fixed(method: str) -> None:
    rows = features(200, 40)
    whole = principal_axes([rows], 5, method=method)
    parts = principal_axes(rows.split(7), 5, method=method)
    torch.testing.assert_close(parts.axes, whole.axes, rtol=0, atol=1e-8)
    flipped = principal_axes([-rows], 5, method=method)
    torch.testing.assert_close(flipped.axes, whole.axes, rtol=0, atol=1e-8)
    largest = whole.axes.gather(1, whole.axes.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_a_mean_far_from_the_deviation_costs_no_digits() -> None:
    rows = features(300, 10)
    near, far = principal_axes([rows], 3), principal_axes([rows + 1e6], 3)
    # A float64 beside a million holds 1e-10.
    torch.testing.assert_close(far.variances, near.variances, rtol=1e-8, atol=0)


def test_projections_and_their_reconstruction() -> None:
    rows = features(100, 12)
    axes = principal_axes([rows], 12)
    coordinates = axes.project(rows)
    torch.testing.assert_close(coordinates.var(0), axes.variances)
    torch.testing.assert_close(axes.reconstruct(coordinates), rows)
    assert axes.explained.sum().item() == pytest.approx(1.0)
    assert axes.project(rows.float()).dtype == torch.float32


def test_fewer_vectors_than_coordinates() -> None:
    rows = features(20, 50)
    exact = principal_axes([rows], 19)
    quick = principal_axes([rows], 19, method="randomised")
    torch.testing.assert_close(quick.variances, exact.variances, rtol=1e-8, atol=0)
    with pytest.raises(ValueError, match="20 vectors of width 50 have 1 to 19 principal components, got 20"):
        principal_axes([rows], 20)


def test_wide_float32_features_need_no_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys.modules["latent_lab.metrics.functional.principal"], "WIDEST_COVARIANCE", 30)
    rows = features(300, 40).float()
    found = principal_axes(rows.split(100), 4)
    exact = principal_axes([rows], 4, method="covariance")
    # Subspace iteration runs in float32; variances are of the axes that it finds, in float64.
    torch.testing.assert_close(found.variances, exact.variances, rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="gone over several times: give a list of batches"):
        principal_axes(iter(rows.split(100)), 4)


def test_an_iterator_is_enough_for_one_pass() -> None:
    rows = features(50, 5)
    assert torch.equal(principal_axes(iter([rows]), 2).axes, principal_axes([rows], 2).axes)


def test_what_cannot_be_fitted_is_said() -> None:
    rows = features(20, 5)
    with pytest.raises(ValueError, match="at least 2 feature vectors, got none"):
        principal_axes([], 1)
    with pytest.raises(ValueError, match="at least 2 feature vectors, got 1"):
        principal_axes([rows[:1]], 1)
    with pytest.raises(ValueError, match="batches of width 5 and 4"):
        principal_axes([rows, rows[:, :4]], 1)
    with pytest.raises(ValueError, match="needs finite features"):
        principal_axes([rows * float("nan")], 1)
    with pytest.raises(ValueError, match="give a list, no iterator"):
        principal_axes(iter([rows]), 1, method="randomised")
    with pytest.raises(ValueError, match="width 5, got features of width 4"):
        principal_axes([rows], 1).project(rows[:, :4])


def test_constant_features_explain_nothing() -> None:
    found = principal_axes([torch.ones(10, 3)], 2)
    assert found.explained.tolist() == [0.0, 0.0]
