"""Lists of file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from vheatir.data.names import NameList


def test_patterns_match_lmdb_keys_without_their_suffix() -> None:
    names = NameList(["a*.png", "b.jpg", "c*"])
    assert all(f"set.lmdb::{key}" in names for key in ("a1", "b", "cc"))
    assert "set.lmdb::ba" not in names and "a1.jpg" not in names and "a1.png" in names


def test_suffixes_of_names_are_ignored_so_that_converted_files_are_found() -> None:
    assert "12003.png" in NameList(["12003.jpg"]) and "12003.jpg" in NameList(["12003"])
    assert "12003.png" not in NameList(["12003*.jpg"])


@pytest.mark.parametrize("entry", ["12003.jpg", "train/12003.jpg", "/data/12003.jpg", "a/12*.jpg"])
def test_folders_are_ignored(entry: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"# held out\n{entry}\n")
    for names in (NameList([entry]), NameList([str(tmp_path / "list.txt")])):
        assert "/elsewhere/12003.jpg" in names and "12003.jpg" in names
        assert "/elsewhere/22003.jpg" not in names


def test_a_name_with_brackets_is_a_file_name_too() -> None:
    names = NameList(["photo[1].png"])
    assert "/d/photo[1].png" in names and "set.lmdb::photo[1]" in names and "photo1.png" in names
    assert "photo[2].png" not in names


def test_only_suffixes_of_images_are_suffixes() -> None:
    names = NameList(["IMG_1.5", "IMG_2.5.jpg", "IMG_3.*"])
    assert "IMG_1.5.jpg" in names and "IMG_2.5.png" in names and "IMG_3.png" in names
    assert "a.jpg" in NameList(["a.HEIC"])
    assert "IMG_1.jpg" not in names and "IMG_2.jpg" not in names
    assert all(f"set.lmdb::{key}" in names for key in ("IMG_1.5", "IMG_2.5", "IMG_3"))
