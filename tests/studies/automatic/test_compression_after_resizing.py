"""The study of compression that shows no blocks, on a bundled photograph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from studies.automatic import compression_after_resizing as study
from studies.automatic.table import Case
from vheatir.bundled import heldout_photographs
from vheatir.inference import Restorer
from vheatir.inference.mixed import COMPRESSED


def test_a_resized_jpeg_has_evidence_and_a_gain_and_a_clean_image_none() -> None:
    coffee, jpeg = heldout_photographs()["coffee"], Restorer("jpeg_color", "cpu")
    rng = np.random.default_rng(0)
    degrade = study.CONDITIONS
    clean = study.measure(degrade["resized by 1.5"](coffee, rng), jpeg, 128)
    compressed = study.measure(degrade["JPEG 40, resized by 1.5"](coffee, rng), jpeg, 128)
    assert clean is not None and compressed is not None
    assert clean[0] < COMPRESSED / 2 and compressed[0] > 2 * COMPRESSED
    assert clean[1] is None
    assert compressed[1] is not None and compressed[1] > 1
    noisy = np.clip(coffee + rng.normal(0, 25, coffee.shape), 0, 255).astype(np.uint8)
    assert study.measure(Case(noisy, coffee), jpeg, 128) is None


def test_the_rows_count_what_is_found() -> None:
    assert study.row("x", []) == ["x", "0", "-", "-", "-", "-", "-"]
    measured = [(0.0, None), (COMPRESSED, 1.0), (2 * COMPRESSED, 2.0)]
    assert study.row("x", measured) == ["x", "3", "0.08", "0.40", "0.72", "67 %", "+1.50"]
    assert study.row("x", measured[:1])[-1] == "-"


def test_the_command_writes_table_and_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--conditions", "none", "--side", "64", "--out", str(tmp_path)]
    assert study.main(arguments) == 0
    assert "photographs" in capsys.readouterr().out
    values = json.loads((tmp_path / "compression_after_resizing.json").read_text())
    assert set(values) == {"none"}
    assert (tmp_path / "compression_after_resizing.md").read_text().count("\n") == 3
