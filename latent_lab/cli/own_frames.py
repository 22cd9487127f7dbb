"""A person's own run of a camera: frames in a folder, and a file of the camera's poses."""

from __future__ import annotations

from pathlib import Path

from latent_lab.analyses.camera_runs import CameraRun, RunImages
from latent_lab.data.own_images import OwnImages
from latent_lab.data.poses import read_poses
from latent_lab.data.view_tables import images_of_frames


def own_frames(
    folder: Path, poses: Path, *, grey: bool = False, direction: str | None = None, axes: str | None = None
) -> RunImages:
    """The run of a folder's images and a file of poses; frames without an image stay in it, to be predicted.

    Args:
        folder: of the images.
        poses: of the frames; `latent_lab.data.poses` says in which formats, and how frames and images are matched.
        grey: whether colours become grey.
        direction: of the matrices in the file, "camera_to_world" or "world_to_camera"; none: the format's own.
        axes: of the camera in the file, "opengl" or "opencv"; none: the format's own.

    Raises:
        ValueError: if images or poses cannot be read, or fewer than two frames have both.
    """
    images = OwnImages(folder, grey=grey)
    trajectory = read_poses(poses, direction=direction, axes=axes)
    place_of = {name: place for place, name in enumerate(images.names)}
    found = images_of_frames(trajectory, images.names, poses)
    places = tuple(None if name is None else place_of[name] for name in found)
    if sum(place is not None for place in places) < 2:
        first = trajectory.names[0] if trajectory.names else f"frame {int(trajectory.frames[0])}"
        raise ValueError(
            f"fewer than two frames of {poses.name} have an image in {folder}: the first frame is {first}, the first "
            f"image {images.names[0]}"
        )
    return RunImages(images, CameraRun(folder.name, trajectory, places))


__all__ = ["own_frames"]
