"""Ranges, sizes, fades, grids and files of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from latent_lab import images


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def all_bytes() -> Tensor:
    return torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


def test_bytes_survive_the_round_trip() -> None:
    assert torch.equal(images.to_bytes(images.from_bytes(all_bytes())), all_bytes())


def test_the_ends_of_the_ranges_meet() -> None:
    ends = images.from_bytes(torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2))
    assert ends.flatten().tolist() == [-1.0, 1.0]
    assert ends.dtype == torch.float32


def test_bytes_are_rounded_not_cut() -> None:
    # In levels: 9.4 and 9.6 lie on either side of 9.5; truncation would give 9 twice.
    levels = torch.tensor([9.4, 9.6]).reshape(1, 1, 1, 2)
    assert images.to_bytes(levels / 127.5 - 1).flatten().tolist() == [9, 10]


def test_bytes_are_clamped_never_wrapped() -> None:
    outside = torch.tensor([-1.01, -3.0, 1.01, 3.0]).reshape(1, 1, 1, 4)
    assert images.to_bytes(outside).flatten().tolist() == [0, 0, 255, 255]


def test_bytes_do_not_change_their_argument() -> None:
    original = torch.tensor([-3.0, 0.1, 3.0]).reshape(1, 1, 1, 3)
    argument = original.clone()
    images.to_bytes(argument)
    assert torch.equal(argument, original)


def test_half_precision_images_become_the_same_bytes_within_their_precision() -> None:
    picture = noise(2, 3, 8, 8)
    half = images.to_bytes(picture.bfloat16()).int()
    # bfloat16 keeps eight bits of a number near one: half a step of 2^-8 is a quarter of a level, doubled by rounding.
    assert (half - images.to_bytes(picture).int()).abs().max() <= 1


def test_unit_range_round_trip() -> None:
    picture = noise(1, 3, 4, 4)
    assert images.to_unit(picture).min() >= 0
    assert images.to_unit(picture).max() <= 1
    torch.testing.assert_close(images.from_unit(images.to_unit(picture)), picture, rtol=0, atol=2e-7)


def test_unit_conversions_do_not_clamp() -> None:
    assert images.to_unit(torch.full((1, 1, 1, 1), 3.0)).item() == 2.0


def test_quantising_twice_changes_nothing() -> None:
    once = images.quantise(noise(1, 3, 8, 8))
    assert torch.equal(images.quantise(once), once)


def test_quantising_moves_no_value_by_more_than_half_a_level() -> None:
    picture = noise(1, 3, 16, 16)
    assert (images.quantise(picture) - picture).abs().max() <= 0.5 / 127.5 + 1e-6


def test_halving_takes_means_of_two_by_two() -> None:
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert images.halve(picture).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_doubling_repeats_pixels() -> None:
    picture = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert images.double(picture)[0, 0].tolist() == expected


def test_halving_undoes_doubling() -> None:
    picture = noise(2, 3, 4, 4)
    torch.testing.assert_close(images.halve(images.double(picture)), picture, rtol=0, atol=1e-7)


def test_resizing_to_the_same_size_returns_the_images() -> None:
    picture = noise(1, 3, 8, 8) * 3
    assert images.resize(picture, 8) is picture


@pytest.mark.parametrize("resolution", [8, 16, 20, 64])
def test_resizing_follows_pillows_bicubic_filter(resolution: int) -> None:
    # Pillow's own float images are the independent reference; both filter in float32.
    picture = noise(1, 1, 32, 32) * 0.5
    expected = Image.fromarray(picture[0, 0].numpy()).resize((resolution, resolution), Image.Resampling.BICUBIC)
    torch.testing.assert_close(
        images.resize(picture, resolution)[0, 0], torch.from_numpy(np.asarray(expected)), rtol=0, atol=2e-6
    )


def test_bilinear_resizing_is_pillows_antialiased_filter() -> None:
    picture = noise(1, 1, 22, 22) * 0.5
    expected = Image.fromarray(picture[0, 0].numpy()).resize((8, 8), Image.Resampling.BILINEAR)
    resized = images.resize(picture, 8, "bilinear")
    # Float32 sums in another order.
    torch.testing.assert_close(resized[0, 0], torch.from_numpy(np.asarray(expected)), rtol=0, atol=2e-6)


def test_resizing_stays_in_range() -> None:
    edges = torch.ones(1, 1, 8, 8)
    edges[..., ::2, :] = -1
    assert images.resize(edges, 32).abs().max() <= 1


def test_fade_at_one_is_the_image() -> None:
    picture = noise(2, 3, 8, 8)
    assert torch.equal(images.fade_images(picture, 1.0), picture)


def test_fade_at_zero_is_the_coarser_image() -> None:
    picture = noise(2, 3, 8, 8)
    assert torch.equal(images.fade_images(picture, 0.0), images.double(images.halve(picture)))


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_fade_keeps_the_mean_of_every_two_by_two_block(alpha: float) -> None:
    picture = noise(2, 3, 8, 8)
    torch.testing.assert_close(images.halve(images.fade_images(picture, alpha)), images.halve(picture))


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_fade_scales_the_finest_details_by_alpha(alpha: float) -> None:
    picture = noise(2, 3, 8, 8)
    coarse = images.double(images.halve(picture))
    torch.testing.assert_close(images.fade_images(picture, alpha) - coarse, alpha * (picture - coarse))


@pytest.mark.parametrize("fade", [images.fade_images, images.fade_images_as_published])
def test_four_pixels_have_nothing_to_fade_from(fade: object) -> None:
    picture = noise(1, 3, 4, 4)
    assert fade(picture, 0.3) is picture


def test_fade_keeps_values_between_eight_bit_levels() -> None:
    picture = images.quantise(noise(1, 3, 16, 16))
    faded = images.fade_images(picture, 0.37)
    assert (images.quantise(faded) - faded).abs().max() > 0.2 / 127.5


def test_fade_passes_gradients() -> None:
    picture = noise(1, 1, 8, 8).requires_grad_()
    images.fade_images(picture, 0.5)[0, 0, 0, 0].backward()
    # Half comes directly, half through the mean of four pixels.
    assert picture.grad[0, 0, :2, :2].flatten().tolist() == [0.625, 0.125, 0.125, 0.125]


@pytest.mark.parametrize(("count", "columns", "rows_and_columns"), [(6, 3, (2, 3)), (5, 3, (2, 3)), (2, 8, (1, 2))])
def test_grid_geometry(count: int, columns: int, rows_and_columns: tuple[int, int]) -> None:
    grid = images.make_grid(noise(count, 3, 8, 10), columns, padding=2)
    rows, used = rows_and_columns
    assert grid.shape == (1, 3, rows * 10 + 2, used * 12 + 2)


def test_grid_places_images_row_by_row_on_white() -> None:
    pictures = torch.linspace(-1, 0, 3)[:, None, None, None].expand(3, 1, 2, 2)
    grid = images.make_grid(pictures, 2, padding=1)[0, 0]
    white, first, second, third = 1.0, -1.0, -0.5, 0.0
    assert grid.tolist() == [
        [white] * 7,
        [white, first, first, white, second, second, white],
        [white, first, first, white, second, second, white],
        [white] * 7,
        [white, third, third, white, white, white, white],
        [white, third, third, white, white, white, white],
        [white] * 7,
    ]


@pytest.mark.parametrize("resolution", [4, 32, 64, 128])
def test_a_grid_can_be_cut_into_its_images_again(resolution: int) -> None:
    pictures = noise(5, 3, resolution, resolution)
    sheet = images.enlarge(images.make_grid(pictures, 3), max(1, 64 // resolution))
    cut, columns = images.cut_grid(sheet)
    assert columns == 3
    assert torch.equal(cut[:5], pictures)
    assert (cut[5:] == 1).all()


def test_what_is_no_grid_is_not_cut() -> None:
    assert images.cut_grid(noise(1, 3, 200, 300)) is None
    # The size of a grid of 2 x 3 images of 8 pixels, and no white between them.
    assert images.cut_grid(noise(1, 3, 8 * 22, 8 * 32)) is None


def test_grid_clamps() -> None:
    grid = images.make_grid(torch.full((1, 3, 2, 2), 5.0), 1, padding=0)
    assert torch.equal(grid, torch.ones(1, 3, 2, 2))


def test_enlarging_repeats_each_pixel() -> None:
    picture = noise(1, 3, 4, 4)
    large = images.enlarge(picture, 3)
    assert large.shape == (1, 3, 12, 12)
    assert torch.equal(large[..., 1::3, 2::3], picture)
    assert images.enlarge(picture, 1) is picture


@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_png_holds_the_bytes_and_the_description(tmp_path: Path, channels: int) -> None:
    picture = noise(1, channels, 6, 5)
    path = tmp_path / "picture.png"
    images.save_png(path, picture, description="seed 0")
    with Image.open(path) as read:
        pixels = torch.from_numpy(np.array(read)).reshape(6, 5, channels).permute(2, 0, 1)[None]
        assert read.text["Description"] == "seed 0"
    assert torch.equal(pixels, images.to_bytes(picture))
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


def test_saving_replaces_an_older_picture(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"older")
    images.save_png(path, noise(1, 3, 4, 4))
    with Image.open(path) as read:
        assert read.size == (4, 4)


def test_a_failed_encoding_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Cannot handle this data type"):
        images.save_png(tmp_path / "picture.png", noise(1, 5, 4, 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_failed_write_keeps_the_older_picture_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"older")
    write = Path.write_bytes

    def disk_full(self: Path, *arguments: object) -> None:
        if step == "write_bytes":
            write(self, b"half of ")
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, step, disk_full)
    with pytest.raises(OSError, match="no space left"):
        images.save_png(path, noise(1, 3, 4, 4))
    assert path.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


def test_values_of_another_range_are_refused_and_wild_ones_of_a_generator_are_not() -> None:
    images.check_range(torch.randn(2, 3, 8, 8) * 3)
    images.check_range(torch.empty(0, 3, 8, 8))
    with pytest.raises(ValueError, match=r"pictures must lie in \[-1, 1\], got values from"):
        images.check_range(torch.rand(2, 3, 8, 8) * 255, "pictures")
    with pytest.raises(ValueError, match="contain NaN or infinite values"):
        images.check_range(torch.full((1, 3, 2, 2), torch.nan))
    with pytest.raises(TypeError, match="must be float images"):
        images.check_range(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_read_as_it_was_written(channels: int, tmp_path: Path) -> None:
    picture = images.quantise(noise(1, channels, 5, 7))
    images.save_png(tmp_path / "a.png", picture)
    assert torch.equal(images.load_png(tmp_path / "a.png"), picture)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"a\.png is damaged and cannot be read as a picture"):
        images.load_png(tmp_path / "a.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_shows_images_row_by_row_large_enough_to_be_seen(channels: int) -> None:
    pictures = noise(5, channels, 32, 32) * 3
    picture = images.to_picture(pictures, 3)
    assert picture.mode == {1: "L", 3: "RGB"}[channels]
    assert picture.size == (2 * (3 * 34 + 2), 2 * (2 * 34 + 2))
    shown = np.asarray(picture).reshape(picture.height, picture.width, channels)[::2, ::2]
    first = images.to_bytes(pictures[:1].clamp(-1, 1))[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(shown[2:34, 2:34], first)
