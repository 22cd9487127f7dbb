"""The linear baseline: fractions, paths of flat and round spaces, what is refused."""

from __future__ import annotations

import pytest
import torch

from latent_lab.latent.spaces import Gaussian, Hypersphere
from latent_lab.priors.linear_baseline import between, linear_fractions, linear_path, released_fractions
from tests.unit.priors.runs import normal


def test_the_line_ends_at_the_last_code_and_the_released_one_a_fifth_beyond() -> None:
    assert linear_fractions(1, 101).tolist() == pytest.approx([k / 20 for k in range(21)])
    assert released_fractions(1, 101)[-1].item() == pytest.approx(20 * 6 / 101)
    # The last frame lies between two decoded ones.
    assert linear_fractions(0, 12).tolist() == pytest.approx([0.0, 5 / 12, 10 / 12])


def test_between_two_codes_lies_the_spaces_own_path() -> None:
    a, b = normal(1, 4), normal(1, 4, seed=1)
    fractions = torch.tensor([0.0, 0.25, 1.0, 1.2], dtype=torch.float64)
    expected = a + fractions.unsqueeze(1) * (b - a)
    torch.testing.assert_close(between(Gaussian(4), a, b, fractions), expected)
    sphere = Hypersphere(4)
    path = between(sphere, sphere.project(a), sphere.project(b), fractions)
    torch.testing.assert_close(path.norm(dim=1), torch.ones(4, dtype=torch.float64))


def test_frames_lie_on_the_line_between_their_observed_neighbours() -> None:
    observed, codes = torch.tensor([10, 20, 40]), torch.tensor([[0.0], [1.0], [5.0]])
    frames = torch.tensor([10, 15, 20, 25, 40, 30])
    expected = torch.tensor([[0.0], [0.5], [1.0], [2.0], [5.0], [3.0]], dtype=torch.float64)
    torch.testing.assert_close(linear_path(Gaussian(1), observed, codes, frames), expected)


def test_frames_outside_the_observed_ones_have_the_nearest_code() -> None:
    codes = torch.tensor([[0.0], [1.0]])
    path = linear_path(Gaussian(1), torch.tensor([10, 20]), codes, torch.tensor([1, 9, 21, 100]))
    assert path.flatten().tolist() == [0.0, 0.0, 1.0, 1.0]


def test_bad_input_gets_a_sentence() -> None:
    space, codes = Gaussian(2), normal(3, 2)
    with pytest.raises(ValueError, match="3 observed frames need as many codes, got 2"):
        linear_path(space, torch.arange(3), codes[:2], torch.arange(3))
    with pytest.raises(ValueError, match="at least 2 observed frames, got 1"):
        linear_path(space, torch.arange(1), codes[:1], torch.arange(3))
    with pytest.raises(ValueError, match="must ascend, got 4 after 4"):
        linear_path(space, torch.tensor([1, 4, 4]), codes, torch.arange(3))
    with pytest.raises(ValueError, match="got first 5 and last 5"):
        linear_fractions(5, 5)
    with pytest.raises(ValueError, match="step must be at least 1, got 0"):
        released_fractions(1, 5, step=0)
