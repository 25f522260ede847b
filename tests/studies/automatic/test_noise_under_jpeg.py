"""The study of noise under JPEG, on a few small samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from studies.automatic import noise_under_jpeg as study
from vheatir.data.sources import ImageSource
from vheatir.inference import choose_model
from vheatir.inference.choose import photo_weight


def test_samples_are_degraded_and_their_weight_is_that_of_the_rule() -> None:
    source = ImageSource(["bundled"], "rgb", heldout=True)
    for index in range(12):
        degraded, clean, drawn = study.draw_sample(source, 96, np.random.default_rng(index))
        assert degraded.shape == clean.shape and degraded.dtype == clean.dtype == np.uint8
        choice = choose_model(degraded, min(drawn["quality"], 92))
        weight = photo_weight(choice.estimate)
        if choice.model == "photo":
            assert weight >= 0.5 and choice.share == (1 if weight > 0.85 else weight)
        elif choice.second == "photo":
            assert weight < 0.5 and choice.share == 1 - weight


def test_regret_is_the_loss_against_the_better_model() -> None:
    scales = (1.0, 1.0, 1.0)
    estimate = {"luma": 1.0, "detail": 1.0, "chroma": 0.0, "correlated": True}
    estimate |= {"luma_scales": scales, "chroma_scales": scales}
    middle = [30.0] * 4 + [32.0] + [31.0] * 4
    samples = [
        {"estimate": estimate, "photo": 31.0, "jpeg": 30.0, "mixed": middle, "strength": 2.0},
        {"estimate": estimate | {"luma": 0.1, "detail": 0.1}, "photo": 30.0, "jpeg": 32.0,
         "mixed": [31.5] * 9, "strength": 0.0},
    ]  # fmt: skip
    regrets = {row[0]: row[1:] for row in study.rows(samples)}
    assert regrets["0 (the JPEG model)"] == ["0.50", "0.00", "0.00", "1.00"]
    assert regrets["1"] == ["1.00", "0.00", "2.00", "0.00"]
    assert regrets["0.5"] == ["-0.25", "1.00", "0.50", "-1.00"]  # a mixture may be the best
    # Noise of energy 1 beside 1, and of 0.01: weights 1/2 and 1/101.
    assert regrets["energies"] == ["-0.48", "1.00", "0.05", "-1.00"]
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
