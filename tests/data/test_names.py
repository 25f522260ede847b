"""Lists of file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from vheatir.data.names import NameList


@pytest.mark.parametrize("entry", ["12003.jpg", "train/12003.jpg", "/data/12003.jpg", "a/12*.jpg"])
def test_folders_are_ignored(entry: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"# held out\n{entry}\n")
    for names in (NameList([entry]), NameList([str(tmp_path / "list.txt")])):
        assert "/elsewhere/12003.jpg" in names and "12003.jpg" in names
        assert "/elsewhere/22003.jpg" not in names
