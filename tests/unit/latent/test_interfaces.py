"""The latent protocol, and the sentence for models that lack a part of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_lab.latent import interfaces
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder, require
from latent_lab.latent.spaces import Gaussian


class Generator(AbstractDecoder):
    latent_space = Gaussian(2)
    resolution = 4

    def decode(self, latents: Tensor) -> Tensor:
        return latents[:, :1, None, None].expand(-1, 3, 4, 4)


class Autoencoder(Generator, AbstractAutoencoder):
    def encode(self, images: Tensor) -> Tensor:
        return images[:, :2, 0, 0] + 1


@pytest.mark.parametrize("interface", [AbstractDecoder, AbstractAutoencoder])
def test_a_model_that_qualifies_is_returned_itself(interface: type) -> None:
    model = Autoencoder()
    assert require(model, interface, by="reconstruct") is model


def test_the_refusal_names_who_asks_what_is_missing_and_who_qualifies() -> None:
    with pytest.raises(TypeError) as refusal:
        require(Generator(), AbstractAutoencoder, by="reconstruct")
    assert str(refusal.value) == (
        "reconstruct needs a model with encode, which Generator does not offer: "
        "an autoencoder (such as Pioneer) or a decoder wrapped in Recoded or Inverted qualifies"
    )


@pytest.mark.parametrize(
    ("interface", "missing"),
    [
        ("AbstractDecoder", "decode, latent_space, resolution"),
        ("AbstractStochasticEncoder", "decode, encode, latent_space, posterior, resolution"),
        ("AbstractLayeredDecoder", "decode, decode_layers, latent_space, layer_resolutions, num_layers, resolution"),
        ("AbstractTranslator", "domains, resolution, translate"),
    ],
)
def test_every_interface_names_its_members(interface: str, missing: str) -> None:
    with pytest.raises(TypeError, match=f"analysis needs a model with {missing}, which object does not offer: .+"):
        require(object(), getattr(interfaces, interface), by="analysis")


def test_reconstruction_is_decoding_of_the_code() -> None:
    model, images = Autoencoder(), torch.rand(2, 3, 4, 4)
    assert torch.equal(model.reconstruct(images), model.decode(model.encode(images)))


def test_an_incomplete_model_cannot_be_built() -> None:
    class Incomplete(AbstractAutoencoder):
        latent_space = Gaussian(2)

    with pytest.raises(TypeError, match="abstract method"):
        Incomplete()
