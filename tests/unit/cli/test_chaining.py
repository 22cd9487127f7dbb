"""A chain on the command line: built in parts, applied to a folder, reported on, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import latent_lab as package
from latent_lab import images
from latent_lab.cli import chain_build, main, training
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import read_checkpoint

TINY = """\
model:
  class_path: Translator
  init_args:
    domains: ["25", "35"]
    generator_width: 2
    residual_blocks: 1
    discriminator_width: 2
    discriminator_halvings: 1
    schedule: {stages: [{resolution: 8, kimg: 0.004, batch_size: 2, learning_rate: 1e-3}]}
data:
  class_path: OrderedDomains
  init_args:
    images: {class_path: SyntheticAgeing, init_args: {resolution: 8, num_images: 24, num_val: 12, num_test: 12}}
    train_on: ["25", "35"]
chain: {domains: ["25", "35", "45"], tolerance: 1000, num_resamples: 5, estimator: drawn}
run: {record_kimg: 0.002, analyses: []}
trainer: {accelerator: cpu, devices: 1}
"""


@pytest.fixture(autouse=True, scope="module")
def no_curves() -> Iterator[None]:
    """Without the figure of each training's curves, which takes longer than these trainings; see the tests of `fit`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "plot_curves", lambda *arguments: None)
        yield


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the report that ends a building."""
    monkeypatch.setattr(chain_build, "report", lambda *arguments: None)


@pytest.fixture
def tiny_chain(folder: Path) -> Path:
    """A configuration of a chain of two steps that is built in seconds."""
    path = folder / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of that configuration; the tolerance is so wide that the re-used translator is kept."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LATENT_LAB_CACHE", str(folder / "cache"))
        assert main(["chain", "build", "--config", str(folder / "tiny.yaml"), "--out", str(folder / "chain")]) == 0
    return folder / "chain"


@pytest.fixture
def built(once: Path, folder: Path) -> Path:
    """A copy of it in the working folder."""
    shutil.copytree(once, folder / "chain")
    return Path("chain")


def ledger_of(chain: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((chain / "ledger.json").read_text())
    return content


def assert_one_sentence(outcome: Any, *words: str) -> None:
    lines = [line for line in outcome.error.splitlines() if not line.startswith(("Packing", "latent-lab: skipped "))]
    assert outcome.code == 2
    assert len(lines) == 1, outcome.error
    for word in words:
        assert word in lines[0]


def test_a_chain_is_built_with_a_run_of_its_own_for_each_candidate(built: Path):
    ledger = ledger_of(built)
    assert ledger["complete"]
    assert ledger["structure"] == "2"
    assert ledger["chain"] == ["step2_reused", "step2_reused"]
    assert set(ledger["trainings"]) == {"step1_specialised", "step2_specialised", "step2_reused"}
    for name, record in ledger["trainings"].items():
        seen = read_checkpoint(built / record["checkpoint"])[CHECKPOINT_KEY]["images_seen"]
        # The re-used one goes on where its parent ended.
        assert seen == record["images_seen"] == (8 if name == "step2_reused" else 4)
    assert (built / "report" / "report.md").is_file()


def test_the_reused_translator_begins_with_its_parents_optimisers(built: Path):
    content = read_checkpoint(built / "trainings" / "step2_reused" / "checkpoints" / "last.ckpt")
    steps = [next(iter(one["state"].values()))["step"].item() for one in content["optimizer_states"]]
    # Two steps of one pair, then two of two pairs each.
    assert steps == [6, 6, 6]


def test_interrupted_in_the_middle_the_same_command_ends_with_the_same_models(
    latent_lab: Any, tiny_chain: Path, once: Path, no_report: None, monkeypatch: pytest.MonkeyPatch
):
    def stops_in(name: str) -> Any:
        def stopping(run: Any) -> int:
            if run.folder.name == name:
                # As after a signal: half of the run is saved.
                run.model.max_images = run.model.images_seen + 2
                original(run)
                return 143
            return original(run)

        original = train
        return stopping

    train = chain_build.train
    for name in ("step1_specialised", "step2_reused"):
        monkeypatch.setattr(chain_build, "train", stops_in(name))
        outcome = latent_lab("chain", "build", "--config", tiny_chain, "--out", "again")
        assert outcome.code == 143
        assert "the same command goes on from there" in outcome.error
    monkeypatch.setattr(chain_build, "train", train)
    outcome = latent_lab("chain", "build", "--config", tiny_chain, "--out", "again")
    assert outcome.code == 0, outcome.error
    assert "decided before: 25 to 35" in outcome.error
    one, other = ledger_of(once), ledger_of(Path("again"))
    assert one["decisions"] == other["decisions"]
    for name in one["trainings"]:
        states = [read_checkpoint(chain / one["trainings"][name]["checkpoint"]) for chain in (once, Path("again"))]
        assert all(torch.equal(value, states[1]["state_dict"][key]) for key, value in states[0]["state_dict"].items())


def test_a_finished_chain_is_left_as_it_is(latent_lab: Any, tiny_chain: Path, built: Path, no_report: None):
    before = {path: path.read_bytes() for path in built.rglob("*.ckpt")}
    assert latent_lab("chain", "build", "--config", tiny_chain, "--out", "chain").code == 0
    assert before == {path: path.read_bytes() for path in built.rglob("*.ckpt")}


def test_another_setting_is_refused_for_a_chain_that_was_begun(latent_lab: Any, tiny_chain: Path, built: Path):
    outcome = latent_lab("chain", "build", "--config", tiny_chain, "--out", "chain", "--tolerance", "2")
    assert_one_sentence(outcome, "was begun with other settings (chain.tolerance: 2.0, was 1000.0): undo the change")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--images", "photos", "apply", "chain"],
            "chain needs one of build, apply, report, export, label as its first",
        ),
        (["apply", "chain", "--images", "photos", "--out", "o", "--half"], "chain apply has no option --half"),
        (
            ["apply", "chain", "--images", "photos", "--out", "o", "--data.root", "x"],
            "chain apply has no option --data",
        ),
        (["build", "--images", "photos"], "chain build has no option --images"),
    ],
)
def test_each_action_takes_its_own_options_alone(latent_lab: Any, words: list[str], sentence: str):
    assert_one_sentence(latent_lab("chain", *words), sentence)


def test_each_action_has_its_own_help(latent_lab: Any):
    outcome = latent_lab("chain", "export", "--help")
    assert outcome.out.startswith("usage: latent-lab chain export CHAIN --out DIR [--half]")
    assert "--tolerance" not in outcome.out


def test_images_keep_their_names_at_every_station(latent_lab: Any, built: Path, photos: Path):
    (photos / "d.png").unlink()
    shutil.copy(photos / "a.png", photos / "a.bmp")
    words = ("--images", photos, "--out", "older", "--direction", "round-trip")
    outcome = latent_lab("chain", "apply", built, *words)
    assert outcome.code == 0, outcome.error
    stations = sorted(path.name for path in Path("older").iterdir() if path.is_dir())
    assert stations == ["0_25", "1_35", "2_45", "3_35", "4_25"]
    for station in stations:
        # Two files of one stem keep their endings.
        names = sorted(path.name for path in (Path("older") / station).iterdir())
        assert names == ["a.bmp.png", "a.png.png", "b.png", "c.png"]
        assert np.asarray(Image.open(Path("older") / station / "b.png")).shape == (8, 8, 3)
    numbers = json.loads(Path("older/result.json").read_text())["numbers"]
    assert {"cycle_error_1_25_35", "cycle_error_whole", "age_drawn_0_25", "age_drawn_4_25"} <= set(numbers)
    assert Path("older/strip.png").is_file()


def test_a_way_may_begin_and_end_anywhere(latent_lab: Any, built: Path, photos: Path):
    words = ("--images", photos, "--out", "younger", "--direction", "backward", "--from-domain", "35", "--rounded")
    outcome = latent_lab("chain", "apply", built, *words, "true")
    assert outcome.code == 0, outcome.error
    assert sorted(path.name for path in Path("younger").iterdir() if path.is_dir()) == ["0_35", "1_25"]


def test_a_report_may_be_of_other_images(latent_lab: Any, built: Path):
    outcome = latent_lab("chain", "report", built, "--split", "val", "--extractor", "none", "--out", "seen")
    assert outcome.code == 0, outcome.error
    result = json.loads(Path("seen/result.json").read_text())
    assert result["protocol"]["data"]["split"] == "val"
    assert "age_drawn_mean_error_on_real" in result["numbers"]
    assert not [name for name in result["numbers"] if name.startswith("fd_")]


class Broken(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3)) * torch.nan


def test_an_estimator_that_gives_nan_is_refused_before_anything_is_trained(
    latent_lab: Any, tiny_chain: Path, monkeypatch: pytest.MonkeyPatch
):
    module: Any = ModuleType("own_ages")
    module.Broken = Broken
    monkeypatch.setitem(sys.modules, "own_ages", module)
    outcome = latent_lab("chain", "build", "--config", tiny_chain, "--estimator", "own_ages.Broken")
    assert_one_sentence(outcome, "gave NaN or infinite ages for")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data.images.init_args.ages", "[25, 35]"], "domain 45 (40 to below 50) has no training images"),
        (["--data.images.init_args.num_val", "2"], "has no images in the split val: widen its bounds"),
        (
            ["--data.domains", "[{name: '25', low: 20, high: 36}, {name: '35', low: 30, high: 40}]"],
            "domains must not overlap, got 25 (20 to below 36) and 35 (30 to below 40)",
        ),
        (["--domains", "['25', '36']"], "chain.domains names '36', which the data has not"),
        (["--chain.tolerence", "2"], "section chain has no option tolerence (chain.tolerence): did you mean tolerance"),
        (["--run.max_kimg", "1"], "leave out run.max_kimg"),
        (["--trainer.devices", "2"], "a chain is built on one device, got trainer.devices 2: write 1"),
        (["--data", "SyntheticFaces"], "a chain is built on domains, which SyntheticFaces has not"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_sentence(
    words: list[str], sentence: str, latent_lab: Any, tiny_chain: Path
):
    assert_one_sentence(latent_lab("chain", "build", "--config", tiny_chain, *words), sentence)
    assert not Path("runs").exists()


def test_images_without_labels_have_no_domains(latent_lab: Any, tiny_chain: Path, photos: Path):
    drawn = TINY[TINY.index("{class_path: SyntheticAgeing") : TINY.index("}}") + 2]
    folder = f"{{class_path: ImageFolder, init_args: {{root: {photos}, resolution: 8, max_bad_share: 0.5}}}}"
    tiny_chain.write_text(TINY.replace(drawn, folder), encoding="utf-8")
    outcome = latent_lab("chain", "build", "--config", tiny_chain)
    assert outcome.code == 2
    sentence = outcome.error.splitlines()[-1]
    assert "domains are told by the label age, and the images of ImageFolder have no labels: name a CSV" in sentence
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "chain needs one of build, apply, report, export, label as its first word, got none"),
        (["biuld"], "got biuld: did you mean build?"),
        (["build"], "nothing says what to build: give --config chain_synthetic.yaml"),
        (["apply"], "chain apply needs the folder or the name of one chain"),
        (["export"], "chain export needs the folder or the name of one chain"),
        (["report", "nowhere"], "nowhere is no chain: name a folder that `latent-lab chain build` has written, or one"),
    ],
)
def test_what_is_no_command_of_a_chain_is_said_in_one_sentence(words: list[str], sentence: str, latent_lab: Any):
    assert_one_sentence(latent_lab("chain", *words), sentence)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--images", "photos"], "chain apply needs --out DIR"),
        (["--images", "photos", "--out", "photos/older"], "lies in the folder of the images"),
        (["--images", "photos", "--out", "x", "--from-domain", "99"], "the chain has the domains 25, 35, 45, got '99'"),
        (["--images", "photos", "--out", "x", "--from-domain", "45"], "forward leads from younger domains to older"),
    ],
)
def test_what_cannot_be_applied_is_said_in_one_sentence(
    words: list[str], sentence: str, latent_lab: Any, built: Path, photos: Path
):
    assert_one_sentence(latent_lab("chain", "apply", built, *words), sentence)


def test_a_checkpoint_that_was_exchanged_is_noticed(latent_lab: Any, built: Path):
    exchanged = built / "trainings" / "step1_specialised" / "checkpoints" / "last.ckpt"
    exchanged.write_bytes(b"something else")
    assert_one_sentence(latent_lab("chain", "report", built), "is not the file that the chain's ledger knows")


def test_an_exported_chain_has_the_kept_translators_alone_and_applies_as_before(
    latent_lab: Any, built: Path, photos: Path, folder: Path
):
    outcome = latent_lab("chain", "export", built, "--out", "small")
    assert outcome.code == 0, outcome.error
    kept = ledger_of(built)["chain"][0]
    assert sorted(path.name for path in (folder / "small").iterdir()) == sorted(["ledger.json", f"{kept}.ckpt"])
    for chain, out in ((built, "whole"), ("small", "less")):
        assert latent_lab("chain", "apply", chain, "--images", photos, "--out", out).code == 0
    pictures = sorted(path.relative_to(folder / "whole") for path in (folder / "whole" / "2_45").rglob("*.png"))
    assert pictures
    for path in pictures:
        assert (folder / "less" / path).read_bytes() == (folder / "whole" / path).read_bytes()
    assert_one_sentence(latent_lab("chain", "report", "small"), "exported without the translators that were not kept")


def test_an_exported_chain_names_no_folder_of_the_machine_and_is_smaller_in_half_precision(
    latent_lab: Any, built: Path, folder: Path
):
    content = ledger_of(built)
    content["settings"]["data"]["init_args"]["cache_dir"] = "/some/where/cache"
    (built / "ledger.json").write_text(json.dumps(content))
    sizes = {}
    for out, words in (("whole", []), ("half", ["--half"])):
        assert latent_lab("chain", "export", built, "--out", out, *words).code == 0
        assert ledger_of(folder / out)["settings"]["data"]["init_args"]["cache_dir"] == "cache"
        sizes[out] = sum(path.stat().st_size for path in (folder / out).glob("*.ckpt"))
    assert sizes["half"] < 0.8 * sizes["whole"]
    assert_one_sentence(
        latent_lab("chain", "export", built, "--out", "half"), "half is there already: choose another --out"
    )


def test_a_chain_is_loaded_in_python_as_it_is_applied(latent_lab: Any, built: Path, photos: Path, folder: Path):
    assert latent_lab("chain", "apply", built, "--images", photos, "--out", "older").code == 0
    chain = package.load_chain(built)
    assert (chain.domains, chain.structure) == (("25", "35", "45"), "2")
    moved = chain.translate(package.read_images(photos, chain.resolution), "25", "45")
    first = sorted((folder / "older" / "2_45").rglob("*.png"))[0]
    assert torch.equal(images.to_bytes(moved[:1]), images.to_bytes(images.load_png(first)))


def test_what_is_no_finished_chain_is_not_loaded(built: Path, folder: Path):
    with pytest.raises(ValueError, match="is no chain of translators"):
        package.load_chain(folder)
    content = ledger_of(built)
    (built / "ledger.json").write_text(json.dumps(content | {"chain": content["chain"][:1]}))
    with pytest.raises(ValueError, match="is not finished: go on with latent-lab chain build"):
        package.load_chain(built)


def test_without_its_estimator_a_chain_is_applied_all_the_same(
    latent_lab: Any, built: Path, photos: Path, folder: Path
):
    content = ledger_of(built)
    content["settings"]["chain"] |= {"estimator": "regressor", "estimator_path": "gone.safetensors"}
    (built / "ledger.json").write_text(json.dumps(content))
    outcome = latent_lab("chain", "apply", built, "--images", photos, "--out", "older")
    assert outcome.code == 0, outcome.error
    assert "note: ages are not estimated" in outcome.error
    assert not any("age" in name for name in json.loads((folder / "older" / "result.json").read_text())["numbers"])
    asked = ["--estimator", "regressor", "--estimator-path", "gone.safetensors"]
    assert_one_sentence(
        latent_lab("chain", "apply", built, "--images", photos, "--out", "x", *asked), "gone.safetensors"
    )
    assert latent_lab("chain", "apply", built, "--images", photos, "--out", "y", "--estimator", "none").code == 0


def test_an_estimator_that_a_chain_names_is_not_imported_unasked(
    latent_lab: Any, built: Path, photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "from_a_stranger.py").write_text('raise SystemExit("this was run")\n')
    monkeypatch.syspath_prepend(str(folder))
    content = ledger_of(built)
    content["settings"]["chain"]["estimator"] = "from_a_stranger.Estimator"
    (built / "ledger.json").write_text(json.dumps(content))
    outcome = latent_lab("chain", "apply", built, "--images", photos, "--out", "older")
    assert outcome.code == 0, outcome.error
    assert "write --estimator from_a_stranger.Estimator if you trust it" in outcome.error


@pytest.mark.parametrize("wrong", ["no record", "no translator"])
def test_a_chain_whose_files_are_wrong_is_not_loaded(built: Path, wrong: str, checkpoint: Path):
    content = ledger_of(built)
    kept = content["chain"][0]
    if wrong == "no record":
        del content["trainings"][kept]
    else:
        shutil.copy(checkpoint, built / "other.ckpt")
        digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        content["trainings"][kept] |= {"checkpoint": "other.ckpt", "sha256": digest}
    (built / "ledger.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"is no chain of translators|holds a Pioneer, which is no translator"):
        package.load_chain(built)


def test_each_action_has_its_options_in_its_help(latent_lab: Any):
    for action, option in (("build", "--tolerance"), ("apply", "--direction"), ("report", "--least-for-distances")):
        outcome = latent_lab("chain", action, "--help")
        assert outcome.code == 0
        assert option in outcome.out
