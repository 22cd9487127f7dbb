"""Perceptual path length: the original program's great circles and the lengths that it keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latent_lab.latent.spaces import GaussianDirections, Hypersphere
from latent_lab.metrics.functional import trimmed_mean


@pytest.fixture(scope="module")
def golden(automodulator_golden) -> dict[str, np.ndarray]:
    return automodulator_golden("metrics_helpers")


def test_the_mean_is_of_the_lengths_between_the_original_percentiles(golden):
    lengths = torch.from_numpy(golden["ppl_dist"])
    assert trimmed_mean(lengths) == pytest.approx(float(golden["ppl_value"]), rel=1e-12)
    kept = lengths[(lengths >= float(golden["ppl_lo"])) & (lengths <= float(golden["ppl_hi"]))]
    assert trimmed_mean(lengths) == pytest.approx(kept.mean().item(), rel=1e-12)


@pytest.mark.parametrize("space", [Hypersphere, GaussianDirections])
def test_paths_in_z_are_the_original_great_circles_up_to_length(golden, space):
    a, b, t = (torch.from_numpy(golden[f"slerp_{name}"]) for name in "abt")
    # The original normalises its ends and its result; only directions matter to a network that normalises latents.
    a, b = (torch.nn.functional.normalize(ends, dim=1) for ends in (a, b))
    path = torch.nn.functional.normalize(space(8).interpolate(a, b, t[:, 0]), dim=1)
    torch.testing.assert_close(path, torch.from_numpy(golden["slerp_y"]), rtol=0, atol=1e-9)
