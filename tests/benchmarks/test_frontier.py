"""The frontier: PSNR comes from model cards and papers; every failure is a row."""

from __future__ import annotations

import csv
import dataclasses
import json
import warnings
from pathlib import Path

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from benchmarks import frontier, others
    from benchmarks.measure import OVER_BUDGET, Result

from vheatir.errors import VHeatIRError
from vheatir.evaluation.published import published_records
from vheatir.zoo import list_models

TINY = ["--side", "16", "--repetitions", "1", "--device", "cpu", "--threads", "1"]


@pytest.mark.parametrize("entry", list_models(), ids=lambda entry: entry.name)
def test_every_card_has_the_psnr(entry: frontier.ModelEntry) -> None:
    if entry.task in frontier.COLUMNS and entry.level in (None, frontier.COLUMNS[entry.task][1]):
        psnr = frontier.psnr_of_card(entry, *frontier.COLUMNS[entry.task])
        assert f"| {psnr:.2f} |" in entry.card.read_text()
        assert 25 < psnr < 40
    with pytest.raises(VHeatIRError, match="has no PSNR on Set13"):
        frontier.psnr_of_card(entry, "Set13", 15)


def test_writes_table_records_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--tasks", "jpeg_gray", "--methods", "jpeg_gray_small", "--out", str(tmp_path)]
    assert frontier.main([*arguments, *TINY]) == 0
    (record,) = json.loads((tmp_path / "frontier.json").read_text())["records"]
    (entry,) = [e for e in list_models() if e.name == "jpeg_gray_small"]
    assert record["ours"] and record["params"] == entry.params
    assert record["psnr"] == frontier.psnr_of_card(entry, "LIVE1", 10)
    assert record["seconds_per_megapixel"] > 0 and record["status"] == "ok"
    (row,) = csv.DictReader((tmp_path / "frontier.csv").read_text().splitlines())
    assert row["method"] == "jpeg_gray_small" and float(row["psnr"]) == record["psnr"]
    assert "| **jpeg_gray_small** |" in (tmp_path / "frontier.md").read_text()
    assert (tmp_path / "frontier.png").stat().st_size > 1000
    assert "LIVE1, quality 10" in capsys.readouterr().out


@pytest.mark.parametrize("task", frontier.COLUMNS)
def test_others_are_quoted_with_their_source(task: str) -> None:
    options = frontier.parse(TINY)
    dataset, level = frontier.COLUMNS[task]
    quoted = {r.method: r.psnr for r in published_records(task, dataset, [level])}
    points = [point for point, _ in frontier.points_of(task, options) if not point.ours]
    assert {"SwinIR", "DRUNet"} <= {point.method for point in points}
    for point in points:
        assert point.psnr == quoted.get(point.method)
        assert bool(point.source) == (point.psnr is not None)


def test_a_missing_package_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = dataclasses.replace(others.ARCHITECTURES["DRUNet"], module="no.such.package")
    monkeypatch.setitem(others.ARCHITECTURES, "DRUNet", missing)
    options = frontier.parse(["--methods", "DRUNet", *TINY])
    (point,) = frontier.measure("jpeg_gray", options)
    assert point.status == "not installed"
    assert frontier.rows([point])[0][2] == "not installed"


def test_over_the_budget_one_run_may_still_be_reported() -> None:
    options = frontier.parse(["--methods", "SwinIR", *TINY])
    ((point, _),) = frontier.points_of("jpeg_gray", options)
    result = Result("cpu", "float32", "infer", "-", 1000, 500, "x", status=OVER_BUDGET)
    frontier.fill(point, result)
    assert frontier.rows([point])[0][2] == "over budget"
    result.probe_seconds = 2.0
    frontier.fill(point, result)
    assert frontier.rows([point])[0][2] == "4 (over budget, one run)"


def test_an_unknown_task_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert frontier.main(["--tasks", "denoise"]) == 2
    assert "denoise_gray" in capsys.readouterr().err


# Millions of weights as published; DRUNet and Restormer from their papers and files.
PARAMETERS = {"SwinIR": 11.5, "SCUNet": 17.9, "DRUNet": 32.6, "DnCNN": 0.56, "Restormer": 26.1}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARAMETERS)
def test_architectures_are_those_that_were_published(name: str) -> None:
    pytest.importorskip("spandrel", reason="needs the bench extra")
    pytest.importorskip("spandrel_extra_arches", reason="needs the bench extra")
    network = others.build_other(name, "denoise_gray").eval()
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(PARAMETERS[name], rel=0.01)
    if name != "SwinIR":  # SwinIR takes seconds
        with torch.inference_mode():
            assert network(torch.rand(1, 1, 24, 40)).shape == (1, 1, 24, 40)


def test_bm3d_takes_and_returns_images() -> None:
    pytest.importorskip("bm3d")
    for task, channels in (("denoise_gray", 1), ("denoise_color", 3)):
        x = torch.rand(1, channels, 24, 32)
        out = others.build_other("BM3D", task)(x)
        assert out.shape == x.shape and out.std() < x.std()
