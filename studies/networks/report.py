"""Compare the networks of the study by their trainings so far.

    python studies/networks/report.py

Reads the histories of the runs of study_*.yml, also of unfinished ones, and writes the curves over
processor hours and over pixels, a table and the numbers.

    python studies/networks/report.py --measure    # on an idle core

For runs that were trained on a GPU: the processor hours are the pixels seen, times the processor
time of a pixel in training, which is measured here for all networks in turns.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import json
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks.contenders import training_case
from benchmarks.measure import processor_seconds
from studies.networks.widths import PLUGINS, configuration
from vheatir.cli import run_entry_point
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_bytes_atomically
from vheatir.training.paths import resolve_output

PRESENT = "study_present"
#: The network of the study, by the name of its run.
LABELS = {
    PRESENT: "present U `small`",
    "study_nafnet": "NAFNet's blocks",
    "study_heat": "heat at two scales",
    "study_scales": "four scales",
}
#: Gain in dB from which another network replaces the present one.
ENOUGH = 0.1

Point = dict[str, Any]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python studies/networks/report.py", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--runs", type=Path, default=resolve_output("experiments"), help="folder of the runs")
    add("--out", type=Path, default=Path("results/networks"), help="output folder")
    add("--measure", action="store_true", help="measure the processor time here, not in the runs")
    add("--rounds", type=int, default=7, help="timed rounds of --measure")
    add("--dtype", default="auto", help="of --measure: float32, bfloat16 (autocast) or auto")
    return parser.parse_args(arguments)


def seconds_per_gigapixel(
    rounds: int, dtype: str, side: int = 96, batch: int = 8
) -> dict[str, float]:
    """Return the processor time of training on a gigapixel, by the name of the run.

    Args:
        rounds: rounds of :func:`benchmarks.measure.processor_seconds`.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"auto"``.
        side: side of the crops in pixels.
        batch: crops per iteration.
    """
    cases = {
        name: training_case(configuration(name), PLUGINS, side, batch, dtype) for name in LABELS
    }
    seconds = processor_seconds(cases, PRESENT, rounds)
    return {name: value / (batch * side**2) * 1e9 for name, value in seconds.items()}


def read_runs(
    folder: Path, per_gigapixel: Mapping[str, float] | None = None
) -> dict[str, list[Point]]:
    """Return the validations of each run that has any, in the order of :data:`LABELS`.

    Each has ``iteration``, ``hours`` (of the processor), ``gigapixels``, ``psnr`` (mean over the
    levels) and ``levels`` (PSNR by level).

    Args:
        folder: folder of the runs.
        per_gigapixel: processor seconds per gigapixel by run; None for those of the histories.

    Raises:
        VHeatIRError: there is none.
    """
    runs = {}
    for name in LABELS:
        file = folder / name / "results" / "history.json"
        history = json.loads(file.read_text()) if file.is_file() else {"scores": []}
        points = []
        for (iteration, _, scores), (_, seconds, pixels) in zip(
            history["scores"], history.get("work", []), strict=True
        ):
            levels = {key.split()[-1]: score["psnr"] for key, score in scores.items()}
            if per_gigapixel is not None:
                seconds = per_gigapixel[name] * pixels / 1e9
            work = {"hours": seconds / 3600, "gigapixels": pixels / 1e9}
            psnr = mean(levels.values())
            points.append({"iteration": iteration, **work, "psnr": psnr, "levels": levels})
        if points:
            runs[name] = points
    if not runs:
        raise VHeatIRError(
            f"no run of the study in {folder}: train one, such as "
            "python vheatir/train.py -opt studies/networks/study_present.yml"
        )
    return runs


def markdown(runs: dict[str, list[Point]]) -> str:
    """Return the last validations as a Markdown table, and what they decide."""
    levels = list(next(iter(runs.values()))[-1]["levels"])
    header = ["network", "iterations", "gigapixels", "processor hours"]
    header += [f"sigma {level}" for level in levels] + ["mean", "beside the present"]
    lines = [header, ["---"] * len(header)]
    present = runs[PRESENT][-1]["psnr"] if PRESENT in runs else None
    for name, points in runs.items():
        last = points[-1]
        row = [LABELS[name], f"{last['iteration']:,}"]
        row += [f"{last['gigapixels']:.2f}", f"{last['hours']:.2f}"]
        row += [f"{last['levels'][level]:.3f}" for level in levels] + [f"{last['psnr']:.3f}"]
        beside = name != PRESENT and present is not None
        row.append(f"{last['psnr'] - present:+.3f}" if beside else "")
        lines.append(row)
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{text}\n{decision(runs)}\n"


def decision(runs: dict[str, list[Point]]) -> str:
    """Return the sentence that says whether the present network is replaced."""
    missing = [LABELS[name] for name in LABELS if name not in runs]
    if missing:
        return f"Undecided: {', '.join(missing)} not trained yet."
    if len({points[-1]["iteration"] for points in runs.values()}) > 1:
        return "Undecided: the trainings have different lengths so far."
    best = max(runs, key=lambda name: runs[name][-1]["psnr"])
    gain = runs[best][-1]["psnr"] - runs[PRESENT][-1]["psnr"]
    if best == PRESENT:
        return "The present network is the best."
    verdict = "replaces" if gain >= ENOUGH else f"(less than {ENOUGH} dB) does not replace"
    return f"The best, {LABELS[best]}, is {gain:.3f} dB ahead and {verdict} the present network."


def draw(runs: dict[str, list[Point]], path: Path) -> None:
    """Draw PSNR over processor hours and over pixels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    texts = {"hours": "processor hours", "gigapixels": "gigapixels seen"}
    for axis, (quantity, text) in zip(axes, texts.items(), strict=True):
        for name, points in runs.items():
            values = [point["psnr"] for point in points]
            label = LABELS[name].replace("`", "")
            axis.plot([point[quantity] for point in points], values, marker=".", label=label)
        axis.set(xlabel=text)
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="PSNR [dB], mean over the levels")
    axes[0].legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def run(options: argparse.Namespace) -> int:
    """Write the report; returns the exit status."""
    measured = seconds_per_gigapixel(options.rounds, options.dtype) if options.measure else None
    runs = read_runs(options.runs, measured)
    text = markdown(runs)
    options.out.mkdir(parents=True, exist_ok=True)
    draw(runs, options.out / "curves.png")
    write_bytes_atomically(options.out / "table.md", text.encode())
    content = json.dumps(runs, indent=1) + "\n"
    write_bytes_atomically(options.out / "networks.json", content.encode())
    written = "".join(f"written: {options.out / name}\n" for name in
                      ("table.md", "curves.png", "networks.json"))  # fmt: skip
    sys.stdout.write(f"{text}\n{written}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parse(arguments)
    return run_entry_point(lambda: run(options), "nothing is kept", "app")


if __name__ == "__main__":
    raise SystemExit(main())
