"""Files of reference statistics: round trips, files of other programs, and one sentence for each bad one."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latent_lab.metrics.functional import frechet_distance, moments
from latent_lab.metrics.statistics_files import read_statistics, write_statistics

WIDTH = 12


class Extractor:
    name = "toy"
    num_features = WIDTH

    def __init__(self, **changed: Any) -> None:
        self.changed = changed

    def describe(self) -> dict[str, Any]:
        return {"name": "toy", "sha256": "ab12", "resize": "clean to 8x8", "quantised": "8 bits", **self.changed}


def rows(count: int = 40) -> torch.Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(count)) + 0.5


def foreign(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def theirs(count: int = 40) -> dict[str, np.ndarray]:
    wide = rows(count).double().numpy()
    return {"mu": wide.mean(0), "sigma": np.cov(wide, rowvar=False)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    protocol = {"extractor": Extractor().describe(), "data": {"source": "photos"}}
    write_statistics(tmp_path / "own.npz", moments(rows()), protocol=protocol, features=rows())
    found = read_statistics(tmp_path / "own.npz", Extractor())
    assert torch.equal(found.moments.covariance, moments(rows()).covariance)
    assert torch.equal(found.moments.mean, moments(rows()).mean)
    assert found.moments.num_vectors == 40
    assert found.features is not None
    assert torch.equal(found.features, rows())
    assert found.protocol == protocol
    assert found.notes == ()


def test_writing_leaves_one_file_and_replaces_what_was_there(tmp_path: Path) -> None:
    for count in (40, 50):
        write_statistics(tmp_path / "own.npz", moments(rows(count)), protocol={})
    assert [path.name for path in tmp_path.iterdir()] == ["own.npz"]
    assert read_statistics(tmp_path / "own.npz", Extractor()).moments.num_vectors == 50


def test_other_programs_can_read_our_files(tmp_path: Path) -> None:
    write_statistics(tmp_path / "own.npz", moments(rows()), protocol={})
    with np.load(tmp_path / "own.npz") as archive:
        np.testing.assert_allclose(archive["mu"], theirs()["mu"], rtol=1e-12)
        np.testing.assert_allclose(archive["sigma"], theirs()["sigma"], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_statistics_of_other_programs_are_accepted_with_a_note(tmp_path: Path, dtype: type) -> None:
    path = foreign(tmp_path / "fid.npz", **{name: array.astype(dtype) for name, array in theirs().items()})
    found = read_statistics(path, Extractor())
    assert frechet_distance(found.moments, moments(rows())).value < 1e-4
    assert found.moments.num_vectors is None
    assert found.features is None
    assert found.notes == (
        "fid.npz does not say which extractor and resize protocol, which images, how many images its statistics are "
        "of: check that they fit",
    )


def test_features_alone_give_moments_too(tmp_path: Path) -> None:
    found = read_statistics(foreign(tmp_path / "kid.npz", feats=rows().numpy()), Extractor())
    torch.testing.assert_close(found.moments.covariance, moments(rows()).covariance)
    assert found.moments.num_vectors == 40
    assert "how many images" not in found.notes[0]


def test_fewer_images_than_features_give_a_covariance_that_is_accepted(tmp_path: Path) -> None:
    assert read_statistics(foreign(tmp_path / "few.npz", **theirs(5)), Extractor()).moments.num_vectors is None


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"mu": np.zeros(WIDTH)}, "lacks mu and sigma, or feats, got mu"),
        ({"pictures": np.zeros(3)}, "lacks mu and sigma, or feats, got pictures"),
        ({**theirs(), "mu": np.zeros(9)}, "mu in .* is of 9 features, this extractor has 12"),
        ({**theirs(), "mu": np.zeros((1, WIDTH))}, "mu in .* must be a vector of real numbers, got float64 of shape"),
        ({**theirs(), "sigma": np.eye(WIDTH, dtype=int)}, "sigma in .* must be a matrix of real numbers, got int64"),
        ({**theirs(), "sigma": np.zeros((5, WIDTH))}, r"sigma in .* must have the shape \(12, 12\), got \(5, 12\)"),
        ({**theirs(), "sigma": np.full((WIDTH, WIDTH), np.nan)}, "sigma in .* contains NaN or infinite"),
        ({**theirs(), "sigma": np.triu(np.ones((WIDTH, WIDTH)))}, "sigma in .* is not symmetric"),
        ({**theirs(), "sigma": -np.eye(WIDTH)}, "sigma in .* has the eigenvalue -1 below 0"),
        ({**theirs(), "num_images": np.array(0.5)}, "num_images in .* must be a whole number of at least 2, got 0.5"),
        ({**theirs(), "protocol": np.array("{")}, "the protocol in .* is no JSON text"),
        ({**theirs(), "protocol": np.array("[1]")}, "the protocol in .* must name entries, got list"),
        ({"feats": np.zeros((1, WIDTH), dtype=np.float32)}, "feats in .* are of a single image"),
        ({"feats": np.array([{}], dtype=object)}, "is no archive of plain arrays"),
    ],
)
def test_bad_contents_are_refused_in_one_sentence(tmp_path: Path, arrays: dict[str, Any], sentence: str) -> None:
    path = foreign(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_statistics(path, Extractor())
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    whole = foreign(tmp_path / "whole.npz", **theirs()).read_bytes()
    garbled = bytearray(whole)
    garbled[len(whole) // 2] ^= 255  # in the middle of sigma
    for content in (whole[: len(whole) // 2], whole[:10], bytes(garbled), b"", b"no archive at all"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / "bad.npz"))):
            read_statistics(tmp_path / "bad.npz", Extractor())


def test_a_file_that_is_not_there_and_a_lone_array_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file of reference statistics at"):
        read_statistics(tmp_path / "none.npz", Extractor())
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match="it is a single array"):
        read_statistics(tmp_path / "one.npy", Extractor())


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"sha256": "cd34"}, "was made with toy and weights with sha256 ab12, this is toy with cd34"),
        ({"resize": "tf1 to 8x8"}, "was made with toy and resize protocol clean to 8x8, this is toy with tf1 to 8x8"),
        ({"quantised": "full precision"}, "was made with toy and rounding 8 bits, this is toy with full precision"),
    ],
)
def test_statistics_of_another_extractor_are_refused(tmp_path: Path, changed: dict[str, str], sentence: str) -> None:
    protocol = np.array(json.dumps({"extractor": Extractor().describe()}))
    path = foreign(tmp_path / "other.npz", **theirs(), protocol=protocol)
    with pytest.raises(ValueError, match=sentence):
        read_statistics(path, Extractor(**changed))


def test_files_of_another_name_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got faces.txt: name it faces.npz"):
        write_statistics(tmp_path / "faces.txt", moments(rows()), protocol={})
    assert not list(tmp_path.iterdir())
