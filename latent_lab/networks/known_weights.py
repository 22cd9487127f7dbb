"""Every published weights file that evaluation may use, so that they can be listed and collected."""

from __future__ import annotations

from latent_lab.networks.face_age import DLIB_AGE
from latent_lab.networks.face_identity import DLIB_FACE
from latent_lab.networks.features import EFFICIENTNET_LITE0, INCEPTION
from latent_lab.networks.perceptual import LPIPS_TRUNKS, ST_LPIPS_ALEX
from latent_lab.networks.pretrained import PublishedWeights

KNOWN_WEIGHTS: tuple[PublishedWeights, ...] = (
    INCEPTION,
    *LPIPS_TRUNKS.values(),
    ST_LPIPS_ALEX,
    EFFICIENTNET_LITE0,
    DLIB_FACE,
    DLIB_AGE,
)
"""In the order in which they are listed."""

__all__ = ["KNOWN_WEIGHTS"]
