"""Precision, recall, density and coverage: extremes, definitions, independent programs, bad input."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from latent_lab.metrics import AlreadyExtracted, DensityCoverage, ManifoldOverlap, PrecisionRecall
from latent_lab.metrics.functional import (
    density_coverage,
    density_coverage_interval,
    manifold_indicators,
    precision_recall,
    precision_recall_interval,
)


def cloud(count: int, width: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * scale + shift


def test_disjoint_blobs_share_nothing() -> None:
    real, fake = cloud(80, 6), cloud(70, 6, 1, shift=100.0)
    assert precision_recall(real, fake) == (0.0, 0.0)
    assert density_coverage(real, fake) == (0.0, 0.0)


def test_equal_sets_share_everything() -> None:
    real = cloud(80, 6)
    assert precision_recall(real, real.clone()) == (1.0, 1.0)
    found = density_coverage(real, real.clone())
    assert found.coverage == 1.0
    # Each ball holds its own centre and the k neighbours it reaches to, the farthest exactly on its surface.
    assert found.density == pytest.approx(6 / 5)


def test_a_collapsed_generator_is_precise_and_recalls_nothing() -> None:
    real = cloud(200, 4)
    found = precision_recall(real, real[:1].repeat(50, 1))
    assert found == (1.0, 1 / 200)


def test_a_vector_exactly_at_the_radius_is_inside() -> None:
    real = torch.tensor([[0.0, 0.0], [3.0, 4.0], [30.0, 40.0]])
    fake = torch.tensor([[-4.0, -3.0], [1e6, 0.0], [-1e6, 0.0]])
    assert precision_recall(real, fake, k=1).precision == pytest.approx(1 / 3)
    further = torch.tensor([[-4.0, -3.00001], [1e6, 0.0], [-1e6, 0.0]])
    assert precision_recall(real, further, k=1).precision == 0.0


def by_scikit_learn(real: torch.Tensor, fake: torch.Tensor, k: int, density_k: int) -> tuple[float, ...]:
    a, b = real.double().numpy(), fake.double().numpy()
    search = lambda points: NearestNeighbors(algorithm="kd_tree").fit(points)  # noqa: E731
    radius = lambda points, k: search(points).kneighbors(n_neighbors=k)[0][:, -1]  # noqa: E731
    # Row j, column i: the distance of fake j and real i.
    across = NearestNeighbors(n_neighbors=len(a), algorithm="brute").fit(a).kneighbors_graph(b, mode="distance")
    across = across.toarray()
    in_real, in_fake = across <= radius(a, k)[None], across <= radius(b, k)[:, None]
    in_dense = across <= radius(a, density_k)[None]
    return (
        in_real.any(1).mean(),
        in_fake.any(0).mean(),
        in_dense.sum(1).mean() / density_k,
        in_dense.any(0).mean(),
    )


@pytest.mark.parametrize(("k", "density_k"), [(3, 5), (4, 2)])
@pytest.mark.parametrize("width", [2, 7, 100])
def test_all_four_are_those_of_scikit_learns_neighbours(width: int, k: int, density_k: int) -> None:
    real, fake = cloud(130, width), cloud(110, width, 1, scale=0.9, shift=0.1)
    found = manifold_indicators(real, fake, k=k, density_k=density_k)
    ours = [values.double().mean().item() for values in found]
    assert ours == pytest.approx(by_scikit_learn(real, fake, k, density_k), abs=1e-12)


def test_precision_and_recall_agree_with_torch_fidelity() -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_prc")
    real, fake = cloud(300, 24).double(), cloud(250, 24, 1, scale=0.95).double()
    theirs = fidelity.prc_features_to_metric(
        fake, real, prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=False, verbose=False
    )
    found = precision_recall(real, fake)
    # Their means are of float32 indicators.
    assert found.precision == pytest.approx(theirs["precision"], abs=1e-6)
    assert found.recall == pytest.approx(theirs["recall"], abs=1e-6)


def test_blocks_change_nothing() -> None:
    real, fake = cloud(90, 5), cloud(80, 5, 1)
    for whole, pieces in zip(manifold_indicators(real, fake), manifold_indicators(real, fake, block=11), strict=True):
        assert torch.equal(whole, pieces)


def test_clusters_that_float32_cannot_resolve_are_told_apart() -> None:
    centres = torch.where(torch.arange(120) % 2 == 0, 50.0, -50.0)[:, None]
    real, fake = cloud(120, 10) * 1e-5 + centres, cloud(120, 10, 1) * 1e-5 + centres
    ours = [values.double().mean().item() for values in manifold_indicators(real, fake)]
    across = (fake.double()[:, None] - real.double()).square().sum(2).sqrt()
    radius = lambda x, k: (x.double()[:, None] - x.double()).square().sum(2).sqrt().sort(1).values[:, k]  # noqa: E731
    assert ours[0] == (across <= radius(real, 3)).any(1).double().mean()
    assert ours[1] == (across <= radius(fake, 3)[:, None]).any(0).double().mean()
    assert ours[2] == pytest.approx((across <= radius(real, 5)).double().sum(1).mean().item() / 5)
    assert ours[3] == (across <= radius(real, 5)).any(0).double().mean()


def test_two_draws_of_one_distribution_have_the_expected_density_and_coverage() -> None:
    found = density_coverage(cloud(1500, 3), cloud(1500, 3, 1))
    # Naeem et al.: density 1, coverage 1 - 2^-5 for equal counts; both within three errors of 1500 draws.
    assert found.density == pytest.approx(1.0, abs=0.1)
    assert found.coverage == pytest.approx(1 - 2**-5, abs=0.015)


def test_intervals_hold_the_values_and_the_seed_decides_them() -> None:
    real, fake = cloud(200, 8), cloud(150, 8, 1)
    for intervals, values in (
        (precision_recall_interval(real, fake, seed=3), precision_recall(real, fake)._asdict()),
        (density_coverage_interval(real, fake, seed=3), density_coverage(real, fake)._asdict()),
    ):
        assert intervals.keys() == values.keys()
        for name, value in values.items():
            assert intervals[name].low <= value <= intervals[name].high
    again = precision_recall_interval(real, fake, seed=3)
    assert again == precision_recall_interval(real, fake, seed=3)
    assert again != precision_recall_interval(real, fake, seed=4)


def test_the_metrics_are_the_functions_of_rows_in_the_order_of_their_indices() -> None:
    real, fake = cloud(60, 8), cloud(50, 8, 1)
    metrics = [kind(AlreadyExtracted(8)) for kind in (PrecisionRecall, DensityCoverage, ManifoldOverlap)]
    for metric in metrics:
        for part in torch.randperm(60, generator=torch.Generator().manual_seed(2)).split(17):
            metric.update(real[part], part, real=True)
        metric.update(fake, torch.arange(50), real=False)
        metric.update(fake[:9], torch.arange(9), real=False)
    expected = precision_recall(real, fake)._asdict() | density_coverage(real, fake)._asdict()
    computed = [{name: value.item() for name, value in metric.compute().items()} for metric in metrics]
    assert computed[0] | computed[1] == computed[2] == pytest.approx(expected)
    intervals = metrics[2].interval(seed=1)
    assert intervals == dict(metrics[0].interval(seed=1)) | dict(metrics[1].interval(seed=1))
    assert intervals["recall"] == precision_recall_interval(real, fake, seed=1)["recall"]


@pytest.mark.parametrize(
    ("real", "fake", "sentence"),
    [
        (torch.zeros(3, 2), torch.zeros(9, 2), "at least 4 vectors in each set, got 3 .real. and 9 .fake."),
        (torch.zeros(9, 2), torch.zeros(9, 4), "vectors of one width, got 2 .real. and 4 .fake."),
        (torch.zeros(9, 2), torch.full((9, 2), torch.inf), "fake vectors must be finite"),
    ],
)
def test_bad_input_gets_one_sentence(real: torch.Tensor, fake: torch.Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        precision_recall(real, fake)


def test_no_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        density_coverage(torch.zeros(9, 2), torch.zeros(9, 2), k=0)
