"""Throughput of the training data loader, in crops per second: ``python studies/speed/loader.py``.

Clean photographs are decoded into memory (``cache: true``). The DataLoader is that of training,
with workers and collation, but no network runs. Without ``--data``, scikit-image's photographs are
used.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from vheatir import _paths  # noqa: E402

_paths.hide_own_folders()

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from vheatir.cli import report_error  # noqa: E402
from vheatir.errors import VHeatIRError  # noqa: E402
from vheatir.training.distributed import Processes  # noqa: E402
from vheatir.training.feed import TrainingFeed  # noqa: E402
from vheatir.training.options import load_options  # noqa: E402

TASKS = ("denoise_color", "denoise_gray", "jpeg_color", "jpeg_gray", "photo")


def crops_per_second(task: str, workers: int, arguments: argparse.Namespace) -> float:
    """Return the best rate of several rounds, after draining the loader's prefetch queue."""
    force = [
        f"datasets:train:dataroot_gt={arguments.data}",
        "datasets:train:exclude=[]",
        "datasets:train:cache=true",
        f"datasets:train:gt_size={arguments.size}",
        f"datasets:train:batch_size_per_gpu={arguments.batch}",
        f"datasets:train:num_worker_per_gpu={workers}",
        "train:stages=~",
        "train:data_on_device=false",
    ]
    options = load_options(f"options/all_levels/{task}_small.yml", force)
    feed = TrainingFeed(options, torch.device("cpu"), Processes())
    batches = feed.batches(options.stages[-1], 0)
    for _ in range(8 * max(workers, 1)):
        next(batches)
    count = max(1, arguments.crops // arguments.batch)
    best = 0.0
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        for _ in range(count):
            next(batches)
        best = max(best, count * arguments.batch / (time.perf_counter() - started))
    return best


def main() -> int:
    """Measure every task with each number of workers and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="bundled", help="folder of clean images")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=128, help="side of a crop")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crops", type=int, default=2000, help="crops per round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    table = Table(title=f"{arguments.size}x{arguments.size} crops per second, {cores} CPU cores")
    table.add_column("task")
    for workers in arguments.workers:
        table.add_column(f"{workers} workers", justify="right")
    try:
        for task in arguments.tasks:
            speeds = [crops_per_second(task, workers, arguments) for workers in arguments.workers]
            table.add_row(task, *(f"{speed:.0f}" for speed in speeds))
    except VHeatIRError as error:
        return report_error(error)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
