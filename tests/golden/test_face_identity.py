"""The published face embedding tells people apart, which shows that layers, colours and box are in their places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from latent_lab.images import from_bytes
from latent_lab.networks.face_identity import SAME_PERSON, distance, find_identity

PEOPLE = ("001", "002", "003", "004", "005", "006")


def test_one_person_neutral_and_smiling_is_one_and_others_are_others(shared: Path) -> None:
    identity = find_identity(shared / "data" / "weights_face_id_dlib", "ffhq")
    assert identity.canonical

    def embed(expression: str) -> torch.Tensor:
        folder = shared / "data" / "faces_london_ccby256" / "images"
        files = [next(folder.glob(f"**/london_{person}_{expression}.jpg")) for person in PEOPLE]
        pixels = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
        return identity(from_bytes(torch.from_numpy(pixels)))

    neutral, smiling = embed("neutral"), embed("smiling")
    assert distance(neutral, smiling).max() < SAME_PERSON
    # dlib's own distances of strangers are about 0.8; of few and similar people some may come close to its threshold.
    assert torch.cdist(neutral, smiling)[~torch.eye(len(PEOPLE), dtype=torch.bool)].median() > SAME_PERSON
