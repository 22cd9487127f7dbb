from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import latent_lab
from latent_lab.importers import GANTensors
from tests.unit.importers.conftest import assert_images, native
from tests.unit.importers.keras_by_hand import Array, Weights, random_arrays, relu, sigmoid

SHAPES = [
    *[(4, 4, 3, 4), (4,), (4, 4, 4, 6), (6,), (4 * 4 * 6, 1), (1,)],
    *[(5, 4 * 4 * 2), (4 * 4 * 2,), (4, 4, 4, 2), (4,), (4, 4, 8, 4), (8,), (5, 5, 8, 3), (3,)],
]


@pytest.fixture
def arrays() -> list[Array]:
    return random_arrays(SHAPES, seed=0)


def test_outputs_are_those_of_the_published_networks(
    arrays: list[Array], images: Array, latents: Array, tmp_path: Path
):
    np.savez(tmp_path / "gan.npz", *arrays)
    GANTensors()(tmp_path / "gan.npz", tmp_path / "gan.ckpt")
    model = latent_lab.load(tmp_path / "gan.ckpt")
    weights = Weights(arrays, 0)
    y = relu(weights.layer(relu(weights.layer(images, stride=2)), stride=2)).reshape(4, -1)
    logits = torch.from_numpy(weights.layer(y)[:, 0])
    torch.testing.assert_close(model.discriminator(native(images)).detach().double(), logits, atol=2e-5, rtol=0)
    y = relu(weights.layer(latents)).reshape(4, 4, 4, 2)
    y = relu(weights.transposed(relu(weights.transposed(y))))
    assert_images(model.decode(torch.from_numpy(latents).float()), sigmoid(weights.layer(y)))


def test_the_recipe_says_that_the_discriminator_tells_fakes(arrays: list[Array], tmp_path: Path):
    np.savez(tmp_path / "gan.npz", *arrays)
    arguments = GANTensors().read(tmp_path / "gan.npz").recipe["init_args"]
    assert arguments["label_convention"] == "fake_is_one"
    assert (arguments["start_channels"], arguments["generator_widths"]) == (2, [4, 8])


def test_arrays_of_another_network_are_refused_in_one_sentence(arrays: list[Array], tmp_path: Path):
    np.savez(tmp_path / "other.npz", *arrays[6:])
    with pytest.raises(ValueError, match=r"other.npz is not the vanilla GAN: its 8 arrays are not those of"):
        GANTensors().read(tmp_path / "other.npz")
