"""A tiny experiment, functions to train it in this process or another, and to compare states."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from vheatir.image_io import write_image

SCRIPT = Path(__file__).resolve().parents[2] / "vheatir" / "train.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
NO_BASICSR = importlib.util.find_spec("basicsr") is None

OPTIONS: dict[str, Any] = {
    "name": "tiny",
    "task": "denoise_color",
    "level": [0, 55],
    "manual_seed": 3,
    "device": "cpu",
    "network_g": {"type": "VHeatIR", "embed_dim": 8, "depths": [1], "downscale": 2},
    "datasets": {
        "train": {
            "dataroot_gt": "clean",
            "gt_size": 32,
            "batch_size_per_gpu": 2,
            "num_worker_per_gpu": 0,
            "cache": True,
        },
        "val": {"dataroot_gt": "clean", "level": 25, "limit": 1},
    },
    "train": {
        "ema_decay": 0.9,
        "optim_g": {"type": "AdamW", "lr": 1e-3, "weight_decay": 1e-4},
        "total_iter": 6,
        "warmup_iter": 2,
        "grad_clip": 1.0,
    },
    "val": {"val_freq": 4},
    "logger": {
        "print_freq": 1, "save_checkpoint_freq": 2, "keep_last": None, "use_tb_logger": False,
    },
}  # fmt: skip


@dataclass
class Tiny:
    """An option file and its images, in a temporary folder."""

    folder: Path
    file: Path

    def arguments(self, *force: str, root: str = "runs", resume: bool = False) -> list[str]:
        """Return the command's arguments."""
        forced = [f"path:experiments_root={self.folder / root}", *force]
        again = ["--auto_resume"] if resume else []
        return ["-opt", str(self.file), *again, "--force_yml", *forced]

    def command(self, *force: str, root: str = "runs", resume: bool = False) -> list[str]:
        """Return the command."""
        arguments = self.arguments(*force, root=root, resume=resume)
        return [sys.executable, str(SCRIPT), *arguments]

    def run(self, *force: str, root: str = "runs", resume: bool = False) -> int:
        """Train in this process."""
        from vheatir.train import main

        return main(self.arguments(*force, root=root, resume=resume))

    def experiment(self, root: str = "runs") -> Path:
        """Return the experiment's folder."""
        return self.folder / root / "tiny"

    def state(self, number: int, root: str = "runs") -> dict[str, Any]:
        """Load a training state."""
        from vheatir.training.checkpoint import load_checkpoint

        return load_checkpoint(self.experiment(root) / "training_states" / f"{number}.state")


def make_tiny(folder: Path) -> Tiny:
    """Write option file and images to a folder."""
    if NO_BASICSR:
        pytest.skip("training needs basicsr")
    rng = np.random.default_rng(0)
    for name in "abcde":
        coarse = rng.integers(256, size=(9, 11, 3)).astype(np.uint8)
        smooth = coarse.repeat(5, axis=0).repeat(5, axis=1)
        write_image(folder / "clean" / f"{name}.png", smooth)
    options = {**OPTIONS, "datasets": {k: dict(v) for k, v in OPTIONS["datasets"].items()}}
    for data in options["datasets"].values():
        data["dataroot_gt"] = str(folder / "clean")
    file = folder / "tiny.yml"
    file.write_text(yaml.safe_dump(options))
    return Tiny(folder, file)


def finish(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command and wait for it to finish."""
    return subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )


def stop_at(
    command: list[str], cwd: Path, marker: str, number: int, whole_group: bool = False
) -> tuple[int, str]:
    """Run a command; signal it once a line contains ``marker``; return status and output."""
    process = subprocess.Popen(
        command, cwd=cwd, env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines, sent = [], False
    for line in process.stdout:
        lines.append(line)
        if marker in line and not sent:
            sent = True
            (os.killpg if whole_group else os.kill)(process.pid, number)
            if number == signal.SIGKILL:
                break
    status = process.wait(timeout=60)
    process.stdout.close()
    assert sent, "".join(lines)
    return status, "".join(lines)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def difference(one: Any, other: Any, place: str = "") -> str | None:
    """Return the place of the first difference between two states, ignoring times and paths."""
    if isinstance(one, torch.Tensor):
        return None if torch.equal(one, other) else place
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f"{place}: keys"
        left_out = {"minutes", "processor_seconds", "experiments_root"}
        pairs = [(key, one[key], other[key]) for key in one if key not in left_out]
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{place}: length"
        # times are the second item in rows of losses, scores and work
        skip = 1 if place in ("/losses", "/scores", "/work") else None
        if skip is not None:
            return next(
                (f"{place}/{i}" for i, (a, b) in enumerate(zip(one, other, strict=True))
                 if [*a[:1], *a[2:]] != [*b[:1], *b[2:]]), None,
            )  # fmt: skip
        pairs = [(i, a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return None if one == other else place
    return next((d for key, a, b in pairs if (d := difference(a, b, f"{place}/{key}"))), None)
