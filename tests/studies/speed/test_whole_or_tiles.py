"""Whole-image against tiled inference, on one small image."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from studies.speed import whole_or_tiles

from vheatir.image_io import write_image


def test_measures_quality_and_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ramp = np.linspace(0, 255, 80).astype(np.uint8)[None].repeat(96, 0)
    write_image(tmp_path / "images" / "ramp.png", ramp)
    arguments = ["--models", "denoise_gray_small", "--tiles", "64,128", "--sides", "72"]
    arguments += ["--images", str(tmp_path / "images"), "--repetitions", "1", "--threads", "1"]
    out = tmp_path / "out"
    assert whole_or_tiles.main([*arguments, "--device", "cpu", "--out", str(out)]) == 0
    content = json.loads((out / "whole_or_tiles.json").read_text())
    psnr = {q["tile"]: q["psnr"] for q in content["psnr"]}
    assert set(psnr) == {None, 64, 128}
    assert psnr[128] == psnr[None] > 25  # a tile larger than the image covers it
    assert psnr[64] == pytest.approx(psnr[None], abs=0.5)
    # tiles larger than the image are not timed
    assert [(r["tile"], r["status"]) for r in content["speed"]] == [(None, "ok"), (64, "ok")]
    text = (out / "whole_or_tiles.md").read_text()
    assert "tiles of 64" in text and f"{psnr[None]:.2f}" in text


def test_impossible_sides_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert whole_or_tiles.main(["--tiles", "128,x"]) == 2
    assert "give positive numbers" in capsys.readouterr().err
