"""Commands about several latent spaces: which checkpoints, which images, which names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.errors import InputError
from latent_lab.cli.spaces import checkpoint_names, labels_of, participants_from
from latent_lab.data import ImageFolder, SyntheticFaces
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import Pioneer


def saved(path: Path, data: SyntheticFaces | ImageFolder | None, **options: object) -> Path:
    """An untrained model at 8 px that says it was trained on some data."""
    model = Pioneer(GrowthSchedule([Stage(8, 0.064, 8)]), latent_dim=8, widths=[8, 8], **options)
    content: dict[str, object] = {"state_dict": model.state_dict(), "optimizer_states": []}
    model.on_save_checkpoint(content)
    content["latent_lab"]["data"] = None if data is None else data.recipe
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def faces(**options: object) -> SyntheticFaces:
    return SyntheticFaces(num_images=16, num_val=8, num_test=8, resolution=8, **options)


def arguments(**options: str) -> Arguments:
    return Arguments(options=options)


def test_checkpoints_are_named_by_an_option_by_words_or_by_both() -> None:
    both = Arguments(words=["b", "c"], options={"ckpt": "a", "others": "[d, e]"})
    assert checkpoint_names(both, "map") == ["a", "b", "c", "d", "e"]
    with pytest.raises(InputError, match=r"latent-lab map A.ckpt B.ckpt"):
        checkpoint_names(Arguments(), "map")


def test_a_runs_checkpoint_is_called_as_the_run_and_equal_names_are_numbered(folder: Path) -> None:
    for run in ("one", "two"):
        (folder / run / "checkpoints").mkdir(parents=True)
        (folder / run / "config.yaml").touch()
    paths = [folder / "one/checkpoints/last.ckpt", folder / "two/checkpoints/last.ckpt", folder / "a.ckpt"]
    assert labels_of(paths) == ["one", "two", "a"]
    assert labels_of([folder / "x/a.ckpt", folder / "y/a.ckpt"]) == ["a-1", "a-2"]


def test_models_of_the_same_data_share_its_images(folder: Path, capsys) -> None:
    names = [str(saved(folder / f"{name}.ckpt", faces(seed=seed), seed=seed)) for seed, name in enumerate("ab")]
    one, other = participants_from(names, arguments())[0]
    assert (one.name, other.name) == ("a", "b")
    assert other.held_out is one.held_out
    assert len(one.reference) == 16
    assert "note" not in capsys.readouterr().err


def test_a_model_of_another_crop_sees_the_same_pictures_its_own_way(folder: Path, capsys) -> None:
    names = [
        str(saved(folder / "whole.ckpt", faces())),
        str(saved(folder / "close.ckpt", faces(framing="face"))),
    ]
    one, other = participants_from(names, arguments())[0]
    assert other.held_out is not one.held_out
    assert not torch.equal(one.images("held_out", [0]), other.images("held_out", [0]))
    assert "close sees the same pictures in its own way (data.framing" in capsys.readouterr().err


def test_models_of_other_data_are_compared_with_a_warning(folder: Path, capsys, photos: Path) -> None:
    names = [
        str(saved(folder / "faces.ckpt", faces())),
        str(saved(folder / "photos.ckpt", ImageFolder(root=photos, resolution=8))),
    ]
    one, other = participants_from(names, arguments())[0]
    assert other.held_out is one.held_out
    assert "photos was trained on other data than it is shown here (ImageFolder, not" in capsys.readouterr().err


def test_a_checkpoint_without_data_is_named(folder: Path, capsys) -> None:
    names = [str(saved(folder / "a.ckpt", faces())), str(saved(folder / "b.ckpt", None))]
    participants_from(names, arguments())
    assert "b or the first model does not say what it was trained on" in capsys.readouterr().err


def test_keys_of_data_change_the_images_of_all_models_of_that_data(folder: Path) -> None:
    names = [str(saved(folder / "whole.ckpt", faces())), str(saved(folder / "close.ckpt", faces(framing="face")))]
    fewer = Arguments(overrides=[("data.num_test", "4")])
    one, other = participants_from(names, fewer)[0]
    assert len(one.held_out) == len(other.held_out) == 4
    assert other.held_out is not one.held_out


def test_models_cannot_be_changed_on_the_way(folder: Path) -> None:
    with pytest.raises(InputError, match="leave out keys of model"):
        participants_from(["a.ckpt"], Arguments(overrides=[("model.seed", "3")]))
