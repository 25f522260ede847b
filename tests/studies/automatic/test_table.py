"""The benchmark of Automatic: degradations, table and files, on bundled photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from studies.automatic import table as automatic
from studies.automatic.graphics import clean_graphics
from vheatir.bundled import heldout_photographs
from vheatir.image_io import write_image


@pytest.mark.parametrize("row", automatic.ROWS)
def test_degradations_are_deterministic_and_match_the_clean_image(row: str) -> None:
    photos = [np.ascontiguousarray(heldout_photographs()["chelsea"][:96, :96])]
    first, second = (next(automatic.cases(row, photos)) for _ in range(2))
    assert np.array_equal(first.damaged, second.damaged)
    assert first.damaged.shape == first.clean.shape
    assert first.damaged.dtype == np.uint8
    assert np.array_equal(first.damaged, first.clean) == ("clean" in row)
    is_stored_as_jpeg = "JPEG" in row and not row.endswith(("then reduced", "then enlarged"))
    assert (first.quality is not None) == is_stored_as_jpeg
    assert first.codec == (row.split()[0] if row.startswith(("WebP", "AVIF")) else None)


def test_graphics_are_eight_of_each_kind_and_deterministic() -> None:
    first, second = clean_graphics(), clean_graphics()
    for kind in ("screenshot", "drawing", "text"):
        assert sum(name.startswith(kind) for name in first) == 8
    for name, image in first.items():
        assert image.shape[1:] == (256, 3) and len(image) <= 256 and image.std() > 5
        assert np.array_equal(image, second[name])


def test_the_table_says_what_automatic_loses(tmp_path: Path) -> None:
    noisy, clean = np.full((64, 64, 3), 99, np.uint8), np.full((64, 64, 3), 100, np.uint8)
    for kind, image in (("noisy", noisy), ("clean", clean)):
        write_image(tmp_path / "pairs" / kind / "a.png", image)
    arguments = ["--images", "1", "--size", "96", "--rows", "white noise 25", "JPEG 30"]
    arguments += ["--models", "denoise_color_small", "jpeg_color_small", "--device", "cpu"]
    arguments += ["--pairs", str(tmp_path / "pairs"), "--out", str(tmp_path)]
    assert automatic.main(arguments) == 0
    white, jpeg, real = json.loads((tmp_path / "automatic.json").read_text())
    assert white["best_model"].startswith("denoise_color_small")
    assert jpeg["best_model"] == "jpeg_color_small"
    assert white["choices"][0]["model"] == "denoise_color"
    for row in (white, jpeg):
        assert row["best"] > row["input"]
        assert row["regret"] == pytest.approx(row["best"] - row["automatic"])
        assert row["card_shift"] < 1.5
    assert real["row"] == "pairs (real)" and real["input"] == pytest.approx(48.13, abs=0.01)
    assert len((tmp_path / "automatic.md").read_text().splitlines()) == 5
    assert len((tmp_path / "automatic.csv").read_text().splitlines()) == 4


def test_the_page_that_was_a_jpeg_file_is_no_reference_for_compression() -> None:
    count = {row: sum(1 for _ in automatic.cases(row, [])) for row in automatic.GRAPHICS}
    assert count == {"clean graphics": 26, "graphics: JPEG 90": 25, "graphics: JPEG 60": 25}


def test_a_mistyped_row_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert automatic.main(["--rows", "JPEG 11"]) == 2
    assert "unknown row 'JPEG 11'" in capsys.readouterr().err
