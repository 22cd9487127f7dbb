"""StyleGAN against the published networks, in both forms of the convolutions that change the resolution.

Tolerances: 5e-5 for images and 1e-6 relative to 1 for the rest, as in golden/automodulator/README.md (images go up to
10, so that is 5e-6 of their range). Stored noise is used everywhere.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.latent.styles import mix, repeat
from latent_lab.latent.views import Truncated, WSpaceView
from latent_lab.models.stylegan import StyleGAN
from latent_lab.networks.stylegan import (
    StyleGANDiscriminator,
    StyleGANGenerator,
    StyleGANMapping,
    StyleGANSynthesis,
    published_stylegan_widths,
)
from latent_lab.objectives import gan, stylegan
from tests.golden.stylegan_state import discriminator_state, generator_state

IMAGES, REST = 5e-5, 1e-6

# The published level of detail -> (phase, alpha) of networks for 16 pixels.
GROWTH = {"0.25": (2, 0.75), "1.0": (1, 1.0), "1.6": (1, 0.4)}


class Published(NamedTuple):
    arrays: Mapping[str, Tensor]
    model: StyleGAN

    @property
    def generator(self) -> StyleGANGenerator:
        return self.model.generator_average.network

    @property
    def latents(self) -> Tensor:
        return self.arrays["in/z"]

    def out(self, name: str) -> Tensor:
        return self.arrays[f"out/{name}"]


def part(arrays: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def assert_close(ours: Tensor, published: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(ours, published, rtol=0.0, atol=tolerance)


@pytest.fixture(scope="module", params=["plain", "fused"])
def published(request: pytest.FixtureRequest, automodulator_golden: Callable) -> Published:
    arrays = automodulator_golden(f"stylegan1_toy16_{request.param}")
    model = StyleGAN(
        GrowthSchedule([Stage(16, 1.0, 8)]),
        latent_dim=16,
        widths=[8, 8, 8],
        fused_from=8 if request.param == "fused" else 32,
    )
    model.generator_average.network.load_state_dict(generator_state(part(arrays, "Gs/")))
    model.discriminator.load_state_dict(discriminator_state(part(arrays, "D/")))
    return Published(arrays, model.eval())


# Generator


@pytest.mark.parametrize(("latents", "w"), [("in/z", "w"), ("in/z2", "w2")])
def test_points_of_w(published: Published, latents: str, w: str) -> None:
    # Eight layers amplify rounding in proportion to the largest coordinates.
    expected = published.out(w)
    assert_close(published.model.map(published.arrays[latents]), expected, REST * expected.abs().max().item())


def test_images(published: Published) -> None:
    assert_close(published.model.decode(published.latents), published.out("img_psi1"), IMAGES)


def test_images_of_w(published: Published) -> None:
    view = WSpaceView(published.model)
    assert_close(view.decode(published.out("w")), published.out("img_psi1"), IMAGES)


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_images_of_two_latents(published: Published, cut: int) -> None:
    first, second = (repeat(published.arrays[name], 6) for name in ("in/z", "in/z2"))
    images = published.model.decode_layers(mix(first, second, range(cut, 6)))
    assert_close(images, published.out(f"img_mixcut{cut}"), IMAGES)


def test_truncated_styles_and_images(published: Published) -> None:
    truncated = Truncated(published.model, psi=0.7, cutoff=2)
    styles = truncated.truncate(repeat(published.out("w"), 6))
    assert_close(styles, published.out("wp_psi0.7_cut2"), REST)
    assert_close(truncated.decode(published.latents), published.out("img_psi0.7_cut2"), IMAGES)
    assert_close(WSpaceView(truncated).decode(published.out("w")), published.out("img_psi0.7_cut2"), IMAGES)


@pytest.mark.parametrize("lod", GROWTH)
def test_images_of_a_growing_network(published: Published, lod: str) -> None:
    # The published program enlarges what it makes to the full resolution.
    images = F.interpolate(published.generator(published.latents, *GROWTH[lod]), size=16, mode="nearest")
    assert_close(images, published.out(f"img_lod{lod}"), IMAGES)


# Discriminator and losses


def scores(published: Published, images: Tensor, phase: int = 2, alpha: float = 1.0) -> Tensor:
    return published.model.discriminator(images, phase, alpha)


@pytest.mark.parametrize(("name", "count"), [("score", 8), ("score_batch4", 4), ("score_batch2", 2)])
def test_scores_depend_on_the_groups_of_the_batch(published: Published, name: str, count: int) -> None:
    assert_close(scores(published, published.arrays["in/images"][:count]), published.out(name)[:, 0], REST)


@pytest.mark.parametrize("lod", ["0.25", "1.0"])
def test_scores_of_a_growing_network(published: Published, lod: str) -> None:
    phase, alpha = GROWTH[lod]
    images = F.avg_pool2d(published.arrays["in/images"], 2 ** (2 - phase))
    assert_close(scores(published, images, phase, alpha), published.out(f"score_lod{lod}")[:, 0], REST)


def test_r1_of_each_image(published: Published) -> None:
    images = published.arrays["in/images"].clone().requires_grad_()
    penalty = stylegan.r1_penalty(scores(published, images), images)
    assert_close(penalty, published.out("r1_penalty_per_image"), REST)


def test_losses(published: Published) -> None:
    real = published.arrays["in/images"].clone().requires_grad_()
    on_fake, on_real = scores(published, published.out("img_psi1")), scores(published, real)
    penalty = stylegan.r1_penalty(on_real, real).mean()
    discriminator_loss = stylegan.discriminator_loss(on_fake, on_real) + 0.5 * 10.0 * penalty
    assert_close(discriminator_loss, published.out("D_loss_gamma10_per_image").mean(), REST)
    assert_close(gan.generator_loss(on_fake), published.out("G_loss_per_image").mean(), REST)


# Published sizes


def layout(shared: Path, resolution: int) -> dict[str, dict[str, tuple[int, ...]]]:
    """Network ("G", "D") -> name as in the golden files -> shape."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {"G": {}, "D": {}}
    with (shared / "golden" / "automodulator" / f"layout_nvidia_tf_{resolution}.csv").open() as file:
        for row in csv.DictReader(file):
            owner, name = row["name"].split(": ")
            component = owner.partition("[")[2].partition("]")[0]
            shape = () if row["shape"] == "scalar" else tuple(int(side) for side in row["shape"].split("x"))
            shapes[owner[0]][f"{component}/{name}" if component else name] = shape
    return shapes


@pytest.mark.parametrize("resolution", [256, 512, 1024])
def test_every_published_variable_has_its_place_and_shape(shared: Path, resolution: int) -> None:
    shapes = layout(shared, resolution)
    with torch.device("meta"):
        networks = {
            "G": StyleGANGenerator(StyleGANMapping(512), StyleGANSynthesis(512, resolution), 512),
            "D": StyleGANDiscriminator(resolution),
        }
        arrays = {network: {name: torch.empty(shape) for name, shape in of.items()} for network, of in shapes.items()}
    states = {"G": generator_state(arrays["G"]), "D": discriminator_state(arrays["D"])}
    for network, state in states.items():
        expected = {name: value.shape for name, value in networks[network].state_dict().items()}
        assert {name: value.shape for name, value in state.items()} == expected


def test_published_networks_have_the_recorded_number_of_parameters() -> None:
    with torch.device("meta"):
        generator = StyleGANGenerator(StyleGANMapping(512), StyleGANSynthesis(512, 1024), 512)
        discriminator = StyleGANDiscriminator(1024)
    assert sum(parameter.numel() for parameter in generator.parameters()) == 26_219_627
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 23_087_249
    assert len(generator.synthesis.layer_resolutions) == 2 * int(math.log2(1024)) - 2 == 18
    assert published_stylegan_widths(1024) == [512, 512, 512, 512, 256, 128, 64, 32, 16]
