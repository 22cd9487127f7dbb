"""Memorisation: copies, closed forms, independent computation, intervals, bad input."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from latent_lab.metrics import AlreadyExtracted, Memorisation
from latent_lab.metrics.functional import (
    authentic_percent,
    authentic_percent_interval,
    frechet_distance,
    memorisation_distance,
    memorisation_distance_interval,
    memorisation_informed_frechet,
    memorisation_informed_frechet_interval,
    moments,
)


def cloud(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("positive", [False, True])
def test_the_distance_is_the_mean_over_generated_vectors_of_the_smallest_cosine_distance(positive: bool) -> None:
    training, fake = cloud(40, 6), cloud(30, 6, 1)
    if positive:
        training, fake = training.abs(), fake.abs()
    unit = lambda x: x.double() / x.double().norm(dim=1, keepdim=True)  # noqa: E731
    expected = (1.0 - (unit(fake) @ unit(training).T).abs()).min(1).values.mean()
    assert memorisation_distance(training, fake) == pytest.approx(expected.item(), rel=1e-9)


def test_one_copied_image_of_three_counts_a_third_whatever_was_not_copied() -> None:
    training = torch.eye(10)[:3]
    # Two generated vectors are orthogonal to all of the training set, one is a (scaled) copy.
    fake = torch.stack([2.0 * torch.eye(10)[0], torch.eye(10)[5], torch.eye(10)[6]])
    assert memorisation_distance(training, fake) == pytest.approx(2 / 3)
    # All copies of one training vector: all of them are memorised, though most training vectors are not found.
    assert memorisation_distance(training, training[:1].repeat(4, 1)) == 0.0


def test_copies_are_at_distance_zero_to_the_last_digit_and_zero_vectors_at_one() -> None:
    training = cloud(50, 30)
    assert memorisation_distance(training, -training[:9]) == 0.0
    assert memorisation_distance(training, torch.zeros(2, 30)) == 1.0
    assert memorisation_distance(torch.zeros(2, 30), training) == 1.0
    # A zero vector among the training vectors is no nearer than one at right angles.
    assert memorisation_distance(torch.eye(3)[:2] * torch.tensor([[1.0], [0.0]]), torch.eye(3)[2:]) == pytest.approx(
        1.0
    )


def test_only_distances_below_the_threshold_are_punished() -> None:
    training, fake = cloud(60, 4), cloud(50, 4, 1)
    plain = frechet_distance(moments(training), moments(fake)).value
    distance = memorisation_distance(training, fake)
    punished = memorisation_informed_frechet(training, fake, threshold=distance * 1.01)
    assert punished.value == pytest.approx(plain / distance)
    assert (punished.frechet, punished.distance) == (plain, distance)
    assert memorisation_informed_frechet(training, fake, threshold=distance * 0.99).value == plain


def test_authenticity_is_that_of_scikit_learns_neighbours() -> None:
    training, fake = cloud(80, 5), cloud(60, 5, 1)
    search = NearestNeighbors(n_neighbors=1).fit(training.double().numpy())
    distances, places = search.kneighbors(fake.double().numpy())
    own = search.kneighbors()[0][:, 0]
    expected = 100.0 * (distances[:, 0] > own[places[:, 0]]).mean()
    assert authentic_percent(training, fake) == pytest.approx(expected)


def test_new_points_on_a_line_are_authentic_one_time_in_three() -> None:
    # A new point and its nearest neighbour are nearest to each other with probability 2/3 in one dimension.
    found = authentic_percent(cloud(3000, 1), cloud(3000, 1, 1))
    assert found == pytest.approx(100 / 3, abs=4.0)  # several errors of 3000 dependent draws


def test_copies_are_not_authentic_even_of_images_that_occur_twice() -> None:
    training = cloud(20, 5)
    assert authentic_percent(training, training[:7]) == 0.0
    assert authentic_percent(training.repeat(2, 1), training[:7]) == 0.0
    assert authentic_percent(training, training[:7] + 100.0) == 100.0


def test_intervals_hold_the_values_and_move_with_the_same_drawn_images() -> None:
    training, fake = cloud(150, 4), cloud(120, 4, 1) + 1.0
    distance = memorisation_distance_interval(training, fake)
    assert distance.low < memorisation_distance(training, fake) < distance.high
    percent = authentic_percent_interval(training, fake)
    assert percent.low < authentic_percent(training, fake) < percent.high
    for threshold in (0.0, 1.0):
        interval = memorisation_informed_frechet_interval(training, fake, threshold=threshold)
        value = memorisation_informed_frechet(training, fake, threshold=threshold).value
        assert interval.low < value < interval.high


def test_the_interval_is_as_wide_as_repeated_draws_spread() -> None:
    draw = lambda seed: (cloud(200, 4, 2 * seed), cloud(150, 4, 2 * seed + 1) + 0.7)  # noqa: E731
    values = torch.tensor([memorisation_informed_frechet(*draw(seed), threshold=1.0).value for seed in range(100)])
    intervals = [memorisation_informed_frechet_interval(*draw(seed), threshold=1.0) for seed in range(10)]
    widths = torch.tensor([interval.high - interval.low for interval in intervals])
    # Not resampled: that other training images would be nearest. 100 draws know a deviation to 7 %.
    assert widths.mean().item() == pytest.approx(3.92 * values.std().item(), rel=0.3)


def test_the_metric_is_the_functions_of_rows_in_the_order_of_their_indices() -> None:
    training, fake = cloud(60, 8), cloud(50, 8, 1)
    metric = Memorisation(AlreadyExtracted(8), threshold=0.9)
    for part in torch.randperm(60, generator=torch.Generator().manual_seed(2)).split(17):
        metric.update(training[part], part, real=True)
    metric.update(fake, torch.arange(50), real=False)
    metric.update(fake[:9], torch.arange(9), real=False)
    expected = {
        "memorisation_informed_frechet": memorisation_informed_frechet(training, fake, threshold=0.9).value,
        "memorisation_distance": memorisation_distance(training, fake),
        "authentic_percent": authentic_percent(training, fake),
    }
    assert {name: value.item() for name, value in metric.compute().items()} == pytest.approx(expected)
    intervals = metric.interval(seed=1)
    assert intervals == {
        "memorisation_informed_frechet": memorisation_informed_frechet_interval(training, fake, threshold=0.9, seed=1),
        "memorisation_distance": memorisation_distance_interval(training, fake, seed=1),
        "authentic_percent": authentic_percent_interval(training, fake, seed=1),
    }


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"vectors of one width, got 2 .training. and 3 .fake."):
        memorisation_distance(torch.ones(4, 2), torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"at least 1 vectors in each set, got 0 .training. and 4 .fake."):
        memorisation_distance(torch.ones(0, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="at least 2 training vectors, got 1"):
        authentic_percent(torch.ones(1, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="fake vectors must be finite"):
        authentic_percent(torch.ones(4, 2), torch.full((4, 2), torch.nan))
    with pytest.raises(ValueError, match=r"needs at least 2 vectors in each set, got 4 .training. and 1 .fake."):
        memorisation_informed_frechet(torch.ones(4, 2), torch.ones(1, 2))
