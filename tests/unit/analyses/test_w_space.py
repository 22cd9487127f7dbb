"""W as a latent space: the analyses run on a view of a StyleGAN as on any decoder with layers."""

from __future__ import annotations

import pytest
import torch

from latent_lab.analyses.evaluate import Evaluate
from latent_lab.analyses.interpolate import Interpolate
from latent_lab.analyses.mix import Mix
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.latent.inversion import InversionSettings, invert
from latent_lab.latent.views import Truncated, WSpaceView
from latent_lab.models import StyleGAN
from tests.unit.analyses.toys import Noise


@pytest.fixture(scope="module")
def model() -> StyleGAN:
    return StyleGAN(GrowthSchedule([Stage(16, 1.0, 8)]), latent_dim=6, widths=[8, 8, 4], mapping_layers=2).eval()


@pytest.fixture(scope="module")
def view(model: StyleGAN) -> WSpaceView:
    return WSpaceView(model, count=50)


def test_path_lengths_are_named_after_the_space_that_they_are_measured_in(model: StyleGAN, view: WSpaceView):
    evaluate = Evaluate(num_paths=8, metrics=("ppl",), perceptual="random_l2", num_pictures=2)
    source = Noise(4)
    in_z, in_w = evaluate(model, source).numbers, evaluate(view, source).numbers
    assert set(in_z) == {"ppl_z_end_random_l2"}
    assert set(in_w) == {"ppl_w_end_random_l2"}
    assert 0 < in_w["ppl_w_end_random_l2"] < float("inf")


def test_paths_and_mixtures_of_points_of_w(view: WSpaceView):
    assert Interpolate(pairs=2, steps=3)(view).numbers["largest_step_ratio"] >= 1
    assert Mix(num_sources=2, num_bases=2, num_pairs=4)(view).pictures


def test_full_truncation_leaves_no_paths(model: StyleGAN):
    evaluate = Evaluate(num_paths=8, metrics=("ppl",), perceptual="random_l2", num_pictures=2)
    numbers = evaluate(WSpaceView(Truncated(model, psi=0.0, cutoff=None), count=50), Noise(4)).numbers
    assert numbers["ppl_w_end_random_l2"] == 0


def test_images_are_inverted_into_w(view: WSpaceView):
    w = view.latent_space.samples[:2]
    with torch.no_grad():
        images = view.decode(w)
    found = invert(view, images, InversionSettings(steps=20, restarts=1), start=w + 0.05)
    baseline = (view.decode(w + 0.05) - images).square().mean((1, 2, 3))
    assert (found.error < 0.1 * baseline).all()
