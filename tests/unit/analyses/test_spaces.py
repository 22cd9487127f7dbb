"""Analyses of several latent spaces: participants, their codes, and what the frame checks and records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from latent_lab.analyses import AbstractSpacesAnalysis, HeldOut, Participant, Result
from latent_lab.analyses.spaces import number_name
from tests.unit.analyses.toys import Noise, ToyAutoencoder, ToyDecoder


@dataclass(frozen=True)
class Widths(AbstractSpacesAnalysis):
    """Counts coordinates."""

    name = "widths"
    most = 3

    def compare(self, participants: Sequence[Participant]) -> Result:
        numbers = {number_name(participants, one, "dim"): float(one.dim) for one in participants}
        return Result(self.name, numbers, {})


@dataclass(frozen=True)
class Pairs(Widths):
    name = "pairs"
    least = 2
    most = 2


class Broken(ToyAutoencoder):
    """Its third code is not a number."""

    def encode(self, images: Tensor) -> Tensor:
        codes = super().encode(images)
        codes[2] = float("nan")
        return codes


class Collapsed(ToyAutoencoder):
    """One code for all images."""

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images[:1]).expand(len(images), -1)


def participant(model: ToyAutoencoder | None = None) -> Participant:
    return Participant("toy", model or ToyAutoencoder(), Noise(10), Noise(20, seed=1))


def test_codes_are_those_of_evenly_spaced_images_in_order() -> None:
    one = participant()
    expected = one.model.encode(Noise(10).batch([0, 2, 5, 7], 16).images)
    torch.testing.assert_close(one.codes("held_out", 4), expected, rtol=0, atol=1e-6)


def test_the_size_of_batches_changes_no_code() -> None:
    torch.testing.assert_close(
        participant().codes("reference", None, 3), participant().codes("reference", None), rtol=0, atol=1e-6
    )


def test_images_are_encoded_once() -> None:
    one = participant()
    one.codes("reference", 8)
    reads = one.reference.reads
    one.codes("reference", 8)
    assert one.reference.reads == reads


def test_codes_of_some_images_are_kept_ones_where_there_are_some() -> None:
    one = participant()
    fresh = one.codes_of("reference", 8, [1, 5])
    torch.testing.assert_close(fresh, one.codes("reference", 8)[[1, 5]], rtol=0, atol=1e-6)
    reads = one.reference.reads
    one.codes_of("reference", 8, [2])
    assert one.reference.reads == reads


@pytest.mark.parametrize(("model", "said"), [(Broken(), "1 of 10 codes of toy"), (Collapsed(), "has collapsed")])
def test_codes_that_say_nothing_are_refused(model: ToyAutoencoder, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        participant(model).codes("held_out", None)


def test_one_model_has_plain_names_and_several_have_the_models_before_them() -> None:
    source = HeldOut(Noise(8), Noise(16, seed=1))
    assert Widths()(ToyAutoencoder(), source).numbers == {"dim": 6.0}
    two = Widths()([ToyAutoencoder(), ToyAutoencoder(dim=4)], source)
    assert two.numbers == {"ToyAutoencoder 1/dim": 6.0, "ToyAutoencoder 2/dim": 4.0}
    assert two.protocol["models"]["ToyAutoencoder 2"] == {"kind": "ToyAutoencoder", "dim": 4, "resolution": 16}


def test_the_protocol_says_which_model_saw_other_images() -> None:
    here, there = participant(), Participant("other", ToyAutoencoder(), Noise(10, seed=5), Noise(20, seed=1))
    protocol = Widths()([here, there]).protocol
    assert protocol["data"]["seed"] == 0
    assert protocol["data_of"]["other"]["seed"] == 5


def test_models_come_back_in_the_mode_that_they_came_in() -> None:
    model = ToyAutoencoder().train()
    Widths()(model, Noise(4))
    assert model.training


def test_decoders_without_an_encoder_are_refused() -> None:
    with pytest.raises(TypeError, match="encode"):
        Widths()(ToyDecoder(), Noise(4))


def test_the_number_of_models_is_checked() -> None:
    with pytest.raises(ValueError, match="pairs takes 2 models, got 1"):
        Pairs()(ToyAutoencoder(), Noise(4))
    with pytest.raises(ValueError, match="needs a name of its own"):
        Pairs()([participant(), participant()])


def test_without_images_there_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="name a data set or folder"):
        Widths()(ToyAutoencoder())
