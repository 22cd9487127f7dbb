from __future__ import annotations

import pytest
import torch

from latent_lab.analyses import Overview, Reconstruct, Sample
from tests.unit.analyses.toys import Noise, ToyAutoencoder, ToyDecoder

SIDE = 64 + 2 * 4  # 16 pixels and a white edge of 2, four times enlarged


def test_rows_are_images_reconstructions_and_samples():
    picture = Overview(num=3)(ToyAutoencoder(), Noise(3)).pictures["overview"]
    pairs = Reconstruct(num=3, columns=3)(ToyAutoencoder(), Noise(3)).pictures["reconstructions"]
    samples = Sample(num=3, columns=3)(ToyAutoencoder()).pictures["samples"]
    assert torch.equal(picture[..., : 2 * SIDE, :], pairs[..., : 2 * SIDE, :])
    assert torch.equal(picture[..., 2 * SIDE :, :], samples)


def test_a_model_that_cannot_encode_shows_samples_alone():
    result = Overview(num=4, sample_rows=2)(ToyDecoder(), Noise(9))
    assert result.protocol["rows"] == ["samples"]
    assert torch.equal(result.pictures["overview"], Sample(num=8, columns=4)(ToyDecoder()).pictures["samples"])


def test_a_small_source_makes_a_narrow_sheet():
    picture = Overview(num=8)(ToyAutoencoder(), Noise(2)).pictures["overview"]
    assert picture.shape[-1] == Overview(num=2)(ToyAutoencoder(), Noise(2)).pictures["overview"].shape[-1]


def test_no_pictures_are_refused():
    with pytest.raises(ValueError, match="overview needs num of at least 1, got 0"):
        Overview(num=0)
