from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from latent_lab.data.poses import frame_number, read_poses, rotations_of_quaternions

ROTATIONS = Rotation.random(5, random_state=3).as_matrix()
POSITIONS = np.random.default_rng(3).normal(size=(5, 3))
MATRICES = np.tile(np.eye(4), (5, 1, 1))
MATRICES[:, :3, :3], MATRICES[:, :3, 3] = ROTATIONS, POSITIONS
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
NAMES = ["run/frame_0002.jpg", "run/frame_0004.jpg", "run/frame_0006.jpg", "run/frame_0008.jpg", "run/frame_0012.jpg"]
FRAMES = [2, 4, 6, 8, 12]


def assert_same(path: Path, frames: list[int], **options) -> None:
    """The file holds the five cameras, up to the twelve digits that it is written with."""
    run = read_poses(path, **options)
    torch.testing.assert_close(run.matrices, torch.from_numpy(MATRICES), rtol=0, atol=1e-9)
    assert run.frames.tolist() == frames


def published(path: Path, rows: list[int] | None = None, frames: list[int] = FRAMES) -> Path:
    """Time, frame, position, first, second and third column of the rotation."""
    lines = []
    for row in range(5) if rows is None else rows:
        numbers = [0.1 * row, frames[row], *POSITIONS[row], *ROTATIONS[row].T.flatten()]
        lines.append(",".join(f"{number:.12g}" for number in numbers))
    path.write_text("\n".join(lines) + "\n")
    return path


def colmap(path: Path, names: list[str] = NAMES, order: tuple[int, ...] = (4, 0, 2, 1, 3), points: str = "") -> Path:
    """World-to-camera of cameras that look along +z."""
    lines = [
        "# Image list with two lines of data per image:",
        "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
    ]
    for place in order:
        inverse = np.linalg.inv(MATRICES[place] @ FLIP)
        x, y, z, w = Rotation.from_matrix(inverse[:3, :3]).as_quat()
        numbers = " ".join(f"{number:.12g}" for number in (w, x, y, z, *inverse[:3, 3]))
        lines += [f"{place + 1} {numbers} 1 {names[place]}", points]
    path.write_text("\n".join(lines) + "\n")
    return path


def arkit(path: Path, order: str = "F", key: str = "transform", **more) -> Path:
    frames = [
        {key: matrix.flatten(order).tolist(), "frame": number, "timestamp": number / 60, **more}
        for matrix, number in zip(MATRICES, FRAMES, strict=True)
    ]
    path.write_text(json.dumps({"frames": frames}))
    return path


def test_the_published_table_stacks_the_columns_of_camera_to_world_rotations(tmp_path):
    path = published(tmp_path / "frames.csv")
    assert_same(path, FRAMES)
    times = read_poses(path).times
    assert times is not None
    torch.testing.assert_close(times, torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4]).double())


def test_lines_in_any_order_are_sorted_by_frame(tmp_path):
    assert_same(published(tmp_path / "frames.csv", rows=[3, 0, 4, 2, 1]), FRAMES)


def test_missing_frames_are_gaps(tmp_path):
    run = read_poses(published(tmp_path / "frames.csv"))
    assert run.missing_frames.tolist() == [10]


def test_a_pose_that_the_recorder_lost_is_a_missing_frame(tmp_path):
    path = published(tmp_path / "frames.csv")
    lines = path.read_text().splitlines()
    lines[1] = "0.1,4," + ",".join(["nan"] * 12)
    path.write_text("\n".join(lines))
    assert read_poses(path).frames.tolist() == [2, 6, 8, 12]


def test_arkit_stacks_columns(tmp_path):
    assert_same(arkit(tmp_path / "poses.json"), FRAMES)


@pytest.mark.parametrize("key", ["cameraPoseARFrame", "cameraTransform", "pose4x4"])
def test_recorders_that_write_rows_are_recognised_by_where_0_0_0_1_stands(tmp_path, key):
    assert_same(arkit(tmp_path / "poses.json", order="C", key=key), FRAMES)


def test_arkit_cameras_that_never_leave_the_origin_are_columns(tmp_path):
    path = tmp_path / "poses.json"
    frames = [{"transform": np.pad(one.T, (0, 1)).flatten().tolist()} for one in ROTATIONS]
    for frame in frames:
        frame["transform"][15] = 1.0
    path.write_text(json.dumps(frames))
    torch.testing.assert_close(read_poses(path).rotations, torch.from_numpy(ROTATIONS), rtol=0, atol=1e-12)


def test_a_folder_with_a_file_for_each_frame_is_a_run(tmp_path):
    for name, matrix in zip(NAMES, MATRICES, strict=True):
        record = {"cameraPoseARFrame": matrix.flatten().tolist(), "intrinsics": [1, 2, 3]}
        (tmp_path / f"{Path(name).stem}.json").write_text(json.dumps(record))
    (tmp_path / "info.json").write_text(json.dumps({"device": "telephone"}))
    assert_same(tmp_path, FRAMES)


def test_transforms_json_has_rows_and_its_numbers_in_the_names(tmp_path):
    frames = [
        {"file_path": f"./r_{n}", "transform_matrix": m.tolist()}
        for n, m in zip((9, 10, 2, 3, 4), MATRICES, strict=True)
    ]
    (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": 0.69, "frames": frames}))
    run = read_poses(tmp_path / "transforms.json")
    assert run.frames.tolist() == [2, 3, 4, 9, 10]
    assert run.names == ("./r_2", "./r_3", "./r_4", "./r_9", "./r_10")
    torch.testing.assert_close(run.matrices, torch.from_numpy(MATRICES[[2, 3, 4, 0, 1]]), rtol=0, atol=1e-12)


def test_colmap_is_inverted_and_its_camera_turned_over(tmp_path):
    path = colmap(tmp_path / "images.txt")
    assert_same(path, FRAMES)
    assert read_poses(path).names == tuple(NAMES)


def test_colmap_with_points_and_in_its_usual_folders_is_the_same(tmp_path):
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    colmap(tmp_path / "sparse" / "0" / "images.txt", points="12.5 7.25 -1 3 4 17")
    for path in (tmp_path, tmp_path / "sparse" / "0"):
        assert_same(path, FRAMES)


def test_names_that_numbers_do_not_tell_apart_are_counted_in_order(tmp_path):
    names = ["b/1.png", "a/1.png", "a/2.png", "c.png", "d.png"]
    run = read_poses(colmap(tmp_path / "images.txt", names=names, order=(0, 1, 2, 3, 4)))
    assert run.frames.tolist() == [0, 1, 2, 3, 4]
    assert run.names == tuple(sorted(names))


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (3, 3)])
def test_arrays_are_camera_to_world_unless_said_otherwise(tmp_path, shape):
    np.save(tmp_path / "poses.npy", MATRICES[:, : shape[0], : shape[1]])
    run = read_poses(tmp_path / "poses.npy")
    torch.testing.assert_close(run.rotations, torch.from_numpy(ROTATIONS))
    expected = POSITIONS if shape[1] == 4 else np.zeros((5, 3))
    torch.testing.assert_close(run.translations, torch.from_numpy(expected))
    assert run.frames.tolist() == [0, 1, 2, 3, 4]


def test_arrays_in_another_convention_are_converted(tmp_path):
    np.save(tmp_path / "poses.npy", np.linalg.inv(MATRICES @ FLIP))
    assert_same(tmp_path / "poses.npy", [0, 1, 2, 3, 4], direction="world_to_camera", axes="opencv")


def test_single_precision_is_enough(tmp_path):
    np.save(tmp_path / "poses.npy", MATRICES.astype(np.float32))
    run = read_poses(tmp_path / "poses.npy")
    torch.testing.assert_close(run.rotations, torch.from_numpy(ROTATIONS), rtol=0, atol=2e-7)
    product = run.rotations.transpose(1, 2) @ run.rotations
    torch.testing.assert_close(product, torch.eye(3).double().expand(5, 3, 3), rtol=0, atol=1e-14)


def test_quaternions_have_their_real_part_first():
    quaternions = Rotation.from_matrix(ROTATIONS).as_quat()[:, [3, 0, 1, 2]]
    np.testing.assert_allclose(rotations_of_quaternions(-2 * quaternions), ROTATIONS, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "number"), [("r_0.png", 0), ("a/obj01__05.png", 5), ("0012.jpg", 12), ("007b.png", 7), ("2/x.png", None)]
)
def test_the_number_of_a_frame_is_the_last_one_in_its_name(name, number):
    assert frame_number(name) == number


# ------------------------------------------------------------------------------------------------------------ damage


def assert_refused(path: Path, *parts: str, **options) -> None:
    with pytest.raises(ValueError) as error:
        read_poses(path, **options)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_an_absent_file_is_named(tmp_path):
    assert_refused(tmp_path / "poses.csv", "poses.csv' does not exist: give a .csv, .json or .npy")


def test_a_file_of_another_kind_is_answered_with_those_there_are(tmp_path):
    (tmp_path / "images.bin").write_bytes(b"x")
    assert_refused(tmp_path / "images.bin", "no known kind", "--output_type TXT")
    assert_refused(tmp_path, "is COLMAP's binary form", "--output_type TXT")


def test_an_empty_folder_is_refused(tmp_path):
    assert_refused(tmp_path, "neither COLMAP's images.txt nor a .json file of each frame's pose")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("time,frame,x", "line 2 of pose file"),
        ("0.1,4,1,2,3", "has 5 numbers, not 14: write time, frame number, position x y z"),
        ("0.1,4.5" + ",1" * 12, "has the frame number 4.5"),
        ("0.1,nan" + ",1" * 12, "has the frame number nan"),
        ("0.1,4" + ",1" * 12, "the 3 x 3 of frame 4 is no rotation"),
        ("0.1,4,0,0,0,1,0,0,0,1,0,0,0,-1", "its determinant is -1, so it also mirrors"),
        ("0.1,6,0,0,0,1,0,0,0,1,0,0,0,1", "frame 6 has two poses: leave one of them"),
    ],
)
def test_a_damaged_line_of_the_published_table_is_named(tmp_path, line, message):
    path = published(tmp_path / "frames.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[2:]]))
    assert_refused(path, "frames.csv'", message)


@pytest.mark.parametrize("rows", [[], [2]])
def test_fewer_than_two_frames_are_no_trajectory(tmp_path, rows):
    message = f"a trajectory needs at least two frames with a pose, got {len(rows)}"
    assert_refused(published(tmp_path / "frames.csv", rows=rows), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"frame": 1}', "has no list of frames"),
        ("[]", "at least two frames with a pose, got 0"),
        (
            '[{"transform": [1, 2]}]',
            "entry 0 of pose file",
        ),
        ('[{"transform": "x"}]', "should be 16 numbers, got 'x'"),
        ('[{"file_path": "a"}, {"file_path": "b"}]', "has 2 frames and only 0 of them a pose"),
    ],
)
def test_damaged_json_is_explained(tmp_path, content, message):
    (tmp_path / "poses.json").write_text(content)
    assert_refused(tmp_path / "poses.json", "poses.json'", message)


def test_rows_and_columns_mixed_up_are_seen(tmp_path):
    np.save(tmp_path / "poses.npy", MATRICES.transpose(0, 2, 1))
    assert_refused(tmp_path / "poses.npy", "the matrix of frame 0 has the last row", "write matrices row by row")


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((2, 3, 5)), np.array([["a"]])])
def test_arrays_of_another_shape_are_refused(tmp_path, array):
    np.save(tmp_path / "poses.npy", array)
    assert_refused(tmp_path / "poses.npy", "should hold numbers of shape (T, 3, 3), (T, 3, 4) or (T, 4, 4), found")


def test_something_else_under_the_name_of_an_array_is_refused(tmp_path):
    (tmp_path / "poses.npy").write_text("1 2 3")
    assert_refused(tmp_path / "poses.npy", "is no NPY file of numbers")


def test_a_colmap_file_without_the_lines_of_points_is_refused(tmp_path):
    path = colmap(tmp_path / "images.txt", points="")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:3] + lines[4:5] + ["1 2 3"]))
    assert_refused(path, "line 5 of", "should be IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, got '1 2 3'")


def test_a_quaternion_that_is_no_rotation_is_refused(tmp_path):
    (tmp_path / "images.txt").write_text("1 1 1 0 0 0 0 0 1 a.png\n\n2 1 0 0 0 0 0 0 1 b.png\n\n")
    assert_refused(tmp_path / "images.txt", "the quaternion of 'a.png'", "has length 1.41, not 1")


def test_an_unknown_convention_is_answered_with_those_there_are(tmp_path):
    path = published(tmp_path / "frames.csv")
    assert_refused(path, "axes of poses must be one of opengl, opencv, got 'unity'", axes="unity")
    assert_refused(path, "direction of poses must be one of camera_to_world, world_to_camera", direction="backwards")
