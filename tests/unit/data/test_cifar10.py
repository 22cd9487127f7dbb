from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

from latent_lab import images
from latent_lab.data import CIFAR10

FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def rows_of(number: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (4, 3072), dtype=np.uint8), rng.integers(0, 10, 4).tolist()


@pytest.fixture
def python_version(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number, name in enumerate(FILES):
        data, labels = rows_of(number)
        content = {b"data": data, b"labels": labels, b"batch_label": b"x", b"filenames": [b"a.png"] * 4}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return tmp_path


def test_batches_are_read_in_order_with_their_classes(python_version):
    source = CIFAR10(python_version).source("train")
    assert len(source) == 20
    data, labels = rows_of(2)
    batch = source.batch(range(8, 12), 32)
    assert torch.equal(batch.images, images.from_bytes(torch.from_numpy(data).view(4, 3, 32, 32)))
    assert batch.labels[:, 0].tolist() == labels


def test_val_and_test_are_the_published_test_part_and_not_training_images(python_version):
    data = CIFAR10(python_version)
    expected = images.from_bytes(torch.from_numpy(rows_of(5)[0]).view(4, 3, 32, 32))
    for split in ("val", "test"):
        assert torch.equal(data.source(split).batch(range(4), 32).images, expected)


def test_the_binary_version_gives_the_same(python_version, tmp_path):
    folder = tmp_path / "binary"
    folder.mkdir()
    for number, name in enumerate(FILES):
        data, labels = rows_of(number)
        records = np.concatenate([np.array(labels, dtype=np.uint8)[:, None], data], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    one, other = CIFAR10(python_version), CIFAR10(folder)
    assert one.source("train").recipe["hash"] == other.source("train").recipe["hash"]


def test_images_are_not_mirrored_by_default(python_version):
    assert not CIFAR10(python_version).mirror


def test_a_pickle_that_wants_to_run_a_program_is_refused(python_version, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'was_here'}",)

    (python_version / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps({b"data": Evil()}))
    with pytest.raises(ValueError, match=r"data_batch_3' is not a CIFAR-10 batch \(it asks to run .*system"):
        CIFAR10(python_version).setup()
    assert not (tmp_path / "was_here").exists()


def test_a_batch_of_another_shape_is_refused(python_version):
    content = {b"data": np.zeros((2, 10), dtype=np.uint8), b"labels": [0, 1]}
    (python_version / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"rows of 3072 pixels, one for each label, found uint8 of shape \(2, 10\)"):
        CIFAR10(python_version).setup()


def test_absent_batches_say_where_to_get_them(tmp_path):
    with pytest.raises(ValueError, match=r"get https://www\.cs\.toronto\.edu/~kriz/cifar-10-python\.tar\.gz"):
        CIFAR10(tmp_path).prepare_data()
