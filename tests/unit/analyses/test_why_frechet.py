"""Why two programs give two Frechet distances: every variant is what its name says, and the gap is attributed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from latent_lab.analyses import HeldOut, Result, WhyFrechet, write_report
from latent_lab.analyses.feeding import prior_latents
from latent_lab.analyses.sample import OTHER_STREAM, STREAM
from latent_lab.analyses.why_frechet import Splits, Variant, attribute
from latent_lab.metrics.functional import frechet_distance, moments
from latent_lab.networks.features import AbstractExtractor, find_extractor
from tests.unit.analyses.toys import Noise, ToyDecoder

SMALL = WhyFrechet(num=160, extractor="random", batch_size=37)
MODEL = ToyDecoder()
SOURCE = Splits({"train": Noise(200), "test": Noise(100, seed=1)})


@pytest.fixture(scope="module")
def result() -> Result:
    """Of all factors, with no weights on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latent_lab.networks.features.find_weights", lambda *_: None)
        patch.setenv("LATENT_LAB_WEIGHTS", "")
        patch.setattr("torch.hub.get_dir", lambda: "/nowhere")
        return SMALL(MODEL, SOURCE)


def samples(stream: str = STREAM) -> torch.Tensor:
    return MODEL.decode(prior_latents(MODEL, 0, stream, range(160))).detach()


def reals(source: Noise, count: int) -> torch.Tensor:
    return source.batch([place * len(source) // count for place in range(count)], 16).images


def distance(real: torch.Tensor, fake: torch.Tensor, **options: str) -> float:
    extractor = find_extractor("random", **options)
    return frechet_distance(moments(extractor(real)), moments(extractor(fake))).raw


def test_the_base_is_the_distance_as_evaluate_measures_it(result: Result) -> None:
    expected = distance(reals(Noise(200), 160), samples())
    assert result.numbers["fd_base"] == pytest.approx(expected, rel=1e-6)
    low, high = result.intervals["fd_base"]
    assert low < expected < high


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fd_resize_tf1", {"resize": "tf1"}),
        ("fd_resize_torchmetrics", {"resize": "torchmetrics"}),
        ("fd_quantisation_none", {"quantisation": "none"}),
        ("fd_quantisation_truncate", {"quantisation": "truncate"}),
        ("fd_precision_bfloat16", {"precision": "bfloat16"}),
    ],
)
def test_a_variant_of_the_extractor_changes_one_thing(result: Result, name: str, options: dict[str, str]) -> None:
    # Pieces of other sizes round otherwise in bfloat16.
    assert result.numbers[name] == pytest.approx(distance(reals(Noise(200), 160), samples(), **options), rel=1e-3)
    assert result.numbers[name] != result.numbers["fd_base"]


def test_counts_take_both_sets_down_together(result: Result) -> None:
    spaced = reals(Noise(200), 160)[[place * 2 for place in range(80)]]
    assert result.numbers["fd_counts_80_and_80"] == pytest.approx(distance(spaced, samples()[:80]), rel=1e-6)
    assert {"fd_counts_20_and_20", "fd_counts_40_and_40", "fd_counts_infinity"} <= result.numbers.keys()
    assert result.numbers["fd_counts_infinity"] < result.numbers["fd_counts_20_and_20"]


def test_another_split_stands_beside_the_usual_one_with_equally_many_images(result: Result) -> None:
    assert result.numbers["fd_reference_test_100"] == pytest.approx(
        distance(reals(Noise(100, seed=1), 100), samples()), rel=1e-6
    )
    assert "fd_reference_train_100" in result.numbers


def test_the_reference_may_be_joined_by_its_mirror_images(result: Result) -> None:
    real = reals(Noise(200), 160)
    expected = distance(torch.cat([real, real.flip(-1)]), samples())
    assert result.numbers["fd_flips_reference_and_its_mirror_images"] == pytest.approx(expected, rel=1e-6)


def test_other_samples_show_what_is_chance(result: Result) -> None:
    expected = distance(reals(Noise(200), 160), samples(OTHER_STREAM))
    assert result.numbers["fd_samples_other_random_ones"] == pytest.approx(expected, rel=1e-6)


def test_dividing_the_covariance_by_n_scales_what_it_adds(result: Result) -> None:
    extractor = find_extractor("random")
    a, b = moments(extractor(reals(Noise(200), 160))), moments(extractor(samples()))
    means = (a.mean - b.mean).square().sum().item()
    expected = means + (result.numbers["fd_base"] - means) * 159 / 160
    assert result.numbers["fd_covariance_divided_by_N"] == pytest.approx(expected, rel=1e-6)


def test_what_is_left_out_is_said_and_the_protocol_is_plain(result: Result, tmp_path: Path) -> None:
    assert any("weights are not on this machine: inception, vgg16" in note for note in result.protocol["notes"])
    json.dumps(result.protocol)
    page = write_report(result, tmp_path).read_text()
    assert "| base | random |" in page
    assert (tmp_path / "variants.png").is_file()


def test_every_image_is_made_once_for_all_extractors() -> None:
    source = Noise(160)
    WhyFrechet(num=160, extractor="random", factors=("resize", "quantisation", "counts"))(MODEL, source)
    assert source.reads == 160


def test_a_held_out_source_gives_both_of_its_sets() -> None:
    few = dataclasses.replace(SMALL, factors=("reference",))
    numbers = few(MODEL, HeldOut(Noise(50, seed=1), reference=Noise(200))).numbers
    assert set(numbers) == {"fd_base", "fd_reference_other_50", "fd_reference_reference_50"}


def test_shares_of_a_gap_are_exact() -> None:
    variants = [Variant("a", "half", 15.0), Variant("b", "beyond", 22.0), Variant("c", "away", 8.0)]
    found = attribute(10.0, variants, theirs=20.0)
    assert [(one.variant.factor, one.share) for one in found] == [("b", 1.2), ("a", 0.5), ("c", -0.2)]
    assert [one.closes for one in found] == pytest.approx([0.8, 0.5, -0.2])


def test_the_change_that_made_the_other_number_is_found() -> None:
    few = dataclasses.replace(SMALL, factors=("resize", "covariance"))
    theirs = few(MODEL, SOURCE).numbers["fd_resize_tf1"]
    result = dataclasses.replace(few, theirs=theirs)(MODEL, SOURCE)
    assert any(
        note.startswith("closest: resize tf1") and "100 % of the way" in note for note in result.protocol["notes"]
    )
    rows = next(rows for title, rows in result.tables.items() if title.startswith("From"))
    assert rows[1][:2] == ("resize", "tf1")


def test_a_gap_that_nothing_explains_is_said_to_be_one() -> None:
    # Dividing by N makes the distance smaller, never larger.
    result = dataclasses.replace(SMALL, factors=("covariance",), theirs=1000.0)(MODEL, SOURCE)
    assert any("no single change that was tried moves our" in note for note in result.protocol["notes"])
    assert list(result.tables) == ["One thing at a time"]


def test_a_value_within_chance_is_said_to_be_so() -> None:
    base = dataclasses.replace(SMALL, factors=())
    found = base(MODEL, SOURCE).numbers["fd_base"]
    close = dataclasses.replace(base, theirs=found * 1.0001)(MODEL, SOURCE)
    assert any("lies within the interval" in note for note in close.protocol["notes"])
    exact = dataclasses.replace(base, theirs=found)(MODEL, SOURCE)
    assert any("there is nothing to explain" in note for note in exact.protocol["notes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": ("size",)}, "factors must be some of resize, .*, got size"),
        ({"num": 1}, "num of at least 2, got 1"),
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"theirs": float("nan")}, "theirs must be a finite number, got nan"),
        ({"resize": "lanczos"}, "resize must be clean or .*, got 'lanczos'"),
        ({"identity_box": "celebs"}, "the box must be one of celeba, .*, got celebs"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WhyFrechet(**options)  # type: ignore[arg-type]


def test_a_set_of_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 images of each set, reference has 1"):
        SMALL.compare_folders(Noise(5), Noise(1), (16, 16))


class MeanColours(torch.nn.Module):
    """A user's network that takes images of any size."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


def test_variants_that_an_own_network_cannot_take_are_left_out_with_a_note() -> None:
    own = dataclasses.replace(SMALL, extractor=f"{__name__}.MeanColours", factors=("resize", "quantisation"))
    found = own(MODEL, SOURCE)
    assert set(found.numbers) == {"fd_base", "fd_quantisation_truncate", "fd_quantisation_none"}
    assert sum("resize tf1 is left out" in note for note in found.protocol["notes"]) == 1


@pytest.mark.parametrize(
    ("extractor", "expected"),
    [
        # The base and its variants see faces, and so does another extractor beside a base that does not.
        ("dlib_age", {("dlib_age", "clean"): "ffhq", ("dlib_age", "tf1"): "ffhq", ("efflite0", "clean"): None}),
        ("random", {("random", "clean"): None, ("random", "tf1"): None, ("dlib_identity", "clean"): "ffhq"}),
    ],
)
def test_the_box_of_faces_reaches_every_extractor_that_sees_faces(
    extractor: str, expected: dict[tuple[str, str], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[tuple[str, str], object] = {}

    def find(name: str, path: str | None, *, resize: str, box: object, **_: object) -> AbstractExtractor:
        asked[name, resize] = box
        return find_extractor("random", resize=resize)

    monkeypatch.setattr("latent_lab.analyses.why_frechet.find_extractor", find)
    dataclasses.replace(SMALL, num=4, extractor=extractor, identity_box="ffhq", factors=("resize", "extractor"))(
        MODEL, SOURCE
    )
    assert expected.items() <= asked.items()
