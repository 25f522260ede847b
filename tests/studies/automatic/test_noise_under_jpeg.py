"""The study of noise under JPEG, on a few small samples."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from studies.automatic import noise_under_jpeg as study
from vheatir.data.sources import ImageSource
from vheatir.inference import choose_model
from vheatir.inference.choose import _NOISY_CHROMA


def test_samples_are_degraded_and_their_score_is_that_of_the_rule() -> None:
    source = ImageSource(["bundled"], "rgb", heldout=True)
    for index in range(12):
        degraded, clean, drawn = study.draw_sample(source, 96, np.random.default_rng(index))
        assert degraded.shape == clean.shape and degraded.dtype == clean.dtype == np.uint8
        choice = choose_model(degraded, min(drawn["quality"], 92))
        if choice.model in ("photo", "jpeg_color"):
            score = study.noise_beside_content(choice.estimate, is_gray=False)
            low, high = _NOISY_CHROMA
            assert (choice.model == "photo") == (score >= math.sqrt(low * high))
            assert (choice.second is not None) == (low < score < high)


def test_regret_is_the_loss_against_the_better_model() -> None:
    scales = (1.0, 1.0, 1.0)
    estimate = {"luma": 1.0, "detail": 1.0, "chroma": 0.45, "correlated": True}
    estimate |= {"luma_scales": scales, "chroma_scales": scales}
    samples = [
        {"estimate": estimate, "photo": 31.0, "jpeg": 30.0, "strength": 2.0},
        {"estimate": estimate | {"chroma": 0.0}, "photo": 30.0, "jpeg": 32.0, "strength": 0.0},
    ]
    regrets = {row[0]: row[1:] for row in study.rows(samples, gray=False)}
    assert regrets["0.4"] == ["0.00", "0.50", "0.00", "0.00"]
    assert regrets["0.5"] == ["0.50", "0.00", "0.00", "1.00"]


def test_mixtures_may_be_better_than_both_models() -> None:
    scales = (1.0, 1.0, 1.0)
    estimate = {"luma": 1.0, "detail": 1.0, "chroma": 0.0, "correlated": True}
    estimate |= {"luma_scales": scales, "chroma_scales": scales}
    middle = (0.2 * 0.8) ** 0.5
    samples = [
        {"estimate": estimate | {"chroma": middle}, "photo": 31.0, "jpeg": 30.0,
         "mixed": [31.5, 32.0, 31.5], "strength": 2.0},
        {"estimate": estimate, "photo": 30.0, "jpeg": 32.0, "mixed": [31, 31, 31], "strength": 0.0},
    ]  # fmt: skip
    regrets = {row[0]: row[1:] for row in study.mixed_rows(samples, gray=False)}
    assert regrets["0.2 to 0.8"] == ["-0.50", "0.50", "0.00", "-1.00"]


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
