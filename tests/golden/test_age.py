"""AGE's networks and matching terms against the published program.

Forward values agree to 1e-5 (golden/pioneer/README.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from latent_lab.latent.spaces import Hypersphere
from latent_lab.networks.age import AGEEncoder, AGEGenerator
from latent_lab.objectives import age

both_sizes = pytest.mark.parametrize("resolution", [32, 64])
both_modes = pytest.mark.parametrize("mode", ["eval", "train"])


@pytest.fixture(scope="module")
def golden(pioneer_golden: Callable) -> Mapping[str, Tensor]:
    return pioneer_golden("age_nets_small")


def loaded(network: nn.Module, golden: Mapping, prefix: str) -> nn.Module:
    """With the published state, strictly; counters of batches, which modern torch adds, decide nothing."""
    state = {
        name.removeprefix(prefix): value
        for name, value in golden.items()
        if name.startswith(prefix) and not name.endswith("num_batches_tracked")
    }
    network.load_state_dict(state, strict=True)
    return network


def assert_close(ours: Tensor, published: Tensor) -> None:
    torch.testing.assert_close(ours, published, rtol=0, atol=1e-5)


@both_sizes
@both_modes
def test_generator(golden: Mapping, resolution: int, mode: str) -> None:
    network = loaded(AGEGenerator(16, resolution, base_width=4), golden, f"{resolution}.state.G.")
    images = network.train(mode == "train")(golden[f"{resolution}.z"].flatten(1))
    assert_close(images.detach(), golden[f"{resolution}.G.{mode}"])


@both_sizes
@both_modes
def test_encoder(golden: Mapping, resolution: int, mode: str) -> None:
    network = loaded(AGEEncoder(16, resolution, base_width=4), golden, f"{resolution}.state.E.")
    codes = network.train(mode == "train")(golden[f"{resolution}.x"])
    assert_close(Hypersphere(16).project(codes).detach(), golden[f"{resolution}.E.{mode}"])


@pytest.mark.parametrize(("name", "metric"), [("L1", "l1"), ("L2", "l2"), ("cos", "cos")])
def test_matching_terms(golden: Mapping, name: str, metric: str) -> None:
    assert_close(age.latent_distance(golden["match.a"], golden["match.b"], metric), golden[f"match.{name}"])


@pytest.mark.parametrize(("name", "metric"), [("L1", "l1"), ("L2", "l2"), ("cos", "cos")])
def test_images_of_one_pixel_are_matched_like_latents(golden: Mapping, name: str, metric: str) -> None:
    a, b = (golden[f"match.{which}"][:, :, None, None] for which in "ab")
    assert_close(age.image_distance(a, b, metric), golden[f"match.{name}"])
