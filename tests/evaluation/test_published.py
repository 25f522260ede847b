"""Spot checks of quoted results; all of them are marked as published."""

from __future__ import annotations

import pytest

from vheatir.evaluation.published import (
    COLUMNS,
    PROTOCOLS,
    PUBLISHED,
    protocols,
    published_records,
    sources,
)
from vheatir.tasks import TASKS


def quoted(task: str, dataset: str, levels: tuple[float | None, ...], method: str) -> list[float]:
    records = published_records(task, dataset, levels)
    return [record.psnr for record in records if record.method == method]


def test_figures() -> None:
    assert quoted("denoise_gray", "Set12", (15, 25, 50), "SwinIR") == [33.36, 31.01, 27.91]
    assert quoted("denoise_color", "McMaster", (50,), "CBM3D") == [28.51]
    assert quoted("jpeg_gray", "LIVE1", (10, 20, 30, 40), "DRUNet") == [29.79, 32.17, 33.59, 34.58]
    assert quoted("jpeg_gray", "LIVE1", (10, 40), "vHeatIR, as published") == [34.64]
    swinir = [r for r in published_records("jpeg_gray", "LIVE1", (10,)) if r.method == "SwinIR"]
    assert swinir[0].ssim == 0.8287


def test_figures_on_real_photographs_name_their_protocol() -> None:
    assert quoted("photo", "Nam25", (None,), "CBDNet, trained with JPEG") == [41.31]
    assert quoted("photo", "Nam25", (None,), "BM3D") == [39.84]
    assert quoted("photo", "CC15", (None,), "CBDNet") == [36.47]
    assert quoted("photo", "PolyU", (None,), "CBDNet") == [38.74]
    assert published_records("photo", "Nam25", (15,)) == []
    assert set(PROTOCOLS) == set(TASKS["photo"].benchmark_sets)
    line = protocols(["Set12", "PolyU", "Nam25"])
    assert line.startswith("PolyU: by the protocol of PNGAN") and "Nam25: by" in line
    assert protocols(["Set12"]) == ""


@pytest.mark.parametrize("key", COLUMNS)
def test_every_quoted_record_is_marked_and_fits_its_task(key: tuple[str, str]) -> None:
    task, dataset = key
    assert dataset in TASKS[task].benchmark_sets
    assert COLUMNS[key][0] == (TASKS[task].benchmark_levels or (None,))
    records = published_records(task, dataset, COLUMNS[key][0])
    assert records
    for record in records:
        assert record.published and record.images == COLUMNS[key][1]
        assert 26 < record.psnr < (36 if TASKS[task].has_level else 42)
        assert record.seconds_per_image is None and record.psnrb is None


def test_each_row_has_one_figure_a_level_and_a_source() -> None:
    lengths = {dataset: len(levels) for (_, dataset), (levels, _) in COLUMNS.items()}
    for row in PUBLISHED:
        assert row.source
        for dataset, figures in [*row.psnr.items(), *(row.ssim or {}).items()]:
            assert len(figures) == lengths[dataset], row.method


def test_sets_nobody_published_on_have_no_quotes() -> None:
    assert published_records("denoise_gray", "bundled", (15,)) == []
    assert published_records("jpeg_color", "LIVE1", (10,)) == []
    assert published_records("denoise_gray", "Set12", (37,)) == []
    assert "Dabov" in sources(["BM3D"])
