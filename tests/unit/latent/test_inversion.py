"""Inversion of decoders: exact where it can be, never worse than its start, and the same in any company."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latent_lab.distributed import IndexedRandom
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder
from latent_lab.latent.inversion import GIVEN_START, InversionSettings, Inverted, Recoded, best_of, invert
from latent_lab.latent.spaces import AbstractLatentSpace, Gaussian, Hypersphere

BOTH = pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"optimiser": "lbfgs", "steps": 60}, id="lbfgs"),
        pytest.param({"optimiser": "adam", "steps": 400, "learning_rate": 0.05}, id="adam"),
    ],
)

SHORT = pytest.mark.parametrize(
    "settings", [pytest.param({"optimiser": name, "steps": 25}, id=name) for name in ("lbfgs", "adam")]
)


class Linear(nn.Module, AbstractDecoder):
    """Images are a fixed matrix times the latent."""

    resolution = 4

    def __init__(self, space: AbstractLatentSpace) -> None:
        super().__init__()
        self.space = space
        rng = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(space.dim, 48, generator=rng) / 5)
        self.batch_sizes: list[int] = []

    @property
    def latent_space(self) -> AbstractLatentSpace:
        return self.space

    def decode(self, latents: Tensor) -> Tensor:
        self.batch_sizes.append(len(latents))
        return (latents @ self.matrix).view(-1, 3, 4, 4)


class Wavy(Linear):
    """Has many local minima."""

    def decode(self, latents: Tensor) -> Tensor:
        return torch.sin(4 * super().decode(latents))


def prior(decoder: AbstractDecoder, count: int, seed: int = 5) -> Tensor:
    return decoder.latent_space.sample(count, torch.Generator().manual_seed(seed))


@BOTH
@pytest.mark.parametrize("space", [Gaussian(6), Hypersphere(6)], ids=repr)
def test_generated_images_are_inverted_exactly_where_the_decoder_is_one_to_one(
    space: AbstractLatentSpace, settings: dict[str, Any]
):
    decoder = Linear(space)
    latents = prior(decoder, 5)
    found = invert(decoder, decoder.decode(latents).detach(), InversionSettings(restarts=1, **settings))
    torch.testing.assert_close(found.latents, latents.detach(), atol=1e-3, rtol=0)
    # Half a millionth of the images' own mean square.
    assert (found.error < 1e-7).all()


@BOTH
def test_the_prior_term_gives_the_ridge_regression(settings: dict[str, Any]):
    decoder, weight = Linear(Gaussian(6)), 0.05
    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = invert(decoder, images, InversionSettings(restarts=1, prior_weight=weight, **settings))
    # Zero gradient of |x - zM|^2 / 48 + w |z|^2 / 6.
    m = decoder.matrix.detach().double()
    expected = images.flatten(1).double() @ m.T @ torch.linalg.inv(m @ m.T + weight * 48 / 6 * torch.eye(6))
    torch.testing.assert_close(found.latents.double(), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.loss, found.error + weight * found.latents.square().mean(1))


@BOTH
def test_a_box_keeps_its_promise_and_gives_the_best_point_in_it(settings: dict[str, Any]):
    decoder = Linear(Gaussian(2))
    latents = torch.tensor([[2.0, 0.1], [0.3, -0.2]])
    found = invert(decoder, decoder.decode(latents).detach(), InversionSettings(restarts=1, clip=1.0, **settings))
    assert (found.latents.abs() <= 1.0).all()
    torch.testing.assert_close(found.latents[1], latents[1], atol=1e-3, rtol=0)
    # On the face z_1 = 1, z_2 minimises the same quadratic form.
    m = decoder.matrix.detach()
    best = 0.1 + (m[0] @ m[1] / (m[1] @ m[1])).item()
    torch.testing.assert_close(found.latents[0], torch.tensor([1.0, best]).clamp(-1, 1), atol=2e-3, rtol=0)


def test_stochastic_clipping_stays_in_the_box_and_depends_on_the_seed_alone():
    decoder = Linear(Gaussian(3))
    images = decoder.decode(4 * prior(decoder, 4)).detach()
    settings = {"optimiser": "adam", "steps": 30, "clip": 0.5, "clipping": "stochastic", "restarts": 1}
    first, again = (invert(decoder, images, InversionSettings(**settings)) for _ in range(2))
    other = invert(decoder, images, InversionSettings(**settings, seed=1))
    assert (first.latents.abs() <= 0.5).all()
    assert torch.equal(first.latents, again.latents)
    assert not torch.equal(first.latents, other.latents)


@SHORT
def test_a_result_is_never_worse_than_its_start(settings: dict[str, Any]):
    decoder = Wavy(Gaussian(6))
    latents = prior(decoder, 6)
    images = decoder.decode(latents).detach()
    start = latents + 0.5 * prior(decoder, 6, seed=6)
    at_start = (decoder.decode(start) - images).square().mean((1, 2, 3))
    found = invert(decoder, images, InversionSettings(restarts=0, **settings), start=start)
    assert (found.loss <= at_start).all()
    perfect = invert(decoder, images, InversionSettings(restarts=0, **settings), start=latents)
    assert (perfect.error == 0).all()
    assert torch.equal(perfect.latents, latents)


@SHORT
def test_more_candidates_are_never_worse(settings: dict[str, Any]):
    decoder = Wavy(Gaussian(6))
    images = decoder.decode(prior(decoder, 4)).detach()
    start = prior(decoder, 4, seed=7)
    few, many, learned, hybrid = (
        invert(decoder, images, InversionSettings(restarts=restarts, **settings), start=given)
        for restarts, given in ((1, None), (3, None), (0, start), (3, start))
    )
    assert (many.loss <= few.loss).all()
    assert torch.equal(hybrid.loss, torch.minimum(many.loss, learned.loss))
    assert torch.equal(best_of(many, learned).loss, hybrid.loss)


def test_the_winner_says_which_start_led_to_the_result():
    decoder = Wavy(Gaussian(6))
    latents = prior(decoder, 3)
    images = decoder.decode(latents).detach()
    found = invert(decoder, images, InversionSettings(restarts=2, steps=2), start=latents)
    assert found.winner.tolist() == [GIVEN_START] * 3
    assert set(invert(decoder, images, InversionSettings(restarts=2, steps=2)).winner.tolist()) <= {0, 1}


@SHORT
def test_an_image_has_the_same_inversion_in_any_company(settings: dict[str, Any]):
    decoder = Wavy(Gaussian(6)).double()
    images = decoder.decode(prior(decoder, 4).double()).detach()
    together = invert(decoder, images, InversionSettings(restarts=2, **settings), index=range(10, 14))
    alone = invert(decoder, images[2:3], InversionSettings(restarts=2, **settings), index=[12])
    # In float64: products of other batch sizes differ in the last bits.
    torch.testing.assert_close(alone.latents, together.latents[2:3], atol=1e-6, rtol=0)
    by_content = [invert(decoder, part, InversionSettings(restarts=2, **settings)) for part in (images, images[2:3])]
    torch.testing.assert_close(by_content[1].latents, by_content[0].latents[2:3], atol=1e-6, rtol=0)


def test_restarts_are_the_indexed_samples_of_the_prior():
    decoder = Linear(Hypersphere(6))
    images = torch.zeros(2, 3, 4, 4)
    # A step of length almost nothing: the result is the start itself.
    settings = InversionSettings(optimiser="adam", restarts=1, steps=1, learning_rate=1e-12, seed=3)
    found = invert(decoder, images, settings, index=[5, 9])
    random = IndexedRandom(3, "inversion/start/0")
    starts = torch.cat([random.normal(range(5, 6), 6), random.normal(range(9, 10), 6)])
    torch.testing.assert_close(found.latents, decoder.space.project(starts))


@BOTH
@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, torch.enable_grad], ids=lambda mode: mode.__name__
)
def test_it_works_in_any_gradient_mode_and_leaves_no_gradient(mode: Any, settings: dict[str, Any]):
    decoder = Linear(Gaussian(3))
    with mode():
        images = decoder.decode(prior(decoder, 2))
        found = invert(decoder, images, InversionSettings(restarts=1, **settings))
    assert (found.error < 1e-6).all()
    assert decoder.matrix.grad is None
    assert not found.latents.requires_grad


def test_adam_decodes_all_images_at_once_and_lbfgs_each_alone():
    for optimiser, sizes in (("adam", {5}), ("lbfgs", {1, 5})):
        decoder = Linear(Gaussian(3))
        invert(decoder, torch.zeros(5, 3, 4, 4), InversionSettings(optimiser=optimiser, restarts=1, steps=3))
        assert set(decoder.batch_sizes) == sizes


class Cliff(Linear):
    """Falls towards large latents, where it is no number."""

    def decode(self, latents: Tensor) -> Tensor:
        images = super().decode(latents)
        return torch.where(latents.abs().amax(1)[:, None, None, None] < 50, -images, torch.nan)


@BOTH
def test_a_place_where_images_are_no_numbers_never_wins(settings: dict[str, Any]):
    decoder = Cliff(Gaussian(3))
    images = torch.full((2, 3, 4, 4), 1000.0)
    found = invert(decoder, images, InversionSettings(restarts=1, **settings))
    assert torch.isfinite(found.latents).all()
    assert (found.error < images.square().mean()).all()


# Wrappers


def test_recoded_makes_an_autoencoder_of_a_decoder_and_an_encoder():
    decoder = Linear(Hypersphere(6))
    inverse = torch.linalg.pinv(decoder.matrix.detach())
    model = Recoded(decoder, lambda images: 7 * images.flatten(1) @ inverse)
    assert isinstance(model, AbstractAutoencoder)
    images = decoder.decode(prior(decoder, 3)).detach()
    torch.testing.assert_close(model.reconstruct(images), images, atol=1e-4, rtol=0)
    assert (model.resolution, model.latent_space) == (4, decoder.space)


def test_inverted_encodes_by_optimisation_from_its_own_start_too():
    decoder = Wavy(Gaussian(6))
    latents = prior(decoder, 3)
    images = decoder.decode(latents).detach()
    settings = InversionSettings(restarts=1, steps=1)
    plain, hybrid = Inverted(decoder, settings), Inverted(decoder, settings, start=lambda images: latents)
    assert torch.equal(hybrid.encode(images), latents)
    assert not torch.allclose(plain.encode(images), latents)
    assert isinstance(plain, AbstractAutoencoder)


def test_wrappers_change_modes_and_devices_with_their_decoder():
    decoder = Linear(Gaussian(3))
    model = Inverted(decoder)
    model.eval()
    assert not decoder.training
    assert model.to(torch.float64).decoder.matrix.dtype == torch.float64


@pytest.mark.parametrize("training", [False, True])
def test_wrappers_begin_in_the_mode_of_their_decoder(training: bool):
    decoder = Linear(Gaussian(3)).train(training)
    wrappers = (Inverted(decoder), Recoded(decoder, lambda images: images.flatten(1)[:, :3]))
    assert [wrapper.training for wrapper in wrappers] == [training, training]


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"restarts": -1}, "restarts must not be negative, got -1"),
        ({"prior_weight": -1.0}, "prior_weight must not be negative, got -1.0"),
        ({"clip": 0.0}, r"clip must be positive or null \(no box\), got 0.0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"clipping": "stochastic"}, "give clip a number and optimiser adam"),
        ({"clipping": "stochastic", "clip": 1.0}, "give clip a number and optimiser adam"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        InversionSettings(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "an inversion needs a start: give restarts at least 1"),
        ({"start": torch.zeros(2, 5)}, r"start must have one row of 3 for each of 2 images, got \(2, 5\)"),
        ({"start": torch.full((2, 3), torch.nan)}, "start holds values that are no numbers"),
        ({"start": torch.zeros(2, 3), "index": [1]}, "index must have one number for each of 2 images, got 1"),
    ],
)
def test_rows_that_do_not_fit_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        invert(Linear(Gaussian(3)), torch.zeros(2, 3, 4, 4), InversionSettings(restarts=0), **options)
