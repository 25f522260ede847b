"""Speed against quality: seconds per megapixel and peak memory, measured here, and PSNR.

``python benchmarks/frontier.py --out results/frontier`` times our released models, BM3D and the
networks of the ``bench`` extra (``pip install -e '.[bench]'``, random weights), and writes
``frontier.json``, ``.csv``, ``.md`` and ``.png``. PSNR on test sets is quoted for other methods
(see ``vheatir/evaluation/published.py``) and read from the model cards for ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from rich.console import Console

from benchmarks import report
from benchmarks.contenders import AUTO, DTYPES, OTHER, RELEASED, Case, build, choose_dtype
from benchmarks.measure import OK, Result, interleaved
from benchmarks.others import BM3D, FOR_TASK
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.evaluation.published import published_records, sources
from vheatir.hardware import pick_device
from vheatir.zoo import ModelEntry, list_models

# task: test set and level of its column
COLUMNS = {
    "denoise_gray": ("Set12", 50),
    "denoise_color": ("McMaster", 15),
    "jpeg_gray": ("LIVE1", 10),
}
NOT_INSTALLED = "not installed"


@dataclass
class Point:
    """One method on one task.

    Attributes:
        psnr: dB on the test set; None without a verified published value.
        source: source of the PSNR.
        params: number of weights; None for methods without weights.
        seconds_per_megapixel: measured here; None if memory or budget did not suffice.
        runs: number of timed runs; 1 if more would have exceeded the budget.
        peak_bytes: measured here, above the process's baseline.
        status: as in :class:`benchmarks.measure.Result`, or ``"not installed"``.
    """

    task: str
    dataset: str
    level: float
    method: str
    ours: bool
    psnr: float | None
    source: str
    device: str
    dtype: str
    height: int
    width: int
    params: int | None = None
    seconds_per_megapixel: float | None = None
    runs: int = 0
    peak_bytes: int | None = None
    status: str = OK


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--tasks", default=",".join(COLUMNS), help=f"any of {', '.join(COLUMNS)}")
    add("--methods", help="methods to measure, comma-separated (default: all)")
    add("--side", type=int, default=512, help="side of the timed image in pixels")
    add("--device", default="auto")
    add("--dtype", default="float32", choices=(AUTO, *DTYPES))
    add("--threads", type=int, help="CPU threads (default: PyTorch's)")
    add("--repetitions", type=int, default=5, help="timed rounds after one warm-up round")
    add("--budget", type=float, default=300, help="time limit per method and task, in seconds")
    add("--out", type=Path, default=Path("results/frontier"))
    return parser.parse_args(arguments)


def psnr_of_card(entry: ModelEntry, dataset: str, level: float) -> float:
    """Read a released model's PSNR from its model card.

    Raises:
        VHeatIRError: the card has no such row.
    """
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in entry.card.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    if rows and "PSNR" in rows[0]:
        column = rows[0].index("PSNR")
        for row in rows[2:]:
            if row[:2] == [dataset, f"{level:g}"]:
                return float(row[column])
    raise VHeatIRError(
        f"the card {entry.card.name} has no PSNR on {dataset} at {level:g}: "
        "regenerate the cards with tools/release.py"
    )


def points_of(task: str, options: argparse.Namespace) -> list[tuple[Point, Case]]:
    """Return the methods for a task, each with its PSNR and the case to measure."""
    dataset, level = COLUMNS[task]
    case = {"size": "-", "height": options.side, "width": options.side}
    common = {"device": options.device, "dtype": options.dtype}
    place = (task, dataset, level)
    shape = {**common, "height": options.side, "width": options.side}
    found = []
    quoted = {record.method: record for record in published_records(task, dataset, [level])}
    for name in FOR_TASK[task]:
        shown = "CBM3D" if name == BM3D and task == "denoise_color" else name
        record = quoted.get(shown)
        psnr = None if record is None else record.psnr
        point = Point(*place, shown, False, psnr, sources([shown]) if record else "", **shape)
        found.append((point, Case(f"{OTHER}{name}:{task}", **case, **common)))
    for entry in list_models(task):
        if entry.level not in (None, level):
            continue
        psnr, source = psnr_of_card(entry, dataset, level), "model card"
        point = Point(*place, entry.label, True, psnr, source, **shape)
        found.append((point, Case(RELEASED + entry.name, **case, **common)))
    wanted = options.methods.split(",") if options.methods else None
    return [(p, c) for p, c in found if wanted is None or p.method in wanted]


def measure(task: str, options: argparse.Namespace) -> list[Point]:
    """Measure all methods for one task, interleaved."""
    pairs = []
    points = points_of(task, options)
    for point, case in points:
        try:
            build(case.method)
            pairs.append((point, case))
        except VHeatIRError:
            point.status = NOT_INSTALLED
    results = interleaved([case for _, case in pairs], options.repetitions, options.budget)
    for (point, _), result in zip(pairs, results, strict=True):
        fill(point, result)
    return [point for point, _ in points]


def fill(point: Point, result: Result) -> None:
    """Fill in the measurements."""
    point.status, point.params = result.status, result.params or None
    point.peak_bytes = result.peak_bytes
    # A method over the budget for several runs may still have one run, timed by the memory probe.
    seconds = result.probe_seconds if result.seconds is None else result.seconds
    if seconds is not None:
        point.runs = len(result.times) or 1
        point.seconds_per_megapixel = seconds / (result.height * result.width / 1e6)


HEADER = ["method", "parameters", "s/megapixel", "peak memory", "PSNR", "source"]


def rows(points: Sequence[Point]) -> list[list[str]]:
    """Return the table rows of one task, fastest first."""
    order = sorted(points, key=lambda p: p.seconds_per_megapixel or float("inf"))
    return [
        [
            f"**{p.method}**" if p.ours else p.method,
            "-" if p.params is None else f"{p.params / 1e6:.2f} M",
            _seconds(p),
            "-" if p.peak_bytes is None else f"{p.peak_bytes / 1e6:.0f} MB",
            "-" if p.psnr is None else f"{p.psnr:.2f}",
            p.source or "no verified figure",
        ]
        for p in order
    ]


def _seconds(point: Point) -> str:
    if point.seconds_per_megapixel is None:
        return point.status
    text = f"{point.seconds_per_megapixel:.3g}"
    return text if point.status == OK else f"{text} ({point.status}, one run)"


def title(points: Sequence[Point]) -> str:
    """Return the title: test set and conditions of the measurement."""
    p = points[0]
    level = f"{'quality' if p.task.startswith('jpeg') else 'sigma'} {p.level:g}"
    return f"{p.dataset}, {level}; timed at {p.height}x{p.width}, {p.dtype}, {p.device}"


def plot(groups: Sequence[Sequence[Point]], path: Path) -> None:
    """Plot PSNR against seconds per megapixel (log scale), one panel per test set."""
    with report.figure(path, panels=len(groups)) as axes:
        for axis, points in zip(axes, groups, strict=True):
            for p in points:
                if p.psnr is None or p.seconds_per_megapixel is None:
                    continue
                style = {"marker": "*", "s": 110, "color": "C3"} if p.ours else {"color": "C0"}
                axis.scatter(p.seconds_per_megapixel, p.psnr, **style)
                place = (p.seconds_per_megapixel, p.psnr)
                offset = {"xytext": (5, 4), "textcoords": "offset points"}
                axis.annotate(p.method, place, fontsize=8, **offset)
            axis.set_xscale("log")
            axis.margins(x=0.2, y=0.1)
            axis.set(xlabel="seconds per megapixel", ylabel="PSNR, dB", title=title(points))
            axis.title.set_fontsize(8)
            axis.grid(True, which="both", alpha=0.3)


def run(options: argparse.Namespace) -> None:
    """Measure, print, and write the files."""
    tasks = options.tasks.split(",")
    for task in tasks:
        if task not in COLUMNS:
            raise unknown_name("task", task, COLUMNS)
    if options.side < 16:
        raise VHeatIRError(f"side {options.side} is too small: give 16 pixels or more")
    if options.threads:
        torch.set_num_threads(options.threads)
    options.device = str(pick_device(options.device))
    options.dtype = choose_dtype(options.dtype, options.device)
    console, progress = Console(), Console(stderr=True)
    groups = []
    for task in tasks:
        with progress.status(task):
            points = measure(task, options)
        if not points:
            raise VHeatIRError(f"none of --methods {options.methods} restores {task}")
        groups.append(points)
        console.print(report.text_table(title(points), HEADER, rows(points)))
    records = [asdict(point) for points in groups for point in points]
    environment = report.environment(options.device)
    text = "\n".join(f"{title(p)}:\n\n{report.markdown(HEADER, rows(p))}" for p in groups)
    texts = {".csv": report.csv_text(records), ".md": text}
    content = {"environment": environment, "records": records}
    report.write(options.out, "frontier", content, texts)
    plot(groups, options.out / "frontier.png")
    console.print(f"written: {options.out}/frontier.json, .csv, .md, .png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return report.exit_status(lambda: run(parse(arguments)), extra="bench")


if __name__ == "__main__":
    raise SystemExit(main())
