"""Cropped decoders: the box, antialiasing, agreement with how image files are cropped, and what is passed on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from latent_lab.analyses.sample import Sample
from latent_lab.data import ImageFolder
from latent_lab.images import save_png
from latent_lab.latent.cropping import FACE_BOX, Cropped, CroppedLayers, cropped
from latent_lab.latent.interfaces import AbstractDecoder, AbstractLayeredDecoder
from latent_lab.latent.spaces import Gaussian


class Gradients(nn.Module, AbstractDecoder):
    """Channel c is z_c times the place: across, down, and stripes one pixel wide."""

    latent_space = Gaussian(3)

    def __init__(self, resolution: int = 1024) -> None:
        super().__init__()
        self.pixels = resolution
        place = torch.arange(resolution) / resolution
        stripes = (torch.arange(resolution) % 2) * 2.0 - 1.0
        parts = [place.expand(resolution, -1), place[:, None].expand(-1, resolution), stripes.expand(resolution, -1)]
        self.pictures = nn.Parameter(torch.stack(parts))

    @property
    def resolution(self) -> int:
        return self.pixels

    def decode(self, latents: Tensor) -> Tensor:
        return latents[:, :, None, None] * self.pictures


class Layered(Gradients, AbstractLayeredDecoder):
    """Every channel has a layer of its own."""

    num_layers = 3
    layer_resolutions = (4, 32, 1024)

    def decode_layers(self, styles: Tensor) -> Tensor:
        return super().decode(styles.diagonal(dim1=1, dim2=2))


def test_faces_of_1024_pixels_are_cropped_to_880_and_reduced_with_antialiasing() -> None:
    model = cropped(Gradients())
    (picture,) = model.decode(torch.tensor([[1.0, 1.0, 1.0]]))
    assert picture.shape == (3, 64, 64)
    assert model.resolution == 64
    centres = (torch.arange(64) + 0.5) * 880 / 64 - 0.5
    inside = slice(1, -1)  # at the edge the filter is one-sided
    torch.testing.assert_close(picture[0, 5, inside], (60 + centres[inside]) / 1024, atol=1e-4, rtol=0)
    torch.testing.assert_close(picture[1, inside, 5], (20 + centres[inside]) / 1024, atol=1e-4, rtol=0)
    # Stripes one pixel wide average out; without antialiasing they would be 1 or -1 somewhere.
    assert picture[2].abs().max() < 0.05


def test_generated_images_are_cropped_as_image_files_are(tmp_path: Path) -> None:
    small = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image = nn.functional.interpolate(small, 1024, mode="bilinear")
    save_png(tmp_path / "1.png", image.flip(3))
    save_png(tmp_path / "2.png", image)
    options = {"crop": [60, 20, 940, 900], "split": "last", "holdout": 1, "cache_dir": tmp_path / "cache"}
    data = ImageFolder(tmp_path, resolution=64, **options)
    read = data.source("val").batch([0], 64).images
    # The file is rounded before and after the reduction: one level of 255, in [-1, 1] units.
    torch.testing.assert_close(Cropped(Gradients()).crop(image), read, atol=2 / 255 + 1e-6, rtol=0)


def test_layers_are_passed_on_and_counted_at_the_resolution_where_they_are_seen() -> None:
    model = cropped(Layered())
    assert isinstance(model, CroppedLayers)
    assert (model.num_layers, model.layer_resolutions) == (3, (4, 32, 64))
    latents = torch.tensor([[0.2, 0.5, 0.1], [0.9, -0.3, 0.4]])
    torch.testing.assert_close(model.decode_layers(latents[:, None].expand(-1, 3, -1)), model.decode(latents))
    assert not isinstance(cropped(Gradients()), AbstractLayeredDecoder)


def test_it_runs_analyses_in_evaluation_mode_and_with_the_models_space() -> None:
    model = cropped(Gradients(32), box=(4, 4, 28, 28), resolution=16)
    assert model.latent_space is Gradients.latent_space
    result = Sample(num=4, columns=2)(model)
    assert result.protocol["resolution"] == 16
    assert model.training


def test_images_are_clamped() -> None:
    assert cropped(Gradients()).decode(torch.tensor([[9.0, -9.0, 0.0]])).abs().max() == 1.0


def test_a_box_that_reaches_out_of_the_images_is_refused() -> None:
    with pytest.raises(ValueError, match="the box 60, 20, 940, 900 reaches out of images of 512x512 pixels"):
        Cropped(Gradients(512), FACE_BOX).decode(torch.zeros(1, 3))


@pytest.mark.parametrize("box", [(0, 0, 8), (5, 0, 5, 8), (-1, 0, 8, 8), (0, 9, 8, 8)])
def test_what_is_no_box_is_refused(box: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="box must be left, top, right, bottom"):
        Cropped(Gradients(16), box)


def test_what_cannot_be_cropped_is_refused() -> None:
    with pytest.raises(ValueError, match="resolution must be at least 1 pixel, got 0"):
        Cropped(Gradients(16), (0, 0, 8, 8), 0)
    with pytest.raises(TypeError, match="cropping needs a model with decode"):
        Cropped(nn.Identity())
