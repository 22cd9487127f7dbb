from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import latent_lab
from latent_lab.importers import SplitVAEKeras
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint
from tests.unit.importers.conftest import assert_images, native
from tests.unit.importers.keras_by_hand import Array, SplitVAEInKeras


@pytest.fixture
def keras() -> SplitVAEInKeras:
    return SplitVAEInKeras()


def test_sizes_are_read_off_the_shapes(keras: SplitVAEInKeras, tmp_path: Path):
    keras.save(tmp_path / "split.hdf5")
    arguments = SplitVAEKeras().read(tmp_path / "split.hdf5").recipe["init_args"]
    expected = {"latent_dim": 5, "base_dim": 3, "num_scales": 2, "embedding_dim": 8, "image_channels": 3}
    assert {name: arguments[name] for name in expected} == expected
    assert arguments["schedule"]["stages"][0]["resolution"] == 16


@pytest.mark.parametrize("whole_model", [False, True])
@pytest.mark.parametrize("pieces", [False, True])
def test_outputs_are_those_of_the_published_network(
    keras: SplitVAEInKeras, images: Array, latents: Array, tmp_path: Path, whole_model: bool, pieces: bool
):
    keras.save(tmp_path / "split.hdf5", whole_model=whole_model, pieces=pieces)
    model = SplitVAEKeras()(tmp_path / "split.hdf5", tmp_path / "split.ckpt")
    posterior = model.posterior(native(images))
    mean, log_variance = keras.encode(images)
    torch.testing.assert_close(posterior.mean.detach().double(), torch.from_numpy(mean), atol=2e-5, rtol=0)
    torch.testing.assert_close(
        posterior.variance.log().detach().double(), torch.from_numpy(log_variance), atol=2e-5, rtol=0
    )
    values = keras.decode(latents)
    first, second, mixing = model.parts(torch.from_numpy(latents).float())
    assert_images(2 * mixing - 1, values[..., :1])
    assert_images(first, values[..., 1:4])
    assert_images(second, values[..., 4:7])
    mixed = values[..., :1] * values[..., 1:4] + (1 - values[..., :1]) * values[..., 4:7]
    assert_images(model.decode(torch.from_numpy(latents).float()), mixed)


def test_the_checkpoint_is_native_and_says_where_it_comes_from(keras: SplitVAEInKeras, images: Array, tmp_path: Path):
    keras.save(tmp_path / "split.hdf5")
    model = SplitVAEKeras(kl_weight=8.0)(tmp_path / "split.hdf5", tmp_path / "split.ckpt")
    loaded = latent_lab.load(tmp_path / "split.ckpt")
    assert torch.equal(loaded.encode(native(images)), model.encode(native(images)))
    described = read_checkpoint(tmp_path / "split.ckpt")[CHECKPOINT_KEY]
    assert (described["images_seen"], described["data"]) == (0, None)
    assert described["imported"]["format"] == "split_vae_keras"
    assert described["model"]["init_args"]["kl_weight"] == 8.0


def test_grey_models_are_recognised(tmp_path: Path):
    SplitVAEInKeras(channels=1).save(tmp_path / "split.hdf5")
    assert SplitVAEKeras().read(tmp_path / "split.hdf5").channels == 1


def test_a_file_of_one_network_is_refused_in_one_sentence(keras: SplitVAEInKeras, tmp_path: Path):
    keras.latent, keras.decoder = [], []
    keras.save(tmp_path / "other.hdf5")
    with pytest.raises(ValueError, match=r"other.hdf5 is not a SplitVAE's: it has 1 groups with arrays \(model 32\)"):
        SplitVAEKeras().read(tmp_path / "other.hdf5")


def test_another_network_of_three_groups_is_refused(keras: SplitVAEInKeras, tmp_path: Path):
    keras.encoder = keras.encoder[:6]
    keras.save(tmp_path / "other.hdf5")
    with pytest.raises(ValueError, match=r"its groups hold model 6, model_1 6, model_3 36 arrays, where a mult"):
        SplitVAEKeras().read(tmp_path / "other.hdf5")


def test_a_kernel_of_another_size_is_refused(keras: SplitVAEInKeras, tmp_path: Path):
    keras.encoder[4] = np.zeros((5, 5, 3, 3), np.float32)
    keras.save(tmp_path / "other.hdf5")
    with pytest.raises(ValueError, match=r"array 4 has shape \(5, 5, 3, 3\) where \(3, 3, 3, 3\) belongs"):
        SplitVAEKeras().read(tmp_path / "other.hdf5")


def test_networks_that_begin_with_other_layers_are_refused(keras: SplitVAEInKeras, tmp_path: Path):
    keras.encoder[0] = np.zeros((9, 3), np.float32)
    keras.save(tmp_path / "other.hdf5")
    with pytest.raises(ValueError, match=r"its networks begin with arrays of shapes \(9, 3\)"):
        SplitVAEKeras().read(tmp_path / "other.hdf5")


def test_values_that_are_not_finite_are_refused(keras: SplitVAEInKeras, tmp_path: Path):
    keras.decoder[2][0, 0, 0, 0] = np.nan
    keras.save(tmp_path / "damaged.hdf5")
    with pytest.raises(ValueError, match=r"the decoder of .* has values that are not finite"):
        SplitVAEKeras().read(tmp_path / "damaged.hdf5")


def test_heads_that_look_exchanged_are_pointed_out(keras: SplitVAEInKeras, tmp_path: Path):
    keras.latent[1][:] = -3.0
    keras.latent[3][:] = 3.0
    keras.save(tmp_path / "exchanged.hdf5")
    with pytest.warns(UserWarning, match="they may be exchanged in this file"):
        SplitVAEKeras().read(tmp_path / "exchanged.hdf5")


def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path):
    (tmp_path / "text.hdf5").write_text("weights")
    with pytest.raises(ValueError, match=r"text.hdf5 is not an HDF5 file of Keras weights"):
        SplitVAEKeras().read(tmp_path / "text.hdf5")


def test_a_file_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent.hdf5 to import"):
        SplitVAEKeras()(tmp_path / "absent.hdf5", tmp_path / "out.ckpt")
