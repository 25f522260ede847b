"""The study of noise under JPEG, on a few small samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from studies.automatic import noise_under_jpeg as study
from vheatir.data.sources import ImageSource
from vheatir.inference import choose_model


def test_samples_are_degraded_and_their_score_is_that_of_the_rule() -> None:
    source = ImageSource(["bundled"], "rgb", heldout=True)
    for index in range(12):
        degraded, clean, drawn = study.draw_sample(source, 96, np.random.default_rng(index))
        assert degraded.shape == clean.shape and degraded.dtype == clean.dtype == np.uint8
        choice = choose_model(degraded, min(drawn["quality"], 92))
        if choice.model in ("photo", "jpeg_color"):
            score = study.noise_beside_content(choice.estimate, is_gray=False)
            assert (choice.model == "photo") == (score >= 0.35)


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


def test_continues_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for count in ("1", "2"):
        arguments = ["--samples", count, "--side", "64", "--out", str(tmp_path)]
        assert study.main(arguments) == 0
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 2
    assert "2 samples" in capsys.readouterr().out
