"""The study of noise under JPEG, on a few small samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from studies.automatic import noise_under_jpeg as study
from vheatir.data.sources import ImageSource
from vheatir.metrics import psnr


def test_samples_are_degraded_crops() -> None:
    source = ImageSource(["bundled"], "rgb", heldout=True)
    for index in range(12):
        degraded, clean, drawn = study.draw_sample(source, 96, np.random.default_rng(index))
        assert degraded.shape == clean.shape and degraded.dtype == clean.dtype == np.uint8
        assert 15 <= drawn["quality"] < 93
        assert 15 < psnr(degraded, clean) < 60


def test_regret_is_the_loss_against_the_better_model() -> None:
    middle = [30.0] * 4 + [32.0] + [31.0] * 4
    samples = [
        {"weight": 0.5, "photo": 31.0, "jpeg": 30.0, "mixed": middle, "strength": 2.0},
        {"weight": 0.01, "photo": 30.0, "jpeg": 32.0, "mixed": [31.5] * 9, "strength": 0.0},
    ]
    regrets = {row[0]: row[1:] for row in study.rows(samples)}
    assert regrets["0 (the JPEG model)"] == ["0.50", "0.00", "0.00", "1.00"]
    assert regrets["1"] == ["1.00", "0.00", "2.00", "0.00"]
    assert regrets["0.5"] == ["-0.25", "1.00", "0.50", "-1.00"]  # a mixture may be the best
    assert regrets["energies"] == ["-0.47", "1.00", "0.05", "-1.00"]
    assert regrets["energies, 0 or 1 within 0.15"] == ["-0.50", "0.50", "0.00", "-1.00"]
    assert regrets["energies: 0 or 1"] == ["0.50", "0.00", "0.00", "1.00"]  # round half to even


def test_continues_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for count in ("1", "2"):
        arguments = ["--samples", count, "--side", "64", "--out", str(tmp_path)]
        assert study.main(arguments) == 0
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 2
    assert "2 samples" in capsys.readouterr().out


def test_a_half_written_sample_is_drawn_again_and_other_samples_are_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, arguments = tmp_path / "samples.jsonl", ["--side", "64", "--out", str(tmp_path)]
    assert study.main([*arguments, "--samples", "1"]) == 0
    first = file.read_text()
    file.write_text(first + '{"scale": 1')
    assert study.main([*arguments, "--samples", "2"]) == 0
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 2 and lines[0] == first
    assert study.main(["--side", "80", "--out", str(tmp_path)]) == 2
    assert "give another --out" in capsys.readouterr().err
    assert file.read_text().splitlines(keepends=True) == lines
