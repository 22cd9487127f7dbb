from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import latent_lab
from latent_lab.importers import BalancedPioneerState, PioneerState
from latent_lab.importers.progressive import Progress
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint
from tests.unit.importers.pioneer_by_hand import KINDS, LATENT_DIM, PioneerByHand


def latents() -> Tensor:
    return F.normalize(torch.randn(4, LATENT_DIM, generator=torch.Generator().manual_seed(5)), dim=1)


def images(resolution: int) -> Tensor:
    return torch.rand(4, 3, resolution, resolution, generator=torch.Generator().manual_seed(6)) * 2 - 1


def assert_close(ours: Tensor, by_hand: Tensor) -> None:
    # Float32 here against float64 there, through up to ten layers; relative to values of order 1.
    torch.testing.assert_close(ours.detach().double(), by_hand, atol=1e-5, rtol=1e-5)


# What a file becomes


@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_images_and_codes_are_those_of_the_published_networks_at_every_depth(tmp_path: Path, resolution: int):
    by_hand = PioneerByHand(phase=2)
    model = BalancedPioneerState(resolution=resolution).read(by_hand.save(tmp_path)).eval()
    phase = {4: 0, 8: 1, 16: 2}[resolution]
    assert model.resolution == resolution
    assert_close(model.decode(latents()), by_hand.generate(latents(), phase))
    assert_close(model.encode(images(resolution)), by_hand.encode(images(resolution), phase))


@pytest.mark.parametrize("alpha", [0, 0.3, 0.7500066666666667])
def test_a_file_from_within_a_fade_decodes_and_encodes_with_its_alpha(tmp_path: Path, alpha: float):
    by_hand = PioneerByHand(alpha=alpha)
    model = BalancedPioneerState().read(by_hand.save(tmp_path)).eval()
    assert (model.now.phase, model.now.alpha) == (2, pytest.approx(alpha, rel=1e-12))
    assert_close(model.decode(latents()), by_hand.generate(latents(), 2, alpha))
    assert_close(model.encode(images(16)), by_hand.encode(images(16), 2, alpha))


def test_the_raw_and_the_averaged_generator_keep_apart(tmp_path: Path):
    by_hand = PioneerByHand()
    model = BalancedPioneerState().read(by_hand.save(tmp_path)).eval()
    raw = model.generator(latents(), 2)
    assert_close(raw, by_hand.generate(latents(), 2, name="G_state_dict"))
    assert (raw - model.decode(latents())).abs().max() > 1e-2


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_arms_of_the_ablation_are_told_apart(tmp_path: Path, kind: str):
    by_hand = PioneerByHand(kind=kind)
    model = BalancedPioneerState().read(by_hand.save(tmp_path)).eval()
    assert model.recipe["init_args"]["normalisation"] == kind
    assert_close(model.decode(latents()), by_hand.generate(latents(), 2))


@pytest.mark.parametrize("kind", ["spectral", "equalized"])
def test_without_spectral_vectors_equal_names_are_told_apart_by_the_deviation_of_weights(tmp_path: Path, kind: str):
    path = PioneerByHand(kind=kind).save(tmp_path, snu=False)
    model = BalancedPioneerState(spectral_vectors="converged").read(path)
    assert model.recipe["init_args"]["normalisation"] == kind


def test_the_kind_of_generator_can_be_forced_where_names_leave_it_open(tmp_path: Path):
    path = PioneerByHand(kind="equalized").save(tmp_path, snu=False)
    model = BalancedPioneerState(spectral_vectors="converged", normalisation="spectral").read(path)
    assert model.recipe["init_args"]["normalisation"] == "spectral"


def test_pioneers_spectral_vectors_are_computed_from_the_weights(tmp_path: Path):
    by_hand = PioneerByHand(kind="pixel_norm_equalized")
    by_hand.vectors.clear()  # sigma is then the largest singular value itself
    model = PioneerState().read(by_hand.save(tmp_path, snu=False)).eval()
    assert model.recipe["init_args"]["normalisation"] == "pixel_norm_equalized"
    assert_close(model.decode(latents()), by_hand.generate(latents(), 2))
    assert_close(model.encode(images(16)), by_hand.encode(images(16), 2))


def test_the_last_activation_of_the_encoder_can_be_left_out(tmp_path: Path):
    by_hand = PioneerByHand()
    model = BalancedPioneerState(encoder_last_activation=False).read(by_hand.save(tmp_path)).eval()
    assert_close(model.encode(images(16)), by_hand.encode(images(16), 2, last_activation=False))


def test_spectral_vectors_may_lie_elsewhere(tmp_path: Path):
    by_hand = PioneerByHand()
    path = by_hand.save(tmp_path)
    (tmp_path / "3000000_SNU").rename(tmp_path / "vectors")
    model = BalancedPioneerState(spectral=str(tmp_path / "vectors")).read(path).eval()
    assert_close(model.decode(latents()), by_hand.generate(latents(), 2))


def test_the_checkpoint_says_where_it_comes_from_and_loads_by_itself(tmp_path: Path):
    by_hand = PioneerByHand(alpha=0.25)
    BalancedPioneerState()(by_hand.save(tmp_path), tmp_path / "new.ckpt")
    model = latent_lab.load(tmp_path / "new.ckpt")
    assert model.images_seen == 3_000_000
    assert_close(model.decode(latents()), by_hand.generate(latents(), 2, 0.25))
    described = read_checkpoint(tmp_path / "new.ckpt")[CHECKPOINT_KEY]["imported"]
    assert (described["format"], described["file"]) == ("balanced_pioneer", "3000000_state")
    assert set(described["further_files"]) == {"3000000_SNU"}


def test_all_that_the_model_does_without_is_named(tmp_path: Path):
    dropped = BalancedPioneerState().convert(PioneerByHand().save(tmp_path)).dropped
    assert dropped == [
        *[
            text
            for entry in ("G_state_dict", "G_running_state_dict")
            for text in (
                ", ".join(f"{kind}.{number}.*" for kind in ("progression", "to_rgb") for number in range(3, 9))
                + f" of {entry} (beyond 16 px)",
                f"label_embed.weight of {entry} (takes part in nothing)",
            )
        ],
        ", ".join(f"{kind}.{number}.*" for kind in ("progression", "from_rgb") for number in range(6))
        + " of D_state_dict (beyond 16 px)",
        "optimizerG, optimizerD (state of training)",
    ]


# Progress


@pytest.mark.parametrize(
    ("images_seen", "phase", "alpha"),
    [(25_480_000, 6, 1.0), (3_000_016, 1, 0.5 + 16 / 2.4e6), (2_400_000, 1, 0.0), (500, 3, 1e-9), (2, 4, 0.99)],
)
def test_a_schedule_stands_where_the_file_does(images_seen: int, phase: int, alpha: float):
    now = Progress(images_seen, phase, alpha).schedule().at(images_seen)
    assert (now.images_seen, now.phase) == (images_seen, phase)
    assert now.alpha == pytest.approx(alpha, rel=1e-12)


def test_at_four_pixels_nothing_fades(tmp_path: Path):
    by_hand = PioneerByHand(phase=0, alpha=0.2)
    model = BalancedPioneerState().read(by_hand.save(tmp_path)).eval()
    assert_close(model.decode(latents()), by_hand.generate(latents(), 0))


def test_a_resolution_that_was_never_trained_is_refused(tmp_path: Path):
    path = PioneerByHand().save(tmp_path)
    with pytest.raises(ValueError, match=r"trained up to 16 px and its blocks for 32 px are as they were drawn"):
        BalancedPioneerState(resolution=32).read(path)


# What is refused


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], Any], **options: Any) -> Path:
    by_hand = PioneerByHand(**options)
    path = by_hand.save(tmp_path)
    content = by_hand.content()
    change(content)
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda content: content["D_state_dict"].pop("module.progression.7.conv.0.conv.bias"),
            r"D_state_dict of .*_state has no tensor progression\.7\.conv\.0\.conv\.bias: it is another network",
            id="missing tensor",
        ),
        pytest.param(
            lambda content: content["G_state_dict"].update({"module.style.weight": torch.zeros(2)}),
            r"G_state_dict of .*_state has tensors that belong to no part of the network: style\.weight",
            id="extra tensor",
        ),
        pytest.param(
            lambda content: content["G_running_state_dict"].update(
                {"module.progression.1.conv.0.conv.bias": torch.zeros(7)}
            ),
            r"G_running_state_dict of .*: progression\.1\.conv\.0\.conv\.bias has shape \(7,\) where \(8,\) belongs",
            id="wrong shape",
        ),
        pytest.param(
            lambda content: content["G_state_dict"]["module.to_rgb.2.bias"].fill_(float("nan")),
            r"to_rgb\.2\.bias has values that are not finite",
            id="not a number",
        ),
        pytest.param(
            lambda content: content.pop("alpha"), r"_state has no alpha: it is a checkpoint of another", id="no alpha"
        ),
        pytest.param(
            lambda content: content.update(optimizerQ={}),
            r"has entries that no known version of its program writes: optimizerQ",
            id="extra entry",
        ),
        pytest.param(lambda content: content.update(phase=9), r"phase must be a whole number from 0 to 8", id="phase"),
        pytest.param(lambda content: content.update(iteration=0), r"iteration must be a number of images", id="images"),
        pytest.param(lambda content: content.update(alpha="1"), r"alpha must be a number, got '1'", id="alpha"),
        pytest.param(
            lambda content: content.update(G_state_dict=[1, 2]), r"is no mapping of names to tensors", id="list"
        ),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_sentence(tmp_path: Path, change: Callable, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        BalancedPioneerState().read(changed(tmp_path, change))
    assert "\n" not in str(caught.value)


class MakesAFolder:
    """When it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_asks_for_anything_else_is_refused_by_name_and_not_run(tmp_path: Path, zipped: bool):
    content = PioneerByHand().content() | {"iteration": MakesAFolder(tmp_path / "trace")}
    torch.save(content, tmp_path / "1_state", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"1_state was not opened: it asks for \w+\.mkdir, which is neither") as caught:
        BalancedPioneerState().read(tmp_path / "1_state")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trace").exists()


def test_a_harmless_class_is_refused_by_name_too(tmp_path: Path):
    torch.save(PioneerByHand().content() | {"alpha": Fraction(1, 2)}, tmp_path / "1_state")
    with pytest.raises(ValueError, match=r"it asks for fractions\.Fraction, which is neither a tensor nor"):
        BalancedPioneerState().read(tmp_path / "1_state")


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_damaged_file_is_refused(tmp_path: Path, share: float):
    path = PioneerByHand().save(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"_state was not opened: it is no file of torch\.save, or damaged"):
        BalancedPioneerState().read(path)


def test_a_text_is_refused(tmp_path: Path):
    (tmp_path / "1_state").write_text("These are notes, not weights.\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"1_state was not opened: it is no file of torch\.save"):
        PioneerState().read(tmp_path / "1_state")


def test_absent_spectral_vectors_are_asked_for(tmp_path: Path):
    path = PioneerByHand().save(tmp_path, snu=False)
    with pytest.raises(ValueError, match=r"there is no _SNU file .* name it with --spectral, or have them computed"):
        BalancedPioneerState().read(path)


def test_spectral_vectors_of_another_file_are_refused(tmp_path: Path):
    path = PioneerByHand().save(tmp_path)
    torch.save([torch.ones(8, 1)] * 20, tmp_path / "3000000_SNU")
    with pytest.raises(ValueError, match=r"holds 20 spectral vectors where 54 belong, or 18 if the generator has none"):
        BalancedPioneerState().read(path)


def test_vectors_that_were_never_used_are_warned_of(tmp_path: Path):
    by_hand = PioneerByHand()
    by_hand.vectors["G_running_state_dict"][0] *= 0.3
    with pytest.warns(UserWarning, match=r"1 of 6 spectral vectors of G_running_state_dict .* not of length 1"):
        BalancedPioneerState().read(by_hand.save(tmp_path))


def test_vectors_of_blocks_that_were_never_trained_are_no_reason_to_warn(tmp_path: Path):
    by_hand = PioneerByHand()
    by_hand.vectors["G_state_dict"][-1] *= 0.3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BalancedPioneerState().read(by_hand.save(tmp_path))


def test_a_balanced_file_is_no_pioneers(tmp_path: Path):
    with pytest.raises(ValueError, match=r"which is no Pioneer's: import it as balanced_pioneer"):
        PioneerState().read(PioneerByHand().save(tmp_path))


def test_a_kind_that_names_contradict_is_refused(tmp_path: Path):
    path = PioneerByHand(kind="pixel_norm").save(tmp_path)
    with pytest.raises(ValueError, match=r"is pixel_norm by the names of its tensors: leave --normalisation equalized"):
        BalancedPioneerState(normalisation="equalized").read(path)
