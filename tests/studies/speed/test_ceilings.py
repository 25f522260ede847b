"""The roofline benchmark: bytes and products counted by hand, and its output files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import report
from studies.speed import ceilings


def test_counts_what_must_move_and_be_multiplied() -> None:
    found = {part.name: part for part, _, _ in ceilings.parts(32, "light", "cpu", "float32")}
    values = 32 * 32 * 60
    dct, block = found["DCT"], found["block"]
    assert (dct.read, dct.written) == (4 * values, 4 * values)
    assert dct.transform_macs == values * (32 + 32)  # two products with 32x32 matrices
    assert block.transform_macs == 2 * dct.transform_macs
    # in_proj, out_proj, two layers of the MLP with ratio 2, the depthwise 3x3 convolution
    assert block.macs == values * (2 * 60 + 60 + 4 * 60 + 9)
    assert found["LayerNorm, gate"].macs == found["LayerNorm, gate"].transform_macs == 0


def test_writes_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--device", "cpu", "--dtype", "float32", "--size", "mini", "--sides", "16"]
    assert ceilings.main([*arguments, "--repetitions", "1", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "ceilings.json").read_text())
    assert len(content["parts"]) == 6
    assert all(part["seconds"] > 0 and part["ceiling"] > 0 for part in content["parts"])
    assert content["machine"]["bytes_per_second"] > 0
    assert (tmp_path / "ceilings.md").read_text().count("\n") == 8
    assert "inverse DCT" in capsys.readouterr().out


def test_a_terminal_of_80_columns_shows_all_of_the_ceilings() -> None:
    row = ["1024", "heat: DCT, decay, inverse", "503", "257.7", "1.186", "3.241", "37 %"]
    row += ["4.096", "29 %"]
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(report.text_table("one layer", ceilings.HEADER, [row]))
    assert "…" not in capture.get() and "compiled" in capture.get()
