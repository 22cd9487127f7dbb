"""The published programs' preprocessing of real images, on one synthetic photograph of CelebA's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from latent_lab import images
from latent_lab.data.celeba import CROPS
from latent_lab.data.framing import Framing
from latent_lab.data.lsun import FRAMING as LSUN_FRAMING

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "pioneer" / "data_pipeline.npz"
FRAMINGS = {
    "celeba": CROPS["pioneer"],
    "celebaHQ": Framing(shorter_side=256),
    "ffhq": Framing(shorter_side=256),
    "lsun": LSUN_FRAMING,
}
# float32 against float32, formed by another order of operations.
EXACT = 1e-6


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    if not GOLDEN.is_file():
        pytest.skip("the golden vectors lie outside of the repository, in ../shared, and are not there")
    with np.load(GOLDEN) as file:
        return dict(file)


def level(golden: dict[str, np.ndarray], framing: Framing, resolution: int) -> torch.Tensor:
    pixels = framing.levels(golden["input_uint8_hwc"], (resolution,))[resolution]
    return images.from_bytes(torch.from_numpy(pixels.copy())[None])


@pytest.mark.parametrize("name", FRAMINGS)
@pytest.mark.parametrize(("resolution", "key"), [(16, "phase2.alpha1.0"), (4, "phase0.alpha0.0")])
def test_a_level_is_what_the_published_transform_gives(golden, name, resolution, key):
    expected = golden[f"{name}.{key}"]
    np.testing.assert_allclose(level(golden, FRAMINGS[name], resolution)[0].numpy(), expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", FRAMINGS)
def test_the_fade_of_the_image_folder_loader_is_reproduced_with_its_double_rounding(golden, name):
    faded = images.fade_images_as_published(level(golden, FRAMINGS[name], 16), 0.3)
    np.testing.assert_allclose(faded[0].numpy(), golden[f"{name}.phase2.alpha0.3"], rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", FRAMINGS)
def test_the_float_fade_stays_near_the_published_one(golden, name):
    faded = images.fade_images(level(golden, FRAMINGS[name], 16), 0.3)
    # They differ by two roundings and by the published filter, which is a wider triangle than a 2x2 mean.
    assert np.abs(faded[0].numpy() - golden[f"{name}.phase2.alpha0.3"]).mean() < 0.1


def test_the_crop_of_age_is_reproduced(golden):
    np.testing.assert_allclose(level(golden, CROPS["age"], 64)[0].numpy(), golden["age_celeba64"], rtol=0, atol=EXACT)


def test_the_fade_of_the_h5_loader_mixes_the_stored_levels_in_float(golden):
    fine = images.from_bytes(torch.from_numpy(golden["h5.hi_uint8"]))
    coarse = images.from_bytes(torch.from_numpy(golden["h5.lo_uint8"]))
    mixed = torch.lerp(images.double(coarse), fine, 0.3)
    np.testing.assert_allclose(mixed.numpy(), golden["h5.fade_alpha0.3"], rtol=0, atol=EXACT)
