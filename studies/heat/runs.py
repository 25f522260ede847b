"""Trainings of the mixer study, each a run of ``vheatir/train.py`` on one core."""

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

from benchmarks.trainings import training_options
from studies.heat.candidates import Candidate
from vheatir.image_io import write_bytes_atomically
from vheatir.tasks import Task
from vheatir.training.options import merge

#: Sigma or JPEG quality, or the limits of a range.
Level = float | tuple[float, float]

ROOT = Path(__file__).resolve().parents[2]
VALIDATIONS = 6


@dataclass(frozen=True)
class Study:
    """Settings common to all trainings.

    Attributes:
        task: task of every network.
        levels: levels, each trained separately; a range draws one level per crop.
        seeds: seeds of weights and data.
        roots: folders of photographs; those listed in options/lists/heldout.txt are the
            validation split.
        test_set: folder that is also measured, or None.
        crop: side of the crops in pixels.
        batch: crops per iteration.
        rate: peak learning rate.
        out: output folder of the study.
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
        options = training_options(
            name=self.name(candidate, level, seed, count),
            task=self.task,
            level=level,
            seed=seed,
            device="cpu",
            network=candidate.config(self.task),
            roots=self.roots,
            validation_limit=16,
            test_set=self.test_set,
            crop=self.crop,
            batch=self.batch,
            workers=0,  # crops come from memory; one core does all the work
            rate=self.rate,
            iterations=count,
            validations=VALIDATIONS,
            reports=100,
            metrics=["psnr"],
            experiments=self.out / "runs",
            grad_clip=1.0,
            channels_last=True,
        )
        merge(options, dict(candidate.options))
        return options

    def name(self, candidate: Candidate, level: Level, seed: int, count: int) -> str:
        """Return the name of a training, built from everything it depends on."""
        parts = [self.task.name, candidate.key, f"l{level_text(level)}", f"s{seed}", f"i{count}"]
        return "_".join([*parts, f"b{self.batch}x{self.crop}"])


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        candidate: the network.
        level: sigma or JPEG quality, or a range.
        seed: seed of weights and data.
        iterations: number of iterations.
        kind: ``"time"`` or ``"iterations"``, whichever is equal for all candidates.
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
        """Return the file of the trained weights, which is written last."""
        folder = self.folder(study)
        return folder / "models" / f"{folder.name}.safetensors"

    def finished(self, study: Study) -> bool:
        """Whether the training has finished."""
        return self.weights(study).is_file() and self.history_file(study).is_file()

    def history_file(self, study: Study) -> Path:
        """Return the file of losses and scores."""
        return self.folder(study) / "results" / "history.json"

    def history(self, study: Study) -> dict[str, Any]:
        """Return losses and scores, ``{}`` if the training has not finished."""
        if not self.finished(study):
            return {}
        content: dict[str, Any] = json.loads(self.history_file(study).read_text())
        return content


def level_text(level: Level) -> str:
    """Return ``"50"``, or ``"0-55"`` for a range."""
    return "-".join(f"{end:g}" for end in (level if isinstance(level, tuple) else (level,)))


def train_all(study: Study, plan: list[Training], jobs: int, console: Console) -> list[str]:
    """Run the unfinished trainings; returns a line for each failure."""
    distinct = {training.folder(study): training for training in plan}
    waiting = [training for training in distinct.values() if not training.finished(study)]
    console.print(f"{len(distinct) - len(waiting)} of {len(distinct)} trainings already finished")
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
                process.send_signal(signal.SIGTERM)  # they save their state and exit
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def _train(
    study: Study, training: Training, running: set[subprocess.Popen[str]], ending: threading.Event
) -> str | None:
    """Run one training; returns its error message, or None."""
    if ending.is_set():
        return "not started"
    name = training.folder(study).name
    file = study.out / "options" / f"{name}.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    options = study.options(training.candidate, training.level, training.seed, training.iterations)
    write_bytes_atomically(file, yaml.safe_dump(options, sort_keys=False).encode())
    # vheatir/train.py, with the mixers of the study
    command = [sys.executable, "-m", "studies.heat.mixers", "-opt", str(file)]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [*command, "--auto_resume"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # the parent forwards Ctrl-C
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
