"""Records as Markdown, CSV, JSON and in the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from vheatir.errors import VHeatIRError
from vheatir.evaluation.records import Record
from vheatir.evaluation.tables import print_task, save_results, to_csv, to_json, to_markdown
from vheatir.metrics import CONVENTIONS

FIELDS = (
    "task", "dataset", "level", "method", "published", "params", "psnr", "ssim", "psnrb",
    "seconds_per_image", "images",
)  # fmt: skip


def records() -> list[Record]:
    def make(level: int, method: str, psnr: float, **more) -> Record:
        values = {"published": False, "params": None, "ssim": 0.9, "psnrb": psnr - 1}
        values |= {"seconds_per_image": None, **more}
        return Record("jpeg_gray", "LIVE1", level, method, psnr=psnr, images=29, **values)

    return [
        make(10, "degraded", 27.771),
        make(40, "degraded", 32.349),
        make(40, "SwinIR", 34.67, published=True, ssim=None, psnrb=None),
        make(10, "mine [b]|x", 29.5, params=1_234_567, seconds_per_image=0.25),
        make(40, "mine [b]|x", math.inf, params=1_234_567, seconds_per_image=0.75),
    ]


def test_json_is_a_list_of_the_promised_fields() -> None:
    rows = json.loads(to_json(records()))
    assert [tuple(row) for row in rows] == [FIELDS] * 5
    assert rows[0]["psnr"] == 27.771 and rows[0]["params"] is None
    assert rows[2]["published"] is True and rows[3]["published"] is False
    assert rows[4]["psnr"] is None


def test_csv_has_the_same_rows() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(records()))))
    assert tuple(rows[0]) == FIELDS and len(rows) == 5
    assert rows[3]["method"] == "mine [b]|x" and float(rows[3]["psnr"]) == 29.5
    assert rows[2]["ssim"] == ""


def test_markdown_has_a_row_for_each_method_and_says_what_it_follows() -> None:
    text = to_markdown(records(), ["on two photographs"])
    assert text.startswith("## JPEG artifact removal (luma) - on two photographs\n")
    assert "| degraded | - | 27.77/0.9000/26.77 | 32.35/0.9000/31.35 | - |" in text
    assert "| SwinIR (published) | - | - | 34.67 | - |" in text
    assert "| mine [b]\\|x | 1.23 M | 29.50/0.9000/28.50 | inf/0.9000/inf | 0.5 |" in text
    assert CONVENTIONS["jpeg_gray"] in text
    assert "quoted, not measured" in text and "Liang et al." in text


def photo_records() -> list[Record]:
    def make(method: str, psnr: float, **more) -> Record:
        values = {"published": False, "params": None, "ssim": 0.9, "psnrb": None}
        values |= {"seconds_per_image": None, **more}
        return Record("photo", "Nam25", None, method, psnr=psnr, images=25, **values)

    return [
        make("degraded", 37.06),
        make("CBDNet", 40.02, published=True, ssim=None),
        make("mine", 42.5, params=850_000, seconds_per_image=0.25),
    ]


def test_a_task_without_a_level_has_one_column() -> None:
    text = to_markdown(photo_records())
    assert "| method | parameters | PSNR/SSIM | s/image |" in text
    assert "| degraded | - | 37.06/0.9000 | - |" in text
    assert "| CBDNet (published) | - | 40.02 | - |" in text
    assert "| mine | 0.85 M | 42.50/0.9000 | 0.25 |" in text
    assert "Guo et al." in text and "Nam25: by the protocol of CBDNet" in text
    assert "None" not in text
    rows = list(csv.DictReader(io.StringIO(to_csv(photo_records()))))
    assert [row["level"] for row in rows] == ["", "", ""]
    assert [row["level"] for row in json.loads(to_json(photo_records()))] == [None] * 3
    for width in (160, 30):
        console = Console(file=io.StringIO(), width=width)
        print_task(console, photo_records())
        printed = console.file.getvalue()  # type: ignore[attr-defined]
        assert "PSNR" in printed and "None" not in printed


def test_terminal_shows_names_as_they_are() -> None:
    console = Console(file=io.StringIO(), width=160)
    print_task(console, records(), ["a remark"])
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("a remark", "mine [b]|x", "LIVE1 (29 images)", "27.77 / 0.9000 / 26.77"):
        assert part in text
    narrow = Console(file=io.StringIO(), width=60)
    print_task(narrow, records())
    assert "…" not in narrow.file.getvalue()  # type: ignore[attr-defined]


def test_files_are_written_and_a_bad_folder_is_one_clear_line(tmp_path: Path) -> None:
    files = save_results(tmp_path / "new" / "out", records(), footer="Measured.")
    assert sorted(file.name for file in files) == [f"benchmark.{s}" for s in ("csv", "json", "md")]
    assert len(json.loads((tmp_path / "new/out/benchmark.json").read_text())) == 5
    assert "Measured." in (tmp_path / "new/out/benchmark.md").read_text()
    assert not [p for p in (tmp_path / "new/out").iterdir() if p.name.startswith(".")]
    (tmp_path / "file").write_text("")
    with pytest.raises(VHeatIRError, match="another --out"):
        save_results(tmp_path / "file", records())


def test_a_narrow_terminal_stacks_the_figures() -> None:
    console = Console(file=io.StringIO(), width=56)
    print_task(console, records())
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    row = lines.index(["degraded", "-", "27.77", "32.35", "-"])
    assert lines[row + 1 : row + 3] == [["0.9000", "0.9000"], ["26.77", "31.35"]]
