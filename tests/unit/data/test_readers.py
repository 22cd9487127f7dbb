from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from latent_lab.data.readers import UnreadableImage, list_images, read_image


def stored(tmp_path, image: Image.Image, name: str = "image.png", **options) -> np.ndarray:
    image.save(tmp_path / name, **options)
    return read_image(tmp_path / name)[0]


def test_rgb_pixels_come_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(pixels)), pixels)


def test_grey_is_repeated_in_three_channels(tmp_path):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(stored(tmp_path, Image.fromarray(grey)), np.repeat(grey[..., None], 3, axis=2))


def test_one_bit_images_become_black_and_white(tmp_path):
    image = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    np.testing.assert_array_equal(stored(tmp_path, image)[0, :, 0], [0, 255])


def test_palettes_are_looked_up(tmp_path):
    image = Image.new("P", (1, 1), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    np.testing.assert_array_equal(stored(tmp_path, image)[0, 0], [10, 20, 30])


def test_a_transparent_palette_entry_shows_white(tmp_path):
    image = Image.new("P", (1, 1), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    np.testing.assert_array_equal(stored(tmp_path, image, transparency=1)[0, 0], [255, 255, 255])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(tmp_path, mode):
    image = Image.new("RGBA", (1, 1), (0, 0, 0, 51)).convert(mode)
    # 20 % black over white.
    np.testing.assert_array_equal(stored(tmp_path, image)[0, 0], [204, 204, 204])


def test_cmyk_is_converted(tmp_path):
    image = Image.new("RGB", (8, 8), (200, 30, 90)).convert("CMYK")
    assert np.abs(stored(tmp_path, image, "image.jpg", quality=100)[4, 4].astype(int) - [200, 30, 90]).max() < 6


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    image = Image.fromarray(np.array([[0, 257 * 7 + 100, 65535]], dtype=np.uint16))
    np.testing.assert_array_equal(stored(tmp_path, image)[0, :, 1], [0, 7, 255])


def test_floating_point_images_are_refused(tmp_path):
    with pytest.raises(UnreadableImage, match="floating-point"):
        stored(tmp_path, Image.fromarray(np.zeros((2, 2), dtype=np.float32)), "image.tif")


def test_the_exif_orientation_is_applied(tmp_path):
    image = Image.fromarray(np.zeros((2, 4, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert stored(tmp_path, image, "image.jpg", exif=exif).shape == (4, 2, 3)


def test_the_first_frame_of_an_animation_is_taken(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    pixels = stored(tmp_path, frames[0], "image.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels[0, 0], [255, 0, 0])


def test_the_codec_is_that_of_the_content_not_of_the_name(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "image.jpg", format="PNG")
    assert read_image(tmp_path / "image.jpg")[1] == "PNG"


def test_an_empty_file_is_named_as_such(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnreadableImage, match="empty"):
        read_image(tmp_path / "empty.png")


def test_a_text_file_is_no_image(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UnreadableImage, match="not an image"):
        read_image(tmp_path / "text.png")


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnreadableImage, match="truncated"):
        read_image(path)


def test_images_are_listed_in_sorted_order_with_nested_upper_case_and_unicode_names(make_images):
    root = make_images(["b/2.JPG", "a.png", "b/1.jpeg", "Ünïcode 名.PNG"])
    (root / "notes.txt").write_text("no image")
    (root / "._a.png").write_text("a twin of macOS")
    assert list_images(root) == sorted(["a.png", "b/1.jpeg", "b/2.JPG", "Ünïcode 名.PNG"])


def test_linked_folders_are_followed_once(make_images, tmp_path):
    root = make_images(["a.png"])
    elsewhere = make_images(["b.png"], folder="elsewhere")
    (root / "link").symlink_to(elsewhere)
    (elsewhere / "circle").symlink_to(root)
    assert list_images(root) == ["a.png", "link/b.png"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="does not exist: name a folder"):
        list_images(tmp_path / "nowhere")


def test_a_file_instead_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file, not a folder"):
        list_images(tmp_path / "file")


def test_a_folder_without_images_says_what_was_found(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"holds no image file \(1 other files found\)"):
        list_images(tmp_path)
