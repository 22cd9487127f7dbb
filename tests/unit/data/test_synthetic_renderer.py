from __future__ import annotations

from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab.data.synthetic_renderer import (
    CAMERA_DISTANCE,
    LABEL_NAMES,
    FaceFactors,
    camera_to_object,
    render,
    sample_factors,
    vary,
)


def plain(count: int = 4) -> FaceFactors:
    """Different young people who look straight ahead, without hat, glasses or beard, with short hair."""
    factors = sample_factors(7, range(count))
    return vary(
        factors, yaw=0, pitch=0, roll=0, hat=0, glasses=0, beard=0, age=30, hair_length=0.2, fringe=0, light_azimuth=0
    )


def change(before: FaceFactors, resolution: int = 64, **changes: float) -> Tensor:
    """Mean absolute change of each pixel, (resolution, resolution)."""
    difference = render(vary(before, **changes), resolution) - render(before, resolution)
    return difference.abs().mean(dim=(0, 1))


def assert_same_factors(a: FaceFactors, b: FaceFactors) -> None:
    for field in fields(a):
        assert torch.equal(getattr(a, field.name), getattr(b, field.name)), field.name


def test_a_row_of_factors_depends_on_seed_and_index_alone() -> None:
    batch = sample_factors(3, range(40))
    assert_same_factors(batch.select([17, 5]), sample_factors(3, [17, 5]))
    assert not torch.equal(batch.geometry, sample_factors(4, range(40)).geometry)


def test_an_identity_keeps_its_face_over_images() -> None:
    factors = sample_factors(0, range(200), num_identities=5)
    assert set(factors.identity.tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    same = factors.select(factors.identity == 2.0)
    for constant in (same.geometry, same.male, same.skin_tone, same.hair_colour, same.eye_colour):
        assert (constant == constant[:1]).all()
    assert same.age.std() > 5
    assert same.yaw.std() > 5


def test_without_a_number_of_identities_every_index_is_a_person() -> None:
    assert sample_factors(0, [4, 9]).identity.tolist() == [4.0, 9.0]


def test_sampled_factors_keep_their_ranges_and_beards_need_grown_men() -> None:
    factors = sample_factors(1, range(500))
    for name in ("skin_tone", "eye_colour", "hair_colour", "hair_length", "beard", "glasses", "hat", "mouth_open"):
        values = getattr(factors, name)
        assert 0 <= values.min() <= values.max() <= 1, name
    assert factors.age.min() >= 4
    assert factors.age.max() <= 85
    assert factors.smile.abs().max() <= 1
    bearded = factors.beard > 0
    assert bearded.any()
    assert (factors.male[bearded] == 1).all()
    assert (factors.age[bearded] > 15).all()


def test_labels_are_in_the_order_of_their_names() -> None:
    factors = sample_factors(0, range(3))
    labels = factors.labels()
    assert labels.shape == (3, len(LABEL_NAMES))
    assert labels.dtype == torch.float32
    assert torch.equal(labels[:, LABEL_NAMES.index("smiling")], factors.smile)
    assert torch.equal(labels[:, LABEL_NAMES.index("eyeglasses")], factors.glasses)
    assert torch.equal(labels[:, LABEL_NAMES.index("yaw")], factors.yaw)


def test_vary_repeats_one_face_over_a_camera_run() -> None:
    run = vary(sample_factors(0, [3]), yaw=[-30.0, 0.0, 30.0], glasses=1.0)
    assert run.yaw.tolist() == [-30.0, 0.0, 30.0]
    assert run.glasses.tolist() == [1.0, 1.0, 1.0]
    assert (run.geometry == run.geometry[:1]).all()


def test_vary_names_the_factors_when_one_is_unknown() -> None:
    with pytest.raises(ValueError, match=r"unknown factors moustache; there are identity, geometry, .*beard"):
        vary(sample_factors(0, [0]), moustache=1.0)


def test_vary_refuses_rows_that_do_not_match() -> None:
    with pytest.raises(ValueError, match=r"yaw has shape \(3,\); 2 faces need \(2,\)"):
        vary(sample_factors(0, range(2)), yaw=[0.0, 1.0, 2.0])


def test_sampling_and_rendering_refuse_what_is_too_small() -> None:
    with pytest.raises(ValueError, match="indices is empty"):
        sample_factors(0, [])
    with pytest.raises(ValueError, match="num_identities must be at least 1 or None, not 0"):
        sample_factors(0, [1], num_identities=0)
    with pytest.raises(ValueError, match="resolution must be at least 4 pixels per side, not 3"):
        render(sample_factors(0, [1]), 3)


def test_the_camera_looks_along_its_axis_from_where_the_angles_say() -> None:
    matrices = camera_to_object(vary(sample_factors(0, [0]), yaw=[0.0, 90.0, 0.0], pitch=[0.0, 0.0, 90.0], roll=0.0))
    places = matrices[:, :3, 3] / CAMERA_DISTANCE
    # A face turned to the viewer's right is seen from its own -X side; one that looks up is seen from below.
    expected = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    torch.testing.assert_close(places, expected, atol=1e-6, rtol=0)  # float32 sines of right angles


def test_camera_matrices_are_rigid() -> None:
    matrices = camera_to_object(sample_factors(0, range(20)))
    turn = matrices[:, :3, :3]
    # Entries are rounded to float32.
    torch.testing.assert_close(turn @ turn.transpose(1, 2), torch.eye(3).expand(20, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(20), atol=1e-6, rtol=0)
    assert (matrices[:, 3] == torch.tensor([0.0, 0.0, 0.0, 1.0])).all()


def test_roll_turns_the_images_right_towards_its_top() -> None:
    to_object = camera_to_object(vary(sample_factors(0, [0]), yaw=0.0, pitch=0.0, roll=90.0))[0, :3, :3]
    torch.testing.assert_close(
        to_object @ torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("resolution", [16, 33, 64])
def test_an_image_does_not_depend_on_the_batch_bit_for_bit(resolution: int) -> None:
    factors = sample_factors(2, range(16))
    batch = render(factors, resolution)
    alone = torch.cat([render(factors.select([row]), resolution) for row in range(16)])
    assert torch.equal(batch, alone)


def test_rendering_neither_reads_nor_advances_the_global_random_state() -> None:
    state = torch.get_rng_state()
    first = render(sample_factors(0, range(3)), 16)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(99)
    assert torch.equal(first, render(sample_factors(0, range(3)), 16))


@pytest.mark.parametrize("resolution", [4, 5, 8, 32, 130])
def test_images_have_the_resolution_that_was_asked_for(resolution: int) -> None:
    images = render(sample_factors(0, range(2)), resolution)
    assert images.shape == (2, 3, resolution, resolution)
    assert images.dtype == torch.float32
    assert images.std() > 0.1


def test_a_larger_image_reduced_by_areas_shows_the_same_face() -> None:
    factors = sample_factors(5, range(24))
    small, large = render(factors, 64), render(factors, 128)
    error = (F.avg_pool2d(large, 2) - small).abs()
    # Coverage is exact for straight edges only, and streaks of hair appear with the resolution.
    assert error.mean() < 0.01
    assert error.mean(dim=(1, 2, 3)).max() < 0.02
    assert error.mean() < 0.05 * (small - small.roll(1, 0)).abs().mean()


@pytest.mark.parametrize("extreme", [-1.0, 1.0])
def test_extreme_factors_stay_finite_and_in_range(extreme: float) -> None:
    factors = vary(sample_factors(6, range(6)), glasses=1.0, hat=[0, 0, 1, 1, 1, 1], hat_brim=[0, 0, 0, 0, 1, 1])
    poses = vary(factors, yaw=[0.0, 180.0, 90.0, 90.0, 45.0, 135.0], pitch=80.0 * extreme, roll=180.0 * extreme)
    poses = vary(poses, light_azimuth=180.0 * extreme, light_elevation=90.0 * extreme, light_strength=2.0)
    poses = vary(poses, geometry=factors.geometry * 0 + 4 * extreme, age=50 + 60 * extreme, smile=2 * extreme)
    poses = vary(poses, hair_length=1 + extreme, hair_volume=1.0, hair_curl=1.0, beard=1.0, mouth_open=2.0)
    images = render(poses, 48)
    assert torch.isfinite(images).all()
    assert images.min() >= -1
    assert images.max() <= 1


VISIBLE_CHANGES = {
    "male": (0.0, 1.0),
    "age": (8.0, 75.0),
    "skin_tone": (0.0, 1.0),
    "eye_colour": (0.0, 1.0),
    "hair_colour": (0.0, 1.0),
    "hair_length": (0.0, 1.0),
    "hair_volume": (0.0, 1.0),
    "hair_curl": (0.0, 1.0),
    "hair_part": (-1.0, 1.0),
    "fringe": (0.0, 1.0),
    "smile": (-1.0, 1.0),
    "mouth_open": (0.0, 1.0),
    "beard": (0.0, 1.0),
    "glasses": (0.0, 1.0),
    "hat": (0.0, 1.0),
    "light_azimuth": (-60.0, 60.0),
    "light_elevation": (0.0, 60.0),
    "light_strength": (0.0, 1.0),
    "yaw": (-20.0, 20.0),
    "pitch": (-15.0, 15.0),
    "roll": (-15.0, 15.0),
}


@pytest.mark.parametrize("name", VISIBLE_CHANGES)
def test_every_factor_changes_the_image(name: str) -> None:
    low, high = VISIBLE_CHANGES[name]
    before = vary(plain(), hair_length=0.35)
    difference = change(vary(before, **{name: low}), 64, **{name: high})
    assert difference.max() > 0.05


def test_every_column_of_the_geometry_changes_the_image() -> None:
    before = plain(2)
    for column in range(before.geometry.shape[1]):
        low, high = before.geometry.clone(), before.geometry.clone()
        low[:, column], high[:, column] = -2.0, 2.0
        images = [render(vary(before, geometry=geometry), 64) for geometry in (low, high)]
        assert (images[0] - images[1]).abs().max() > 0.1, column


def test_glasses_change_the_region_of_the_eyes_and_nothing_else() -> None:
    difference = change(plain(), glasses=1.0)
    eyes = difference[22:40, 12:52]
    assert eyes.mean() > 0.05
    assert difference.sum() - eyes.sum() < 0.02 * difference.sum()


def test_a_hat_leaves_mouth_chin_and_clothes_alone() -> None:
    difference = change(plain(), hat=1.0)
    assert difference[:20].mean() > 0.1
    assert difference[44:].max() < 0.02
    assert difference[34:44, 20:44].max() < 0.02


def test_a_smile_changes_the_lower_face_more_than_eyes_and_leaves_the_background_alone() -> None:
    difference = change(vary(plain(), smile=-1.0), smile=1.0)
    assert difference[38:50, 20:44].mean() > 3 * difference[20:34, 16:48].mean()
    assert difference[:, :8].max() == 0


def test_a_beard_darkens_the_jaw_of_fair_people() -> None:
    before = vary(plain(), skin_tone=0.1, hair_colour=0.1)
    jaw = (slice(None), slice(None), slice(44, 52), slice(26, 38))
    assert (render(before, 64)[jaw].mean() - render(vary(before, beard=1.0), 64)[jaw].mean()) > 0.3


def test_yaw_moves_the_nose_sideways_and_pitch_moves_it_up_and_down() -> None:
    """The nostrils are found as the darkest place in the band of the nose of bald, fair, bright faces."""

    def darkest(**pose: float) -> tuple[float, float]:
        face = vary(plain(1), skin_tone=0.0, hair_length=0.0, light_strength=0.2, smile=0.0, mouth_open=0.0, **pose)
        grey = 1.0 - render(face, 128).mean(dim=(0, 1))
        region = (grey - grey[66:80, 40:88].amin()).clamp(min=0)[66:80, 40:88] ** 4
        total = region.sum()
        rows, columns = torch.meshgrid(torch.arange(14.0), torch.arange(48.0), indexing="ij")
        return float((region * columns).sum() / total), float((region * rows).sum() / total)

    right, middle, left = darkest(yaw=15.0)[0], darkest()[0], darkest(yaw=-15.0)[0]
    assert right - middle > 5
    assert middle - left > 5
    assert abs((right + left) / 2 - middle) < 1
    assert darkest(pitch=4.0)[1] < darkest(pitch=-4.0)[1] - 1


def test_a_frontal_face_lit_from_the_front_is_symmetrical() -> None:
    face = vary(plain(), hair_part=0.0, hair_curl=0.0)
    images = render(face, 64)
    difference = (images - images.flip(3)).abs()
    # Streaks of hair and the reflections in the eyes alone are not symmetrical.
    assert difference[:, :, 22:].mean() < 0.01


def test_light_from_the_right_brightens_the_right_cheek() -> None:
    lit = render(vary(plain(), light_azimuth=60.0, light_strength=1.0), 64).mean(dim=(0, 1))
    assert lit[34:40, 40:46].mean() > lit[34:40, 18:24].mean() + 0.2


def test_hair_greys_with_age() -> None:
    """The spread between red and blue of fair brown hair at the top of the head falls."""
    before = vary(plain(), hair_colour=0.5, hair_length=0.6, male=0.0)
    top = (slice(None), slice(None), slice(10, 14), slice(28, 36))
    spread = [
        (image[:, 0] - image[:, 2]).abs().mean()
        for image in (render(vary(before, age=age), 64)[top] for age in (30.0, 80.0))
    ]
    assert spread[1] < 0.35 * spread[0]


def test_long_hair_covers_what_was_background_beside_the_neck() -> None:
    difference = change(plain(), hair_length=1.0)
    assert difference[40:54, 14:20].mean() > 0.2
    assert difference[:, :6].max() == 0


def test_background_colours_change_the_corners_and_not_the_face() -> None:
    before = plain()
    after = vary(before, background_top=torch.zeros(4, 3), background_bottom=torch.ones(4, 3))
    difference = (render(before, 64) - render(after, 64)).abs()
    assert difference[:, :, :4].mean() > 0.3
    assert difference[:, :, 24:48, 24:40].max() == 0
