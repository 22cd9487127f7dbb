"""W as a latent space, and truncation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_lab.analyses.feeding import device_of, situation
from latent_lab.analyses.sample import Sample
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.latent.interfaces import AbstractMappedDecoder
from latent_lab.latent.inversion import InversionSettings, invert_layers
from latent_lab.latent.spaces import Gaussian
from latent_lab.latent.styles import repeat
from latent_lab.latent.views import LayersView, Truncated, WSpaceView
from latent_lab.models import GAN, StyleGAN


@pytest.fixture(scope="module")
def model() -> StyleGAN:
    schedule = GrowthSchedule([Stage(16, 1.0, 8)])
    built = StyleGAN(schedule, latent_dim=6, widths=[8, 8, 4], mapping_layers=2)
    with torch.no_grad():
        built.generator_average.network.w_average.normal_(generator=torch.Generator().manual_seed(3))
    return built.eval()


@pytest.fixture(scope="module")
def latents(model: StyleGAN) -> Tensor:
    return model.latent_space.sample(4, torch.Generator().manual_seed(0))


# W


def test_the_image_of_w_is_that_of_its_z(model: StyleGAN, latents: Tensor) -> None:
    view = WSpaceView(model)
    torch.testing.assert_close(view.decode(view.map(latents)), model.decode(latents))


def test_layers_take_points_of_w(model: StyleGAN, latents: Tensor) -> None:
    view = WSpaceView(model)
    first, second = repeat(latents, 6), repeat(latents.flip(0), 6)
    mixed = torch.cat([first[:, :3], second[:, 3:]], 1)
    mapped = torch.cat([repeat(view.map(latents), 6)[:, :3], repeat(view.map(latents.flip(0)), 6)[:, 3:]], 1)
    torch.testing.assert_close(view.decode_layers(mapped), model.decode_layers(mixed))


def test_the_space_holds_the_points_of_as_many_latents(model: StyleGAN) -> None:
    space = WSpaceView(model, count=20, seed=5).latent_space
    drawn = model.latent_space.sample(20, torch.Generator().manual_seed(5))
    assert torch.equal(space.samples, model.map(drawn))
    assert not space.samples.requires_grad
    assert space.symbol == "w"
    samples = space.sample(50, torch.Generator().manual_seed(0))
    assert torch.equal(samples, model.map(model.latent_space.sample(50, torch.Generator().manual_seed(0))))


def test_paths_in_w_are_straight(model: StyleGAN, latents: Tensor) -> None:
    view = WSpaceView(model)
    a, b = view.map(latents), view.map(latents.flip(0))
    torch.testing.assert_close(view.latent_space.interpolate(a, b, 0.25), 0.75 * a + 0.25 * b)


def test_the_second_activation_of_the_thesis_shrinks_negative_coordinates(model: StyleGAN, latents: Tensor) -> None:
    view, doubled = WSpaceView(model), WSpaceView(model, double_activation=True)
    w = view.map(latents)
    torch.testing.assert_close(doubled.decode(w), view.decode(F.leaky_relu(w, 0.2)))
    assert (doubled.decode(w) - model.decode(latents)).abs().max() > 0.01


def test_a_view_goes_where_its_model_goes_and_runs_analyses(model: StyleGAN) -> None:
    view = WSpaceView(model, count=10)
    assert view.training == model.training
    assert device_of(view) == model.device
    assert situation(view) == {"model": "WSpaceView", "resolution": 16, "alpha": 1.0}
    assert view.num_layers == 6
    assert view.layer_resolutions == (4, 4, 8, 8, 16, 16)
    result = Sample(num=4, columns=2)(view)
    assert result.numbers["std"] > 0


def test_a_decoder_without_w_is_refused() -> None:
    vanilla = GAN(GrowthSchedule([Stage(16, 1.0, 8)]), latent_dim=4, generator_widths=[4], discriminator_widths=[4])
    with pytest.raises(TypeError, match=r"WSpaceView needs a model with decode_layers, decode_mapped, .* a StyleGAN"):
        WSpaceView(vanilla)


def test_a_space_without_points_is_refused(model: StyleGAN) -> None:
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        WSpaceView(model, count=0)


# Truncation


def test_truncation_by_one_changes_nothing(model: StyleGAN, latents: Tensor) -> None:
    truncated = Truncated(model, psi=1.0, cutoff=None)
    given = repeat(latents, 6)
    assert torch.equal(truncated.truncate(given), given)
    torch.testing.assert_close(truncated.decode(latents), model.decode(latents))


def test_truncation_by_zero_makes_the_average_image(model: StyleGAN, latents: Tensor) -> None:
    average = model.decode_mapped(repeat(model.mapped_average[None], 6))
    images = Truncated(model, psi=0.0, cutoff=None).decode(latents)
    torch.testing.assert_close(images, average.expand_as(images))


@pytest.mark.parametrize("psi", [-0.5, 0.7])
@pytest.mark.parametrize("cutoff", [0, 2, 6])
def test_layers_below_the_cutoff_keep_their_share_of_the_deviation(model: StyleGAN, psi: float, cutoff: int) -> None:
    given = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(1))
    drawn = Truncated(model, psi, cutoff).truncate(given)
    expected = model.mapped_average + psi * (given - model.mapped_average)
    torch.testing.assert_close(drawn[:, :cutoff], expected[:, :cutoff])
    assert torch.equal(drawn[:, cutoff:], given[:, cutoff:])


def test_one_latent_for_all_layers_is_that_latent(model: StyleGAN, latents: Tensor) -> None:
    truncated = Truncated(model)
    torch.testing.assert_close(truncated.decode_layers(repeat(latents, 6)), truncated.decode(latents))
    assert truncated.latent_space is model.latent_space


def test_w_of_a_truncated_model_is_truncated_when_decoded_only(model: StyleGAN, latents: Tensor) -> None:
    truncated = Truncated(model, 0.5)
    view = WSpaceView(truncated)
    assert torch.equal(view.map(latents), model.map(latents))
    torch.testing.assert_close(view.decode(view.map(latents)), truncated.decode(latents))


def test_a_negative_cutoff_is_refused(model: StyleGAN) -> None:
    with pytest.raises(ValueError, match=r"a number of layers from 0 on, or null \(all\), got -1"):
        Truncated(model, cutoff=-1)


class Identity(nn.Module, AbstractMappedDecoder):
    """W is twice Z; three layers, one pixel each."""

    latent_space = Gaussian(3)
    resolution = 4
    num_layers = 3
    layer_resolutions = (4, 4, 4)
    mapped_average = torch.ones(3)

    def map(self, latents: Tensor) -> Tensor:
        return 2 * latents

    def decode_mapped(self, styles: Tensor) -> Tensor:
        return styles.mean(2)[:, :, None, None].expand(-1, -1, 4, 4)

    def decode_layers(self, styles: Tensor) -> Tensor:
        return self.decode_mapped(self.map(styles.flatten(0, 1)).unflatten(0, styles.shape[:2]))

    def decode(self, latents: Tensor) -> Tensor:
        return self.decode_layers(repeat(latents, 3))


def test_views_ask_for_no_more_than_the_interface() -> None:
    latents = torch.tensor([[2.0, 2.0, 2.0]])
    view = WSpaceView(Truncated(Identity(), psi=0.5, cutoff=1))
    # 2 * 2 = 4; half way to 1 in the first layer.
    assert view.decode(view.map(latents))[0, :, 0, 0].tolist() == [2.5, 4.0, 4.0]


# One latent for every layer


def test_points_of_w_repeated_in_every_layer_have_the_images_of_w(model: StyleGAN, latents: Tensor) -> None:
    view = WSpaceView(model)
    layers = LayersView(view)
    points = view.map(latents)
    assert layers.latent_space.dim == 6 * points.shape[1]
    torch.testing.assert_close(layers.decode(layers.latent_space.repeat(points)), view.decode(points))
    normal = torch.randn(4, layers.latent_space.num_normals, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        layers.latent_space.from_normal(normal), view.latent_space.from_normal(normal).repeat(1, 6)
    )


def test_each_layer_takes_its_own_part_of_a_row(model: StyleGAN, latents: Tensor) -> None:
    view = WSpaceView(model)
    layers = LayersView(view)
    styles = torch.stack([view.map(latents * share) for share in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)], dim=1)
    images = view.decode_layers(styles)
    torch.testing.assert_close(layers.decode(styles.flatten(1)), images)
    torch.testing.assert_close(layers.decode_layers(repeat(styles.flatten(1), 6)), images)


def test_distances_and_energies_of_layers_add_up(model: StyleGAN, latents: Tensor) -> None:
    space, layers = WSpaceView(model).latent_space, LayersView(WSpaceView(model)).latent_space
    a, b = space.from_normal(latents), space.from_normal(latents.flip(0))
    torch.testing.assert_close(layers.distance(layers.repeat(a), layers.repeat(b)), space.distance(a, b) * 6**0.5)
    torch.testing.assert_close(layers.prior_energy(layers.repeat(a)), space.prior_energy(a))
    between = layers.interpolate(layers.repeat(a), layers.repeat(b), 0.3)
    torch.testing.assert_close(between, layers.repeat(space.interpolate(a, b, 0.3)))


def test_views_take_noise_where_the_decoder_does(model: StyleGAN, latents: Tensor) -> None:
    view = WSpaceView(model)
    still = view.decode_with_noise(view.map(latents), None)
    torch.testing.assert_close(still, model.decode_with_noise(latents, None))
    torch.testing.assert_close(LayersView(view).decode_with_noise(repeat(view.map(latents), 6).flatten(1), None), still)


def test_the_energy_in_w_is_the_squared_mahalanobis_distance_to_its_mean(model: StyleGAN) -> None:
    space = WSpaceView(model, count=400).latent_space
    energy = space.prior_energy(space.samples)
    # By the sample covariance itself, squared distances add up to D (N - 1), whatever the distribution.
    torch.testing.assert_close(energy.mean().double(), torch.tensor(1.0, dtype=torch.float64), rtol=0.02, atol=0.0)
    assert energy.argmin() != energy.argmax()


def test_a_search_in_every_layer_is_never_worse_than_that_in_w_from_which_it_starts(model: StyleGAN) -> None:
    view = LayersView(WSpaceView(model, count=100))
    images = torch.rand(2, 3, view.resolution, view.resolution, generator=torch.Generator().manual_seed(0)) * 2 - 1
    shared, of_layers = invert_layers(view, images, InversionSettings(steps=8, restarts=1))
    assert (of_layers.loss < shared.loss).all()
    assert torch.equal(shared.latents, view.latent_space.repeat(shared.latents[:, : view.decoder.latent_space.dim]))
