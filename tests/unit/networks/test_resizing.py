"""The four resize protocols, each against the program that it is called after."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from latent_lab.networks.resizing import RESIZE_PROTOCOLS, RESIZES, clean, tf1, torch_bilinear, torchmetrics_bilinear

SIZES = [(32, 32, 299), (64, 64, 224), (400, 400, 299), (109, 89, 224), (130, 257, 224), (299, 299, 299), (5, 3, 7)]
"""Height, width, and the size they are brought to: up, down, both at once, and not at all."""


def noise(height: int, width: int) -> torch.Tensor:
    """White noise of levels 0 ... 255, which no filter flatters; in bytes as floats."""
    rng = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (2, 3, height, width), generator=rng).float()


def to_levels(images: torch.Tensor) -> torch.Tensor:
    return (images + 1.0) * 127.5


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_clean_equals_pillows_bicubic_on_floats(height: int, width: int, size: int) -> None:
    levels = noise(height, width)
    ours = to_levels(clean(levels / 127.5 - 1.0, size)).numpy()
    for image, expected in zip(ours, levels.numpy(), strict=True):
        for plane, original in zip(image, expected, strict=True):
            pillow = Image.fromarray(original).resize((size, size), Image.Resampling.BICUBIC)
            # Pillow sums in float64 and keeps float32 between rows and columns.
            assert np.abs(plane - np.asarray(pillow).clip(0, 255)).max() < 1e-3


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_tf1_equals_torch_fidelitys(height: int, width: int, size: int) -> None:
    theirs = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    levels = noise(height, width)
    expected = theirs.interpolate_bilinear_2d_like_tensorflow1x(levels, size=(size, size), align_corners=False)
    torch.testing.assert_close(to_levels(tf1(levels / 127.5 - 1.0, size)), expected, atol=1e-3, rtol=0)


def test_tf1_puts_the_first_pixel_into_the_corner_and_skips_pixels() -> None:
    row = torch.arange(8.0).expand(1, 1, 8, 8)
    assert tf1(row, 4)[0, 0, 0].tolist() == [0.0, 2.0, 4.0, 6.0]
    assert tf1(row, 16)[0, 0, 0].tolist() == [0.5 * i for i in range(15)] + [7.0]


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_torchmetrics_equals_its_own_call(height: int, width: int, size: int) -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    pytest.importorskip("torch_fidelity")
    levels = noise(height, width)
    seen: list[torch.Tensor] = []

    class _Stop(Exception):
        """Ends the pass after the first thing that the network sees."""

    def record(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        raise _Stop

    # Their network without weights: only its preprocessing runs.
    network = torch.nn.Module()
    network.features_list = ["2048"]  # type: ignore[assignment]
    network.use_antialias = True  # type: ignore[assignment]
    network.INPUT_IMAGE_SIZE = size  # type: ignore[assignment]
    network.Conv2d_1a_3x3 = record  # type: ignore[assignment]
    with pytest.raises(_Stop):
        fid.NoTrainInceptionV3._torch_fidelity_forward(network, levels.to(torch.uint8))
    ours = to_levels(torchmetrics_bilinear(levels / 127.5 - 1.0, size))
    torch.testing.assert_close(ours, seen[0] * 128 + 128, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_torch_is_plain_interpolation(height: int, width: int, size: int) -> None:
    levels = noise(height, width)
    expected = F.interpolate(levels, size=(size, size), mode="bilinear", align_corners=False)
    torch.testing.assert_close(to_levels(torch_bilinear(levels / 127.5 - 1.0, size)), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", RESIZE_PROTOCOLS)
def test_every_protocol_keeps_flat_images_type_and_the_number_of_images(name: str) -> None:
    for size in (7, 24):
        found = RESIZES[name](torch.full((3, 1, 16, 12), 0.3), size)
        torch.testing.assert_close(found, torch.full((3, 1, size, size), 0.3))
    assert RESIZES[name](torch.empty(0, 3, 16, 16), 8).shape == (0, 3, 8, 8)


def test_clean_does_not_overshoot_the_range() -> None:
    edge = torch.ones(1, 1, 8, 8)
    edge[..., :4] = -1.0
    assert clean(edge, 32).abs().max() <= 1.0
