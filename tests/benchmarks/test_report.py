"""The tables that the benchmarks print."""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError

import pytest
from rich.console import Console

from vheatir.errors import VHeatIRError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from benchmarks import report


def test_a_terminal_of_80_columns_shows_names_whole() -> None:
    header = ["method", "parameters", "s/megapixel", "peak memory", "PSNR", "source"]
    rows = [
        ["**denoise_color_medium**", "3.90 M", "3.04", "69 MB", "34.84", "model card"],
        ["SwinIR", "11.50 M", "386 (over budget, one run)", "824 MB", "35.61", "[1] " * 20],
    ]
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(report.text_table("McMaster", header, rows))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80 and not any("…" in line or "*" in line for line in lines)
    assert any(line.split()[:3] == ["denoise_color_medium", "3.90", "M"] for line in lines)
    assert sum(line.count("[1]") for line in lines) == 20  # not parsed as markup


def test_markdown_is_the_same_cells() -> None:
    lines = report.markdown(["a", "b"], [["**x**", "1"]]).splitlines()
    assert lines == ["| a | b |", "| --- | --- |", "| **x** | 1 |"]


@pytest.mark.parametrize("text", ["128,", "0", "-8", "a", ""])
def test_numbers_of_options_are_positive(text: str) -> None:
    assert report.numbers("--sides", "128,256") == [128, 256]
    with pytest.raises(VHeatIRError, match="--sides .*: give positive numbers, such as 256,1024"):
        report.numbers("--sides", text)


def test_a_missing_package_names_the_extra_that_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise PackageNotFoundError("onnxruntime")

    assert report.exit_status(work, extra="integrations") == 2
    assert "pip install 'vheatir[integrations]'" in capsys.readouterr().err
