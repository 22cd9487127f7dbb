from __future__ import annotations

import numpy as np
import pytest

from latent_lab.data.labels import read_labels

NAMES = ["a/1.png", "a/2.png", "3.png"]


def written(tmp_path, text: str):
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_numeric_columns_become_labels_in_the_order_of_the_images(tmp_path):
    table = read_labels(written(tmp_path, "file,age,smile\n3.png,30,1\na/1.png,10,0\na/2.png,20,1\n"), NAMES)
    assert table.label_names == ("age", "smile")
    np.testing.assert_array_equal(table.values, [[10, 0], [20, 1], [30, 1]])


def test_rows_may_name_the_last_part_of_the_path_only(tmp_path):
    table = read_labels(written(tmp_path, "file,age\n1.png,10\n2.png,20\n3.png,30\n"), NAMES)
    np.testing.assert_array_equal(table.values[:, 0], [10, 20, 30])


def test_empty_entries_and_unlisted_images_are_nan_and_reported(tmp_path):
    table = read_labels(written(tmp_path, "file,age\n1.png,10\n2.png,\n"), NAMES)
    np.testing.assert_array_equal(table.values[:, 0], [10, np.nan, np.nan])
    assert "1 images have no row in the labels file." in table.notes


def test_columns_of_words_are_ignored_and_reported(tmp_path):
    table = read_labels(written(tmp_path, "file,age,mood\n1.png,10,gay\n2.png,1,sad\n"), NAMES)
    assert table.label_names == ("age",)
    assert any("mood" in note for note in table.notes)


def test_the_split_column_is_no_label(tmp_path):
    table = read_labels(written(tmp_path, "file,split\n1.png,0\n2.png,1\n3.png,2\n"), NAMES)
    assert table.label_names == ()
    assert table.split == ["0", "1", "2"]


def test_a_byte_order_mark_is_skipped(tmp_path):
    assert read_labels(written(tmp_path, "\ufefffile,age\n1.png,10\n"), NAMES).label_names == ("age",)


def test_a_missing_labels_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"labels\.csv' does not exist: give the path of a CSV"):
        read_labels(tmp_path / "labels.csv", NAMES)


def test_a_table_without_a_file_column_says_what_it_has(tmp_path):
    with pytest.raises(ValueError, match="needs a column named file, found name, age"):
        read_labels(written(tmp_path, "name,age\n1.png,10\n"), NAMES)


def test_a_table_of_other_images_is_refused_with_an_example(tmp_path):
    with pytest.raises(ValueError, match=r"lists none of the 3 images.*'x\.png'.*'a/1\.png'"):
        read_labels(written(tmp_path, "file,age\nx.png,10\n"), NAMES)


def test_a_binary_labels_file_is_refused(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match="not a CSV file in UTF-8"):
        read_labels(path, NAMES)
