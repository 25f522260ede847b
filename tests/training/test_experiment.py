"""Output files of a training run."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.training import helpers

if importlib.util.find_spec("basicsr") is None:
    pytest.skip("training needs basicsr", allow_module_level=True)

from vheatir.image_io import read_image
from vheatir.metrics import psnr
from vheatir.weights import load_weights

NAMED = "logger:wandb={project: heat, resume_id: abc}"


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder))
    board.Reload()
    return {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_a_run_leaves_weights_curves_events_and_images(tiny: Any) -> None:
    force = ("logger:use_tb_logger=true", "val:save_img=true", "val:suffix=_restored",
             "val:metrics=[psnr, ssim, psnrb]", "val:pbar=true", "logger:keep_last=2")  # fmt: skip
    assert tiny.run(*force) == 0
    home = tiny.experiment()
    history = json.loads((home / "results" / "history.json").read_text())
    assert [row[0] for row in history["losses"]] == [1, 2, 3, 4, 5, 6]
    assert [row[0] for row in history["scores"]] == [4, 6]
    (_, first, _), (_, second, pixels) = history["work"]
    assert [row[0] for row in history["work"]] == [4, 6]
    assert 0 < first < second and pixels == tiny.state(6)["pixels_seen"]

    board = events(home / "tb_logger")
    assert [step for step, _ in board["loss"]] == [1, 2, 3, 4, 5, 6]
    for (_, seen), row in zip(board["lr"], history["losses"], strict=True):
        assert seen == pytest.approx(row[3], rel=1e-5)
    assert {"val 25/psnr", "val 25/ssim", "val 25/psnrb"} <= board.keys()

    restored = home / "visualization" / "6" / "val" / "a_25_restored.png"
    clean = read_image(tiny.folder / "clean" / "a.png")
    assert psnr(read_image(restored), clean) == pytest.approx(
        history["scores"][-1][2]["val 25"]["psnr"]
    )
    model = load_weights(home / "models" / "tiny.safetensors")
    assert model.info["training"]["iterations"] == 6 and model.info["level"] == [0, 55]
    average = tiny.state(6)["model"]["ema"]
    assert all(
        np.array_equal(value.numpy(), average[name].numpy())
        for name, value in model.network.state_dict().items()
    )
    assert sorted(p.name for p in (home / "training_states").iterdir()) == ["4.state", "6.state"]
    for name in ("curves.png", "table.md", "before_after_val.png"):
        assert (home / "results" / name).stat().st_size > 100
    # the option file as resolved trains again
    tiny.file.write_text((home / "tiny.yml").read_text())
    assert tiny.run() == 0
    assert len([p for p in (tiny.folder / "runs").iterdir() if "_archived_" in p.name]) == 1


def test_infinite_psnr_is_null_in_json_and_a_dash_in_the_table(tmp_path: Path) -> None:
    from vheatir.training.experiment import Experiment
    from vheatir.training.options import load_options
    from vheatir.training.report import draw_curves, scores_table

    file = helpers.make_tiny(tmp_path).file
    options = load_options(file, [f"path:experiments_root={tmp_path}"])
    experiment = Experiment(options)
    experiment.results.mkdir(parents=True)
    inf, before = float("inf"), {"psnr": 30.0, "ssim": 0.9, "input_psnr": 20.0}
    equal = {"psnr": inf, "ssim": 1.0, "input_psnr": inf}
    scores = [[2, 0.1, {"val": before}], [4, 0.2, {"val": equal}]]
    experiment.write_history([[2, 0.1, 0.5, 1e-3]], scores, [[2, 1.0, 9]])
    text = (experiment.results / "history.json").read_text()
    history = json.loads(text, parse_constant=pytest.fail)
    assert history["scores"][1] == [4, 0.2, {"val": {**equal, "psnr": None, "input_psnr": None}}]
    assert history["scores"][0] == scores[0] and history["work"] == [[2, 1.0, 9]]
    draw_curves(tmp_path / "curves.png", "tiny", history["losses"], history["scores"])
    for row, expected in ((1, "| val | - | - | - | 1.0000 |"),
                          (0, "| val | 20.00 | 30.00 | +10.00 | 0.9000 |")):  # fmt: skip
        trainer: Any = SimpleNamespace(options=options, scores=[scores[row]])
        assert scores_table(trainer).splitlines()[-1] == expected


def test_stages_switch_crop_and_batch(tiny: Any) -> None:
    from vheatir.hardware import pick_device
    from vheatir.training.distributed import Processes
    from vheatir.training.feed import TrainingFeed
    from vheatir.training.options import load_options

    stages = "[{until: 0.5, gt_size: 16, batch_size: 4}, {until: 0.7, gt_size: 24, batch_size: 3}]"
    options = load_options(tiny.file, [f"train:stages={stages}"])
    feed = TrainingFeed(options, pick_device("cpu"), Processes())
    shapes = [tuple(next(feed.batches(stage, 0))["gt"].shape) for stage in options.stages]
    assert shapes == [(4, 3, 16, 16), (3, 3, 24, 24), (2, 3, 32, 32)]
    assert tiny.run(f"train:stages={stages}", "train:total_iter=10") == 0
    assert tiny.state(10)["samples_seen"] == 5 * 4 + 2 * 3 + 3 * 2
    pixels = 5 * 4 * 16**2 + 2 * 3 * 24**2 + 3 * 2 * 32**2
    assert tiny.state(10)["pixels_seen"] == pixels
    model = load_weights(tiny.experiment() / "models" / "tiny.safetensors")
    assert model.info["training"]["pixels"] == pixels


def test_checkpointing_changes_no_weight(tiny: Any) -> None:
    options = ("train:total_iter=3", "datasets:val=null")
    assert tiny.run(*options, root="plain") == 0
    assert tiny.run(*options, "train:checkpointing=true", root="checkpointed") == 0
    plain, checkpointed = (tiny.state(3, root)["model"] for root in ("plain", "checkpointed"))
    assert helpers.difference(plain, checkpointed) is None


def test_max_minutes_ends_the_run(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vheatir.training import loop

    ticks = itertools.count()  # an eighth of a second for each look at the clock
    clock = SimpleNamespace(monotonic=lambda: next(ticks) / 8, process_time=time.process_time)
    monkeypatch.setattr(loop, "time", clock)
    force = ("train:total_iter=1000000", "train:max_minutes=0.02", "datasets:val=null")
    assert tiny.run(*force, "logger:save_checkpoint_freq=1000000") == 0
    history = json.loads((tiny.experiment() / "results" / "history.json").read_text())
    iteration, minutes, _, rate = history["losses"][-1]
    assert 1 < iteration < 1000000
    assert 0.02 <= minutes
    assert rate < 0.1 * 1e-3  # the cosine ended with the time


def test_wandb_mirrors_tensorboard(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "wandb.py").write_text(
        "calls = []\n"
        "class Run:\n    def finish(self): calls.append('finished')\n"
        "def init(**settings):\n    calls.append(settings)\n    return Run()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "stub"))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    assert tiny.run("logger:use_tb_logger=true", NAMED, "train:total_iter=1") == 0
    settings, finished = sys.modules.pop("wandb").calls
    assert (settings["project"], settings["id"], settings["name"]) == ("heat", "abc", "tiny")
    assert settings["sync_tensorboard"] is True and finished == "finished"


def test_log_lines_in_a_pipe_are_one_line_each(tiny: Any) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    root = "a_long_name_for_the_folder_of_all_experiments_" * 3
    done = subprocess.run(
        tiny.command("train:total_iter=2", root=root),
        capture_output=True, text=True, check=True, env={**environment, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    start = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|WARNING) \S")
    assert lines and all(start.match(line) for line in lines)
    weights = tiny.folder / root / "tiny" / "models" / "tiny.safetensors"
    assert any(line.endswith(f"weights: {weights}") for line in lines)


def test_validation_on_training_images_is_said(tiny: Any) -> None:
    assert tiny.run("train:total_iter=1") == 0
    text = next(tiny.experiment().glob("*.log")).read_text()
    assert "datasets:val: 1 of 1 validation images are training images" in text
