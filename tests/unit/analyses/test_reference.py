"""The cache of reference features: one entry for each thing that features depend on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from latent_lab.analyses import reference
from latent_lab.analyses.reference import _read, _write, features_of_source
from latent_lab.networks.features import find_extractor
from tests.unit.analyses.toys import Noise


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., torch.Tensor]:
    """Features of noise in a cache of the test's own."""
    monkeypatch.setenv("LATENT_LAB_CACHE", str(tmp_path))

    def features(
        source: Noise, places: range = range(4), resolution: int = 8, alpha: float = 1.0, **viewing: str
    ) -> torch.Tensor:
        return features_of_source(
            source,
            places,
            find_extractor("random", **viewing),
            resolution=resolution,
            alpha=alpha,
            device=torch.device("cpu"),
            batch_size=4,
        )

    return features


def test_the_same_images_are_read_once(seen: Callable[..., torch.Tensor]) -> None:
    source = Noise(6)
    first = seen(source)
    assert source.reads == 4
    assert torch.equal(seen(source), first)
    assert source.reads == 4


@pytest.mark.parametrize(
    "changed",
    [
        {"resolution": 16},
        {"alpha": 0.5},
        {"places": range(1, 5)},
        {"resize": "tf1"},
        {"precision": "bfloat16"},
        {"quantisation": "none"},
        {"quantisation": "truncate"},
        {"source": Noise(6, seed=1)},
    ],
    ids=lambda changed: " ".join(
        f"{name} {value if name != 'source' else 'of images'}" for name, value in changed.items()
    ),
)
def test_whatever_changes_features_has_an_entry_of_its_own(
    seen: Callable[..., torch.Tensor], tmp_path: Path, changed: dict
) -> None:
    seen(Noise(6))
    seen(**{"source": Noise(6), **changed})
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_another_version_of_the_package_computes_anew(
    seen: Callable[..., torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(Noise(6))
    monkeypatch.setattr(reference, "__version__", "0.0.0")
    seen(Noise(6))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_images_without_a_hash_are_not_kept(seen: Callable[..., torch.Tensor], tmp_path: Path) -> None:
    source = Noise(6)
    del source.recipe["hash"]
    seen(source)
    assert not list(tmp_path.rglob("*"))


def test_writers_at_the_same_time_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "features" / "one.safetensors"

    def write_and_read(writer: int) -> bool:
        whole = []
        for _ in range(50):
            _write(path, torch.full((50, 64), float(writer)))
            found = _read(path, (50, 64))
            whole.append(found is not None and len(found.unique()) == 1)
        return all(whole)

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(write_and_read, range(3)))
    assert [left.name for left in path.parent.iterdir()] == ["one.safetensors"]


def test_a_folder_that_cannot_be_written_is_a_warning(
    seen: Callable[..., torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LATENT_LAB_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be kept in"):
        assert seen(Noise(6)).shape == (4, 64)
