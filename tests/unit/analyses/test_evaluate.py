"""Evaluation: what is reported under which name, and that every option does something."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latent_lab import images as conversions
from latent_lab.analyses import Evaluate, HeldOut, Result, write_report
from latent_lab.analyses.comparing import Recorded, compare
from latent_lab.analyses.evaluate import METRICS
from latent_lab.analyses.reference_statistics import StatisticsOptions, statistics_of_source
from latent_lab.analyses.set_numbers import count_name, rank_warning
from latent_lab.growth import GrowthState
from latent_lab.metrics.functional import frechet_distance, moments
from latent_lab.metrics.statistics_files import write_statistics
from latent_lab.networks.features import RandomExtractor, Viewing, find_extractor
from tests.unit.analyses.layered_toys import ToyLayeredDecoder
from tests.unit.analyses.mapped_toys import ToyMappedDecoder
from tests.unit.analyses.toys import Noise, ToyAutoencoder, ToyDecoder

SMALL = Evaluate(
    extractor="random",
    perceptual="random_l2",
    num_samples=40,
    num_reconstructions=20,
    num_paths=16,
    num_swd=12,
    batch_size=9,
    num_pictures=8,
)


def evaluate(analysis: Evaluate = SMALL, resolution: int = 16, reference: int = 50) -> Result:
    return analysis(ToyAutoencoder(resolution), HeldOut(Noise(30, seed=1), Noise(reference)))


def test_names_state_how_samples_were_chosen() -> None:
    chosen = dataclasses.replace(SMALL, metrics=("fd", "kd", "swd"), keep_percent=25)
    result = evaluate(chosen)
    assert set(result.numbers) == {
        "fd_random_40_keep25",
        "kd_random_40_keep25",
        "kd_random_40_keep25_standard_error",
        "swd_12_keep25",
        "swd_12_keep25_at_16px",
        "rec_fd_random_20",
        "rec_swd_20",
    }
    assert result.protocol["kept"].startswith("2 of every 8")
    other_groups = dataclasses.replace(chosen, metrics=("fd",), group=4)
    assert "fd_random_40_keep25_of4" in evaluate(other_groups).numbers


def test_mixtures_of_two_latents_need_layers_and_have_a_name_of_their_own() -> None:
    mixed = dataclasses.replace(SMALL, metrics=("fd",), mix_at_layer=1)
    with pytest.raises(TypeError, match="evaluate with mix_at_layer needs a model with decode_layers"):
        evaluate(mixed)
    result = mixed(ToyLayeredDecoder(), HeldOut(Noise(30, seed=1), Noise(50)))
    assert set(result.numbers) == {"fd_random_40_mix1"}


def test_names_state_what_was_measured_by_what() -> None:
    assert set(evaluate().numbers) == {
        "fd_random_40",
        "kd_random_40",
        "kd_random_40_standard_error",
        "swd_12",
        "swd_12_at_16px",
        "rec_fd_random_20",
        "rec_swd_20",
        "rec_mse",
        "rec_rmse",
        "rec_l1",
        "rec_mse_relative",
        "random_l2",
        "ppl_z_end_random_l2",
    }


def test_numbers_are_those_of_the_functions_on_all_images_at_once() -> None:
    model, source, result = ToyAutoencoder(), Noise(50), evaluate()
    from latent_lab.analyses.feeding import prior_latents

    extractor = find_extractor("random")
    fake = extractor(model.decode(prior_latents(model, 0, "evaluate/latents", range(40))).detach())
    real = extractor(source.batch(range(50), 16).images)
    assert result.numbers["fd_random_40"] == pytest.approx(
        frechet_distance(moments(fake), moments(real)).value, rel=1e-6
    )
    places = [place * 30 // 20 for place in range(20)]
    held_out = conversions.quantise(Noise(30, seed=1).batch(places, 16).images)
    rebuilt = conversions.quantise(model.reconstruct(held_out).detach())
    assert result.numbers["rec_mse"] == pytest.approx((held_out - rebuilt).square().mean().item(), rel=1e-6)
    variance = held_out.double().var(0, correction=0).mean().item()
    assert result.numbers["rec_mse_relative"] == pytest.approx(result.numbers["rec_mse"] / variance, rel=1e-6)


def test_the_protocol_is_plain_data_and_names_everything_that_matters() -> None:
    protocol = evaluate().protocol
    json.dumps(protocol)
    assert protocol["extractor"]["name"] == "random"
    assert len(protocol["extractor"]["sha256"]) == 64
    assert protocol["num_samples"] == 40
    assert protocol["num_reference"] == 50
    assert protocol["num_reconstructions"] == 20
    assert protocol["resolution"] == 16
    assert protocol["alpha"] == 1.0
    assert protocol["reference"]["count"] == 50
    assert protocol["data"]["count"] == 30
    assert any("lacks full rank" in note for note in protocol["notes"])


def test_a_model_that_cannot_encode_is_judged_by_its_samples_and_the_protocol_says_so() -> None:
    result = SMALL(ToyDecoder(), Noise(30))
    assert "fd_random_40" in result.numbers
    assert not any(name.startswith("rec_") for name in result.numbers)
    assert "reconstructions" not in result.pictures
    assert (
        "ToyDecoder cannot encode: numbers of reconstructions and recovered latents are left out"
        in result.protocol["notes"]
    )


def test_a_single_source_serves_both_ends_and_the_protocol_says_so() -> None:
    notes = SMALL(ToyAutoencoder(), Noise(30)).protocol["notes"]
    assert any(note.startswith("one set of images is both") for note in notes)


@pytest.mark.parametrize("batch_size", [1, 100])
def test_batch_size_changes_no_number(batch_size: int) -> None:
    # Batches round differently in float32; a longer step keeps that out of the path length's sixth digit.
    long_steps = dataclasses.replace(SMALL, path_epsilon=0.1)
    numbers = evaluate(dataclasses.replace(long_steps, batch_size=batch_size)).numbers
    assert numbers == pytest.approx(dict(evaluate(long_steps).numbers), rel=1e-5)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATENT_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        return evaluate()


CHANGES: dict[str, Any] = {
    "num_samples": 30,
    "num_reference": 25,
    "num_reconstructions": None,
    "num_paths": 8,
    "num_swd": 10,
    "seed": 1,
    "metrics": ("fd",),
    "path_sampling": "full",
    "path_epsilon": 0.3,
    "keep_percent": 50,
}


@pytest.mark.parametrize("option", CHANGES)
def test_an_option_changes_the_numbers(option: str, usual: Result) -> None:
    changed = evaluate(dataclasses.replace(SMALL, **{option: CHANGES[option]}))
    assert dict(changed.numbers) != dict(usual.numbers)


def test_the_remaining_options_are_covered_by_name() -> None:
    elsewhere = {"batch_size", "columns", "num_pictures", "face_crop", "download", "resize", "group", "mix_at_layer"}
    elsewhere |= {"path_space", "path_recipe", "num_recovered", "reference_statistics", "num_resamples", "level"}
    elsewhere |= {"precision", "quantisation"}
    weights = {"extractor", "extractor_path", "perceptual", "perceptual_path", "identity", "identity_path"}
    weights |= {"identity_box"}
    assert {option.name for option in dataclasses.fields(Evaluate)} == set(CHANGES) | elsewhere | weights


def test_batch_size_is_the_largest_number_of_images_decoded_at_a_time() -> None:
    model = ToyAutoencoder()
    dataclasses.replace(SMALL, batch_size=5, metrics=("fd", "rmse"))(model, Noise(30))
    assert max(model.batch_sizes) == 5


@pytest.mark.parametrize("change", [{"columns": 4}, {"num_pictures": 4}])
def test_picture_options_change_the_sheets(change: dict[str, int], usual: Result) -> None:
    changed = evaluate(dataclasses.replace(SMALL, metrics=("rmse",), **change)).pictures
    assert set(usual.pictures) == set(changed) == {"samples", "reconstructions"}
    assert usual.pictures["samples"].shape != changed["samples"].shape


@pytest.mark.parametrize("sampling", ["end", "full"])
def test_paths_through_w_are_those_through_z_where_the_mapping_is_affine(sampling: str) -> None:
    # Float32 pictures of nearby latents are told apart only after long steps.
    paths = dataclasses.replace(SMALL, metrics=("ppl",), path_sampling=sampling, path_epsilon=0.1)
    source = HeldOut(Noise(30, seed=1), Noise(50))
    through_z = paths(ToyMappedDecoder(), source).numbers
    through_w = dataclasses.replace(paths, path_space="w")(ToyMappedDecoder(), source).numbers
    assert set(through_z) == {f"ppl_z_{sampling}_random_l2"}
    assert through_w == {f"ppl_w_{sampling}_random_l2": pytest.approx(*through_z.values(), rel=1e-3)}


def test_paths_through_w_need_a_model_that_maps_its_latents() -> None:
    with pytest.raises(TypeError, match=r"evaluate with path_space w needs a model with .* a StyleGAN"):
        evaluate(dataclasses.replace(SMALL, path_space="w"))


def test_face_crop_is_used_from_64_pixels_on_and_shows_in_the_name() -> None:
    paths = dataclasses.replace(SMALL, metrics=("ppl",), face_crop=True)
    assert set(evaluate(paths, resolution=64).numbers) == {"ppl_z_end_crop_random_l2"}
    small = evaluate(paths)
    assert set(small.numbers) == {"ppl_z_end_random_l2"}
    assert any("face_crop is left out" in note for note in small.protocol["notes"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extractor": "inception"}, "the FID Inception network of 2015-12-05 was not found"),
        ({"extractor": "efflite0", "extractor_path": "/nowhere"}, "were expected at /nowhere"),
        ({"perceptual": "lpips_alex"}, "LPIPS's trunk AlexNet"),
        ({"perceptual": "st_lpips_alex", "perceptual_path": "/nowhere"}, "were expected at /nowhere"),
    ],
)
def test_weight_options_reach_the_search(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(dataclasses.replace(SMALL, **change))


def test_download_reaches_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(url: str, *args: object, **kwargs: object) -> None:
        raise OSError(f"offline, wanted {url}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ValueError, match=r"offline, wanted https://github\.com/mseitzer"):
        evaluate(dataclasses.replace(SMALL, extractor="inception", download=True))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("metrics", ("fid",), "metrics must be some of fd, kd, lpips, rmse, ppl, swd, fd_infinity, .*, got fid"),
        ("metrics", (), "got none"),
        ("path_space", "z", "path_space must be own or w, got 'z'"),
        ("path_sampling", "middle", "path_sampling must be end or full"),
        ("resize", "lanczos", "unknown resize protocol 'lanczos': use clean, tf1, torch or torchmetrics"),
        ("path_epsilon", 0.0, "path_epsilon must be positive"),
        ("num_samples", 1, "num_samples must be at least 2, got 1"),
        ("batch_size", 0, "batch_size must be at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused_at_once(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evaluate(**{option: value})


def test_resolutions_without_a_pyramid_leave_out_swd_and_say_so() -> None:
    result = evaluate(resolution=8)
    assert not any("swd" in name for name in result.numbers)
    assert any(note.startswith("swd is left out") for note in result.protocol["notes"])


def test_reference_features_are_computed_once_and_kept(tmp_path: Path) -> None:
    reference = Noise(50)
    analysis = dataclasses.replace(SMALL, metrics=("fd", "kd"))
    first = analysis(ToyDecoder(), reference)
    reads = reference.reads
    second = analysis(ToyDecoder(), reference)
    assert second.numbers == first.numbers
    assert reference.reads - reads == 1, "only the image whose channels are counted"
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    other = dataclasses.replace(analysis, num_reference=20)(ToyDecoder(), reference)
    assert other.protocol["num_reference"] == 20
    assert reference.reads - reads == 1 + 1 + 20, "other images are another entry of the cache"


def test_a_damaged_cache_is_computed_anew(tmp_path: Path) -> None:
    analysis = dataclasses.replace(SMALL, metrics=("fd",))
    first = analysis(ToyDecoder(), Noise(50))
    (kept,) = (tmp_path / "cache").rglob("*.safetensors")
    kept.write_bytes(b"damaged")
    assert analysis(ToyDecoder(), Noise(50)).numbers == first.numbers
    assert kept.stat().st_size > 1000


def test_a_fading_model_is_compared_with_faded_images() -> None:
    class Fading(ToyDecoder):
        now = GrowthState.__new__(GrowthState)

    object.__setattr__(Fading.now, "alpha", 0.25)
    analysis = dataclasses.replace(SMALL, metrics=("fd",))
    faded = analysis(Fading(), Noise(50))
    assert faded.protocol["alpha"] == 0.25
    assert faded.numbers != analysis(ToyDecoder(), Noise(50)).numbers


def test_evaluation_leaves_the_model_and_the_global_random_state_as_they_were() -> None:
    model = ToyAutoencoder()
    model.train()
    before = torch.random.get_rng_state()
    parameters = sum(1 for _ in model.parameters())
    SMALL(model, Noise(30))
    assert model.training
    assert torch.equal(before, torch.random.get_rng_state())
    assert sum(1 for _ in model.parameters()) == parameters


def test_counts_in_names_are_short_and_exact() -> None:
    assert [count_name(count) for count in (40, 999, 1000, 5000, 1234)] == ["40", "999", "1k", "5k", "1234"]


def test_a_report_shows_numbers_protocol_notes_and_pictures(tmp_path: Path) -> None:
    result = evaluate()
    page = write_report(result, tmp_path / "report").read_text(encoding="utf-8")
    low, high = result.intervals["rec_mse"]
    assert f"| `rec_mse` | {result.numbers['rec_mse']:.6g} [{low:.6g}, {high:.6g}] |" in page
    assert "![samples](samples.png)" in page
    assert (tmp_path / "report" / "samples.png").is_file()
    assert f"| extractor.sha256 | {result.protocol['extractor']['sha256']} |" in page
    assert "lacks full rank" in page


@pytest.mark.parametrize(
    ("num_real", "num_fake", "sentence"),
    [
        (100, 64, "fd is of 64 images, no more than the 64 features: the covariance lacks full rank"),
        (64, 65, "fd is of 64 reference images, no more than the 64 features"),
        (7, 1234, "fd is of 7 reference images, no more than"),
        (9, 8, "fd is of 8 images and 9 reference images, no more than the 64 features"),
        (None, 8, "fd is of 8 images, no more than"),
    ],
)
def test_a_distance_of_no_more_images_than_features_comes_with_a_warning(
    num_real: int | None, num_fake: int, sentence: str
) -> None:
    warning = rank_warning("fd", num_real, num_fake, 64)
    assert warning is not None
    assert warning.startswith(sentence)


@pytest.mark.parametrize("num_real", [65, None])
def test_enough_images_need_no_warning(num_real: int | None) -> None:
    assert rank_warning("fd", num_real, 65, 64) is None


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 reference images, got 0"):
        SMALL(ToyDecoder(), HeldOut(Noise(5), Noise(0)))


# All numbers, intervals, and files of statistics

EVERYTHING = dataclasses.replace(SMALL, metrics=METRICS, num_recovered=30, num_resamples=20)


@pytest.fixture(scope="module")
def everything() -> Result:
    return evaluate(EVERYTHING, resolution=16)


def test_all_metrics_together_give_all_numbers_by_their_names(everything: Result, usual: Result) -> None:
    assert set(everything.numbers) - set(usual.numbers) == {
        "fd_random_infinity_40",
        "fd_random_infinity_40_standard_error",
        "precision_random_k3_40",
        "recall_random_k3_40",
        "density_random_k5_40",
        "coverage_random_k5_40",
        "mifd_random_40",
        "memorisation_distance_random_40",
        "authentic_percent_random_40",
        "rec_psnr",
        "rec_ssim",
        "i_mse_30",
        "i_mse_relative_30",
        "latent_cosine_30",
    }
    assert "is is left out: the extractor random has no class scores" in everything.protocol["notes"]


def test_one_pass_over_the_samples_feeds_all_of_their_numbers() -> None:
    model = ToyAutoencoder()
    of_sets = dataclasses.replace(EVERYTHING, metrics=("fd", "kd", "fd_infinity", "pr", "memorisation"), num_pictures=1)
    of_sets(model, HeldOut(Noise(30, seed=1), Noise(50)))
    # 40 samples, 20 reconstructions and one of each for the sheets.
    assert sum(model.batch_sizes) == 40 + 20 + 2


def test_every_number_but_errors_of_estimates_has_an_interval_around_it(everything: Result) -> None:
    without = set(everything.numbers) - set(everything.intervals)
    assert all(name.endswith("_standard_error") for name in without)
    for name, (low, high) in everything.intervals.items():
        assert low <= high
        if name.startswith(("rec_mse", "rec_l1", "random_l2", "ppl", "fd_random_40", "i_mse", "swd", "rec_swd")):
            assert low <= everything.numbers[name] <= high, name
    assert everything.protocol["intervals"] == {"level": 0.95, "num_resamples": 20, "of_swd": 20, "seed": 0}


def test_without_resamples_there_are_no_intervals() -> None:
    result = evaluate(dataclasses.replace(EVERYTHING, num_resamples=0))
    assert not result.intervals
    assert "intervals" not in result.protocol


def test_a_wider_level_gives_wider_intervals() -> None:
    narrow, wide = (
        evaluate(dataclasses.replace(SMALL, metrics=("rmse",), level=level)).intervals["rec_mse"]
        for level in (0.5, 0.99)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_statistics_of_a_file_take_the_place_of_reference_images(tmp_path: Path, usual: Result) -> None:
    extractor = find_extractor("random")
    features = extractor(Noise(50).batch(range(50), 16).images)
    protocol = {"extractor": extractor.describe(), "num_images": 50}
    write_statistics(tmp_path / "whole.npz", moments(features), protocol=protocol, features=features)
    write_statistics(tmp_path / "moments.npz", moments(features), protocol=protocol)
    chosen = dataclasses.replace(SMALL, metrics=("fd", "kd", "fd_infinity"))
    whole, alone = (
        evaluate(dataclasses.replace(chosen, reference_statistics=str(tmp_path / name)))
        for name in ("whole.npz", "moments.npz")
    )
    assert whole.numbers["fd_random_40"] == pytest.approx(usual.numbers["fd_random_40"], rel=1e-5)
    assert whole.numbers["kd_random_40"] == pytest.approx(usual.numbers["kd_random_40"], rel=1e-5)
    assert alone.numbers["fd_random_40"] == pytest.approx(usual.numbers["fd_random_40"], rel=1e-5)
    assert "kd_random_40" not in alone.numbers
    assert "kd is left out: the reference statistics hold no features" in alone.protocol["notes"]
    infinity = "fd_random_infinity_40"
    assert alone.numbers[infinity] == pytest.approx(whole.numbers[infinity], rel=1e-5)
    for name in ("fd_random_40", infinity):
        (low, high), (least, most) = alone.intervals[name], whole.intervals[name]
        assert high - low < most - least
    assert any("intervals of fd and fd_infinity are over the samples alone" in note for note in alone.protocol["notes"])
    assert alone.protocol["num_reference"] == 50


def with_statistics(file: Path, metrics: tuple[str, ...] = ("fd",)) -> Evaluate:
    return dataclasses.replace(SMALL, metrics=metrics, num_resamples=0, reference_statistics=str(file))


def test_a_damaged_statistics_file_is_refused_before_samples_are_drawn(tmp_path: Path) -> None:
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 and nothing more")
    model = ToyAutoencoder()
    with pytest.raises(ValueError, match=r"damaged\.npz is damaged"):
        with_statistics(tmp_path / "damaged.npz")(model, HeldOut(Noise(30, seed=1), Noise(50)))
    assert model.batch_sizes == []


def test_absent_weights_of_identity_are_found_out_before_samples_are_drawn(tmp_path: Path) -> None:
    model = ToyAutoencoder()
    analysis = dataclasses.replace(SMALL, identity="dlib", identity_path=str(tmp_path))
    with pytest.raises(ValueError, match="dlib's face recognition network"):
        analysis(model, HeldOut(Noise(30, seed=1), Noise(50)))
    assert model.batch_sizes == []


def test_two_files_of_other_programs_are_two_references(tmp_path: Path) -> None:
    extractor = find_extractor("random")
    results = []
    for seed in (0, 1):
        found = moments(extractor(Noise(50, seed=seed).batch(range(50), 16).images))
        file = tmp_path / f"{seed}.npz"
        np.savez(file, mu=found.mean.numpy(), sigma=found.covariance.numpy())
        result = evaluate(with_statistics(file))
        results.append(Recorded(str(seed), "evaluate", result.numbers, result.protocol))
    assert results[0].protocol["reference"]["statistics"]["made_by"] == "another program"
    found = compare(results, ["fd"])
    assert [column.title for column in found.columns] == ["fd_random_40 [a]", "fd_random_40 [b]"]
    assert "reference.statistics.sha256" in found.differences[0]


def test_statistics_of_images_of_another_size_are_remarked_on(tmp_path: Path) -> None:
    extractor = find_extractor("random")
    found = moments(extractor(Noise(50).batch(range(50), 32).images))
    for resolution in (16, 32):
        protocol = {"extractor": extractor.describe(), "resolution": resolution, "alpha": 1.0}
        write_statistics(tmp_path / f"{resolution}.npz", found, protocol=protocol)
    notes = {size: evaluate(with_statistics(tmp_path / f"{size}.npz")).protocol["notes"] for size in (16, 32)}
    assert not any("images of resolution" in note for note in notes[16])
    assert any("32.npz is of images of resolution 32, samples have 16" in note for note in notes[32])


def test_swd_names_its_own_reference_beside_a_statistics_file(tmp_path: Path) -> None:
    extractor = find_extractor("random")
    found = moments(extractor(Noise(50).batch(range(50), 16).images))
    write_statistics(tmp_path / "other.npz", found, protocol={"extractor": extractor.describe(), "data": {"hash": "a"}})
    protocol = evaluate(with_statistics(tmp_path / "other.npz", ("fd", "swd"))).protocol
    assert protocol["reference"] == {"statistics": {"extractor": extractor.describe(), "data": {"hash": "a"}}}
    assert protocol["swd"]["reference"]["count"] == 50
    assert "reference" not in evaluate(dataclasses.replace(SMALL, metrics=("fd", "swd"))).protocol["swd"]


@pytest.mark.parametrize("quantisation", ["round", "truncate", "none"])
def test_reconstructions_are_rounded_as_the_name_of_their_distance_says(quantisation: str) -> None:
    model, held_out = ToyAutoencoder(), Noise(30, seed=1)
    analysis = dataclasses.replace(
        SMALL, metrics=("fd",), num_reconstructions=30, num_resamples=0, quantisation=quantisation
    )
    result = analysis(model, HeldOut(held_out, Noise(50)))
    extractor = find_extractor("random", quantisation=quantisation)
    images = held_out.batch(range(30), 16).images
    expected = frechet_distance(moments(extractor(images)), moments(extractor(model.reconstruct(images).detach())))
    assert result.numbers[f"rec_fd_{extractor.label}_30"] == pytest.approx(expected.value, rel=1e-6)


def test_the_protocol_says_how_kernel_distances_and_limits_were_estimated(everything: Result) -> None:
    assert everything.protocol["kernel"] == {"polynomial": "(x·y / F + 1)^3", "pairs": "all"}
    assert everything.protocol["infinity"]["counts"][-1] == 40
    assert len(everything.protocol["infinity"]["counts"]) == 10


def test_memorisation_needs_training_images() -> None:
    result = dataclasses.replace(EVERYTHING, metrics=("memorisation",))(ToyDecoder(), Noise(30))
    assert not result.numbers
    assert any("not known to be the training images" in note for note in result.protocol["notes"])


def test_recipes_of_published_path_lengths_bear_their_names() -> None:
    chosen = dataclasses.replace(SMALL, metrics=("ppl",), path_recipe="ppl2_wend")
    result = chosen(ToyMappedDecoder(), HeldOut(Noise(30, seed=1), Noise(50)))
    assert set(result.numbers) == {"ppl2_wend_random_l2_16"}
    assert result.protocol["paths"]["recipe"] == "ppl2_wend"
    assert result.protocol["paths"]["noise"] == "shared by 16 pairs"


@pytest.mark.parametrize(("option", "value"), [("resize", "tf1"), ("precision", "bfloat16"), ("quantisation", "none")])
def test_another_view_of_the_images_shows_in_the_names(option: str, value: str) -> None:
    chosen = dataclasses.replace(SMALL, metrics=("fd",), extractor="random", **{option: value})
    suffix = {"tf1": "tf1", "bfloat16": "bf16", "none": "unrounded"}[value]
    assert f"fd_random_{suffix}_40" in evaluate(chosen, resolution=16).numbers


@pytest.mark.parametrize(("extractor", "box"), [("dlib_age", "ffhq"), ("random", None)])
def test_the_box_of_faces_reaches_extractors_that_see_faces(
    extractor: str, box: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(*args: object, **options: object) -> None:
        raise ValueError(f"the box is {options['box']}")

    for module in ("evaluate", "reference_statistics"):
        monkeypatch.setattr(f"latent_lab.analyses.{module}.find_extractor", find)
    with pytest.raises(ValueError, match=f"the box is {box}"):
        evaluate(dataclasses.replace(SMALL, extractor=extractor, identity_box="ffhq"))
    with pytest.raises(ValueError, match=f"the box is {box}"):
        statistics_of_source(
            Noise(9),
            StatisticsOptions(extractor=extractor, identity_box="ffhq"),
            resolution=16,
            alpha=1.0,
            device=torch.device("cpu"),
        )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("path_recipe", "ppl3", "path_recipe must be one of ppl_zfull"),
        ("num_resamples", 1, r"num_resamples must be 0 \(no intervals\) or at least 2, got 1"),
        ("level", 1.0, r"level must lie between 0 and 1, got 1\.0"),
    ],
)
def test_impossible_intervals_and_recipes_are_refused(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evaluate(**{option: value})


# What is found out before anything is computed


def of_auto(found: str | None, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """What is said ahead of an evaluation with networks of its own choice, on a machine with one of them or none."""
    monkeypatch.setattr("latent_lab.networks.features.find_weights", lambda *_: None)
    monkeypatch.setattr("latent_lab.networks.perceptual.find_weights", lambda *_: None)
    options = {} if found is None else {"extractor": found, "perceptual": "random_l2"}
    return Evaluate(metrics=("fd", "lpips"), **options).look_ahead(ToyAutoencoder())  # type: ignore[arg-type]


def test_networks_that_take_the_place_of_absent_ones_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = of_auto(None, monkeypatch)
    assert [one.split(", whose")[0] for one in said] == [
        "evaluate measures with random and gives no FID",
        "evaluate measures with random_l2 and gives no LPIPS",
    ]
    assert of_auto("random", monkeypatch) == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extractor": "inception", "extractor_path": "/nowhere"}, "were expected at /nowhere"),
        ({"perceptual": "lpips_vgg", "perceptual_path": "/nowhere"}, "were expected at /nowhere"),
        ({"identity": "dlib", "identity_path": "/nowhere"}, "were expected at /nowhere"),
        ({"reference_statistics": "/nowhere.npz"}, "no file of reference statistics at /nowhere"),
    ],
)
def test_what_is_absent_is_found_out_without_an_image(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **options).look_ahead(ToyAutoencoder())  # type: ignore[arg-type]


def test_metrics_need_no_network_that_is_not_theirs() -> None:
    absent = {"extractor_path": "/nowhere", "perceptual_path": "/nowhere", "identity_path": "/nowhere"}
    assert Evaluate(metrics=("rmse", "swd"), **absent).look_ahead(ToyAutoencoder()) == ()  # type: ignore[arg-type]
    # A model that cannot encode has no reconstructions whose persons could be compared.
    assert Evaluate(metrics=("swd",), identity="dlib", identity_path="/nowhere").look_ahead(ToyDecoder()) == ()


def test_a_model_that_does_not_fit_is_found_out_without_an_image() -> None:
    with pytest.raises(TypeError, match="evaluate with keep_percent below 100 needs a model with encode"):
        dataclasses.replace(SMALL, keep_percent=25).look_ahead(ToyDecoder())


class Classifying(RandomExtractor):
    """Features and class scores, under the name of the canonical network or not."""

    name = "inception"
    num_classes = 4

    def __init__(self, canonical: bool) -> None:
        super().__init__(Viewing())
        self.canonical = canonical

    def see(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        features, _ = super().see(images)
        return features, features[:, :4]


@pytest.mark.parametrize("canonical", [True, False])
def test_only_canonical_weights_give_numbers_their_usual_names(
    canonical: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latent_lab.analyses.evaluate.find_extractor", lambda *_, **__: Classifying(canonical))
    metrics = ("fd", "kd", "fd_infinity", "is", "memorisation")
    names = evaluate(dataclasses.replace(SMALL, metrics=metrics, num_resamples=0)).numbers
    usual = ("fid_clean", "kid_clean", "fid_clean_infinity", "is_clean", "mifid_clean", "rec_fid_clean")
    others = (
        "fd_inception",
        "kd_inception",
        "fd_inception_infinity",
        "inception_score_inception",
        "mifd_inception",
        "rec_fd_inception",
    )
    expected, absent = (usual, others) if canonical else (others, usual)
    counts = {name: 20 if name.startswith("rec_") else 40 for name in (*usual, *others)}
    assert {f"{name}_{counts[name]}" for name in expected} <= set(names)
    assert not {f"{name}_{counts[name]}" for name in absent} & set(names)
