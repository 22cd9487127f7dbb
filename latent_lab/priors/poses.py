"""Poses: what a prior over latents knows about each frame."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from latent_lab.latent.rotations import ROTATION_TOLERANCE, Matrices, check_rotations, project_rotations
from latent_lab.priors.rotations import rotations_of


@dataclass(frozen=True, eq=False)
class Poses:
    """The poses of N frames; kernels compare two of them.

    Rotations are camera-to-world (camera-to-object) matrices: their columns are the camera's axes in the world.
    `Poses.of` makes them from unchecked matrices.

    Args:
        rotations: (N, 3, 3).
        translations: (N, 3) places of the camera in the world; none, where a kernel does not ask for them.
        objects: (N,) numbers of the objects seen, from 0; none, if there is one.

    Raises:
        ValueError: if numbers of frames differ.
    """

    rotations: Matrices
    translations: Float[Tensor, "T 3"] | None = None
    objects: Int[Tensor, "O"] | None = None

    def __post_init__(self) -> None:
        count = len(self.rotations)
        for name, value in (("translations", self.translations), ("objects", self.objects)):
            if value is not None and len(value) != count:
                raise ValueError(f"{count} rotations need as many {name}, got {len(value)}")

    @classmethod
    def of(
        cls,
        rotations: Matrices,
        translations: Tensor | None = None,
        objects: Tensor | None = None,
        *,
        tolerance: float = ROTATION_TOLERANCE,
    ) -> Poses:
        """Checked poses in float64: rounded rotations become exact ones, other matrices are refused.

        Args:
            rotations: (N, 3, 3).
            translations: (N, 3).
            objects: (N,).
            tolerance: see `check_rotations`.

        Raises:
            ValueError: if a matrix is no rotation, a translation is not finite, or numbers of frames differ.
        """
        check_rotations(rotations, tolerance)
        if translations is not None:
            lost = ~translations.isfinite().all(1)
            if lost.any():
                raise ValueError(
                    f"translation {int(lost.nonzero()[0, 0])} of {len(lost)} is not finite: leave out frames whose "
                    "pose is not known"
                )
            translations = translations.double()
        return cls(project_rotations(rotations), translations, objects)

    @classmethod
    def from_matrices(
        cls, matrices: Float[Tensor, "N R 4"], objects: Tensor | None = None, *, tolerance: float = ROTATION_TOLERANCE
    ) -> Poses:
        """Checked poses of camera-to-world matrices [R | t], as `ImageBatch.pose` has them.

        Args:
            matrices: (N, 3, 4) or (N, 4, 4).
            objects: (N,).
            tolerance: see `check_rotations`.

        Raises:
            ValueError: as `of`, and if matrices are of another shape.
        """
        if matrices.shape[1] not in (3, 4):
            raise ValueError(f"poses are matrices (N, 3, 4) or (N, 4, 4), got {tuple(matrices.shape)}")
        return cls.of(matrices[:, :3, :3], matrices[:, :3, 3], objects, tolerance=tolerance)

    def __len__(self) -> int:
        return len(self.rotations)

    def __getitem__(self, rows: Tensor | slice | list[int]) -> Poses:
        """The poses of some frames: a slice, a list of places, or a tensor of places or of truth values."""
        return Poses(*(None if part is None else part[rows] for part in self._parts))  # type: ignore[arg-type]

    @property
    def _parts(self) -> tuple[Tensor | None, ...]:
        return self.rotations, self.translations, self.objects


class PoseTable(nn.Module):
    """Poses as part of a module: they are saved with it and move between devices.

    Args:
        poses: where they are at first.
        learn: whether they are learned: each is turned from where it was by a rotation vector, and moved.
    """

    rotations: Tensor
    translations: Tensor | None
    objects: Tensor | None

    def __init__(self, poses: Poses, *, learn: bool = False) -> None:
        super().__init__()
        self.register_buffer("rotations", poses.rotations.detach().double().clone())
        self.register_buffer("objects", None if poses.objects is None else poses.objects.clone())
        places = None if poses.translations is None else poses.translations.detach().double().clone()
        if learn:
            self.turn = nn.Parameter(self.rotations.new_zeros(len(poses), 3))
            self.translations = None if places is None else nn.Parameter(places)
        else:
            self.register_parameter("turn", None)
            self.register_buffer("translations", places)

    def __len__(self) -> int:
        return len(self.rotations)

    def forward(self) -> Poses:
        """The poses as they are now."""
        # Turned in the camera's own axes.
        turned = self.rotations if self.turn is None else self.rotations.double() @ rotations_of(self.turn)
        return Poses(turned, self.translations, self.objects)
