"""Compare mixers and network shapes at equal training time and equal iterations.

    python studies/heat/study.py --task denoise_gray --level 50 --minutes 15 --seeds 2 --jobs 2

Trains every candidate of ``studies/heat/mixers.yml`` with the project's training loop, one core
each, and measures it on a fixed validation split, twice: after as many iterations as its speed
allows in the given minutes (equal time; speeds are measured interleaved beforehand, in CPU time, so
that a busy machine does not bias the comparison), and after an equal number of iterations. Finished
trainings are kept: it can be interrupted, and the same command resumes.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import json
import os
import signal
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console

from benchmarks.report import environment, numbers
from benchmarks.trainings import resolve_roots
from studies.heat import report
from studies.heat.candidates import CONTROLS, Candidate, read_candidates, select
from studies.heat.measure import measure_networks, measure_rates
from studies.heat.runs import Level, Study, Training, train_all
from vheatir.cli import run_entry_point
from vheatir.data.sources import BUNDLED
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_bytes_atomically
from vheatir.tasks import get_task

HERE = Path(__file__).resolve().parent


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python studies/heat/study.py", description=(__doc__ or "").split("\n\n")[0]
    )
    data = os.environ.get("VHEATIR_DATA")
    add = parser.add_argument
    add("--task", default="denoise_gray", help="task of every candidate")
    add(
        "--level",
        default="50",
        help="levels or ranges such as 0-55, comma-separated, each trained separately",
    )
    add("--minutes", default="15", help="equal training time, one value or one per level; 0: skip")
    add("--iterations", type=int, default=900, help="equal number of iterations; 0: skip")
    add("--seeds", type=int, default=1, help="trainings per candidate and level")
    add("--jobs", type=int, default=1, help="concurrent trainings, one core each")
    add("--only", default="*", help="candidates, such as u/none,u/hco*")
    add("--candidates", type=Path, default=HERE / "mixers.yml", help="file of candidates")
    add("--data", default="bundled", help="folders of photographs, comma-separated, or 'bundled'")
    add(
        "--test-set",
        type=Path,
        default=Path(data) / "test" / "Set12" if data else None,
        help="folder that is also measured, but never used for selection",
    )
    add("--crop", type=int, default=96, help="side of the training crops")
    add("--batch", type=int, default=8, help="crops per iteration")
    add("--rate", type=float, default=1e-3, help="peak learning rate")
    add("--out", type=Path, default=Path("results/mixers"), help="output folder")
    add("--budget", type=float, default=120.0, help="time limit for timing one network, in seconds")
    add("--sizes", default="256,768", help="sides of the timed images")
    add("--no-swinir", action="store_true", help="do not time SwinIR light")
    add("--train-only", action="store_true", help="skip timing and report")
    add("--report-only", action="store_true", help="train nothing, report finished trainings")
    return parser.parse_args(arguments)


def study_of(options: argparse.Namespace) -> Study:
    """Return the settings common to all trainings.

    Raises:
        VHeatIRError: an invalid value.
    """
    task = get_task(options.task)
    try:
        levels = [_level(text) for text in options.level.split(",")]
    except ValueError:
        raise VHeatIRError(
            f"--level {options.level!r} is not a list of numbers or ranges, such as 15,50 or 0-55"
        ) from None
    if min(options.seeds, options.jobs, options.crop, options.batch) < 1:
        raise VHeatIRError("--seeds, --jobs, --crop and --batch must be at least 1")
    options.minutes = _minutes(options.minutes, levels)
    if max(options.minutes.values()) <= 0 and options.iterations <= 0:
        raise VHeatIRError("--minutes 0 and --iterations 0 leave nothing to do: set one of them")
    return Study(
        task=task,
        levels=levels,
        seeds=list(range(options.seeds)),
        roots=resolve_roots(options.data),
        test_set=options.test_set.resolve() if options.test_set else None,
        crop=options.crop,
        batch=options.batch,
        rate=options.rate,
        out=options.out.resolve(),
    )


def _level(text: str) -> Level:
    ends = tuple(float(end) for end in text.split("-"))
    if len(ends) == 1:
        return ends[0]
    low, high = ends
    if low >= high:
        raise ValueError(text)
    return low, high


def _minutes(text: str, levels: list[Level]) -> dict[Level, float]:
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= len(levels)
    if len(values) != len(levels):
        raise VHeatIRError(
            f"--minutes {text!r} is neither one number nor one per level ({len(levels)}), such as "
            "15 or 3,1.5"
        )
    return dict(zip(levels, values, strict=True))


def run(options: argparse.Namespace) -> int:
    """Train, measure and report; returns the exit status."""
    study = study_of(options)
    chosen = select(read_candidates(options.candidates), options.only.split(","))
    console = Console()
    failed: list[str] = []
    speeds = measure_rates(study, chosen, console)
    plan = _plan(study, chosen, options, speeds)
    if not options.report_only:
        failed = train_all(study, plan, options.jobs, console)
    if options.train_only:
        return _report_failures(failed)
    sizes = numbers("--sizes", options.sizes)
    costs = measure_networks(study, chosen, sizes, options.budget, not options.no_swinir, console)
    records = report.records(study, chosen, plan, speeds, costs)
    content = {
        "environment": environment("cpu"),
        "settings": _settings(options, study),
        "swinir_light": costs.get("swinir"),
        "records": records,
        "curves": report.curves(study, plan),
    }
    study.out.mkdir(parents=True, exist_ok=True)
    target = study.out / "mixers.json"
    write_bytes_atomically(target, (json.dumps(content, indent=1) + "\n").encode())
    for table in report.tables(records):
        console.print(table)
    write_bytes_atomically(study.out / "table.md", report.markdown(records).encode())
    written = [target, study.out / "table.md", *report.figures(study, chosen, plan)]
    for path in written:
        console.print(f"written: {path}")
    missing = [name for name in CONTROLS if name not in {c.mixer for c in chosen}]
    if missing and not any(candidate.options for candidate in chosen):
        console.print(f"missing controls, without which nothing is proven: {', '.join(missing)}")
    return _report_failures(failed)


def _report_failures(failed: list[str]) -> int:
    for line in failed:
        sys.stderr.write(f"error: {line}\n")
    return 1 if failed else 0


def _plan(
    study: Study, chosen: list[Candidate], options: argparse.Namespace, speeds: dict[str, float]
) -> list[Training]:
    plan = []
    for level in study.levels:
        for seed in study.seeds:
            for kind, wanted in (
                ("iterations", options.iterations),
                ("time", options.minutes[level]),
            ):
                for candidate in chosen if wanted > 0 else ():
                    count = wanted
                    if kind == "time":
                        count = max(1, round(60 * wanted * speeds[candidate.key]))
                    plan.append(Training(candidate, level, seed, int(count), kind))
    return plan


def _settings(options: argparse.Namespace, study: Study) -> dict[str, Any]:
    names = [root if root == BUNDLED else Path(root).name for root in study.roots]
    return {
        "task": study.task.name,
        "levels": study.levels,
        "seeds": len(study.seeds),
        "minutes": [options.minutes[level] for level in study.levels],
        "iterations": options.iterations,
        "crop": study.crop,
        "batch": study.batch,
        "learning_rate": study.rate,
        "photographs": names,
        "test_set": study.test_set.name if study.test_set else None,
        "threads": 1,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    torch.set_num_threads(1)
    # SIGTERM, as from a scheduler, ends the trainings as Ctrl-C does: they save first.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = parse(arguments)
    try:
        kept = "finished trainings are kept; the same command resumes"
        return run_entry_point(lambda: run(options), kept)
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    raise SystemExit(main())
