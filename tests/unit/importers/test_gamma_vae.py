from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import latent_lab
from latent_lab.importers import GammaVAETensors
from tests.unit.importers.conftest import assert_images, native
from tests.unit.importers.keras_by_hand import Array, Weights, random_arrays, relu, sigmoid

SHAPES = [
    *[(4, 4, 3, 4), (4,), (4, 4, 4, 6), (6,)],
    *[(4 * 4 * 6, 5), (5,), (4 * 4 * 6, 5), (5,)],
    *[(5, 4 * 4 * 7), (4 * 4 * 7,), (4, 4, 6, 7), (6,), (4, 4, 3, 6), (3,), (5, 5, 3, 3), (3,)],
]


@pytest.fixture
def arrays() -> list[Array]:
    return random_arrays(SHAPES, seed=0)


def test_outputs_are_those_of_the_published_network(arrays: list[Array], images: Array, latents: Array, tmp_path: Path):
    np.savez(tmp_path / "vae.npz", *arrays)
    GammaVAETensors()(tmp_path / "vae.npz", tmp_path / "vae.ckpt")
    model = latent_lab.load(tmp_path / "vae.ckpt")
    weights = Weights(arrays, 0)
    y = relu(weights.layer(relu(weights.layer(images, stride=2)), stride=2)).reshape(4, -1)
    mean, log_variance = weights.layer(y), weights.layer(y)
    posterior = model.posterior(native(images))
    torch.testing.assert_close(posterior.mean.detach().double(), torch.from_numpy(mean), atol=2e-5, rtol=0)
    torch.testing.assert_close(
        posterior.variance.log().detach().double(), torch.from_numpy(log_variance), atol=2e-5, rtol=0
    )
    y = relu(weights.layer(latents)).reshape(4, 4, 4, 7)
    y = relu(weights.transposed(relu(weights.transposed(y))))
    assert_images(model.decode(torch.from_numpy(latents).float()), sigmoid(weights.layer(y)))


def test_the_recipe_says_how_it_was_trained(arrays: list[Array], tmp_path: Path):
    np.savez(tmp_path / "vae.npz", *arrays)
    arguments = GammaVAETensors().read(tmp_path / "vae.npz").recipe["init_args"]
    assert (arguments["gamma_rule"], arguments["reconstruction"]) == ("running_min", "bce")
    assert (arguments["latent_dim"], arguments["encoder_widths"], arguments["decoder_widths"]) == (5, [4, 6], [7, 6, 3])


def test_arrays_of_another_network_are_refused_in_one_sentence(arrays: list[Array], tmp_path: Path):
    np.savez(tmp_path / "other.npz", *arrays[:6])
    with pytest.raises(ValueError, match=r"other.npz is not the vanilla VAE: its 6 arrays are not those of"):
        GammaVAETensors().read(tmp_path / "other.npz")


def test_a_shape_that_does_not_fit_is_refused(arrays: list[Array], tmp_path: Path):
    arrays[6] = np.zeros((96, 4), np.float32)
    np.savez(tmp_path / "other.npz", *arrays)
    with pytest.raises(ValueError, match=r"array 6 has shape \(96, 4\) where \(96, 5\) belongs"):
        GammaVAETensors().read(tmp_path / "other.npz")


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path):
    (tmp_path / "text.npz").write_text("weights")
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("text.npz", "one.npy"):
        with pytest.raises(ValueError, match=rf"{name} is not a \.npz file of plain arrays"):
            GammaVAETensors().read(tmp_path / name)
