"""What a view-conditioned model keeps of its training images: objects, views, poses, codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from latent_lab.priors.poses import Poses
from latent_lab.types import ImageBatch, ImageSource, Latents

_BLOCK = 256


@dataclass(frozen=True, eq=False)
class TrainingViews:
    """Objects, views and poses of the n training images, in their order."""

    poses: Poses
    """Of each image, with the number of its object; float64."""
    views: Int[Tensor, "N"]
    """Number of each image's view."""
    place: Int[Tensor, "O V"]
    """Place of the image of each (object, view), -1 where there is none."""
    columns: tuple[int, int]
    """Of object and view in the labels."""

    def __len__(self) -> int:
        return len(self.views)

    @property
    def objects(self) -> Int[Tensor, "N"]:
        """Number of each image's object."""
        assert self.poses.objects is not None
        return self.poses.objects

    def rows(self, batch: ImageBatch) -> Int[Tensor, "B"]:
        """Places of a batch's images among the training images."""
        assert batch.labels is not None
        objects, views = (batch.labels[:, column].long() for column in self.columns)
        return self.place[objects, views]

    @classmethod
    def read(cls, source: ImageSource, num_objects: int, num_views: int, resolution: int) -> TrainingViews:
        """Looks through the training images.

        Args:
            source: the training images.
            num_objects: how many objects the model knows.
            num_views: how many views.
            resolution: at which they are packed.

        Raises:
            ValueError: if objects, views or poses are not known, there are more of them than the model knows, or two
                images show the same.
        """
        names = tuple(source.label_names)
        first = source.batch([0], resolution)
        if not {"object", "view"} <= set(names) or first.pose is None:
            raise ValueError(
                "GPVAE learns from objects seen from known views, and these images have no labels object and view or "
                "no pose: take the data set MultiViewImages or SyntheticViews"
            )
        columns = names.index("object"), names.index("view")
        labels, poses = [], []
        for start in range(0, len(source), _BLOCK):
            batch = source.batch(range(start, min(start + _BLOCK, len(source))), resolution)
            assert batch.labels is not None
            assert batch.pose is not None
            labels.append(batch.labels[:, list(columns)])
            poses.append(batch.pose)
        objects, views = torch.cat(labels).long().unbind(1)
        for what, found, known in (("object", objects, num_objects), ("view", views, num_views)):
            if not 0 <= int(found.min()) <= int(found.max()) < known:
                raise ValueError(
                    f"num_{what}s is {known}, and the training images have the {what} number {int(found.max())}: set "
                    f"it to {int(found.max()) + 1} or more"
                )
        place = torch.full((num_objects, num_views), -1)
        place[objects, views] = torch.arange(len(objects))
        twice = place[objects, views] != torch.arange(len(objects))
        if twice.any():
            row = int(twice.nonzero()[0, 0])
            raise ValueError(
                f"object {int(objects[row])} is shown twice from view {int(views[row])}, and GPVAE has one latent for "
                "each pair: leave one image out, or give it another number of view"
            )
        return cls(Poses.from_matrices(torch.cat(poses), objects), views, place, columns)

    def to(self, device: torch.device) -> TrainingViews:
        """The same on a device."""
        poses = Poses(self.poses.rotations.to(device), self.poses.translations, self.objects.to(device))
        return TrainingViews(poses, self.views.to(device), self.place.to(device), self.columns)


class CodeTable(nn.Module):
    """Codes of the training images as saved buffers: predictions need them, and the checkpoint alone is enough.

    Args:
        num_objects: rows.
        num_views: columns.
        latent_dim: D.
    """

    seen: Tensor
    means: Tensor
    deviations: Tensor
    rotations: Tensor

    def __init__(self, num_objects: int, num_views: int, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(num_objects, num_views, dtype=torch.bool))
        self.register_buffer("means", torch.zeros(num_objects, num_views, latent_dim))
        self.register_buffer("deviations", torch.ones(num_objects, num_views, latent_dim))
        self.register_buffer("rotations", torch.eye(3, dtype=torch.float64).repeat(num_views, 1, 1))

    @torch.no_grad()
    def write(self, views: TrainingViews, means: Latents, deviations: Latents) -> None:
        """Replaces the codes by those of all training images."""
        self.seen.zero_()
        self.seen[views.objects, views.views] = True
        self.means[views.objects, views.views] = means.to(self.means)
        self.deviations[views.objects, views.views] = deviations.to(self.deviations)
        self.rotations[views.views] = views.poses.rotations.to(self.rotations)

    def read(self) -> tuple[Poses, Int[Tensor, "N"], Latents, Latents]:
        """Poses with objects, views, means and deviations of the images seen, by object, then by view.

        Raises:
            ValueError: if there are none.
        """
        objects, views = self.seen.nonzero().unbind(1)
        if len(objects) == 0:
            raise ValueError(
                "this GPVAE has no codes of training images, from which it predicts others: train it, or load a "
                "checkpoint of a run"
            )
        poses = Poses(self.rotations[views], None, objects)
        return poses, views, self.means[objects, views], self.deviations[objects, views]


__all__ = ["CodeTable", "TrainingViews"]
