from __future__ import annotations

import numpy as np
import pytest

from latent_lab.data.framing import Framing, halvings, resolutions_up_to
from latent_lab.data.readers import UnreadableImage

RNG = np.random.default_rng(0)


def photograph(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_ladder_of_resolutions_begins_at_four():
    assert resolutions_up_to(32) == (4, 8, 16, 32)


def test_a_centre_crop_is_the_middle_square():
    pixels = photograph(8, 14)
    np.testing.assert_array_equal(Framing().levels(pixels, (8,))[8], pixels[:, 3:11].transpose(2, 0, 1))


def test_a_box_is_left_top_right_bottom():
    pixels = photograph(20, 30)
    level = Framing(crop=[5, 2, 13, 10]).levels(pixels, (8,))[8]
    np.testing.assert_array_equal(level, pixels[2:10, 5:13].transpose(2, 0, 1))


def test_no_crop_stretches_the_whole_image():
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    pixels[:, 8:] = 200
    level = Framing(crop="none").levels(pixels, (8,))[8]
    assert level[0, 0, 0] == 0
    assert level[0, 0, 7] == 200


def test_every_level_is_made_from_the_crop_and_not_from_a_larger_level():
    pixels = photograph(32, 32)
    together = Framing().levels(pixels, (4, 8, 16, 32))
    np.testing.assert_array_equal(together[4], Framing().levels(pixels, (4,))[4])


@pytest.mark.parametrize("downscale", ["bilinear", "box", "lanczos"])
def test_every_filter_keeps_a_constant_image(downscale):
    pixels = np.full((19, 23, 3), 77, dtype=np.uint8)
    for level in Framing(downscale=downscale).levels(pixels, (4, 8)).values():
        assert (level == 77).all()


def test_box_levels_are_means_of_the_largest_level_each_rounded_on_its_own():
    largest = RNG.integers(0, 256, (3, 16, 16), dtype=np.uint8)
    means = largest.reshape(3, 4, 4, 4, 4).mean(axis=(2, 4))
    np.testing.assert_array_equal(halvings(largest, (4, 16))[4], np.rint(means).astype(np.uint8))


def test_a_box_outside_of_the_image_is_refused_with_both_sizes():
    with pytest.raises(UnreadableImage, match=r"\[0, 0, 9, 8\] reaches out of the 8x8 pixels"):
        Framing(crop=[0, 0, 9, 8]).levels(photograph(8, 8), (4,))


def test_images_smaller_than_the_largest_level_are_known_as_enlarged():
    assert Framing().enlarges(photograph(8, 16), 16)
    assert not Framing().enlarges(photograph(16, 16), 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": "middle"}, 'crop must be "center", "none" or a box'),
        ({"crop": [4, 0, 2, 2]}, "left < right"),
        ({"downscale": "nearest"}, "downscale must be one of bilinear, box, lanczos"),
        ({"shorter_side": 0}, "shorter_side must be a positive"),
        ({"shorter_side": 8, "resize_to": (8, 8)}, "not both"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Framing(**settings)
