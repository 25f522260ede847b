"""The comparison of backends: every program gives the same image, and the files hold every row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import backends
from tests.export.conftest import ONNX


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--models", "denoise_colour_small"], "did you mean 'denoise_color_small'"),
        (["--sizes", "256,x"], "--sizes '256,x'"),
        (["--threads", "0"], "--threads '0'"),
        (["--rounds", "0"], "--rounds 0"),
        (["--precisions", "int4"], "unknown precision 'int4'"),
    ],
)
def test_mistakes_get_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backends.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_programs_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=ONNX)
    arguments = "--models jpeg_gray_small --sizes 48 --threads 1 --rounds 2 --precisions int8"
    assert backends.main([*arguments.split(), "--out", str(tmp_path)]) == 0
    records = json.loads((tmp_path / "backends.json").read_text())["records"]
    rows = {(each["program"], each["precision"]): each for each in records}
    first, *others = rows.values()
    assert (first["program"], first["precision"], first["speed"]) == ("PyTorch", "float32", 1)
    for each in others:
        assert len(each["times"]) == 2 and each["seconds"] > 0 and each["speed"] > 0
        within = 3 if each["precision"] == "int8" else 0.02
        assert each["psnr"] == pytest.approx(first["psnr"], abs=within)
    assert {("ONNX Runtime", "int8"), ("ONNX Runtime, fixed size", "float32")} <= rows.keys()
    table = (tmp_path / "backends.md").read_text()
    assert table in capsys.readouterr().out and len(table.splitlines()) == 2 + len(rows)
    assert len((tmp_path / "backends.csv").read_text().splitlines()) == 1 + len(rows)
