"""Kernel distance: definition, independent program, honest errors, no side effects."""

import pytest
import torch
from torch import nn

from latent_lab.metrics import AlreadyExtracted, KernelDistance
from latent_lab.metrics.functional import (
    full_kernel_distance,
    kernel_distance,
    kernel_distance_interval,
    polynomial_kernel,
)


def clouds(n: int, m: int, width: int = 8, seed: int = 0, shift: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=rng), torch.randn(m, width, generator=rng) + shift


def test_the_full_statistic_is_its_definition_written_out() -> None:
    x, y = clouds(5, 4)
    pair = lambda a, b: (a.double() @ b.double() / 8 + 1.0) ** 3  # noqa: E731
    expected = sum(pair(x[i], x[j]) for i in range(5) for j in range(5) if i != j) / 20
    expected += sum(pair(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
    expected -= 2 * sum(pair(a, b) for a in x for b in y) / 20
    assert full_kernel_distance(x, y).value == pytest.approx(expected.item(), rel=1e-10)


class Flatten(nn.Module):
    num_features = 12

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def test_agrees_with_torchmetrics_on_the_full_set() -> None:
    pytest.importorskip("torch_fidelity")
    from torchmetrics.image.kid import KernelInceptionDistance

    rng = torch.Generator().manual_seed(0)
    real, fake = torch.rand(60, 3, 2, 2, generator=rng), torch.rand(60, 3, 2, 2, generator=rng) ** 2
    theirs = KernelInceptionDistance(feature=Flatten(), subsets=1, subset_size=60)
    ours = KernelDistance(Flatten())
    for batch, is_real in ((real, True), (fake, False)):
        theirs.update(batch, real=is_real)
        ours.update(batch, torch.arange(60), real=is_real)
    assert ours.compute().item() == pytest.approx(theirs.compute()[0].item(), rel=1e-4)


def test_agrees_with_torch_fidelity_on_the_full_set() -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_kid")
    x, y = clouds(90, 90)
    # A subset as large as the set is the set, in another order.
    theirs = fidelity.kid_features_to_metric(x.double(), y.double(), kid_subsets=1, kid_subset_size=90, verbose=False)
    assert kernel_distance(x, y).value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)


def test_agrees_with_the_mean_over_torch_fidelitys_subsets_within_their_error() -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_kid")
    x, y = clouds(500, 400)
    theirs = fidelity.kid_features_to_metric(x.double(), y.double(), kid_subsets=60, kid_subset_size=50, verbose=False)
    # Subsets of one pair of sets estimate its full statistic; 60 of them overlap too little to matter.
    error = theirs["kernel_inception_distance_std"] / 60**0.5
    assert kernel_distance(x, y).value == pytest.approx(theirs["kernel_inception_distance_mean"], abs=3 * error)


@pytest.mark.parametrize(("shift", "widest"), [(0.3, 1.25), (0.0, 1.8)])
def test_the_interval_is_as_wide_as_repeated_draws_spread_and_wider_for_equal_distributions(
    shift: float, widest: float
) -> None:
    values = torch.tensor([kernel_distance(*clouds(100, 120, seed=seed, shift=shift)).value for seed in range(200)])
    intervals = [kernel_distance_interval(*clouds(100, 120, seed=seed, shift=shift)) for seed in range(20)]
    width = torch.tensor([interval.high - interval.low for interval in intervals]).mean().item()
    assert 0.8 < width / (3.92 * values.std().item()) < widest


def test_the_interval_of_large_sets_is_that_of_their_subsets() -> None:
    x, y = clouds(1200, 1000)
    value = kernel_distance(x, y, full_up_to=500, subset_size=50)
    interval = kernel_distance_interval(x, y, full_up_to=500, subset_size=50)
    assert interval.low < value.value < interval.high
    assert interval.high - interval.low == pytest.approx(3.92 * value.standard_error, rel=0.2)


def test_the_metrics_interval_is_that_of_its_rows() -> None:
    x, y = clouds(60, 50)
    metric = KernelDistance(AlreadyExtracted(8))
    metric.update(x, torch.arange(60), real=True)
    metric.update(y, torch.arange(50), real=False)
    assert metric.interval(seed=3) == kernel_distance_interval(x, y, seed=3)


def test_the_standard_error_is_the_deviation_over_repeated_draws() -> None:
    estimates = [full_kernel_distance(*clouds(100, 120, seed=seed)) for seed in range(200)]
    spread = torch.tensor([estimate.value for estimate in estimates]).std().item()
    predicted = torch.tensor([estimate.standard_error for estimate in estimates]).mean().item()
    assert predicted == pytest.approx(spread, rel=0.2)  # 200 draws know a deviation to about 5 %


def test_subsets_of_large_sets_estimate_the_same_with_a_similar_error() -> None:
    x, y = clouds(1200, 1000)
    full = kernel_distance(x, y)
    cut = kernel_distance(x, y, full_up_to=500, subset_size=100)
    assert cut.value == pytest.approx(full.value, abs=4 * cut.standard_error)
    assert 0.3 < cut.standard_error / full.standard_error < 5.0


def test_the_seed_decides_the_subsets_and_the_global_random_state_is_left_alone() -> None:
    x, y = clouds(300, 300)
    before = torch.random.get_rng_state()
    values = [kernel_distance(x, y, full_up_to=100, subset_size=50, seed=seed).value for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert torch.equal(before, torch.random.get_rng_state())


def test_kernel_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    module = sys.modules["latent_lab.metrics.functional.kernel"]
    x, y = clouds(50, 37)
    whole = full_kernel_distance(x, y)
    monkeypatch.setattr(module, "_BLOCK", 7)
    pieces = full_kernel_distance(x, y)
    assert pieces.value == pytest.approx(whole.value, rel=1e-10)
    assert pieces.standard_error == pytest.approx(whole.standard_error, rel=1e-8)


def test_kernel_of_unit_vectors_is_the_published_polynomial() -> None:
    assert polynomial_kernel(torch.ones(1, 4), torch.ones(1, 4)).item() == pytest.approx(8.0)


def test_an_index_counts_once_and_the_order_of_arrival_does_not_matter() -> None:
    x, y = clouds(20, 20)
    straight, shuffled = KernelDistance(AlreadyExtracted(8)), KernelDistance(AlreadyExtracted(8))
    straight.update(x, torch.arange(20), real=True)
    straight.update(y, torch.arange(20), real=False)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    for part in order.split(6):
        shuffled.update(x[part], part, real=True)
        shuffled.update(y[part], part, real=False)
    shuffled.update(x[:3], torch.arange(3), real=True)
    assert shuffled.compute().item() == straight.compute().item()


def test_a_single_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 2 vectors in each set, got 1 \(real\) and 5 \(fake\)"):
        kernel_distance(torch.zeros(1, 3), torch.zeros(5, 3))


def test_vectors_of_two_extractors_and_nan_are_refused() -> None:
    with pytest.raises(ValueError, match=r"compares vectors of one width, got 3 \(real\) and 4 \(fake\)"):
        kernel_distance(torch.zeros(5, 3), torch.zeros(5, 4))
    with pytest.raises(ValueError, match="fake vectors must be finite, got NaN or infinity in 5 of 5 rows"):
        kernel_distance(torch.zeros(5, 3), torch.full((5, 3), torch.nan))
