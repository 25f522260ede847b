"""The trainings of the mixer study: each a run of ``vheatir/train.py`` on one core."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.candidates import Candidate
from vheatir.image_io import write_bytes_atomically
from vheatir.tasks import Task

#: Sigma or JPEG quality, or the lowest and the highest of a range.
Level = float | tuple[float, float]

ROOT = Path(__file__).resolve().parents[1]
VALIDATIONS = 6


@dataclass(frozen=True)
class Study:
    """What all trainings have in common.

    Attributes:
        task: of every network.
        levels: each is trained for by itself; a range draws one for each crop.
        seeds: of the weights and of the data.
        roots: folders of photographs; every 20th photograph is the validation split.
        test_set: measured as well, or None.
        crop: side of the crops in pixels.
        batch: crops an iteration.
        rate: peak learning rate.
        out: folder of the study.
    """

    task: Task
    levels: list[Level]
    seeds: list[int]
    roots: list[str]
    test_set: Path | None
    crop: int
    batch: int
    rate: float
    out: Path

    def options(self, candidate: Candidate, level: Level, seed: int, count: int) -> dict[str, Any]:
        """Return the option file of a training of ``count`` iterations."""
        bundled = self.roots == ["bundled"]
        split: dict[str, Any] = {} if bundled else {"holdout_every": 20, "limit": 16}
        datasets: dict[str, Any] = {
            "train": {
                "name": "photographs",
                "dataroot_gt": self.roots,
                "cache": True,
                "gt_size": self.crop,
                "batch_size_per_gpu": self.batch,
                "num_worker_per_gpu": 0,  # crops from memory: one core does it all
                "dataset_enlarge_ratio": 100,
                **({} if bundled else {"exclude_every": 20}),
            },
            "val": {"name": "validation", "dataroot_gt": self.roots, **split},
        }
        if self.test_set is not None:
            datasets["val_test"] = {"name": "test", "dataroot_gt": [str(self.test_set)]}
        return {
            "name": self.name(candidate, level, seed, count),
            "task": self.task.name,
            "level": list(level) if isinstance(level, tuple) else level,
            "manual_seed": seed,
            "device": "cpu",
            "network_g": candidate.config(self.task),
            "datasets": datasets,
            "path": {"experiments_root": str(self.out / "runs")},
            "train": {
                "ema_decay": 0.999,
                "optim_g": {"type": "AdamW", "lr": self.rate, "weight_decay": 1e-4},
                "scheduler": {"type": "Cosine", "lr_min": 0},
                "warmup_iter": min(200, max(1, count // 10)),
                "total_iter": count,
                "pixel_opt": {"type": "L1Loss"},
                "grad_clip": 1.0,
                "precision": "auto",
                "channels_last": True,
            },
            "val": {"val_freq": max(1, -(-count // VALIDATIONS)), "metrics": ["psnr"]},
            "logger": {
                "print_freq": max(1, count // 100),
                "save_checkpoint_freq": max(1, count // 10),
                "keep_last": 1,
                "use_tb_logger": False,
            },
        }

    def name(self, candidate: Candidate, level: Level, seed: int, count: int) -> str:
        """Return the name of a training: what it depends on, and no more."""
        parts = [self.task.name, candidate.key, f"l{level_text(level)}", f"s{seed}", f"i{count}"]
        return "_".join([*parts, f"b{self.batch}x{self.crop}"])


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        candidate: what is trained.
        level: sigma or JPEG quality, or a range.
        seed: of weights and data.
        iterations: how many.
        kind: ``"time"`` or ``"iterations"``, which of them is equal.
    """

    candidate: Candidate
    level: Level
    seed: int
    iterations: int
    kind: str

    def folder(self, study: Study) -> Path:
        """Return the experiment's folder."""
        name = study.name(self.candidate, self.level, self.seed, self.iterations)
        return study.out / "runs" / name

    def weights(self, study: Study) -> Path:
        """Return the trained weights; they are written last."""
        folder = self.folder(study)
        return folder / "models" / f"{folder.name}.safetensors"

    def finished(self, study: Study) -> bool:
        """Tell whether the training has come to its end."""
        return self.weights(study).is_file() and self.history_file(study).is_file()

    def history_file(self, study: Study) -> Path:
        """Return the file of losses and scores."""
        return self.folder(study) / "results" / "history.json"

    def history(self, study: Study) -> dict[str, Any]:
        """Read it; ``{}`` when the training has not finished."""
        if not self.finished(study):
            return {}
        content: dict[str, Any] = json.loads(self.history_file(study).read_text())
        return content


def level_text(level: Level) -> str:
    """Return ``"50"``, or ``"0-55"`` for a range."""
    return "-".join(f"{end:g}" for end in (level if isinstance(level, tuple) else (level,)))


def train_all(study: Study, plan: list[Training], jobs: int, console: Console) -> list[str]:
    """Run what is not finished yet; returns a line for each that failed."""
    distinct = {training.folder(study): training for training in plan}
    waiting = [training for training in distinct.values() if not training.finished(study)]
    console.print(f"{len(distinct) - len(waiting)} of {len(distinct)} trainings are there already")
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    failed: list[str] = []
    running: set[subprocess.Popen[str]] = set()
    ending = threading.Event()
    total = sum(training.iterations for training in waiting)
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(jobs) as pool:
        line = progress.add_task("iterations", total=total)
        futures = {pool.submit(_train, study, t, running, ending): t for t in waiting}
        try:
            for future in as_completed(futures):
                training, error = futures[future], future.result()
                progress.advance(line, training.iterations)
                if error is not None:
                    failed.append(f"{training.folder(study).name}: {error}")
                else:
                    progress.print(_summary(study, training))
        except BaseException:
            ending.set()
            for process in list(running):
                process.send_signal(signal.SIGTERM)  # they save and end
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def _train(
    study: Study, training: Training, running: set[subprocess.Popen[str]], ending: threading.Event
) -> str | None:
    """Run one training to its end; returns what went wrong."""
    if ending.is_set():
        return "not begun"
    name = training.folder(study).name
    file = study.out / "options" / f"{name}.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    options = study.options(training.candidate, training.level, training.seed, training.iterations)
    write_bytes_atomically(file, yaml.safe_dump(options, sort_keys=False).encode())
    command = [sys.executable, str(ROOT / "vheatir" / "train.py"), "-opt", str(file)]
    process = subprocess.Popen(
        [*command, "--auto_resume"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches it through us
    )
    running.add(process)
    try:
        _, errors = process.communicate()
    finally:
        running.discard(process)
    if process.returncode:
        last = (errors or "").strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        return last[0]
    return None


def _summary(study: Study, training: Training) -> str:
    history = training.history(study)
    scores = history["scores"][-1][2]
    values = "  ".join(f"{key} {score['psnr']:.3f}" for key, score in scores.items())
    minutes = history["losses"][-1][1]
    return (
        f"{training.candidate.name} level {level_text(training.level)} seed {training.seed}, "
        f"{training.iterations} iterations in {minutes:.1f} min: {values}"
    )
