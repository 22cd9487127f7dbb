"""Growth as a pure function of the number of images seen."""

from __future__ import annotations

import pytest

from latent_lab.growth import GrowthSchedule, Stage, phase_of

SCHEDULE = GrowthSchedule(
    [
        Stage(4, 10.0, 64, fade_kimg=4.0, learning_rate=1e-3),
        Stage(8, 5.0, 32, fade_kimg=4.0, learning_rate=5e-4, margin=0.05),
        Stage(8, 3.0, 16, learning_rate=5e-4, margin=0.02),
        Stage(16, 2.0, 8, learning_rate=2e-3),
    ]
)


@pytest.mark.parametrize(("resolution", "phase"), [(4, 0), (8, 1), (16, 2), (256, 6), (1024, 8)])
def test_phase_counts_doublings_from_four_pixels(resolution: int, phase: int) -> None:
    assert phase_of(resolution) == phase


@pytest.mark.parametrize(
    ("resolution", "message"),
    [
        (20, r"got 20: use 16 or 32"),
        (3, r"got 3: use 4 or 8"),
        (0, r"got 0: use 4 or 8"),
        (-8, r"got -8: use 4 or 8"),
        (1000, r"got 1000: use 512 or 1024"),
    ],
)
def test_other_resolutions_are_refused_with_their_neighbours(resolution: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phase_of(resolution)


@pytest.mark.parametrize(
    ("images_seen", "stage", "resolution", "alpha", "batch_size"),
    [
        (0, 0, 4, 0.0, 64),
        (1000, 0, 4, 0.25, 64),
        (4000, 0, 4, 1.0, 64),
        (9999, 0, 4, 1.0, 64),
        (10_000, 1, 8, 0.0, 32),
        (11_000, 1, 8, 0.25, 32),
        (14_999, 1, 8, 1.0, 32),
        (15_000, 2, 8, 1.0, 16),
        (17_999, 2, 8, 1.0, 16),
        (18_000, 3, 16, 1.0, 8),
    ],
)
def test_rows_change_at_exactly_their_first_image(
    images_seen: int, stage: int, resolution: int, alpha: float, batch_size: int
) -> None:
    now = SCHEDULE.at(images_seen)
    assert (now.stage, now.resolution, now.alpha, now.batch_size) == (stage, resolution, alpha, batch_size)
    assert now.images_seen == images_seen
    assert 4 * 2**now.phase == resolution


def test_learning_rate_and_margin_belong_to_the_row() -> None:
    assert [(SCHEDULE.at(n).learning_rate, SCHEDULE.at(n).margin) for n in (0, 10_000, 15_000, 18_000)] == [
        (1e-3, None),
        (5e-4, 0.05),
        (5e-4, 0.02),
        (2e-3, None),
    ]


@pytest.mark.parametrize(
    ("images_seen", "rate"), [(999, 1e-3), (1000, 1e-3), (2000, 5.5e-4), (3000, 1e-4), (10**6, 1e-4)]
)
def test_a_rows_learning_rate_falls_linearly_to_its_end_and_stays_there(images_seen: int, rate: float) -> None:
    schedule = GrowthSchedule([Stage(4, 1.0, 8), Stage(4, 2.0, 8, learning_rate=1e-3, learning_rate_end=1e-4)])
    assert schedule.at(images_seen).learning_rate == pytest.approx(rate, rel=1e-12)


def test_a_fade_runs_on_through_a_later_row_of_its_resolution() -> None:
    schedule = GrowthSchedule([Stage(4, 1.0, 8), Stage(8, 2.0, 8, fade_kimg=4.0), Stage(8, 4.0, 8, margin=0.1)])
    assert [schedule.at(n).alpha for n in (2000, 3000, 4000, 5000)] == [0.25, 0.5, 0.75, 1.0]


def test_the_last_row_holds_for_ever() -> None:
    late = SCHEDULE.at(10**12)
    assert (late.stage, late.resolution, late.alpha, late.batch_size) == (3, 16, 1.0, 8)


def test_without_a_fade_alpha_is_one_at_once() -> None:
    assert SCHEDULE.at(18_000).alpha == 1.0


def test_level_of_detail_never_falls() -> None:
    levels = [SCHEDULE.at(images).level_of_detail for images in range(0, 21_000, 50)]
    assert levels == sorted(levels)
    assert (levels[0], levels[-1]) == (0.0, 3.0)


def test_the_state_is_a_function_of_the_number_alone() -> None:
    assert SCHEDULE.at(12_345) == SCHEDULE.at(12_345)


def test_totals() -> None:
    assert SCHEDULE.total_kimg == 20.0
    assert SCHEDULE.target_kimg == 18.0
    assert SCHEDULE.resolution == 16
    assert SCHEDULE.resolutions == (4, 8, 16)


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_the_default_length_never_ends_before_the_target_resolution_begins(rows: int) -> None:
    # Balanced Pioneer's default total for CelebA-HQ lies before its 256 phase (defect 10); here rows make the total.
    schedule = GrowthSchedule(SCHEDULE.stages[:rows])
    assert schedule.total_kimg > schedule.target_kimg
    last_image = round(1000 * schedule.total_kimg) - 1
    assert schedule.at(last_image).resolution == schedule.resolution


def test_rows_of_a_third_of_a_kimg_lose_no_image() -> None:
    schedule = GrowthSchedule([Stage(4, 1 / 3, 8)] * 3 + [Stage(8, 1.0, 8)])
    assert schedule.at(999).resolution == 4
    assert schedule.at(1000).resolution == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": 12}, r"resolution must be 4 \* 2\^k pixels .*got 12: use 8 or 16"),
        ({"kimg": 0.0}, r"kimg must be positive, got 0"),
        ({"kimg": -1.0}, r"kimg must be positive, got -1"),
        ({"batch_size": 0}, r"batch_size must be at least 1, got 0"),
        ({"fade_kimg": -1.0}, r"fade_kimg must not be negative, got -1"),
        ({"learning_rate": 0.0}, r"learning_rate must be positive, got 0"),
        ({"learning_rate_end": -1e-4}, r"learning_rate_end must not be negative \(null: constant\), got -0.0001"),
        ({"margin": 0.0}, r"margin must be positive or null \(no clamp\), got 0"),
    ],
)
def test_a_stage_checks_its_numbers(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stage(**{"resolution": 8, "kimg": 1.0, "batch_size": 8} | arguments)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "at least one stage"),
        ([Stage(4, 1.0, 8), Stage(16, 1.0, 8)], "must stay or double from row to row, got 16 after 4"),
        ([Stage(8, 1.0, 8), Stage(4, 1.0, 8)], "must stay or double from row to row, got 4 after 8"),
        (
            [Stage(8, 1.0, 8, fade_kimg=1.0), Stage(8, 1.0, 8, fade_kimg=2.0)],
            "belongs to the first row of a resolution, got 2.0 in a later row of 8",
        ),
    ],
)
def test_a_schedule_checks_its_rows(stages: list[Stage], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GrowthSchedule(stages)


def test_a_negative_number_of_images_is_refused() -> None:
    with pytest.raises(ValueError, match="images_seen must not be negative, got -1"):
        SCHEDULE.at(-1)
