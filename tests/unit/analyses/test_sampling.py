"""Samples that are kept by latent round trip, and samples mixed of two latents."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab import distributed
from latent_lab.analyses import Sample
from latent_lab.analyses.feeding import prior_latents
from latent_lab.analyses.sample import OTHER_STREAM, STREAM, Sampling, draw_samples
from tests.unit.analyses.layered_toys import ToyLayeredDecoder
from tests.unit.analyses.toys import ToyAutoencoder, ToyDecoder


class HalfBlind(ToyAutoencoder):
    """Finds latents again the worse, the smaller their first coordinate is."""

    def encode(self, images: Tensor) -> Tensor:
        # An exact inverse of the decoder, then a fixed direction mixed in.
        flat = torch.atanh((images.flatten(1).double() / 1.2).clamp(-0.999999, 0.999999))
        latents = (flat @ torch.linalg.pinv(self.matrix.double())).float()
        axis = torch.zeros_like(latents)
        axis[:, 0] = 3.0
        return self.space.project(latents + axis)


def samples(sampling: Sampling, num: int, batch_size: int = 64) -> Tensor:
    return draw_samples(HalfBlind(), num, sampling, batch_size).detach()


@pytest.mark.parametrize(("percent", "kept"), [(25, 2), (50, 4), (1, 1), (99, 7)])
def test_of_every_group_those_are_kept_whose_latents_are_found_again_best(percent: int, kept: int) -> None:
    model = HalfBlind()
    latents = prior_latents(model, 0, STREAM, range(24))
    # The cosine with z + 3 axis grows with the first coordinate of z on the unit sphere.
    chosen = [
        index
        for group in range(3)
        for index in sorted(sorted(range(8 * group, 8 * group + 8), key=lambda i: -latents[i, 0].item())[:kept])
    ]
    expected = model.decode(latents[chosen]).detach()
    torch.testing.assert_close(samples(Sampling(0, keep_percent=percent), 3 * kept), expected)


def test_keeping_all_is_plain_sampling() -> None:
    model = HalfBlind()
    plain = model.decode(prior_latents(model, 4, STREAM, range(10))).detach()
    torch.testing.assert_close(samples(Sampling(4, keep_percent=100, group=3), 10), plain)


def test_kept_samples_survive_the_round_trip_better() -> None:
    model = HalfBlind()

    def cosine(pictures: Tensor) -> float:
        codes = model.encode(pictures)
        return codes[:, 0].mean().item()

    assert cosine(samples(Sampling(0, keep_percent=25), 40)) > cosine(samples(Sampling(0), 40)) + 0.01


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_batch_size_bounds_what_is_decoded_and_changes_no_sample(batch_size: int) -> None:
    sampling = Sampling(0, keep_percent=40, group=6)
    torch.testing.assert_close(samples(sampling, 7, batch_size), samples(sampling, 7))
    model = HalfBlind()
    draw_samples(model, 7, sampling, batch_size)
    assert max(model.batch_sizes) <= batch_size


@pytest.mark.parametrize("sampling", [Sampling(0, keep_percent=30, group=8), Sampling(0)], ids=["kept", "plain"])
@pytest.mark.parametrize("world", [2, 5])
def test_ranks_draw_every_sample_once(sampling: Sampling, world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = samples(sampling, 7)
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    seen: dict[int, Tensor] = {}
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        for images, index in sampling.draw(HalfBlind(), 7, 3, shared=True):
            assert len(images) == len(index)
            assert not set(index.tolist()) & set(seen)
            seen |= dict(zip(index.tolist(), images.detach(), strict=True))
    assert sorted(seen) == list(range(7))
    torch.testing.assert_close(torch.stack([seen[index] for index in range(7)]), whole)


def test_mixtures_take_the_second_latent_from_the_layer_on() -> None:
    model = ToyLayeredDecoder()
    first, second = (prior_latents(model, 2, stream, range(5)) for stream in (STREAM, OTHER_STREAM))
    assert F.cosine_similarity(first, second).abs().max() < 0.99
    expected = model.decode_layers(torch.stack([first, second, second], dim=1))
    found = draw_samples(model, 5, Sampling(2, mix_at_layer=1), 2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "suffix"),
    [
        ({}, ""),
        ({"group": 4}, ""),
        ({"keep_percent": 25}, "_keep25"),
        ({"keep_percent": 25, "group": 16}, "_keep25_of16"),
        ({"mix_at_layer": 2}, "_mix2"),
    ],
)
def test_names_and_protocol_tell(options: dict[str, int], suffix: str) -> None:
    assert Sampling(0, **options).suffix == suffix
    model = ToyLayeredDecoder() if "mix_at_layer" in options else HalfBlind()
    result = Sample(num=4, **options)(model)
    assert list(result.numbers) == [f"std{suffix}"]
    assert ("kept" in result.protocol) == ("keep_percent" in options)
    assert ("mixed" in result.protocol) == ("mix_at_layer" in options)


def test_models_that_cannot_are_refused_in_one_sentence() -> None:
    with pytest.raises(TypeError, match="sample with keep_percent below 100 needs a model with encode"):
        Sample(keep_percent=50)(ToyDecoder())
    with pytest.raises(TypeError, match="sample with mix_at_layer needs a model with decode_layers"):
        Sample(mix_at_layer=1)(ToyAutoencoder())
    for layer in (0, 3):
        with pytest.raises(ValueError, match=f"mix_at_layer must be between 1 and 2, .* got {layer}"):
            Sample(mix_at_layer=layer)(ToyLayeredDecoder())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_percent": 0}, r"keep_percent must be between 1 and 100 \(all\), got 0"),
        ({"keep_percent": 101}, "got 101"),
        ({"group": 1}, "group must be at least 2 samples, got 1"),
        ({"keep_percent": 50, "mix_at_layer": 1}, "exclude each other"),
    ],
)
def test_impossible_options_are_refused_at_once(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sample(**options)
