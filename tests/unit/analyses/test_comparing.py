"""Comparing results: what may stand in one column, and what is said about the rest."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latent_lab.analyses import Result
from latent_lab.analyses.comparing import Recorded, compare, facts_of, family_of, read_result

PROTOCOL: dict[str, Any] = {
    "options": {"batch_size": 64, "path_epsilon": 1e-4},
    "model": "Pioneer",
    "resolution": 32,
    "alpha": 1.0,
    "seed": 0,
    "extractor": {"name": "efflite0", "sha256": "a" * 64, "resize": "clean to 224x224", "precision": "float32"},
    "perceptual": {"name": "st_lpips_alex", "sha256": "b" * 64},
    "reference": {"source": "faces", "crop": "center", "hash": "r1", "split": "train", "num_images": 9000},
    "data": {"source": "faces", "crop": "center", "hash": "d1", "split": "test", "num_images": 1000},
    "num_reference": 9000,
    "num_samples": 10_000,
    "num_reconstructions": 1000,
    "paths": {"pairs": 2000, "epsilon": 1e-4},
    "swd": {"images": 2000, "scale": 1000},
    "rec_mse_relative": "rec_mse over that of the mean of the same images",
    "checkpoint": {"file": "last.ckpt", "images_seen": 720_000},
    "notes": ["one"],
}
NUMBERS = {
    "fd_efflite0_10k": 20.0,
    "kd_efflite0_10k_standard_error": 0.1,
    "rec_fd_efflite0_1k": 30.0,
    "rec_mse": 0.1,
    "rec_psnr": 20.0,
    "rec_mse_relative": 0.2,
    "st_lpips_alex": 0.3,
    "ppl_z_end_st_lpips_alex": 100.0,
    "swd_2k": 9.0,
}


def recorded(label: str, factor: float = 1.0, **changes: Any) -> Recorded:
    """A result whose protocol has other entries: `extractor__sha256="c"` changes one inside."""
    protocol = copy.deepcopy(PROTOCOL)
    for name, value in changes.items():
        *outer, last = name.split("__")
        inner = protocol
        for key in outer:
            inner = inner[key]
        if value is None:
            inner.pop(last)
        else:
            inner[last] = value
    return Recorded(label, "evaluate", {name: factor * value for name, value in NUMBERS.items()}, protocol)


def split_by(**changes: Any) -> set[str]:
    """Numbers that get two columns if a second result differs so."""
    found = compare([recorded("A"), recorded("B", **changes)])
    return {column.title.removesuffix(" [a]") for column in found.columns if column.title.endswith(" [a]")}


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        (
            {"extractor__sha256": "c" * 64},
            {"fd_efflite0_10k", "kd_efflite0_10k_standard_error", "rec_fd_efflite0_1k"},
        ),
        (
            {"extractor__precision": "bfloat16"},
            {"fd_efflite0_10k", "kd_efflite0_10k_standard_error", "rec_fd_efflite0_1k"},
        ),
        ({"perceptual__sha256": "c" * 64}, {"st_lpips_alex", "ppl_z_end_st_lpips_alex"}),
        ({"num_reference": 2000}, {"fd_efflite0_10k", "kd_efflite0_10k_standard_error", "swd_2k"}),
        ({"paths__epsilon": 1e-3}, {"ppl_z_end_st_lpips_alex"}),
        (
            {"num_reconstructions": 500},
            {"rec_fd_efflite0_1k", "rec_mse", "rec_psnr", "rec_mse_relative", "st_lpips_alex"},
        ),
        ({"kernel": {"pairs": "all"}}, {"kd_efflite0_10k_standard_error"}),
        ({"infinity": {"counts": [10, 20]}}, set()),
        ({"rec_mse_relative": "otherwise"}, {"rec_mse_relative"}),
        ({"resolution": 64}, set(NUMBERS)),
        ({"quantised": "not at all"}, set(NUMBERS)),
        ({"an_entry_of_tomorrow": 1}, set(NUMBERS)),
        ({"seed": 1}, {"fd_efflite0_10k", "kd_efflite0_10k_standard_error", "ppl_z_end_st_lpips_alex", "swd_2k"}),
        ({"model": "GAN", "notes": [], "checkpoint__images_seen": 1}, set()),
        ({"options__batch_size": 8, "options__path_epsilon": 5.0}, set()),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_only_what_goes_into_a_number_parts_its_column(changes: dict[str, Any], numbers: set[str]) -> None:
    assert split_by(**changes) == numbers


def test_a_difference_is_named_with_both_values() -> None:
    found = compare([recorded("A"), recorded("B", num_reference=2000)])
    assert "fd_efflite0_10k, kd_efflite0_10k_standard_error, swd_2k: A and B differ in num_reference: 9000 | 2000" in (
        found.differences
    )


def test_an_entry_that_an_old_result_lacks_is_a_difference() -> None:
    found = compare([recorded("A"), recorded("B", perceptual__sha256=None)])
    assert found.differences == [
        f"st_lpips_alex, ppl_z_end_st_lpips_alex: A and B differ in perceptual.sha256: {'b' * 12} | not recorded"
    ]


def test_results_of_one_protocol_share_a_column_beside_a_third() -> None:
    found = compare([recorded("A"), recorded("B", num_reference=2000), recorded("C")])
    columns = {column.title: set(column.values) for column in found.columns}
    assert columns["fd_efflite0_10k [a]"] == {0, 2}
    assert columns["fd_efflite0_10k [b]"] == {1}
    assert any("(A, C) and B differ in num_reference: 9000 | 2000" in line for line in found.differences)


def test_images_with_the_same_digest_are_the_same_whatever_else_is_said_of_them() -> None:
    assert split_by(data__source="another folder") == set()
    assert "rec_mse" in split_by(data__split="val")


def test_a_digest_alone_is_named_only_if_nothing_else_differs() -> None:
    assert "data.hash: d1 | d2" in compare([recorded("A"), recorded("B", data__hash="d2")]).differences[0]
    both = compare([recorded("A"), recorded("B", data__hash="d2", data__crop="face")]).differences[0]
    assert "data.crop: center | face" in both
    assert "hash" not in both


def test_the_best_value_is_marked_by_what_better_means() -> None:
    best = {column.title: column.best for column in compare([recorded("A"), recorded("B", 0.5)]).columns}
    assert best["fd_efflite0_10k"] == {1}
    assert best["rec_psnr"] == {0}
    assert best["kd_efflite0_10k_standard_error"] == frozenset()


def test_nothing_is_best_across_protocols_or_among_equals() -> None:
    apart = compare([recorded("A"), recorded("B", 0.5, resolution=64)])
    equal = compare([recorded("A"), recorded("B")])
    assert not any(column.best for column in (*apart.columns, *equal.columns))


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("fid_clean_10k", "lower"),
        ("kd_efflite0_10k", "lower"),
        ("precision_vgg16_k3_10k", "higher"),
        ("ms_ssim", "higher"),
        ("lpips_alex_face", "lower"),
        ("is_10k", "higher"),
        ("ppl2_wend", "lower"),
        ("kid_clean_10k_standard_error", None),
    ],
)
def test_every_family_knows_which_way_is_up(name: str, better: str | None) -> None:
    family = family_of(name)
    assert family is not None
    assert family.better == better


def test_numbers_of_other_analyses_depend_on_all_options_that_change_numbers() -> None:
    result = Recorded("A", "restore", {"mse_left": 1.0}, {"options": {"batch_size": 4, "strength": 2}, "resolution": 8})
    assert facts_of("mse_left", result) == {"options.strength": 2, "resolution": 8}


def test_of_models_whose_spaces_were_looked_at_only_sizes_count() -> None:
    def looked_at(name: str, dim: int) -> Recorded:
        models = {name: {"kind": name, "dim": dim, "resolution": 32, "sha256": name * 64}}
        return Recorded(name, "latent-health", {"kl_gap_1k": 1.0}, {"models": models})

    assert [column.title for column in compare([looked_at("a", 64), looked_at("b", 64)]).columns] == ["kl_gap_1k"]
    apart = compare([looked_at("a", 64), looked_at("b", 32)])
    assert [column.title for column in apart.columns] == ["kl_gap_1k [a]", "kl_gap_1k [b]"]
    assert apart.differences == ["kl_gap_1k: a and b differ in models.0.dim: 64 | 32"]


def test_numbers_that_only_one_result_has_are_named() -> None:
    one = recorded("A")
    more = Recorded("B", "evaluate", {**one.numbers, "rec_l1": 1.0}, one.protocol)
    assert compare([one, more]).remarks == ["only in B: rec_l1"]


def test_intervals_are_shown_and_their_levels_named() -> None:
    protocol = {**PROTOCOL, "intervals": {"level": 0.95}}
    results = [Recorded(label, "evaluate", {"rec_mse": 0.5}, protocol, {"rec_mse": (0.4, 0.6)}) for label in "AB"]
    found = compare(results)
    assert found.cell(found.columns[0], 0) == "0.5 [0.4, 0.6]"
    assert found.remarks == ["in brackets: intervals at level 0.95"]


def test_what_a_result_saves_is_read_again(tmp_path: Path) -> None:
    Result("evaluate", {"a": 1.0}, {"model": "X", "sizes": [1, 2]}, intervals={"a": (0.5, 1.5)}).save(tmp_path)
    read = read_result(tmp_path)
    assert (read.analysis, read.numbers, read.intervals) == ("evaluate", {"a": 1.0}, {"a": (0.5, 1.5)})
    assert read_result(tmp_path / "result.json") == read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"analysis": "eva', "is damaged and cannot be read as JSON"),
        ("[1, 2]", "is no result of an analysis"),
        ('{"analysis": "evaluate"}', "is no result of an analysis"),
        ('{"analysis": "x", "numbers": {"a": "b"}, "protocol": {}}', "is damaged: its numbers"),
        ('{"analysis": "x", "numbers": {}, "protocol": {}, "intervals": {"a": [1]}}', "is damaged: its numbers"),
    ],
)
def test_what_is_no_result_is_refused_in_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_result(tmp_path)


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_a_place_without_a_result_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match=r"name a result\.json that an analysis wrote"):
        read_result(tmp_path / path)


def _with(label: str, **changes: Any) -> Callable[[], Recorded]:
    return lambda: Recorded(**{"label": label, "analysis": "a", "numbers": {"x": 1.0}, "protocol": {}, **changes})


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([_with("A")], "a comparison needs at least 2 results, got 1"),
        ([_with("A"), _with("B", analysis="b")], "B is a result of b, A of a: compare results of one analysis"),
        ([_with("A"), _with("B", numbers={"y": 1.0})], r"no number in common \(A: x; B: y\)"),
    ],
)
def test_what_cannot_be_compared_is_said(results: list[Callable[[], Recorded]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare([make() for make in results])


def test_a_result_is_plain_json_with_its_intervals(tmp_path: Path) -> None:
    Result("a", {"x": 1.0}, {}, intervals={"x": (0.0, 2.0)}).save(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["intervals"] == {"x": [0.0, 2.0]}
