"""Mapped models: what is decoded, by whom, in which sizes, and what they offer to analyses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder, require
from latent_lab.latent.mapped import Mapped, MappedAutoencoder, mapped
from latent_lab.latent.maps import LinearMap, NormalEquations, fit_least_squares
from latent_lab.latent.spaces import AbstractLatentSpace, Gaussian, Hypersphere


class Painter(nn.Module, AbstractDecoder):
    """Images are a fixed orthonormal matrix times the latent."""

    def __init__(self, space: AbstractLatentSpace, resolution: int = 4, seed: int = 0) -> None:
        super().__init__()
        self.space, self.pixels = space, resolution
        rng = torch.Generator().manual_seed(seed)
        rows = torch.randn(3 * resolution**2, space.dim, generator=rng)
        self.matrix = nn.Parameter(torch.linalg.qr(rows)[0].T)

    @property
    def latent_space(self) -> AbstractLatentSpace:
        return self.space

    @property
    def resolution(self) -> int:
        return self.pixels

    def decode(self, latents: Tensor) -> Tensor:
        return (latents @ self.matrix).view(-1, 3, self.pixels, self.pixels)


class Copyist(Painter, AbstractAutoencoder):
    """Encodes what it decodes exactly."""

    def encode(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == self.pixels
        return images.flatten(1) @ self.matrix.T


def test_decoding_maps_projects_and_decodes() -> None:
    source, target = Copyist(Gaussian(6)), Copyist(Hypersphere(4), seed=1)
    matrix = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    model = mapped(source, LinearMap(matrix), target)
    codes = source.latent_space.sample(5, torch.Generator().manual_seed(3))
    expected = target.decode(nn.functional.normalize(codes @ matrix, dim=1))
    torch.testing.assert_close(model.decode(codes), expected)
    assert model.latent_space is source.latent_space
    assert isinstance(model, MappedAutoencoder)
    torch.testing.assert_close(model.encode(source.decode(codes)), codes, atol=1e-5, rtol=0)


def test_two_encoders_of_the_same_images_are_mapped_into_each_other_exactly() -> None:
    source, target = Copyist(Gaussian(6)), Copyist(Gaussian(6), seed=1)
    target.matrix = nn.Parameter(
        torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(4)))[0] @ source.matrix
    )
    images = source.decode(torch.randn(40, 6, generator=torch.Generator().manual_seed(5))).detach()
    fit = fit_least_squares(NormalEquations.of(source.encode(images), target.encode(images)))
    torch.testing.assert_close(mapped(source, fit.map, target).reconstruct(images), images, atol=1e-5, rtol=0)


def test_images_have_the_targets_size_and_are_resized_for_the_source() -> None:
    source, target = Copyist(Gaussian(6), resolution=8), Copyist(Gaussian(4), resolution=4)
    model = mapped(source, LinearMap(torch.ones(6, 4)), target)
    assert model.resolution == 4
    assert model.reconstruct(torch.zeros(2, 3, 4, 4)).shape == (2, 3, 4, 4)


def test_a_source_that_only_decodes_makes_a_model_that_only_decodes() -> None:
    model = mapped(Painter(Gaussian(6)), LinearMap(torch.ones(6, 4)), Painter(Gaussian(4)))
    assert type(model) is Mapped
    with pytest.raises(TypeError, match="needs a model with encode"):
        require(model, AbstractAutoencoder, by="reconstruct")


def test_it_moves_with_both_models_and_holds_the_map() -> None:
    model = mapped(Painter(Gaussian(6)), LinearMap(torch.ones(6, 4)), Painter(Gaussian(4))).double()
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == {"source", "target"}
    assert model.decode(torch.zeros(1, 6, dtype=torch.float64)).dtype == torch.float64
    assert model.map.matrix.dtype == torch.float64


def test_maps_of_other_spaces_and_models_that_do_not_decode_are_refused() -> None:
    with pytest.raises(ValueError, match="from 5 to 4 coordinates, but the models have 6 and 4"):
        mapped(Painter(Gaussian(6)), LinearMap(torch.ones(5, 4)), Painter(Gaussian(4)))
    with pytest.raises(TypeError, match="mapping needs a model with decode"):
        mapped(nn.Linear(6, 4), LinearMap(torch.ones(6, 4)), Painter(Gaussian(4)))
