"""Which image shows which object from where: a table of views, or a file of camera poses for a single run."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float64, Int64

from latent_lab.data.poses import frame_number, is_pose_file, read_poses, rotations_of_quaternions
from latent_lab.latent.trajectory import LatentTrajectory, nearest_rotations

VIEW_COLUMNS = (
    "file, object, and azimuth (degrees; optionally elevation), or a camera-to-object rotation as r11 ... r33 or as a "
    "quaternion qw qx qy qz (optionally the position tx ty tz)"
)
"""What a table of views has."""

_AZIMUTH = ("azimuth", "azimuth_deg", "angle", "angle_deg")
_ELEVATION = ("elevation", "elevation_deg")
_MATRIX = tuple(f"r{row}{column}" for row in "123" for column in "123")
_QUATERNION = ("qw", "qx", "qy", "qz")
_POSITION = ("tx", "ty", "tz")
_SAME_VIEW = 1e-6
"""Poses whose entries differ by less are one view."""


@dataclass(frozen=True)
class ViewTable:
    """Images of objects from known poses, by object, then by view."""

    files: tuple[str, ...]
    """Names of the N images below the data set's folder."""
    objects: Int64[np.ndarray, "N"]
    """Number of the object, 0 ... P - 1 in the order of `object_names`."""
    views: Int64[np.ndarray, "N"]
    """Number of the view, 0 ... Q - 1; equal for equal poses, neighbours for neighbouring angles or frames."""
    poses: Float64[np.ndarray, "N 4 4"]
    """Camera-to-object, see `latent.trajectory`."""
    object_names: tuple[str, ...]
    """As the table calls the P objects."""
    notes: tuple[str, ...]
    """What was left out, in sentences."""


def read_views(path: Path, images: Sequence[str]) -> ViewTable:
    """The views of a folder's images.

    A table is a CSV file with the columns file, object, and azimuth (degrees; elevation may be added) or a rotation;
    its azimuth is that of the camera around the object, counter-clockwise seen from above, where 0 looks at the
    object's front; without a position the camera is at distance 1. A turntable whose sense of rotation is the other
    one mirrors all poses, which no isotropic kernel sees. Everything else that `read_poses` takes is a run of one
    object, whose frames belong to the images by their names or else by the last number in these.

    Args:
        path: of the table or the poses.
        images: names of the folder's images.

    Raises:
        ValueError: if there is no such file, it names an image that is not there, an object has a single view, or an
            entry is damaged.
    """
    if not path.exists():
        raise ValueError(
            f"view table {str(path)!r} does not exist: write a CSV file with the columns {VIEW_COLUMNS}, or name a "
            "file of camera poses"
        )
    table = _from_poses(path, images) if _is_of_poses(path) else _from_table(path, images)
    for number, name in enumerate(table.object_names):
        own = table.objects == number
        if len(np.unique(table.views[own])) < 2:
            raise ValueError(
                f"object {name!r} of {str(path)!r} has a single view ({table.files[int(own.argmax())]}), and a view "
                "can be told from an object by two or more only: add views or leave the object out"
            )
    return table


def _is_of_poses(path: Path) -> bool:
    if is_pose_file(path):
        return True
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        first = stream.readline().partition(",")[0]
    # The published table of poses begins with a time, a table of views with the names of its columns.
    return _natural(first.strip())[0] < float("inf")


def _from_poses(path: Path, images: Sequence[str]) -> ViewTable:
    run = read_poses(path)
    found = images_of_frames(run, images, path)
    rows = [place for place, image in enumerate(found) if image is not None]
    if len(rows) < 2:
        example = run.names[0] if run.names else f"frame {int(run.frames[0])}"
        raise ValueError(
            f"{len(rows)} of {len(run)} frames of {str(path)!r} have an image, and at least two are needed: the first "
            f"is {example}, the first image is {images[0]!r}"
        )
    files = tuple(image for image in found if image is not None)
    notes = [run.describe()]
    if len(files) < len(run):
        notes.append(f"{len(run) - len(files)} of {len(run)} frames with a pose have no image.")
    poses = run.matrices[rows].numpy()
    return ViewTable(
        files=files,
        objects=np.zeros(len(files), dtype=np.int64),
        views=_numbered(poses, order=np.arange(len(files))),
        poses=poses,
        object_names=("run",),
        notes=(*notes, *_left_out(files, images)),
    )


def images_of_frames(run: LatentTrajectory, images: Sequence[str], path: Path) -> list[str | None]:
    """The image of each frame of a run: the one that its pose names, else the one with the frame's number in its name.

    Args:
        run: of `read_poses`.
        images: names of a folder's images.
        path: of the poses, for messages.

    Returns:
        A name for each frame, none where there is no image.

    Raises:
        ValueError: if two images are of one frame.
    """
    if run.names:
        where = _Images(images)
        return [where.find(name) for name in run.names]
    by_number: dict[int | None, str] = {}
    for image in images:
        number = frame_number(image)
        if number is not None and number in by_number:
            raise ValueError(
                f"{image!r} and {by_number[number]!r} both are the image of frame {number} of {str(path)!r}: leave "
                "one of them in the folder"
            )
        by_number[number] = image
    return [by_number.get(number) for number in run.frames.tolist()]


def _from_table(path: Path, images: Sequence[str]) -> ViewTable:
    columns, rows = _read_csv(path)
    where = _Images(images)
    files = []
    for line, row in enumerate(rows, start=2):
        image = where.find(row["file"].strip())
        if image is None:
            raise ValueError(
                f"line {line} of view table {str(path)!r} names {row['file']!r}, which is not among the {len(images)} "
                f"images of the folder (the first is {images[0]!r}): write relative file names, or delete the line"
            )
        files.append(image)
    if len(set(files)) < len(files):
        twice = next(name for name in files if files.count(name) > 1)
        raise ValueError(f"view table {str(path)!r} has two lines for {twice!r}: leave one of them")
    names = [row["object"].strip() for row in rows]
    object_names = sorted(set(names), key=_natural)
    objects = np.array([object_names.index(name) for name in names], dtype=np.int64)
    poses, rank = _poses_of(path, columns, rows)
    views = _numbered(poses, order=rank)
    order = np.lexsort((views, objects))
    return ViewTable(
        files=tuple(files[place] for place in order),
        objects=objects[order],
        views=views[order],
        poses=poses[order],
        object_names=tuple(object_names),
        notes=tuple(_left_out(files, images)),
    )


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restval="")
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"view table {str(path)!r} is not a CSV file in UTF-8 ({error}): write it as one") from None
    if "file" not in columns or "object" not in columns or not _pose_columns(columns):
        found = ", ".join(columns[:6]) or "nothing"
        raise ValueError(f"view table {str(path)!r} has the columns {found}: it needs {VIEW_COLUMNS}")
    if not rows:
        raise ValueError(f"view table {str(path)!r} has no line below its head: write one for each image")
    return columns, rows


def _pose_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Those that say the rotation: the matrix, else the quaternion, else the angles."""
    for wanted in (_MATRIX, _QUATERNION):
        if set(wanted) <= set(columns):
            return wanted
    azimuth = [name for name in _AZIMUTH if name in columns][:1]
    elevation = [name for name in _ELEVATION if name in columns][:1]
    return (*azimuth, *elevation) if azimuth else ()


def _poses_of(
    path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]
) -> tuple[Float64[np.ndarray, "N 4 4"], Int64[np.ndarray, "N"]]:
    """Camera-to-object matrices, and the images' ranks by angle or, with rotations, in the table."""
    chosen = _pose_columns(columns)
    numbers = _numbers(path, rows, chosen)
    rank = np.arange(len(rows))
    if chosen == _MATRIX:
        rotations = numbers.reshape(-1, 3, 3)
    elif chosen == _QUATERNION:
        if (odd := np.abs(np.linalg.norm(numbers, axis=1) - 1) > 0.01).any():
            raise ValueError(
                f"line {int(odd.argmax()) + 2} of view table {str(path)!r} has a quaternion that is not of length 1: "
                "it is no rotation"
            )
        rotations = rotations_of_quaternions(numbers)
    else:
        azimuth, elevation = numbers[:, 0], numbers[:, 1] if len(chosen) == 2 else np.zeros(len(numbers))
        rotations = look_at_origin(azimuth, elevation)
        rank = np.lexsort((np.mod(azimuth, 360.0), elevation)).argsort()
    poses = np.zeros((len(rows), 4, 4))
    called = [f"line {line} of view table {str(path)!r}" for line in range(2, len(rows) + 2)]
    poses[:, :3, :3] = nearest_rotations(torch.from_numpy(rotations), called).numpy()
    has_position = set(_POSITION) <= set(columns)
    poses[:, :3, 3] = _numbers(path, rows, _POSITION) if has_position else poses[:, :3, 2]
    poses[:, 3, 3] = 1.0
    return poses, rank


def look_at_origin(
    azimuth: Float64[np.ndarray, "N"], elevation: Float64[np.ndarray, "N"]
) -> Float64[np.ndarray, "N 3 3"]:
    """Camera-to-object rotations of upright cameras that look at the object, Ry(azimuth) Rx(-elevation).

    The camera's place, at distance 1, is the last column (sin a cos e, sin e, cos a cos e): at a = e = 0 it is in front
    of the object on its z axis, azimuth counts counter-clockwise seen from above (from +y), elevation upwards.

    Args:
        azimuth: degrees.
        elevation: degrees.
    """
    a, e = np.deg2rad(azimuth), np.deg2rad(elevation)
    ca, sa, ce, se, zero = np.cos(a), np.sin(a), np.cos(e), np.sin(e), np.zeros_like(a)
    return np.array([[ca, -sa * se, sa * ce], [zero, ce, se], [-sa, -ca * se, ca * ce]]).transpose(2, 0, 1)


def _numbers(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> Float64[np.ndarray, "N K"]:
    numbers = np.empty((len(rows), len(columns)))
    for place, row in enumerate(rows):
        for column, name in enumerate(columns):
            try:
                numbers[place, column] = float(row[name])
            except ValueError:
                numbers[place, column] = np.nan
            if not np.isfinite(numbers[place, column]):
                raise ValueError(
                    f"line {place + 2} of view table {str(path)!r} has {row[name]!r} as {name}: write a number, or "
                    "delete the line"
                )
    return numbers


def _numbered(poses: Float64[np.ndarray, "N 4 4"], order: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
    """Number of each pose among the different ones, in the order of the first image that has it."""
    rounded = np.rint(poses[:, :3].reshape(len(poses), 12) / _SAME_VIEW)
    _, group = np.unique(rounded + 0.0, axis=0, return_inverse=True)
    first = np.full(group.max() + 1, len(poses))
    np.minimum.at(first, group, order)
    return first.argsort().argsort()[group].astype(np.int64)


def _natural(name: str) -> tuple[float, str]:
    """Numbers by their value, before words."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name


def _left_out(files: Sequence[str], images: Sequence[str]) -> list[str]:
    count = len(set(images) - set(files))
    return [f"{count} images have no known view and are left out."] if count else []


class _Images:
    """Finds images by relative name, else by the last part of it, with or without suffix, if that is of one image."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)
        self._by_last_part: dict[str, set[str]] = defaultdict(set)
        for name in names:
            self._by_last_part[PurePosixPath(name).name].add(name)
            self._by_last_part[PurePosixPath(name).stem].add(name)

    def find(self, name: str) -> str | None:
        """The image of that name; none if there is none."""
        name = name.removeprefix("./")
        alike = self._by_last_part.get(PurePosixPath(name).name, set())
        if name in self._names:
            return name
        return next(iter(alike)) if len(alike) == 1 else None


__all__ = ["VIEW_COLUMNS", "ViewTable", "images_of_frames", "look_at_origin", "read_views"]
