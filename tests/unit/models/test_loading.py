"""From a checkpoint file back to a model, and what is refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import MODELS, loading
from latent_lab.models.base import CHECKPOINT_KEY, AdamSettings
from latent_lab.models.pioneer import Pioneer, PioneerWeights


def model() -> Pioneer:
    torch.manual_seed(0)
    schedule = GrowthSchedule([Stage(4, 1.5, 8, fade_kimg=0.5), Stage(8, 2.0, 4, learning_rate=5e-4, margin=0.05)])
    pioneer = Pioneer(
        schedule,
        latent_dim=6,
        widths=[6, 4],
        normalisation="pixel_norm_equalized",
        upsampling="bilinear",
        encoder_last_activation=True,
        weights=PioneerWeights(image=2.0, kl_real_outside_margin=0.1),
        adam=AdamSettings(beta2=0.9),
        generator_steps=2,
        average_decay_per_step=0.999,
        seed=7,
    )
    pioneer.advance(1700)
    return pioneer


def content(pioneer: Pioneer) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {"state_dict": pioneer.state_dict()}
    pioneer.on_save_checkpoint(checkpoint)
    return checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.ckpt"
    torch.save(content(model()), path)
    return path


# Recipes


def test_a_recipe_builds_an_equal_model() -> None:
    original = model()
    rebuilt = loading.build(original.recipe)
    assert type(rebuilt) is Pioneer
    assert rebuilt.recipe == original.recipe
    assert list(rebuilt.schedule.stages) == list(original.schedule.stages)
    assert (rebuilt.weights, rebuilt.adam, rebuilt.seed) == (original.weights, original.adam, 7)
    shapes = {name: value.shape for name, value in original.state_dict().items()}
    assert {name: value.shape for name, value in rebuilt.state_dict().items()} == shapes
    assert str(rebuilt) == str(original)


def test_a_recipe_is_plain_data() -> None:
    def leaves(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [leaf for item in value.values() for leaf in leaves(item)]
        return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]

    assert {type(leaf) for leaf in leaves(model().recipe)} <= {str, int, float, bool, type(None)}


def test_a_short_name_builds_a_model_too() -> None:
    assert set(MODELS) >= {"Pioneer"}
    recipe = {"class_path": "Pioneer", "init_args": model().recipe["init_args"]}
    assert isinstance(loading.build(recipe), Pioneer)


@pytest.mark.parametrize("name", ["Nobody", "latent_lab.models.pioneer.Nobody", "no_such_package.Model", ""])
def test_an_unknown_class_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=rf"there is no class {name}: known models are .*Pioneer"):
        loading.class_of(name)


@pytest.mark.parametrize("change", [{"latent_dim": "wide"}, {"unheard_of": 1}, {"normalisation": "batch"}])
def test_a_recipe_with_wrong_arguments_is_refused(change: dict) -> None:
    recipe = model().recipe
    with pytest.raises(Exception, match=next(iter(change))):
        loading.build({**recipe, "init_args": recipe["init_args"] | change})


def test_a_recipe_cannot_start_anything_but_a_model(tmp_path: Path) -> None:
    # A checkpoint is untrusted input; its recipe must not name an arbitrary class.
    trace = tmp_path / "trace"
    recipe = {"class_path": "subprocess.Popen", "init_args": {"args": f"touch {trace}", "shell": True}}
    poisoned = content(model())
    poisoned[CHECKPOINT_KEY]["model"] = recipe
    torch.save(poisoned, tmp_path / "poisoned.ckpt")
    with pytest.raises(ValueError, match="Popen"):
        loading.load(tmp_path / "poisoned.ckpt")
    time.sleep(0.2)  # a command would run in the background
    assert not trace.exists()


# Checkpoints


def test_loading_gives_the_model_that_was_saved(checkpoint: Path) -> None:
    original, loaded = model().eval(), loading.load(checkpoint)
    state = original.state_dict()
    assert set(loaded.state_dict()) == set(state)
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    assert torch.equal(loaded.reconstruct(images), original.reconstruct(images))


def test_a_loaded_model_evaluates_where_training_stood(checkpoint: Path) -> None:
    loaded = loading.load(str(checkpoint))
    assert not loaded.training
    assert loaded.images_seen == 1700
    assert loaded.resolution == 8


def test_the_global_random_state_does_not_change_what_is_loaded(checkpoint: Path) -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(loading.load(checkpoint).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_missing_file_is_named_with_the_shipped_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere\.ckpt, and no shipped checkpoint"):
        loading.load(tmp_path / "nowhere.ckpt")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_called_damaged(checkpoint: Path, share: float) -> None:
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"model\.ckpt is damaged or only half written: use an earlier checkpoint"):
        loading.load(checkpoint)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are notes, not weights.\n")
    with pytest.raises(ValueError, match=r"notes\.txt is "):
        loading.load(path)


class Touch:
    """Runs a command when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("legacy", [False, True], ids=["torch file", "bare pickle"])
def test_a_pickle_with_foreign_code_is_not_opened(tmp_path: Path, legacy: bool) -> None:
    path, trace = tmp_path / "foreign.ckpt", tmp_path / "trace"
    poisoned = {CHECKPOINT_KEY: {"model": Touch(trace)}}
    if legacy:
        path.write_bytes(pickle.dumps(poisoned))
    else:
        torch.save(poisoned, path)
    with pytest.raises(ValueError, match=r"foreign\.ckpt is not a checkpoint of plain tensors and data"):
        loading.load(path)
    assert not trace.exists()


@pytest.mark.parametrize("foreign", [{"state_dict": {}}, [1, 2], {"G_state_dict": {}}], ids=["lightning", "list", "G"])
def test_a_checkpoint_of_another_program_is_sent_to_the_importer(tmp_path: Path, foreign: Any) -> None:
    path = tmp_path / "other.pt"
    torch.save(foreign, path)
    with pytest.raises(ValueError, match=r"not a checkpoint of latent-lab: .* need `latent-lab import`"):
        loading.load(path)


def test_a_configuration_for_another_model_is_refused_before_anything_changes() -> None:
    pioneer = model()
    saved = content(pioneer)
    saved[CHECKPOINT_KEY]["model"]["class_path"] = "latent_lab.models.automodulator.Automodulator"
    with pytest.raises(ValueError, match="the checkpoint holds a Automodulator, the configuration asks for a Pioneer"):
        model().on_load_checkpoint(saved)


# Names in the manifest


@pytest.fixture
def shipped(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(loading, "shipped_folder", lambda name: checkpoint.parent)
    return checkpoint.parent / "manifest.toml"


def entry(file: Path, digest: str) -> str:
    return f'[demo]\nfile = "{file.name}"\nsha256 = "{digest}"\n'


def test_a_shipped_checkpoint_is_found_by_its_name(checkpoint: Path, shipped: Path) -> None:
    shipped.write_text(entry(checkpoint, hashlib.sha256(checkpoint.read_bytes()).hexdigest()))
    assert loading.resolve_checkpoint("demo") == checkpoint
    assert isinstance(loading.load("demo"), Pioneer)


def test_a_shipped_checkpoint_that_differs_from_its_manifest_is_refused(checkpoint: Path, shipped: Path) -> None:
    shipped.write_text(entry(checkpoint, "0" * 64))
    with pytest.raises(ValueError, match=r"has sha256 .* its manifest says 000000000000"):
        loading.load("demo")


def test_a_shipped_checkpoint_that_is_not_there_is_named(checkpoint: Path, shipped: Path) -> None:
    shipped.write_text(entry(checkpoint.with_name("gone.ckpt"), "0" * 64))
    with pytest.raises(FileNotFoundError, match=r"checkpoint demo should be at .*gone\.ckpt, which is not there"):
        loading.load("demo")


def test_an_unknown_name_lists_the_shipped_ones(checkpoint: Path, shipped: Path) -> None:
    shipped.write_text(entry(checkpoint, "0" * 64))
    with pytest.raises(FileNotFoundError, match=r"no shipped checkpoint of that name \(there are: demo\)"):
        loading.load("nobody")
