from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from latent_lab.data import MultiViewImages
from latent_lab.data.multi_view import VIEW_LABELS
from latent_lab.data.view_tables import look_at_origin

OBJECTS = ("cup", "duck", "box")
ANGLES = tuple(range(0, 360, 45))
NAMES = [f"{one}_{angle:03d}.png" for one in OBJECTS for angle in ANGLES]


def write(root: Path, head: str, lines: list[str], name: str = "poses.csv") -> Path:
    (root / name).write_text("\n".join([head, *lines]) + "\n")
    return root


@pytest.fixture
def turntable(make_images) -> Path:
    """Three objects from eight sides."""
    root = make_images([f"images/{name}" for name in NAMES])
    lines = [f"{one}_{angle:03d}.png,{one},{angle}" for one in OBJECTS for angle in ANGLES]
    return write(root, "file,object,azimuth_deg", lines)


@pytest.fixture
def run(make_images) -> Path:
    """Ten frames without a table."""
    return make_images([f"{number:04d}.png" for number in range(10)])


def views(root: Path, **options) -> MultiViewImages:
    return MultiViewImages(root, **{"resolution": 8, **options})


def everything(data: MultiViewImages):
    source = data.source("train")
    return source.batch(range(len(source)), 8), source.names


def test_images_come_with_object_view_and_pose(turntable):
    batch, names = everything(views(turntable, holdout="none"))
    assert batch.images.shape == (24, 3, 8, 8)
    assert views(turntable).label_names == VIEW_LABELS == ("object", "view")
    # Objects in the order of their names, views by angle.
    assert names[:2] == ("images/box_000.png", "images/box_045.png")
    assert batch.labels[:, 0].tolist() == [0.0] * 8 + [1.0] * 8 + [2.0] * 8
    assert batch.labels[:, 1].tolist() == list(range(8)) * 3
    expected = Rotation.from_euler("y", [[angle] for angle in ANGLES * 3], degrees=True).as_matrix()
    torch.testing.assert_close(batch.pose[:, :3, :3], torch.from_numpy(expected).float())


def test_the_camera_is_on_a_circle_of_radius_1_and_looks_at_the_object(turntable):
    batch, _ = everything(views(turntable, holdout="none"))
    # At 0 degrees in front (z), at 90 degrees to the right of someone who looks from there (x).
    torch.testing.assert_close(batch.pose[[0, 2], :3, 3], torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    torch.testing.assert_close(batch.pose[:, :3, 3], batch.pose[:, :3, 2])


def test_elevation_lifts_an_upright_camera():
    rotation = look_at_origin(np.array([90.0, 30.0]), np.array([90.0, 20.0]))
    expected = Rotation.from_euler("YX", [[90.0, -90.0], [30.0, -20.0]], degrees=True).as_matrix()
    np.testing.assert_allclose(rotation, expected, atol=1e-12)
    np.testing.assert_allclose(rotation[0, :, 2], [0.0, 1.0, 0.0], atol=1e-12)


def test_held_out_pairs_and_unseen_views_are_parts_of_their_own(turntable):
    data = views(turntable, unseen_share=0.2, heldout_share=0.3)
    parts = {name: data.source(name).names for name in ("train", "val", "test", "unseen_views")}
    assert {name: len(names) for name, names in parts.items()} == {"train": 13, "val": 2, "test": 3, "unseen_views": 6}
    unseen = {name[-7:] for name in parts["unseen_views"]}
    assert len(unseen) == 2
    assert not unseen & {name[-7:] for part in ("train", "val", "test") for name in parts[part]}


def test_the_description_counts_objects_and_views(turntable):
    text = views(turntable).describe()
    assert "They show 3 objects from 8 views." in text
    assert "never mirrored" in text


def test_images_that_the_table_does_not_list_are_left_out(turntable, make_images):
    make_images(["contact_sheet.png"])
    data = views(turntable, holdout="none")
    assert len(data.source("train")) == 24
    assert "1 images have no known view and are left out." in data.describe()


def test_the_table_may_be_elsewhere_and_tell_names_with_folders(turntable, tmp_path):
    lines = [f"images/{name},{number % 2},{number}" for number, name in enumerate(NAMES)]
    write(tmp_path, "file,object,angle", lines, name="views.csv")
    assert len(views(turntable, views=tmp_path / "views.csv", holdout="none").source("test")) == 24


def test_the_table_beside_the_images_comes_before_one_in_the_working_folder(turntable, tmp_path, monkeypatch):
    write(tmp_path, "file,object,azimuth", ["x.png,1,0"])
    monkeypatch.chdir(tmp_path)
    assert len(views(turntable, holdout="none").source("train")) == 24


def test_other_angles_make_another_pack(turntable):
    one = views(turntable).pack.key
    text = (turntable / "poses.csv").read_text()
    (turntable / "poses.csv").write_text(text.replace("duck_045.png,duck,45", "duck_045.png,duck,46"))
    assert views(turntable).pack.key != one


def test_poses_may_be_matrices_or_quaternions(make_images):
    root = make_images(["a.png", "b.png", "c.png"])
    rotations = Rotation.random(3, random_state=1)
    positions = np.arange(9.0).reshape(3, 3)
    matrix_columns = [f"r{row}{column}" for row in "123" for column in "123"]

    def table(head: list[str], numbers: np.ndarray, name: str) -> torch.Tensor:
        rows = zip(["a.png", "b.png", "c.png"], numbers, strict=True)
        lines = [",".join([file, "1", *(f"{number:.9f}" for number in row)]) for file, row in rows]
        write(root, ",".join(["file", "object", *head]), lines, name=name)
        return everything(views(root, views=name, holdout="none"))[0].pose

    by_matrix = table(matrix_columns, rotations.as_matrix().reshape(3, 9), "matrices.csv")
    torch.testing.assert_close(by_matrix[:, :3, :3], torch.from_numpy(rotations.as_matrix()).float())
    quaternions = np.concatenate([rotations.as_quat()[:, [3, 0, 1, 2]], positions], axis=1)
    by_quaternion = table(["qw", "qx", "qy", "qz", "tx", "ty", "tz"], quaternions, "quaternions.csv")
    torch.testing.assert_close(by_quaternion[:, :3, :3], by_matrix[:, :3, :3])
    torch.testing.assert_close(by_quaternion[:, :3, 3], torch.from_numpy(positions).float())


def transforms(root: Path, names: list[str], name: str = "transforms.json") -> None:
    frames = []
    for number, file in enumerate(names):
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("y", 3 * number, degrees=True).as_matrix()
        frames.append({"file_path": file, "transform_matrix": matrix.tolist()})
    (root / name).write_text(json.dumps({"frames": frames}))


def test_a_run_has_its_frames_in_order_as_views_of_one_object(run):
    transforms(run, [f"./train/{number:04d}" for number in range(10)])
    batch, names = everything(views(run, views="transforms.json", holdout="none"))
    assert names == tuple(f"{number:04d}.png" for number in range(10))
    assert batch.labels.tolist() == [[0.0, float(number)] for number in range(10)]


def test_the_unseen_frames_of_a_run_are_its_held_out_part(run):
    transforms(run, [f"{number:04d}.png" for number in range(10)])
    data = views(run, views="transforms.json", unseen_share=0.3)
    assert data.source("test").names == data.source("unseen_views").names == ("0001.png", "0005.png", "0008.png")
    assert len(data.source("train")) == 7


def test_poses_without_names_belong_to_the_images_of_their_number(run):
    matrices = np.tile(np.eye(4), (12, 1, 1))
    matrices[:, 0, 3] = np.arange(12)
    np.save(run / "poses.npy", matrices)
    data = views(run, views="poses.npy", holdout="none")
    batch, names = everything(data)
    assert names == tuple(f"{number:04d}.png" for number in range(10))
    assert batch.pose[:, 0, 3].tolist() == list(range(10))
    assert "2 of 12 frames with a pose have no image." in data.describe()


def test_frames_from_where_the_camera_stands_still_are_one_view(run):
    matrices = np.tile(np.eye(4), (10, 1, 1))
    matrices[:, 0, 3] = [0, 1, 2, 2, 2, 3, 1, 4, 5, 6]
    np.save(run / "poses.npy", matrices)
    batch, _ = everything(views(run, views="poses.npy", holdout="none"))
    assert batch.labels[:, 1].tolist() == [0, 1, 2, 2, 2, 3, 1, 4, 5, 6]


def test_the_published_table_of_a_run_is_told_from_a_table_of_views(run):
    lines = [f"{0.5 * n},{n},0,0,{n},1,0,0,0,1,0,0,0,1" for n in range(10)]
    (run / "frames.csv").write_text("\n".join(lines))
    batch, _ = everything(views(run, views="frames.csv", holdout="none"))
    assert batch.pose[:, 2, 3].tolist() == list(range(10))


# ------------------------------------------------------------------------------------------------------------ damage


def assert_refused(data: MultiViewImages, *parts: str) -> None:
    with pytest.raises(ValueError) as error:
        data.setup()
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_view_table_says_what_it_should_have(run):
    assert_refused(views(run), "poses.csv' does not exist: write a CSV file with the columns file, object, and azimuth")


def test_a_file_that_is_named_but_not_there_is_named_with_its_line(turntable):
    (turntable / "images" / "duck_045.png").unlink()
    assert_refused(views(turntable), "line 11 of view table", "names 'duck_045.png', which is not among the 23 images")


def test_an_object_with_a_single_view_is_named(turntable):
    lines = (turntable / "poses.csv").read_text().splitlines()
    write(turntable, lines[0], [*lines[1:9], lines[9], *lines[17:]])
    assert_refused(views(turntable), "object 'duck' of", "has a single view (images/duck_000.png)", "add views")


def test_two_images_from_the_same_side_are_a_single_view(make_images):
    write(make_images(["a.png", "b.png"]), "file,object,angle", ["a.png,1,30", "b.png,1,30"])
    assert_refused(views(make_images(["a.png", "b.png"])), "object '1' of", "has a single view (a.png)")


@pytest.mark.parametrize(
    ("head", "line", "message"),
    [
        ("file,azimuth", "a.png,3", "has the columns file, azimuth: it needs file, object, and azimuth (degrees"),
        ("file,object,yaw", "a.png,1,3", "has the columns file, object, yaw: it needs"),
        (
            "file,object,azimuth",
            "a.png,1,left",
            "line 2 of view table",
        ),
        ("file,object,azimuth", "a.png,1,", "has '' as azimuth: write a number, or delete the line"),
        ("file,object,azimuth", "a.png,1", "has '' as azimuth: write a number, or delete the line"),
        ("file,object,azimuth", "b.png,1,5", "has two lines for 'b.png': leave one of them"),
        ("file,object,qw,qx,qy,qz", "a.png,1,1,1,0,0", "has a quaternion that is not of length 1: it is no rotation"),
        ("file,object,r11,r12,r13,r21,r22,r23,r31,r32,r33", "a.png,1,1,0,0,0,1,0,0,0,2", "line 2 of view table"),
        ("file,object,azimuth", None, "has no line below its head: write one for each image"),
    ],
)
def test_a_damaged_table_is_explained(make_images, head, line, message):
    root = make_images(["a.png", "b.png"])
    more = {"azimuth": "b.png,1,9", "qz": "b.png,1,1,0,0,0", "r33": "b.png,1,1,0,0,0,1,0,0,0,1"}
    write(root, head, [] if line is None else [line, more.get(head.split(",")[-1], "b.png,1,1")])
    assert_refused(views(root), "poses.csv'", message)


def test_a_binary_table_is_refused(run):
    (run / "poses.csv").write_bytes(b"file\xff\xfe\x00")
    assert_refused(views(run), "is not a CSV file in UTF-8")


def test_poses_of_other_images_are_refused_with_an_example(run):
    transforms(run, ["x_1.png", "x_2.png"])
    assert_refused(
        views(run, views="transforms.json"), "0 of 2 frames", "the first is x_1.png, the first image is '0000"
    )


def test_two_images_of_one_number_are_refused_where_numbers_decide(run, make_images):
    make_images(["left/0003.png"])
    np.save(run / "poses.npy", np.tile(np.eye(4), (10, 1, 1)))
    assert_refused(views(run, views="poses.npy"), "both are the image of frame 3 of")


def test_a_camera_that_never_moves_has_a_single_view(run):
    np.save(run / "poses.npy", np.tile(np.eye(4), (10, 1, 1)))
    assert_refused(views(run, views="poses.npy"), "object 'run' of", "has a single view (0000.png)")
