"""Files of camera poses, each in the convention of the program that wrote it, as trajectories in one convention.

| format | found by | pose in the file | camera axes |
|---|---|---|---|
| table of the published face runs (Hou, Heljakka and Solin 2021) | .csv without a head | camera-to-world | OpenGL |
| ARKit recordings | .json, or a folder of one .json a frame, 16 numbers a pose | camera-to-world | OpenGL |
| NeRF's transforms.json | .json, rows of `transform_matrix` | camera-to-world | OpenGL |
| COLMAP's text model | images.txt, or a folder that has it | world-to-camera | OpenCV |
| arrays (T, 3, 3), (T, 3, 4) or (T, 4, 4) | .npy | as the caller says; camera-to-world | as the caller says; OpenGL |

OpenGL's camera has x right, y up and z towards the viewer (ARKit's is the same), OpenCV's x right, y down and z into
the scene. What comes out is camera-to-world with OpenGL's axes, see `latent.trajectory`; the world's axes and its unit
of length stay the file's. A frame whose pose is not finite counts as missing.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float64

from latent_lab.latent.trajectory import LatentTrajectory

PoseDirection: TypeAlias = Literal["camera_to_world", "world_to_camera"]
CameraAxes: TypeAlias = Literal["opengl", "opencv"]
Matrices: TypeAlias = Float64[np.ndarray, "T 4 4"]

OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Turns the camera half around its x axis; its own inverse."""

_TABLE_COLUMNS = "time, frame number, position x y z, and the three columns of the rotation one after the other"
_ARKIT_KEYS = ("transform", "cameraTransform", "camera_transform", "pose4x4", "cameraPoseARFrame", "cameraPose", "pose")
_TIME_KEYS = ("timestamp", "time")
_FRAME_KEYS = ("frame", "frame_index", "frame_number", "index")
_NAME_KEYS = ("file_path", "image", "name", "file")
_COLMAP_FOLDERS = ("", "sparse/0", "sparse", "0")
_COLMAP_COLUMNS = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"
_UNIT_QUATERNION_TOLERANCE = 0.01


@dataclass(frozen=True)
class _Poses:
    """What a file says, in its own convention and order."""

    matrices: Matrices
    frames: Sequence[int] | None = None
    times: Sequence[float] | None = None
    names: Sequence[str] = ()
    direction: PoseDirection = "camera_to_world"
    axes: CameraAxes = "opengl"


def read_poses(path: Path, *, direction: str | None = None, axes: str | None = None) -> LatentTrajectory:
    """The trajectory of a file or folder of poses; the module's table says of which formats.

    Frame numbers are the file's; else the last number in each image's name, if that tells them all apart; else the
    order of the names or of the file, from 0.

    Args:
        path: of the poses.
        direction: of the matrices in the file, "camera_to_world" or "world_to_camera"; none: the format's own.
        axes: of the camera in the file, "opengl" or "opencv"; none: the format's own.

    Raises:
        ValueError: if there is nothing, or nothing of a known format, at the path, an entry is damaged, a 3 x 3 is no
            rotation, a frame occurs twice, or fewer than two frames have a pose.
    """
    for what, given, known in (("direction", direction, PoseDirection), ("axes", axes, CameraAxes)):
        if given is not None and given not in get_args(known):
            raise ValueError(f"{what} of poses must be one of {', '.join(get_args(known))}, got {given!r}")
    if not path.exists():
        raise ValueError(
            f"pose file {str(path)!r} does not exist: give a .csv, .json or .npy file, or COLMAP's images.txt"
        )
    found = _reader_of(path)(path)
    try:
        return _trajectory(found, direction or found.direction, axes or found.axes)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from None


def frame_number(name: str) -> int | None:
    """The last number in a file's name: 12 for "run/frame_0012.png"; none if there is none."""
    digits = re.findall(r"\d+", PurePosixPath(name).stem)
    return int(digits[-1]) if digits else None


def is_pose_file(path: Path) -> bool:
    """Whether a file or folder is named like one of poses, other than a .csv file."""
    return path.is_dir() or path.suffix.lower() in (".json", ".npy", ".txt")


def _reader_of(path: Path) -> Callable[[Path], _Poses]:
    if path.is_dir():
        return _read_folder
    readers: Mapping[str, Callable[[Path], _Poses]] = {
        ".csv": _read_table,
        ".json": _read_json,
        ".npy": _read_array,
        ".txt": _read_colmap,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"pose file {str(path)!r} is of no known kind: give one of {', '.join(readers)} (COLMAP's images.bin "
            "becomes text by `colmap model_converter --output_type TXT`)"
        )
    return readers[path.suffix.lower()]


def _trajectory(found: _Poses, direction: str, axes: str) -> LatentTrajectory:
    matrices = found.matrices
    names = list(found.names)
    numbers = list(found.frames) if found.frames is not None else _numbers_of(names, len(matrices))
    known = [place for place in range(len(matrices)) if np.isfinite(matrices[place]).all()]
    order = sorted(known, key=numbers.__getitem__)
    frames = [numbers[place] for place in order]
    twice = [one for one, other in itertools.pairwise(frames) if one == other]
    if twice:
        raise ValueError(f"frame {twice[0]} has two poses: leave one of them")
    matrices = matrices[order]
    _check_last_rows(matrices, frames)
    if direction == "world_to_camera":
        matrices = _inverse(matrices)
    if axes == "opencv":
        matrices = matrices @ OPENCV_TO_OPENGL
    return LatentTrajectory.from_matrices(
        torch.from_numpy(matrices.reshape(-1, 4, 4)),
        frames,
        times=None if found.times is None else torch.tensor([found.times[place] for place in order]).double(),
        names=tuple(names[place] for place in order) if names else (),
    )


def _numbers_of(names: Sequence[str], count: int) -> list[int]:
    numbers = [frame_number(name) for name in names]
    if names and None not in numbers and len(set(numbers)) == count:
        return [number for number in numbers if number is not None]
    rank = {name: place for place, name in enumerate(sorted(names))}
    return [rank[name] for name in names] if names else list(range(count))


def _inverse(matrices: Matrices) -> Matrices:
    """Of rigid matrices, R^T and -R^T t, so that what is no rotation stays none."""
    inverse = np.zeros_like(matrices)
    inverse[:, :3, :3] = matrices[:, :3, :3].transpose(0, 2, 1)
    inverse[:, :3, 3] = -np.einsum("tij,tj->ti", inverse[:, :3, :3], matrices[:, :3, 3])
    inverse[:, 3, 3] = 1.0
    return inverse


def _check_last_rows(matrices: Matrices, frames: Sequence[int]) -> None:
    odd = np.abs(matrices[:, 3] - [0.0, 0.0, 0.0, 1.0]).max(axis=1, initial=0.0) > 1e-4
    if odd.any():
        place = int(odd.argmax())
        row = " ".join(f"{value:g}" for value in matrices[place, 3])
        raise ValueError(
            f"the matrix of frame {frames[place]} has the last row {row} instead of 0 0 0 1: write matrices row by "
            "row, the position in the last column"
        )


def _homogeneous(rotations: Float64[np.ndarray, "T 3 3"], translations: Float64[np.ndarray, "T 3"]) -> Matrices:
    matrices = np.zeros((len(rotations), 4, 4))
    matrices[:, :3, :3], matrices[:, :3, 3], matrices[:, 3, 3] = rotations, translations, 1.0
    return matrices


# ---------------------------------------------------------------------------------------------------------- formats


def _read_table(path: Path) -> _Poses:
    """The published table: 14 numbers a row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = [(number, row) for number, row in enumerate(csv.reader(stream), start=1) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"pose file {str(path)!r} is not a CSV file in UTF-8 ({error}): write it as one") from None
    rows = []
    for number, entries in lines:
        try:
            rows.append([float(entry) for entry in entries])
        except ValueError:
            raise ValueError(
                f"line {number} of pose file {str(path)!r} is not all numbers ({','.join(entries)[:60]!r}): write "
                f"{_TABLE_COLUMNS}, without a head"
            ) from None
        if len(entries) != 14 or not rows[-1][1].is_integer():
            found = f"{len(entries)} numbers, not 14" if len(entries) != 14 else f"the frame number {rows[-1][1]:g}"
            raise ValueError(f"line {number} of pose file {str(path)!r} has {found}: write {_TABLE_COLUMNS}")
    table = np.array(rows, dtype=np.float64).reshape(-1, 14)
    rotations = table[:, 5:].reshape(-1, 3, 3).transpose(0, 2, 1)
    return _Poses(
        _homogeneous(rotations, table[:, 2:5]),
        frames=[int(number) for number in table[:, 1]],
        times=table[:, 0].tolist(),
    )


def _read_json(path: Path) -> _Poses:
    content = _load_json(path)
    entries = content.get("frames", content.get("poses")) if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(
            f'pose file {str(path)!r} has no list of frames: write {{"frames": [...]}} with an object for each frame'
        )
    return _from_entries(path, entries)


def _read_folder(path: Path) -> _Poses:
    for folder in _COLMAP_FOLDERS:
        if (path / folder / "images.txt").is_file():
            return _read_colmap(path / folder / "images.txt")
    for folder in _COLMAP_FOLDERS:
        if (path / folder / "images.bin").is_file():
            raise ValueError(
                f"{str(path / folder / 'images.bin')!r} is COLMAP's binary form: write the text form by `colmap "
                "model_converter --output_type TXT`"
            )
    loaded = ((file.stem, _load_json(file)) for file in sorted(path.glob("*.json")))
    entries = [
        {"name": stem, **entry}
        for stem, entry in loaded
        if isinstance(entry, dict) and any(key in entry for key in _ARKIT_KEYS)
    ]
    if not entries:
        raise ValueError(
            f"folder {str(path)!r} has neither COLMAP's images.txt nor a .json file of each frame's pose: name the "
            "file of the poses"
        )
    return _from_entries(path, entries)


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"pose file {str(path)!r} is not JSON ({error}): get the file again") from None


def _from_entries(path: Path, entries: Sequence[Mapping[str, Any]]) -> _Poses:
    names = [str(_first(entry, _NAME_KEYS, default="")) for entry in entries]
    frames = [_first(entry, _FRAME_KEYS) for entry in entries]
    times = [_first(entry, _TIME_KEYS) for entry in entries]
    by_rows = [entry["transform_matrix"] for entry in entries if "transform_matrix" in entry]
    if by_rows:
        matrices = _sixteen_each(path, by_rows, len(entries), "transform_matrix")
    else:
        sixteens = [_first(entry, _ARKIT_KEYS) for entry in entries]
        flat = _sixteen_each(path, [one for one in sixteens if one is not None], len(entries), "transform")
        matrices = flat.transpose(0, 2, 1) if _by_columns(flat) else flat
    return _Poses(
        matrices,
        frames=[int(frame) for frame in frames] if all(isinstance(frame, int) for frame in frames) else None,
        times=[float(time) for time in times] if all(isinstance(time, int | float) for time in times) else None,
        names=names if all(names) and len(set(names)) == len(names) else (),
    )


def _first(entry: Mapping[str, Any], keys: Sequence[str], default: Any = None) -> Any:
    return next((entry[key] for key in keys if key in entry), default)


def _sixteen_each(path: Path, values: Sequence[Any], count: int, key: str) -> Matrices:
    """Arrays (T, 4, 4) as the numbers stand in the file."""
    if len(values) != count:
        raise ValueError(
            f"pose file {str(path)!r} has {count} frames and only {len(values)} of them a pose (key {key!r}): leave "
            "out frames without a pose"
        )
    matrices = []
    for place, value in enumerate(values):
        try:
            matrices.append(np.array(value, dtype=np.float64).reshape(4, 4))
        except (ValueError, TypeError):
            raise ValueError(
                f"entry {place} of pose file {str(path)!r} should be 16 numbers, got {str(value)[:60]!r}: write the "
                "camera's 4 x 4 matrix"
            ) from None
    return np.array(matrices).reshape(-1, 4, 4)


def _by_columns(matrices: Matrices) -> bool:
    """Whether the numbers are stacked columns, as ARKit keeps them (some recorders write rows).

    It is seen from where 0, 0, 0, 1 stands. Where both are possible, because no camera has moved from the origin, the
    numbers are ARKit's columns.
    """
    return bool(np.abs(np.nan_to_num(matrices[:, :3, 3])).max(initial=0.0) <= 1e-6)


def _read_colmap(path: Path) -> _Poses:
    """A line for each image, followed by a line (maybe empty) of its points."""
    numbered = list(enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1))
    lines = [(number, line) for number, line in numbered if not line.startswith("#")]
    while lines and not lines[-1][1].strip():
        lines.pop()
    numbers, names = [], []
    for number, line in lines[::2]:
        words = line.split(maxsplit=9)
        try:
            numbers.append([float(word) for word in words[1:8]])
            names.append(words[9].strip())
        except (ValueError, IndexError):
            raise ValueError(
                f"line {number} of {str(path)!r} should be {_COLMAP_COLUMNS}, got {line[:60]!r}: write each image on "
                "one line and its points, or nothing, on the next, as COLMAP does"
            ) from None
    table = np.array(numbers, dtype=np.float64).reshape(-1, 7)
    length = np.linalg.norm(table[:, :4], axis=1)
    if (odd := np.abs(length - 1) > _UNIT_QUATERNION_TOLERANCE).any():
        place = int(odd.argmax())
        raise ValueError(
            f"the quaternion of {names[place]!r} in {str(path)!r} has length {length[place]:.3g}, not 1: it is no "
            "rotation"
        )
    matrices = _homogeneous(rotations_of_quaternions(table[:, :4]), table[:, 4:])
    return _Poses(matrices, names=names, direction="world_to_camera", axes="opencv")


def _read_array(path: Path) -> _Poses:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"pose file {str(path)!r} is no NPY file of numbers ({error}): get the file again") from None
    if array.ndim != 3 or array.shape[1:] not in ((3, 3), (3, 4), (4, 4)) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"pose file {str(path)!r} should hold numbers of shape (T, 3, 3), (T, 3, 4) or (T, 4, 4), found "
            f"{array.dtype} of shape {array.shape}"
        )
    array = array.astype(np.float64)
    if array.shape[1:] == (4, 4):
        return _Poses(array)
    return _Poses(_homogeneous(array[:, :, :3], array[:, :, 3] if array.shape[2] == 4 else np.zeros((len(array), 3))))


def rotations_of_quaternions(quaternions: Float64[np.ndarray, "N 4"]) -> Float64[np.ndarray, "N 3 3"]:
    """Rotations of quaternions w, x, y, z (Hamilton's), which are normalised first."""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)


__all__ = [
    "OPENCV_TO_OPENGL",
    "CameraAxes",
    "PoseDirection",
    "frame_number",
    "is_pose_file",
    "read_poses",
    "rotations_of_quaternions",
]
